//! The process: start, listeners, reload, end.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::{error, info, warn};

use super::{count_by, zero};
use crate::telemetry::labels::{Outcome, StopMode};
use crate::telemetry::log::STATS;
use crate::telemetry::names::{MAX_FDS, RELOADS, START_TIME};

pub(super) fn begin_at_zero() {
    Outcome::ALL.iter().for_each(|outcome| zero(RELOADS, "outcome", outcome.as_str()));
}

/// The process is up and serves.
pub fn started(version: &str, at: SystemTime) {
    metrics::gauge!(START_TIME.name).set(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    info!(version, pid = std::process::id(), "process up");
}

/// A socket accepts clients.
pub fn listening(address: &dyn Display) {
    info!("listening on {address}");
}

/// No client can be taken for want of files or memory; those who come wait in the kernel's backlog.
pub fn accept_starved(address: &dyn Display, error: &dyn Display) {
    warn!("can't accept clients on {address}, who wait until it is possible again: {error}");
}

/// /metrics is served no more.
pub fn metrics_ended(error: &dyn Display) {
    error!("the metrics listener ended: {error}");
}

/// A signal asks for this, which is done.
pub fn signal_obeyed(signal: &'static str, command: &'static str) {
    info!("got {signal}: {command}");
}

/// A signal asks for what can't be done now.
pub fn signal_refused(signal: &'static str, why: &dyn Display) {
    warn!("got {signal}, ignoring: {why}");
}

/// Something in the configuration should be known, though it is no mistake.
pub fn configuration_warning(complaint: &dyn Display) {
    warn!("configuration: {complaint}");
}

/// The process has more rights than it needs.
pub fn running_as_root() {
    warn!("running as root: start as an unprivileged user, or set \"user\" in [pooler]");
}

/// How many file descriptors the process may open, and how many its settings can need.
pub fn descriptor_limit(limit: u64, max_client_conn: u32, needed: u64) {
    // A gauge is a floating-point number; limits are far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "limits are far below 2^53")]
    metrics::gauge!(MAX_FDS.name).set(limit as f64);
    if limit < needed {
        warn!(
            limit,
            max_client_conn,
            needed,
            "too few file descriptors for max_client_conn and the pools: raise the limit (LimitNOFILE of systemd, \
             ulimit -n), or lower the settings"
        );
    } else {
        info!(limit, max_client_conn, needed, "file descriptors");
    }
}

/// The configuration was read anew and is in use.
pub fn reloaded() {
    count_by(RELOADS, "outcome", Outcome::Ok.as_str());
    info!("configuration reloaded");
}

/// The configuration could not be used: the old one stays.
pub fn reload_failed(complaints: &[String]) {
    count_by(RELOADS, "outcome", Outcome::Failed.as_str());
    for complaint in complaints {
        error!("configuration: {complaint}");
    }
    error!(complaints = complaints.len(), "reload failed: the old configuration stays in use");
}

/// The pooler takes no new clients, and ends when `mode` says.
pub fn stopping(mode: StopMode) {
    info!(mode = mode.as_str(), "shutting down");
}

/// Nothing is left running.
pub fn stopped(after: Duration) {
    info!(uptime_s = after.as_secs(), "process ends");
}

/// Averages of the last `stats_period`: counts and bytes per second, times in microseconds each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW STATS_AVERAGES")]
pub struct Figures {
    pub xacts: u64,
    pub queries: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub client_logins: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub xact_time_us: u64,
    pub query_time_us: u64,
    pub wait_time_us: u64,
}

/// The line of figures that tools read from PgBouncer's log.
pub fn stats(figures: &Figures) {
    info!(
        target: STATS,
        "stats: {} xacts/s, {} queries/s, {} client parses/s, {} server parses/s, {} binds/s, {} client logins/s, \
         in {} B/s, out {} B/s, xact {} us, query {} us, wait {} us",
        figures.xacts,
        figures.queries,
        figures.client_parses,
        figures.server_parses,
        figures.binds,
        figures.client_logins,
        figures.bytes_received,
        figures.bytes_sent,
        figures.xact_time_us,
        figures.query_time_us,
        figures.wait_time_us,
    );
}
