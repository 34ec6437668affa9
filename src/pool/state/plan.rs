//! How many logins a pool wants now, and when it has to look again.

use std::time::{Duration, Instant};

use super::{PoolState, upkeep};

/// For so long a check or reset under way counts as a server for somebody who waits. One that takes longer may never
/// end well (a dead peer answers nothing), so another server is opened beside it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Why logins are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// How many may begin now.
    pub logins: u32,
    /// Since when the first client waits, or the pool has none because it closed its last server for another; `None`:
    /// nobody waits, only `min_pool_size` is not reached.
    pub waiting_since: Option<Instant>,
    /// The pool has no server at all.
    pub starving: bool,
    /// The next would be beyond `pool_size`.
    pub from_reserve: bool,
}

impl<S, W> PoolState<S, W> {
    /// The logins that should begin now; `None` if none should.
    pub fn wants(&self, now: Instant) -> Option<Wants> {
        if !self.gives() {
            return None;
        }
        let counts = self.places.counts();
        let total = counts.total();
        let for_waiters = self.unprovided(now).min(self.room(total, now));
        let to_minimum = upkeep::missing(total, &self.settings, self.wanted);
        let probe = u32::from(self.probe_asked && total < self.settings.pool_size.max(1));
        let allowed = self.health.logins_at_once(counts.connected(), now).saturating_sub(counts.login);
        let logins = for_waiters.max(to_minimum).max(probe).min(allowed);
        let starving = total == 0;
        // Else the place would come back to it, if its clients have waited for longer: a login for nothing.
        let since = |oldest: Instant| self.yielded_at.filter(|_| starving).map_or(oldest, |at| at.max(oldest));
        (logins > 0).then(|| Wants {
            logins,
            waiting_since: self.oldest_wait().map(since),
            starving,
            from_reserve: total >= self.settings.pool_size,
        })
    }

    /// How many clients wait for whom nothing is under way.
    pub(super) fn unprovided(&self, now: Instant) -> u32 {
        if self.waiters.is_empty() {
            return 0;
        }
        let mut under_way = self.places.counts().login;
        if self.places.counts().tested > 0 {
            let tests = self.places.tests_since().filter(|since| now < *since + PATIENCE);
            under_way += u32::try_from(tests.count()).unwrap_or(u32::MAX);
        }
        self.waiting().saturating_sub(under_way)
    }

    /// How many servers the pool may still open. The reserve is for those who have waited `reserve_pool_timeout`.
    fn room(&self, total: u32, now: Instant) -> u32 {
        let ordinary = self.settings.pool_size.saturating_sub(total);
        if ordinary > 0 {
            return ordinary;
        }
        let Some(timeout) = self.settings.reserve_pool_timeout else { return 0 };
        let overdue = self.waiters.partition_point(|waiter| now.saturating_duration_since(waiter.since) >= timeout);
        let overdue = u32::try_from(overdue).unwrap_or(u32::MAX).saturating_sub(self.places.counts().login);
        self.largest().saturating_sub(total).min(overdue)
    }

    /// The next moment after `now` at which something comes due that no event announces. Ages and idle times of
    /// servers at rest are not among them: these are looked at by the way.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.end.is_some() {
            return None;
        }
        let first = self.oldest_wait();
        let gives_up = first.zip(self.settings.query_wait_timeout).map(|(since, timeout)| since + timeout);
        let rest = if self.gate.is_open() { self.next_opening(now) } else { None };
        let stayed = self.staying.front().map(|(_, until)| *until);
        [gives_up, rest, stayed].into_iter().flatten().filter(|at| *at > now).min()
    }

    fn next_opening(&self, now: Instant) -> Option<Instant> {
        let total = self.places.counts().total();
        let wanted =
            !self.waiters.is_empty() || self.probe_asked || upkeep::missing(total, &self.settings, self.wanted) > 0;
        let probe = if wanted { self.health.retry_at() } else { None };
        let mut next = probe.filter(|at| *at > now);
        let mut consider = |at: Option<Instant>| next = [next, at.filter(|at| *at > now)].into_iter().flatten().min();
        consider(self.shut_out_until.filter(|_| wanted));
        if !self.waiters.is_empty() {
            consider(self.places.tests_since().map(|since| since + PATIENCE).filter(|at| *at > now).min());
            consider(self.next_reserve(total, now));
        }
        next
    }

    fn next_reserve(&self, total: u32, now: Instant) -> Option<Instant> {
        if total < self.settings.pool_size || total >= self.largest() {
            return None;
        }
        let timeout = self.settings.reserve_pool_timeout?;
        let due = |at: usize| self.waiters.get(at).map(|waiter| waiter.since + timeout);
        let first_patient = self.waiters.partition_point(|waiter| waiter.since + timeout <= now);
        due(first_patient)
    }
}
