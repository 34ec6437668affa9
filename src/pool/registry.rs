//! All pools: which there are, what a reload makes of them, what they share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::attempts::Attempts;
use super::connector::{Dial, DialRequest, Dialing};
use super::credential::{self, stored_credential};
use super::gate::HoldReason;
use super::keeper;
use super::limits::{Claim, PoolId, Scarce};
use super::now;
use super::pausing::Pause;
use super::permits::Permits;
use super::pool::{Pool, Shared, Target};
use super::settled::Settled;
use super::state::End;
use super::stats::Totals;
use crate::config::model::{Config, Database};
use crate::config::users::StoredSecret;
use crate::server::login::Credential;
use crate::types::{PoolKey, ServerId};

mod show;

/// All pools of the process. Dropping it ends them.
#[derive(Debug)]
pub struct Pools {
    pub(super) registry: Arc<Registry>,
}

pub(super) struct Registry {
    book: Mutex<Book>,
    dial: Arc<dyn Dial>,
    /// Clients and servers draw from it.
    ids: Arc<AtomicU64>,
    shared: Shared,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// What the registry's lock protects.
pub(super) struct Book {
    pub(super) config: Arc<Config>,
    pools: HashMap<PoolKey, Arc<Pool>>,
    /// Pools that have ended, until their last client and server are gone.
    leaving: Vec<Arc<Pool>>,
    /// Totals of pools that are gone, of databases that are still there.
    retired: BTreeMap<Arc<str>, Totals>,
    pub(super) databases: HashMap<Arc<str>, Orders>,
    /// The PAUSE of everything that holds, if one does.
    pub(super) pooler_paused: Option<Pause>,
    /// How many there were: what a PAUSE waits for ends with it, and not with the next.
    pub(super) pauses: u64,
    pub(super) ending: bool,
    keepers: JoinSet<()>,
    next_pool: u64,
}

/// What operators have ordered for a database.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Orders {
    /// The PAUSE or KILL that holds.
    pub(super) paused: Option<Pause>,
    pub(super) disabled: bool,
}

impl Pools {
    /// No pools yet but those that `min_pool_size` wants at once. `ids` holds the number that the next client or
    /// server gets. To be called within the runtime.
    pub fn new(config: Arc<Config>, dial: Arc<dyn Dial>, ids: Arc<AtomicU64>) -> Self {
        let book = Book {
            config,
            pools: HashMap::new(),
            leaving: Vec::new(),
            retired: BTreeMap::new(),
            databases: HashMap::new(),
            pooler_paused: None,
            pauses: 0,
            ending: false,
            keepers: JoinSet::new(),
            next_pool: 0,
        };
        let registry = Registry { book: Mutex::new(book), dial, ids, shared: Shared::default() };
        let pools = Self { registry: Arc::new(registry) };
        pools.registry.open_standing_pools();
        pools
    }

    /// The pool that serves `user`, as whom clients log in, on the database that they name so; a forced user serves all.
    /// `credential` is what is known to open the server, if anything; `stored`, what the user list held when it became
    /// known. `None`: there is no such database. To be called within the runtime.
    pub fn get_or_create(
        &self,
        name: &Arc<str>,
        user: &Arc<str>,
        stored: Option<&StoredSecret>,
        credential: Credential,
    ) -> Option<Arc<Pool>> {
        let mut book = self.registry.book.lock();
        let database = book.config.database(name)?.clone();
        // A reload may have come since. One that comes while the lock is held replaces what is learned here.
        let listed = book.config.userlist.get(user);
        let credential = if listed == stored { credential } else { stored_credential(listed) };
        let (pool, new) = self.registry.pool(&mut book, &database, name, user, credential.clone());
        if !new {
            pool.learn(credential);
        }
        drop(book);
        Some(pool)
    }

    /// Ends pools of databases that only `*` knows, once they have had neither clients nor servers for
    /// `autodb_idle_timeout`; those that never had a server, since there is no such database, say, as soon as another login
    /// may be tried. To be called every second or so.
    pub fn retire_unused(&self, now: Instant) {
        let limit = self.registry.with_book(|book| book.config.pooler.autodb_idle_timeout);
        for pool in self.registry.of(None) {
            let limit = match pool.welcome() {
                Some(_) => limit,
                None => Some(pool.settings().server_login_retry.min(limit.unwrap_or(Duration::MAX))),
            };
            if pool.is_automatic() && limit.is_some_and(|limit| pool.deserted_for(now) >= limit) {
                self.registry.end(&pool, End::DatabaseChanged);
            }
        }
        self.registry.retire();
    }

    /// Applies a reload: pools of databases that are gone end, those that are reached in another way replace their
    /// servers, all others take their new settings at once.
    pub fn apply(&self, config: &Arc<Config>) {
        let registry = &self.registry;
        let mut book = registry.book.lock();
        let before = std::mem::replace(&mut book.config, config.clone());
        // What was ordered goes with the database: one that comes back under this name is another.
        book.databases.retain(|name, _| config.database(name).is_some());
        book.retired.retain(|name, _| config.database(name).is_some());
        let pools: Vec<Arc<Pool>> = book.pools.values().cloned().collect();
        drop(book);
        for pool in pools {
            match change(&pool, &before, config) {
                Change::End(end) => registry.end(&pool, end),
                Change::Apply(target) => {
                    let key = pool.key();
                    let known = pool.lock().target.credential.clone();
                    if let Some(database) = config.database(&key.database) {
                        pool.apply(config.pool_settings(database, &key.user), target);
                    }
                    if let Some(credential) = credential::after_reload(&key.user, &known, &before, config) {
                        pool.replace_credential(credential);
                    }
                }
            }
        }
        registry
            .shared
            .attempts
            .retain(|node| config.databases.values().any(|database| database.endpoints.contains(node)));
        registry.open_standing_pools();
        registry.shared.settled.tell();
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.registry.end_all();
        self.registry.book.lock().keepers.abort_all();
    }
}

enum Change {
    End(End),
    /// With another target, if it is reached in another way.
    Apply(Option<Target>),
}

/// What a reload makes of a pool.
fn change(pool: &Pool, before: &Config, after: &Config) -> Change {
    let key = pool.key();
    let Some(database) = after.database(&key.database) else { return Change::End(End::DatabaseRemoved) };
    let target = pool.lock().target.clone();
    let old = &target.database;
    let user_changed = match &database.forced_user {
        Some(forced) => *forced != key.user,
        None => old.forced_user.is_some(),
    };
    if user_changed {
        return Change::End(End::DatabaseChanged);
    }
    let moved = old.endpoints != database.endpoints
        || old.dbname != database.dbname
        || old.forced_password != database.forced_password
        || old.connect_query != database.connect_query
        || old.startup != database.startup
        || before.server_tls != after.server_tls;
    let target = moved.then(|| Target::new(after, database, &key.database, target.credential));
    Change::Apply(target)
}

impl Target {
    /// A forced user is logged in with its own password, never with a client's.
    fn new(config: &Config, database: &Arc<Database>, name: &Arc<str>, credential: Credential) -> Self {
        let credential = match (&database.forced_user, &database.forced_password) {
            (None, _) => credential,
            (Some(_), Some(password)) => Credential::Plain(password.clone()),
            (Some(user), None) => stored_credential(config.userlist.get(user)),
        };
        let dbname = database.dbname.as_ref().unwrap_or(name).clone();
        Self { database: database.clone(), dbname, credential }
    }
}

impl Registry {
    /// Finds or makes a pool. Says whether it is new.
    fn pool(
        self: &Arc<Self>,
        book: &mut Book,
        database: &Arc<Database>,
        name: &Arc<str>,
        user: &Arc<str>,
        credential: Credential,
    ) -> (Arc<Pool>, bool) {
        let user = database.forced_user.as_ref().unwrap_or(user);
        let key = PoolKey { database: name.clone(), user: user.clone() };
        if let Some(pool) = book.pools.get(&key) {
            pool.touch();
            return (pool.clone(), false);
        }
        let settings = book.config.pool_settings(database, user);
        let target = Target::new(&book.config, database, name, credential);
        let id = PoolId(book.next_pool);
        book.next_pool += 1;
        let holds = book.holds(name);
        let pool = Pool::new(id, key.clone(), target, settings, self.shared.clone(), &holds);
        if book.ending {
            pool.end_unborn(End::ShuttingDown);
        } else {
            book.pools.insert(key, pool.clone());
            while book.keepers.try_join_next().is_some() {}
            book.keepers.spawn(keeper::keep(pool.clone(), self.clone()));
        }
        (pool, true)
    }

    /// Pools that keep servers without any client: those of a forced user with `min_pool_size`.
    fn open_standing_pools(self: &Arc<Self>) {
        let mut book = self.book.lock();
        let config = book.config.clone();
        for (name, database) in config.databases.iter().filter(|(name, _)| &***name != "*") {
            let Some(user) = &database.forced_user else { continue };
            if config.pool_settings(database, user).min_pool_size > 0 {
                self.pool(&mut book, database, name, user, Credential::None);
            }
        }
    }

    fn end(&self, pool: &Arc<Pool>, end: End) {
        {
            let mut book = self.book.lock();
            if book.pools.get(pool.key()).is_some_and(|current| Arc::ptr_eq(current, pool)) {
                book.pools.remove(pool.key());
                book.leaving.push(pool.clone());
            }
        }
        pool.event(now(), |inner, deeds| inner.state.end(end, deeds));
        self.shared.settled.tell();
    }

    /// Ends all pools, and those that are asked for later.
    pub(super) fn end_all(&self) {
        self.book.lock().ending = true;
        for pool in self.all() {
            self.end(&pool, End::ShuttingDown);
        }
    }

    /// Runs `act` with the registry's lock.
    pub(super) fn with_book<T>(&self, act: impl FnOnce(&mut Book) -> T) -> T {
        act(&mut self.book.lock())
    }

    /// All pools of a database, or of all; also those that have ended but still have servers.
    pub(super) fn of(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| &*pool.key().database == name));
        pools
    }

    fn all(&self) -> Vec<Arc<Pool>> {
        let book = self.book.lock();
        book.pools.values().chain(&book.leaving).cloned().collect()
    }

    pub(super) fn permits(&self) -> &Arc<Permits> {
        &self.shared.permits
    }

    pub(super) fn attempts(&self) -> &Arc<Attempts> {
        &self.shared.attempts
    }

    pub(super) fn permits_beside(&self) -> &Arc<Permits> {
        &self.shared.permits_beside
    }

    pub(super) fn settled(&self) -> &Arc<Settled> {
        &self.shared.settled
    }

    pub(super) fn next_server_id(&self) -> ServerId {
        ServerId(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn dial(&self, request: DialRequest) -> Dialing {
        self.dial.dial(request)
    }

    /// Closes the server that has been unused longest in all other pools that share the scarce thing, of those that have
    /// stayed for long enough. Returns whether there was one.
    pub(super) fn evict(&self, scarce: Scarce, claim: &Claim, asker: Option<PoolId>, now: Instant) -> bool {
        let victim = self
            .all()
            .into_iter()
            .filter(|pool| Some(pool.id()) != asker)
            .filter_map(|pool| pool.longest_unused(scarce, claim, now).map(|(slot, used_at)| (used_at, slot, pool)))
            .min_by_key(|(used_at, _, _)| *used_at);
        let Some((_, slot, pool)) = victim else { return false };
        pool.event(now, |inner, deeds| inner.state.evict(slot, deeds))
    }

    /// Asks the pool with the most busy servers of the scarce kind to close the next that comes back. Returns whether it
    /// will: it may have been asked for all of them.
    pub(super) fn ask_to_yield(&self, scarce: Scarce, claim: &Claim, asker: PoolId, now: Instant) -> bool {
        let richest = self
            .all()
            .into_iter()
            .filter(|pool| pool.id() != asker)
            .map(|pool| (pool.busy_sharing(scarce, claim, now), pool))
            .filter(|(busy, _)| *busy > 0)
            .max_by_key(|(busy, _)| *busy);
        let Some((_, pool)) = richest else { return false };
        pool.lock().state.ask_to_yield(now)
    }
}

impl Book {
    /// Databases that have pools.
    pub(super) fn pool_databases(&self) -> impl Iterator<Item = Arc<str>> {
        self.pools.keys().map(|key| key.database.clone())
    }

    /// Why a new pool of `database` would hold.
    fn holds(&self, database: &str) -> Vec<HoldReason> {
        let mut holds = Vec::new();
        if self.pooler_paused.is_some() {
            holds.push(HoldReason::PoolerPaused);
        }
        if self.databases.get(database).is_some_and(|orders| orders.paused.is_some()) {
            holds.push(HoldReason::DatabasePaused);
        }
        holds
    }
}

#[cfg(test)]
mod tests;
