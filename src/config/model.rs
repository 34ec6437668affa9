//! The configuration as the program wants it: resolved, typed, immutable, shared by `Arc`.
//! Scopes (global, database, user) are merged in [`Config::pool_settings`] and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::users::Userlist;
use crate::types::{ByteSize, Endpoint, Secret};

/// Everything that was configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[pooler]`.
    pub pooler: Pooler,
    /// `[pooler] client_tls_*`.
    pub client_tls: ClientTls,
    /// `[pooler] server_tls_*`.
    pub server_tls: ServerTls,
    /// `[metrics] listen`; `None` turns the listener off.
    pub metrics_listen: Option<SocketAddr>,
    /// `[databases.NAME]`; `*` is the fallback.
    pub databases: BTreeMap<Arc<str>, Arc<Database>>,
    /// `[users.NAME]`.
    pub users: BTreeMap<Arc<str>, User>,
    /// Contents of `auth_file`.
    pub userlist: Arc<Userlist>,
    /// Every setting of `[pooler]` for `SHOW CONFIG`: key, value, default, changeable by reload. Sorted by key.
    pub shown: Vec<ShownSetting>,
}

/// One row of `SHOW CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// The setting's name.
    pub key: &'static str,
    /// Its value, as it would be written.
    pub value: String,
    /// Its default.
    pub default: String,
    /// Whether RELOAD applies a change.
    pub changeable: bool,
}

/// When a server connection is given back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    Transaction,
    /// When the statement ends; transaction blocks are refused.
    Statement,
}

impl PoolMode {
    /// As in the configuration and in SHOW.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthType {
    /// Nothing is asked, but the user must exist.
    Trust,
    /// Cleartext password.
    Plain,
    /// MD5 challenge; SCRAM for users whose stored secret is SCRAM.
    Md5,
    /// SCRAM-SHA-256, and -PLUS on TLS.
    ScramSha256,
}

/// `[pooler]`. Times of zero mean "off" and are `None` here, where PgBouncer has it so.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct Pooler {
    // Sockets. Not changeable by reload.
    pub listen_addr: Vec<String>,
    pub listen_port: u16,
    pub unix_socket_dir: Option<PathBuf>,
    pub unix_socket_mode: u32,
    pub unix_socket_group: Option<String>,
    pub listen_backlog: u32,
    pub workers: usize,
    pub pidfile: Option<PathBuf>,
    pub user: Option<String>,
    // Admission.
    pub max_client_conn: u32,
    pub auth_type: AuthType,
    pub auth_file: Option<PathBuf>,
    pub admin_users: Vec<String>,
    pub stats_users: Vec<String>,
    pub ignore_startup_parameters: Vec<String>,
    pub client_login_timeout: Option<Duration>,
    // Session behaviour.
    pub track_extra_parameters: Vec<String>,
    pub application_name_add_host: bool,
    pub max_prepared_statements: u32,
    pub max_packet_size: ByteSize,
    pub scram_iterations: u32,
    pub cancel_on_disconnect: bool,
    pub cancel_wait_timeout: Option<Duration>,
    pub query_wait_notify: Option<Duration>,
    pub server_reset_query: String,
    pub server_reset_query_always: bool,
    // Pools: what has no narrower scope. The rest is in `defaults`.
    pub reserve_pool_timeout: Option<Duration>,
    pub server_round_robin: bool,
    pub server_check_delay: Duration,
    pub server_check_query: CheckQuery,
    pub server_fast_close: bool,
    pub server_idle_timeout: Option<Duration>,
    pub server_connect_timeout: Option<Duration>,
    /// The longest pause between attempts at a server that refuses; the first is far shorter.
    pub server_login_retry: Duration,
    pub autodb_idle_timeout: Option<Duration>,
    pub dns_max_ttl: Duration,
    pub dns_nxdomain_ttl: Duration,
    pub max_node_connections: Option<u32>,
    /// Settings that databases and users may override.
    pub defaults: Defaults,
    // Shutdown and log.
    pub shutdown_timeout: Option<Duration>,
    pub stats_period: Duration,
    pub log_connections: bool,
    pub log_disconnections: bool,
    pub log_pooler_errors: bool,
    pub log_stats: bool,
    pub logfile: Option<PathBuf>,
    pub log_format: LogFormat,
    pub verbose: u8,
    /// Applies to both sides.
    pub tcp: TcpOptions,
}

/// What is sent to a server that has been idle for long, before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuery {
    /// No check.
    Off,
    /// A Query with empty text (PgBouncer's `<empty>`).
    Empty,
    /// This text.
    Text(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Values that `[databases.X]` and `[users.X]` may override.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct Defaults {
    pub pool_mode: PoolMode,
    pub default_pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub max_db_connections: Option<u32>,
    pub max_db_client_connections: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_user_client_connections: Option<u32>,
    pub server_lifetime: Duration,
    pub query_timeout: Option<Duration>,
    pub query_wait_timeout: Option<Duration>,
    pub client_idle_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
}

/// Socket options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct TcpOptions {
    pub keepalive: bool,
    pub keepcnt: Option<u32>,
    pub keepidle: Option<Duration>,
    pub keepintvl: Option<Duration>,
    pub user_timeout: Option<Duration>,
    pub socket_buffer: Option<u32>,
}

/// `[databases.NAME]`: where a database lives and what is special about it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct Database {
    pub name: Arc<str>,
    /// At least one; several are tried by `load_balance_hosts`.
    pub endpoints: Vec<Endpoint>,
    pub load_balance_hosts: LoadBalance,
    /// The name on the server; `None` is the name that the client used (for `*`).
    pub dbname: Option<Arc<str>>,
    /// One user on the server for all clients.
    pub forced_user: Option<Arc<str>>,
    pub forced_password: Option<Secret>,
    pub connect_query: Option<String>,
    /// Sent in the server's startup packet: client_encoding, DateStyle, TimeZone, application_name.
    pub startup: Vec<(&'static str, String)>,
    pub pool_mode: Option<PoolMode>,
    pub pool_size: Option<u32>,
    pub min_pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub max_db_connections: Option<u32>,
    pub max_db_client_connections: Option<u32>,
    pub server_lifetime: Option<Duration>,
    /// Outer `None`: not set here. Inner `None`: waits for ever.
    pub query_wait_timeout: Option<Option<Duration>>,
}

/// Which of several hosts a new server connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadBalance {
    /// Each attempt takes the next.
    RoundRobin,
    /// Stays with one until a connection fails.
    Disable,
}

/// `[users.NAME]`. Outer `None`: not set here.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct User {
    pub pool_mode: Option<PoolMode>,
    pub pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_user_client_connections: Option<u32>,
    pub query_timeout: Option<Option<Duration>>,
    pub query_wait_timeout: Option<Option<Duration>>,
    pub client_idle_timeout: Option<Option<Duration>>,
    pub idle_transaction_timeout: Option<Option<Duration>>,
    pub transaction_timeout: Option<Option<Duration>>,
}

/// TLS between us and one side, as PgBouncer names the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the other side insists (client side: if it asks).
    Allow,
    /// TLS if the other side can.
    Prefer,
    /// TLS or nothing.
    Require,
    /// And the peer's certificate chains to our CA.
    VerifyCa,
    /// And it names the peer.
    VerifyFull,
}

/// Lowest and highest protocol version offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// TLS 1.2.
    pub tls12: bool,
    /// TLS 1.3.
    pub tls13: bool,
}

/// `client_tls_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct ClientTls {
    pub sslmode: SslMode,
    pub key_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub versions: TlsVersions,
    /// OpenSSL names of TLS 1.3 suites, in order; empty: all.
    pub tls13_ciphers: Vec<String>,
}

/// `server_tls_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct ServerTls {
    pub sslmode: SslMode,
    pub key_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub versions: TlsVersions,
    pub tls13_ciphers: Vec<String>,
}

/// What holds for one pool and its clients, scopes merged (user over database over global).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct PoolSettings {
    pub pool_mode: PoolMode,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Option<Duration>,
    pub max_db_connections: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_node_connections: Option<u32>,
    pub server_lifetime: Duration,
    pub server_idle_timeout: Option<Duration>,
    pub server_check_delay: Duration,
    pub server_check_query: CheckQuery,
    pub server_connect_timeout: Option<Duration>,
    pub server_login_retry: Duration,
    pub server_round_robin: bool,
    pub server_reset_query: String,
    pub server_reset_query_always: bool,
    pub query_timeout: Option<Duration>,
    pub query_wait_timeout: Option<Duration>,
    pub query_wait_notify: Option<Duration>,
    pub client_idle_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
    pub max_prepared_statements: u32,
    pub cancel_on_disconnect: bool,
    pub cancel_wait_timeout: Option<Duration>,
}

impl Config {
    /// The entry that serves `name`: its own, or `*`. The entry `pgbouncer` is never here.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name).or_else(|| self.databases.get("*"))
    }

    /// Merges the scopes for a pool of `user` (as on the server) on `database`.
    pub fn pool_settings(&self, database: &Database, user: &str) -> PoolSettings {
        let none = User::default();
        let user = self.users.get(user).unwrap_or(&none);
        let global = &self.pooler;
        let defaults = &global.defaults;
        PoolSettings {
            pool_mode: user.pool_mode.or(database.pool_mode).unwrap_or(defaults.pool_mode),
            pool_size: user.pool_size.or(database.pool_size).unwrap_or(defaults.default_pool_size),
            min_pool_size: database.min_pool_size.unwrap_or(defaults.min_pool_size),
            reserve_pool_size: user
                .reserve_pool_size
                .or(database.reserve_pool_size)
                .unwrap_or(defaults.reserve_pool_size),
            reserve_pool_timeout: global.reserve_pool_timeout,
            max_db_connections: database.max_db_connections.or(defaults.max_db_connections),
            max_user_connections: user.max_user_connections.or(defaults.max_user_connections),
            max_node_connections: global.max_node_connections,
            server_lifetime: database.server_lifetime.unwrap_or(defaults.server_lifetime),
            server_idle_timeout: global.server_idle_timeout,
            server_check_delay: global.server_check_delay,
            server_check_query: global.server_check_query.clone(),
            server_connect_timeout: global.server_connect_timeout,
            server_login_retry: global.server_login_retry,
            server_round_robin: global.server_round_robin,
            server_reset_query: global.server_reset_query.clone(),
            server_reset_query_always: global.server_reset_query_always,
            query_timeout: user.query_timeout.unwrap_or(defaults.query_timeout),
            query_wait_timeout: user
                .query_wait_timeout
                .or(database.query_wait_timeout)
                .unwrap_or(defaults.query_wait_timeout),
            query_wait_notify: global.query_wait_notify,
            client_idle_timeout: user.client_idle_timeout.unwrap_or(defaults.client_idle_timeout),
            idle_transaction_timeout: user.idle_transaction_timeout.unwrap_or(defaults.idle_transaction_timeout),
            transaction_timeout: user.transaction_timeout.unwrap_or(defaults.transaction_timeout),
            max_prepared_statements: global.max_prepared_statements,
            cancel_on_disconnect: global.cancel_on_disconnect,
            cancel_wait_timeout: global.cancel_wait_timeout,
        }
    }
}
