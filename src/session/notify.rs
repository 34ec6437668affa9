//! LISTEN for clients that have no server: one connection for all clients of a database and user (and encoding) listens
//! for them. Here is which there are; [`hub`] keeps one, [`board`] decides what it is told.

pub mod board;
mod hub;
mod line;
mod mailbox;
pub mod speakers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use self::hub::Hub;
pub use self::mailbox::{Answer, Mailbox, WAITING_MAX};
pub use self::speakers::Begins;
use super::registry::Shared;
use crate::pool::{Pool, Pools};
use crate::types::PoolKey;

/// All notification connections. Dropping it ends them.
#[derive(Debug)]
pub struct Hubs {
    pools: Arc<Pools>,
    book: Mutex<Book>,
    /// How many there are: who notifies while nobody listens pays nothing.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Book {
    hubs: HashMap<PoolKey, Vec<Arc<Hub>>, foldhash::fast::RandomState>,
    tasks: JoinSet<()>,
}

/// A client's place at a notification connection. Dropping it gives up all that the client listens to.
#[derive(Debug)]
pub struct Seat {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    /// What has come for the client.
    pub mailbox: Arc<Mailbox>,
}

impl Hubs {
    /// None yet. They are opened as `pools` opens servers.
    pub fn new(pools: Arc<Pools>) -> Self {
        Self { pools, book: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// A place at the connection of the client's pool that speaks this encoding. To be called within the runtime.
    pub fn join(self: &Arc<Self>, shared: &Arc<Shared>, encoding: &[u8]) -> Seat {
        let pool = &shared.pool;
        let mut book = self.book.lock();
        let Book { hubs, tasks } = &mut *book;
        let hubs = hubs.entry(pool.key().clone()).or_default();
        let known = hubs.iter().find(|hub| hub.serves(pool, encoding)).cloned();
        let hub = known.unwrap_or_else(|| {
            let hub = Arc::new(Hub::new(Arc::clone(pool), encoding));
            hubs.push(Arc::clone(&hub));
            self.count.fetch_add(1, Ordering::Relaxed);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(hub::keep(Arc::clone(&hub), Arc::clone(self)));
            hub
        });
        let mailbox = Arc::new(Mailbox::new(Arc::clone(shared)));
        // Under the book's lock: it is not taken for deserted meanwhile.
        hub.joins(shared.id, &mailbox);
        Seat { hub, shared: Arc::clone(shared), mailbox }
    }

    /// Lets go of a connection at which nobody has a place. Returns whether it has.
    fn retires(&self, hub: &Arc<Hub>) -> bool {
        let mut book = self.book.lock();
        if !hub.is_deserted() {
            return false;
        }
        let key = hub.pool().key();
        if let Some(hubs) = book.hubs.get_mut(key) {
            hubs.retain(|known| !Arc::ptr_eq(known, hub));
            if hubs.is_empty() {
                book.hubs.remove(key);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// A client would notify on a server of its pool, which is known by its process id. If that is noted, [`Self::spoke`]
    /// is to be called; if it is for later, the client's session is told to ask again.
    pub fn speaks(&self, shared: &Arc<Shared>, server: u32, seat: Option<&Seat>) -> Begins {
        let mut begins = Begins::Unheard;
        for hub in &self.of(&shared.pool) {
            match hub.speaks(server, shared, seat.is_some_and(|seat| Arc::ptr_eq(&seat.hub, hub))) {
                Begins::Unheard => {}
                Begins::Noted => begins = Begins::Noted,
                Begins::Later => return Begins::Later,
            }
        }
        begins
    }

    /// It gives that server back.
    pub fn spoke(&self, shared: &Shared, server: u32) {
        self.of(&shared.pool).iter().for_each(|hub| hub.spoke(server, shared.pid));
    }

    fn of(&self, pool: &Pool) -> Vec<Arc<Hub>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        self.book.lock().hubs.get(pool.key()).cloned().unwrap_or_default()
    }
}

impl Drop for Hubs {
    fn drop(&mut self) {
        self.book.lock().tasks.abort_all();
    }
}

impl Seat {
    /// The client wants to listen. Returns whether it does already; else an [`Answer`] will come.
    pub fn listens(&self, channel: &[u8]) -> bool {
        self.hub.listens(self.shared.id, channel, Instant::now())
    }

    /// It wants to no more.
    pub fn leaves(&self, channel: &[u8]) {
        self.hub.leaves(self.shared.id, channel);
        self.mailbox.forget(channel);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.goes(self.shared.id, self.shared.pid);
    }
}
