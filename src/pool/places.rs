//! The places of one pool's servers: who is where, how many of each kind, and who rests in which order.
//! Decides nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For so long after its login a server stays in its pool whatever other pools want. Without that one is closed whenever it
/// comes to rest between two requests, and a login (some 10 ms of CPU, there and here) serves hardly more than one. Measured
/// with two users of 8 clients each below `max_db_connections = 4`, 5 s of small queries: 637 logins and 6,000 queries
/// without, 253 and 16,600 with 50 ms, 161 and 21,700 with this, 89 and 24,300 with 200 ms. A single client beside 20 busy
/// ones waits little longer than this at worst; with n pools in turn on one place it is n times as long.
pub const LEAST_STAY: Duration = Duration::from_millis(100);

/// A server's place in its pool. Stays the same from login to end, and is then given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// Index into a list that runs along with the places.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub(super) fn of(index: u32) -> Self {
        Self(index)
    }
}

/// What a server that does not rest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Lent to a client.
    Active,
    /// Being checked or reset.
    Tested,
    /// A cancel request for it is on its way.
    Canceled,
}

/// What does not change with use.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The pool's generation when its login began.
    pub generation: u64,
    /// When it logged in.
    pub connected_at: Instant,
    /// When a client last gave it back.
    pub used_at: Instant,
}

impl Facts {
    /// When it may be closed for another pool's sake.
    pub fn stays_until(&self) -> Instant {
        self.connected_at + LEAST_STAY
    }

    /// Whether it has been here for long enough to be closed for another pool's sake.
    pub fn has_stayed(&self, now: Instant) -> bool {
        now >= self.stays_until()
    }
}

/// How many servers do what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of SHOW POOLS")]
pub struct Counts {
    pub active: u32,
    pub idle: u32,
    pub tested: u32,
    pub canceled: u32,
    pub login: u32,
}

impl Counts {
    /// All, logins under way included.
    pub fn total(&self) -> u32 {
        self.active + self.idle + self.tested + self.canceled + self.login
    }

    /// All that have logged in.
    pub fn connected(&self) -> u32 {
        self.total() - self.login
    }

    fn of(&mut self, busy: Busy) -> &mut u32 {
        match busy {
            Busy::Active => &mut self.active,
            Busy::Tested => &mut self.tested,
            Busy::Canceled => &mut self.canceled,
        }
    }
}

/// One place.
#[derive(Debug)]
enum Place<S> {
    Free,
    Login { generation: u64 },
    Busy { busy: Busy, since: Instant, facts: Facts },
    Idle { server: S, rested_at: Instant, facts: Facts },
}

/// A resting server, as upkeep and eviction see it.
#[derive(Debug, Clone, Copy)]
pub struct Resting {
    /// Where.
    pub slot: Slot,
    /// Since when it rests; a passed check starts that anew.
    pub rested_at: Instant,
    /// Its facts.
    pub facts: Facts,
}

/// One place as SHOW SERVERS sees it.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// Where.
    pub slot: Slot,
    /// Of which generation.
    pub generation: u64,
    /// It logs in.
    pub login: bool,
    /// What it does; `None` while it logs in or rests.
    pub busy: Option<Busy>,
    /// It rests, and needs a check before its next use.
    pub stale: bool,
}

/// All places of a pool. `S` is whatever stands for a server at rest.
#[derive(Debug)]
pub struct Places<S> {
    all: Vec<Place<S>>,
    free: Vec<Slot>,
    /// Resting servers; who rested longest is at the front.
    idle: VecDeque<Slot>,
    counts: Counts,
}

impl<S> Default for Places<S> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Vec::new(), idle: VecDeque::new(), counts: Counts::default() }
    }
}

impl<S> Places<S> {
    /// How many servers do what.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a place for a login that begins.
    pub fn begin_login(&mut self, generation: u64) -> Slot {
        self.counts.login += 1;
        let place = Place::Login { generation };
        match self.free.pop() {
            Some(slot) => {
                self.all[slot.index()] = place;
                slot
            }
            None => {
                self.all.push(place);
                Slot(u32::try_from(self.all.len() - 1).expect("a pool has less than 2^32 servers"))
            }
        }
    }

    /// The login succeeded: the server is busy until it is handed on or rested. Returns its generation, or `None`
    /// when no login was under way there.
    pub fn logged_in(&mut self, slot: Slot, now: Instant) -> Option<u64> {
        let place = self.all.get_mut(slot.index())?;
        let Place::Login { generation } = *place else { return None };
        let facts = Facts { generation, connected_at: now, used_at: now };
        *place = Place::Busy { busy: Busy::Tested, since: now, facts };
        self.counts.login -= 1;
        self.counts.tested += 1;
        Some(generation)
    }

    /// What is known of a busy server; `None` if it is not busy.
    pub fn busy(&self, slot: Slot) -> Option<(Busy, Facts)> {
        match self.all.get(slot.index())? {
            Place::Busy { busy, facts, .. } => Some((*busy, *facts)),
            _ => None,
        }
    }

    /// A busy server does something else from now on.
    pub fn turn(&mut self, slot: Slot, to: Busy, now: Instant) {
        let Some(Place::Busy { busy, since, facts }) = self.all.get_mut(slot.index()) else { return };
        if *busy == Busy::Active {
            facts.used_at = now;
        }
        *self.counts.of(*busy) -= 1;
        *self.counts.of(to) += 1;
        *busy = to;
        *since = now;
    }

    /// A busy server rests.
    pub fn rest(&mut self, slot: Slot, server: S, now: Instant) {
        let Some(place) = self.all.get_mut(slot.index()) else { return };
        let Place::Busy { busy, mut facts, .. } = *place else { return };
        if busy == Busy::Active {
            facts.used_at = now;
        }
        *self.counts.of(busy) -= 1;
        self.counts.idle += 1;
        *place = Place::Idle { server, rested_at: now, facts };
        self.idle.push_back(slot);
    }

    /// Gives a resting server to a client: the one that came to rest last, or with `round_robin` the one that has
    /// rested longest; never one that has rested for longer than `fresh_for`.
    pub fn lend(&mut self, round_robin: bool, fresh_for: Option<Duration>, now: Instant) -> Option<(Slot, S)> {
        let newest = *self.idle.back()?;
        if !self.is_fresh(newest, fresh_for, now) {
            return None; // Then none is.
        }
        let slot = if round_robin {
            let at = self.idle.partition_point(|&slot| !self.is_fresh(slot, fresh_for, now));
            self.idle.remove(at)?
        } else {
            self.idle.pop_back()?
        };
        self.wake(slot, Busy::Active, now).map(|server| (slot, server))
    }

    /// Takes the resting server that came to rest last, fresh or not, to be checked.
    pub fn test(&mut self, now: Instant) -> Option<(Slot, S)> {
        let slot = self.idle.pop_back()?;
        self.wake(slot, Busy::Tested, now).map(|server| (slot, server))
    }

    fn wake(&mut self, slot: Slot, busy: Busy, now: Instant) -> Option<S> {
        let place = &mut self.all[slot.index()];
        match std::mem::replace(place, Place::Free) {
            Place::Idle { server, facts, .. } => {
                *place = Place::Busy { busy, since: now, facts };
                self.counts.idle -= 1;
                *self.counts.of(busy) += 1;
                Some(server)
            }
            other => {
                *place = other;
                None
            }
        }
    }

    fn is_fresh(&self, slot: Slot, fresh_for: Option<Duration>, now: Instant) -> bool {
        match (fresh_for, &self.all[slot.index()]) {
            (None, _) => true,
            (Some(delay), Place::Idle { rested_at, .. }) => {
                // Cheaper than the difference of two points in time. Settings keep the sum in range.
                !delay.is_zero() && now <= *rested_at + delay
            }
            _ => false,
        }
    }

    /// How many rest for longer than `fresh_for`.
    pub fn stale(&self, fresh_for: Option<Duration>, now: Instant) -> u32 {
        let stale = self.idle.partition_point(|&slot| !self.is_fresh(slot, fresh_for, now));
        u32::try_from(stale).unwrap_or(u32::MAX)
    }

    /// Ends a place. Returns the server if it rested there.
    pub fn remove(&mut self, slot: Slot) -> Option<S> {
        let place = self.all.get_mut(slot.index())?;
        match std::mem::replace(place, Place::Free) {
            Place::Free => return None,
            Place::Login { .. } => self.counts.login -= 1,
            Place::Busy { busy, .. } => *self.counts.of(busy) -= 1,
            Place::Idle { server, .. } => {
                self.counts.idle -= 1;
                self.idle.retain(|&idle| idle != slot);
                self.free.push(slot);
                return Some(server);
            }
        }
        self.free.push(slot);
        None
    }

    /// Resting servers, who rested longest first.
    pub fn resting(&self) -> impl Iterator<Item = Resting> {
        self.idle.iter().filter_map(|&slot| match &self.all[slot.index()] {
            Place::Idle { rested_at, facts, .. } => Some(Resting { slot, rested_at: *rested_at, facts: *facts }),
            _ => None,
        })
    }

    /// A resting server itself.
    pub fn resting_mut(&mut self, slot: Slot) -> Option<&mut S> {
        match self.all.get_mut(slot.index())? {
            Place::Idle { server, .. } => Some(server),
            _ => None,
        }
    }

    /// All places that are taken.
    pub fn stays(&self, fresh_for: Option<Duration>, now: Instant) -> impl Iterator<Item = Stay> {
        let slots = (0..).map(Slot);
        slots.zip(&self.all).filter_map(move |(slot, place)| {
            let (generation, login, busy) = match place {
                Place::Free => return None,
                Place::Login { generation } => (*generation, true, None),
                Place::Busy { busy, facts, .. } => (facts.generation, false, Some(*busy)),
                Place::Idle { facts, .. } => (facts.generation, false, None),
            };
            let stale = !login && busy.is_none() && !self.is_fresh(slot, fresh_for, now);
            Some(Stay { slot, generation, login, busy, stale })
        })
    }

    /// Whether a resting server may be closed for another pool's sake.
    pub fn has_stayed(&self, slot: Slot, now: Instant) -> bool {
        matches!(self.all.get(slot.index()), Some(Place::Idle { facts, .. }) if facts.has_stayed(now))
    }

    /// How many lent servers have stayed for long enough to be closed for another pool's sake.
    pub fn lent_and_stayed(&self, now: Instant) -> u32 {
        let may_leave = |place: &&Place<S>| match place {
            Place::Busy { busy: Busy::Active, facts, .. } => facts.has_stayed(now),
            _ => false,
        };
        u32::try_from(self.all.iter().filter(may_leave).count()).unwrap_or(u32::MAX)
    }

    /// When each test under way began.
    pub fn tests_since(&self) -> impl Iterator<Item = Instant> {
        self.all.iter().filter_map(|place| match place {
            Place::Busy { busy: Busy::Tested, since, .. } => Some(*since),
            _ => None,
        })
    }

    /// How many servers and logins are of another generation.
    pub fn of_other_generation(&self, current: u64) -> u32 {
        let others = self.all.iter().filter(|place| match place {
            Place::Free => false,
            Place::Login { generation } => *generation != current,
            Place::Busy { facts, .. } | Place::Idle { facts, .. } => facts.generation != current,
        });
        u32::try_from(others.count()).unwrap_or(u32::MAX)
    }
}
