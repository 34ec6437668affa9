//! What the tests of pools share: settings, servers at one end of a socket pair, and who opens them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::connector::{Dial, DialError, DialRequest, Dialing};
use super::error::AcquireError;
use super::failure::Fault;
use super::lease::Lease;
use super::now;
use super::pool::Pool;
use super::registry::Pools;
use super::stats::Tally;
use crate::config::model::*;
use crate::net::Stream;
use crate::server::login::Credential;
use crate::server::server::BackendKey;
use crate::server::statements::Statements;
use crate::server::{Server, ServerShared};
use crate::types::{ByteSize, ClientId, Endpoint, Host};
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::params::ParamSet;

/// PgBouncer's defaults, but for the size.
pub(super) fn settings(pool_size: u32) -> PoolSettings {
    PoolSettings {
        pool_mode: PoolMode::Transaction,
        pool_size,
        min_pool_size: 0,
        reserve_pool_size: 0,
        reserve_pool_timeout: Some(Duration::from_secs(5)),
        max_db_connections: None,
        max_user_connections: None,
        max_node_connections: None,
        server_lifetime: Duration::from_secs(3600),
        server_idle_timeout: Some(Duration::from_secs(600)),
        server_check_delay: Duration::from_secs(30),
        server_check_query: CheckQuery::Empty,
        server_connect_timeout: Some(Duration::from_secs(15)),
        server_login_retry: Duration::from_secs(15),
        server_round_robin: false,
        server_reset_query: "DISCARD ALL".into(),
        server_reset_query_always: false,
        server_fast_close: false,
        query_timeout: None,
        query_wait_timeout: Some(Duration::from_secs(120)),
        query_wait_notify: None,
        client_idle_timeout: None,
        idle_transaction_timeout: None,
        pin: Pin::Auto,
        unknown: Unknown::Reset,
        max_pinned_servers: None,
        pin_idle_timeout: None,
        transaction_timeout: None,
        max_prepared_statements: 200,
        cancel_on_disconnect: true,
        cancel_wait_timeout: Some(Duration::from_secs(10)),
    }
}

/// A database on `hosts` hosts, with ports 1, 2, 3, …
pub(super) fn database(name: &str, hosts: u16) -> Database {
    let endpoint = |port| Endpoint { host: Host::Name("db".into()), port };
    Database {
        name: name.into(),
        endpoints: (1..=hosts).map(endpoint).collect(),
        load_balance_hosts: LoadBalance::RoundRobin,
        dbname: None,
        forced_user: None,
        forced_password: None,
        connect_query: None,
        startup: Vec::new(),
        pool_mode: None,
        pool_size: None,
        min_pool_size: None,
        reserve_pool_size: None,
        max_db_connections: None,
        max_db_client_connections: None,
        pin: None,
        unknown: None,
        max_pinned_servers: None,
        server_lifetime: None,
        query_wait_timeout: None,
    }
}
/// Numbers that look random and are the same for the same seed (xorshift64*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Less than `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    /// One of `things`.
    pub(super) fn pick<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        if things.is_empty() { None } else { Some(things[self.roll(things.len())]) }
    }
}

/// A configuration with these databases, and PgBouncer's defaults but for what `change` makes different.
pub(super) fn config(databases: Vec<Database>, change: impl FnOnce(&mut Pooler)) -> Arc<Config> {
    let none = TlsVersions { tls12: true, tls13: true };
    let mut pooler = pooler();
    change(&mut pooler);
    Arc::new(Config {
        pooler,
        client_tls: ClientTls {
            sslmode: SslMode::Disable,
            key_file: None,
            cert_file: None,
            ca_file: None,
            versions: none,
            tls13_ciphers: Vec::new(),
        },
        server_tls: ServerTls {
            sslmode: SslMode::Disable,
            key_file: None,
            cert_file: None,
            ca_file: None,
            versions: none,
            tls13_ciphers: Vec::new(),
        },
        metrics_listen: None,
        databases: databases.into_iter().map(|database| (database.name.clone(), Arc::new(database))).collect(),
        users: Default::default(),
        userlist: Arc::default(),
        shown: Vec::new(),
        tls_files: Default::default(),
    })
}

fn pooler() -> Pooler {
    let pool = settings(2);
    Pooler {
        listen_addr: Vec::new(),
        listen_port: 6432,
        unix_socket_dir: None,
        unix_socket_mode: 0o777,
        unix_socket_group: None,
        listen_backlog: 128,
        workers: 1,
        pidfile: None,
        user: None,
        max_client_conn: 1000,
        auth_type: AuthType::Trust,
        auth_file: None,
        admin_users: Vec::new(),
        stats_users: Vec::new(),
        ignore_startup_parameters: Vec::new(),
        client_login_timeout: None,
        track_extra_parameters: Vec::new(),
        session_state: SessionState::Track,
        catalog_refresh: Duration::from_secs(30),
        clean_functions: Vec::new(),
        pin: Pin::Auto,
        unknown: Unknown::Reset,
        listen: Listen::Shared,
        application_name_add_host: false,
        cache_unnamed_statements: true,
        max_prepared_statements: pool.max_prepared_statements,
        max_packet_size: ByteSize(u64::from(u32::MAX)),
        scram_iterations: 4096,
        cancel_on_disconnect: true,
        cancel_wait_timeout: pool.cancel_wait_timeout,
        query_wait_notify: None,
        server_reset_query: pool.server_reset_query,
        server_reset_query_always: false,
        reserve_pool_timeout: pool.reserve_pool_timeout,
        server_round_robin: false,
        server_check_delay: pool.server_check_delay,
        server_check_query: pool.server_check_query,
        server_fast_close: false,
        server_idle_timeout: pool.server_idle_timeout,
        server_connect_timeout: pool.server_connect_timeout,
        server_login_retry: pool.server_login_retry,
        autodb_idle_timeout: None,
        dns_max_ttl: Duration::ZERO,
        dns_nxdomain_ttl: Duration::ZERO,
        max_node_connections: None,
        defaults: defaults(),
        shutdown_timeout: None,
        stats_period: Duration::from_secs(60),
        log_connections: true,
        log_disconnections: true,
        log_pooler_errors: true,
        log_stats: true,
        logfile: None,
        log_format: LogFormat::Text,
        verbose: 0,
        tcp: tcp(),
    }
}

fn defaults() -> Defaults {
    let pool = settings(2);
    Defaults {
        pool_mode: PoolMode::Transaction,
        default_pool_size: pool.pool_size,
        min_pool_size: 0,
        reserve_pool_size: 0,
        max_db_connections: None,
        max_db_client_connections: None,
        max_user_connections: None,
        max_user_client_connections: None,
        max_pinned_servers: None,
        server_lifetime: pool.server_lifetime,
        query_timeout: None,
        query_wait_timeout: pool.query_wait_timeout,
        client_idle_timeout: None,
        idle_transaction_timeout: None,
        pin_idle_timeout: None,
        transaction_timeout: None,
    }
}

fn tcp() -> TcpOptions {
    TcpOptions {
        keepalive: true,
        keepcnt: None,
        keepidle: None,
        keepintvl: None,
        user_timeout: None,
        socket_buffer: None,
    }
}

/// What becomes of a login.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It succeeds; the server answers queries.
    Serves,
    /// It succeeds; the server answers each query with an error.
    Complains,
    /// It succeeds; the server answers nothing.
    Mute,
    /// It never ends.
    Hangs,
    /// Nobody answers.
    Unreachable,
    /// The server says no.
    Refused,
    /// The server starts up.
    StartsUp,
    /// The server has no place for anybody.
    Full,
}

/// Opens servers at one end of a socket pair.
#[derive(Debug, Default)]
pub(super) struct FakeDial {
    /// What becomes of the next logins; then they serve.
    pub(super) fates: Mutex<VecDeque<Fate>>,
    /// What becomes of all others.
    pub(super) fate: Mutex<Option<Fate>>,
    /// But those to this database hang.
    pub(super) hanging: Mutex<Option<Arc<str>>>,
    /// How many logins are under way, and the most there ever were.
    pub(super) under_way: Arc<AtomicU32>,
    pub(super) most_under_way: AtomicU32,
    /// What was asked for.
    pub(super) requests: Mutex<Vec<DialRequest>>,
    /// The servers' ends, in the order of opening. Taking one out hangs up.
    pub(super) ends: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// How many servers are connected.
    pub(super) connected: Arc<AtomicU32>,
}

impl Dial for FakeDial {
    fn dial(&self, request: DialRequest) -> Dialing {
        self.requests.lock().push(request.clone());
        let hangs = (*self.hanging.lock() == Some(request.key.database.clone())).then_some(Fate::Hangs);
        let next = || self.fates.lock().pop_front().or_else(|| *self.fate.lock());
        let fate = hangs.or_else(next).unwrap_or(Fate::Serves);
        let begun = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(begun, Ordering::SeqCst);
        let over = Gone(Arc::clone(&self.under_way));
        let refused = |code, message| {
            let reply = Box::new(ErrorReply::fatal(code, message));
            let fault = Fault::of_reply(&reply);
            Err(DialError::Refused { reply, retry: code == STARTING, fault })
        };
        let outcome = match fate {
            Fate::Hangs => {
                return Box::pin(async move {
                    let _over = over;
                    std::future::pending().await
                });
            }
            Fate::Unreachable => Err(DialError::Unreachable { text: "connect failed".into(), fault: Fault::Node }),
            Fate::Refused => refused(SqlState::INVALID_PASSWORD, "wrong password"),
            Fate::Full => refused(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"),
            Fate::StartsUp => refused(STARTING, "the database system is starting up"),
            Fate::Serves | Fate::Complains | Fate::Mute => Ok(self.serve(&request, fate)),
        };
        Box::pin(async move {
            let _over = over;
            tokio::task::yield_now().await;
            outcome
        })
    }
}

const STARTING: SqlState = SqlState::CANNOT_CONNECT_NOW;

impl FakeDial {
    fn serve(&self, request: &DialRequest, fate: Fate) -> Box<Server> {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let connected = self.connected.clone();
        connected.fetch_add(1, Ordering::SeqCst);
        self.ends.lock().push(tokio::spawn(async move {
            let _gone = Gone(connected);
            answer(theirs, fate).await;
        }));
        server(ours, request)
    }

    pub(super) fn dialed(&self) -> usize {
        self.requests.lock().len()
    }

    pub(super) fn connected(&self) -> u32 {
        self.connected.load(Ordering::SeqCst)
    }

    pub(super) fn expect(&self, fates: impl IntoIterator<Item = Fate>) {
        self.fates.lock().extend(fates);
    }
}

struct Gone(Arc<AtomicU32>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(mut stream: UnixStream, fate: Fate) {
    let mut buffer = [0; 256];
    while let Ok(1..) = stream.read(&mut buffer).await {
        let reply: &[u8] = match (buffer[0], fate) {
            (b'X', _) => return,
            (_, Fate::Mute) => continue,
            (_, Fate::Complains) => b"E\0\0\0\x11MNo!\0C12345\0\0Z\0\0\0\x05I",
            _ => b"C\0\0\0\x10DISCARD ALL\0Z\0\0\0\x05I",
        };
        if stream.write_all(reply).await.is_err() {
            return;
        }
    }
}

/// A server at our end of a socket pair.
pub(super) fn server(stream: UnixStream, request: &DialRequest) -> Box<Server> {
    let mut params = ParamSet::default();
    params.set("server_version", b"18.1");
    Box::new(Server {
        matched: None,
        assigned: None,
        numbers: crate::server::NumbersOf::Nobody,
        stream: Stream::Unix(stream),
        params,
        statements: Statements::new(request.settings.max_prepared_statements),
        key: BackendKey { pid: 1, secret: Arc::from([0; 4]) },
        endpoint: request.endpoint.clone(),
        catalog: None,
        surprises: 0,
        generation: request.generation,
        connected_at: now(),
        shared: Arc::new(ServerShared {
            id: request.id,
            connected_at: SystemTime::now(),
            remote_pid: 1,
            addr: ("unix".into(), 5432),
            local_addr: ("unix".into(), 5432),
            tls: "".into(),
            requested_at_us: AtomicU64::new(0),
            link: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
        }),
    })
}

/// Pools on fake servers.
pub(super) struct Bench {
    pub(super) pools: Pools,
    pub(super) dial: Arc<FakeDial>,
}

impl Bench {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let dial = Arc::new(FakeDial::default());
        let ids = Arc::new(AtomicU64::new(1));
        Self { pools: Pools::new(config, dial.clone(), ids), dial }
    }

    /// One database `app` with pools of two.
    pub(super) fn simple(change: impl FnOnce(&mut Pooler)) -> Self {
        Self::new(config(vec![database("app", 1)], change))
    }

    pub(super) fn pool(&self, database: &str, user: &str) -> Arc<Pool> {
        let pool = self.pools.get_or_create(&database.into(), &user.into(), None, Credential::None);
        pool.expect("a configured database")
    }
}

/// Lets all tasks run until none has anything to do, without time passing.
pub(super) async fn rest() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// A server of a pool, for a client.
pub(super) async fn acquire(pool: &Arc<Pool>) -> Lease {
    pool.acquire(ClientId(1), now()).await.expect("a server")
}

/// Gives it back.
pub(super) fn release(lease: Lease) {
    lease.release(now(), &mut Tally::default());
}

/// A client in the queue.
pub(super) fn wait(pool: &Arc<Pool>) -> tokio::task::JoinHandle<Result<Lease, AcquireError>> {
    tokio::spawn(pool.acquire(ClientId(2), now()))
}

/// What it got.
pub(super) async fn outcome(
    waiter: tokio::task::JoinHandle<Result<Lease, AcquireError>>,
) -> Result<Lease, AcquireError> {
    waiter.await.expect("no panic")
}

/// Pools of the databases `app` and `other`.
pub(super) fn two_databases(change: impl FnOnce(&mut Pooler)) -> Bench {
    Bench::new(config(vec![database("app", 1), database("other", 1)], change))
}
