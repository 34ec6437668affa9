//! Why a login did not give a server, and what that tells.

use std::sync::Arc;

use super::health::LastError;
use crate::wire::error::{ErrorReply, SqlState};

/// Why a login did not give a server.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No connection, no answer, or no way to prove who we are.
    Unreachable(Arc<str>),
    /// The server said no, in these words.
    Refused {
        /// Its words.
        reply: Arc<ErrorReply>,
        /// It only is not ready yet (57P03), so that waiting helps.
        retry: bool,
    },
}

impl Failure {
    pub(super) fn error(&self) -> LastError {
        match self {
            Self::Unreachable(text) => {
                LastError { code: SqlState::CONNECTION_FAILURE, text: text.clone(), refusal: None, may_pass: true }
            }
            Self::Refused { reply, retry } => LastError {
                code: reply.code,
                text: (&*reply.message).into(),
                refusal: Some(reply.clone()),
                may_pass: *retry || self.is_full() || reply.code.class() == *b"08",
            },
        }
    }

    /// The server has no place at the moment. Requests are told so, as in PgBouncer; logins wait for one.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused { reply, .. } if reply.code == SqlState::TOO_MANY_CONNECTIONS)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(text) => f.write_str(text),
            Self::Refused { reply, .. } => {
                write!(f, "{} ({})", reply.message, reply.code.as_str())?;
                reply.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
            }
        }
    }
}
