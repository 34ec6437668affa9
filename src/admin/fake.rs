//! A pooler that is only data, for tests of the console and of the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::control::{Control, Counts, DatabaseRow, Health, HistogramSnapshot, Histograms, Later, Totals, UserRow};
use super::error::CommandError;
use super::show;
use crate::config::model::{PoolMode, ShownSetting};
use crate::pool::stats::{PoolRow, ServerRow, Tally};
use crate::session::registry::ClientRow;
use crate::telemetry::labels::StopMode;
use crate::types::{ClientId, PoolKey};
use crate::wire::error::{ErrorReply, SqlState};

/// Notes what it is told.
#[derive(Default)]
pub(super) struct Fake {
    /// What was called, in order.
    pub(super) calls: Arc<Mutex<Vec<String>>>,
    /// Lets PAUSE, WAIT_CLOSE and RELOAD end.
    pub(super) done: Arc<Notify>,
    /// Why PAUSE ends before all is quiet, if it does.
    pub(super) resumed: Mutex<Option<CommandError>>,
    /// What `health` says.
    pub(super) health: Mutex<Health>,
    /// What RELOAD complains of.
    pub(super) complaints: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, call: &str, database: Option<&str>) {
        self.calls.lock().push(format!("{call} {}", database.unwrap_or("*")));
    }

    fn noted(&self, call: &str, database: Option<&str>) -> Result<(), CommandError> {
        if database == Some("none") {
            let reply = ErrorReply::error(SqlState::PROTOCOL_VIOLATION, "no such database: none");
            return Err(CommandError::Refused(reply));
        }
        self.note(call, database);
        Ok(())
    }

    fn when_done(&self) -> Later<()> {
        let done = self.done.clone();
        Box::pin(async move { done.notified().await })
    }
}

/// Notes when a PAUSE is dropped before its end.
struct Pausing {
    given_up: Option<String>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Drop for Pausing {
    fn drop(&mut self) {
        self.calls.lock().extend(self.given_up.take());
    }
}

impl Control for Fake {
    fn pools(&self) -> Vec<PoolRow> {
        let key = PoolKey { database: "app".into(), user: "alice".into() };
        let pool =
            PoolRow { key, sv_idle: 3, cl_waiting: 2, maxwait: Duration::from_millis(1500), ..show::console_pool(5) };
        vec![PoolRow { pool_mode: PoolMode::Transaction, ..pool }]
    }

    fn servers(&self) -> Vec<ServerRow> {
        Vec::new()
    }

    fn clients(&self) -> Vec<ClientRow> {
        Vec::new()
    }

    fn databases(&self) -> Vec<DatabaseRow> {
        vec![DatabaseRow { name: "app".into(), pool_size: 25, ..show::console_database(&self.counts(), 0) }]
    }

    fn users(&self) -> Vec<UserRow> {
        Vec::new()
    }

    fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        let tally = Tally { xacts: 10, queries: 20, query_time_us: 2_500_000, ..Tally::default() };
        BTreeMap::from([("app".into(), Totals { tally, client_logins: 4 })])
    }

    fn histograms(&self) -> Vec<(Arc<str>, Histograms)> {
        let wait = HistogramSnapshot { buckets: vec![(1000, 2), (2000, 1)], sum_us: 9000, count: 4 };
        vec![("app".into(), Histograms { wait, ..Histograms::default() })]
    }

    fn counts(&self) -> Counts {
        Counts { listen_port: 6432, max_client_conn: 100, used_clients: 7, ..Counts::default() }
    }

    fn settings(&self) -> Vec<ShownSetting> {
        Vec::new()
    }

    fn is_paused(&self) -> bool {
        false
    }

    fn health(&self) -> Health {
        self.health.lock().clone()
    }

    fn pause(&self, database: Option<&str>) -> Result<Later<Result<(), CommandError>>, CommandError> {
        self.noted("pause", database)?;
        let (done, resumed) = (self.when_done(), self.resumed.lock().clone());
        let given_up = format!("give up {}", database.unwrap_or("*"));
        let pausing = Pausing { given_up: Some(given_up), calls: self.calls.clone() };
        Ok(Box::pin(async move {
            let mut pausing = pausing;
            done.await;
            pausing.given_up = None;
            resumed.map_or(Ok(()), Err)
        }))
    }

    fn resume(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.noted("resume", database)
    }

    fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.noted("reconnect", database)
    }

    fn kill(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.noted("kill", database)
    }

    fn wait_close(&self, database: Option<&str>) -> Result<Later<()>, CommandError> {
        self.noted("wait_close", database)?;
        Ok(self.when_done())
    }

    fn set_disabled(&self, database: &str, disabled: bool) -> Result<(), CommandError> {
        self.noted(if disabled { "disable" } else { "enable" }, Some(database))
    }

    fn kill_client(&self, id: ClientId) -> Result<(), CommandError> {
        if id.0 == 17 { self.noted("kill_client", Some("17")) } else { Err(CommandError::ClientNotFound) }
    }

    fn reload(&self) -> Later<Result<Vec<String>, CommandError>> {
        self.note("reload", None);
        let complaints = self.complaints.lock().clone();
        let result = if complaints.is_empty() { Ok(Vec::new()) } else { Err(CommandError::ReloadFailed(complaints)) };
        Box::pin(async move { result })
    }

    fn shutdown(&self, mode: StopMode) {
        self.note("shutdown", Some(mode.as_str()));
    }
}
