//! Which timeout of a session has passed. Looked at for all sessions a few times a second, as PgBouncer does it,
//! so that no query pays for a timer.

use std::time::Duration;

use crate::config::model::PoolSettings;
use crate::telemetry::labels::Pin;

/// What a logged-in session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing is asked, no server is linked or no transaction is open.
    Idle = 0,
    /// Waits for a server.
    Waiting = 1,
    /// A server works for it.
    Query = 2,
    /// In a transaction, and it is the client's turn.
    InTransaction = 3,
    /// The client is gone, and its server is brought to rest.
    Gone = 4,
    /// Waits for a server, and has been told so.
    WaitingOn = 5,
}

impl Phase {
    /// From its number; what is unknown counts as idle.
    pub fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Waiting,
            2 => Self::Query,
            3 => Self::InTransaction,
            4 => Self::Gone,
            5 => Self::WaitingOn,
            _ => Self::Idle,
        }
    }
}

/// A client that has taken a number keeps its server for so long, to ask which.
const NUMBERS_MAX: Duration = Duration::from_secs(1);
const FOR_NUMBERS: u16 = 1 << Pin::Number as u16;

/// Where a session stands in time; microseconds of one monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub phase_since: u64,
    /// When the present query was asked, waiting included.
    pub query_since: u64,
    /// When the present transaction began, waiting included.
    pub transaction_since: u64,
    /// Why it keeps its server beyond its transaction, a bit each.
    pub pins: u16,
}

/// What the session must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// `query_timeout`, while a server works for it.
    Query,
    /// `query_timeout`, while it waits for a server.
    QueryInQueue,
    /// `client_idle_timeout`.
    Idle,
    /// It keeps its server for numbers of sequences that it does not ask for.
    Numbers,
    /// `pin_idle_timeout`.
    IdlePinned,
    /// `idle_transaction_timeout`.
    IdleTransaction,
    /// `transaction_timeout`.
    Transaction,
    /// `query_wait_notify`.
    WaitNotice,
}

/// The first timeout of `clocks` that has passed at `now`.
pub fn due(clocks: &Clocks, settings: &PoolSettings, now: u64) -> Option<Due> {
    let passed = |since: u64, limit: Option<Duration>| {
        limit.is_some_and(|limit| u128::from(now.saturating_sub(since)) >= limit.as_micros())
    };
    let transaction = || passed(clocks.transaction_since, settings.transaction_timeout).then_some(Due::Transaction);
    let query = |due| passed(clocks.query_since, settings.query_timeout).then_some(due);
    match clocks.phase {
        Phase::Idle => {
            let pinned = clocks.pins & !FOR_NUMBERS != 0 && passed(clocks.phase_since, settings.pin_idle_timeout);
            let numbers = clocks.pins & FOR_NUMBERS != 0 && passed(clocks.phase_since, Some(NUMBERS_MAX));
            let idle = || passed(clocks.phase_since, settings.client_idle_timeout).then_some(Due::Idle);
            pinned.then_some(Due::IdlePinned).or_else(idle).or_else(|| numbers.then_some(Due::Numbers))
        }
        Phase::Query => query(Due::Query).or_else(transaction),
        Phase::Waiting => query(Due::QueryInQueue)
            .or_else(transaction)
            .or_else(|| passed(clocks.phase_since, settings.query_wait_notify).then_some(Due::WaitNotice)),
        Phase::WaitingOn => query(Due::QueryInQueue).or_else(transaction),
        Phase::InTransaction => passed(clocks.phase_since, settings.idle_transaction_timeout)
            .then_some(Due::IdleTransaction)
            .or_else(transaction),
        Phase::Gone => None,
    }
}

/// Whether such a session is to be looked at.
pub fn any(clocks: &Clocks, settings: &PoolSettings) -> bool {
    let limits = [
        settings.query_timeout,
        settings.client_idle_timeout,
        settings.idle_transaction_timeout,
        settings.pin_idle_timeout,
        settings.transaction_timeout,
        settings.query_wait_notify,
    ];
    clocks.pins != 0 || limits.iter().any(Option::is_some)
}
