//! What several pools share: at most so many servers per database, per user, per node. A place that becomes free
//! goes to the pool whose client waits longest; those that have no server at all come first. Pure; `super::permits` puts a lock around it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::room::Room;
use crate::types::Endpoint;

/// Tells pools apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u64);

/// What a server counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The database as clients name it. All its hosts together, as in PgBouncer.
    pub database: Arc<str>,
    /// The user it logs in as.
    pub user: Arc<str>,
    /// Where it connects to.
    pub node: Arc<Endpoint>,
}

/// The most servers of each kind; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// `max_db_connections`.
    pub database: Option<u32>,
    /// `max_user_connections`.
    pub user: Option<u32>,
    /// `max_node_connections`.
    pub node: Option<u32>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarce {
    /// `max_db_connections`.
    Database,
    /// `max_user_connections`.
    User,
    /// `max_node_connections`.
    Node,
    /// What the server itself allows.
    Server,
}

impl Scarce {
    /// The setting's name, ours or the server's.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Database => "max_db_connections",
            Self::User => "max_user_connections",
            Self::Node => "max_node_connections",
            Self::Server => "the server's max_connections",
        }
    }

    /// Whether a server that counts against `other` holds a place that `claim` could use.
    pub fn shared(self, claim: &Claim, other: &Claim) -> bool {
        match self {
            Self::Database => claim.database == other.database,
            Self::User => claim.user == other.user,
            Self::Node | Self::Server => claim.node == other.node,
        }
    }
}

/// A pool that asks for a place.
#[derive(Debug, Clone)]
pub struct Ask<H> {
    /// Who.
    pub pool: PoolId,
    /// What the server would count against.
    pub claim: Claim,
    /// The limits that hold for it.
    pub caps: Caps,
    /// Since when its first client waits. `None`: nobody waits, so it does not queue.
    pub since: Option<Instant>,
    /// It has no server at all: another pool is asked to close one for it.
    pub starving: bool,
    /// How to reach it when a place may be free, or another pool is to be asked.
    pub handle: H,
}

impl<H> Ask<H> {
    /// The least is served first. A place that a pool closes a server for must not come back to it because its own clients
    /// wait longer: that would be a login for nothing.
    fn rank(&self) -> (bool, Option<Instant>, PoolId) {
        (!self.starving, self.since, self.pool)
    }
}

/// Places taken, and pools that want one.
#[derive(Debug)]
pub struct Limits<H> {
    databases: HashMap<Arc<str>, u32>,
    users: HashMap<Arc<str>, u32>,
    nodes: HashMap<Arc<Endpoint>, u32>,
    /// Those of a node that are logged in.
    connected: HashMap<Arc<Endpoint>, u32>,
    /// Nodes that were full.
    rooms: HashMap<Arc<Endpoint>, Room>,
    queue: Vec<Ask<H>>,
    /// Those in the queue for whose sake another pool closes the next server that it gets back.
    owed: Vec<PoolId>,
}

impl<H> Default for Limits<H> {
    fn default() -> Self {
        Self {
            databases: HashMap::new(),
            users: HashMap::new(),
            nodes: HashMap::new(),
            connected: HashMap::new(),
            rooms: HashMap::new(),
            queue: Vec::new(),
            owed: Vec::new(),
        }
    }
}

impl<H: Clone> Limits<H> {
    /// Takes a place, or queues for one. A pool has at most one place in the queue, and loses it when it gets one.
    ///
    /// # Errors
    /// The limit that is reached, or whose last places belong to pools that come before.
    pub fn ask(&mut self, ask: Ask<H>) -> Result<(), Scarce> {
        self.queue.retain(|queued| queued.pool != ask.pool);
        match self.scarce(&ask) {
            None => {
                self.count(&ask.claim, true);
                if !self.forgive(ask.pool) {
                    self.pass_over(&ask.claim);
                }
                Ok(())
            }
            Some(scarce) => {
                if ask.since.is_some() {
                    self.queue.push(ask);
                } else {
                    self.forgive(ask.pool);
                }
                Err(scarce)
            }
        }
    }

    /// A pool wants no place any more.
    pub fn withdraw(&mut self, pool: PoolId) {
        self.queue.retain(|queued| queued.pool != pool);
        self.forgive(pool);
    }

    /// Notes that another pool is about to be asked to close a server for this one, if it is in the queue and starves.
    /// Returns whether it is, and nobody was asked before.
    pub fn owe(&mut self, pool: PoolId) -> bool {
        let starves = self.queue.iter().any(|queued| queued.pool == pool && queued.starving);
        let news = starves && !self.owed.contains(&pool);
        if news {
            self.owed.push(pool);
        }
        news
    }

    /// Nobody closes a server for this pool any more. Returns whether somebody was to.
    pub fn forgive(&mut self, pool: PoolId) -> bool {
        let before = self.owed.len();
        self.owed.retain(|owed| *owed != pool);
        self.owed.len() < before
    }

    /// A place has gone to a pool for which none was made: it may have been made for another, which comes after it.
    fn pass_over(&mut self, claim: &Claim) {
        let owed = self.queue.iter().filter(|ask| self.owed.contains(&ask.pool) && self.helps(claim, ask));
        if let Some(pool) = owed.min_by_key(|ask| ask.rank()).map(|ask| ask.pool) {
            self.forgive(pool);
        }
    }

    /// The first of the pools that starve and could use a place of `claim`, but for which nobody makes one: it should ask
    /// again.
    pub fn unowed(&self, claim: &Claim) -> Option<H> {
        self.queue
            .iter()
            .filter(|ask| ask.starving && !self.owed.contains(&ask.pool) && self.helps(claim, ask))
            .min_by_key(|ask| ask.rank())
            .map(|ask| ask.handle.clone())
    }

    /// Whether it lacks what a server that counts against `claim` holds.
    fn helps(&self, claim: &Claim, ask: &Ask<H>) -> bool {
        self.full(ask).is_some_and(|scarce| scarce.shared(&ask.claim, claim))
    }

    /// Gives a place back; `connected`: of a server that was logged in.
    pub fn give_back(&mut self, claim: &Claim, connected: bool, now: Instant) {
        self.count(claim, false);
        if connected {
            adjust(&mut self.connected, &claim.node, false);
            if let Some(room) = self.rooms.get_mut(&claim.node) {
                room.freed(now);
            }
        }
    }

    /// A server with a place at a node is logged in now.
    pub fn connected(&mut self, node: &Arc<Endpoint>) {
        adjust(&mut self.connected, node, true);
        let connected = self.connected_at(node);
        if let Some(room) = self.rooms.get_mut(node) {
            room.holds(connected);
        }
    }

    fn connected_at(&self, node: &Endpoint) -> u32 {
        self.connected.get(node).copied().unwrap_or(0)
    }

    /// A node has refused one more server because it is full. Returns whether some of ours are there, so that one can be
    /// had when another is closed.
    pub fn refused(&mut self, node: &Arc<Endpoint>, now: Instant) -> bool {
        let connected = self.connected_at(node);
        if connected == 0 && !self.was_just_freed(node, now) {
            self.rooms.remove(node);
            return false;
        }
        let room = self.rooms.entry(Arc::clone(node)).or_insert_with(|| Room::new(connected, now));
        room.refused(connected, now);
        true
    }

    /// Whether a node that refused a server may only not have noticed yet that one of ours is closed.
    pub fn was_just_freed(&self, node: &Endpoint, now: Instant) -> bool {
        self.rooms.get(node).is_some_and(|room| room.was_just_freed(now))
    }

    /// Lets time pass.
    pub fn on_time(&mut self, now: Instant) {
        self.rooms.retain(|_, room| room.grow(now));
    }

    /// Who should ask again now: of those for whom there is a place, the first.
    pub fn next(&self) -> Option<H> {
        self.queue
            .iter()
            .filter(|ask| self.full(ask).is_none())
            .min_by_key(|ask| ask.rank())
            .map(|ask| ask.handle.clone())
    }

    /// How many pools are queued.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The first of those that a place of `claim` would help.
    pub fn helped_by(&self, claim: &Claim) -> Option<H> {
        self.queue
            .iter()
            .filter(|ask| self.helps(claim, ask))
            .min_by_key(|ask| ask.rank())
            .map(|ask| ask.handle.clone())
    }

    /// How many servers count against a database, a user and a node.
    pub fn held(&self, claim: &Claim) -> (u32, u32, u32) {
        let of = |count: Option<&u32>| count.copied().unwrap_or(0);
        (of(self.databases.get(&claim.database)), of(self.users.get(&claim.user)), of(self.nodes.get(&claim.node)))
    }

    /// Free places by kind; `None`: no limit.
    fn free(&self, ask: &Ask<H>) -> [(Scarce, Option<u32>); 4] {
        let (database, user, node) = self.held(&ask.claim);
        let free = |cap: Option<u32>, held| cap.map(|cap| cap.saturating_sub(held));
        [
            (Scarce::Database, free(ask.caps.database, database)),
            (Scarce::User, free(ask.caps.user, user)),
            (Scarce::Node, free(ask.caps.node, node)),
            (Scarce::Server, free(self.rooms.get(&ask.claim.node).map(Room::most), node)),
        ]
    }

    fn full(&self, ask: &Ask<H>) -> Option<Scarce> {
        self.free(ask).into_iter().find(|(_, free)| *free == Some(0)).map(|(scarce, _)| scarce)
    }

    /// As `full`, but places that pools before it could take now are theirs.
    fn scarce(&self, ask: &Ask<H>) -> Option<Scarce> {
        for (scarce, free) in self.free(ask) {
            let Some(free) = free else { continue };
            let older = self.queue.iter().filter(|queued| {
                let before = ask.since.is_none() || queued.rank() < ask.rank();
                before && scarce.shared(&ask.claim, &queued.claim) && self.full(queued).is_none()
            });
            if usize::try_from(free).unwrap_or(usize::MAX) <= older.count() {
                return Some(scarce);
            }
        }
        None
    }

    fn count(&mut self, claim: &Claim, up: bool) {
        adjust(&mut self.databases, &claim.database, up);
        adjust(&mut self.users, &claim.user, up);
        adjust(&mut self.nodes, &claim.node, up);
    }
}

/// Entries of zero are dropped, so that the maps do not grow with names that came and went.
fn adjust<K: std::hash::Hash + Eq + Clone>(counts: &mut HashMap<K, u32>, key: &K, up: bool) {
    if up {
        *counts.entry(key.clone()).or_insert(0) += 1;
    } else if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
