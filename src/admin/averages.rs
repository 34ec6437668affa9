//! Averages of the last `stats_period`, from totals sampled at its ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::Totals;
use crate::telemetry::events::process::Figures as LoggedFigures;

/// The twelve figures of SHOW STATS, in its order. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures(pub [u64; 12]);

/// Places in [`Figures`].
const XACTS: usize = 1;
const QUERIES: usize = 2;
const XACT_TIME: usize = 5;
const QUERY_TIME: usize = 6;

impl From<&Totals> for Figures {
    fn from(totals: &Totals) -> Self {
        let tally = &totals.tally;
        Self([
            tally.server_assignments,
            tally.xacts,
            tally.queries,
            tally.bytes_received,
            tally.bytes_sent,
            tally.xact_time_us,
            tally.query_time_us,
            tally.wait_time_us,
            tally.client_parses,
            tally.server_parses,
            tally.binds,
            totals.client_logins,
        ])
    }
}

impl Figures {
    /// Adds up.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_add(other.0[at])))
    }

    /// What came since `earlier`. Where a figure went back, its database began anew: all of it came since.
    fn since(self, earlier: Self) -> Self {
        let began_anew = self.0.iter().zip(&earlier.0).any(|(now, then)| now < then);
        if began_anew { self } else { Self(std::array::from_fn(|at| self.0[at] - earlier.0[at])) }
    }

    /// As PgBouncer averages: times of transactions and queries by how many there were, all else by the second,
    /// the time waited too.
    fn averaged(self, period: Duration) -> Self {
        let per_second = |n: u64| {
            let scaled = u128::from(n) * 1_000_000 / period.as_micros().max(1);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let mut averages = self.0.map(per_second);
        averages[XACT_TIME] = self.0[XACT_TIME].checked_div(self.0[XACTS]).unwrap_or(0);
        averages[QUERY_TIME] = self.0[QUERY_TIME].checked_div(self.0[QUERIES]).unwrap_or(0);
        Self(averages)
    }

    /// For the log.
    pub fn logged(self) -> LoggedFigures {
        let [_, xacts, queries, received, sent, xact_time, query_time, wait_time, parses, server_parses, binds, logins] =
            self.0;
        LoggedFigures {
            xacts,
            queries,
            client_parses: parses,
            server_parses,
            binds,
            client_logins: logins,
            bytes_received: received,
            bytes_sent: sent,
            xact_time_us: xact_time,
            query_time_us: query_time,
            wait_time_us: wait_time,
        }
    }
}

/// Figures by database.
pub type ByDatabase = BTreeMap<Arc<str>, Figures>;

/// The newest sample, and the averages from the one before it. All are zero until the first has come.
#[derive(Debug)]
pub struct Averages {
    newest: (Instant, ByDatabase),
    averages: ByDatabase,
    overall: Figures,
}

impl Averages {
    /// Begins with nothing counted at `now`.
    pub fn new(now: Instant) -> Self {
        Self { newest: (now, ByDatabase::new()), averages: ByDatabase::new(), overall: Figures::default() }
    }

    /// Takes a sample. Databases that are gone from it are forgotten.
    pub fn sample(&mut self, now: Instant, totals: ByDatabase) {
        let (then, earlier) = &self.newest;
        let period = now.saturating_duration_since(*then);
        if period.is_zero() {
            return;
        }
        let came: ByDatabase = totals
            .iter()
            .map(|(name, now)| (name.clone(), now.since(earlier.get(name).copied().unwrap_or_default())))
            .collect();
        self.overall = came.values().fold(Figures::default(), |sum, figures| sum.plus(*figures)).averaged(period);
        self.averages = came.into_iter().map(|(name, figures)| (name, figures.averaged(period))).collect();
        self.newest = (now, totals);
    }

    /// A database's averages.
    pub fn of(&self, database: &str) -> Figures {
        self.averages.get(database).copied().unwrap_or_default()
    }

    /// The averages of all databases together.
    pub fn overall(&self) -> Figures {
        self.overall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(name: &str, figures: [u64; 12]) -> ByDatabase {
        ByDatabase::from([(Arc::from(name), Figures(figures))])
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn counts_go_by_the_second_and_times_by_what_took_them() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        averages.sample(start + TEN, totals("app", [0; 12]));
        averages.sample(start + TEN * 2, totals("app", [100, 50, 200, 4096, 8192, 5000, 4000, 10_000, 30, 20, 10, 5]));
        let expected = [10, 5, 20, 409, 819, 100, 20, 1000, 3, 2, 1, 0];
        assert_eq!(averages.of("app").0, expected);
        assert_eq!(averages.overall().0, expected);
        assert_eq!(averages.of("other"), Figures::default());
        assert_eq!(averages.overall().logged().wait_time_us, 1000);
    }

    #[test]
    fn only_the_last_period_counts_and_idle_ones_divide_by_nothing() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        let busy = totals("app", [1000; 12]);
        averages.sample(start + TEN, busy.clone());
        assert_eq!(averages.of("app").0[2], 100);
        averages.sample(start + TEN * 2, busy);
        assert_eq!(averages.of("app"), Figures::default());
    }

    #[test]
    fn a_database_that_began_anew_has_no_negative_past() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        averages.sample(start + TEN, totals("app", [1000; 12]));
        averages.sample(start + TEN * 2, totals("app", [20; 12]));
        assert_eq!(averages.of("app").0[0], 2);
        averages.sample(start + TEN * 3, ByDatabase::new());
        assert_eq!(averages.of("app"), Figures::default());
    }

    #[test]
    fn two_samples_at_one_moment_are_one() {
        let start = Instant::now();
        let mut averages = Averages::new(start);
        averages.sample(start, totals("app", [7; 12]));
        averages.sample(start + TEN, totals("app", [10; 12]));
        assert_eq!(averages.of("app").0[0], 1);
    }
}
