//! What a server has shown of its `max_connections`: it was full while so many of our servers were logged in there. From
//! then on the pools share these places, as below a limit of their own; now and then one more is tried.

use std::time::{Duration, Instant};

/// After so long without a refusal one more server may be opened, then two, four, …
const GROWS_AFTER: Duration = Duration::from_secs(1);

/// At such a step nothing is known any more.
const LARGEST_STEP: u32 = 1024;

/// For so long after one of our servers there was closed, its process may still hold its place.
const LINGERS: Duration = Duration::from_secs(1);

/// How many servers a node has room for.
#[derive(Debug, Clone)]
pub struct Room {
    most: u32,
    step: u32,
    grows_at: Instant,
    freed_at: Option<Instant>,
}

impl Room {
    /// It has refused one beside so many.
    pub fn new(connected: u32, now: Instant) -> Self {
        Self { most: connected, step: 1, grows_at: now + GROWS_AFTER, freed_at: None }
    }

    /// The most servers, logins under way included.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// It has refused another beside so many. If one was just closed that tells nothing.
    pub fn refused(&mut self, connected: u32, now: Instant) {
        if !self.was_just_freed(now) {
            *self = Self::new(connected, now);
        }
    }

    /// So many are logged in.
    pub fn holds(&mut self, connected: u32) {
        self.most = self.most.max(connected);
    }

    /// One that was logged in is closed.
    pub fn freed(&mut self, now: Instant) {
        self.freed_at = Some(now);
    }

    /// Whether a refusal may only be of a place that is about to be free.
    pub fn was_just_freed(&self, now: Instant) -> bool {
        self.freed_at.is_some_and(|at| now < at + LINGERS)
    }

    /// Lets time pass. Returns whether anything is still known.
    pub fn grow(&mut self, now: Instant) -> bool {
        while now >= self.grows_at && self.step < LARGEST_STEP {
            self.most = self.most.saturating_add(self.step);
            self.step *= 2;
            self.grows_at += GROWS_AFTER;
        }
        self.step < LARGEST_STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_is_tried_again_with_one_more_and_then_with_ever_more() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut room = Room::new(57, start);
        for (ms, most) in [(0, 57), (999, 57), (1000, 58), (2500, 60), (4000, 72)] {
            assert!(room.grow(at(ms)));
            assert_eq!(room.most(), most, "after {ms} ms");
        }
        room.refused(58, at(4000));
        assert!(room.grow(at(4999)));
        assert_eq!(room.most(), 58);
        room.holds(60);
        room.holds(59);
        assert_eq!(room.most(), 60, "so many are there");
        assert!(!room.grow(at(15_000)), "by then nothing is known");
    }

    #[test]
    fn a_place_lingers_for_a_moment() {
        let now = Instant::now();
        let mut room = Room::new(3, now);
        assert!(!room.was_just_freed(now));
        room.freed(now);
        room.refused(2, now);
        assert!(room.was_just_freed(now) && !room.was_just_freed(now + LINGERS));
        assert_eq!(room.most(), 3, "it was not free yet");
        room.refused(2, now + LINGERS);
        assert_eq!(room.most(), 2);
    }
}
