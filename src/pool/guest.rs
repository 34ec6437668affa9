//! A connection beside a pool's servers, opened as they are: same login, same hosts. It takes no place of theirs and
//! counts against no limit, so that nobody who holds a place waits for it. PAUSE and the end wait until it is closed,
//! WAIT_CLOSE until it is one of after the RECONNECT; whoever keeps it watches [`Pool::standing`].

use std::sync::Arc;
use std::time::Instant;

use super::connector::{DialError, DialRequest};
use super::keeper::bounded;
use super::pool::Pool;
use super::registry::Pools;
use super::{CloseReason, janitor, now};
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
        let settings = pool.settings();
        let (request, endpoint) = {
            let mut inner = pool.lock();
            let database = inner.target.database.clone();
            let nowhere = || DialError::Unreachable { text: "the database has no host".into() };
            let endpoint = Arc::new(inner.turns.choose(&database).ok_or_else(nowhere)?);
            let request = DialRequest {
                key: pool.key().clone(),
                id: self.registry.next_server_id(),
                endpoint: Arc::clone(&endpoint),
                dbname: inner.target.dbname.clone(),
                database,
                credential: inner.target.credential.clone(),
                generation: inner.state.generation(),
                settings: Arc::clone(&settings),
            };
            (request, endpoint)
        };
        let (id, place) = (request.id, Place::new(pool, request.generation));
        let dialing = self.registry.dial(request);
        match bounded(dialing, settings.server_connect_timeout, &endpoint).await {
            Ok(server) => {
                pool.lock().complaints.succeeded(&endpoint);
                events::server_opened(pool.key(), id, &endpoint);
                Ok(Guest { server: Some(server), place, reason: CloseReason::Dropped })
            }
            Err(error) => {
                let refused = matches!(error, DialError::Refused { .. });
                let text = error.clone().failure().to_string();
                let complaint = {
                    let mut inner = pool.lock();
                    let database = inner.target.database.clone();
                    inner.turns.failed(&database, &endpoint);
                    inner.complaints.failed(&endpoint, &text, now())
                };
                events::login_failed(pool.key(), &endpoint, refused, &text, complaint);
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
        let Some(mut server) = self.server.take() else { return };
        let age = Instant::now().saturating_duration_since(server.connected_at);
        events::server_closed(self.place.pool.key(), server.shared.id, self.reason, age);
        janitor::say_goodbye(&mut server);
        // Its place is free only after the connection is closed.
        drop(server);
    }
}
