//! Events of pools: servers opened and closed, logins that failed, clients that waited too long.

use std::fmt::Display;
use std::time::Duration;

use metrics::{counter, describe_counter};
use tracing::{debug, info, warn};

use crate::telemetry::labels::sqlstate_class;
use crate::types::{Endpoint, PoolKey, ServerId};

/// Why a server connection was closed. The words are PgBouncer's where it has the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// PAUSE.
    PauseMode,
    /// Another pool of the same database, user or node needed the place.
    Evicted,
    /// `server_lifetime`.
    LifetimeOver,
    /// `server_idle_timeout`.
    IdleTimeout,
    /// The pool became smaller.
    OverSize,
    /// RECONNECT, or a reload changed where or how to connect.
    Obsolete,
    /// A reload removed the database, or KILL.
    DatabaseRemoved,
    /// The pooler ends.
    ShuttingDown,
    /// `server_check_query` failed.
    CheckFailed,
    /// `server_reset_query` failed.
    ResetFailed,
    /// The server hung up or complained while nobody used it.
    HungUp,
    /// A cancel request did not land in time, so that it may still hit whoever comes next.
    CancelUncertain,
    /// The client went away in the middle of something.
    ClientGone,
    /// The server hung up, or its socket failed, while a client used it.
    ServerLost,
    /// The server sent what the protocol does not allow.
    ProtocolViolation,
    /// `query_timeout`.
    QueryTimeout,
    /// `transaction_timeout`.
    TransactionTimeout,
    /// `idle_transaction_timeout`.
    IdleTransactionTimeout,
    /// A transaction block in statement pooling.
    TransactionInStatementMode,
    /// A parameter of the client was refused by the server.
    ParameterRefused,
    /// What a client left could not be undone.
    Unclean,
    /// An operator told the client to go.
    ClientKilled,
    /// The one who had it was dropped without saying why.
    Dropped,
}

impl CloseReason {
    /// For the log and as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PauseMode => "pause mode",
            Self::Evicted => "evicted",
            Self::LifetimeOver => "server lifetime over",
            Self::IdleTimeout => "server idle timeout",
            Self::OverSize => "too many servers in the pool",
            Self::Obsolete => "database configuration changed",
            Self::DatabaseRemoved => "database removed",
            Self::ShuttingDown => "server shutting down",
            Self::CheckFailed => "test query failed",
            Self::ResetFailed => "reset query failed",
            Self::HungUp => "server closed the connection while idle",
            Self::CancelUncertain => "cancel request did not land in time",
            Self::ClientGone => "client disconnect while server was not ready",
            Self::ServerLost => "server conn crashed?",
            Self::ProtocolViolation => "unknown pkt from server",
            Self::QueryTimeout => "query timeout",
            Self::TransactionTimeout => "transaction timeout",
            Self::IdleTransactionTimeout => "idle transaction timeout",
            Self::TransactionInStatementMode => "transaction blocks not allowed in statement pooling mode",
            Self::ParameterRefused => "invalid server parameter",
            Self::Unclean => "unclean server",
            Self::ClientKilled => "admin forced disconnect",
            Self::Dropped => "abandoned",
        }
    }
}

const SERVERS_OPENED: &str = "pglifeguard_server_connections_opened_total";
const SERVERS_CLOSED: &str = "pglifeguard_server_connections_closed_total";
const LOGINS_FAILED: &str = "pglifeguard_server_logins_failed_total";
const WAITS_REFUSED: &str = "pglifeguard_client_waits_refused_total";
const RESERVE_TAKEN: &str = "pglifeguard_reserve_connections_total";

/// Tells the recorder what the counters here mean. To be called once, after it is installed.
pub fn describe() {
    describe_counter!(SERVERS_OPENED, "Connections to PostgreSQL that logged in");
    describe_counter!(SERVERS_CLOSED, "Connections to PostgreSQL that were closed, by reason");
    describe_counter!(LOGINS_FAILED, "Connections to PostgreSQL that could not be opened or logged in");
    describe_counter!(WAITS_REFUSED, "Clients that waited for a server and got an error, by SQLSTATE");
    describe_counter!(RESERVE_TAKEN, "Server connections opened beyond pool_size, from the reserve");
}

/// A server logged in.
pub fn server_opened(key: &PoolKey, id: ServerId, endpoint: &Endpoint) {
    info!(pool = %key, server = %id, endpoint = %endpoint, "new connection to server");
    counter!(SERVERS_OPENED).increment(1);
}

/// A server was closed.
pub fn server_closed(key: &PoolKey, id: ServerId, reason: CloseReason, age: Duration) {
    info!(pool = %key, server = %id, "closing because: {} (age={}s)", reason.as_str(), age.as_secs());
    counter!(SERVERS_CLOSED, "reason" => reason.as_str()).increment(1);
}

/// A login did not succeed. `refused`: the server answered, with an error.
pub fn login_failed(key: &PoolKey, endpoint: &Endpoint, refused: bool, text: &dyn Display) {
    warn!(pool = %key, endpoint = %endpoint, "server login failed: {text}");
    counter!(LOGINS_FAILED, "kind" => if refused { "refused" } else { "unreachable" }).increment(1);
}

/// `connect_query` failed; the server is used all the same, as in PgBouncer.
pub fn connect_query_failed(key: &PoolKey, id: ServerId, text: &dyn Display) {
    warn!(pool = %key, server = %id, "connect_query failed: {text}");
}

/// A client that wanted a server got an error.
pub fn wait_refused(key: &PoolKey, class: [u8; 2], text: &dyn Display) {
    debug!(pool = %key, "client got no server: {text}");
    counter!(WAITS_REFUSED, "class" => sqlstate_class(class)).increment(1);
}

/// A server is being opened beyond `pool_size`.
pub fn reserve_taken(key: &PoolKey) {
    warn!(pool = %key, "taking connection from reserve_pool");
    counter!(RESERVE_TAKEN).increment(1);
}

/// An operator's command took effect on a database; `None`: on all.
pub fn operated(command: &'static str, database: Option<&str>) {
    info!(database = database.unwrap_or("(all)"), "{command} command issued");
}
