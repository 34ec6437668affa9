//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// Returns as soon as `condition` holds; fails the test when it does not within `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// As [`wait_until`], for a condition that has to be asked for.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const LIMIT: Duration = Duration::from_secs(30);
