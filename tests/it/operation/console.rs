//! What the console shows: the columns that tools read, and figures that are true.

use std::cell::Cell;
use std::process::Command;

use futures_util::future::join_all;

use super::{number, pool, show};
use crate::support::{Database, PoolerConfig, Row, Session, eventually};

const SOCKETS: &str = "type t, user t, database t, replication t, state t, addr t, port i, local_addr t, local_port i, \
    connect_time t, request_time t, wait i, wait_us i, close_needed i, ptr t, link t, remote_pid i, tls t, \
    application_name t, prepared_statements i, id i";

/// Columns and types as PgBouncer has them: t text, i int4, N numeric.
const COLUMNS: &[(&str, &str)] = &[
    ("CLIENTS", SOCKETS),
    ("SERVERS", SOCKETS),
    (
        "POOLS",
        "database t, user t, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active i, \
         sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, maxwait i, \
         maxwait_us i, pool_mode t, load_balance_hosts t",
    ),
    (
        "DATABASES",
        "name t, host t, port i, database t, force_user t, pool_size i, min_pool_size i, reserve_pool_size i, \
         server_lifetime i, pool_mode t, load_balance_hosts t, max_connections i, current_connections i, \
         max_client_connections i, current_client_connections i, paused i, disabled i",
    ),
    (
        "USERS",
        "name t, pool_size t, reserve_pool_size t, pool_mode t, max_user_connections i, current_connections i, \
         max_user_client_connections i, current_client_connections i",
    ),
    (
        "STATS",
        "database t, total_server_assignment_count N, total_xact_count N, total_query_count N, total_received N, \
         total_sent N, total_xact_time N, total_query_time N, total_wait_time N, total_client_parse_count N, \
         total_server_parse_count N, total_bind_count N, total_client_login_count N, avg_server_assignment_count N, \
         avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, avg_xact_time N, avg_query_time N, \
         avg_wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N, \
         avg_client_login_count N",
    ),
    (
        "STATS_TOTALS",
        "database t, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, \
         xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N, \
         client_login_count N",
    ),
    ("LISTS", "list t, items i"),
    ("CONFIG", "key t, value t, default t, changeable t"),
    ("VERSION", "version t"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_show_has_pgbouncers_columns() {
    let database = Database::create("columns");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let _client = Session::connect(&pooler.app_dsn("app")).await;
    let console = Session::connect(&pooler.console_dsn()).await;
    for (what, expected) in COLUMNS {
        let statement =
            console.prepare(&format!("SHOW {what}")).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let letter = |name: &str| match name {
            "text" => 't',
            "int4" => 'i',
            "numeric" => 'N',
            other => panic!("{what} has a column of type {other}"),
        };
        let columns = statement.columns().iter();
        let found: Vec<_> =
            columns.map(|column| format!("{} {}", column.name(), letter(column.type_().name()))).collect();
        // Ours comes last, where no tool looks for another.
        let found = found.join(", ").replace(", id i, pins t", ", id i");
        assert_eq!(found, *expected, "SHOW {what}");
        assert!(!console.rows(&format!("SHOW {what}")).await.is_empty(), "SHOW {what} is empty");
    }
    let lists: Vec<_> = console.rows("SHOW LISTS").await.iter().map(|row| row["list"].clone()).collect();
    let expected = "databases users peers pools peer_pools free_clients used_clients login_clients free_servers \
        used_servers dns_names dns_zones dns_queries dns_pending";
    assert_eq!(lists.join(" "), expected);
    let version = console.value("SHOW VERSION").await;
    assert!(version.starts_with("PgBouncer 1.25.2"));
    for flag in ["--version", "-V"] {
        let output = Command::new(env!("CARGO_BIN_EXE_pglifeguard")).arg(flag).output().expect("it has been built");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{version}\n"), "{flag}");
    }
    console.batch_execute("SHOW HELP").await.expect("help");
    assert_eq!(console.notices(), ["Console usage"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_an_open_transaction_are_counted_and_the_transaction_with_its_end() {
    let database = Database::create("counted");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    for mode in ["transaction", "session"] {
        let counts = async || {
            let row = show(&console, "STATS_TOTALS", "database", "app").await;
            (number(&row, "xact_count"), number(&row, "query_count"))
        };
        let (xacts, before) = counts().await;
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.simple_query("BEGIN").await.expect("a server");
        let asked = Cell::new(1);
        eventually("queries to be counted", async || {
            client.simple_query("SELECT 1").await.expect("a server");
            asked.set(asked.get() + 1);
            counts().await.1 > before
        })
        .await;
        assert_eq!(counts().await.0, xacts, "{mode}: the transaction is open");
        client.simple_query("COMMIT").await.expect("a server");
        assert_eq!(counts().await, (xacts + 1, before + asked.get() + 1), "{mode}");
        pooler.reconfigure(&PoolerConfig::new().database("app", &database).set("pool_mode", "\"session\""));
        console.batch_execute("RELOAD").await.expect("nothing is wrong with it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_clients_and_servers_are_shown_as_they_are() {
    let database = Database::create("shown");
    let pooler = PoolerConfig::new().database("app", &database).set("default_pool_size", "2").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let named = format!("{}?application_name=teller", pooler.app_dsn("app"));
    // The first has a server opened; were all to come at once, they might have two opened.
    let mut clients = vec![Session::connect(&named).await];
    clients.extend(join_all((0..3).map(|_| async { Session::connect(&named).await })).await);
    let idle = show(&console, "POOLS", "database", "app").await;
    assert_eq!((number(&idle, "cl_active"), number(&idle, "cl_waiting"), number(&idle, "sv_idle")), (4, 0, 1));
    clients[0].batch_execute("BEGIN").await.expect("a server");
    clients[1].batch_execute("BEGIN").await.expect("a server");
    let mut clients = clients.into_iter();
    let (first, second, third, _fourth) = (clients.next(), clients.next(), clients.next(), clients.next());
    let waiting = third.map(|third| tokio::spawn(async move { third.value("SELECT 1").await })).expect("four");
    eventually("the third to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
    let row = show(&console, "POOLS", "database", "app").await;
    assert_eq!((number(&row, "cl_active"), number(&row, "sv_active"), number(&row, "sv_idle")), (3, 2, 0));
    let clients = console.rows("SHOW CLIENTS").await;
    let count = |state| clients.iter().filter(|row| row["database"] == "app" && row["state"] == state).count();
    assert_eq!((count("active"), count("idle"), count("waiting")), (2, 1, 1));
    check_links(&clients, &console.rows("SHOW SERVERS").await);
    assert!(clients.iter().any(|row| row["database"] == "pgbouncer" && row["user"] == "admin"), "the console itself");
    eventually("a time of waiting", async || {
        let row = show(&console, "POOLS", "database", "app").await;
        number(&row, "maxwait_us") > 0 || number(&row, "maxwait") > 0
    })
    .await;
    assert_eq!(number(&show(&console, "DATABASES", "name", "app").await, "current_connections"), 2);
    assert_eq!(number(&show(&console, "USERS", "name", "app").await, "current_client_connections"), 4);
    assert_eq!(number(&show(&console, "LISTS", "list", "used_servers").await, "items"), 2);
    drop((first, second));
    assert_eq!(waiting.await.expect("it was served"), "1");
}

/// What the rows of databases and users tell is PgBouncer 1.24.1's, side by side with the same settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_shown_where_pgbouncer_shows_them() {
    let database = Database::create("shown_limits");
    let pooler = PoolerConfig::new()
        .database("app", &database)
        .set("server_lifetime", "1800")
        .section("users.app", "pool_size = 7\nmax_user_connections = 9\n")
        .start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let own = show(&console, "DATABASES", "name", "pgbouncer").await;
    assert_eq!((own["pool_size"].as_str(), own["server_lifetime"].as_str()), ("2", "1800"));
    assert_eq!((own["force_user"].as_str(), own["pool_mode"].as_str()), ("pgbouncer", "statement"));
    assert_eq!(show(&console, "DATABASES", "name", "app").await["pool_size"], "25", "the user's is not the database's");
    let user = show(&console, "USERS", "name", "app").await;
    assert_eq!((user["pool_size"].as_str(), user["max_user_connections"].as_str()), ("        7", "9"));
    assert_eq!(number(&show(&console, "USERS", "name", "admin").await, "current_client_connections"), 1);
    assert_eq!(number(&show(&console, "USERS", "name", "pgbouncer").await, "current_client_connections"), 0);
    let users = console.rows("SHOW USERS").await.len();
    assert_eq!(number(&show(&console, "LISTS", "list", "users").await, "items") as usize, users);
}

/// Who is linked names the other, and is of the same pool; servers are what PostgreSQL says that they are.
fn check_links(clients: &[Row], servers: &[Row]) {
    for client in clients.iter().filter(|row| row["database"] == "app") {
        assert_eq!((client["addr"].as_str(), client["application_name"].as_str()), ("127.0.0.1", "teller"));
        assert_eq!(client["link"].is_empty(), client["state"] != "active", "{client:?}");
        if !client["link"].is_empty() {
            let server = servers.iter().find(|row| row["ptr"] == client["link"]).expect("it is shown");
            assert_eq!((&server["link"], server["state"].as_str()), (&client["ptr"], "active"));
            assert_eq!(server["application_name"], "teller");
        }
    }
    assert!(servers.iter().all(|row| row["remote_pid"].parse::<u32>().is_ok_and(|pid| pid > 1)), "{servers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_count_what_clients_did_in_every_protocol() {
    let database = Database::create("totals");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let counted = Counted { console: &console, seen: [0; 5].into() };
    counted.expects([0, 0, 0, 0, 0], "nothing but the login").await;
    client.batch_execute("SELECT 1").await.expect("it runs");
    counted.expects([1, 1, 0, 0, 0], "a simple query").await;
    client.batch_execute("BEGIN").await.expect("it runs");
    client.batch_execute("SELECT pg_sleep(0.2)").await.expect("it runs");
    client.batch_execute("COMMIT").await.expect("it runs");
    let seen = counted.expects([1, 3, 0, 0, 0], "a transaction of three queries").await;
    assert!(number(&seen, "query_time") >= 200_000 && number(&seen, "xact_time") >= 200_000, "{seen:?}");
    assert!(number(&seen, "query_time") <= number(&seen, "xact_time"), "{seen:?}");
    let statement = client.prepare("SELECT $1::int4").await.expect("it is prepared");
    counted.expects([1, 1, 1, 1, 0], "a Parse").await;
    for n in 0..3_i32 {
        client.query_one(&statement, &[&n]).await.expect("it runs");
    }
    counted.expects([3, 3, 0, 0, 3], "three Binds").await;
    let other = Session::connect(&pooler.app_dsn("app")).await;
    other.prepare("SELECT $1::int4").await.expect("it is prepared");
    let seen = counted.expects([1, 1, 1, 0, 0], "what the server has is not parsed again").await;
    let sent = number(&seen, "bytes_sent");
    client.value("SELECT repeat('x', 100000)").await;
    let seen = counted.expects([1, 1, 0, 0, 0], "a large answer").await;
    assert!((100_000..101_000).contains(&(number(&seen, "bytes_sent") - sent)), "{seen:?}");
    assert_eq!(number(&seen, "client_login_count"), 2);
    let stats = show(&console, "STATS", "database", "app").await;
    assert_eq!(stats["total_query_count"], seen["query_count"]);
    let own = show(&console, "STATS_TOTALS", "database", "pgbouncer").await;
    assert_eq!(number(&own, "client_login_count"), 1);
    assert!(number(&own, "query_count") > 5, "the console's own queries count: {own:?}");
}

/// What STATS_TOTALS has counted of the database `app` so far.
struct Counted<'a> {
    console: &'a Session,
    seen: Cell<[u32; 5]>,
}

impl Counted<'_> {
    /// Waits for so many more: a client has its answer before it is counted. Never may there be more than that.
    async fn expects(&self, more: [u32; 5], what: &str) -> Row {
        let columns = ["xact_count", "query_count", "client_parse_count", "server_parse_count", "bind_count"];
        let before = self.seen.get();
        let due: [u32; 5] = std::array::from_fn(|at| before[at] + more[at]);
        let mut row = Row::new();
        eventually(what, async || {
            row = show(self.console, "STATS_TOTALS", "database", "app").await;
            let found = columns.map(|column| number(&row, column));
            assert!(found.iter().zip(&due).all(|(found, due)| found <= due), "{what}: {found:?} beyond {due:?}");
            found == due
        })
        .await;
        self.seen.set(due);
        row
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wait_for_a_server_counts() {
    let database = Database::create("waits");
    let pooler = PoolerConfig::new().database("app", &database).set("default_pool_size", "1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (holder, waiter) =
        (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    holder.batch_execute("BEGIN").await.expect("the only server");
    let waiting = tokio::spawn(async move { waiter.value("SELECT 1").await });
    eventually("a second of waiting", async || pool(&console, "app", "maxwait").await >= 1).await;
    holder.batch_execute("COMMIT").await.expect("it has a server");
    waiting.await.expect("it was served");
    eventually("the wait to be counted, also as part of the query", async || {
        let row = show(&console, "STATS_TOTALS", "database", "app").await;
        number(&row, "wait_time") >= 1_000_000 && number(&row, "query_time") >= 1_000_000
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_shown_with_defaults_and_what_a_reload_changes() {
    let database = Database::create("show_config");
    let pooler = PoolerConfig::new().database("app", &database).set("query_timeout", "\"90s\"").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let rows = console.rows("SHOW CONFIG").await;
    let keys: Vec<_> = rows.iter().map(|row| row["key"].as_str()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    for (key, value, default, changeable) in [
        ("query_timeout", "90", "0", "yes"),
        ("max_client_conn", "1000", "1000", "yes"),
        ("default_pool_size", "25", "25", "yes"),
        ("listen_addr", "127.0.0.1", "127.0.0.1", "no"),
        ("auth_type", "scram-sha-256", "scram-sha-256", "yes"),
    ] {
        let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!(
            (row["value"].as_str(), row["default"].as_str(), row["changeable"].as_str()),
            (value, default, changeable),
            "{key}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consoles_request_time_is_that_of_its_last_request() {
    let pooler = PoolerConfig::new().start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let own = async || show(&console, "CLIENTS", "database", "pgbouncer").await;
    let first = own().await;
    eventually("another second", async || own().await["request_time"] > first["request_time"]).await;
    assert_eq!(own().await["connect_time"], first["connect_time"]);
}
