//! A session takes a server for a transaction, and gives it back.

use std::time::Instant;

use super::catalog::fit;
use super::{Cleaning, Pump, Scratch, Waiting, care, give_back, undo};
use crate::config::model::PoolMode;
use crate::pool::{CloseReason, Lease};
use crate::session::deadlines::Phase;
use crate::session::relay::active::Active;
use crate::session::relay::undo::Undo;

impl Pump {
    /// Takes a free server, or a place in the queue. Returns whether there is a server now.
    pub(super) fn find_server(&mut self, scratch: &mut Scratch) -> bool {
        if self.waiting.is_some() {
            return false;
        }
        let now = Instant::now();
        let micros = self.shared.micros(now);
        let lease = self.shared.pool.try_acquire(self.shared.id, now);
        if let Some(lease) = lease.and_then(|lease| fit(lease, self.relay.tracks, now)) {
            self.attach(lease, micros, micros, scratch);
            return true;
        }
        self.waits(now, micros);
        self.shared.request_begins(micros, true);
        self.shared.enters(Phase::Waiting, micros);
        false
    }

    /// Takes a place in the queue.
    pub(super) fn waits(&mut self, now: Instant, since: u64) {
        let acquire = self.shared.pool.acquire(self.shared.id, now);
        self.waiting = Some(Box::new(Waiting { acquire, since }));
    }

    /// Times are microseconds of the sessions' clock.
    pub(super) fn attach(&mut self, lease: Lease, asked: u64, now: u64, scratch: &mut Scratch) {
        let mut work = scratch.idle.pop().unwrap_or_default();
        work.catalog_seen = self.catalog_of(&lease);
        self.relay.now = now;
        work.begins(asked);
        work.tally.assigned(now.saturating_sub(asked));
        work.exchange.session.numbers.begin(
            self.shared.id,
            lease.numbers,
            lease.pool().asks_numbers(),
            self.relay.asks_numbers,
        );
        self.shared.links(Some(lease.shared.id));
        self.shared.request_begins(asked, true);
        self.shared.enters(Phase::Query, now);
        self.active = Some(Active { lease, work });
    }

    /// Gives the server back, unless the client keeps it for its session.
    #[inline]
    pub(super) fn give_back_if_settled(&mut self, now: Option<(Instant, u64)>, scratch: &mut Scratch) {
        if self.mode == PoolMode::Session || !self.active.as_ref().is_some_and(Active::settled) {
            return;
        }
        if !(self.relay.is_tied() && self.keeps_server()) {
            self.give_back(now, scratch);
        }
    }

    fn give_back(&mut self, now: Option<(Instant, u64)>, scratch: &mut Scratch) {
        let Some(active) = self.active.take() else { return };
        self.lost_in_a_row = 0;
        self.forget_speaker(&active);
        let Active { lease, mut work } = active;
        let (now, micros) = now.unwrap_or_else(|| {
            let now = Instant::now();
            (now, self.shared.micros(now))
        });
        let care = care(&self.relay, &mut work, now);
        let plain = self.relay.own.is_none() && work.exchange.session.leaves_nothing();
        let undo = if plain { Undo::Nothing } else { undo(&mut self.relay, &self.shared, &mut work.exchange) };
        self.relay.part(&work.exchange);
        self.shared.links(None);
        self.shared.notes(self.relay.names.len());
        lease.shared.notes(lease.statements.len());
        if work.xact_since.is_some() {
            self.shared.enters(Phase::Idle, micros);
            work.query_ends(micros);
            work.xact_ends(micros);
        }
        let resets = lease.pool().resets_always();
        give_back(lease, &mut work, Cleaning { undo, resets, care }, now, CloseReason::CancelUncertain);
        scratch.keep(work);
    }
}
