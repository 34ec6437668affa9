//! Events of pools: servers opened and closed, logins that failed, clients that waited too long.

use std::fmt::Display;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::{count, count_by, zero};

use crate::telemetry::labels::sqlstate_class;
use crate::telemetry::names::{RESERVE_TAKEN, SERVER_LOGINS_FAILED, SERVERS_CLOSED, SERVERS_OPENED, WAITS_REFUSED};
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

pub(super) fn begin_at_zero() {
    for metric in [SERVERS_OPENED, RESERVE_TAKEN] {
        metrics::counter!(metric.name).increment(0);
    }
    ["refused", "unreachable"].into_iter().for_each(|kind| zero(SERVER_LOGINS_FAILED, "kind", kind));
}

/// A server logged in.
pub fn server_opened(key: &PoolKey, id: ServerId, endpoint: &Endpoint) {
    info!(pool = %key, server = %id, endpoint = %endpoint, "new connection to server");
    count(SERVERS_OPENED);
}

/// A server was closed.
pub fn server_closed(key: &PoolKey, id: ServerId, reason: CloseReason, age: Duration) {
    info!(pool = %key, server = %id, "closing because: {} (age={}s)", reason.as_str(), age.as_secs());
    count_by(SERVERS_CLOSED, "reason", reason.as_str());
}

/// A server was closed because what it should have done failed, in its own words or ours.
pub fn server_failed(key: &PoolKey, id: ServerId, reason: CloseReason, age: Duration, error: &dyn Display) {
    warn!(pool = %key, server = %id, "closing because: {}: {error} (age={}s)", reason.as_str(), age.as_secs());
    count_by(SERVERS_CLOSED, "reason", reason.as_str());
}

/// How much is said of a login that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// The first of its kind.
    New,
    /// One of so many that failed alike since the last line.
    Again(u64),
    /// It is known.
    Silent,
}

/// A login did not succeed. `refused`: the server answered, with an error.
pub fn login_failed(key: &PoolKey, endpoint: &Endpoint, refused: bool, text: &str, complaint: Complaint) {
    // What clients read of some failures begins in the same words.
    let text = text.strip_prefix("server login failed: ").unwrap_or(text);
    match complaint {
        Complaint::New => warn!(pool = %key, endpoint = %endpoint, "server login failed: {text}"),
        Complaint::Again(times) => {
            warn!(pool = %key, endpoint = %endpoint, times, "server login still fails: {text}");
        }
        Complaint::Silent => debug!(pool = %key, endpoint = %endpoint, "server login failed again: {text}"),
    }
    count_by(SERVER_LOGINS_FAILED, "kind", if refused { "refused" } else { "unreachable" });
}

/// A client that wanted a server got an error.
pub fn wait_refused(key: &PoolKey, class: [u8; 2], text: &dyn Display) {
    debug!(pool = %key, "client got no server: {text}");
    count_by(WAITS_REFUSED, "class", sqlstate_class(class));
}

/// A connection beside the servers may not be opened.
pub fn guest_refused(key: &PoolKey, text: &str) {
    warn!(pool = %key, "{text}");
}

/// A server is being opened beyond `pool_size`.
pub fn reserve_taken(key: &PoolKey) {
    warn!(pool = %key, "taking connection from reserve_pool");
    count(RESERVE_TAKEN);
}

/// An operator's command took effect on a database; `None`: on all. Where it came from says so, too, and who gave it.
pub fn operated(command: &'static str, database: Option<&str>) {
    debug!(database = database.unwrap_or("(all)"), "{command} command issued");
}

/// All who waited for a PAUSE have left or given up: it is over. `None`: that of all databases.
pub fn pause_given_up(database: Option<&str>) {
    info!(database = database.unwrap_or("(all)"), "PAUSE is over, since nobody waits for it any more");
}
