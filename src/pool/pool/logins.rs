//! What every login to a server of a pool is made with, and what is made of one that fails, whoever wants the connection.

use std::sync::Arc;
use std::time::Instant;

use super::{Inner, Pool};
use crate::pool::attempts::Attempt;
use crate::pool::connector::{DialError, DialRequest};
use crate::pool::failure::Failure;
use crate::telemetry::events::pool as events;
use crate::types::{Endpoint, ServerId};

impl Pool {
    /// What a login is made with now.
    pub(in crate::pool) fn dial_request(&self, inner: &Inner, id: ServerId, endpoint: Arc<Endpoint>) -> DialRequest {
        DialRequest {
            key: self.key().clone(),
            id,
            endpoint,
            dbname: inner.target.dbname.clone(),
            database: inner.target.database.clone(),
            credential: inner.target.credential.clone(),
            generation: inner.state.generation(),
            settings: self.settings(),
        }
    }

    /// A login has failed: it is told, and the next one may go to another host. `None`: the server is full of ours among
    /// others, and who wants a place there asks for one of those.
    pub(in crate::pool) fn login_failed(&self, attempt: Attempt, error: DialError, now: Instant) -> Option<Failure> {
        let endpoint = &attempt.node().clone();
        let refused = matches!(error, DialError::Refused { .. });
        let mut failure = error.failure();
        let text = failure.to_string();
        let complaint = {
            let mut inner = self.lock();
            let database = inner.target.database.clone();
            inner.turns.failed(&database, endpoint);
            inner.complaints.failed(endpoint, &text, now)
        };
        events::login_failed(self.key(), endpoint, refused, &text, complaint);
        if failure.is_nodes_fullness() && self.permits.refused(endpoint) {
            attempt.succeeded(now);
            return None;
        }
        attempt.failed(&mut failure, self.settings().server_login_retry, now);
        Some(failure)
    }
}
