//! A connection beside a pool's servers, opened as they are: same login, same hosts. It takes no place of theirs, so that
//! nobody who holds a place waits for it; the limits that pools share hold for all such connections by themselves. PAUSE and the end wait until it is closed,
//! WAIT_CLOSE until it is one of after the RECONNECT; whoever keeps it watches [`Pool::standing`].

use std::sync::Arc;

use super::attempts::Attempt;
use super::connector::DialError;
use super::failure::Fault;
use super::keeper::dial;
use super::limits::Scarce;
use super::permits::{Permit, Permits};
use super::pool::Pool;
use super::registry::Pools;
use super::{CloseReason, now};
use crate::server::Server;
use crate::telemetry::events::pool as events;
use crate::types::Endpoint;
use crate::wire::error::{ErrorReply, SqlState};

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

/// A pool has so many at most: one for each encoding that its clients listen in.
const OF_A_POOL: usize = 4;

/// Counts it from the beginning of its login.
#[derive(Debug)]
struct Place {
    pool: Arc<Pool>,
    generation: u64,
    permit: Permit,
}

impl Place {
    /// Fails with the name of the limit.
    fn take(
        pool: &Arc<Pool>,
        generation: u64,
        node: Arc<Endpoint>,
        permits: &Arc<Permits>,
    ) -> Result<Self, &'static str> {
        // Nobody queues: who is refused is told so.
        let permit = permits.ask(pool.ask(node, None, false)).map_err(Scarce::setting)?;
        let mut guests = pool.guests();
        if guests.len() >= OF_A_POOL {
            return Err("client_encoding");
        }
        guests.push(generation);
        Ok(Self { pool: Arc::clone(pool), generation, permit })
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
        let attempt = self.attempt_beside(pool)?;
        let endpoint = Arc::clone(attempt.node());
        let request = pool.dial_request(&pool.lock(), id, Arc::clone(&endpoint));
        let place = Place::take(pool, request.generation, Arc::clone(&endpoint), self.registry.permits_beside());
        let place = place.map_err(|limit| {
            let text = format!("too many connections listen for clients ({limit})");
            events::guest_refused(pool.key(), &text);
            let reply = Box::new(ErrorReply::error(SqlState::TOO_MANY_CONNECTIONS, text));
            DialError::Refused { reply, retry: false, fault: Fault::Login }
        })?;
        let mut dialed = dial(&self.registry, &request).await;
        if matches!(&dialed, Err(error) if error.is_nodes_fullness()) && self.makes_room(&place) {
            dialed = dial(&self.registry, &request).await;
        }
        match dialed {
            Ok(server) => {
                attempt.succeeded(now());
                pool.lock().complaints.succeeded(&endpoint);
                events::server_opened(pool.key(), id, &endpoint);
                Ok(Guest { server: Some(server), place, reason: CloseReason::Dropped })
            }
            Err(error) => {
                pool.login_failed(attempt, error.clone(), now());
                Err(error)
            }
        }
    }

    /// The server is full: one that rests in any pool makes room.
    fn makes_room(&self, place: &Place) -> bool {
        let claim = place.permit.claim();
        self.registry.permits().refused(&claim.node) && self.registry.evict(Scarce::Server, claim, None, now())
    }

    /// An attempt at the first host, in their turn, that is not known to take no logins.
    fn attempt_beside(&self, pool: &Pool) -> Result<Attempt, DialError> {
        let database = pool.lock().target.database.clone();
        let mut closed = None;
        for _ in 0..database.endpoints.len() {
            let Some(host) = pool.lock().turns.choose(&database) else { break };
            match self.registry.attempts().ask_at_once(host.clone(), now()) {
                Ok(attempt) => return Ok(attempt),
                Err(outage) => closed = Some(outage),
            }
            pool.lock().turns.failed(&database, &host);
        }
        let nowhere = || DialError::Unreachable { text: "the database has no host".into(), fault: Fault::Login };
        Err(closed.map_or_else(nowhere, |outage| outage.failure.into()))
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
