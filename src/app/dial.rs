//! Server connections for the pools, and cancel requests: what joins the server floor to those that need it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::model::PoolMode;
use crate::net::tls::{ConnectTls, TlsSlot};
use crate::net::{Connector, TcpOptions};
use crate::pool::{Dial, DialError, DialRequest, Dialing, Fault};
use crate::server::cancel::CancelFailure;
use crate::server::connect::{ConnectTarget, connect};
use crate::server::login::LoginFailure;
use crate::server::{Server, cancel};
use crate::session::cancel::{CANCEL_LIMIT, CancelTarget, Canceller, Cancelling, Fate};
use crate::session::catalogs::Catalogs;
use crate::wire::error::ClientError;

/// Makes connections to servers.
#[derive(Debug)]
pub struct Dialer {
    /// Sockets and names. A reload replaces it.
    pub connector: ArcSwap<Connector>,
    /// TLS. A reload replaces what is in it.
    pub tls: TlsSlot<ConnectTls>,
    /// Which address of a name the next connection begins with.
    turn: AtomicUsize,
}

impl Dialer {
    /// Makes them with these.
    pub fn new(connector: Connector, tls: TlsSlot<ConnectTls>) -> Self {
        Self { connector: ArcSwap::from_pointee(connector), tls, turn: AtomicUsize::new(0) }
    }

    /// New connections are made with these options.
    pub fn set_options(&self, tcp: TcpOptions) {
        let current = self.connector.load();
        self.connector.store(Arc::new(Connector { dns: current.dns.clone(), tcp }));
    }
}

/// The dialer as pools want it.
#[derive(Debug)]
pub struct PoolDialer {
    /// It.
    pub dialer: Arc<Dialer>,
    /// What is known of databases before a server of theirs serves anybody.
    pub catalogs: Arc<Catalogs>,
}

impl Dial for PoolDialer {
    fn dial(&self, request: DialRequest) -> Dialing {
        let (dialer, catalogs) = (Arc::clone(&self.dialer), Arc::clone(&self.catalogs));
        // From now on, so that it is over before the pool gives up: what was waited for is known here only.
        let deadline = request.settings.server_connect_timeout.map(|limit| Instant::now() + limit);
        Box::pin(async move { open(&dialer, &catalogs, request, deadline).await.map_err(refusal) })
    }
}

/// A server whose database's catalog is known, unless that can't be had in half of the time that a login may take.
async fn open(
    dialer: &Dialer,
    catalogs: &Catalogs,
    request: DialRequest,
    deadline: Option<Instant>,
) -> Result<Box<Server>, LoginFailure> {
    let open = async || {
        let mut server = dialer.open(&request, deadline).await?;
        let catalog = catalogs.of(&request.endpoint, &request.dbname);
        server.catalog = Some(Arc::clone(&catalog) as Arc<_>);
        server.surprises = catalog.current.surprises();
        Ok::<_, LoginFailure>((server, catalog))
    };
    let (mut server, catalog) = open().await?;
    if request.settings.pool_mode == PoolMode::Session || !catalogs.are_wanted() {
        return Ok(server);
    }
    let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()) / 2);
    if !catalog.meet(&mut server, left).await {
        // Whatever it has said instead of an answer, another one says it no more: nobody tries again so soon.
        (server, _) = open().await?;
    }
    Ok(server)
}

impl Dialer {
    async fn open(&self, request: &DialRequest, deadline: Option<Instant>) -> Result<Box<Server>, LoginFailure> {
        let connector = self.connector.load_full();
        let tls = self.tls.load();
        let startup: Vec<(&str, &str)> =
            request.database.startup.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let target = ConnectTarget {
            connector: &connector,
            endpoint: &request.endpoint,
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
            tls: tls.as_deref(),
            deadline,
            user: &request.key.user,
            database: &request.dbname,
            params: &startup,
            credential: &request.credential,
            connect_query: request.database.connect_query.as_deref(),
            max_prepared_statements: request.settings.max_prepared_statements,
            id: request.id,
            generation: request.generation,
        };
        connect(&target).await.map(Box::new)
    }
}

/// What the pool makes of a failed login: a server that answered has refused, all else may pass.
fn refusal(failure: LoginFailure) -> DialError {
    match failure {
        // PgBouncer's words first: people and scripts know them. What exactly happened is nowhere else to be read.
        LoginFailure::Unreachable { reason, detail } => {
            DialError::Unreachable { text: format!("{reason}: {detail}"), fault: Fault::Node }
        }
        LoginFailure::TimedOut(ref detail) => {
            DialError::Unreachable { text: format!("{}: {detail}", failure.reason()), fault: Fault::Unclear }
        }
        LoginFailure::Closed => DialError::Unreachable { text: failure.reason(), fault: Fault::Node },
        _ => {
            let reply = Box::new(failure.reply());
            let fault = match failure {
                LoginFailure::Protocol(_) => Fault::Node,
                _ => Fault::of_reply(&reply),
            };
            DialError::Refused { reply, retry: failure.is_temporary(), fault }
        }
    }
}

/// Sends cancel requests by `dialer`, bounded by `limit` as it is when they are sent.
pub fn canceller(dialer: Arc<Dialer>, limit: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Canceller {
    Canceller::new(move |target| -> Cancelling {
        let dialer = Arc::clone(&dialer);
        let limit = limit().unwrap_or(CANCEL_LIMIT);
        Box::pin(async move { send(&dialer, &target, limit).await })
    })
}

async fn send(dialer: &Dialer, target: &CancelTarget, limit: Duration) -> Fate {
    let connector = dialer.connector.load_full();
    let tls = if target.tls { dialer.tls.load() } else { None };
    let request = cancel::CancelTarget {
        connector: &connector,
        endpoint: &target.endpoint,
        server: &target.server,
        key: &target.key,
        tls: tls.as_deref(),
    };
    match cancel::send(&request, limit).await {
        Ok(()) => Fate::Landed,
        Err(CancelFailure::NoKey | CancelFailure::Connect(_) | CancelFailure::Encrypt(_)) => Fate::NotSent,
        Err(CancelFailure::Io(_) | CancelFailure::TimedOut) => Fate::Unsure,
    }
}
