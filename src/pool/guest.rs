//! A connection beside a pool's servers, opened as they are: same login, same hosts. It takes no place of theirs and
//! counts against no limit, so that nobody who holds a place waits for it. PAUSE and the end wait until it is closed,
//! WAIT_CLOSE until it is one of after the RECONNECT; whoever keeps it watches [`Pool::standing`].

use std::sync::Arc;

use super::connector::DialError;
use super::keeper::bounded;
use super::pool::Pool;
use super::registry::Pools;
use super::{CloseReason, now};
use crate::server::Server;
use crate::telemetry::events::pool as events;

/// Whether a pool has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has; those of before the last RECONNECT or change, of another generation, are to be closed.
    Open {
        /// The present generation.
        generation: u64,
    },
    /// An operator has paused it: it is to have none.
    Paused,
    /// Its database is gone, or is reached in another way.
    Ended,
    /// The pooler ends.
    ShuttingDown,
}

/// The connection. Dropping it closes it.
#[derive(Debug)]
pub struct Guest {
    server: Option<Box<Server>>,
    place: Place,
    reason: CloseReason,
}

/// Counts it from the beginning of its login.
#[derive(Debug)]
struct Place {
    pool: Arc<Pool>,
    generation: u64,
}

impl Place {
    fn new(pool: &Arc<Pool>, generation: u64) -> Self {
        pool.guests().push(generation);
        Self { pool: Arc::clone(pool), generation }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.pool.guests();
        if let Some(at) = guests.iter().position(|generation| *generation == self.generation) {
            guests.swap_remove(at);
        }
        drop(guests);
        self.pool.tell_settled();
    }
}

impl Pools {
    /// Opens a connection beside the pool's.
    ///
    /// # Errors
    /// As a login of the pool's. Whoever asks again pauses before.
    pub async fn dial_beside(&self, pool: &Arc<Pool>) -> Result<Guest, DialError> {
        let id = self.registry.next_server_id();
        let request = {
            let mut inner = pool.lock();
            let database = inner.target.database.clone();
            let nowhere = || DialError::Unreachable { text: "the database has no host".into() };
            let endpoint = Arc::new(inner.turns.choose(&database).ok_or_else(nowhere)?);
            pool.dial_request(&inner, id, endpoint)
        };
        let (endpoint, limit) = (Arc::clone(&request.endpoint), request.settings.server_connect_timeout);
        let place = Place::new(pool, request.generation);
        let dialing = self.registry.dial(request);
        match bounded(dialing, limit, &endpoint).await {
            Ok(server) => {
                pool.lock().complaints.succeeded(&endpoint);
                events::server_opened(pool.key(), id, &endpoint);
                Ok(Guest { server: Some(server), place, reason: CloseReason::Dropped })
            }
            Err(error) => {
                pool.login_failed(&endpoint, error.clone(), now());
                Err(error)
            }
        }
    }
}

impl Guest {
    /// The connection.
    pub fn server(&mut self) -> Option<&mut Server> {
        self.server.as_deref_mut()
    }

    /// Of which generation it is.
    pub fn generation(&self) -> u64 {
        self.place.generation
    }

    /// Closes it.
    pub fn close(mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // Its place is free only after the connection is closed.
            self.place.pool.close(server, self.reason, None);
        }
    }
}
