//! Sole use of a server. Ends by `release` or `discard`; dropping it closes the server, so that no path can leave
//! one behind in an unknown state.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::places::{Busy, Slot};
use super::pool::Pool;
use super::stats::Tally;
use crate::server::Server;
use crate::server::simple::{self, SimpleError};
use crate::telemetry::events::pool::CloseReason;

/// A lent server.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    slot: Slot,
    /// `None` only while it is being ended.
    server: Option<Box<Server>>,
}

impl Lease {
    pub(super) fn new(pool: Arc<Pool>, slot: Slot, server: Box<Server>) -> Self {
        Self { pool, slot, server: Some(server) }
    }

    /// The pool that it is of.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether the server is to be closed rather than used on: RECONNECT, a reload, or the end of its pool.
    /// `server_fast_close` asks for this between the transactions of a session.
    pub fn close_needed(&self) -> bool {
        self.generation != self.pool.generation()
    }

    /// Gives the server back: it is idle, in sync and clean. What the session did is added up and zeroed.
    pub fn release(mut self, now: Instant, tally: &mut Tally) {
        if let Some(server) = self.server.take() {
            server.shared.link.store(0, Ordering::Relaxed);
            self.pool.give_back(self.slot, server, now, tally);
        }
    }

    /// Gives the server back after `server_reset_query`, which the client does not wait for. If that fails, the
    /// server is closed. With an empty reset query it is as `release`.
    pub fn release_after_reset(self, now: Instant, tally: &mut Tally) {
        let settings = self.pool.settings();
        if settings.server_reset_query.is_empty() {
            return self.release(now, tally);
        }
        let mut query = settings.server_reset_query.clone();
        if self.assigned.is_some() && !query.trim().eq_ignore_ascii_case("discard all") {
            // Whatever it does: what we have set is ours to undo.
            query = format!("RESET SESSION AUTHORIZATION; RESET ALL; {query}");
        }
        self.release_after(query, true, now, tally);
    }

    /// Gives the server back after this query, which the client does not wait for; it leaves it with its own defaults, if
    /// it `resets`. If that fails, the server is closed.
    pub fn release_after(self, query: String, resets: bool, now: Instant, tally: &mut Tally) {
        self.release_by(now, tally, async move |lease: Self| {
            if let Some(lease) = lease.run(&query, resets).await {
                lease.release(super::now(), &mut Tally::default());
            }
        });
    }

    /// Keeps the server from everybody for this `work` with it, which is to give it back; it must end by itself, and the
    /// client does not wait for it.
    pub fn release_by<F>(self, now: Instant, tally: &mut Tally, work: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // For a server that will be closed anyway it is in vain.
        if self.close_needed() {
            return self.release(now, tally);
        }
        self.pool.tally(tally);
        self.pool.turn(self.slot, Busy::Tested, now);
        let pool = self.pool.clone();
        pool.spawn(Box::pin(work(self)));
    }

    /// Runs this query, which leaves the server with its own defaults if it `resets`. If it fails, the server is closed.
    pub async fn run(mut self, query: &str, resets: bool) -> Option<Self> {
        let limit = self.pool.settings().server_connect_timeout;
        let mut outcome = simple::run(&mut self, query, limit).await;
        if resets && outcome.is_ok() {
            self.assigned = None;
            // It goes back to before that, of which an error is ignored, as it is after the login.
            if let Some(query) = self.pool.connect_query() {
                outcome = match simple::run(&mut self, &query, limit).await {
                    Err(SimpleError::Refused(_)) => Ok(()),
                    outcome => outcome,
                };
            }
        }
        match outcome {
            Ok(()) => Some(self),
            Err(error) => {
                self.discard_failed(CloseReason::ResetFailed, &error);
                None
            }
        }
    }

    /// Keeps the server from everybody until a cancel request that may hit it has landed; `landed` must end by
    /// itself, with whether it surely did. Then the server is given back (after a reset, if asked for), else closed.
    pub fn quarantine(
        self,
        landed: impl Future<Output = bool> + Send + 'static,
        reset_too: bool,
        now: Instant,
        tally: &mut Tally,
    ) {
        self.pool.tally(tally);
        self.pool.turn(self.slot, Busy::Canceled, now);
        let pool = self.pool.clone();
        pool.spawn(Box::pin(async move {
            let tally = &mut Tally::default();
            match (landed.await, reset_too) {
                (true, false) => self.release(super::now(), tally),
                (true, true) => self.release_after_reset(super::now(), tally),
                (false, _) => self.discard(CloseReason::CancelUncertain, tally),
            }
        }));
    }

    /// Closes the server.
    pub fn discard(mut self, reason: CloseReason, tally: &mut Tally) {
        self.pool.tally(tally);
        self.end(reason, None);
    }

    /// Closes the server, which an operator should know about: what it should have done failed so.
    pub fn discard_failed(mut self, reason: CloseReason, error: &SimpleError) {
        self.end(reason, Some(error));
    }

    fn end(&mut self, reason: CloseReason, failure: Option<&SimpleError>) {
        if let Some(server) = self.server.take() {
            self.pool.gone(self.slot, server, reason, failure);
        }
    }
}

impl Deref for Lease {
    type Target = Server;

    fn deref(&self) -> &Server {
        self.server.as_deref().expect("a lease has its server until it is ended, which consumes it")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        self.server.as_deref_mut().expect("a lease has its server until it is ended, which consumes it")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(CloseReason::Dropped, None);
    }
}
