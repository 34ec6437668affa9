//! Why a client got no server, in words for the client.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::wire::error::{ClientError, ErrorReply, Severity, SqlState};

/// Why a client got no server. In all cases nothing was sent to one, so the request may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AcquireError {
    /// `query_wait_timeout`.
    #[error("query_wait_timeout")]
    TimedOut {
        /// How long it waited.
        waited: Duration,
        /// What it waited for.
        cause: WaitCause,
    },
    /// The server refused the login of the pool's connections: its own words and SQLSTATE.
    #[error("{}", .0.message)]
    Refused(Arc<ErrorReply>),
    /// The pool has no server, and its last login failed a moment ago.
    #[error("server login has been failing, cached error: {cached} (server_login_retry)")]
    LoginFailing {
        /// The SQLSTATE of that failure.
        code: SqlState,
        /// What the last login failed of.
        cached: Arc<str>,
    },
    /// A reload removed the database.
    #[error("database removed")]
    DatabaseRemoved,
    /// KILL.
    #[error("database removed")]
    Killed,
    /// A reload changed where or how the database is reached, and this pool is no longer.
    #[error("database configuration changed")]
    DatabaseChanged,
    /// The pooler ends.
    #[error("server shutting down")]
    ShuttingDown,
}

/// Why nothing came while a client waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitCause {
    /// All servers were used by others.
    AllBusy {
        /// How many servers the pool has.
        servers: u32,
    },
    /// An operator paused the database or the pooler.
    Paused,
    /// No connection could be opened.
    Unreachable(Arc<str>),
    /// The server takes none, in these words.
    Refused(Arc<ErrorReply>),
    /// `max_db_connections`, `max_user_connections` or `max_node_connections`.
    Limited(&'static str),
}

const UNREACHABLE: &str = "The database server can't be reached or refuses logins. Its log and the pooler's say why.";

impl ClientError for AcquireError {
    fn reply(&self) -> ErrorReply {
        let fatal = |code| ErrorReply::fatal(code, self.to_string());
        match self {
            Self::TimedOut { waited, cause } => explained(fatal(SqlState::QUERY_CANCELED), *waited, cause),
            // It ends the client's connection, whatever the server said of its own.
            Self::Refused(reply) => ErrorReply { severity: Severity::Fatal, ..(**reply).clone() },
            Self::LoginFailing { code, .. } => fatal(*code).hint(UNREACHABLE),
            Self::DatabaseRemoved | Self::Killed => fatal(SqlState::ADMIN_SHUTDOWN)
                .detail("The database was taken out of service by an operator while this client waited for a server."),
            Self::DatabaseChanged => {
                fatal(SqlState::ADMIN_SHUTDOWN).hint("Connect again: the database is now reached in another way.")
            }
            Self::ShuttingDown => fatal(SqlState::ADMIN_SHUTDOWN),
        }
    }
}

impl AcquireError {
    /// As `reply`, for a client that is about to log in. If its wait was too long, it reads what the server said, under the
    /// server's SQLSTATE, as without a pooler.
    pub fn login_reply(&self) -> ErrorReply {
        match self {
            Self::TimedOut { waited, cause } => in_vain(&self.to_string(), SqlState::QUERY_CANCELED, *waited, cause),
            _ => self.reply(),
        }
    }
}

/// The end of a login's wait for a server; `limit` names what ended it.
pub fn in_vain(limit: &str, code: SqlState, waited: Duration, cause: &WaitCause) -> ErrorReply {
    let WaitCause::Refused(reply) = cause else {
        return explained(ErrorReply::fatal(code, limit.to_owned()), waited, cause);
    };
    let said = reply.detail.as_ref().map(|detail| format!("{detail} ")).unwrap_or_default();
    let detail = format!("{said}The client waited {:.1} s for a server ({limit}).", waited.as_secs_f64());
    ErrorReply { severity: Severity::Fatal, ..(**reply).clone() }.detail(detail)
}

/// An error of a wait for a server that was too long, with what there is to say of it.
pub fn explained(reply: ErrorReply, waited: Duration, cause: &WaitCause) -> ErrorReply {
    let waited = format!("The client waited {:.1} s for a server.", waited.as_secs_f64());
    let unopened = |reply: ErrorReply, last: &str| {
        reply.detail(format!("{waited} None could be connected to; the last error was: {last}")).hint(UNREACHABLE)
    };
    match cause {
        WaitCause::AllBusy { servers: 0 } => {
            reply.detail(format!("{waited} None could be connected to in that time.")).hint(UNREACHABLE)
        }
        WaitCause::AllBusy { servers } => reply
            .detail(format!("{waited} All {servers} server connections of its pool were in use."))
            .hint("Look for long or idle transactions, or raise pool_size (SHOW POOLS, SHOW SERVERS)."),
        WaitCause::Paused => {
            reply.detail(format!("{waited} The database is paused.")).hint("An operator ends that with RESUME.")
        }
        WaitCause::Unreachable(text) => unopened(reply, text),
        WaitCause::Refused(words) => unopened(reply, &words.message),
        WaitCause::Limited(setting) => {
            reply.detail(format!("{waited} Its pool may open no more: {setting} is reached."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_read_the_words_that_users_of_pgbouncer_know() {
        let refusal = Arc::new(ErrorReply::error(SqlState::INVALID_PASSWORD, "password authentication failed"));
        for (error, code, message) in [
            (
                AcquireError::TimedOut { waited: Duration::from_secs(2), cause: WaitCause::Paused },
                "57014",
                "query_wait_timeout",
            ),
            (AcquireError::Refused(refusal), "28P01", "password authentication failed"),
            (
                AcquireError::LoginFailing { code: SqlState::CONNECTION_FAILURE, cached: "connect failed".into() },
                "08006",
                "server login has been failing, cached error: connect failed (server_login_retry)",
            ),
            (AcquireError::DatabaseRemoved, "57P01", "database removed"),
            (AcquireError::Killed, "57P01", "database removed"),
            (AcquireError::DatabaseChanged, "57P01", "database configuration changed"),
            (AcquireError::ShuttingDown, "57P01", "server shutting down"),
        ] {
            let reply = error.reply();
            assert_eq!((reply.code.as_str(), &*reply.message), (code, message));
            assert_eq!(reply.severity, Severity::Fatal, "{message}");
        }
    }

    fn starting() -> ErrorReply {
        ErrorReply::error(SqlState::CANNOT_CONNECT_NOW, "starting up").detail("Not consistent yet.")
    }

    #[test]
    fn a_login_that_waited_in_vain_reads_what_the_server_said() {
        let waited = Duration::from_millis(1500);
        for (cause, code, message, detail) in [
            (
                WaitCause::Refused(Arc::new(starting())),
                "57P03",
                "starting up",
                "Not consistent yet. The client waited 1.5 s for a server (query_wait_timeout).",
            ),
            (
                WaitCause::Paused,
                "57014",
                "query_wait_timeout",
                "The client waited 1.5 s for a server. The database is paused.",
            ),
        ] {
            let reply = AcquireError::TimedOut { waited, cause }.login_reply();
            assert_eq!((reply.code.as_str(), &*reply.message), (code, message));
            assert_eq!((reply.severity, reply.detail.as_deref()), (Severity::Fatal, Some(detail)));
        }
    }

    #[test]
    fn a_client_that_waited_in_vain_is_told_for_what() {
        for (cause, words) in [
            (WaitCause::AllBusy { servers: 3 }, "All 3 server connections"),
            (WaitCause::AllBusy { servers: 0 }, "None could be connected to in that time"),
            (WaitCause::Unreachable("connection refused".into()), "the last error was: connection refused"),
            (WaitCause::Refused(Arc::new(starting())), "the last error was: starting up"),
            (WaitCause::Limited("max_db_connections"), "max_db_connections is reached"),
        ] {
            let reply = AcquireError::TimedOut { waited: Duration::from_millis(1500), cause }.reply();
            let detail = reply.detail.expect("a detail");
            assert!(detail.contains("waited 1.5 s") && detail.contains(words), "{detail}");
        }
    }
}
