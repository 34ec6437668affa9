//! Whether logins to a pool's server succeed, and when the next may be tried. While they fail, one connection
//! probes: nobody else tries, and the pauses between probes double. The same of a node, over all pools ([`super::nodes`]);
//! a pool makes no pauses of its own because of a failure that is its node's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wire::error::{ErrorReply, SqlState};

/// How many logins of one pool may be under way while they succeed. A login costs the server a process and a key derivation,
/// some 5 to 10 ms of CPU: four keep several of its cores busy and fill a pool of 25 in seven rounds, and what the first
/// serve in that time need not be opened at all. For that reason, and since those of many pools add up, a pool without a
/// server opens one, and no more at once than it has and one.
const LOGINS_AT_ONCE: u32 = 4;

/// The pause after the first failure; doubles with each, up to `server_login_retry`.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Why a login failed, kept for clients that come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The server's SQLSTATE, or that of a connection that failed.
    pub code: SqlState,
    /// The server's words, or ours.
    pub text: Arc<str>,
    /// All that the server said, if it answered.
    pub refusal: Option<Arc<ErrorReply>>,
    /// It may pass by itself, so that a login is better kept waiting than refused.
    pub may_pass: bool,
}

/// What the last logins tell.
#[derive(Debug, Clone)]
pub enum Health {
    /// Nobody has tried yet: the first login is a probe.
    Unproven,
    /// The last login succeeded.
    Well,
    /// The last login failed.
    Failing(Failing),
}

/// A server that can't be logged in to.
#[derive(Debug, Clone)]
pub struct Failing {
    attempts: u32,
    /// Those of them that were not the node's.
    own: u32,
    /// How many hosts the list has: less failures than that prove nothing.
    hosts: u32,
    failed_at: Instant,
    retry_at: Instant,
    error: LastError,
    /// What failed may be cured by now.
    in_doubt: bool,
    /// It was the node that failed.
    of_node: bool,
}

impl Health {
    /// How many logins of a pool with so many servers may be under way now.
    pub fn logins_at_once(&self, connected: u32, now: Instant) -> u32 {
        match self {
            Self::Unproven => 1,
            Self::Well => LOGINS_AT_ONCE.min(connected.saturating_add(1)),
            Self::Failing(failing) => u32::from(now >= failing.retry_at),
        }
    }

    /// A login failed with `error`. `hosts`: how many a list has; the pause comes after all of them failed.
    /// Failures of logins that were begun side by side count once.
    pub fn failed(&mut self, error: LastError, now: Instant, longest_pause: Duration, hosts: u32) {
        let (attempts, own) = match self {
            Self::Failing(failing) if now < failing.retry_at => {
                failing.error = error;
                return;
            }
            Self::Failing(failing) => (failing.attempts.saturating_add(1), failing.own.saturating_add(1)),
            _ => (1, 1),
        };
        let hosts = hosts.max(1);
        let pause = if own.is_multiple_of(hosts) {
            let doublings = (own / hosts - 1).min(20);
            FIRST_PAUSE.saturating_mul(1 << doublings).min(longest_pause)
        } else {
            Duration::ZERO
        };
        let (failed_at, retry_at, in_doubt, of_node) = (now, now + pause, false, false);
        *self = Self::Failing(Failing { attempts, own, hosts, failed_at, retry_at, error, in_doubt, of_node });
    }

    /// A login failed of the node: when the next may be tried is not for this pool alone to say.
    pub fn node_failed(&mut self, error: LastError, now: Instant, hosts: u32) {
        let (attempts, own) = match self {
            Self::Failing(failing) => (failing.attempts.saturating_add(1), failing.own),
            _ => (1, 0),
        };
        let (hosts, retry_at) = (hosts.max(1), now);
        let (failed_at, in_doubt, of_node) = (now, false, true);
        *self = Self::Failing(Failing { attempts, own, hosts, failed_at, retry_at, error, in_doubt, of_node });
    }

    /// No host takes logins; the last failure of one was this, then. Returns whether it is news.
    pub fn hosts_failed(&mut self, error: LastError, at: Instant, hosts: u32) -> bool {
        match self {
            Self::Failing(failing) if at <= failing.failed_at => {
                failing.attempts = failing.attempts.max(failing.hosts);
                false
            }
            _ => {
                self.node_failed(error, at, hosts);
                if let Self::Failing(failing) = self {
                    failing.attempts = failing.attempts.max(failing.hosts);
                }
                true
            }
        }
    }

    /// The node takes logins again: a failure of its is over.
    pub fn node_opened(&mut self) {
        if matches!(self, Self::Failing(failing) if failing.of_node) {
            *self = Self::Unproven;
        }
    }

    /// Whether the last login succeeded.
    pub fn is_well(&self) -> bool {
        matches!(self, Self::Well)
    }

    /// Whether what failed may be cured by now.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failing(failing) if failing.in_doubt)
    }

    /// A login succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::Well;
    }

    /// Something changed that may have cured it (settings, RESUME, a key learned): probe at once, and have clients
    /// wait for what comes of it.
    pub fn probe_now(&mut self, now: Instant) {
        if let Self::Failing(failing) = self {
            failing.retry_at = failing.retry_at.min(now);
            (failing.attempts, failing.own) = (0, 0);
            failing.in_doubt = true;
        }
    }

    /// When the next probe may start; `None` while all is well.
    pub fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Failing(failing) => Some(failing.retry_at),
            _ => None,
        }
    }

    /// The last failure.
    pub fn last_error(&self) -> Option<&LastError> {
        match self {
            Self::Failing(failing) => Some(&failing.error),
            _ => None,
        }
    }

    /// The last failure, if it is not older than `server_login_retry`, and no host of a list is left untried.
    pub fn recent_error(&self, now: Instant, login_retry: Duration) -> Option<&LastError> {
        match self {
            Self::Failing(failing) if !failing.in_doubt => {
                let recent = now.saturating_duration_since(failing.failed_at) < login_retry;
                (recent && failing.attempts >= failing.hosts).then_some(&failing.error)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(15);

    fn error(text: &str) -> LastError {
        LastError { code: SqlState::CONNECTION_FAILURE, text: text.into(), refusal: None, may_pass: true }
    }

    fn pauses(hosts: u32, count: usize) -> Vec<u128> {
        let mut health = Health::Unproven;
        let mut now = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..count {
            health.failed(error("down"), now, LONGEST, hosts);
            let retry_at = health.retry_at().expect("it failed");
            seen.push((retry_at - now).as_millis());
            now = retry_at;
        }
        seen
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_a_list_is_walked_without() {
        assert_eq!(pauses(1, 11), [50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000]);
        assert_eq!(pauses(3, 7), [0, 0, 50, 0, 0, 100, 0]);
    }

    #[test]
    fn a_list_is_hopeless_only_when_each_of_its_hosts_has_failed() {
        let now = Instant::now();
        let mut health = Health::Well;
        health.failed(error("one is down"), now, LONGEST, 2);
        assert_eq!(health.recent_error(now, LONGEST), None);
        health.failed(error("two is down"), now, LONGEST, 2);
        assert_eq!(health.recent_error(now, LONGEST).map(|error| &*error.text), Some("two is down"));
    }

    #[test]
    fn one_probes_until_a_login_succeeds() {
        let now = Instant::now();
        let mut health = Health::Unproven;
        assert_eq!(health.logins_at_once(0, now), 1);
        health.succeeded();
        assert_eq!([0, 1, 2, 3, 9].map(|connected| health.logins_at_once(connected, now)), [1, 2, 3, 4, 4]);
        health.failed(error("down"), now, LONGEST, 1);
        health.failed(error("down too"), now, LONGEST, 1);
        assert_eq!(health.logins_at_once(3, now), 0);
        assert_eq!(health.logins_at_once(3, now + FIRST_PAUSE), 1, "the second of the same burst did not count");
        assert_eq!(health.recent_error(now, LONGEST).map(|error| &*error.text), Some("down too"));
        assert_eq!(health.recent_error(now + LONGEST, LONGEST), None);
        health.probe_now(now);
        assert_eq!((health.logins_at_once(3, now), health.recent_error(now, LONGEST)), (1, None), "it may be cured");
        health.failed(error("down still"), now, LONGEST, 1);
        assert_eq!(health.recent_error(now, LONGEST).map(|error| &*error.text), Some("down still"));
    }
}
