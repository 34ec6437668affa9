//! What the console can see and do, over the rest of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{Mutex, watch};

use super::dial::Dialer;
use super::reload::{Running, reload};
use crate::admin::control::{
    Control, Counts, DatabaseRow, Health, HistogramSnapshot, Histograms, Later, Reachability, Totals, UserRow,
};
use crate::admin::error::CommandError;
use crate::config::model::{Config, Database, LoadBalance, ShownSetting};
use crate::net::listen::Listener;
use crate::pool::stats::{DatabaseStatus, Histogram, PoolRow, ServerRow};
use crate::session::context::Context;
use crate::session::registry::{ClientRow, Order};
use crate::telemetry::events::process as events;
use crate::telemetry::labels::StopMode;
use crate::telemetry::log::LogHandle;
use crate::types::{ClientId, Host};
use crate::wire::error::ClientError;

/// The hands of console and signals.
#[derive(Debug)]
pub struct Hands {
    /// What sessions share.
    pub context: Arc<Context>,
    /// Makes server connections.
    pub dialer: Arc<Dialer>,
    /// Where clients come in by TCP.
    pub listening: Arc<[Weak<Listener>]>,
    /// The configuration's file.
    pub path: PathBuf,
    /// The log.
    pub log: Option<LogHandle>,
    /// One reload at a time, so that none applies what another has overtaken.
    pub reloading: Arc<Mutex<()>>,
    /// How the process is to end.
    pub stop: watch::Sender<Option<StopMode>>,
}

impl Hands {
    /// A signal to end: one that comes while a shutdown is under way, whoever began it, ends at once.
    pub fn stop_or_hurry(&self, mode: StopMode) {
        let already = self.stop.borrow().is_some();
        self.shutdown(if already { StopMode::AtOnce } else { mode });
    }

    /// PAUSE by a signal: nobody waits for the servers to come free, and the gate is shut all the same.
    pub(super) fn pause_until_resume(&self) -> Result<(), CommandError> {
        self.context.pools.pause_until_resume().map_err(refused)
    }

    fn config(&self) -> Arc<Config> {
        self.context.config.load_full()
    }
}

fn refused(error: crate::pool::CommandError) -> CommandError {
    CommandError::Refused(error.reply())
}

impl Control for Hands {
    fn pools(&self) -> Vec<PoolRow> {
        self.context.pools.pool_rows(Instant::now())
    }

    fn servers(&self) -> Vec<ServerRow> {
        let now = Instant::now();
        let clients = self.context.registry.rows(now).into_iter();
        let mut clients: BTreeMap<_, _> = clients.map(|client| (client.id, client)).collect();
        let mut servers = self.context.pools.server_rows(now);
        for server in &mut servers {
            if let Some(client) = server.link.and_then(|client| clients.remove(&client)) {
                (server.application_name, server.pins) = (client.application_name, client.pins);
            }
        }
        servers
    }

    fn clients(&self) -> Vec<ClientRow> {
        self.context.registry.rows(Instant::now())
    }

    fn databases(&self) -> Vec<DatabaseRow> {
        let config = self.config();
        let mut status = self.context.pools.databases();
        let names: BTreeSet<_> = config.databases.keys().chain(status.keys()).cloned().collect();
        names
            .into_iter()
            // A rule for databases is none.
            .filter(|name| &**name != "*")
            .filter_map(|name| {
                let entry = config.database(&name)?;
                Some(database_row(&config, entry, name.clone(), &status.remove(&name).unwrap_or_default()))
            })
            .collect()
    }

    fn users(&self) -> Vec<UserRow> {
        let config = self.config();
        let status = self.context.pools.users();
        let mut clients = self.context.census.users();
        for (user, consoles) in self.context.registry.console_users() {
            *clients.entry(user).or_default() += consoles;
        }
        let listed = config.userlist.iter().map(|(name, _)| Arc::from(name));
        let names: BTreeSet<Arc<str>> =
            listed.chain(config.users.keys().chain(status.keys()).chain(clients.keys()).cloned()).collect();
        names
            .into_iter()
            .map(|name| {
                let clients = clients.get(&name).copied().unwrap_or(0);
                user_row(
                    &config,
                    name.clone(),
                    status.get(&name).map_or(0, |status| status.current_connections),
                    clients,
                )
            })
            .collect()
    }

    fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        let totals = self.context.pools.totals().into_iter();
        totals.map(|(name, t)| (name, Totals { tally: t.sums, client_logins: t.client_logins })).collect()
    }

    fn histograms(&self) -> Vec<(Arc<str>, Histograms)> {
        let totals = self.context.pools.totals().into_iter();
        totals
            .map(|(name, totals)| {
                let histograms = Histograms {
                    wait: snapshot(&totals.wait, totals.sums.wait_time_us),
                    query: snapshot(&totals.query, totals.sums.query_time_us),
                    xact: snapshot(&totals.xact, totals.sums.xact_time_us),
                };
                (name, histograms)
            })
            .collect()
    }

    fn counts(&self) -> Counts {
        let config = self.config();
        let clients = self.context.clients.total();
        let dns = self.dialer.connector.load().dns.counts();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Counts {
            listen_port: config.pooler.listen_port,
            max_client_conn: config.pooler.max_client_conn,
            max_user_connections: config.pooler.defaults.max_user_connections.unwrap_or(0),
            server_lifetime: config.pooler.defaults.server_lifetime,
            stats_period: config.pooler.stats_period,
            users: count(crate::admin::show::users(self.users()).rows.len()),
            used_clients: clients,
            login_clients: clients.saturating_sub(count(self.context.registry.members())),
            used_servers: count(self.servers().len()),
            dns_names: count(dns.names),
            dns_queries: count(dns.pending),
        }
    }

    fn settings(&self) -> Vec<ShownSetting> {
        self.config().shown.clone()
    }

    fn is_paused(&self) -> bool {
        self.context.pools.is_pooler_paused()
    }

    fn health(&self) -> Health {
        let known = self.context.pools.reachability();
        let draining = self.context.draining.load(Ordering::Relaxed);
        for (name, _) in known.iter().filter(|(_, reachable)| !**reachable && !draining) {
            self.context.pools.ask_probes(name);
        }
        let config = self.config();
        let reach = |name: &Arc<str>| match known.get(name) {
            None => Reachability::Unknown,
            Some(true) => Reachability::Reachable,
            Some(false) => Reachability::Unreachable,
        };
        Health { draining, databases: config.databases.keys().map(|name| (name.clone(), reach(name))).collect() }
    }

    fn pause(&self, database: Option<&str>) -> Result<Later<Result<(), CommandError>>, CommandError> {
        let paused = self.context.pools.pause(database).map_err(refused)?;
        Ok(Box::pin(async move { paused.await.map_err(refused) }))
    }

    fn resume(&self, database: Option<&str>) -> Result<(), CommandError> {
        let ending = self.context.draining.load(Ordering::Relaxed);
        match self.context.pools.resume(database) {
            // Whoever sends this to a pooler that ends wants to call that off, which can't be done.
            Err(crate::pool::CommandError::NotPaused { .. }) if ending => {
                Err(refused(crate::pool::CommandError::ShuttingDown))
            }
            resumed => resumed.map_err(refused),
        }
    }

    fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.context.pools.reconnect(database).map_err(refused)?;
        self.context.registry.part_from_obsolete(database);
        Ok(())
    }

    fn kill(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.context.pools.kill(database).map_err(refused)?;
        self.context.registry.order_all(database, Order::DATABASE_KILLED);
        Ok(())
    }

    fn wait_close(&self, database: Option<&str>) -> Result<Later<()>, CommandError> {
        Ok(Box::pin(self.context.pools.wait_close(database).map_err(refused)?))
    }

    fn set_disabled(&self, database: &str, disabled: bool) -> Result<(), CommandError> {
        let pools = &self.context.pools;
        let done = if disabled { pools.disable(Some(database)) } else { pools.enable(Some(database)) };
        done.map_err(refused)
    }

    fn kill_client(&self, id: ClientId) -> Result<(), CommandError> {
        if self.context.registry.kill(id) { Ok(()) } else { Err(CommandError::ClientNotFound) }
    }

    fn reload(&self) -> Later<Result<Vec<String>, CommandError>> {
        let (path, reloading) = (self.path.clone(), Arc::clone(&self.reloading));
        let running = Running {
            context: Arc::clone(&self.context),
            dialer: Arc::clone(&self.dialer),
            listening: Arc::clone(&self.listening),
            log: self.log.clone(),
        };
        let task = tokio::spawn(async move {
            let _alone = reloading.lock().await;
            reload(running, path).await
        });
        Box::pin(async move {
            let done = task.await.unwrap_or_else(|error| Err(vec![error.to_string()]));
            match &done {
                Ok(_) => events::reloaded(),
                Err(complaints) => events::reload_failed(complaints),
            }
            done.map_err(CommandError::ReloadFailed)
        })
    }

    fn shutdown(&self, mode: StopMode) {
        self.stop.send_replace(Some(mode));
    }
}

fn database_row(config: &Config, entry: &Database, name: Arc<str>, status: &DatabaseStatus) -> DatabaseRow {
    // As in PgBouncer, what a user of its own may have beyond the database is not told here, but in SHOW USERS.
    let settings = config.pool_settings(entry, "");
    let hosts: Vec<String> = entry
        .endpoints
        .iter()
        .filter(|endpoint| {
            !matches!(&endpoint.host, Host::UnixDir(dir) if Some(&**dir) == config.pooler.unix_socket_dir.as_deref())
        })
        .map(|endpoint| endpoint.host.to_string())
        .collect();
    let several = entry.endpoints.len() > 1;
    DatabaseRow {
        host: (!hosts.is_empty()).then(|| hosts.join(",")),
        port: entry.endpoints.first().map_or(5432, |endpoint| endpoint.port),
        database: entry.dbname.clone().unwrap_or_else(|| name.clone()),
        name,
        force_user: entry.forced_user.clone(),
        pool_size: settings.pool_size,
        min_pool_size: settings.min_pool_size,
        reserve_pool_size: settings.reserve_pool_size,
        server_lifetime: settings.server_lifetime,
        pool_mode: entry.pool_mode,
        load_balance_hosts: several.then_some(match entry.load_balance_hosts {
            LoadBalance::RoundRobin => "round-robin",
            LoadBalance::Disable => "disable",
        }),
        max_connections: settings.max_db_connections.unwrap_or(0),
        current_connections: status.current_connections,
        max_client_connections: config.max_db_client_connections(entry).unwrap_or(0),
        current_client_connections: status.current_client_connections,
        paused: status.paused,
        disabled: status.disabled,
    }
}

fn user_row(config: &Config, name: Arc<str>, servers: u32, clients: u32) -> UserRow {
    let own = config.users.get(&name).cloned().unwrap_or_default();
    let global = config.pooler.defaults.max_user_connections;
    UserRow {
        pool_size: own.pool_size,
        reserve_pool_size: own.reserve_pool_size,
        pool_mode: own.pool_mode,
        max_user_connections: own.max_user_connections.or(global).unwrap_or(0),
        current_connections: servers,
        max_user_client_connections: config.max_user_client_connections(&name).unwrap_or(0),
        current_client_connections: clients,
        name,
    }
}

fn snapshot(histogram: &Histogram, sum_us: u64) -> HistogramSnapshot {
    HistogramSnapshot {
        buckets: histogram.buckets().filter_map(|(bound, count)| Some((bound?, count))).collect(),
        sum_us,
        count: histogram.count(),
    }
}
