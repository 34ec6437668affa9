//! Session and statement pooling.

use super::{pool, show};
use crate::support::raw::{Raw, extended, query, sync};
use crate::support::{Database, PoolerConfig, Session, eventually};

const PID: &str = "SELECT pg_backend_pid()";

fn session_mode(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("pool_mode", "\"session\"").set("default_pool_size", "1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_keeps_its_server_and_leaves_it_clean() {
    let database = Database::create("session_mode");
    let pooler = session_mode(&database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let first = Session::connect(&pooler.app_dsn("app")).await;
    let pid = first.value(PID).await;
    first.batch_execute("SET search_path TO elsewhere; CREATE TEMPORARY TABLE mine (n int)").await.expect("it runs");
    assert_eq!(first.value("SHOW search_path").await, "elsewhere");
    assert_eq!(first.value(PID).await, pid);
    assert_eq!(show(&console, "POOLS", "database", "app").await["pool_mode"], "session");
    assert_eq!(show(&console, "CLIENTS", "database", "app").await["state"], "active");
    let second = Session::connect(&pooler.app_dsn("app")).await;
    let waiting = tokio::spawn(async move { (second.value("SHOW search_path").await, second.value(PID).await) });
    eventually("the second to wait", async || pool(&console, "app", "cl_waiting").await == 1).await;
    drop(first);
    let (search_path, same) = waiting.await.expect("its turn came");
    assert_eq!((search_path.as_str(), same), ("\"$user\", public", pid), "the same server, after DISCARD ALL");
}

/// As in PgBouncer, and unlike on a connection of one's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_in_a_session_goes_back_to_the_servers_defaults() {
    let database = Database::create("session_reset");
    let pooler = session_mode(&database).start();
    for reset in ["RESET ALL", "DISCARD ALL", "RESET DateStyle; RESET work_mem"] {
        let dsn = format!("{}?options=-c%20DateStyle%3DGerman%20-c%20work_mem%3D7MB", pooler.app_dsn("app"));
        let client = Session::connect(&dsn).await;
        let shown = async || (client.value("SHOW DateStyle").await, client.value("SHOW work_mem").await);
        assert_eq!(shown().await, ("German, DMY".to_owned(), "7MB".to_owned()));
        client.batch_execute(reset).await.expect("it is reset");
        assert_eq!(shown().await, ("ISO, MDY".to_owned(), "4MB".to_owned()), "{reset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_server_is_obsolete_keeps_it_unless_fast_close_is_set() {
    let database = Database::create("fast_close");
    let cases = [("false", false), ("true", false), ("true", true)];
    for ((fast, open), reloads) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let with = |host: &str| {
            let entry = format!("host = \"{host}\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
            let config = PoolerConfig::new().section("databases.app", &entry).set("pool_mode", "\"session\"");
            config.set("default_pool_size", "1").set("server_fast_close", fast)
        };
        let pooler = with("127.0.0.1").start();
        let console = Session::connect(&pooler.console_dsn()).await;
        let client = Session::connect(&pooler.app_dsn("app")).await;
        let pid = client.value(PID).await;
        if open {
            client.batch_execute("BEGIN").await.expect("it has a server");
        }
        if reloads {
            // Its servers are to be reached in another way.
            pooler.reconfigure(&with("localhost"));
            console.batch_execute("RELOAD").await.expect("it is done");
        } else {
            console.batch_execute("RECONNECT").await.expect("it is done");
        }
        // With neither a transaction nor patience it is gone already.
        if open || fast == "false" {
            assert_eq!(show(&console, "SERVERS", "database", "app").await["close_needed"], "1");
        }
        if open {
            assert_eq!(client.value(PID).await, pid, "its transaction goes on");
            client.batch_execute("COMMIT").await.expect("it ends as it should");
        }
        if fast == "true" {
            let end = ("57P01".to_owned(), "database configuration changed".to_owned());
            assert_eq!(client.end().await, end);
        } else {
            assert_eq!(client.value(PID).await, pid, "it keeps its server");
            drop(client);
        }
        console.batch_execute("WAIT_CLOSE").await.expect("the old server goes");
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        eventually("the old server to have gone", async || database.sql(&left) == "0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_pooling_refuses_transaction_blocks() {
    let database = Database::create("statement_mode");
    let config = PoolerConfig::new().database("app", &database).set("pool_mode", "\"statement\"");
    let pooler = config.set("auth_type", "\"trust\"").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    assert_eq!(client.value("SELECT 1").await, "1");
    let prepared = client.query_one("SELECT $1::int4", &[&7_i32]).await.expect("the extended protocol works");
    assert_eq!(prepared.get::<_, i32>(0), 7);
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.expect("an implicit transaction");
    let error = client.batch_execute("BEGIN").await.expect_err("it is refused");
    let end = ("08P01".to_owned(), "transaction blocks not allowed in statement pooling mode".to_owned());
    let told = error.as_db_error().map(|error| (error.code().code().to_owned(), error.message().to_owned()));
    assert_eq!(told.as_ref(), Some(&end), "{error:?}");
    for sent in ["BEGIN", "BEGIN; SELECT nothing"].map(query).into_iter().chain([[extended("BEGIN"), sync()].concat()])
    {
        let mut raw = Raw::trusted(pooler.port(), "app", "app");
        raw.send(&sent);
        let messages = raw.until(0);
        assert!(!messages.iter().any(|message| message.tag == b'Z'), "no ReadyForQuery: {messages:?}");
        assert_eq!(messages.last().map(|message| message.text()), Some(format!("{} {}", end.0, end.1)));
    }
    let next = Session::connect(&pooler.app_dsn("app")).await;
    assert_eq!(next.value("SELECT count(*) FROM t").await, "1");
    assert_eq!(
        database
            .sql("SELECT count(*) FROM pg_stat_activity WHERE state ~ 'transaction' AND datname = current_database()"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_query_of_ones_own_runs_in_every_mode_where_that_is_asked_for() {
    let database = Database::create("reset_query");
    for (mode, always) in [("session", "false"), ("transaction", "true")] {
        let config = PoolerConfig::new().database("app", &database).set("default_pool_size", "1");
        let config = config.set("pool_mode", &format!("\"{mode}\"")).set("server_reset_query_always", always);
        let pooler = config.set("server_reset_query", "\"SELECT 'mine'\"").start();
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("SELECT 1").await.expect("a server");
        drop(client);
        let last = "SELECT query FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database() AND state = 'idle'";
        eventually("the reset", async || database.sql(last) == "SELECT 'mine'").await;
    }
}
