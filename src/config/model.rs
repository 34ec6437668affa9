//! The configuration as the program wants it: resolved, typed, immutable, shared by `Arc`.
//! Scopes (global, database, user) are merged in [`Config::pool_settings`] and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::settings::texts::Choices;
pub use super::settings::{ClientTls, Defaults, Pooler, ServerTls, TcpOptions};
use super::users::Userlist;
pub use crate::net::options::{SslMode, TlsVersions};
use crate::types::{Endpoint, Secret};

/// Everything that was configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[pooler]`.
    pub pooler: Pooler,
    /// `[pooler] client_tls_*`.
    pub client_tls: ClientTls,
    /// `[pooler] server_tls_*`.
    pub server_tls: ServerTls,
    /// `[metrics] listen`; `None` turns the listener off.
    pub metrics_listen: Option<SocketAddr>,
    /// `[databases.NAME]`; `*` is the fallback.
    pub databases: BTreeMap<Arc<str>, Arc<Database>>,
    /// `[users.NAME]`.
    pub users: BTreeMap<Arc<str>, User>,
    /// Contents of `auth_file`.
    pub userlist: Arc<Userlist>,
    /// Every setting of `[pooler]` for `SHOW CONFIG`: key, value, default, changeable by reload. Sorted by key.
    pub shown: Vec<ShownSetting>,
    /// What the files held that the TLS settings name.
    pub tls_files: TlsFiles,
}

/// Fingerprints of the contents of TLS files, to tell at a reload whether they changed. Never compared across runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Files of `client_tls_*`.
    pub client: u64,
    /// Files of `server_tls_*`.
    pub server: u64,
}

/// One row of `SHOW CONFIG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// The setting's name.
    pub key: &'static str,
    /// Its value, as it would be written.
    pub value: String,
    /// Its default.
    pub default: String,
    /// Whether RELOAD applies a change.
    pub changeable: bool,
}

/// When a server connection is given back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// When the transaction ends.
    Transaction,
    /// When the statement ends; transaction blocks are refused.
    Statement,
}

impl AuthType {
    /// Whether every client is asked by SCRAM.
    pub fn is_scram(self) -> bool {
        self == Self::ScramSha256
    }
}

impl PoolMode {
    /// As in the configuration and in SHOW.
    pub fn as_str(self) -> &'static str {
        self.name()
    }
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthType {
    /// Nothing is asked, but the user must exist.
    Trust,
    /// Cleartext password.
    Plain,
    /// MD5 challenge; SCRAM for users whose stored secret is SCRAM.
    Md5,
    /// SCRAM-SHA-256, and -PLUS on TLS.
    ScramSha256,
}

/// What is sent to a server that has been idle for long, before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuery {
    /// No check.
    Off,
    /// A Query with empty text (PgBouncer's `<empty>`).
    Empty,
    /// This text.
    Text(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[databases.NAME]`: where a database lives and what is special about it.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct Database {
    pub name: Arc<str>,
    /// At least one; several are tried by `load_balance_hosts`.
    pub endpoints: Vec<Endpoint>,
    pub load_balance_hosts: LoadBalance,
    /// The name on the server; `None` is the name that the client used (for `*`).
    pub dbname: Option<Arc<str>>,
    /// One user on the server for all clients.
    pub forced_user: Option<Arc<str>>,
    pub forced_password: Option<Secret>,
    pub connect_query: Option<String>,
    /// Sent in the server's startup packet: client_encoding, DateStyle, TimeZone, application_name.
    pub startup: Vec<(&'static str, String)>,
    pub pool_mode: Option<PoolMode>,
    pub pool_size: Option<u32>,
    pub min_pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub max_db_connections: Option<u32>,
    pub max_db_client_connections: Option<u32>,
    pub pin: Option<Pin>,
    pub unknown: Option<Unknown>,
    pub max_pinned_servers: Option<u32>,
    pub server_lifetime: Option<Duration>,
    /// Outer `None`: not set here. Inner `None`: waits for ever.
    pub query_wait_timeout: Option<Option<Duration>>,
}

/// Which of several hosts a new server connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadBalance {
    /// Each attempt takes the next.
    RoundRobin,
    /// Stays with one until a connection fails.
    Disable,
}

/// `[users.NAME]`. Outer `None`: not set here.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct User {
    pub pool_mode: Option<PoolMode>,
    pub pool_size: Option<u32>,
    pub reserve_pool_size: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_user_client_connections: Option<u32>,
    pub query_timeout: Option<Option<Duration>>,
    pub query_wait_timeout: Option<Option<Duration>>,
    pub client_idle_timeout: Option<Option<Duration>>,
    pub idle_transaction_timeout: Option<Option<Duration>>,
    pub pin: Option<Pin>,
    pub unknown: Option<Unknown>,
    pub max_pinned_servers: Option<u32>,
    pub pin_idle_timeout: Option<Option<Duration>>,
    pub transaction_timeout: Option<Option<Duration>>,
}

/// What holds for one pool and its clients, scopes merged (user over database over global).
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each setting is described where it is declared, in config::settings")]
pub struct PoolSettings {
    pub pool_mode: PoolMode,
    pub pool_size: u32,
    pub min_pool_size: u32,
    pub reserve_pool_size: u32,
    pub reserve_pool_timeout: Option<Duration>,
    pub max_db_connections: Option<u32>,
    pub max_user_connections: Option<u32>,
    pub max_node_connections: Option<u32>,
    pub server_lifetime: Duration,
    pub server_idle_timeout: Option<Duration>,
    pub server_check_delay: Duration,
    pub server_check_query: CheckQuery,
    pub server_connect_timeout: Option<Duration>,
    pub server_login_retry: Duration,
    pub server_round_robin: bool,
    pub server_reset_query: String,
    pub server_reset_query_always: bool,
    pub server_fast_close: bool,
    pub query_timeout: Option<Duration>,
    pub query_wait_timeout: Option<Duration>,
    pub query_wait_notify: Option<Duration>,
    pub client_idle_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub pin: Pin,
    pub unknown: Unknown,
    pub max_pinned_servers: Option<u32>,
    pub pin_idle_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
    pub max_prepared_statements: u32,
    pub cancel_on_disconnect: bool,
    pub cancel_wait_timeout: Option<Duration>,
}

impl Config {
    /// The entry that serves `name`: its own, or `*`. The entry `pgbouncer` is never here.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name).or_else(|| self.databases.get("*"))
    }

    /// Clients that `database` may have at once.
    pub fn max_db_client_connections(&self, database: &Database) -> Option<u32> {
        database.max_db_client_connections.or(self.pooler.defaults.max_db_client_connections)
    }

    /// Clients that `user` may have at once.
    pub fn max_user_client_connections(&self, user: &str) -> Option<u32> {
        let own = self.users.get(user).and_then(|user| user.max_user_client_connections);
        own.or(self.pooler.defaults.max_user_client_connections)
    }

    /// Merges the scopes for a pool of `user` (as on the server) on `database`.
    pub fn pool_settings(&self, database: &Database, user: &str) -> PoolSettings {
        let none = User::default();
        let user = self.users.get(user).unwrap_or(&none);
        let global = &self.pooler;
        let defaults = &global.defaults;
        PoolSettings {
            pool_mode: user.pool_mode.or(database.pool_mode).unwrap_or(defaults.pool_mode),
            pool_size: user.pool_size.or(database.pool_size).unwrap_or(defaults.default_pool_size),
            min_pool_size: database.min_pool_size.unwrap_or(defaults.min_pool_size),
            reserve_pool_size: user
                .reserve_pool_size
                .or(database.reserve_pool_size)
                .unwrap_or(defaults.reserve_pool_size),
            reserve_pool_timeout: global.reserve_pool_timeout,
            max_db_connections: database.max_db_connections.or(defaults.max_db_connections),
            max_user_connections: user.max_user_connections.or(defaults.max_user_connections),
            max_node_connections: global.max_node_connections,
            server_lifetime: database.server_lifetime.unwrap_or(defaults.server_lifetime),
            server_idle_timeout: global.server_idle_timeout,
            server_check_delay: global.server_check_delay,
            server_check_query: global.server_check_query.clone(),
            server_connect_timeout: global.server_connect_timeout,
            server_login_retry: global.server_login_retry,
            server_round_robin: global.server_round_robin,
            server_reset_query: global.server_reset_query.clone(),
            server_reset_query_always: global.server_reset_query_always,
            server_fast_close: global.server_fast_close,
            query_timeout: user.query_timeout.unwrap_or(defaults.query_timeout),
            query_wait_timeout: user
                .query_wait_timeout
                .or(database.query_wait_timeout)
                .unwrap_or(defaults.query_wait_timeout),
            query_wait_notify: global.query_wait_notify,
            client_idle_timeout: user.client_idle_timeout.unwrap_or(defaults.client_idle_timeout),
            idle_transaction_timeout: user.idle_transaction_timeout.unwrap_or(defaults.idle_transaction_timeout),
            pin: user.pin.or(database.pin).unwrap_or(global.pin),
            unknown: user.unknown.or(database.unknown).unwrap_or(global.unknown),
            max_pinned_servers: user.max_pinned_servers.or(database.max_pinned_servers).or(defaults.max_pinned_servers),
            pin_idle_timeout: user.pin_idle_timeout.unwrap_or(defaults.pin_idle_timeout),
            transaction_timeout: user.transaction_timeout.unwrap_or(defaults.transaction_timeout),
            max_prepared_statements: global.max_prepared_statements,
            cancel_on_disconnect: global.cancel_on_disconnect,
            cancel_wait_timeout: global.cancel_wait_timeout,
        }
    }
}

// How the values with names are written.

impl Choices for PoolMode {
    const ALL: &'static [(&'static str, Self)] =
        &[("session", Self::Session), ("transaction", Self::Transaction), ("statement", Self::Statement)];
}

/// What becomes of session state where servers change between transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// It goes with its client.
    Track,
    /// Only what servers report does.
    PgBouncer,
}

impl Choices for SessionState {
    const ALL: &'static [(&'static str, Self)] = &[("track", Self::Track), ("pgbouncer", Self::PgBouncer)];
}

/// What becomes of a client that has what only its server has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pin {
    /// It keeps that server.
    #[default]
    Auto,
    /// A statement that would bring it about is refused.
    Error,
    /// It loses that with the end of its transaction.
    Off,
}

impl Choices for Pin {
    const ALL: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("error", Self::Error), ("off", Self::Off)];
}

/// What becomes of a client whose code may have left on its server what nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// It loses that with the end of its transaction.
    #[default]
    Reset,
    /// It keeps that server.
    Pin,
}

impl Choices for Unknown {
    const ALL: &'static [(&'static str, Self)] = &[("reset", Self::Reset), ("pin", Self::Pin)];
}

/// How LISTEN is served where servers change between transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listen {
    /// By one connection for all clients.
    Shared,
    /// By the client's server, which it keeps.
    #[default]
    Pin,
    /// It is refused.
    Error,
}

impl Choices for Listen {
    const ALL: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("pin", Self::Pin), ("error", Self::Error)];
}

impl Choices for AuthType {
    const ALL: &'static [(&'static str, Self)] =
        &[("trust", Self::Trust), ("plain", Self::Plain), ("md5", Self::Md5), ("scram-sha-256", Self::ScramSha256)];
}

impl Choices for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choices for LoadBalance {
    const ALL: &'static [(&'static str, Self)] = &[("round-robin", Self::RoundRobin), ("disable", Self::Disable)];
}

impl Choices for SslMode {
    const ALL: &'static [(&'static str, Self)] = &[
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}
