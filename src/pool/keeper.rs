//! The task of one pool: performs the logins that its machine asks for, runs checks and resets, and looks at the
//! clock. It owns every task of the pool, and ends with it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout};

use super::attempts::Attempt;
use super::connector::{DialError, DialRequest, Dialing};
use super::failure::Fault;
use super::limits::{Ask, Caps, Claim, Scarce};
use super::nodes::{Closed, Outage};
use super::permits::Permit;
use super::places::Slot;
use super::pool::{Asks, Pool, Record};
use super::registry::Registry;
use super::state::Wants;
use super::{janitor, now};
use crate::server::Server;
use crate::telemetry::events::pool as events;
use crate::types::{Endpoint, ServerId};

/// How often servers at rest are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Where a server was full and one of ours was just closed, others are opened after these pauses, in milliseconds: the process
/// of that one has its place until it has ended.
const WHILE_PLACES_LINGER: [u64; 5] = [5, 15, 60, 180, 500];

/// Keeps a pool until it ends.
pub(super) async fn keep(pool: Arc<Pool>, registry: Arc<Registry>) {
    let mut keeper = Keeper { pool, registry, tasks: JoinSet::new(), logins: Vec::new(), next_round: now() };
    while let Some(wakes) = keeper.turn(now()) {
        let wake = keeper.pool.wake().clone();
        tokio::select! {
            () = wake.notified() => {}
            // Tasks tell the pool themselves how they ended, even if they panic.
            Some(_) = keeper.tasks.join_next(), if !keeper.tasks.is_empty() => {}
            () = sleep(wakes) => {}
        }
    }
    keeper.end().await;
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    pool: Arc<Pool>,
    registry: Arc<Registry>,
    tasks: JoinSet<()>,
    /// Logins under way, each with its generation.
    logins: Vec<(AbortHandle, u64)>,
    next_round: Instant,
}

impl Keeper {
    /// Does what there is to do. Returns when to look again; `None`: the pool has ended.
    fn turn(&mut self, now: Instant) -> Option<Option<Instant>> {
        let round = now >= self.next_round;
        if round {
            self.next_round = now + ROUND;
            // The server that was to be closed for it may be kept for long, and another one be given back.
            if self.pool.lock().keeper_asks.is_queued() {
                self.registry.permits().forgive(self.pool.id());
            }
        }
        let (jobs, stayed) = self.pool.kept(now, |inner, deeds| {
            inner.state.on_time(now, deeds);
            if round {
                janitor::sweep(inner, deeds);
            }
            let stayed: Vec<Claim> = inner.stayed(now);
            (std::mem::take(&mut inner.jobs), stayed)
        });
        for job in jobs {
            self.tasks.spawn(job);
        }
        self.announce(stayed);
        self.drop_logins();
        self.open(now);
        self.plan(now)
    }

    fn plan(&self, now: Instant) -> Option<Option<Instant>> {
        let mut inner = self.pool.lock();
        if inner.state.ended().is_some() {
            return None;
        }
        let looks_after = inner.state.counts().connected() > 0 || inner.keeper_asks != Asks::Nobody;
        let round = looks_after.then_some(self.next_round.max(now));
        inner.keeper_wakes = [round, inner.state.next_wake(now)].into_iter().flatten().min();
        // Jobs that came meanwhile have left a notification behind.
        Some(inner.keeper_wakes)
    }

    /// Other pools could have the places of these servers from now on.
    fn announce(&self, stayed: Vec<Claim>) {
        let permits = self.registry.permits();
        stayed.iter().filter(|_| permits.hungry()).for_each(|claim| permits.stayed(claim));
    }

    /// Gives up logins whose servers would be closed at once.
    fn drop_logins(&mut self) {
        let inner = self.pool.lock();
        let (current, paused) = (inner.state.generation(), inner.state.gate().is_paused());
        drop(inner);
        self.logins.retain(|(login, generation)| {
            if *generation != current || paused {
                login.abort();
            }
            !login.is_finished()
        });
    }

    fn open(&mut self, now: Instant) {
        loop {
            let Some(wants) = self.pool.lock().state.wants(now) else {
                self.stop_asking();
                return;
            };
            let Some((attempt, permit)) = self.place(&wants, now) else { return };
            self.begin(attempt, permit, &wants);
        }
    }

    /// An attempt and a place for it, at the first host that has one.
    fn place(&mut self, wants: &Wants, now: Instant) -> Option<(Attempt, Permit)> {
        let database = self.pool.lock().target.database.clone();
        let mut full = None;
        for _ in 0..database.endpoints.len() {
            let attempt = self.attempt(now)?;
            let ask = self.pool.ask(attempt.node().clone(), wants.waiting_since, wants.starving);
            match self.registry.permits().ask(ask.clone()) {
                Ok(permit) => return Some((attempt, permit)),
                Err(scarce) => {
                    self.pool.lock().turns.failed(&database, attempt.node());
                    full = Some((attempt, ask, scarce));
                }
            }
        }
        let (attempt, ask, scarce) = full?;
        match self.make_room(scarce, ask, now) {
            Ok(permit) => Some((attempt, permit)),
            Err(scarce) => {
                let mut inner = self.pool.lock();
                inner.keeper_asks = Asks::of(Some(wants));
                inner.state.set_limited(Some(scarce.setting()));
                None
            }
        }
    }

    /// An attempt at the first host, in their turn, that takes logins or may be tried.
    fn attempt(&self, now: Instant) -> Option<Attempt> {
        let (database, hurries) = {
            let inner = self.pool.lock();
            (inner.target.database.clone(), inner.state.hurries())
        };
        let mut closed = Vec::new();
        for _ in 0..database.endpoints.len() {
            let host = self.pool.lock().turns.choose(&database)?;
            let asked = self.registry.attempts().ask(host.clone(), self.pool.id(), self.pool.wake(), hurries, now);
            match asked {
                Ok(attempt) => return Some(attempt),
                Err(turned_away) => closed.push(turned_away),
            }
            self.pool.lock().turns.failed(&database, &host);
        }
        self.shut_out(&closed, now);
        None
    }

    /// The nodes wake the pool, or its clock. Until then it keeps no place from others that may log in elsewhere.
    fn shut_out(&self, closed: &[Closed], now: Instant) {
        let until = closed.iter().map(|host| host.until).min();
        let outages: Option<Vec<&Outage>> = closed.iter().map(|host| host.outage.as_ref()).collect();
        let last = outages.and_then(|outages| outages.into_iter().max_by_key(|outage| outage.at));
        self.pool.kept(now, |inner, deeds| {
            inner.state.shut_out(last.map(|outage| (&outage.failure, outage.at)), until, deeds);
            inner.state.set_limited(None);
            inner.keeper_asks = Asks::of(inner.state.wants(now).as_ref());
        });
        self.registry.permits().withdraw(self.pool.id());
    }

    fn stop_asking(&mut self) {
        let mut inner = self.pool.lock();
        let asked = std::mem::replace(&mut inner.keeper_asks, Asks::Nobody);
        inner.state.set_limited(None);
        drop(inner);
        if asked != Asks::Nobody {
            self.registry.permits().withdraw(self.pool.id());
        }
    }

    /// A place for one more server where there was none: one that rests in another pool makes room for it.
    fn make_room(&mut self, scarce: Scarce, ask: Ask<Arc<Notify>>, now: Instant) -> Result<Permit, Scarce> {
        if ask.since.is_none() {
            return Err(scarce);
        }
        let permits = self.registry.permits();
        if self.registry.evict(scarce, &ask.claim, Some(ask.pool), now) {
            return permits.ask(ask);
        }
        if permits.owe(ask.pool) {
            match self.registry.ask_to_yield(scarce, &ask.claim, ask.pool, now) {
                true => permits.others_starve(&ask.claim),
                false => permits.forgive(ask.pool),
            }
        }
        Err(scarce)
    }

    fn begin(&mut self, attempt: Attempt, permit: Permit, wants: &Wants) {
        self.stop_asking();
        let id = self.registry.next_server_id();
        let endpoint = attempt.node().clone();
        let (slot, request) = {
            let mut inner = self.pool.lock();
            if attempt.is_open() {
                inner.state.node_opened();
            }
            let slot = inner.state.begin_login();
            let record = Record { id, permit, begun_at: SystemTime::now(), shared: None };
            inner.put(slot, record);
            (slot, self.pool.dial_request(&inner, id, endpoint))
        };
        if wants.from_reserve {
            events::reserve_taken(self.pool.key());
        }
        let login = Login { pool: self.pool.clone(), slot, id, attempt: Some(attempt) };
        let generation = request.generation;
        let task = self.tasks.spawn(log_in(login, request, self.registry.clone()));
        self.logins.push((task, generation));
    }

    async fn end(mut self) {
        self.registry.permits().withdraw(self.pool.id());
        self.tasks.shutdown().await;
        // Jobs that nobody began: the servers in them are closed, which takes the lock.
        let jobs = std::mem::take(&mut self.pool.lock().jobs);
        drop(jobs);
    }
}

impl Pool {
    /// Asks for a place on a node, for a client that has waited since then.
    pub(super) fn ask(&self, node: Arc<Endpoint>, since: Option<Instant>, starving: bool) -> Ask<Arc<Notify>> {
        let (key, settings) = (self.key(), self.settings());
        let caps = Caps {
            database: settings.max_db_connections,
            user: settings.max_user_connections,
            node: settings.max_node_connections,
        };
        let claim = Claim { database: key.database.clone(), user: key.user.clone(), node };
        Ask { pool: self.id(), caps, since, starving, handle: self.wake().clone(), claim }
    }
}

/// Opens a connection and logs it in. Each attempt is given up after `server_connect_timeout`.
pub(super) async fn dial(registry: &Registry, request: &DialRequest) -> Result<Box<Server>, DialError> {
    let mut pauses = WHILE_PLACES_LINGER.into_iter();
    let lingers = || registry.permits().was_just_freed(&request.endpoint);
    loop {
        if let Some(pause) = pauses.next().filter(|_| lingers()) {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        match bounded(registry.dial(request.clone()), request).await {
            Err(error) if error.is_nodes_fullness() && pauses.len() > 0 && lingers() => {}
            outcome => return outcome,
        }
    }
}

async fn bounded(dialing: Dialing, request: &DialRequest) -> Result<Box<Server>, DialError> {
    match request.settings.server_connect_timeout {
        Some(limit) => timeout(limit, dialing).await.unwrap_or_else(|_| {
            let text = format!("connect timeout: {} did not finish the login in time", request.endpoint);
            Err(DialError::Unreachable { text, fault: Fault::Unclear })
        }),
        None => dialing.await,
    }
}

async fn log_in(login: Login, request: DialRequest, registry: Arc<Registry>) {
    match dial(&registry, &request).await {
        Ok(server) => {
            let welcome = server.params.clone();
            login.succeeded(server, welcome);
        }
        Err(error) => login.failed(error),
    }
}

/// A login under way; dropping it gives it up.
struct Login {
    pool: Arc<Pool>,
    slot: Slot,
    id: ServerId,
    /// `None` once it has ended.
    attempt: Option<Attempt>,
}

impl Login {
    fn succeeded(mut self, server: Box<Server>, welcome: crate::wire::params::ParamSet) {
        let Some(attempt) = self.attempt.take() else { return };
        let now = now();
        let endpoint = attempt.node().clone();
        events::server_opened(self.pool.key(), self.id, &endpoint);
        attempt.succeeded(now);
        self.pool.permits().connected(&endpoint);
        self.pool.event(now, |inner, deeds| {
            if let Some(record) = inner.records.get_mut(self.slot.index()).and_then(Option::as_mut) {
                record.shared = Some(server.shared.clone());
                record.permit.set_connected();
            }
            if server.generation == inner.state.generation() {
                inner.welcome = Some(welcome);
            }
            inner.complaints.succeeded(&endpoint);
            inner.state.opened(self.slot, server, now, deeds);
        });
    }

    fn failed(mut self, error: DialError) {
        let Some(attempt) = self.attempt.take() else { return };
        let now = now();
        let failure = self.pool.login_failed(attempt, error, now);
        let record = self.pool.event(now, |inner, deeds| {
            match &failure {
                Some(failure) => inner.state.failed(self.slot, failure, now, deeds),
                None => inner.state.login_dropped(self.slot, now, deeds),
            }
            inner.take(self.slot)
        });
        drop(record);
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let now = now();
            let record = self.pool.event(now, |inner, deeds| {
                inner.state.login_dropped(self.slot, now, deeds);
                inner.take(self.slot)
            });
            drop(record);
            drop(attempt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::stats::Tally;
    use crate::pool::testing::{Bench, acquire, rest};

    #[tokio::test(start_paused = true)]
    async fn the_server_of_a_job_that_nobody_began_is_closed_at_the_end() {
        let bench = Bench::simple(|_| ());
        let pool = bench.pool("app", "u");
        acquire(&pool).await.release_after_reset(now(), &mut Tally::default());
        let (tasks, registry) = (JoinSet::new(), bench.pools.registry.clone());
        let keeper = Keeper { pool: pool.clone(), registry, tasks, logins: Vec::new(), next_round: now() };
        keeper.end().await;
        rest().await;
        assert_eq!((pool.connections(), bench.dial.connected()), (0, 0));
    }
}
