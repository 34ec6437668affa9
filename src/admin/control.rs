//! What the console, the metrics and the health check need of the rest of the process, in one trait.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::error::CommandError;
use crate::config::model::{PoolMode, ShownSetting};
use crate::pool::stats::{PoolRow, ServerRow, Tally};
use crate::session::registry::ClientRow;
use crate::telemetry::labels::StopMode;
use crate::types::ClientId;

/// Something that ends later, and needs nobody's lifetime.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The hands of the console. Reading methods take a moment's snapshot and never wait.
///
/// `database` is a name of the configuration, `None` means all. The console's own database is dealt with before.
pub trait Control: Send + Sync + 'static {
    /// One row per pool, the console's own left out.
    fn pools(&self) -> Vec<PoolRow>;
    /// Every connection to PostgreSQL.
    fn servers(&self) -> Vec<ServerRow>;
    /// Every client, those of the console too.
    fn clients(&self) -> Vec<ClientRow>;
    /// Every database, the console's own left out.
    fn databases(&self) -> Vec<DatabaseRow>;
    /// Every user that is known.
    fn users(&self) -> Vec<UserRow>;
    /// Sums since the start, by database, the console's own left out.
    fn totals(&self) -> BTreeMap<Arc<str>, Totals>;
    /// Distributions of times since the start. Several entries of one database are added up.
    fn histograms(&self) -> Vec<(Arc<str>, Histograms)>;
    /// Numbers that have no table.
    fn counts(&self) -> Counts;
    /// Settings in force, sorted by key.
    fn settings(&self) -> Vec<ShownSetting>;
    /// Whether everything is paused.
    fn is_paused(&self) -> bool;
    /// What a load balancer asks. Of databases that can't be reached it has the next login tried, as soon as one may be:
    /// who follows the answer sends no client that would.
    fn health(&self) -> Health;

    /// Shuts the gate now. What is returned ends when no server is in use any more; its error is `Refused`, when the
    /// pause ended before. Dropping it takes this request back, and nobody else's.
    ///
    /// # Errors
    /// `Refused`: already paused, no such database.
    fn pause(&self, database: Option<&str>) -> Result<Later<Result<(), CommandError>>, CommandError>;
    /// Ends PAUSE and KILL, an operator's only.
    ///
    /// # Errors
    /// `Refused`: nothing is paused, no such database, shutting down.
    fn resume(&self, database: Option<&str>) -> Result<(), CommandError>;
    /// Marks every server to be closed when it comes free.
    ///
    /// # Errors
    /// `Refused`: no such database.
    fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError>;
    /// Drops clients and servers at once and leaves the database paused.
    ///
    /// # Errors
    /// `Refused`: already paused, no such database.
    fn kill(&self, database: Option<&str>) -> Result<(), CommandError>;
    /// Ends when the servers are gone that were marked until now.
    ///
    /// # Errors
    /// `Refused`: no such database.
    fn wait_close(&self, database: Option<&str>) -> Result<Later<()>, CommandError>;
    /// Refuses new clients, or takes them again.
    ///
    /// # Errors
    /// `Refused`: no such database.
    fn set_disabled(&self, database: &str, disabled: bool) -> Result<(), CommandError>;
    /// Tells a client that it is disconnected, and does so.
    ///
    /// # Errors
    /// `ClientNotFound`
    fn kill_client(&self, id: ClientId) -> Result<(), CommandError>;
    /// Reads the configuration anew and applies it; on failure nothing has changed. It goes on when dropped.
    ///
    /// The future gives what the log warns of in what is in force now; its error is `ReloadFailed`.
    fn reload(&self) -> Later<Result<Vec<String>, CommandError>>;
    /// Begins to end the process and returns.
    fn shutdown(&self, mode: StopMode);
}

/// One row of SHOW DATABASES.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW DATABASES")]
pub struct DatabaseRow {
    pub name: Arc<str>,
    /// Several are separated by commas; `None`: a Unix socket in the default place.
    pub host: Option<String>,
    pub port: u16,
    /// Its name on the server.
    pub database: Arc<str>,
    pub force_user: Option<Arc<str>>,
    /// The number in force.
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub server_lifetime: Duration,
    /// Where the database has its own.
    pub pool_mode: Option<PoolMode>,
    pub load_balance_hosts: Option<&'static str>,
    /// 0: no limit.
    pub max_connections: u32,
    pub current_connections: u32,
    /// 0: no limit.
    pub max_client_connections: u32,
    pub current_client_connections: u32,
    pub paused: bool,
    pub disabled: bool,
}

/// One row of SHOW USERS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW USERS")]
pub struct UserRow {
    pub name: Arc<str>,
    /// Where the user has their own.
    pub pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub pool_mode: Option<PoolMode>,
    /// 0: no limit.
    pub max_user_connections: u32,
    pub current_connections: u32,
    /// 0: no limit.
    pub max_user_client_connections: u32,
    pub current_client_connections: u32,
}

/// Sums of a database since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// What its clients did.
    pub tally: Tally,
    /// Logins that succeeded.
    pub client_logins: u64,
}

/// How often what took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Upper bounds in microseconds, growing, each with the number of samples between the one before and it.
    pub buckets: Vec<(u64, u64)>,
    /// Sum of all samples in microseconds.
    pub sum_us: u64,
    /// Number of all samples, those above the last bound too.
    pub count: u64,
}

/// Distributions of one pool or database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histograms {
    /// How long clients waited for a server.
    pub wait: HistogramSnapshot,
    /// How long queries took.
    pub query: HistogramSnapshot,
    /// How long transactions took.
    pub xact: HistogramSnapshot,
}

/// Numbers for SHOW LISTS and the console's own rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `listen_port`
    pub listen_port: u16,
    /// `max_client_conn`
    pub max_client_conn: u32,
    /// `max_user_connections` of `[pooler]`; 0: no limit.
    pub max_user_connections: u32,
    /// `server_lifetime` of `[pooler]`.
    pub server_lifetime: Duration,
    /// `stats_period`
    pub stats_period: Duration,
    /// Users that are known.
    pub users: u32,
    /// Clients that are connected.
    pub used_clients: u32,
    /// Those of them that are not logged in yet.
    pub login_clients: u32,
    /// Connections to PostgreSQL.
    pub used_servers: u32,
    /// Names in the DNS cache.
    pub dns_names: u32,
    /// DNS queries under way.
    pub dns_queries: u32,
}

/// Whether clients can be served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The process is about to end: new clients belong elsewhere.
    pub draining: bool,
    /// Databases by name, with what is known of their servers.
    pub databases: Vec<(Arc<str>, Reachability)>,
}

/// Whether a database's server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody has asked for it yet.
    Unknown,
    /// The last login succeeded.
    Reachable,
    /// The last login failed.
    Unreachable,
}

impl Reachability {
    /// The word in `/health`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Health {
    /// Whether a load balancer should send clients here: not while draining, nor when no database can be reached.
    pub fn is_good(&self) -> bool {
        let all_lost = !self.databases.is_empty()
            && self.databases.iter().all(|(_, reachability)| *reachability == Reachability::Unreachable);
        !self.draining && !all_lost
    }
}
