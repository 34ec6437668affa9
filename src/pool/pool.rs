//! The servers of one (database, user): the machine of [`super::state`] behind one short lock, and the carrying out
//! of what it says. Logins and checks are the keeper's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::sync::{Notify, watch};

use super::acquire::{self, Acquire, Seat};
use super::complaints::Complaints;
use super::connector::Turns;
use super::error::AcquireError;
use super::gate::HoldReason;
use super::lease::Lease;
use super::limits::PoolId;
use super::permits::Permits;
use super::pinned::Pinned;
use super::places::{Busy, Slot};
use super::settled::Settled;
use super::state::{Action, Actions, End, PoolState, Purpose, Ticket};
use super::stats::{Tally, Totals};
use super::{janitor, now};
use crate::config::model::{Database, PoolSettings};
use crate::server::Server;
use crate::server::login::Credential;
use crate::server::simple::{self, SimpleError};
use crate::telemetry::events::pool::{self as events, CloseReason};
use crate::types::time::whole_micros;
use crate::types::{ClientId, PoolKey};
use crate::wire::error::ClientError;
use crate::wire::params::ParamSet;

mod beside;
mod inner;
mod logins;
mod presence;
mod show;

pub(super) use inner::{Asks, Inner, Record, Shared, Target};
pub use presence::{CancelPresence, ClientPresence};

pub(super) type Machine = PoolState<Box<Server>, Arc<Seat>>;
pub(super) type Deeds = Actions<Box<Server>, Arc<Seat>>;
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that was not lent for so long is looked at before it is lent again: it may have hung up.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// The servers of one (database, user).
#[derive(Debug)]
pub struct Pool {
    id: PoolId,
    key: PoolKey,
    inner: Mutex<Inner>,
    settings: ArcSwap<PoolSettings>,
    /// As in the machine; [`ENDED`] once the pool has ended.
    generation: AtomicU64,
    clients: AtomicU32,
    /// Cancel requests on their way to one of its servers.
    cancels: AtomicU32,
    /// Since when it has neither clients nor servers, as seen at the last look.
    deserted_since: Mutex<Option<Instant>>,
    /// Wakes the keeper.
    wake: Arc<Notify>,
    /// Connections beside its servers, each with its generation.
    guests: Mutex<SmallVec<[u64; 2]>>,
    /// Tells those who keep them that its standing has changed.
    changes: watch::Sender<()>,
    permits: Arc<Permits>,
    settled: Arc<Settled>,
    /// Two clocks at one moment; the second in microseconds since the Unix epoch.
    born: (Instant, u64),
    /// `server_reset_query_always`, where it is asked for after every transaction.
    resets_always: AtomicBool,
    /// A client has asked for the last number of a sequence.
    asks_numbers: AtomicBool,
    pub(super) pinned: Arc<Pinned>,
}

/// No server is of this generation.
const ENDED: u64 = u64::MAX;

impl Pool {
    pub(super) fn new(
        id: PoolId,
        key: PoolKey,
        target: Target,
        settings: PoolSettings,
        shared: Shared,
        holds: &[HoldReason],
    ) -> Arc<Self> {
        let settings = Arc::new(settings);
        let hosts = host_count(&target.database);
        let mut state = PoolState::new(settings.clone(), hosts);
        state.set_wanted(target.database.forced_user.is_some());
        holds.iter().for_each(|reason| state.hold(*reason, &mut Deeds::new()));
        let inner = Inner {
            state,
            records: Vec::new(),
            totals: Totals::default(),
            target,
            turns: Turns::default(),
            complaints: Complaints::default(),
            welcome: None,
            jobs: Vec::new(),
            keeper_wakes: None,
            keeper_asks: Asks::Nobody,
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(Self {
            id,
            key,
            inner: Mutex::new(inner),
            resets_always: AtomicBool::new(settings.server_reset_query_always),
            asks_numbers: AtomicBool::new(false),
            pinned: Arc::new(Pinned::new(settings.max_pinned_servers)),
            settings: ArcSwap::new(settings),
            generation: AtomicU64::new(0),
            clients: AtomicU32::new(0),
            cancels: AtomicU32::new(0),
            deserted_since: Mutex::new(None),
            wake: Arc::default(),
            guests: Mutex::default(),
            changes: watch::Sender::new(()),
            permits: shared.permits,
            settled: shared.settled,
            born: (now(), whole_micros(wall)),
        })
    }

    /// Makes it take nobody before anybody came.
    pub(super) fn end_unborn(self: &Arc<Self>, end: End) {
        self.event(now(), |inner, deeds| inner.state.end(end, deeds));
    }

    /// Which pool.
    pub fn key(&self) -> &PoolKey {
        &self.key
    }

    /// What holds for it and its clients now.
    pub fn settings(&self) -> Arc<PoolSettings> {
        self.settings.load_full()
    }

    /// What servers of its database run when they have logged in.
    pub fn connect_query(&self) -> Option<String> {
        self.lock().target.database.connect_query.clone()
    }

    /// Whether servers are reset after every transaction (`server_reset_query_always`).
    pub fn resets_always(&self) -> bool {
        self.resets_always.load(Ordering::Relaxed)
    }

    /// A server at once: one rests, nobody waits, nothing holds it back. One lock, no allocation.
    pub fn try_acquire(self: &Arc<Self>, client: ClientId, now: Instant) -> Option<Lease> {
        loop {
            let taken = self.inner.lock().state.take(now);
            let (slot, server) = taken?;
            let mut lease = Lease::new(self.clone(), slot, server);
            let at_us = self.micros_since_epoch(now);
            if was_just_used(&lease, at_us) || simple::is_alive(&mut lease) {
                lease.shared.lent_to(client.0, at_us);
                return Some(lease);
            }
            lease.discard(CloseReason::HungUp, &mut Tally::default());
        }
    }

    /// A server as soon as one can be had. The client's place in the queue counts from this call.
    pub fn acquire(self: &Arc<Self>, client: ClientId, now: Instant) -> Acquire {
        self.acquire_for(Purpose::Request, client, now)
    }

    /// The same for this purpose.
    pub fn acquire_for(self: &Arc<Self>, purpose: Purpose, client: ClientId, now: Instant) -> Acquire {
        if let Some(lease) = self.try_acquire(client, now) {
            return Acquire::decided(self.clone(), Ok(lease));
        }
        let seat = Seat::new(client);
        let mut deeds = Deeds::new();
        let mut inner = self.inner.lock();
        let came = inner.state.came(seat.clone(), purpose, now, &mut deeds);
        self.settle(inner, deeds, now);
        match came {
            Ok(ticket) => Acquire::queued(self.clone(), ticket, seat),
            Err(error) => {
                self.report_refusal(&error);
                Acquire::decided(self.clone(), Err(error))
            }
        }
    }

    pub(super) fn leave_queue(self: &Arc<Self>, ticket: Ticket) {
        let mut inner = self.inner.lock();
        let left = inner.state.left(ticket);
        if left.is_some() && inner.keeper_asks.is_queued() {
            self.settle(inner, Deeds::new(), now());
        }
    }

    /// Adds what a session did to the database's totals, and zeroes it.
    pub fn tally(&self, tally: &mut Tally) {
        self.inner.lock().totals.take(tally);
    }

    /// The parameters that the newest login reported, as a new client is to be told them.
    pub fn welcome(&self) -> Option<ParamSet> {
        self.inner.lock().welcome.clone()
    }

    /// A client has just proved who it is: what it proved opens the pool's servers from now on.
    pub fn learn(self: &Arc<Self>, credential: Credential) {
        let now = now();
        let mut inner = self.inner.lock();
        if !inner.target.improves(&credential) {
            return;
        }
        inner.target.credential = credential;
        inner.state.probe_now(now);
        self.settle(inner, Deeds::new(), now);
    }

    /// The user list has another secret than before.
    pub(super) fn replace_credential(self: &Arc<Self>, credential: Credential) {
        let now = now();
        let mut inner = self.inner.lock();
        if inner.target.database.forced_password.is_none() {
            inner.target.credential = credential;
            inner.state.probe_now(now);
            self.settle(inner, Deeds::new(), now);
        }
    }

    /// A client is about to log in; it is one of the pool's until the guard is dropped.
    pub fn client_came(self: &Arc<Self>) -> ClientPresence {
        let mut inner = self.inner.lock();
        if self.clients.fetch_add(1, Ordering::Relaxed) == 0 {
            inner.state.set_wanted(true);
            self.settle(inner, Deeds::new(), now());
        }
        ClientPresence { pool: self.clone() }
    }

    fn client_logged_in(&self) {
        self.inner.lock().totals.client_logins += 1;
    }

    fn client_left(&self) {
        let mut inner = self.inner.lock();
        if self.clients.fetch_sub(1, Ordering::Relaxed) == 1 {
            let forced = inner.target.database.forced_user.is_some();
            inner.state.set_wanted(forced);
        }
    }

    /// A cancel request for one of its servers is being sent until the guard is dropped; for SHOW POOLS.
    pub fn cancel_sent(self: &Arc<Self>) -> CancelPresence {
        self.cancels.fetch_add(1, Ordering::Relaxed);
        CancelPresence { pool: self.clone() }
    }

    /// Whether the last login succeeded; `None` before the first.
    pub fn is_reachable(&self) -> Option<bool> {
        let inner = self.inner.lock();
        if inner.state.is_failing() { Some(false) } else { inner.welcome.as_ref().map(|_| true) }
    }

    /// If the last login failed, tries another as soon as one may be tried.
    pub fn ask_probe(self: &Arc<Self>) {
        let mut inner = self.inner.lock();
        if inner.state.is_failing() {
            inner.state.ask_probe();
            self.settle(inner, Deeds::new(), now());
        }
    }

    /// How many clients are in the pool.
    pub fn clients(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    /// How many clients wait for a server.
    pub fn waiting(&self) -> u32 {
        self.inner.lock().state.waiting()
    }

    /// Servers of this generation stay.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn id(&self) -> PoolId {
        self.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    pub(super) fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// Microseconds since the Unix epoch, by the clock that `now` is of.
    pub(super) fn micros_since_epoch(&self, now: Instant) -> u64 {
        let (then, wall_us) = self.born;
        wall_us + whole_micros(now.saturating_duration_since(then))
    }

    /// A server comes back. The other half of the hot path.
    pub(super) fn give_back(self: &Arc<Self>, slot: Slot, server: Box<Server>, now: Instant, tally: &mut Tally) {
        let mut deeds = Deeds::new();
        let mut inner = self.inner.lock();
        inner.totals.take(tally);
        inner.state.returned(slot, server, now, &mut deeds);
        if !deeds.is_empty() {
            self.settle(inner, deeds, now);
        } else if self.permits.hungry() {
            let claim = inner.spared(slot, now);
            drop(inner);
            if let Some(claim) = claim {
                self.permits.rested(&claim);
            }
        }
    }

    /// A lent server is no more. `failure`: what it should have done and did not.
    pub(super) fn gone(
        self: &Arc<Self>,
        slot: Slot,
        server: Box<Server>,
        reason: CloseReason,
        failure: Option<&SimpleError>,
    ) {
        // Its place is free only after the connection is closed.
        self.close(server, reason, failure);
        let now = now();
        let mut deeds = Deeds::new();
        let mut inner = self.inner.lock();
        let record = inner.take(slot);
        inner.state.gone(slot, now, &mut deeds);
        self.settle(inner, deeds, now);
        drop(record);
        self.settled.tell();
    }

    /// Other settings or another way to connect hold from now on. Servers of another target are closed as they rest.
    pub(super) fn apply(self: &Arc<Self>, settings: PoolSettings, target: Option<Target>) {
        let settings = Arc::new(settings);
        self.settings.store(settings.clone());
        self.resets_always.store(settings.server_reset_query_always, Ordering::Relaxed);
        self.pinned.allow(settings.max_pinned_servers);
        let now = now();
        self.order(now, |inner, deeds| {
            if let Some(target) = target {
                inner.target = target;
                inner.welcome = None;
                inner.state.raise_generation(now, deeds);
            }
            let hosts = host_count(&inner.target.database);
            inner.state.set_settings(settings, hosts, now, deeds);
        });
    }

    pub(super) fn turn(&self, slot: Slot, to: Busy, now: Instant) {
        self.inner.lock().state.turn(slot, to, now);
    }

    /// Gives the keeper something to do. Once the pool has ended it is dropped instead.
    pub(super) fn spawn(&self, job: Job) {
        let mut inner = self.inner.lock();
        if inner.state.ended().is_none() {
            inner.jobs.push(job);
            drop(inner);
            self.wake.notify_one();
        } else {
            drop(inner);
            drop(job);
        }
    }

    /// Lets one event happen and carries out what follows.
    pub(super) fn event<T>(self: &Arc<Self>, now: Instant, event: impl FnOnce(&mut Inner, &mut Deeds) -> T) -> T {
        let mut deeds = Deeds::new();
        let mut inner = self.inner.lock();
        let before = inner.standing();
        let result = event(&mut inner, &mut deeds);
        let generation = if inner.state.ended().is_some() { ENDED } else { inner.state.generation() };
        self.generation.store(generation, Ordering::Relaxed);
        let changed = inner.standing() != before;
        self.settle(inner, deeds, now);
        if changed {
            self.changes.send_replace(());
        }
        result
    }

    /// As `event`, for the keeper, which need not be told to look.
    pub(super) fn kept<T>(self: &Arc<Self>, now: Instant, event: impl FnOnce(&mut Inner, &mut Deeds) -> T) -> T {
        let mut deeds = Deeds::new();
        let mut inner = self.inner.lock();
        let result = event(&mut inner, &mut deeds);
        self.carry_out(inner, deeds, now);
        result
    }

    /// As `event`, for what may make logins under way useless: the keeper gives them up.
    pub(super) fn order(self: &Arc<Self>, now: Instant, order: impl FnOnce(&mut Inner, &mut Deeds)) {
        self.event(now, order);
        self.wake.notify_one();
    }

    /// Carries out what the machine said, and wakes the keeper if there is something for it.
    fn settle(self: &Arc<Self>, inner: MutexGuard<'_, Inner>, deeds: Deeds, now: Instant) {
        let wake = inner.needs_keeper(now);
        self.carry_out(inner, deeds, now);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Gives up the lock and does what the machine said.
    fn carry_out(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>, deeds: Deeds, now: Instant) {
        let closed: SmallVec<[Record; 2]> = deeds
            .iter()
            .filter_map(|deed| match deed {
                Action::Close { slot, .. } => inner.take(*slot),
                _ => None,
            })
            .collect();
        drop(inner);
        for deed in deeds {
            self.perform(deed, now);
        }
        if !closed.is_empty() {
            // Places that are shared with other pools are free only after the connections are closed.
            drop(closed);
            self.settled.tell();
        }
    }

    fn perform(self: &Arc<Self>, deed: Action<Box<Server>, Arc<Seat>>, now: Instant) {
        match deed {
            Action::Hand { slot, server, waiter } => {
                server.shared.lent_to(waiter.client().0, self.micros_since_epoch(now));
                let lease = Lease::new(self.clone(), slot, server);
                if let Some(Ok(lease)) = waiter.fill(Ok(lease)) {
                    acquire::give_back(lease, now);
                }
            }
            Action::Check { slot, server } => {
                let lease = Lease::new(self.clone(), slot, server);
                self.spawn(Box::pin(janitor::check(lease, self.settings())));
            }
            Action::Close { server, reason, .. } => self.close(server, reason, None),
            Action::Refuse { waiter, error } => {
                self.report_refusal(&error);
                waiter.fill(Err(error));
            }
        }
    }

    fn report_refusal(&self, error: &AcquireError) {
        events::wait_refused(&self.key, error.reply().code.class(), error);
    }

    pub(super) fn close(&self, mut server: Box<Server>, reason: CloseReason, failure: Option<&SimpleError>) {
        let age = now().saturating_duration_since(server.connected_at);
        match failure {
            None => events::server_closed(&self.key, server.shared.id, reason, age),
            Some(error) => events::server_failed(&self.key, server.shared.id, reason, age, error),
        }
        janitor::say_goodbye(&mut server);
    }
}

fn was_just_used(server: &Server, now_us: u64) -> bool {
    let lent_us = server.shared.requested_at_us.load(Ordering::Relaxed);
    now_us.saturating_sub(lent_us) <= whole_micros(LOOK_AFTER)
}

pub(super) fn host_count(database: &Database) -> u32 {
    u32::try_from(database.endpoints.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
