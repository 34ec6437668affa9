//! What is said of logins that fail: each cause at once, and then once a minute how often it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::events::pool::Complaint;
use crate::types::Endpoint;

/// How often a cause that lasts is told.
const EVERY: Duration = Duration::from_secs(60);
/// Of how many hosts what was told last is known; a longer list is told more often.
const HOSTS_MAX: usize = 32;

/// What was told last of each host of a pool, until a login succeeds there.
#[derive(Debug, Default)]
pub struct Complaints(Vec<Told>);

#[derive(Debug)]
struct Told {
    host: Arc<Endpoint>,
    text: Box<str>,
    at: Instant,
    untold: u64,
}

impl Complaints {
    /// A login has failed so: what is to be said of it.
    pub fn failed(&mut self, host: &Arc<Endpoint>, text: &str, now: Instant) -> Complaint {
        let known = self.0.iter_mut().find(|told| told.host == *host);
        match known {
            Some(told) if *told.text == *text => {
                told.untold += 1;
                if now.saturating_duration_since(told.at) < EVERY {
                    return Complaint::Silent;
                }
                told.at = now;
                Complaint::Again(std::mem::take(&mut told.untold))
            }
            known => {
                let news = Told { host: Arc::clone(host), text: text.into(), at: now, untold: 0 };
                match known {
                    Some(told) => *told = news,
                    None => {
                        if self.0.len() >= HOSTS_MAX {
                            self.0.remove(0);
                        }
                        self.0.push(news);
                    }
                }
                Complaint::New
            }
        }
    }

    /// A login has succeeded: the next failure is news.
    pub fn succeeded(&mut self, host: &Endpoint) {
        self.0.retain(|told| *told.host != *host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Host;

    fn host(port: u16) -> Arc<Endpoint> {
        Arc::new(Endpoint { host: Host::Name("db".into()), port })
    }

    #[test]
    fn a_cause_is_told_when_it_changes_and_then_once_a_minute() {
        let (mut complaints, begun, host) = (Complaints::default(), Instant::now(), host(1));
        let mut at = |seconds, text: &str| complaints.failed(&host, text, begun + Duration::from_secs(seconds));
        assert_eq!(at(0, "refused"), Complaint::New);
        assert_eq!([at(1, "refused"), at(59, "refused")], [Complaint::Silent; 2]);
        assert_eq!(at(60, "refused"), Complaint::Again(3));
        assert_eq!(at(119, "refused"), Complaint::Silent);
        assert_eq!(at(120, "refused"), Complaint::Again(2));
        assert_eq!(at(121, "starting up"), Complaint::New);
        assert_eq!(at(122, "refused"), Complaint::New);
    }

    #[test]
    fn hosts_of_a_list_and_a_server_that_came_back_are_told_by_themselves() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        for port in 1..=3 {
            assert_eq!(complaints.failed(&host(port), "refused", now), Complaint::New, "{port}");
            assert_eq!(complaints.failed(&host(port), "refused", now), Complaint::Silent, "{port}");
        }
        complaints.succeeded(&host(2));
        assert_eq!(complaints.failed(&host(2), "refused", now), Complaint::New);
        assert_eq!(complaints.failed(&host(1), "refused", now), Complaint::Silent);
        (10..100).for_each(|port| assert_eq!(complaints.failed(&host(port), "refused", now), Complaint::New));
        assert_eq!(complaints.0.len(), HOSTS_MAX);
    }
}
