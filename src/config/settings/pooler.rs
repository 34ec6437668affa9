//! `[pooler]` except pools and TLS, and `[metrics]`.

use super::kinds::{BufferSize, Flag, Limit, Size, Span, Timeout, TimeoutMillis, Whole};
use super::pools::Defaults;
use super::settings;
use super::texts::{CheckText, Choice, FilePath, List, ListenAddress, Names, OptionalText, SocketMode, Text};
use crate::config::model::{AuthType, Listen, LogFormat, Pin, SessionState, Unknown};
use crate::net::options;

settings! {
    /// `[pooler]`. Times of zero mean "off" and are `None` here, where PgBouncer has it so.
    pub struct Pooler {
        "Listening" {
            /// Addresses to listen on, for TCP. `*` listens on all of them, an empty list on none.
            listen_addr: List = "127.0.0.1", reload: restart;
            /// TCP port; also the number in the name of the Unix socket.
            listen_port: Whole<u16, 1, 65535> = "6432", reload: restart;
            /// Directory of the Unix socket that we listen on, and of the one on which databases without `host` are
            /// looked for. A leading `@` means the abstract namespace. Empty: no Unix socket.
            unix_socket_dir: FilePath = "/tmp", reload: restart;
            /// Permissions of the Unix socket.
            unix_socket_mode: SocketMode = "0777", reload: restart;
            /// Group of the Unix socket. Empty: that of the process.
            unix_socket_group: OptionalText = "", reload: restart;
            /// Connections that the kernel holds for us until we accept them.
            listen_backlog: Whole<u32, 1, 65535> = "128", reload: restart;
        }
        "Process" {
            /// Threads that carry traffic. 0: one per core.
            workers: Whole<usize, 0, 1024> = "0", reload: restart;
            /// File that holds our process id while we run. Empty: none.
            pidfile: FilePath = "", reload: restart;
            /// User to become after a start as root. Empty: none.
            user: OptionalText = "", reload: restart;
            /// How long a shutdown waits for clients or servers before it cuts them. 0 waits for ever.
            shutdown_timeout: Timeout = "0", reload: live;
        }
        "Who may connect" {
            /// Clients at once. More are refused, but for the console (database `pgbouncer`), which counts among them.
            max_client_conn: Whole<u32, 1, 1_000_000> = "1000", reload: live;
            /// How clients prove who they are: `trust` asks nothing, but the user must exist; `plain` asks for the
            /// password in clear text; `md5` uses SCRAM for users whose stored secret is SCRAM; `scram-sha-256` is the
            /// one to use.
            auth_type: Choice<AuthType> = "scram-sha-256", reload: live;
            /// File with users and their secrets, as PgBouncer's `userlist.txt`: one `"user" "secret"` per line, where a
            /// secret is a password, an md5 or a SCRAM-SHA-256 secret as in `pg_authid`. Who has an empty one logs in with
            /// `trust` only. Read again at every reload.
            auth_file: FilePath = "", reload: live;
            /// Users who may use every command of the console.
            admin_users: List = "", reload: live;
            /// Users who may look at everything in the console, and change nothing.
            stats_users: List = "", reload: live;
            /// A client must have logged in by then. While no server is to be had for its database, because it is down,
            /// starting up or full, a login waits, for `query_wait_timeout` at most. 0: no limit.
            client_login_timeout: Timeout = "60s", reload: live;
            /// Iterations of the SCRAM secrets that we derive from passwords.
            scram_iterations: Whole<u32, 1, 10_000_000> = "4096", reload: live;
        }
        "Sessions" {
            /// Startup parameters of clients that are dropped without a word, such as `extra_float_digits`; `options` stands
            /// for unknown ones within `options`.
            ignore_startup_parameters: List = "", reload: live;
            /// Parameters that follow a client from server to server, besides client_encoding, DateStyle, TimeZone,
            /// standard_conforming_strings and application_name. PostgreSQL must report them to clients.
            track_extra_parameters: Names = "IntervalStyle", reload: restart;
            /// What becomes of session state in transaction and statement pooling. `track`: what a client sets (SET, RESET,
            /// set_config(), its startup packet) goes with it from server to server, and what can't go with it ties it to
            /// its server (`pin`). `pgbouncer`: as in PgBouncer, only what servers report goes with it, and everything else
            /// stays behind for the next client.
            session_state: Choice<SessionState> = "track", reload: live;
            /// A client that has what only its server has (temporary tables, cursors WITH HOLD, advisory locks of the
            /// session, PREPARE in SQL, LOAD, setseed(), connections of dblink, replication origins, backups): `auto` lets
            /// it keep that server until it has ended all that, by DISCARD ALL at the latest, or leaves. `error` refuses
            /// the statements that say so. `off` takes it away with the end of each transaction. A client keeps what was
            /// set when it connected.
            pin: Choice<Pin> = "auto", reload: live;
            /// A client on whose server code ran of which nobody knows what it leaves there (dynamic SQL, say): `reset` has
            /// the server reset when its transaction is over, and what was left is gone for the client, too. `pin` lets the
            /// client keep that server until DISCARD ALL or until it leaves, where `pin = "auto"`. A client keeps what was
            /// set when it connected.
            unknown: Choice<Unknown> = "reset", reload: live;
            /// How LISTEN is served in transaction and statement pooling, where `session_state = "track"`. `shared`: by one
            /// connection for all clients of a database and user, beside the pool, so that a client that listens has no
            /// server. `pin`: by the client's server, which it keeps (`pin`). `error`: it is refused. A client keeps what
            /// was set when it connected.
            listen: Choice<Listen> = "shared", reload: live;
            /// What a call of a function, or a table's trigger, may do to the session is known by the catalog of its
            /// database. It is read over the first server that is opened there and again after DDL that passes through;
            /// whether it was changed past the pooler is looked at within so long.
            catalog_refresh: Span<1000> = "30s", reload: live;
            /// Names of functions, without schema, that leave nothing in the session of who calls them although their
            /// code looks so: an audit trigger with EXECUTE, say. Each costs a reset of the server otherwise.
            clean_functions: List = "", reload: restart;
            /// Adds the client's host and port to its application_name when it connects.
            application_name_add_host: Flag = "false", reload: live;
            /// Named prepared statements that a server may hold; the least recently used goes first. 0 passes the
            /// clients' statements through, which only works in session pooling.
            max_prepared_statements: Whole<u32, 0, 100_000> = "200", reload: live;
            /// A statement without a name that clients send again and again (`SELECT … WHERE id = $1`, Parse to Sync at once,
            /// outside of a transaction block) is prepared once on each server, which saves PostgreSQL half of its work. Takes
            /// up to half of `max_prepared_statements`. As with every prepared statement, PostgreSQL may choose one plan for
            /// all parameters (`plan_cache_mode`). A client keeps what was set when it connected.
            cache_unnamed_statements: Flag = "true", reload: live;
            /// A client that sends a longer message is disconnected, as is one that sends a message of 1 GiB, which PostgreSQL
            /// does not take. (PgBouncer holds servers to it, too.)
            max_packet_size: Size<1024, 2_147_483_647> = "2147483647", reload: live;
            /// Whether the running query of a client that vanished is cancelled on its server. What can't be undone never
            /// is: a COMMIT, VACUUM, CREATE INDEX CONCURRENTLY, CALL. It runs to its end, and its server is used again.
            cancel_on_disconnect: Flag = "true", reload: live;
            /// How long a request to cancel may take on its way to a server, and the server of a client that is gone to
            /// come to rest once its query was cancelled; then the server is closed. The client's own connection for the
            /// request stays open as long. 0: a minute for the request, no limit for the server.
            cancel_wait_timeout: Timeout = "10s", reload: live;
            /// A client that waits for a server for so long is told so by a notice. 0: never.
            query_wait_notify: Timeout = "5s", reload: live;
        }
        "Servers" {
            /// A client that waited so long may use a server of the reserve (`reserve_pool_size`). 0: never.
            reserve_pool_timeout: Timeout = "5s", reload: live;
            /// Servers of all pools together on one node, those of our own included but for those that listen (`listen`),
            /// which count by themselves. 0: no limit but the server's own: one that is full (53300) is shared by the
            /// pools as below this limit, and every second it is tried whether there is room for one more. A node is a
            /// host and port as they are written: a server under two names counts as two.
            max_node_connections: Limit<1_000_000> = "0", reload: live;
            /// Use the server that was idle for longest, not the one used last. Spreads load behind a balancer.
            server_round_robin: Flag = "false", reload: live;
            /// A server that was idle for longer is checked with `server_check_query` before it is used. 0: each time.
            server_check_delay: Span<0> = "30s", reload: live;
            /// Query that tells whether a server still works. `<empty>` sends a query without text, an empty setting
            /// checks nothing.
            server_check_query: CheckText = "<empty>", reload: live;
            /// Query that cleans a server when its client leaves, in session pooling. Empty: none.
            server_reset_query: Text = "DISCARD ALL", reload: live;
            /// Send `server_reset_query` in every pool mode.
            server_reset_query_always: Flag = "false", reload: live;
            /// In session pooling, close a server that must be closed (reload, RECONNECT) at the end of its transaction,
            /// not when its client leaves.
            server_fast_close: Flag = "false", reload: live;
            /// A server that was idle for so long is closed. 0: never.
            server_idle_timeout: Timeout = "600s", reload: live;
            /// How long connecting and logging in to a server may take. 0: no limit.
            server_connect_timeout: Timeout = "15s", reload: live;
            /// The longest pause between attempts at a server that can't be reached or refuses logins. The first pause
            /// is a few milliseconds; each is longer than the one before, up to this. (PgBouncer always pauses for so
            /// long, and has 15 seconds.) While a server can't be reached, starts up or hangs, one connection at a
            /// time tries, for all databases and users on that host and port, and when it gets in all go on at once.
            /// Where only one user or database is refused the others don't wait; where one's tries hang they wait for
            /// a second at most, and only those that hang themselves for 1, 2, 4, up to 16 seconds.
            /// What a full server does: `max_node_connections`.
            server_login_retry: Span<10> = "1s", reload: live;
            /// A database made for a name that only `[databases."*"]` serves is forgotten when it was unused for so
            /// long. 0: never. One that never had a server, since there is no such database, say, goes after
            /// `server_login_retry`.
            autodb_idle_timeout: Timeout = "3600s", reload: live;
        }
        "DNS" {
            /// How long the address of a host name is believed.
            dns_max_ttl: Span<0> = "15s", reload: live;
            /// How long it is believed that a host name has no address.
            dns_nxdomain_ttl: Span<0> = "15s", reload: live;
        }
        "Log" {
            /// File that the log is appended to. Empty: standard error.
            logfile: FilePath = "", reload: live;
            /// How log lines look: `text` for people, `json` for programs.
            log_format: Choice<LogFormat> = "text", reload: restart;
            /// How much is logged: 0 what matters, 1 to 3 more and more detail.
            verbose: Whole<u8, 0, 3> = "0", reload: live;
            /// Log each login.
            log_connections: Flag = "true", reload: live;
            /// Log each end of a connection, with the reason.
            log_disconnections: Flag = "true", reload: live;
            /// Log the errors that we send to clients.
            log_pooler_errors: Flag = "true", reload: live;
            /// Log a line with totals every `stats_period`.
            log_stats: Flag = "true", reload: live;
            /// Over how long averages are taken, and how often they are logged.
            stats_period: Span<1000> = "60s", reload: live;
        }
        /// Settings that databases and users may override.
        defaults: group Defaults;
        /// Applies to both sides.
        tcp: group TcpOptions;
    }
}

settings! {
    /// Socket options of TCP connections, to clients and to servers.
    #[derive(Copy, Eq)]
    pub struct TcpOptions {
        "TCP, to clients and servers" {
            /// Have the kernel find out about peers that are gone. A reload changes this, and the five below, for new
            /// connections.
            keepalive as "tcp_keepalive": Flag = "true", reload: live;
            /// Unanswered probes after which a peer is gone. 0: the system's setting.
            keepcnt as "tcp_keepcnt": Limit<127> = "0", reload: live;
            /// Silence after which probes begin. 0: the system's setting.
            keepidle as "tcp_keepidle": Timeout = "0", reload: live;
            /// Pause between probes. 0: the system's setting.
            keepintvl as "tcp_keepintvl": Timeout = "0", reload: live;
            /// How long sent data may stay unacknowledged, in milliseconds. 0: the system's setting.
            user_timeout as "tcp_user_timeout": TimeoutMillis = "0", reload: live;
            /// Send and receive buffer of each socket. 0: the system's setting. (Back to 0, what it was stays in force
            /// for clients until a restart.)
            socket_buffer as "tcp_socket_buffer": BufferSize = "0", reload: live;
        }
    }
}

settings! {
    /// `[metrics]`.
    pub struct Metrics {
        "Metrics" {
            /// Where `/metrics` (Prometheus) and `/health` are served over HTTP, such as `127.0.0.1:9127`. Empty: nowhere.
            listen: ListenAddress = "", reload: restart;
        }
    }
}

impl TcpOptions {
    /// As sockets want them.
    pub fn options(&self) -> options::TcpOptions {
        options::TcpOptions {
            keepalive: self.keepalive,
            keepcnt: self.keepcnt,
            keepidle: self.keepidle,
            keepintvl: self.keepintvl,
            user_timeout: self.user_timeout,
            socket_buffer: self.socket_buffer,
        }
    }
}
