//! What comes from outside a pool: operators, reloads, neighbours under shared limits.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::{Actions, End, PoolState, fresh_for};
use crate::config::model::PoolSettings;
use crate::pool::error::AcquireError;
use crate::pool::gate::HoldReason;
use crate::pool::places::{Resting, Slot};
use crate::telemetry::events::pool::CloseReason;

impl<S, W> PoolState<S, W> {
    /// Adds a reason to hold. A pause closes what rests.
    pub fn hold(&mut self, reason: HoldReason, out: &mut Actions<S, W>) {
        self.gate.hold(reason);
        if self.gate.is_paused() {
            self.close_resting(CloseReason::PauseMode, out);
        }
    }

    /// Takes a reason back. Whatever failed before the pause is tried again at once.
    pub fn release(&mut self, reason: HoldReason, now: Instant, out: &mut Actions<S, W>) {
        if self.gate.release(reason) && self.gate.is_open() {
            self.health.probe_now(now);
            self.serve(now, out);
        }
    }

    /// RECONNECT, or a new way to connect: servers of before are closed as they come to rest.
    pub fn raise_generation(&mut self, now: Instant, out: &mut Actions<S, W>) {
        self.generation += 1;
        self.health.probe_now(now);
        self.close_resting(CloseReason::Obsolete, out);
    }

    /// Other settings hold from now on.
    pub fn set_settings(&mut self, settings: Arc<PoolSettings>, hosts: u32, now: Instant, out: &mut Actions<S, W>) {
        self.fresh_for = fresh_for(&settings);
        self.settings = settings;
        self.hosts = hosts;
        self.on_time(now, out);
        self.serve(now, out);
    }

    /// Whether `min_pool_size` holds: there is a forced user, or a client.
    pub fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Credentials changed: what was refused may be accepted now.
    pub fn probe_now(&mut self, now: Instant) {
        self.health.probe_now(now);
    }

    /// Somebody wants to know whether logins succeed again: the next is tried as soon as it may be.
    pub fn ask_probe(&mut self) {
        self.probe_asked |= self.is_failing();
    }

    /// KILL: who waits is refused, all servers are obsolete.
    pub fn kill(&mut self, now: Instant, out: &mut Actions<S, W>) {
        self.refuse_all(&AcquireError::Killed, out);
        self.close_resting(CloseReason::DatabaseRemoved, out);
        self.raise_generation(now, out);
        self.killed = self.generation;
    }

    /// The pool takes nobody any more; servers are closed as they come back.
    pub fn end(&mut self, end: End, out: &mut Actions<S, W>) {
        self.end = Some(end);
        self.refuse_all(&end.error(), out);
        self.close_resting(end.reason(), out);
    }

    /// Which servers another pool could have now, who rested longest first. While clients wait here, what rests is about
    /// to be checked for them.
    pub fn evictable(&self, now: Instant) -> impl Iterator<Item = Resting> {
        let mine = !self.waiters.is_empty();
        self.places.resting().filter(move |server| !mine && server.facts.has_stayed(now))
    }

    /// Servers whose least stay is over, each told once: whoever waits for a place may look again.
    pub fn stayed(&mut self, now: Instant) -> SmallVec<[Slot; 2]> {
        let over = self.staying.partition_point(|(_, until)| *until <= now);
        self.staying.drain(..over).map(|(slot, _)| slot).collect()
    }

    /// Closes a resting server for another pool's sake. Returns whether it still rested.
    pub fn evict(&mut self, slot: Slot, out: &mut Actions<S, W>) -> bool {
        self.close_one(slot, CloseReason::Evicted, out)
    }

    /// One more of the servers that come back next is closed: another pool has none at all. Returns whether there is one
    /// more that may be.
    pub fn ask_to_yield(&mut self, now: Instant) -> bool {
        let (before, lent) = (self.yields, self.places.lent_and_stayed(now));
        self.yields = (before + 1).min(lent);
        self.yields > before
    }

    /// Whether a limit shared with other pools keeps this one from opening more.
    pub fn set_limited(&mut self, by: Option<&'static str>) {
        self.limited_by = by;
    }

    /// A server at rest was found dead.
    pub fn found_dead(&mut self, slot: Slot, out: &mut Actions<S, W>) {
        self.close_one(slot, CloseReason::HungUp, out);
    }
}
