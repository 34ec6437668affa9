//! Every metric that exists: name, kind and help text. A docstring here is what `/metrics` shows as HELP.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    /// As the text format spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    help: &'static str,
}

impl Metric {
    /// One sentence for the reader of a dashboard.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }
}

/// Declares metrics, and the list of them.
macro_rules! metrics {
    ($(#[$about:meta])+ $list:ident: $($(#[doc = $help:literal])+ $name:ident: $kind:ident = $text:literal;)+) => {
        $($(#[doc = $help])+ pub const $name: Metric =
            Metric { name: $text, kind: Kind::$kind, help: concat!($($help),+) };)+

        $(#[$about])+
        pub const $list: &[Metric] = &[$($name),+];
    };
}

metrics! {
    /// Counted by the functions of [`super::events`].
    EVENTS:
    /// Connections accepted from clients, before login.
    CLIENT_CONNECTIONS: Counter = "pglifeguard_client_connections_total";
    /// Logins that succeeded.
    LOGINS: Counter = "pglifeguard_logins_total";
    /// Logins that were refused, by reason.
    LOGIN_REFUSALS: Counter = "pglifeguard_login_refusals_total";
    /// Client connections that ended, by reason.
    CLIENT_DISCONNECTIONS: Counter = "pglifeguard_client_disconnections_total";
    /// Errors that the pooler itself sent to clients, by class of SQLSTATE.
    ERRORS_SENT: Counter = "pglifeguard_errors_sent_total";
    /// Errors that PostgreSQL sent to clients through the pooler, by class of SQLSTATE.
    SERVER_ERRORS: Counter = "pglifeguard_server_errors_total";
    /// Servers that were lost while a client had them, by what that meant for the client.
    SERVERS_LOST: Counter = "pglifeguard_servers_lost_total";
    /// Connections to PostgreSQL that logged in.
    SERVERS_OPENED: Counter = "pglifeguard_server_connections_opened_total";
    /// Connections to PostgreSQL that were closed, by reason.
    SERVERS_CLOSED: Counter = "pglifeguard_server_connections_closed_total";
    /// Connections to PostgreSQL that could not be opened or logged in.
    SERVER_LOGINS_FAILED: Counter = "pglifeguard_server_logins_failed_total";
    /// Clients that wanted a server and got an error, by class of its SQLSTATE.
    WAITS_REFUSED: Counter = "pglifeguard_client_waits_refused_total";
    /// Connections to PostgreSQL opened beyond pool_size, from the reserve.
    RESERVE_TAKEN: Counter = "pglifeguard_reserve_connections_total";
    /// Clients that began to keep their server beyond a transaction, by what they have there.
    PINS: Counter = "pglifeguard_client_pins_total";
    /// Servers that were reset for what a client may have left, by what that is.
    SERVER_RESETS: Counter = "pglifeguard_server_resets_total";
    /// Notifications that clients have got by connections that listen for several.
    NOTIFICATIONS: Counter = "pglifeguard_notifications_total";
    /// Connections to PostgreSQL that listen for several clients, beside the pools.
    NOTIFICATION_CONNECTIONS: Gauge = "pglifeguard_notification_connections";
    /// Those of them that broke while clients listened.
    NOTIFICATION_CONNECTIONS_LOST: Counter = "pglifeguard_notification_connections_lost_total";
    /// Cancel requests, by what became of them.
    CANCEL_REQUESTS: Counter = "pglifeguard_cancel_requests_total";
    /// Packets that broke the protocol and cost their connection.
    PROTOCOL_VIOLATIONS: Counter = "pglifeguard_protocol_violations_total";
    /// Reloads of the configuration, by outcome.
    RELOADS: Counter = "pglifeguard_reloads_total";
    /// Console commands other than SHOW that were carried out, by command and outcome.
    ADMIN_COMMANDS: Counter = "pglifeguard_admin_commands_total";
    /// Unix time at which the process started.
    START_TIME: Gauge = "process_start_time_seconds";
    /// File descriptors that the process may open.
    MAX_FDS: Gauge = "process_max_fds";
}

metrics! {
    /// Rendered from a snapshot at each scrape. Names that begin with `pgbouncer_` are those of
    /// prometheus-community/pgbouncer_exporter, so its dashboards and alerts go on working.
    SNAPSHOT:
    /// Whether the pooler answers: always 1.
    UP: Gauge = "pgbouncer_up";
    /// The version that SHOW VERSION shows.
    VERSION: Gauge = "pgbouncer_version_info";
    /// Databases known.
    DATABASES: Gauge = "pgbouncer_databases";
    /// Users known.
    USERS: Gauge = "pgbouncer_users";
    /// Pools known.
    POOLS: Gauge = "pgbouncer_pools";
    /// Clients that could still connect.
    FREE_CLIENTS: Gauge = "pgbouncer_free_clients";
    /// Clients that are connected.
    USED_CLIENTS: Gauge = "pgbouncer_used_clients";
    /// Clients that are logging in.
    LOGIN_CLIENTS: Gauge = "pgbouncer_login_clients";
    /// Always 0, no connections are kept in advance outside the pools.
    FREE_SERVERS: Gauge = "pgbouncer_free_servers";
    /// Connections to PostgreSQL.
    USED_SERVERS: Gauge = "pgbouncer_used_servers";
    /// DNS names in the cache.
    DNS_NAMES: Gauge = "pgbouncer_cached_dns_names";
    /// DNS queries under way.
    DNS_QUERIES: Gauge = "pgbouncer_in_flight_dns_queries";
    /// The setting max_client_conn.
    MAX_CLIENT_CONN: Gauge = "pgbouncer_config_max_client_connections";
    /// The setting max_user_connections; 0 is no limit.
    MAX_USER_CONNECTIONS: Gauge = "pgbouncer_config_max_user_connections";

    /// Clients that have a server, or are idle.
    POOL_CL_ACTIVE: Gauge = "pgbouncer_pools_client_active_connections";
    /// Clients that wait for a server.
    POOL_CL_WAITING: Gauge = "pgbouncer_pools_client_waiting_connections";
    /// Cancel requests that were sent on and await their end.
    POOL_CL_ACTIVE_CANCEL: Gauge = "pgbouncer_pools_client_active_cancel_connections";
    /// Cancel requests that were not sent on yet.
    POOL_CL_WAITING_CANCEL: Gauge = "pgbouncer_pools_client_waiting_cancel_connections";
    /// Servers that a client has.
    POOL_SV_ACTIVE: Gauge = "pgbouncer_pools_server_active_connections";
    /// Server connections that carry a cancel request.
    POOL_SV_ACTIVE_CANCEL: Gauge = "pgbouncer_pools_server_active_cancel_connections";
    /// Servers that could rest but wait until cancel requests for them have landed.
    POOL_SV_BEING_CANCELED: Gauge = "pgbouncer_pools_server_being_canceled_connections";
    /// Servers at rest, ready for a client.
    POOL_SV_IDLE: Gauge = "pgbouncer_pools_server_idle_connections";
    /// Servers that rested for longer than server_check_delay.
    POOL_SV_USED: Gauge = "pgbouncer_pools_server_used_connections";
    /// Servers that are being reset or checked.
    POOL_SV_TESTED: Gauge = "pgbouncer_pools_server_testing_connections";
    /// Servers that are logging in.
    POOL_SV_LOGIN: Gauge = "pgbouncer_pools_server_login_connections";
    /// How long the oldest waiting client has waited, in seconds.
    POOL_MAXWAIT: Gauge = "pgbouncer_pools_client_maxwait_seconds";

    /// Servers that one pool of the database may have.
    DB_POOL_SIZE: Gauge = "pgbouncer_databases_pool_size";
    /// Further servers that a pool of the database may have when clients wait.
    DB_RESERVE_POOL: Gauge = "pgbouncer_databases_reserve_pool";
    /// Servers that the database may have over all pools; 0 is no limit.
    DB_MAX_CONNECTIONS: Gauge = "pgbouncer_databases_max_connections";
    /// Servers that the database has.
    DB_CURRENT_CONNECTIONS: Gauge = "pgbouncer_databases_current_connections";
    /// 1 while the database is paused.
    DB_PAUSED: Gauge = "pgbouncer_databases_paused";
    /// 1 while the database is disabled.
    DB_DISABLED: Gauge = "pgbouncer_databases_disabled";

    /// Queries, or pipelines of them.
    STATS_QUERIES: Counter = "pgbouncer_stats_totals_queries_pooled_total";
    /// Seconds that queries took, the wait for a server included.
    STATS_QUERY_TIME: Counter = "pgbouncer_stats_totals_queries_duration_seconds_total";
    /// Bytes received from clients.
    STATS_RECEIVED: Counter = "pgbouncer_stats_totals_received_bytes_total";
    /// Bytes sent to clients.
    STATS_SENT: Counter = "pgbouncer_stats_totals_sent_bytes_total";
    /// Seconds that clients waited for a server.
    STATS_WAIT_TIME: Counter = "pgbouncer_stats_totals_client_wait_seconds_total";
    /// Transactions.
    STATS_XACTS: Counter = "pgbouncer_stats_totals_sql_transactions_pooled_total";
    /// Seconds that transactions took, the wait for a server included.
    STATS_XACT_TIME: Counter = "pgbouncer_stats_totals_server_in_transaction_seconds_total";
    /// Parse messages of named statements received from clients.
    STATS_CLIENT_PARSES: Counter = "pgbouncer_stats_totals_client_parses_total";
    /// Parse messages sent to servers.
    STATS_SERVER_PARSES: Counter = "pgbouncer_stats_totals_server_parses_total";
    /// Bind messages of named statements.
    STATS_BINDS: Counter = "pgbouncer_stats_totals_binds_total";
    /// Times that a client was given a server.
    STATS_ASSIGNMENTS: Counter = "pglifeguard_server_assignments_total";
    /// Logins of clients, by database.
    STATS_LOGINS: Counter = "pglifeguard_database_logins_total";

    /// How long clients waited for a server.
    WAIT_SECONDS: Histogram = "pglifeguard_client_wait_seconds";
    /// How long queries took, the wait for a server included.
    QUERY_SECONDS: Histogram = "pglifeguard_query_seconds";
    /// How long transactions took, the wait for a server included.
    TRANSACTION_SECONDS: Histogram = "pglifeguard_transaction_seconds";
}

/// Tells the recorder what the event metrics are, and makes those appear that have not happened yet:
/// a rate from nothing to one is no rate. To be called once, after the recorder is installed.
pub fn describe_all() {
    for metric in EVENTS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help()),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help()),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help()),
        }
    }
    super::events::begin_at_zero();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_end_as_their_kind_demands() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in EVENTS.iter().chain(SNAPSHOT) {
            assert!(seen.insert(metric.name), "{} twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help().ends_with('.') && !metric.help().contains('\n'), "{}", metric.name);
        }
    }
    #[test]
    fn the_page_for_operators_has_every_metric() {
        let page = include_str!("../../docs/metrics.md");
        for metric in EVENTS.iter().chain(SNAPSHOT) {
            assert!(page.contains(&format!("`{}`", metric.name)), "docs/metrics.md lacks {}", metric.name);
        }
    }
}
