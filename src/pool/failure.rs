//! Why a login did not give a server, and what that tells.

use std::sync::Arc;

use super::health::LastError;
use crate::wire::error::{ErrorReply, Routine, SqlState};

/// Whose login would fail so, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everybody's at this node.
    Node,
    /// Perhaps everybody's: the node was connected to, and then was silent for too long.
    Unclear,
    /// Only those of this user or database.
    Login,
}

impl Fault {
    /// What a server says at login. A server that is full says so in the same code as one where this user or database has
    /// its share; only its words differ, which may be in another language, and where it says so.
    pub fn of_reply(reply: &ErrorReply) -> Self {
        let words = ["sorry, too many clients already", "remaining connection slots are reserved"];
        let is_full = reply.routine == Routine::Entrance || words.iter().any(|words| reply.message.starts_with(words));
        match reply.code {
            SqlState::CANNOT_CONNECT_NOW => Self::Node,
            SqlState::TOO_MANY_CONNECTIONS if is_full => Self::Node,
            _ => Self::Login,
        }
    }
}

/// Why a login did not give a server.
#[derive(Debug, Clone)]
pub enum Failure {
    /// No connection, no answer, or no way to prove who we are.
    Unreachable {
        /// In PgBouncer's words where it has them.
        text: Arc<str>,
        /// Whose login would fail so, too.
        fault: Fault,
    },
    /// The server said no, in these words.
    Refused {
        /// Its words.
        reply: Arc<ErrorReply>,
        /// It only is not ready yet (57P03), so that waiting helps.
        retry: bool,
        /// Whose login would fail so, too.
        fault: Fault,
    },
}

impl Failure {
    /// Whose login would fail so, too.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { fault, .. } | Self::Refused { fault, .. } => *fault,
        }
    }

    pub(super) fn set_fault(&mut self, to: Fault) {
        match self {
            Self::Unreachable { fault, .. } | Self::Refused { fault, .. } => *fault = to,
        }
    }

    pub(super) fn error(&self) -> LastError {
        match self {
            Self::Unreachable { text, .. } => {
                LastError { code: SqlState::CONNECTION_FAILURE, text: text.clone(), refusal: None, may_pass: true }
            }
            Self::Refused { reply, retry, .. } => LastError {
                code: reply.code,
                text: (&*reply.message).into(),
                refusal: Some(reply.clone()),
                may_pass: *retry || self.is_full() || reply.code.class() == *b"08",
            },
        }
    }

    /// The server has no place for anybody at the moment.
    pub(super) fn is_nodes_fullness(&self) -> bool {
        self.is_full() && self.fault() == Fault::Node
    }

    /// The server has no place at the moment. Requests are told so, as in PgBouncer; logins wait for one.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused { reply, .. } if reply.code == SqlState::TOO_MANY_CONNECTIONS)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { text, .. } => f.write_str(text),
            Self::Refused { reply, .. } => {
                write!(f, "{} ({})", reply.message, reply.code.as_str())?;
                reply.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
            }
        }
    }
}
