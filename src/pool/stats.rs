//! What SHOW and /metrics read of pools: counters, histograms, snapshots.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::model::PoolMode;
use crate::types::{ClientId, Endpoint, PoolKey, ServerId};

/// What a session did since it last told its pool; added up under the pool's lock when a server is given back.
/// Times are summed in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW STATS_TOTALS")]
pub struct Tally {
    pub server_assignments: u64,
    pub xacts: u64,
    pub queries: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub xact_time_us: u64,
    pub query_time_us: u64,
    pub wait_time_us: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    /// Single waits, queries and transactions, for the histograms.
    pub samples: Samples,
}

impl Tally {
    /// One server was assigned after so many microseconds.
    pub fn assigned(&mut self, waited_us: u64) {
        self.server_assignments += 1;
        self.wait_time_us += waited_us;
        self.samples.wait.note(waited_us);
    }

    /// One query ended after so many microseconds.
    pub fn query_done(&mut self, took_us: u64) {
        self.query_time_us += took_us;
        self.samples.query.note(took_us);
    }

    /// One transaction ended after so many microseconds.
    pub fn xact_done(&mut self, took_us: u64) {
        self.xact_time_us += took_us;
        self.samples.xact.note(took_us);
    }
}

/// Times of single events, by kind. Costs three comparisons where nothing was noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// How long clients waited for a server.
    pub wait: Few,
    /// How long queries took.
    pub query: Few,
    /// How long transactions took.
    pub xact: Few,
}

/// How many different buckets a [`Few`] keeps apart.
const FEW: usize = 4;

/// A few increments of a [`Histogram`], without the histogram: most sessions note one or two times between two
/// visits to their pool. Past four different buckets a time is counted with the nearest one, never lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Few {
    used: u8,
    buckets: [u8; FEW],
    counts: [u32; FEW],
}

impl Few {
    /// Notes one time, in microseconds.
    pub fn note(&mut self, time_us: u64) {
        let bucket = Histogram::bucket(time_us) as u8;
        let used = usize::from(self.used);
        if let Some(at) = self.buckets[..used].iter().position(|&known| known == bucket) {
            self.counts[at] = self.counts[at].saturating_add(1);
        } else if used < FEW {
            self.buckets[used] = bucket;
            self.counts[used] = 1;
            self.used += 1;
        } else if let Some(at) = (0..FEW).min_by_key(|&at| self.buckets[at].abs_diff(bucket)) {
            self.counts[at] = self.counts[at].saturating_add(1);
        }
    }

    fn pour(&mut self, into: &mut Histogram) {
        if self.used == 0 {
            return;
        }
        for at in 0..usize::from(self.used) {
            into.counts[usize::from(self.buckets[at])] += u64::from(self.counts[at]);
        }
        self.used = 0;
    }
}

/// Counts of times by powers of two of a microsecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Self::BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; Self::BUCKETS] }
    }
}

impl Histogram {
    /// How many buckets there are. The last takes everything from 2^30 microseconds (18 minutes) on.
    pub const BUCKETS: usize = 32;

    fn bucket(time_us: u64) -> usize {
        ((u64::BITS - time_us.leading_zeros()) as usize).min(Self::BUCKETS - 1)
    }

    /// Counts by bucket, each with its upper bound (exclusive) in microseconds; the last has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.counts.iter().enumerate().map(|(at, &count)| ((at < Self::BUCKETS - 1).then_some(1 << at), count))
    }

    /// How many were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
    }
}

/// What a database's clients did since the pooler started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sums; its samples are always empty.
    pub sums: Tally,
    /// How many clients logged in.
    pub client_logins: u64,
    /// Times that clients waited for a server.
    pub wait: Histogram,
    /// Times of queries.
    pub query: Histogram,
    /// Times of transactions.
    pub xact: Histogram,
}

impl Totals {
    /// Adds what a session did, and zeroes it.
    pub fn take(&mut self, tally: &mut Tally) {
        self.sums.server_assignments += tally.server_assignments;
        self.sums.xacts += tally.xacts;
        self.sums.queries += tally.queries;
        self.sums.bytes_received += tally.bytes_received;
        self.sums.bytes_sent += tally.bytes_sent;
        self.sums.xact_time_us += tally.xact_time_us;
        self.sums.query_time_us += tally.query_time_us;
        self.sums.wait_time_us += tally.wait_time_us;
        self.sums.client_parses += tally.client_parses;
        self.sums.server_parses += tally.server_parses;
        self.sums.binds += tally.binds;
        tally.samples.wait.pour(&mut self.wait);
        tally.samples.query.pour(&mut self.query);
        tally.samples.xact.pour(&mut self.xact);
        *tally = Tally::default();
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.take(&mut other.sums.clone());
        self.client_logins += other.client_logins;
        self.wait.add(&other.wait);
        self.query.add(&other.query);
        self.xact.add(&other.xact);
    }
}

/// What SHOW DATABASES reads of a database beside its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW DATABASES")]
pub struct DatabaseStatus {
    pub current_connections: u32,
    pub current_client_connections: u32,
    pub paused: bool,
    pub disabled: bool,
}

/// What SHOW USERS reads of a user beside its configuration. Users are those that servers log in as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW USERS")]
pub struct UserStatus {
    pub current_connections: u32,
}

/// State of a server as SHOW SERVERS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Linked to a client.
    Active,
    /// At rest, ready.
    Idle,
    /// At rest for longer than `server_check_delay`: checked before its next use.
    Used,
    /// Being checked or reset.
    Tested,
    /// Logging in.
    Login,
    /// Its client's cancel request is on its way.
    BeingCanceled,
}

/// One row of SHOW POOLS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW POOLS")]
pub struct PoolRow {
    pub key: PoolKey,
    pub cl_active: u32,
    pub cl_waiting: u32,
    pub cl_active_cancel_req: u32,
    pub cl_waiting_cancel_req: u32,
    pub sv_active: u32,
    pub sv_active_cancel: u32,
    pub sv_being_canceled: u32,
    pub sv_idle: u32,
    pub sv_used: u32,
    pub sv_tested: u32,
    pub sv_login: u32,
    /// How long the oldest waiter has waited.
    pub maxwait: Duration,
    pub pool_mode: PoolMode,
    pub load_balance_hosts: Option<&'static str>,
    /// There is such a database, as far as is known: it is in the configuration, or has let somebody in. No column.
    pub known: bool,
}

/// One row of SHOW SERVERS.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the columns of SHOW SERVERS")]
pub struct ServerRow {
    pub id: ServerId,
    pub key: PoolKey,
    pub state: ServerState,
    pub endpoint: Endpoint,
    /// Address and port as connected to; `unix` and the port for sockets.
    pub addr: String,
    pub port: u16,
    pub local_addr: String,
    pub local_port: u16,
    pub connected_at: SystemTime,
    pub requested_at: SystemTime,
    pub close_needed: bool,
    pub link: Option<ClientId>,
    pub remote_pid: u32,
    /// `TLSv1.3/TLS_AES_256_GCM_SHA384`, or empty.
    pub tls: Arc<str>,
    /// What the client that has it calls itself; empty while nobody has it. Pools don't know it.
    pub application_name: String,
    pub prepared_statements: u32,
    /// Why that client keeps it beyond its transaction, as bits. Pools don't know it either.
    pub pins: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_added_once_and_zeroed() {
        let mut totals = Totals::default();
        let mut tally = Tally { queries: 2, ..Tally::default() };
        tally.assigned(5);
        tally.query_done(1000);
        tally.query_done(1000);
        tally.xact_done(7_200_000_000);
        totals.take(&mut tally);
        totals.take(&mut tally);
        assert_eq!(tally, Tally::default());
        assert_eq!((totals.sums.queries, totals.sums.query_time_us, totals.sums.wait_time_us), (2, 2000, 5));
        assert_eq!(totals.query.buckets().find(|(_, count)| *count > 0), Some((Some(1024), 2)));
        assert_eq!(totals.wait.buckets().find(|(_, count)| *count > 0), Some((Some(8), 1)));
        assert_eq!(totals.xact.buckets().last(), Some((None, 1)));
        let mut sum = totals.clone();
        sum.add(&totals);
        assert_eq!((sum.sums.queries, sum.query.count()), (4, 4));
    }

    #[test]
    fn past_four_buckets_a_time_is_counted_with_the_nearest() {
        let mut totals = Totals::default();
        let mut tally = Tally::default();
        for micros in [1, 4, 16, 64, 200, 0, 3_000_000] {
            tally.query_done(micros);
        }
        totals.take(&mut tally);
        let filled: Vec<_> = totals.query.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(2), 2), (Some(8), 1), (Some(32), 1), (Some(128), 3)]);
    }
}
