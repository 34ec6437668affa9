//! Pools, servers and totals as the console and /metrics read them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::Pools;
use crate::pool::pool::Pool;
use crate::pool::stats::{DatabaseStatus, PoolRow, ServerRow, Totals, UserStatus};

impl Pools {
    /// SHOW POOLS, sorted by database and user.
    pub fn pool_rows(&self, now: Instant) -> Vec<PoolRow> {
        let mut rows: Vec<PoolRow> = self.current().iter().map(|pool| pool.row(now)).collect();
        rows.sort_by(|a, b| (&a.key.database, &a.key.user).cmp(&(&b.key.database, &b.key.user)));
        rows
    }

    /// SHOW SERVERS, by id.
    pub fn server_rows(&self, now: Instant) -> Vec<ServerRow> {
        let mut rows: Vec<ServerRow> = self.registry.of(None).iter().flat_map(|pool| pool.server_rows(now)).collect();
        rows.sort_by_key(|row| row.id);
        rows
    }

    /// What the clients of each database did since it is there, as clients name it. A database of the configuration
    /// stays when its pools are gone; as in PgBouncer, one that is gone takes its figures along.
    pub fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        self.registry.retire();
        let mut totals = self.registry.with_book(|book| book.retired.clone());
        for pool in self.registry.of(None).iter().filter(|pool| pool.counts()) {
            pool.add_totals(totals.entry(pool.key().database.clone()).or_default());
        }
        totals
    }

    /// Connections and orders by database, as clients name it.
    pub fn databases(&self) -> BTreeMap<Arc<str>, DatabaseStatus> {
        let mut databases: BTreeMap<Arc<str>, DatabaseStatus> = self.registry.with_book(|book| {
            let status = |orders: &super::Orders| DatabaseStatus {
                paused: orders.paused.is_some(),
                disabled: orders.disabled,
                ..DatabaseStatus::default()
            };
            book.databases.iter().map(|(name, orders)| (name.clone(), status(orders))).collect()
        });
        for pool in self.registry.of(None) {
            let status = databases.entry(pool.key().database.clone()).or_default();
            status.current_connections += pool.connections();
            status.current_client_connections += pool.clients();
        }
        databases
    }

    /// By database, whether the last login of some pool of it succeeded; those that nobody asked for are missing.
    pub fn reachability(&self) -> BTreeMap<Arc<str>, bool> {
        let mut known: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        for pool in self.registry.of(None) {
            if let Some(reachable) = pool.is_reachable() {
                *known.entry(pool.key().database.clone()).or_default() |= reachable;
            }
        }
        known
    }

    /// Has the pools of a database whose last login failed try another, each as soon as it may.
    pub fn ask_probes(&self, database: &str) {
        self.registry.of(Some(database)).iter().for_each(|pool| pool.ask_probe());
    }

    /// Connections by user, as servers know it.
    pub fn users(&self) -> BTreeMap<Arc<str>, UserStatus> {
        let mut users: BTreeMap<Arc<str>, UserStatus> = BTreeMap::new();
        for pool in self.registry.of(None) {
            let status = users.entry(pool.key().user.clone()).or_default();
            status.current_connections += pool.connections();
        }
        users
    }

    /// Pools that take clients.
    fn current(&self) -> Vec<Arc<Pool>> {
        self.registry.with_book(|book| book.pools.values().cloned().collect())
    }
}

impl super::Registry {
    /// Lets go of pools that have ended and are empty; their totals stay for as long as their database.
    pub(super) fn retire(&self) {
        let leaving = self.with_book(|book| std::mem::take(&mut book.leaving));
        let (gone, staying): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|pool| pool.is_deserted());
        let mut retired = Vec::new();
        for pool in gone.iter().filter(|pool| pool.counts()) {
            let mut totals = Totals::default();
            pool.add_totals(&mut totals);
            retired.push((pool.key().database.clone(), totals));
        }
        self.with_book(|book| {
            book.leaving.extend(staying);
            for (database, totals) in retired {
                book.retired.entry(database).or_default().add(&totals);
            }
            // What only "*" knows is there for as long as it has a pool.
            let present: HashSet<_> =
                book.pools.values().chain(&book.leaving).map(|pool| &*pool.key().database).collect();
            let named = &book.config.databases;
            book.retired.retain(|name, _| named.contains_key(name) || present.contains(&**name));
        });
    }
}
