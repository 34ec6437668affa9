//! A snapshot of the pooler as Prometheus text. Series are bounded: the first so many pools and databases by name
//! have their own, the rest are summed under `other`, as are names that clients made up and no server knows.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::act::AdminContext;
use super::averages::{ByDatabase, Figures};
use super::control::{Counts, DatabaseRow, HistogramSnapshot, Histograms};
use super::show::{self, VERSION_TEXT};
use crate::config::model::PoolMode;
use crate::pool::stats::PoolRow;
use crate::telemetry::names::{self, Metric};

/// Pools with series of their own.
const POOLS_MAX: usize = 500;
/// Databases with series of their own.
const DATABASES_MAX: usize = 200;
/// What the rest is summed under.
const OTHER: &str = "other";

/// Everything that is rendered.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the names are the methods of `Control`")]
pub struct Snapshot {
    pub pools: Vec<PoolRow>,
    pub databases: Vec<DatabaseRow>,
    pub totals: ByDatabase,
    pub histograms: Vec<(Arc<str>, Histograms)>,
    pub counts: Counts,
}

impl Snapshot {
    /// What is so now, the console's own rows included.
    pub fn take(ctx: &AdminContext) -> Self {
        let control = ctx.control();
        let (mut pools, mut databases, counts) = (control.pools(), control.databases(), control.counts());
        pools.push(show::console_pool(ctx.consoles()));
        databases.push(show::console_database(&counts, ctx.consoles()));
        Self { pools, databases, totals: ctx.totals(), histograms: control.histograms(), counts }
    }
}

/// The text that Prometheus scrapes.
pub fn render(snapshot: &Snapshot) -> String {
    let mut out = Page(String::with_capacity(64 * 1024));
    process(snapshot, &mut out);
    pools(&snapshot.pools, &mut out);
    databases(snapshot, &mut out);
    totals(&snapshot.totals, &mut out);
    histograms(&snapshot.histograms, &mut out);
    out.0
}

fn process(snapshot: &Snapshot, out: &mut Page) {
    let counts = &snapshot.counts;
    let size = |n: usize| n as u64;
    out.head(names::VERSION);
    out.line(names::VERSION.name, &[("version", VERSION_TEXT)], 1);
    for (metric, value) in [
        (names::UP, 1),
        (names::DATABASES, size(snapshot.databases.len())),
        (names::USERS, counts.users.into()),
        (names::POOLS, size(snapshot.pools.len())),
        (names::FREE_CLIENTS, counts.max_client_conn.saturating_sub(counts.used_clients).into()),
        (names::USED_CLIENTS, counts.used_clients.into()),
        (names::LOGIN_CLIENTS, counts.login_clients.into()),
        (names::FREE_SERVERS, 0),
        (names::USED_SERVERS, counts.used_servers.into()),
        (names::DNS_NAMES, counts.dns_names.into()),
        (names::DNS_QUERIES, counts.dns_queries.into()),
        (names::MAX_CLIENT_CONN, counts.max_client_conn.into()),
        (names::MAX_USER_CONNECTIONS, counts.max_user_connections.into()),
    ] {
        out.head(metric);
        out.line(metric.name, &[], value);
    }
}

/// How a gauge reads a pool.
type OfPool = fn(&PoolRow) -> u32;

fn pools(rows: &[PoolRow], out: &mut Page) {
    let gauges: [(Metric, OfPool); 11] = [
        (names::POOL_CL_ACTIVE, |row| row.cl_active),
        (names::POOL_CL_WAITING, |row| row.cl_waiting),
        (names::POOL_CL_ACTIVE_CANCEL, |row| row.cl_active_cancel_req),
        (names::POOL_CL_WAITING_CANCEL, |row| row.cl_waiting_cancel_req),
        (names::POOL_SV_ACTIVE, |row| row.sv_active),
        (names::POOL_SV_ACTIVE_CANCEL, |row| row.sv_active_cancel),
        (names::POOL_SV_BEING_CANCELED, |row| row.sv_being_canceled),
        (names::POOL_SV_IDLE, |row| row.sv_idle),
        (names::POOL_SV_USED, |row| row.sv_used),
        (names::POOL_SV_TESTED, |row| row.sv_tested),
        (names::POOL_SV_LOGIN, |row| row.sv_login),
    ];
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by(|a, b| (!a.known, &a.key).cmp(&(!b.known, &b.key)));
    let known = rows.partition_point(|row| row.known);
    let (own, rest) = rows.split_at(known.min(POOLS_MAX));
    for (metric, of) in gauges {
        out.head(metric);
        for row in own {
            out.line(metric.name, &[("database", &row.key.database), ("user", &row.key.user)], of(row));
        }
        if !rest.is_empty() {
            let sum: u64 = rest.iter().map(|row| u64::from(of(row))).sum();
            out.line(metric.name, &[("database", OTHER), ("user", OTHER)], sum);
        }
    }
    let metric = names::POOL_MAXWAIT;
    out.head(metric);
    for row in own {
        let labels = [("database", &*row.key.database), ("user", &*row.key.user)];
        out.line(metric.name, &labels, row.maxwait.as_secs_f64());
    }
    if let Some(longest) = rest.iter().map(|row| row.maxwait).max() {
        out.line(metric.name, &[("database", OTHER), ("user", OTHER)], longest.as_secs_f64());
    }
}

/// How a gauge reads a database.
type OfDatabase = fn(&DatabaseRow) -> u32;

fn databases(snapshot: &Snapshot, out: &mut Page) {
    let gauges: [(Metric, OfDatabase); 6] = [
        (names::DB_POOL_SIZE, |row| row.pool_size),
        (names::DB_RESERVE_POOL, |row| row.reserve_pool_size),
        (names::DB_MAX_CONNECTIONS, |row| row.max_connections),
        (names::DB_CURRENT_CONNECTIONS, |row| row.current_connections),
        (names::DB_PAUSED, |row| row.paused.into()),
        (names::DB_DISABLED, |row| row.disabled.into()),
    ];
    let mut known = HashMap::<&str, bool>::new();
    for pool in &snapshot.pools {
        *known.entry(&pool.key.database).or_default() |= pool.known;
    }
    let is_known = |row: &&DatabaseRow| known.get(&*row.name).copied().unwrap_or(true);
    let mut rows: Vec<_> = snapshot.databases.iter().filter(is_known).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let (own, rest) = rows.split_at(rows.len().min(DATABASES_MAX));
    for (metric, of) in gauges {
        out.head(metric);
        for row in own {
            let port = row.port.to_string();
            let labels = [
                ("name", &*row.name),
                ("host", row.host.as_deref().unwrap_or_default()),
                ("port", &port),
                ("database", &row.database),
                ("force_user", row.force_user.as_deref().unwrap_or_default()),
                ("pool_mode", row.pool_mode.map_or("", PoolMode::as_str)),
            ];
            out.line(metric.name, &labels, of(row));
        }
        if !rest.is_empty() {
            let sum: u64 = rest.iter().map(|row| u64::from(of(row))).sum();
            let none = ["host", "port", "database", "force_user", "pool_mode"].map(|label| (label, ""));
            let labels: Vec<_> = std::iter::once(("name", OTHER)).chain(none).collect();
            out.line(metric.name, &labels, sum);
        }
    }
}

fn totals(all: &ByDatabase, out: &mut Page) {
    // In the order of `Figures`; times are told in seconds.
    let counters = [
        (names::STATS_ASSIGNMENTS, false),
        (names::STATS_XACTS, false),
        (names::STATS_QUERIES, false),
        (names::STATS_RECEIVED, false),
        (names::STATS_SENT, false),
        (names::STATS_XACT_TIME, true),
        (names::STATS_QUERY_TIME, true),
        (names::STATS_WAIT_TIME, true),
        (names::STATS_CLIENT_PARSES, false),
        (names::STATS_SERVER_PARSES, false),
        (names::STATS_BINDS, false),
        (names::STATS_LOGINS, false),
    ];
    let databases = bounded(all.iter().map(|(name, figures)| (&**name, *figures)), Figures::plus);
    for (at, (metric, is_time)) in counters.into_iter().enumerate() {
        // Older exporters had no `totals_` in these names, and many dashboards have none either.
        let old_name =
            metric.name.strip_prefix("pgbouncer_stats_totals_").map(|name| format!("pgbouncer_stats_{name}"));
        for name in std::iter::once(metric.name).chain(old_name.as_deref()) {
            out.head_as(name, metric);
            for (database, figures) in &databases {
                let labels = [("database", *database)];
                match figures.0[at] {
                    us if is_time => out.line(name, &labels, Duration::from_micros(us).as_secs_f64()),
                    count => out.line(name, &labels, count),
                }
            }
        }
    }
}

/// How a metric reads distributions.
type OfHistograms = fn(&Histograms) -> &HistogramSnapshot;

fn histograms(all: &[(Arc<str>, Histograms)], out: &mut Page) {
    let metrics: [(Metric, OfHistograms); 3] = [
        (names::WAIT_SECONDS, |all| &all.wait),
        (names::QUERY_SECONDS, |all| &all.query),
        (names::TRANSACTION_SECONDS, |all| &all.xact),
    ];
    for (metric, of) in metrics {
        let mut merged = BTreeMap::<&str, Merged>::new();
        for (database, histograms) in all {
            merged.entry(database).or_default().add(of(histograms));
        }
        out.head(metric);
        for (database, histogram) in bounded(merged.into_iter(), Merged::plus) {
            out.histogram(metric.name, database, &histogram);
        }
    }
}

/// Histograms added up, bucket by bucket.
#[derive(Debug, Clone, Default)]
struct Merged {
    buckets: BTreeMap<u64, u64>,
    sum_us: u64,
    count: u64,
}

impl Merged {
    fn add(&mut self, one: &HistogramSnapshot) {
        for (upper, count) in &one.buckets {
            *self.buckets.entry(*upper).or_default() += count;
        }
        self.sum_us = self.sum_us.saturating_add(one.sum_us);
        self.count += one.count;
    }

    fn plus(mut self, other: Self) -> Self {
        other.buckets.into_iter().for_each(|(upper, count)| *self.buckets.entry(upper).or_default() += count);
        Self {
            buckets: self.buckets,
            sum_us: self.sum_us.saturating_add(other.sum_us),
            count: self.count + other.count,
        }
    }
}

/// The first [`DATABASES_MAX`] by name, and the sum of the rest under [`OTHER`].
fn bounded<'a, T>(mut sorted: impl Iterator<Item = (&'a str, T)>, plus: fn(T, T) -> T) -> Vec<(&'a str, T)> {
    let mut own: Vec<_> = sorted.by_ref().take(DATABASES_MAX).collect();
    own.extend(sorted.map(|(_, value)| value).reduce(plus).map(|sum| (OTHER, sum)));
    own
}

/// Text in Prometheus' format. Writing to a `String` cannot fail.
struct Page(String);

impl Page {
    fn head(&mut self, metric: Metric) {
        self.head_as(metric.name, metric);
    }

    fn head_as(&mut self, name: &str, metric: Metric) {
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {}", metric.help(), metric.kind.as_str());
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            escape(text, &mut self.0);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, database: &str, histogram: &Merged) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (upper_us, count) in &histogram.buckets {
            below += count;
            let upper = Duration::from_micros(*upper_us).as_secs_f64().to_string();
            self.line(&bucket, &[("database", database), ("le", &upper)], below);
        }
        // Buckets and count are read one after the other while samples come in: the sum of all must not be less.
        let count = histogram.count.max(below);
        self.line(&bucket, &[("database", database), ("le", "+Inf")], count);
        let seconds = Duration::from_micros(histogram.sum_us).as_secs_f64();
        self.line(&format!("{name}_sum"), &[("database", database)], seconds);
        self.line(&format!("{name}_count"), &[("database", database)], count);
    }
}

/// Backslash, quote and line feed are what the format escapes in a label.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
