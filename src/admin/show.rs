//! One function per SHOW: snapshots in, [`Table`] out. Columns, their types and their order are PgBouncer's;
//! new ones may only come at the end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::averages::{ByDatabase, Figures};
use super::command::{Parameter, Show};
use super::control::{Counts, DatabaseRow, UserRow};
use super::table::{Cell, Column, Table, Type};
use crate::config::model::{PoolMode, ShownSetting};
use crate::pool::stats::{PoolRow, ServerRow, ServerState};
use crate::session::registry::{ClientRow, ClientState};
use crate::telemetry::labels::Pin;
use crate::telemetry::stamp::Stamp;
use crate::types::PoolKey;

mod stats;

pub use stats::{STATS, STATS_AVERAGES, STATS_TOTALS, TOTALS, stats, stats_averages, stats_totals, totals};

/// The console's database, and its user of the same name.
pub const CONSOLE: &str = "pgbouncer";
/// What SHOW VERSION says; drivers and tools look for PgBouncer's number.
pub const VERSION_TEXT: &str = concat!("PgBouncer 1.25.2 (pglifeguard ", env!("CARGO_PKG_VERSION"), ")");
/// What the console reports as `server_version`: drivers read the number, tools the rest.
pub const SERVER_VERSION: &str = "1.25.2/bouncer";
/// How many servers the console's row of SHOW DATABASES says it may have, as in PgBouncer.
const CONSOLE_POOL_SIZE: u32 = 2;

macro_rules! columns {
    ($($(#[$about:meta])+ $list:ident = [$($kind:ident: $($name:literal)+;)+];)+) => {
        $($(#[$about])+ pub const $list: &[Column] = &[$($(Column { name: $name, kind: Type::$kind },)+)+];)+
    };
}
use columns;

columns! {
    /// Columns of SHOW CLIENTS: those of PgBouncer, and why a client keeps its server.
    CLIENTS = [
        Text: "type" "user" "database" "replication" "state" "addr";
        Int4: "port";
        Text: "local_addr";
        Int4: "local_port";
        Text: "connect_time" "request_time";
        Int4: "wait" "wait_us" "close_needed";
        Text: "ptr" "link";
        Int4: "remote_pid";
        Text: "tls" "application_name";
        Int4: "prepared_statements" "id";
        Text: "pins";
    ];
    /// Columns of SHOW POOLS.
    POOLS = [
        Text: "database" "user";
        Int4: "cl_active" "cl_waiting" "cl_active_cancel_req" "cl_waiting_cancel_req" "sv_active" "sv_active_cancel"
            "sv_being_canceled" "sv_idle" "sv_used" "sv_tested" "sv_login" "maxwait" "maxwait_us";
        Text: "pool_mode" "load_balance_hosts";
    ];
    /// Columns of SHOW DATABASES.
    DATABASES = [
        Text: "name" "host";
        Int4: "port";
        Text: "database" "force_user";
        Int4: "pool_size" "min_pool_size" "reserve_pool_size" "server_lifetime";
        Text: "pool_mode" "load_balance_hosts";
        Int4: "max_connections" "current_connections" "max_client_connections" "current_client_connections" "paused"
            "disabled";
    ];
    /// Columns of SHOW USERS.
    USERS = [
        Text: "name" "pool_size" "reserve_pool_size" "pool_mode";
        Int4: "max_user_connections" "current_connections" "max_user_client_connections" "current_client_connections";
    ];
    /// Columns of SHOW LISTS: two and no more, tools read them by position.
    LISTS = [
        Text: "list";
        Int4: "items";
    ];
    /// Columns of SHOW CONFIG: four and no more, tools read them by position.
    CONFIG = [
        Text: "key" "value" "default" "changeable";
    ];
    /// Columns of SHOW STATE.
    STATE = [
        Text: "key" "value";
    ];
    /// Columns of SHOW VERSION.
    VERSION = [
        Text: "version";
    ];
}

/// Columns of SHOW SERVERS: those of SHOW CLIENTS.
pub const SERVERS: &[Column] = CLIENTS;

/// Columns of the answer; HELP has none.
pub fn columns_of(what: Show) -> Option<&'static [Column]> {
    Some(match what {
        Show::Clients => CLIENTS,
        Show::Servers => SERVERS,
        Show::Config => CONFIG,
        Show::Databases => DATABASES,
        Show::Help => return None,
        Show::Lists => LISTS,
        Show::Pools => POOLS,
        Show::State => STATE,
        Show::Stats => STATS,
        Show::StatsAverages => STATS_AVERAGES,
        Show::StatsTotals => STATS_TOTALS,
        Show::Totals => TOTALS,
        Show::Users => USERS,
        Show::Version => VERSION,
    })
}

/// SHOW CLIENTS, by id.
pub fn clients(mut clients: Vec<ClientRow>) -> Table {
    clients.sort_by_key(|row| row.id);
    Table { columns: CLIENTS, rows: clients.into_iter().map(client_row).collect() }
}

fn client_row(row: ClientRow) -> Vec<Cell> {
    vec![
        "C".into(),
        Cell::from(&row.user),
        Cell::from(&row.key.database),
        "none".into(),
        client_state(row.state).into(),
        row.addr.into(),
        row.port.into(),
        row.local_addr.into(),
        row.local_port.into(),
        stamp(row.connected_at),
        stamp(row.requested_at),
        (row.wait_us / 1_000_000).into(),
        (row.wait_us % 1_000_000).into(),
        false.into(),
        pointer(row.id.0).into(),
        row.link.map_or_else(String::new, |server| pointer(server.0)).into(),
        row.remote_pid.into(),
        Cell::from(&row.tls),
        row.application_name.into(),
        row.prepared_statements.into(),
        row.id.0.into(),
        pins(row.pins).into(),
    ]
}

/// Why a client keeps its server, with commas in between.
fn pins(bits: u16) -> String {
    let set = Pin::ALL.iter().filter(|pin| bits & (1 << **pin as u16) != 0);
    set.map(|pin| pin.as_str()).collect::<Vec<_>>().join(",")
}

fn client_state(state: ClientState) -> &'static str {
    match state {
        ClientState::Idle => "idle",
        ClientState::Active => "active",
        ClientState::Waiting => "waiting",
    }
}

/// SHOW SERVERS, by pool and then by id.
pub fn servers(mut servers: Vec<ServerRow>) -> Table {
    servers.sort_by(|a, b| (&a.key, a.id).cmp(&(&b.key, b.id)));
    Table { columns: SERVERS, rows: servers.into_iter().map(server_row).collect() }
}

fn server_row(row: ServerRow) -> Vec<Cell> {
    vec![
        "S".into(),
        Cell::from(&row.key.user),
        Cell::from(&row.key.database),
        "none".into(),
        server_state(row.state).into(),
        row.addr.into(),
        row.port.into(),
        row.local_addr.into(),
        row.local_port.into(),
        stamp(row.connected_at),
        stamp(row.requested_at),
        0u32.into(),
        0u32.into(),
        row.close_needed.into(),
        pointer(row.id.0).into(),
        row.link.map_or_else(String::new, |client| pointer(client.0)).into(),
        row.remote_pid.into(),
        Cell::from(&row.tls),
        row.application_name.into(),
        row.prepared_statements.into(),
        row.id.0.into(),
        pins(row.pins).into(),
    ]
}

fn server_state(state: ServerState) -> &'static str {
    match state {
        ServerState::Active => "active",
        ServerState::Idle => "idle",
        ServerState::Used => "used",
        ServerState::Tested => "tested",
        ServerState::Login => "new",
        ServerState::BeingCanceled => "being_canceled",
    }
}

/// SHOW POOLS, by database and user; `consoles` is the number of clients in the console.
pub fn pools(mut pools: Vec<PoolRow>, consoles: u32) -> Table {
    pools.push(console_pool(consoles));
    pools.sort_by(|a, b| a.key.cmp(&b.key));
    Table { columns: POOLS, rows: pools.into_iter().map(pool_row).collect() }
}

/// The console's own pool.
pub fn console_pool(consoles: u32) -> PoolRow {
    PoolRow {
        key: PoolKey { database: CONSOLE.into(), user: CONSOLE.into() },
        cl_active: consoles,
        cl_waiting: 0,
        cl_active_cancel_req: 0,
        cl_waiting_cancel_req: 0,
        sv_active: 0,
        sv_active_cancel: 0,
        sv_being_canceled: 0,
        sv_idle: 0,
        sv_used: 0,
        sv_tested: 0,
        sv_login: 0,
        maxwait: Duration::ZERO,
        pool_mode: PoolMode::Statement,
        load_balance_hosts: None,
        known: true,
    }
}

fn pool_row(row: PoolRow) -> Vec<Cell> {
    vec![
        Cell::from(&row.key.database),
        Cell::from(&row.key.user),
        row.cl_active.into(),
        row.cl_waiting.into(),
        row.cl_active_cancel_req.into(),
        row.cl_waiting_cancel_req.into(),
        row.sv_active.into(),
        row.sv_active_cancel.into(),
        row.sv_being_canceled.into(),
        row.sv_idle.into(),
        row.sv_used.into(),
        row.sv_tested.into(),
        row.sv_login.into(),
        row.maxwait.as_secs().into(),
        row.maxwait.subsec_micros().into(),
        row.pool_mode.as_str().into(),
        row.load_balance_hosts.into(),
    ]
}

/// SHOW DATABASES, by name.
pub fn databases(mut databases: Vec<DatabaseRow>, counts: &Counts, consoles: u32) -> Table {
    databases.push(console_database(counts, consoles));
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    Table { columns: DATABASES, rows: databases.into_iter().map(database_row).collect() }
}

/// The console's own database.
pub fn console_database(counts: &Counts, consoles: u32) -> DatabaseRow {
    DatabaseRow {
        name: CONSOLE.into(),
        host: None,
        port: counts.listen_port,
        database: CONSOLE.into(),
        force_user: Some(CONSOLE.into()),
        pool_size: CONSOLE_POOL_SIZE,
        min_pool_size: 0,
        reserve_pool_size: 0,
        server_lifetime: counts.server_lifetime,
        pool_mode: Some(PoolMode::Statement),
        load_balance_hosts: None,
        max_connections: 0,
        current_connections: 0,
        max_client_connections: 0,
        current_client_connections: consoles,
        paused: false,
        disabled: false,
    }
}

fn database_row(row: DatabaseRow) -> Vec<Cell> {
    vec![
        Cell::from(&row.name),
        row.host.into(),
        row.port.into(),
        Cell::from(&row.database),
        row.force_user.as_ref().into(),
        row.pool_size.into(),
        row.min_pool_size.into(),
        row.reserve_pool_size.into(),
        row.server_lifetime.as_secs().into(),
        row.pool_mode.map(PoolMode::as_str).into(),
        row.load_balance_hosts.into(),
        row.max_connections.into(),
        row.current_connections.into(),
        row.max_client_connections.into(),
        row.current_client_connections.into(),
        row.paused.into(),
        row.disabled.into(),
    ]
}

/// SHOW USERS, by name.
pub fn users(mut users: Vec<UserRow>) -> Table {
    if !users.iter().any(|row| &*row.name == CONSOLE) {
        users.push(UserRow { name: CONSOLE.into(), ..UserRow::default() });
    }
    users.sort_by(|a, b| a.name.cmp(&b.name));
    Table { columns: USERS, rows: users.into_iter().map(user_row).collect() }
}

fn user_row(row: UserRow) -> Vec<Cell> {
    let padded = |size: Option<u32>| size.map_or_else(String::new, |size| format!("{size:9}"));
    vec![
        Cell::from(&row.name),
        padded(row.pool_size).into(),
        padded(row.reserve_pool_size).into(),
        row.pool_mode.map(PoolMode::as_str).into(),
        row.max_user_connections.into(),
        row.current_connections.into(),
        row.max_user_client_connections.into(),
        row.current_client_connections.into(),
    ]
}

/// SHOW LISTS. `databases` and `pools` count the console's own too. What PgBouncer keeps in caches of memory
/// (`free_*`) is told as what could still be had: clients up to `max_client_conn`, servers none in advance.
pub fn lists(counts: &Counts, databases: usize, pools: usize) -> Table {
    let size = |n: usize| n as u64;
    let items: [(&'static str, u64); 14] = [
        ("databases", size(databases)),
        ("users", counts.users.into()),
        ("peers", 0),
        ("pools", size(pools)),
        ("peer_pools", 0),
        ("free_clients", counts.max_client_conn.saturating_sub(counts.used_clients).into()),
        ("used_clients", counts.used_clients.into()),
        ("login_clients", counts.login_clients.into()),
        ("free_servers", 0),
        ("used_servers", counts.used_servers.into()),
        ("dns_names", counts.dns_names.into()),
        ("dns_zones", 0),
        ("dns_queries", counts.dns_queries.into()),
        ("dns_pending", 0),
    ];
    Table { columns: LISTS, rows: items.into_iter().map(|(list, items)| vec![list.into(), items.into()]).collect() }
}

/// SHOW CONFIG, by key.
pub fn config(mut settings: Vec<ShownSetting>) -> Table {
    settings.sort_by_key(|setting| setting.key);
    let row = |setting: ShownSetting| {
        vec![setting.key.into(), setting.value.into(), setting.default.into(), yes_no(setting.changeable)]
    };
    Table { columns: CONFIG, rows: settings.into_iter().map(row).collect() }
}

/// SHOW STATE.
pub fn state(paused: bool) -> Table {
    let rows = [("active", !paused), ("paused", paused), ("suspended", false)];
    Table { columns: STATE, rows: rows.into_iter().map(|(key, value)| vec![key.into(), yes_no(value)]).collect() }
}

/// SHOW VERSION.
pub fn version() -> Table {
    Table { columns: VERSION, rows: vec![vec![VERSION_TEXT.into()]] }
}

/// SHOW of a parameter that drivers ask for.
pub fn parameter(parameter: &'static Parameter) -> Table {
    Table { columns: &parameter.column, rows: vec![vec![parameter.value.into()]] }
}

/// The detail of SHOW HELP.
pub const HELP: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW LISTS|STATE
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tWAIT_CLOSE [<db>]
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS";

fn yes_no(yes: bool) -> Cell {
    if yes { "yes" } else { "no" }.into()
}

fn stamp(at: SystemTime) -> Cell {
    Stamp(at).to_string().into()
}

/// PgBouncer shows an address in memory; ours stands for the same connection just as well.
fn pointer(id: u64) -> String {
    format!("{id:#x}")
}

/// Totals of the console itself join those of the databases.
pub fn with_console(mut totals: ByDatabase, console: Figures) -> ByDatabase {
    totals.insert(Arc::from(CONSOLE), console);
    totals
}

#[cfg(test)]
mod tests;
