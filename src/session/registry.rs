//! Sessions as others see them: SHOW CLIENTS, KILL_CLIENT, timeouts, cancel requests.
//! Others leave a session an order and wake it; only the session itself acts on it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::deadlines::{Clocks, Due, Phase, any, due};
use crate::config::model::PoolMode;
use crate::net::address::Address;
use crate::pool::Pool;
use crate::telemetry::labels::Pin;
use crate::types::time::whole_micros;
use crate::types::{ClientId, PoolKey, ServerId};

mod consoles;
pub mod requests;

use consoles::Console;
pub use consoles::{CONSOLE, ConsoleIdentity, ConsoleKey, Requests};
use requests::{Landing, Tickets};

/// State of a client as SHOW CLIENTS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// No server linked.
    Idle,
    /// Has a server.
    Active,
    /// Waits for a server.
    Waiting,
}

/// One row of SHOW CLIENTS.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the columns of SHOW CLIENTS")]
pub struct ClientRow {
    pub id: ClientId,
    pub key: PoolKey,
    /// As the client named itself, which may differ from the pool's user.
    pub user: Arc<str>,
    pub state: ClientState,
    /// `unix` for sockets.
    pub addr: String,
    pub port: u16,
    pub local_addr: String,
    pub local_port: u16,
    pub connected_at: SystemTime,
    pub requested_at: SystemTime,
    /// Microseconds of the present wait.
    pub wait_us: u64,
    pub link: Option<ServerId>,
    /// Of a Unix socket's peer; 0 otherwise.
    pub remote_pid: u32,
    pub tls: Arc<str>,
    pub application_name: String,
    pub prepared_statements: u32,
    /// Bits of reasons why it keeps its server.
    pub pins: u16,
}

/// What a session can be told, as bits: several may be left before it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order(u32);

impl Order {
    /// A cancel request for what it runs or waits for.
    pub const CANCEL: Self = Self(1);
    /// KILL_CLIENT.
    pub const KILL: Self = Self(1 << 1);
    /// Its database was removed or killed.
    pub const DATABASE_GONE: Self = Self(1 << 2);
    /// Its database was killed.
    pub const DATABASE_KILLED: Self = Self((1 << 2) | Self::BY_OPERATOR.0);
    /// What came with it was an operator's command.
    pub const BY_OPERATOR: Self = Self(1 << 11);
    /// The pooler ends.
    pub const SHUTDOWN: Self = Self(1 << 3);
    /// A LISTEN is answered, or something was notified.
    pub const NOTIFIED: Self = Self(1 << 15);
    /// Too much was notified that it has not read.
    pub const LAGS_BEHIND: Self = Self(1 << 16);
    /// Its server may have become obsolete.
    pub const OBSOLETE: Self = Self(1 << 9);
    const DUE: [(Due, Self); 8] = [
        (Due::Query, Self(1 << 4)),
        (Due::QueryInQueue, Self(1 << 10)),
        (Due::Idle, Self(1 << 5)),
        (Due::Numbers, Self(1 << 14)),
        (Due::IdlePinned, Self(1 << 13)),
        (Due::IdleTransaction, Self(1 << 6)),
        (Due::Transaction, Self(1 << 7)),
        (Due::WaitNotice, Self(1 << 8)),
    ];
}

/// Orders taken by their session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders(u32);

impl Orders {
    /// Whether `order` is among them.
    pub fn has(self, order: Order) -> bool {
        self.0 & order.0 != 0
    }

    /// The timeouts among them.
    pub fn due(self) -> impl Iterator<Item = Due> {
        Order::DUE.into_iter().filter(move |(_, order)| self.has(*order)).map(|(due, _)| due)
    }
}

/// The part of a session that others see. Plain values are fixed at login; the rest are hints, relaxed.
#[derive(Debug)]
pub struct Shared {
    /// From the counter that clients and servers share.
    pub id: ClientId,
    /// What the client was told as its backend's process id.
    pub pid: u32,
    /// And as the secret of its cancel requests.
    pub secret: Box<[u8]>,
    /// As the client named itself.
    pub user: Arc<str>,
    /// Its pool.
    pub pool: Arc<Pool>,
    /// The client's end of the connection, and ours.
    pub addresses: (Address, Address),
    /// Protocol and cipher, or empty.
    pub tls: Arc<str>,
    /// When it was accepted.
    pub connected_at: SystemTime,
    /// The registry's clock begins here.
    origin: Instant,
    phase: AtomicU8,
    phase_since: AtomicU64,
    query_since: AtomicU64,
    transaction_since: AtomicU64,
    link: AtomicU64,
    prepared: AtomicU32,
    /// Why it keeps its server, a bit each.
    pins: AtomicU16,
    orders: AtomicU32,
    /// Stays here when it is used: two orders may come at once, and each must find it.
    waker: Mutex<Option<Waker>>,
    /// Of cancel requests that the session has not taken yet.
    tickets: Mutex<Tickets>,
    /// Connections that wait for cancel requests to land.
    awaited: AtomicU32,
    application_name: Mutex<Box<[u8]>>,
}

/// What of [`Shared`] is known at login.
#[derive(Debug)]
#[expect(missing_docs, reason = "they are Shared's")]
pub struct Identity {
    pub id: ClientId,
    pub secret: Box<[u8]>,
    pub user: Arc<str>,
    pub pool: Arc<Pool>,
    pub addresses: (Address, Address),
    pub tls: Arc<str>,
    pub connected_at: SystemTime,
    pub application_name: Box<[u8]>,
}

/// As in PgBouncer's log: `C-0x1: app/alice@10.0.0.1:49870`.
impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.pool.key();
        write!(f, "{}: {}/{}@{}", self.id, key.database, self.user, self.addresses.0)
    }
}

impl Shared {
    /// Whether orders were left since they were last taken.
    #[inline]
    pub fn has_orders(&self) -> bool {
        self.orders.load(Ordering::Relaxed) != 0
    }

    /// Takes the orders.
    pub fn take_orders(&self) -> Orders {
        Orders(self.orders.swap(0, Ordering::Acquire))
    }

    /// Leaves an order and wakes the session.
    pub fn order(&self, order: Order) {
        self.orders.fetch_or(order.0, Ordering::Release);
        let waker = self.waker.lock().clone();
        waker.inspect(Waker::wake_by_ref);
    }

    /// Whom to wake when an order is left; orders are to be looked for after this.
    pub fn register(&self, waker: &Waker) {
        *self.waker.lock() = Some(waker.clone());
    }

    /// Microseconds of the registry's clock.
    pub fn micros(&self, at: Instant) -> u64 {
        whole_micros(at.saturating_duration_since(self.origin))
    }

    /// A request begins at these microseconds, and a transaction with it unless one is open.
    pub fn request_begins(&self, at: u64, transaction_too: bool) {
        self.query_since.store(at, Ordering::Relaxed);
        if transaction_too {
            self.transaction_since.store(at, Ordering::Relaxed);
        }
    }

    /// The session does something else from these microseconds on.
    pub fn enters(&self, phase: Phase, at: u64) {
        self.phase_since.store(at, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// It has been told that it waits.
    pub fn told_to_wait(&self) {
        self.phase.store(Phase::WaitingOn as u8, Ordering::Relaxed);
    }

    /// Whether only its server is left of it.
    fn is_gone(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Gone as u8
    }

    /// The server it has; `None` when it gives it back.
    pub fn links(&self, server: Option<ServerId>) {
        self.link.store(server.map_or(0, |server| server.0), Ordering::Relaxed);
    }

    /// Another name, or other statements, for SHOW CLIENTS.
    pub fn notes(&self, prepared: usize) {
        self.prepared.store(u32::try_from(prepared).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// It keeps its server for these reasons. Returns those that are new.
    pub fn pin(&self, reasons: impl Iterator<Item = Pin>) -> impl Iterator<Item = Pin> {
        let bit = |reason: Pin| 1 << reason as u16;
        let now = reasons.map(bit).fold(0, |all, bit| all | bit);
        let new = now & !self.pins.swap(now, Ordering::Relaxed);
        Pin::ALL.iter().copied().filter(move |reason| new & bit(*reason) != 0)
    }

    /// It keeps it no more.
    pub fn unpin(&self) {
        self.pins.store(0, Ordering::Relaxed);
    }

    /// The client calls itself so from now on.
    pub fn renames(&self, application_name: &[u8]) {
        let mut name = self.application_name.lock();
        if **name != *application_name {
            *name = application_name.into();
        }
    }

    /// The clocks, for the timeouts.
    pub fn clocks(&self) -> Clocks {
        Clocks {
            phase: Phase::from_u8(self.phase.load(Ordering::Relaxed)),
            phase_since: self.phase_since.load(Ordering::Relaxed),
            query_since: self.query_since.load(Ordering::Relaxed),
            transaction_since: self.transaction_since.load(Ordering::Relaxed),
            pins: self.pins.load(Ordering::Relaxed),
        }
    }

    /// Its row of SHOW CLIENTS.
    pub fn row(&self, now: Instant) -> ClientRow {
        let clocks = self.clocks();
        let link = self.link.load(Ordering::Relaxed);
        let state = match (clocks.phase, link) {
            (Phase::Waiting | Phase::WaitingOn, _) => ClientState::Waiting,
            (_, 0) => ClientState::Idle,
            _ => ClientState::Active,
        };
        let waited =
            if state == ClientState::Waiting { self.micros(now).saturating_sub(clocks.phase_since) } else { 0 };
        let asked = Duration::from_micros(self.micros(now).saturating_sub(clocks.query_since));
        let requested_at = if clocks.query_since == 0 {
            self.connected_at
        } else {
            SystemTime::now().checked_sub(asked).unwrap_or(self.connected_at)
        };
        let (peer, local) = &self.addresses;
        ClientRow {
            id: self.id,
            key: self.pool.key().clone(),
            user: Arc::clone(&self.user),
            state,
            addr: peer.host(),
            port: peer.port().unwrap_or(0),
            local_addr: local.host(),
            local_port: local.port().unwrap_or(0),
            connected_at: self.connected_at,
            requested_at,
            wait_us: waited,
            link: (link != 0).then_some(ServerId(link)),
            remote_pid: peer.pid(),
            tls: Arc::clone(&self.tls),
            application_name: String::from_utf8_lossy(&self.application_name.lock()).into_owned(),
            prepared_statements: self.prepared.load(Ordering::Relaxed),
            pins: self.pins.load(Ordering::Relaxed),
        }
    }
}

/// All sessions, by the process id that their clients were told.
#[derive(Debug)]
pub struct Registry {
    origin: Instant,
    sessions: Mutex<HashMap<u32, Arc<Shared>, foldhash::fast::RandomState>>,
    consoles: Mutex<HashMap<u32, Console>>,
    emptied: Notify,
}

/// A session's place in the registry; it leaves with this.
#[derive(Debug)]
pub struct Registered {
    registry: Arc<Registry>,
    /// What others see.
    pub shared: Arc<Shared>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions.lock();
        sessions.remove(&self.shared.pid);
        if sessions.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

impl Registry {
    /// An empty one. `origin` is where its clock begins.
    pub fn new(origin: Instant) -> Self {
        Self { origin, sessions: Mutex::default(), consoles: Mutex::default(), emptied: Notify::new() }
    }

    /// Takes a session in. `pids` offers process ids; the first that nobody has is used.
    pub fn register(self: &Arc<Self>, identity: Identity, pids: impl Iterator<Item = u32>) -> Option<Registered> {
        let now = Instant::now();
        let mut sessions = self.sessions.lock();
        let pid = pids.into_iter().find(|pid| *pid != 0 && !sessions.contains_key(pid))?;
        let Identity { id, secret, user, pool, addresses, tls, connected_at, application_name } = identity;
        let shared = Arc::new(Shared {
            id,
            pid,
            secret,
            user,
            pool,
            addresses,
            tls,
            connected_at,
            origin: self.origin,
            phase: AtomicU8::new(Phase::Idle as u8),
            phase_since: AtomicU64::new(0),
            query_since: AtomicU64::new(0),
            transaction_since: AtomicU64::new(0),
            link: AtomicU64::new(0),
            prepared: AtomicU32::new(0),
            pins: AtomicU16::new(0),
            orders: AtomicU32::new(0),
            waker: Mutex::new(None),
            tickets: Mutex::default(),
            awaited: AtomicU32::new(0),
            application_name: Mutex::new(application_name),
        });
        shared.enters(Phase::Idle, shared.micros(now));
        sessions.insert(pid, Arc::clone(&shared));
        Some(Registered { registry: Arc::clone(self), shared })
    }

    /// A cancel request. `None`: nobody has the key. It is compared in constant time, being all that a stranger needs.
    pub fn cancel(&self, pid: u32, secret: &[u8]) -> Option<Landing> {
        let equal = |known: &[u8]| aws_lc_rs::constant_time::verify_slices_are_equal(known, secret).is_ok();
        let session = self.sessions.lock().get(&pid).cloned();
        if let Some(shared) = session.filter(|shared| equal(&shared.secret)) {
            return Some(shared.ask_to_cancel());
        }
        self.cancel_console(pid, equal).then(Landing::done)
    }

    /// Ends when there is no session.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// All sessions, in no order.
    pub fn all(&self) -> Vec<Arc<Shared>> {
        self.sessions.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions and consoles.
    pub fn members(&self) -> usize {
        self.len() + self.consoles.lock().len()
    }

    /// SHOW CLIENTS, by id.
    pub fn rows(&self, now: Instant) -> Vec<ClientRow> {
        let present = self.all().into_iter().filter(|shared| !shared.is_gone());
        let mut rows: Vec<_> = present.map(|shared| shared.row(now)).chain(self.console_rows()).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// KILL_CLIENT. Returns whether there was one. Of a client that is gone it closes the server, as SHOW SERVERS links it.
    pub fn kill(&self, id: ClientId) -> bool {
        let found = self.sessions.lock().values().find(|shared| shared.id == id).cloned();
        found.inspect(|shared| shared.order(Order::KILL)).is_some() || self.kill_console(id)
    }

    /// Leaves an order with every session of a database; `None`: with all.
    pub fn order_all(&self, database: Option<&str>, order: Order) {
        self.order_where(|name| database.is_none_or(|database| name == database), order);
    }

    /// Leaves an order with every session of the databases that are meant.
    pub fn order_where(&self, is_meant: impl Fn(&str) -> bool, order: Order) {
        for shared in self.all() {
            if is_meant(&shared.pool.key().database) {
                shared.order(order);
            }
        }
    }

    /// `server_fast_close`: sessions that keep a server part from one that is to be closed.
    pub fn part_from_obsolete(&self, database: Option<&str>) {
        for shared in self.all() {
            let settings = shared.pool.settings();
            let concerned = settings.pool_mode == PoolMode::Session && settings.server_fast_close;
            if concerned && database.is_none_or(|database| *shared.pool.key().database == *database) {
                shared.order(Order::OBSOLETE);
            }
        }
    }

    /// Tells sessions whose time is up. Called a few times a second.
    pub fn check_deadlines(&self, now: Instant) {
        let now = whole_micros(now.saturating_duration_since(self.origin));
        for shared in self.all() {
            let settings = shared.pool.settings();
            let clocks = shared.clocks();
            if !any(&clocks, &settings) {
                continue;
            }
            if let Some(due) = due(&clocks, &settings, now) {
                let order = Order::DUE.iter().find(|(which, _)| *which == due).map(|(_, order)| *order);
                order.into_iter().for_each(|order| shared.order(order));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_orders_are_one() {
        let by_name = [Order::CANCEL, Order::KILL, Order::DATABASE_GONE, Order::BY_OPERATOR];
        let others = [Order::SHUTDOWN, Order::NOTIFIED, Order::LAGS_BEHIND, Order::OBSOLETE];
        let all = by_name.into_iter().chain(others).chain(Order::DUE.map(|(_, order)| order));
        let bits: Vec<_> = all.map(|order| order.0).collect();
        assert_eq!(bits.iter().fold(0, |all, bit| all | bit).count_ones() as usize, bits.len());
    }
}
