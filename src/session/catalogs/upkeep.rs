//! When the catalog of a database is read, looked at or waited for, and whether what was read holds. It is looked at by
//! the half of `catalog_refresh`, so that nobody waits for that where there is traffic; past all of it nobody's server
//! goes to the next client before it was. Nor does it once somebody may have changed it who could not say so; but then
//! looking takes a part of the time only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sql::catalog::Catalog;
use crate::sql::catalog_load::Fingerprint;

/// One catalog's times and states.
#[derive(Debug)]
pub(super) struct Upkeep {
    refresh: Duration,
    last: Option<Last>,
    /// It was changed since `last` was read.
    stale: bool,
    /// Grows with every change that is seen.
    version: u64,
    /// Clients that are about to change it: what is read meanwhile is a thing of the past at any moment.
    changing: u32,
    /// Grows with every client that may have changed it, for all one knows.
    suspicions: u64,
    /// So many of these it was looked at for.
    settled: u64,
    /// By then looking has taken its part of the time only.
    paid: Option<Instant>,
    busy: bool,
    /// No look before: after a failure, and so that reading takes a small part of the time only.
    not_before: Option<Instant>,
    failures: u32,
}

#[derive(Debug)]
struct Last {
    catalog: Arc<Catalog>,
    fingerprint: Fingerprint,
    /// It was so at this time.
    verified: Instant,
}

/// What is to be done with a server before a client has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Somebody looks whether the catalog is still the same: that is to be awaited.
    Wait,
    Look(Look),
}

/// One look at the catalog, under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    version: u64,
    suspicions: u64,
    /// Of the catalog that is known already.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// How a look ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Same,
    Read(Arc<Catalog>, Fingerprint),
    Failed,
    GivenUp,
}

/// What holds after it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// What held before.
    AsBefore,
    /// Nothing is known.
    Unknown,
    /// This does. `changed` says that something else did until now.
    Known { catalog: Arc<Catalog>, changed: bool },
}

/// After a failure, and at most.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// What took so long is not done again before so many times that have passed.
const REST: u32 = 4;
/// But for what may have changed so much of that time is given beforehand: it seldom has.
const CREDIT: Duration = Duration::from_secs(1);

impl Upkeep {
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            last: None,
            stale: false,
            version: 0,
            changing: 0,
            suspicions: 0,
            settled: 0,
            paid: None,
            busy: false,
            not_before: None,
            failures: 0,
        }
    }

    /// Whether somebody looks.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Somebody changes it, from now on until [`Self::changed`]: what is known may be a thing of the past.
    pub(super) fn changes(&mut self) {
        self.changing += 1;
        self.version += 1;
        self.stale = true;
    }

    /// It is changed.
    pub(super) fn changed(&mut self) {
        self.changing -= 1;
        self.version += 1;
    }

    /// Somebody may have changed it.
    pub(super) fn suspects(&mut self) {
        self.suspicions += 1;
    }

    /// From now on it is looked at so often; what was read last is looked at soon.
    pub(super) fn set_refresh(&mut self, refresh: Duration, now: Instant) {
        self.refresh = refresh;
        if let Some(last) = &mut self.last {
            last.verified = now.checked_sub(refresh / 2).unwrap_or(now).min(last.verified);
        }
    }

    /// From when on [`Self::next`] has something to say for a server that comes back; `None`: not before a look ends.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        match &self.last {
            Some(last) if !self.stale => {
                let part = if self.busy { self.refresh } else { self.refresh / 2 };
                let routine = last.verified + part;
                let suspected = self.suspicions != self.settled;
                let allowed = self.paid.and_then(|paid| paid.checked_sub(CREDIT)).unwrap_or(now);
                Some(if suspected { routine.min(allowed) } else { routine })
            }
            _ if self.busy || self.changing > 0 => None,
            _ => Some(self.not_before.unwrap_or(now)),
        }
    }

    /// What is to be done with a server that comes back, or is new. A new one waits for the first look.
    pub(super) fn next(&mut self, is_new: bool, now: Instant) -> Next {
        let due = self.due(now).is_some_and(|due| due <= now);
        match (self.busy, &self.last) {
            (true, None) if is_new && self.changing == 0 => Next::Wait,
            (true, Some(_)) if due && !is_new => Next::Wait,
            (false, last) if due => {
                self.busy = true;
                let fingerprint = last.as_ref().map(|last| last.fingerprint.clone());
                Next::Look(Look { version: self.version, suspicions: self.suspicions, fingerprint })
            }
            _ => Next::Nothing,
        }
    }

    /// A look that began at `begun` has ended.
    pub(super) fn ended(&mut self, look: &Look, outcome: Outcome, begun: Instant, now: Instant) -> Verdict {
        self.busy = false;
        let took = now.saturating_duration_since(begun);
        self.not_before = Some(now + took * REST);
        let changed = !self.stale && self.last.is_some();
        if changed {
            // What had to be read anyway is no reason to look less often after what is suspected.
            self.paid = Some(self.paid.map_or(begun, |paid| paid.max(begun)) + took * (REST + 1));
        }
        let (catalog, changed) = match (outcome, self.last.take()) {
            (Outcome::GivenUp, last) => {
                (self.last, self.not_before) = (last, None);
                return Verdict::AsBefore;
            }
            (Outcome::Same, Some(last)) => {
                self.last = Some(Last { verified: begun, ..last });
                (self.last.as_ref().map(|last| last.catalog.clone()), false)
            }
            (Outcome::Read(catalog, fingerprint), _) => {
                self.last = Some(Last { catalog: catalog.clone(), fingerprint, verified: begun });
                (Some(catalog), changed)
            }
            (Outcome::Failed | Outcome::Same, _) => {
                let pause = RETRY.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
                self.failures += 1;
                (self.stale, self.not_before) = (false, Some(now + pause));
                return Verdict::Unknown;
            }
        };
        self.failures = 0;
        self.settled = look.suspicions;
        // What has changed since it began may not be in what it has found.
        self.stale = self.version != look.version;
        match catalog {
            Some(catalog) if !self.stale => Verdict::Known { catalog, changed },
            _ => Verdict::AsBefore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(fingerprint: &str) -> Outcome {
        Outcome::Read(Arc::default(), Fingerprint::from(fingerprint))
    }

    fn looks(next: Next) -> Look {
        match next {
            Next::Look(look) => look,
            other => panic!("{other:?} where it should look"),
        }
    }

    /// A catalog that was read at `at`.
    fn known(at: Instant) -> Upkeep {
        let mut upkeep = Upkeep::new(10 * SECOND);
        let look = looks(upkeep.next(true, at));
        assert!(matches!(upkeep.ended(&look, read("1"), at, at), Verdict::Known { changed: false, .. }));
        upkeep
    }

    #[test]
    fn the_first_server_reads_it_and_the_others_wait() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(10 * SECOND);
        let look = looks(upkeep.next(true, now));
        assert_eq!(look.fingerprint, None);
        assert_eq!(upkeep.next(true, now), Next::Wait);
        assert_eq!(upkeep.next(false, now), Next::Nothing, "what it was used for counts as unknown");
        upkeep.ended(&look, Outcome::GivenUp, now, now);
        let look = looks(upkeep.next(true, now));
        upkeep.ended(&look, read("1"), now, now);
        assert_eq!(upkeep.next(true, now), Next::Nothing);
    }

    #[test]
    fn it_is_looked_at_by_half_of_the_time_and_waited_for_past_all_of_it() {
        let begun = Instant::now();
        let mut upkeep = known(begun);
        assert_eq!(upkeep.next(false, begun + 4 * SECOND), Next::Nothing);
        let look = looks(upkeep.next(false, begun + 5 * SECOND));
        assert_eq!(look.fingerprint, Some(Fingerprint::from("1")));
        assert_eq!(upkeep.next(false, begun + 6 * SECOND), Next::Nothing);
        assert_eq!(upkeep.next(false, begun + 10 * SECOND), Next::Wait);
        let verdict = upkeep.ended(&look, Outcome::Same, begun + 5 * SECOND, begun + 10 * SECOND);
        assert!(matches!(verdict, Verdict::Known { changed: false, .. }));
        assert_eq!(upkeep.next(false, begun + 9 * SECOND), Next::Nothing);
        let look = looks(upkeep.next(false, begun + 10 * SECOND));
        let verdict = upkeep.ended(&look, read("2"), begun + 10 * SECOND, begun + 10 * SECOND);
        assert!(matches!(verdict, Verdict::Known { changed: true, .. }));
    }

    #[test]
    fn what_was_changed_is_read_by_the_next_that_comes_back_but_not_all_the_time() {
        let begun = Instant::now();
        let mut upkeep = known(begun);
        upkeep.changes();
        assert_eq!(upkeep.next(false, begun + 20 * SECOND), Next::Nothing, "it is not changed yet");
        upkeep.changed();
        let look = looks(upkeep.next(false, begun));
        upkeep.changes();
        upkeep.changed();
        assert_eq!(upkeep.next(false, begun + 20 * SECOND), Next::Nothing, "all is unknown");
        let verdict = upkeep.ended(&look, read("2"), begun, begun + SECOND);
        assert!(matches!(verdict, Verdict::AsBefore), "it was changed meanwhile");
        assert_eq!(upkeep.next(false, begun + 2 * SECOND), Next::Nothing);
        let look = looks(upkeep.next(false, begun + 5 * SECOND));
        let verdict = upkeep.ended(&look, Outcome::Same, begun + 5 * SECOND, begun + 5 * SECOND);
        assert!(matches!(verdict, Verdict::Known { changed: false, .. }), "whom it concerned knew it as unknown");
    }

    #[test]
    fn what_may_have_been_changed_is_looked_at_at_once_but_not_all_the_time() {
        let begun = Instant::now();
        let mut upkeep = known(begun);
        upkeep.suspects();
        let look = looks(upkeep.next(false, begun));
        assert_eq!(upkeep.next(false, begun), Next::Wait, "nobody relies on what is known");
        upkeep.suspects();
        let verdict = upkeep.ended(&look, Outcome::Same, begun, begun + SECOND);
        assert!(matches!(verdict, Verdict::Known { changed: false, .. }));
        assert_eq!(upkeep.next(false, begun + 2 * SECOND), Next::Nothing, "looking takes a part of the time");
        let look = looks(upkeep.next(false, begun + 5 * SECOND));
        let verdict = upkeep.ended(&look, read("2"), begun + 5 * SECOND, begun + 5 * SECOND);
        assert!(matches!(verdict, Verdict::Known { changed: true, .. }));
        assert_eq!(upkeep.next(false, begun + 9 * SECOND), Next::Nothing);
        let (mut now, took) = (begun + 9 * SECOND, SECOND / 100);
        let mut looks_at = |now: Instant| {
            upkeep.suspects();
            let Next::Look(look) = upkeep.next(false, now) else { return false };
            upkeep.ended(&look, Outcome::Same, now, now + took);
            true
        };
        let count = (0..1000).filter(|_| {
            now += took;
            looks_at(now)
        });
        assert!((200..250).contains(&count.count()), "one in five, and some beforehand");
    }

    #[test]
    fn what_takes_long_to_be_read_is_looked_at_at_once_all_the_same() {
        let begun = Instant::now();
        let mut upkeep = Upkeep::new(100 * SECOND);
        let look = looks(upkeep.next(true, begun));
        upkeep.ended(&look, read("1"), begun, begun + 5 * SECOND);
        upkeep.suspects();
        looks(upkeep.next(false, begun + 5 * SECOND));
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_later_and_later() {
        let mut now = Instant::now();
        let mut upkeep = known(now);
        now += 5 * SECOND;
        for pause in [250, 500, 1000, 2000] {
            let look = looks(upkeep.next(false, now));
            assert!(matches!(upkeep.ended(&look, Outcome::Failed, now, now), Verdict::Unknown));
            let pause = Duration::from_millis(pause);
            assert_eq!(upkeep.next(true, now + pause / 2), Next::Nothing);
            now += pause;
        }
        let look = looks(upkeep.next(true, now));
        assert_eq!(look.fingerprint, None);
        assert!(matches!(upkeep.ended(&look, read("1"), now, now), Verdict::Known { changed: false, .. }));
    }

    #[test]
    fn a_shorter_time_counts_at_once() {
        let now = Instant::now();
        let mut upkeep = known(now);
        upkeep.set_refresh(SECOND, now + SECOND);
        looks(upkeep.next(false, now + SECOND));
    }
}
