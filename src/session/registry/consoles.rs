//! Consoles among the sessions: they are shown, can be cancelled, and can be killed; no timeout and no drain counts
//! them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::{ClientRow, ClientState, Registry};
use crate::net::address::Address;
use crate::types::time::whole_micros;
use crate::types::{ClientId, PoolKey};

/// The console's database, and its user of the same name.
pub const CONSOLE: &str = "pgbouncer";

/// What is known of a console at its login.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "they are those of a session")]
pub struct ConsoleIdentity {
    pub id: ClientId,
    pub secret: Arc<[u8]>,
    pub user: Arc<str>,
    pub addresses: (Address, Address),
    pub tls: Arc<str>,
    pub connected_at: SystemTime,
    pub application_name: String,
}

/// As a session's: `C-0x1: pgbouncer/admin@10.0.0.1:49870`.
impl fmt::Display for ConsoleIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {CONSOLE}/{}@{}", self.id, self.user, self.addresses.0)
    }
}

/// When a console last asked for something, in microseconds since 1970.
#[derive(Debug, Clone)]
pub struct Requests(Arc<AtomicU64>);

impl Requests {
    /// The login was a request.
    pub fn since(login: SystemTime) -> Self {
        Self(Arc::new(AtomicU64::new(micros(login))))
    }

    /// Another one came.
    pub fn note(&self, at: SystemTime) {
        self.0.store(micros(at), Ordering::Relaxed);
    }

    fn last(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

fn micros(at: SystemTime) -> u64 {
    whole_micros(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[derive(Debug)]
pub(super) struct Console {
    identity: ConsoleIdentity,
    requests: Requests,
    cancelled: Arc<Notify>,
    killed: Arc<Notify>,
}

/// A console's place in the registry; it leaves, and its key is void, when this is dropped.
#[derive(Debug)]
pub struct ConsoleKey {
    registry: Arc<Registry>,
    /// What the operator is told as the backend's process id.
    pub pid: u32,
    /// And as the secret.
    pub secret: Arc<[u8]>,
    /// Told of a cancel request.
    pub cancelled: Arc<Notify>,
    /// Told of KILL_CLIENT.
    pub killed: Arc<Notify>,
    /// For SHOW CLIENTS.
    pub requests: Requests,
    /// For the log.
    pub label: Arc<str>,
}

impl Drop for ConsoleKey {
    fn drop(&mut self) {
        self.registry.consoles.lock().remove(&self.pid);
    }
}

impl Registry {
    /// Takes a console in. `pids` offers process ids; the first that nobody has is used.
    pub fn register_console(
        self: &Arc<Self>,
        identity: ConsoleIdentity,
        pids: impl Iterator<Item = u32>,
    ) -> Option<ConsoleKey> {
        let sessions = self.sessions.lock();
        let mut consoles = self.consoles.lock();
        let taken = |pid: &u32| sessions.contains_key(pid) || consoles.contains_key(pid);
        let pid = pids.into_iter().find(|pid| *pid != 0 && !taken(pid))?;
        let key = ConsoleKey {
            registry: Arc::clone(self),
            pid,
            secret: Arc::clone(&identity.secret),
            cancelled: Arc::default(),
            killed: Arc::default(),
            requests: Requests::since(identity.connected_at),
            label: identity.to_string().into(),
        };
        let requests = key.requests.clone();
        let (cancelled, killed) = (Arc::clone(&key.cancelled), Arc::clone(&key.killed));
        consoles.insert(pid, Console { identity, requests, cancelled, killed });
        Some(key)
    }

    /// Cancels what the console with this key waits for, if there is one.
    pub(super) fn cancel_console(&self, pid: u32, is_key: impl Fn(&[u8]) -> bool) -> bool {
        let consoles = self.consoles.lock();
        let console = consoles.get(&pid).filter(|console| is_key(&console.identity.secret));
        console.inspect(|console| console.cancelled.notify_waiters()).is_some()
    }

    /// Ends the console with this number, if there is one.
    pub(super) fn kill_console(&self, id: ClientId) -> bool {
        let consoles = self.consoles.lock();
        let console = consoles.values().find(|console| console.identity.id == id);
        console.inspect(|console| console.killed.notify_one()).is_some()
    }

    /// How many consoles each user has.
    pub fn console_users(&self) -> HashMap<Arc<str>, u32> {
        let mut users = HashMap::new();
        for console in self.consoles.lock().values() {
            *users.entry(Arc::clone(&console.identity.user)).or_default() += 1;
        }
        users
    }

    pub(super) fn console_rows(&self) -> Vec<ClientRow> {
        self.consoles.lock().values().map(Console::row).collect()
    }
}

impl Console {
    fn row(&self) -> ClientRow {
        let (peer, local) = &self.identity.addresses;
        ClientRow {
            id: self.identity.id,
            key: PoolKey { database: CONSOLE.into(), user: CONSOLE.into() },
            user: Arc::clone(&self.identity.user),
            state: ClientState::Active,
            addr: peer.host(),
            port: peer.port().unwrap_or(0),
            local_addr: local.host(),
            local_port: local.port().unwrap_or(0),
            connected_at: self.identity.connected_at,
            requested_at: self.requests.last(),
            wait_us: 0,
            link: None,
            remote_pid: peer.pid(),
            tls: Arc::clone(&self.identity.tls),
            application_name: self.identity.application_name.clone(),
            prepared_statements: 0,
            pins: 0,
        }
    }
}
