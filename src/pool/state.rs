//! One pool as a machine: servers at rest, clients in a queue, limits, a gate. Events go in, actions come out; what
//! it says happens elsewhere. Knows no socket, no clock, no task.
//!
//! Invariants: no client is in the queue while a server that may be handed out rests; who came first is served
//! first; a server is with one owner at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::error::{AcquireError, WaitCause};
use super::failure::{Failure, Fault};
use super::gate::Gate;
use super::health::{Health, LastError};
use super::places::{Busy, Facts, Places, Slot};
use super::upkeep::{self, Ages};
use crate::config::model::{CheckQuery, PoolSettings};
use crate::telemetry::events::pool::CloseReason;

mod orders;
mod plan;
mod view;

pub use plan::Wants;

/// What is to be done. `S` stands for a server, `W` for a waiting client.
#[derive(Debug)]
pub enum Action<S, W> {
    /// The server is the client's now.
    Hand {
        /// Its place.
        slot: Slot,
        /// The server.
        server: S,
        /// The client.
        waiter: W,
    },
    /// Run the check query on the server, then say `returned` or `gone`.
    Check {
        /// Its place.
        slot: Slot,
        /// The server.
        server: S,
    },
    /// The server is no longer of the pool.
    Close {
        /// Its place, free from now on.
        slot: Slot,
        /// The server.
        server: S,
        /// Why.
        reason: CloseReason,
    },
    /// The client gets an error.
    Refuse {
        /// The client.
        waiter: W,
        /// What it reads.
        error: AcquireError,
    },
}

/// What one event asks for. Two fit without an allocation.
pub type Actions<S, W> = SmallVec<[Action<S, W>; 2]>;

/// Why a pool takes nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The database was removed from the configuration.
    DatabaseRemoved,
    /// The database is reached by another pool now.
    DatabaseChanged,
    /// The pooler ends.
    ShuttingDown,
}

impl End {
    fn error(self) -> AcquireError {
        match self {
            Self::DatabaseRemoved => AcquireError::DatabaseRemoved,
            Self::DatabaseChanged => AcquireError::DatabaseChanged,
            Self::ShuttingDown => AcquireError::ShuttingDown,
        }
    }

    fn reason(self) -> CloseReason {
        match self {
            Self::DatabaseRemoved => CloseReason::DatabaseRemoved,
            Self::DatabaseChanged => CloseReason::Obsolete,
            Self::ShuttingDown => CloseReason::ShuttingDown,
        }
    }
}

/// What a server is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A request, which is better refused than kept waiting where there is none.
    Request,
    /// A client's login, which waits until there is one, unless servers refuse it for good.
    Login,
}

/// A place in the queue. Grows with each client that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    since: Instant,
    purpose: Purpose,
    handle: W,
}

/// The machine.
#[derive(Debug)]
pub struct PoolState<S, W> {
    places: Places<S>,
    waiters: VecDeque<Waiter<W>>,
    next_ticket: u64,
    settings: Arc<PoolSettings>,
    /// `None`: servers at rest need no check.
    fresh_for: Option<Duration>,
    gate: Gate,
    end: Option<End>,
    generation: u64,
    /// Servers of before this generation were killed.
    killed: u64,
    health: Health,
    ages: Ages,
    /// How many hosts the database has.
    hosts: u32,
    /// The database has a forced user, or the pool a client: `min_pool_size` holds.
    wanted: bool,
    /// A client was refused because logins fail, or somebody else asks after them: try one, so that the next client may
    /// have more luck.
    probe_asked: bool,
    /// Servers to close when they are given back, because other pools starve.
    yields: u32,
    /// When it last did so.
    yielded_at: Option<Instant>,
    /// Servers that other pools can't have yet, and until when; the first is over first.
    staying: VecDeque<(Slot, Instant)>,
    /// The setting that keeps the pool from opening more, if one does.
    limited_by: Option<&'static str>,
    /// No host takes logins: when to ask again.
    shut_out_until: Option<Instant>,
}

impl<S, W> PoolState<S, W> {
    /// Whether the last login failed.
    pub fn is_failing(&self) -> bool {
        self.health.last_error().is_some()
    }

    /// An empty pool.
    pub fn new(settings: Arc<PoolSettings>, hosts: u32) -> Self {
        Self {
            places: Places::default(),
            waiters: VecDeque::new(),
            next_ticket: 0,
            fresh_for: fresh_for(&settings),
            settings,
            gate: Gate::default(),
            end: None,
            generation: 0,
            killed: 0,
            health: Health::Unproven,
            ages: Ages::default(),
            hosts,
            wanted: false,
            probe_asked: false,
            yields: 0,
            yielded_at: None,
            staying: VecDeque::new(),
            limited_by: None,
            shut_out_until: None,
        }
    }

    /// A server at once, if one rests and nobody waits. The hot path.
    pub fn take(&mut self, now: Instant) -> Option<(Slot, S)> {
        if !self.waiters.is_empty() || !self.gives() {
            return None;
        }
        self.places.lend(self.settings.server_round_robin, self.fresh_for, now)
    }

    fn gives(&self) -> bool {
        self.gate.is_open() && self.end.is_none()
    }

    /// A client comes to wait.
    ///
    /// # Errors
    /// When waiting is of no use: the pool has ended, or its logins fail and it has no server at all.
    pub fn came(
        &mut self,
        handle: W,
        purpose: Purpose,
        now: Instant,
        out: &mut Actions<S, W>,
    ) -> Result<Ticket, AcquireError> {
        if let Some(end) = self.end {
            return Err(end.error());
        }
        let hopeless = self.hopeless(now);
        if let Some(cached) = hopeless.filter(|cached| purpose == Purpose::Request || !cached.may_pass) {
            self.probe_asked = true;
            return Err(AcquireError::LoginFailing { code: cached.code, cached: cached.text });
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiters.push_back(Waiter { ticket, since: now, purpose, handle });
        self.serve(now, out);
        Ok(ticket)
    }

    /// PgBouncer's rule for requests: no server at all, and the last login failed a moment ago. A closed gate makes everybody
    /// wait.
    fn hopeless(&self, now: Instant) -> Option<LastError> {
        if !self.gate.is_open() || self.places.counts().connected() > 0 {
            return None;
        }
        self.health.recent_error(now, self.settings.server_login_retry).cloned()
    }

    /// A client leaves the queue. `None`: it was served or refused before.
    pub fn left(&mut self, ticket: Ticket) -> Option<W> {
        let at = self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        self.waiters.remove(at).map(|waiter| waiter.handle)
    }

    /// A login begins, as [`Self::wants`] asked for.
    pub fn begin_login(&mut self) -> Slot {
        self.probe_asked = false;
        self.shut_out_until = None;
        self.places.begin_login(self.generation)
    }

    /// A login succeeded.
    pub fn opened(&mut self, slot: Slot, server: S, now: Instant, out: &mut Actions<S, W>) {
        let Some(generation) = self.places.logged_in(slot, now) else { return };
        self.staying.extend(self.places.busy(slot).map(|(_, facts)| (slot, facts.stays_until())));
        if generation == self.generation {
            self.health.succeeded();
            self.probe_asked = false;
        }
        match self.misfit(generation) {
            Some(reason) => self.close(slot, server, reason, now, out),
            None => self.hand_or_rest(slot, server, true, now, out),
        }
    }

    /// A login failed. When the server has said no and there is no other server, all who wait are told its words, but
    /// for logins where it only is full.
    pub fn failed(&mut self, slot: Slot, failure: &Failure, now: Instant, out: &mut Actions<S, W>) {
        self.places.remove(slot);
        match failure.fault() {
            Fault::Node => self.health.node_failed(failure.error(), now, self.hosts),
            Fault::Unclear | Fault::Login => {
                self.health.failed(failure.error(), now, self.settings.server_login_retry, self.hosts);
            }
        }
        self.tell(failure, out);
        self.serve(now, out);
    }

    /// No host takes logins now, or others are just finding out. `outage`: the last failure of one, and when it was.
    pub fn shut_out(&mut self, outage: Option<(&Failure, Instant)>, until: Option<Instant>, out: &mut Actions<S, W>) {
        self.shut_out_until = until;
        if let Some((failure, at)) = outage
            && self.health.hosts_failed(failure.error(), at, self.hosts)
        {
            self.tell(failure, out);
        }
    }

    /// The node that a login begins at takes logins, as far as anybody knows.
    pub fn node_opened(&mut self) {
        self.health.node_opened();
    }

    /// Whether a login need not wait for a pause to be over.
    pub fn hurries(&self) -> bool {
        self.health.is_in_doubt()
    }

    fn tell(&mut self, failure: &Failure, out: &mut Actions<S, W>) {
        if let Failure::Refused { reply, retry: false, .. } = failure
            && self.places.counts().connected() == 0
        {
            self.refuse(&AcquireError::Refused(reply.clone()), failure.is_full(), out);
        }
    }

    /// A login was given up without having failed: its server is no longer wanted.
    pub fn login_dropped(&mut self, slot: Slot, now: Instant, out: &mut Actions<S, W>) {
        self.places.remove(slot);
        self.serve(now, out);
    }

    /// A server is given back, ready for the next client.
    pub fn returned(&mut self, slot: Slot, server: S, now: Instant, out: &mut Actions<S, W>) {
        let Some((busy, facts)) = self.places.busy(slot) else { return };
        match self.unfit(&facts, now) {
            Some(reason) => self.close(slot, server, reason, now, out),
            // With a delay of zero only a server that was just checked may be handed on.
            None => self.hand_or_rest(slot, server, busy == Busy::Tested, now, out),
        }
    }

    fn hand_or_rest(&mut self, slot: Slot, server: S, checked: bool, now: Instant, out: &mut Actions<S, W>) {
        let may_hand = self.gives() && (checked || self.fresh_for != Some(Duration::ZERO));
        if may_hand && let Some(waiter) = self.waiters.pop_front() {
            self.places.turn(slot, Busy::Active, now);
            out.push(Action::Hand { slot, server, waiter: waiter.handle });
            return;
        }
        self.places.rest(slot, server, now);
        if !self.waiters.is_empty() {
            self.serve(now, out);
        }
    }

    /// Why a server that comes back must not stay.
    fn unfit(&mut self, facts: &Facts, now: Instant) -> Option<CloseReason> {
        if let Some(reason) = self.misfit(facts.generation) {
            return Some(reason);
        }
        if self.ages.is_over(facts, &self.settings, now) {
            return Some(CloseReason::LifetimeOver);
        }
        if self.yields > 0 && facts.has_stayed(now) {
            self.yields -= 1;
            self.yielded_at = Some(now);
            return Some(CloseReason::Evicted);
        }
        None
    }

    /// Why a server does not belong here, old or new.
    fn misfit(&self, generation: u64) -> Option<CloseReason> {
        if let Some(end) = self.end {
            Some(end.reason())
        } else if generation < self.killed {
            Some(CloseReason::DatabaseRemoved)
        } else if generation != self.generation {
            Some(CloseReason::Obsolete)
        } else if self.gate.is_paused() {
            Some(CloseReason::PauseMode)
        } else if self.places.counts().total() > self.largest() {
            Some(CloseReason::OverSize)
        } else {
            None
        }
    }

    fn largest(&self) -> u32 {
        self.settings.pool_size.saturating_add(self.settings.reserve_pool_size)
    }

    /// Closes a busy server. Somebody may have counted on it: another is checked in its stead.
    fn close(&mut self, slot: Slot, server: S, reason: CloseReason, now: Instant, out: &mut Actions<S, W>) {
        self.places.remove(slot);
        out.push(Action::Close { slot, server, reason });
        self.serve(now, out);
    }

    /// A busy server was closed by the one who had it, or failed its check.
    pub fn gone(&mut self, slot: Slot, now: Instant, out: &mut Actions<S, W>) {
        self.places.remove(slot);
        self.serve(now, out);
    }

    /// A busy server is being tested or canceled from now on, instead of used.
    pub fn turn(&mut self, slot: Slot, to: Busy, now: Instant) {
        self.places.turn(slot, to, now);
    }

    /// Hands servers at rest to those who wait, and has stale ones checked for the others.
    fn serve(&mut self, now: Instant, out: &mut Actions<S, W>) {
        if !self.gives() {
            return;
        }
        while !self.waiters.is_empty() {
            let Some((slot, server)) = self.places.lend(self.settings.server_round_robin, self.fresh_for, now) else {
                break;
            };
            let Some(waiter) = self.waiters.pop_front() else { break };
            out.push(Action::Hand { slot, server, waiter: waiter.handle });
        }
        while self.unprovided(now) > 0 {
            let Some((slot, server)) = self.places.test(now) else { break };
            out.push(Action::Check { slot, server });
        }
    }

    fn refuse_all(&mut self, error: &AcquireError, out: &mut Actions<S, W>) {
        self.refuse(error, false, out);
    }

    /// Refuses all who wait, but for logins where these are spared.
    fn refuse(&mut self, error: &AcquireError, spares_logins: bool, out: &mut Actions<S, W>) {
        for waiter in std::mem::take(&mut self.waiters) {
            if spares_logins && waiter.purpose == Purpose::Login {
                self.waiters.push_back(waiter);
            } else {
                out.push(Action::Refuse { waiter: waiter.handle, error: error.clone() });
            }
        }
    }

    fn close_resting(&mut self, reason: CloseReason, out: &mut Actions<S, W>) {
        let resting: Vec<Slot> = self.places.resting().map(|server| server.slot).collect();
        for slot in resting {
            self.close_one(slot, reason, out);
        }
    }

    /// Closes a server if it rests.
    fn close_one(&mut self, slot: Slot, reason: CloseReason, out: &mut Actions<S, W>) -> bool {
        if self.places.resting_mut(slot).is_none() {
            return false;
        }
        out.extend(self.places.remove(slot).map(|server| Action::Close { slot, server, reason }));
        true
    }

    /// What has come due: clients that waited too long, servers that are too old.
    pub fn on_time(&mut self, now: Instant, out: &mut Actions<S, W>) {
        self.expire_waiters(now, out);
        let connected = self.places.counts().connected();
        let closings = upkeep::closings(self.places.resting(), connected, &self.settings, &mut self.ages, now);
        for (slot, reason) in closings {
            self.close_one(slot, reason, out);
        }
        if !self.waiters.is_empty() {
            self.serve(now, out);
        }
    }

    fn expire_waiters(&mut self, now: Instant, out: &mut Actions<S, W>) {
        let Some(timeout) = self.settings.query_wait_timeout else { return };
        while let Some(first) = self.waiters.front() {
            let waited = now.saturating_duration_since(first.since);
            if waited < timeout {
                break;
            }
            let cause = self.wait_cause();
            let Some(waiter) = self.waiters.pop_front() else { break };
            out.push(Action::Refuse { waiter: waiter.handle, error: AcquireError::TimedOut { waited, cause } });
        }
    }

    /// What a client that came now would wait for.
    pub fn wait_cause(&self) -> WaitCause {
        let counts = self.places.counts();
        if !self.gate.is_open() {
            WaitCause::Paused
        } else if let (0, Some(error)) = (counts.connected(), self.health.last_error()) {
            match &error.refusal {
                Some(reply) => WaitCause::Refused(reply.clone()),
                None => WaitCause::Unreachable(error.text.clone()),
            }
        } else if let Some(setting) = self.limited_by {
            WaitCause::Limited(setting)
        } else {
            WaitCause::AllBusy { servers: counts.connected() }
        }
    }
}

fn fresh_for(settings: &PoolSettings) -> Option<Duration> {
    match settings.server_check_query {
        CheckQuery::Off => None,
        CheckQuery::Empty | CheckQuery::Text(_) => Some(settings.server_check_delay),
    }
}

#[cfg(test)]
mod tests;
