//! News: one function per event, which logs and counts. One file per floor.

pub mod admin;
pub mod pool;
pub mod process;
pub mod server;
pub mod session;

use super::names::Metric;

/// Makes the counters appear that have no or few labels.
pub(super) fn begin_at_zero() {
    session::begin_at_zero();
    pool::begin_at_zero();
    process::begin_at_zero();
}

/// Counts one.
fn count(metric: Metric) {
    metrics::counter!(metric.name).increment(1);
}

/// Counts one, under a label.
fn count_by(metric: Metric, label: &'static str, value: &'static str) {
    metrics::counter!(metric.name, label => value).increment(1);
}

/// Makes a series appear.
fn zero(metric: Metric, label: &'static str, value: &'static str) {
    metrics::counter!(metric.name, label => value).increment(0);
}
