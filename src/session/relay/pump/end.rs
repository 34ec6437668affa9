//! Why a session's bytes move no more.

use crate::pool::AcquireError;
use crate::session::deadlines::Due;
use crate::session::registry::Orders;
use crate::wire::frame::FrameError;

/// Why the pump stopped.
#[derive(Debug)]
pub enum End {
    /// The client said good-bye.
    Terminated,
    /// The client's connection ended or broke.
    Vanished,
    /// The client sent what is no message.
    Violation(FrameError),
    /// No server was to be had.
    NoServer(AcquireError),
    /// The server's connection ended while the client had it, and the client can't go on without.
    ServerLost {
        /// What happened to it.
        cause: String,
        /// It told the client why itself.
        told: bool,
    },
    /// `server_fast_close`: the session's server is to be closed, and its transaction is over.
    ServerObsolete,
    /// The server refuses a setting that the client asked for at its login; the client has read why.
    SettingRefused,
    /// A timeout passed.
    TimedOut(Due),
    /// It has not read what it was notified of.
    LagsBehind,
    /// Someone else ended the session.
    Ordered(Orders),
    /// A transaction block in statement pooling.
    TransactionInStatementMode,
}
