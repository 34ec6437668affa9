//! How logins fare at each node, over all pools. While a node takes none, one connection at a time tries, whosever it
//! is, with pauses that double; what it is told is told to all who want to log in there. Pure; `super::attempts` puts a
//! lock around it.
//!
//! Invariants: at a node that is not known to take logins one attempt is under way, or few that have lasted for long, or,
//! where it is silent, one for each pool that has not tried yet; whoever was turned away is told when to look again, and woken
//! whenever an attempt there ends before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Failure, Fault};
use super::health::{FIRST_PAUSE, Health};
use super::limits::PoolId;
use crate::types::Endpoint;

/// For so long others wait for what comes of a probe, which may hang for reasons of its own user or database. Doubles with
/// each that does.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_PATIENCE: Duration = Duration::from_secs(16);

/// The last failure of a node.
#[derive(Debug, Clone)]
pub struct Outage {
    /// What happened.
    pub failure: Failure,
    /// When.
    pub at: Instant,
}

/// Who is turned away.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The node's last failure, if it had one.
    pub outage: Option<Outage>,
    /// When to ask again, if nobody wakes it before.
    pub until: Instant,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The login succeeded.
    Succeeded,
    /// It failed so; the pauses between probes are at most so long. Whose fault that is will have been decided.
    Failed(&'a mut Failure, Duration),
    /// It was given up.
    Dropped,
}

/// Tells attempts apart; grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(u64);

/// An attempt that may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    id: AttemptId,
    pool: Option<PoolId>,
    /// The node takes logins, as far as anybody knows.
    pub open: bool,
}

/// All nodes that somebody has asked for. `H` wakes a pool.
#[derive(Debug)]
pub struct Nodes<H> {
    all: HashMap<Arc<Endpoint>, Node<H>>,
    attempts: u64,
}

#[derive(Debug)]
struct Node<H> {
    health: Health,
    outage: Option<Outage>,
    /// Attempts of before this one began before the last failure: that they succeed tells nothing.
    since: u64,
    probe: Option<Probe>,
    /// How long others wait for the next probe, if this one hangs.
    next_patience: Duration,
    /// The pools to which a node has been silent since the last success. Perhaps it is only a database of it that hangs.
    silent_to: Vec<PoolId>,
    last_prober: Option<PoolId>,
    queue: Vec<(PoolId, H)>,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: AttemptId,
    pool: Option<PoolId>,
    patient_until: Instant,
}

impl<H> Default for Nodes<H> {
    fn default() -> Self {
        Self { all: HashMap::new(), attempts: 0 }
    }
}

impl<H> Default for Node<H> {
    fn default() -> Self {
        Self {
            health: Health::Unproven,
            outage: None,
            since: 0,
            probe: None,
            next_patience: FIRST_PATIENCE,
            silent_to: Vec::new(),
            last_prober: None,
            queue: Vec::new(),
        }
    }
}

impl<H> Nodes<H> {
    /// A pool wants to log in at a node. Who `hurries` does not wait for the pause to end, but for a probe all the same.
    ///
    /// # Errors
    /// The node takes no logins, or nobody knows yet, and somebody else tries or nobody may yet.
    pub fn ask(
        &mut self,
        node: &Arc<Endpoint>,
        pool: PoolId,
        handle: H,
        hurries: bool,
        now: Instant,
    ) -> Result<Begun, Closed> {
        let known = self.all.entry(Arc::clone(node)).or_default();
        known.queue.retain(|(queued, _)| *queued != pool);
        known.loses_patience(now);
        if let Some(until) = known.closed_until(Some(pool), hurries, now) {
            known.queue.push((pool, handle));
            return Err(Closed { outage: known.outage.clone(), until });
        }
        Ok(known.begin(Some(pool), &mut self.attempts, now))
    }

    /// Somebody wants to log in who does not wait, nor has others wait for an attempt at a node that nobody knows.
    ///
    /// # Errors
    /// The node takes no logins.
    pub fn ask_at_once(&mut self, node: &Arc<Endpoint>, now: Instant) -> Result<Begun, Outage> {
        let known = self.all.entry(Arc::clone(node)).or_default();
        match &known.outage {
            Some(outage) if known.closed_until(None, false, now).is_some() => Err(outage.clone()),
            Some(_) => Ok(known.begin(None, &mut self.attempts, now)),
            None => Ok(Begun { id: next(&mut self.attempts), pool: None, open: true }),
        }
    }

    /// An attempt has ended. Those who are returned should ask again.
    #[must_use]
    pub fn ended(&mut self, node: &Endpoint, attempt: Begun, outcome: Outcome<'_>, now: Instant) -> Vec<H> {
        let Some(known) = self.all.get_mut(node) else { return Vec::new() };
        let probed = known.probe.is_some_and(|probe| probe.id == attempt.id);
        if probed {
            known.probe = None;
        }
        let news = match outcome {
            Outcome::Succeeded => known.succeeded(attempt.id),
            Outcome::Failed(failure, longest_pause) => {
                if failure.fault() == Fault::Unclear {
                    known.silent(failure, attempt, self.attempts, longest_pause, now)
                } else {
                    known.failed(failure, self.attempts, longest_pause, now) || known.answered(failure)
                }
            }
            Outcome::Dropped => false,
        };
        if news || probed { known.queue.drain(..).map(|(_, handle)| handle).collect() } else { Vec::new() }
    }

    /// Forgets the nodes that nobody is to connect to any more. Those who are returned should ask again, elsewhere.
    #[must_use]
    pub fn retain(&mut self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<H> {
        let gone = self.all.extract_if(|node, _| !wanted(node));
        gone.flat_map(|(_, known)| known.queue).map(|(_, handle)| handle).collect()
    }
}

impl<H> Node<H> {
    /// `None`: an attempt may begin now.
    fn closed_until(&self, pool: Option<PoolId>, hurries: bool, now: Instant) -> Option<Instant> {
        if self.health.is_well() || self.is_unheard(pool) {
            return None;
        }
        if let Some(probe) = self.probe
            && now < probe.patient_until
        {
            return Some(probe.patient_until);
        }
        let pause_ends = self.health.retry_at().filter(|_| !hurries)?;
        // Who has tried last lets another go first: what it suffers may be its own user's fault.
        let others = pool.is_some() && pool == self.last_prober && !self.queue.is_empty();
        let until = if others { pause_ends + FIRST_PAUSE } else { pause_ends };
        (now < until).then_some(until)
    }

    /// The node is silent to others, and this pool has not tried yet.
    fn is_unheard(&self, pool: Option<PoolId>) -> bool {
        self.is_in_doubt() && pool.is_none_or(|pool| !self.silent_to.contains(&pool))
    }

    /// The node is silent to some. Of that nobody else is told.
    fn is_in_doubt(&self) -> bool {
        matches!(self.health, Health::Unproven) && !self.silent_to.is_empty()
    }

    /// A probe of a node of which nothing is known, and that is silent, is not waited for by those who have not tried yet.
    fn loses_patience(&mut self, now: Instant) {
        if let (Health::Unproven, Some(probe)) = (&self.health, self.probe)
            && now >= probe.patient_until
        {
            self.was_silent_to(probe.pool);
        }
    }

    fn was_silent_to(&mut self, pool: Option<PoolId>) {
        self.silent_to.extend(pool.filter(|pool| !self.silent_to.contains(pool)));
    }

    fn begin(&mut self, pool: Option<PoolId>, attempts: &mut u64, now: Instant) -> Begun {
        let (id, open) = (next(attempts), self.health.is_well() || self.is_unheard(pool));
        if !open {
            let patience = if self.probe.is_some() { self.next_patience } else { FIRST_PATIENCE };
            self.next_patience = (patience * 2).min(LONGEST_PATIENCE);
            self.probe = Some(Probe { id, pool, patient_until: now + patience });
            self.last_prober = pool;
        }
        Begun { id, pool, open }
    }

    /// Returns whether this is news.
    fn succeeded(&mut self, attempt: AttemptId) -> bool {
        self.silent_to.clear();
        if self.health.is_well() || attempt.0 <= self.since {
            return false;
        }
        self.set_well();
        true
    }

    fn set_well(&mut self) {
        self.health.succeeded();
        (self.outage, self.last_prober) = (None, None);
        self.silent_to.clear();
    }

    /// It was silent for too long. One user's login may take long for reasons of its own, and so may all those to one
    /// database: only of a node that is known to be down no pool makes anything of it. Decides whose fault it is, that is,
    /// whether the pool makes a pause of its own. Returns whether this is news for others.
    fn silent(
        &mut self,
        failure: &mut Failure,
        attempt: Begun,
        attempts: u64,
        longest: Duration,
        now: Instant,
    ) -> bool {
        failure.set_fault(if self.health.is_well() { Fault::Login } else { Fault::Node });
        if matches!(self.health, Health::Failing(_)) {
            return self.failed(failure, attempts, longest, now);
        }
        self.was_silent_to(attempt.pool);
        if self.silent_to.len() > 1 {
            self.health = Health::Unproven;
        }
        false
    }

    /// The same as [`Self::succeeded`] of a failure that is the node's.
    fn failed(&mut self, failure: &Failure, attempts: u64, longest_pause: Duration, now: Instant) -> bool {
        if failure.fault() != Fault::Node {
            return false;
        }
        self.health.failed(failure.error(), now, longest_pause, 1);
        self.outage = Some(Outage { failure: failure.clone(), at: now });
        self.since = attempts;
        self.silent_to.clear();
        true
    }

    /// The same of a refusal that only this user or database suffers. Of a node that was full, say, it proves nothing.
    fn answered(&mut self, failure: &Failure) -> bool {
        let first = failure.fault() == Fault::Login && matches!(self.health, Health::Unproven);
        if first {
            self.set_well();
        }
        first
    }
}

fn next(attempts: &mut u64) -> AttemptId {
    *attempts += 1;
    AttemptId(*attempts)
}

#[cfg(test)]
mod tests;
