//! What a pool does with its servers: how many there are, which is taken next, when one is closed.

use futures_util::future::join_all;

use super::{pool, servers};
use crate::support::{Database, PoolerConfig, Session, eventually};

const PID: &str = "SELECT pg_backend_pid()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_opens_25_servers_and_no_more() {
    let database = Database::create("pool_25");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let clients = join_all((0..30).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
    let begins = clients.iter().map(|client| client.batch_execute("BEGIN"));
    let mut begun = Box::pin(join_all(begins));
    let full = eventually("25 servers to be lent and 5 clients to wait", async || {
        pool(&console, "app", "sv_active").await == 25 && pool(&console, "app", "cl_waiting").await == 5
    });
    tokio::select! {
        _ = &mut begun => panic!("only 25 can have a server"),
        () = full => {}
    }
    assert_eq!(pool(&console, "app", "cl_active").await, 25);
    assert_eq!(servers(&database), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_longest_is_served_first() {
    let database = Database::create("fifo");
    let pooler = PoolerConfig::new().database("app", &database).set("default_pool_size", "1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let holder = Session::connect(&pooler.app_dsn("app")).await;
    holder.batch_execute("CREATE TABLE served (at serial, who int)").await.expect("a table");
    let waiters = join_all((0..5).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
    holder.batch_execute("BEGIN").await.expect("the only server");
    let mut tasks = Vec::new();
    for (who, waiter) in waiters.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            waiter.batch_execute(&format!("INSERT INTO served (who) VALUES ({who})")).await
        }));
        eventually("the client to wait", async || pool(&console, "app", "cl_waiting").await as usize == who + 1).await;
    }
    holder.batch_execute("COMMIT").await.expect("it has a server");
    for outcome in join_all(tasks).await {
        outcome.expect("no panic").expect("it was served");
    }
    assert_eq!(holder.value("SELECT string_agg(who::text, '' ORDER BY at) FROM served").await, "01234");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_used_last_is_taken_next_unless_round_robin_is_asked_for() {
    let database = Database::create("lifo");
    for (round_robin, different) in [("false", 1), ("true", 3)] {
        let config = PoolerConfig::new().database("app", &database).set("server_round_robin", round_robin);
        let pooler = config.start();
        let clients = join_all((0..3).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
        let mut last = String::new();
        for client in &clients {
            client.batch_execute("BEGIN").await.expect("a server");
        }
        for client in &clients {
            last = client.value(PID).await;
            client.batch_execute("COMMIT").await.expect("it has a server");
        }
        let mut pids = Vec::new();
        for _ in 0..3 {
            pids.push(clients[0].value(PID).await);
        }
        assert!(round_robin == "true" || pids[0] == last, "{pids:?}, {last}");
        pids.sort();
        pids.dedup();
        assert_eq!(pids.len(), different, "server_round_robin = {round_robin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minimum_is_kept_for_a_forced_user_at_once_and_for_others_with_their_first_client() {
    let database = Database::create("minimum");
    let entry = |user: &str| {
        format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n{user}", database.port(), database.name)
    };
    let config =
        PoolerConfig::new().section("databases.app", &entry("")).section("databases.forced", &entry("user = \"app\""));
    let pooler = config.set("min_pool_size", "3").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    eventually("the forced user's servers", async || pool(&console, "forced", "sv_idle").await == 3).await;
    assert_eq!(pool(&console, "app", "sv_idle").await, 0);
    let _client = Session::connect(&pooler.app_dsn("app")).await;
    eventually("the first client's servers", async || pool(&console, "app", "sv_idle").await == 3).await;
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()",
    );
    eventually("new servers in place of those that died", async || {
        servers(&database) == 6 && pool(&console, "app", "sv_idle").await == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_closed_for_age_and_for_idleness() {
    let database = Database::create("closed");
    let idle = PoolerConfig::new().database("app", &database).set("server_idle_timeout", "1").start();
    let client = Session::connect(&idle.app_dsn("app")).await;
    client.batch_execute("SELECT 1").await.expect("a server");
    eventually("the idle server to go", async || servers(&database) == 0).await;
    assert!(idle.log().contains("closing because: server idle timeout"), "{}", idle.log());
    client.batch_execute("SELECT 1").await.expect("another server");
    drop((client, idle));

    let aging = PoolerConfig::new().database("app", &database).set("server_lifetime", "1").start();
    let client = Session::connect(&aging.app_dsn("app")).await;
    let pid = client.value(PID).await;
    eventually("the old server to go", async || client.value(PID).await != pid).await;
    assert!(aging.log().contains("closing because: server lifetime over"), "{}", aging.log());
    drop((client, aging));

    let once = PoolerConfig::new().database("app", &database).set("server_lifetime", "0").start();
    let client = Session::connect(&once.app_dsn("app")).await;
    let (first, second) = (client.value(PID).await, client.value(PID).await);
    assert_ne!(first, second, "each is used once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_do_not_notice_that_idle_servers_died() {
    let database = Database::create("died");
    let pooler = PoolerConfig::new().database("app", &database).set("default_pool_size", "5").start();
    let clients = join_all((0..5).map(|_| async { Session::connect(&pooler.app_dsn("app")).await })).await;
    for _ in 0..20 {
        join_all(clients.iter().map(|client| client.batch_execute("SELECT pg_sleep(0.01)"))).await;
        let terminate = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()";
        assert_ne!(database.sql(terminate), "0");
        for (at, outcome) in
            join_all(clients.iter().map(|client| client.batch_execute("SELECT 1"))).await.iter().enumerate()
        {
            assert!(outcome.is_ok(), "client {at}: {outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_checked_before_each_use_where_that_is_asked_for() {
    let database = Database::create("checked");
    let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "1");
    let config = config.set("server_check_delay", "0").set("server_check_query", "\"SELECT 'are you well'\"");
    let pooler = config.start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let seen = client.value("SELECT pg_backend_pid()").await;
    for _ in 0..10 {
        assert_eq!(client.value(PID).await, seen);
    }
    let last = "SELECT query FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()";
    assert_eq!(database.sql(last), PID, "the check comes before the use, not after it");
    let other = Session::connect(&pooler.app_dsn("app")).await;
    other.batch_execute("SELECT 1").await.expect("a server");
    let broken = config_with_broken_check(&database).start();
    let client = Session::connect(&broken.app_dsn("app")).await;
    assert_ne!(client.value(PID).await, client.value(PID).await, "one that fails its check is replaced");
    assert!(broken.log().contains("closing because: test query failed"), "{}", broken.log());
}

fn config_with_broken_check(database: &Database) -> PoolerConfig {
    let config = PoolerConfig::new().database("app", database).set("default_pool_size", "1");
    config.set("server_check_delay", "0").set("server_check_query", "\"SELECT 1/0\"")
}

/// What PostgreSQL was told at the login, and by `connect_query`, once for each server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_databases_own_parameters_and_connect_query_reach_its_servers() {
    let database = Database::create("own_parameters");
    database.sql("CREATE TABLE connects (pid int); GRANT INSERT, SELECT ON connects TO app");
    let at = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
    let own = "client_encoding = \"LATIN1\"\ndatestyle = \"German\"\ntimezone = \"Antarctica/Troll\"\n\
        application_name = \"pooled\"\nconnect_query = \"INSERT INTO connects VALUES (pg_backend_pid())\"\n";
    let broken = "connect_query = \"SELECT nothing\"\n";
    let config = PoolerConfig::new().section("databases.app", &format!("{at}{own}"));
    let pooler = config.section("databases.broken", &format!("{at}{broken}")).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("a server");
    let pid = client.value("SELECT pg_backend_pid()").await;
    assert_eq!(client.value("SELECT string_agg(pid::text, ' ') FROM connects").await, pid, "it ran once");
    // As PostgreSQL has them before any client has said what it wants.
    let started = database.sql(&format!("SELECT application_name FROM pg_stat_activity WHERE pid = {pid}"));
    assert_eq!(started, "pooled");
    for (setting, value) in [("DateStyle", "German, DMY"), ("TimeZone", "Antarctica/Troll")] {
        let query = format!("SELECT setting || ' ' || source FROM pg_settings WHERE name = '{setting}'");
        assert_eq!(client.value(&query).await, format!("{value} client"), "{setting}");
        assert_eq!(client.value(&format!("SELECT reset_val FROM pg_settings WHERE name = '{setting}'")).await, value);
    }
    let encoding = "SELECT reset_val FROM pg_settings WHERE name = 'client_encoding'";
    assert_eq!(client.value(encoding).await, "LATIN1");
    drop(console);

    let other = Session::connect(&pooler.app_dsn("broken")).await;
    assert_eq!(other.value("SELECT 1").await, "1", "a query that fails is no reason to go without a server");
    let log = pooler.log();
    let failed = log.lines().filter(|line| line.contains("connect_query failed: ")).collect::<Vec<_>>();
    assert!(failed.len() == 1 && failed[0].contains("\"nothing\" does not exist server=S-0x"), "{failed:?}");
}
