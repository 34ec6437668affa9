//! What time does to servers at rest: which are too old, idle for too long, or too many; and how many are missing.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::places::{Facts, Resting, Slot};
use crate::config::model::PoolSettings;
use crate::telemetry::events::pool::CloseReason;

/// Servers to close, and why.
pub type Closings = SmallVec<[(Slot, CloseReason); 4]>;

/// Spreads closings by age: at most one per `server_lifetime / pool_size`, so that a pool that filled at once is
/// not emptied at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ages {
    last_closing: Option<Instant>,
}

impl Ages {
    /// Whether a server is too old and may be closed now. A `true` counts as a closing.
    pub fn is_over(&mut self, facts: &Facts, settings: &PoolSettings, now: Instant) -> bool {
        // Cheaper than the difference of two points in time. Settings keep the sum in range.
        if now < facts.connected_at + settings.server_lifetime {
            return false;
        }
        let pause = settings.server_lifetime / settings.pool_size.max(1);
        let over = self.last_closing.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if over {
            self.last_closing = Some(now);
        }
        over
    }
}

/// Which of `resting` (who rested longest first) to close. `connected`: all servers of the pool that are logged in.
pub fn closings(
    resting: impl Iterator<Item = Resting>,
    mut connected: u32,
    settings: &PoolSettings,
    ages: &mut Ages,
    now: Instant,
) -> Closings {
    let most = settings.pool_size.saturating_add(settings.reserve_pool_size);
    let mut closings = Closings::new();
    for server in resting {
        let reason = if connected > most {
            CloseReason::OverSize
        } else if is_idle_too_long(&server.facts, connected, settings, now) {
            CloseReason::IdleTimeout
        } else if ages.is_over(&server.facts, settings, now) {
            CloseReason::LifetimeOver
        } else {
            continue;
        };
        connected = connected.saturating_sub(1);
        closings.push((server.slot, reason));
    }
    closings
}

fn is_idle_too_long(facts: &Facts, connected: u32, settings: &PoolSettings, now: Instant) -> bool {
    let idle: Duration = now.saturating_duration_since(facts.used_at);
    connected > settings.min_pool_size && settings.server_idle_timeout.is_some_and(|timeout| idle >= timeout)
}

/// How many servers `min_pool_size` lacks. `wanted`: the database has a forced user, or the pool a client.
pub fn missing(total: u32, settings: &PoolSettings, wanted: bool) -> u32 {
    if wanted { settings.min_pool_size.min(settings.pool_size).saturating_sub(total) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::places::Places;
    use crate::pool::testing::settings;

    /// Servers that logged in and were last used so many seconds before `now`.
    fn resting(ages: &[(u64, u64)], now: Instant) -> Places<u64> {
        let mut places = Places::default();
        for &(connected, used) in ages {
            let slot = places.begin_login(0);
            places.logged_in(slot, now - Duration::from_secs(connected));
            places.turn(slot, crate::pool::places::Busy::Active, now);
            places.rest(slot, connected, now - Duration::from_secs(used));
        }
        places
    }

    #[test]
    fn servers_are_closed_for_size_idleness_and_age() {
        use CloseReason::{IdleTimeout, LifetimeOver, OverSize};
        let now = Instant::now() + Duration::from_secs(100_000);
        for (what, size, minimum, ages, expected) in [
            ("all young", 3, 0, &[(10, 9), (10, 8)][..], vec![]),
            ("too many", 1, 0, &[(10, 9), (10, 8), (10, 7)], vec![OverSize, OverSize]),
            ("idle", 3, 0, &[(700, 600), (700, 601), (700, 1)], vec![IdleTimeout, IdleTimeout]),
            ("idle but needed", 3, 2, &[(700, 600), (700, 600), (700, 1)], vec![IdleTimeout]),
            ("old, one at a time", 3, 0, &[(3600, 9), (3600, 8)], vec![LifetimeOver]),
        ] {
            let mut settings = settings(size);
            settings.min_pool_size = minimum;
            let places = resting(ages, now);
            let closed = closings(places.resting(), places.counts().connected(), &settings, &mut Ages::default(), now);
            assert_eq!(closed.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), expected, "{what}");
        }
    }

    #[test]
    fn closings_by_age_are_spread_over_the_lifetime() {
        let mut now = Instant::now() + Duration::from_secs(100_000);
        let settings = settings(4);
        let mut ages = Ages::default();
        let facts = Facts { generation: 0, connected_at: now - settings.server_lifetime, used_at: now };
        let mut closed = Vec::new();
        for minute in 0..40 {
            if ages.is_over(&facts, &settings, now) {
                closed.push(minute);
            }
            now += Duration::from_secs(60);
        }
        assert_eq!(closed, [0, 15, 30]);
    }

    #[test]
    fn the_minimum_is_kept_only_where_somebody_wants_it() {
        for (total, minimum, size, wanted, lacks) in
            [(0, 2, 5, true, 2), (1, 2, 5, true, 1), (3, 2, 5, true, 0), (0, 2, 5, false, 0), (0, 9, 5, true, 5)]
        {
            let mut settings = settings(size);
            settings.min_pool_size = minimum;
            assert_eq!(missing(total, &settings, wanted), lacks);
        }
    }
}
