//! What others read of a pool.

use std::time::Instant;

use super::{End, PoolState};
use crate::pool::gate::Gate;
use crate::pool::places::{Counts, Places, Stay};

impl<S, W> PoolState<S, W> {
    /// How many servers do what. Those at rest count as idle, checked or not.
    pub fn counts(&self) -> Counts {
        self.places.counts()
    }

    /// How many of the idle need a check before their next use.
    pub fn used(&self, now: Instant) -> u32 {
        self.places.stale(self.fresh_for, now)
    }

    /// All servers, as SHOW SERVERS sees them.
    pub fn stays(&self, now: Instant) -> impl Iterator<Item = Stay> {
        self.places.stays(self.fresh_for, now)
    }

    /// How many clients wait.
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.waiters.len()).unwrap_or(u32::MAX)
    }

    /// Since when the first in the queue waits.
    pub fn oldest_wait(&self) -> Option<Instant> {
        self.waiters.front().map(|waiter| waiter.since)
    }

    /// The reasons to hold.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Why the pool takes nobody, if it does not.
    pub fn ended(&self) -> Option<End> {
        self.end
    }

    /// Servers opened now are of this generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Servers at rest.
    pub fn places(&self) -> &Places<S> {
        &self.places
    }

    /// Servers at rest, to look after them.
    pub fn places_mut(&mut self) -> &mut Places<S> {
        &mut self.places
    }
}
