//! What a new configuration changes, for those who must act on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::model::{Config, Database, User};
use super::resolve::METRICS_LISTEN;
use super::users::{StoredSecret, Userlist};

/// The difference between two configurations. Names are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings of `[pooler]` that differ and are in force with the new configuration.
    pub settings: Vec<&'static str>,
    /// Settings that differ, but that only a restart changes.
    pub needs_restart: Vec<&'static str>,
    /// Databases that are new.
    pub databases_added: Vec<Arc<str>>,
    /// Databases that are gone: their clients and servers are to be closed.
    pub databases_removed: Vec<Arc<str>>,
    /// Databases whose servers are elsewhere or are logged in to in another way: they are to be reconnected.
    pub servers_changed: Vec<Arc<str>>,
    /// Whether `client_tls_*` or the contents of its files differ: it matters to new clients only.
    pub client_tls: bool,
    /// Whether `server_tls_*` or the contents of its files differ: servers over TCP are to be reconnected.
    pub server_tls: bool,
    /// Users with another secret or other settings, new and removed ones included.
    pub users_changed: Vec<Arc<str>>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What differs between `old` and `new`. A server's stored secret counts for the users of a database without `user`:
/// those are in `users_changed`.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let (settings, mut needs_restart) = settings_changed(old, new);
    if old.metrics_listen != new.metrics_listen {
        needs_restart.push(METRICS_LISTEN);
    }
    let only_in = |here: &Config, there: &Config| -> Vec<Arc<str>> {
        here.databases.keys().filter(|name| !there.databases.contains_key(*name)).cloned().collect()
    };
    let servers_changed = old.databases.iter().filter_map(|(name, database)| {
        let new = new.databases.get(name)?;
        (!same_servers(database, new)).then(|| name.clone())
    });
    Changes {
        settings,
        needs_restart,
        databases_added: only_in(new, old),
        databases_removed: only_in(old, new),
        servers_changed: servers_changed.collect(),
        client_tls: old.client_tls != new.client_tls || old.tls_files.client != new.tls_files.client,
        server_tls: old.server_tls != new.server_tls || old.tls_files.server != new.tls_files.server,
        users_changed: users_changed(old, new),
    }
}

/// Settings that differ: those that are in force now, and those that need a restart.
fn settings_changed(old: &Config, new: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
    let before: BTreeMap<_, _> = old.shown.iter().map(|row| (row.key, &row.value)).collect();
    let differing = new.shown.iter().filter(|row| before.get(row.key) != Some(&&row.value));
    let (live, restart): (Vec<_>, Vec<_>) = differing.partition(|row| row.changeable);
    (live.iter().map(|row| row.key).collect(), restart.iter().map(|row| row.key).collect())
}

/// Whether servers of the one are as good as servers of the other.
fn same_servers(old: &Database, new: &Database) -> bool {
    old.endpoints == new.endpoints
        && old.dbname == new.dbname
        && old.forced_user == new.forced_user
        && old.forced_password == new.forced_password
        && old.startup == new.startup
}

fn users_changed(old: &Config, new: &Config) -> Vec<Arc<str>> {
    let (before, after) = (everyone(old), everyone(new));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    names.into_iter().filter(|name| before.get(name) != after.get(name)).map(Arc::from).collect()
}

/// All that is configured of each user.
fn everyone(config: &Config) -> BTreeMap<&str, (Option<&StoredSecret>, Option<&User>)> {
    let userlist: &Userlist = &config.userlist;
    let names = userlist.iter().map(|(name, _)| name).chain(config.users.keys().map(|name| &**name));
    names.map(|name| (name, (userlist.get(name), config.users.get(name)))).collect()
}

#[cfg(test)]
mod tests;
