//! How a pool gets its servers logged in: what it asks for, and whose turn it is among several hosts.
//! Who carries it out is passed in, so that a pool knows no socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::failure::{Failure, Fault};
use crate::config::model::{Database, LoadBalance, PoolSettings};
use crate::server::Server;
use crate::server::login::Credential;
use crate::types::{Endpoint, PoolKey, ServerId};
use crate::wire::error::{ErrorReply, SqlState};

/// One login that is wanted.
#[derive(Debug, Clone)]
pub struct DialRequest {
    /// The pool that it is for. Its user is the one to log in as.
    pub key: PoolKey,
    /// The number that the server will have.
    pub id: ServerId,
    /// Where to connect to.
    pub endpoint: Arc<Endpoint>,
    /// The database's name on the server.
    pub dbname: Arc<str>,
    /// The database's entry: parameters for the startup packet.
    pub database: Arc<Database>,
    /// How to prove who we are.
    pub credential: Credential,
    /// To be written into [`Server::generation`].
    pub generation: u64,
    /// The pool's settings: how many statements a server may have prepared, timeouts.
    pub settings: Arc<PoolSettings>,
}

/// Why a login gave no server.
#[derive(Debug, Clone)]
pub enum DialError {
    /// No connection, no TLS, no answer, or no credential that the server takes.
    Unreachable {
        /// In PgBouncer's words where it has them: `connect failed`, `server DNS lookup failed`, …
        text: String,
        /// Whose login would fail so, too.
        fault: Fault,
    },
    /// The server answered with an ErrorResponse.
    Refused {
        /// Its words.
        reply: Box<ErrorReply>,
        /// It said 57P03 (starting up, shutting down): who waits goes on waiting.
        retry: bool,
        /// Whose login would fail so, too.
        fault: Fault,
    },
}

impl DialError {
    /// The server has no place for anybody at the moment.
    pub(super) fn is_nodes_fullness(&self) -> bool {
        let Self::Refused { reply, fault: Fault::Node, .. } = self else { return false };
        reply.code == SqlState::TOO_MANY_CONNECTIONS
    }

    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Unreachable { text, fault } => Failure::Unreachable { text: text.into(), fault },
            Self::Refused { reply, retry, fault } => Failure::Refused { reply: Arc::new(*reply), retry, fault },
        }
    }
}

impl From<Failure> for DialError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable { text, fault } => Self::Unreachable { text: (*text).to_owned(), fault },
            Failure::Refused { reply, retry, fault } => {
                Self::Refused { reply: Box::new((*reply).clone()), retry, fault }
            }
        }
    }
}

/// A login under way.
pub type Dialing = Pin<Box<dyn Future<Output = Result<Box<Server>, DialError>> + Send>>;

/// Opens and logs in one connection. The pool bounds it by `server_connect_timeout` and drops it when it is no
/// longer wanted; the connection must then be closed.
pub trait Dial: Send + Sync {
    /// Begins a login.
    fn dial(&self, request: DialRequest) -> Dialing;
}

/// Whose turn it is in a host list.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: usize,
}

impl Turns {
    /// The host for the next attempt.
    pub(super) fn choose(&mut self, database: &Database) -> Option<Endpoint> {
        let hosts = &database.endpoints;
        let chosen = hosts.get(self.next % hosts.len().max(1))?.clone();
        if database.load_balance_hosts == LoadBalance::RoundRobin {
            self.next = self.next.wrapping_add(1);
        }
        Some(chosen)
    }

    /// An attempt at `host` failed: who stays with one host goes to the next now.
    pub(super) fn failed(&mut self, database: &Database, host: &Endpoint) {
        let hosts = &database.endpoints;
        let current = hosts.get(self.next % hosts.len().max(1));
        if database.load_balance_hosts == LoadBalance::Disable && current == Some(host) {
            self.next = self.next.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::testing::database;

    #[test]
    fn hosts_are_taken_in_turn_or_left_when_they_fail() {
        for (balance, fails, expected) in [
            (LoadBalance::RoundRobin, false, [1, 2, 3, 1]),
            (LoadBalance::RoundRobin, true, [1, 2, 3, 1]),
            (LoadBalance::Disable, false, [1, 1, 1, 1]),
            (LoadBalance::Disable, true, [1, 2, 3, 1]),
        ] {
            let mut database = database("app", 3);
            database.load_balance_hosts = balance;
            let mut turns = Turns::default();
            let tried = [(); 4].map(|()| {
                let host = turns.choose(&database).expect("there are three");
                if fails {
                    turns.failed(&database, &host);
                }
                host.port
            });
            assert_eq!(tried, expected, "{balance:?}, failing: {fails}");
        }
    }
}
