//! Every time limit: what it ends, and in which words.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{pool, show};
use crate::support::peers::Parrot;
use crate::support::raw::{Raw, query};
use crate::support::{Database, PoolerConfig, Session, eventually};

/// For what would otherwise be waited for in vain.
const PATIENCE: Duration = Duration::from_secs(60);
const RUNS_LONG: &str = "SELECT pg_sleep(60)";

fn config(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("default_pool_size", "1")
}

fn words(code: &str, text: &str) -> (String, String) {
    (code.to_owned(), text.to_owned())
}

async fn nothing_runs(database: &Database) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle' AND datname = current_database()";
    eventually("what the client left to end", async || database.sql(busy) == "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_cancelled_and_its_server_used_again() {
    let database = Database::create("query_timeout");
    // For a user alone, and for all.
    let user = config(&database).section("users.app", "query_timeout = 0.3");
    for config in [config(&database).set("query_timeout", "0.3"), user] {
        let pooler = config.start();
        let client = Session::connect(&pooler.app_dsn("app")).await;
        let server = client.value("SELECT pg_backend_pid()").await;
        assert_eq!(Session::refusal(client.batch_execute(RUNS_LONG).await), words("57014", "query timeout"));
        nothing_runs(&database).await;
        let next = Session::connect(&pooler.app_dsn("app")).await;
        assert_eq!(next.value("SELECT pg_backend_pid()").await, server);
    }
}

#[test]
fn of_queries_that_are_sent_without_waiting_each_has_its_own_time() {
    let database = Database::create("pipelined_timeouts");
    for (limit, mode) in
        [("query_timeout", "transaction"), ("transaction_timeout", "transaction"), ("transaction_timeout", "session")]
    {
        let config = config(&database).set("auth_type", "\"trust\"").set("pool_mode", &format!("\"{mode}\""));
        let pooler = config.set(limit, "2").start();
        let mut client = Raw::trusted(pooler.port(), "app", "app");
        // Longer than the limit together.
        let many = 12;
        client.send(&query("SELECT pg_sleep(0.2)").repeat(many));
        for n in 0..many {
            let answer = client.until(b'Z');
            assert!(answer.iter().all(|message| message.tag != b'E'), "{limit} {mode} {n}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_is_told_then_refused() {
    let database = Database::create("wait_timeout");
    for (setting, text) in [("query_wait_timeout", "query_wait_timeout"), ("query_timeout", "query_timeout")] {
        let config = config(&database).set("query_wait_timeout", "0").set(setting, "2");
        let pooler = config.set("query_wait_notify", "0.3").start();
        let holder = Session::connect(&pooler.app_dsn("app")).await;
        let waiter = Session::connect(&pooler.app_dsn("app")).await;
        holder.batch_execute("BEGIN").await.expect("the only server");
        let waiting = tokio::time::timeout(PATIENCE, waiter.batch_execute("SELECT 1")).await.expect("an answer");
        let error = waiting.expect_err("there is no server");
        let error = error.as_db_error().expect("a server's error");
        assert_eq!((error.code().code(), error.message()), ("57014", text));
        let notice = "No server connection available in postgres backend, client being queued";
        assert_eq!(waiter.notices(), [notice], "once");
        if setting == "query_wait_timeout" {
            assert!(
                error.detail().is_some_and(|detail| detail.contains("1 server connection")),
                "{:?}",
                error.detail()
            );
        }
        holder.batch_execute("COMMIT").await.expect("it has a server");
    }
}

/// Each of these reaches the session by the same way, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_told_to_wait_can_still_be_cancelled_and_killed() {
    let database = Database::create("told_to_wait");
    let pooler = config(&database).set("query_wait_notify", "0.2").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (holder, waiter) =
        (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    holder.batch_execute("BEGIN").await.expect("the only server");
    for round in 1..=3 {
        let mut waiting = Box::pin(waiter.batch_execute("SELECT 1"));
        let told = eventually("the notice", async || waiter.notices().len() == round);
        tokio::select! {
            outcome = &mut waiting => panic!("there is no server: {outcome:?}"),
            () = told => {}
        }
        waiter.cancel_token().cancel_query(tokio_postgres::NoTls).await.expect("it listens");
        let outcome = tokio::time::timeout(PATIENCE, waiting).await.expect("an answer");
        assert_eq!(Session::refusal(outcome), words("57014", "canceling statement due to user request"));
    }
    let row = show(&console, "CLIENTS", "state", "idle").await;
    console.batch_execute(&format!("KILL_CLIENT {}", row["id"])).await.expect("it is there");
    let end = tokio::time::timeout(PATIENCE, waiter.end()).await.expect("it ends");
    assert_eq!(end, words("57P01", "admin forced disconnect"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_are_ended_by_the_limit_for_what_they_idle_in() {
    let database = Database::create("idle_timeouts");
    for (setting, opens, code, text) in [
        ("client_idle_timeout", "SELECT 1", "57P05", "client_idle_timeout"),
        ("pin_idle_timeout", "CREATE TEMP TABLE t (n int)", "57P05", "pin_idle_timeout"),
        ("idle_transaction_timeout", "BEGIN", "08P01", "idle transaction timeout"),
        ("transaction_timeout", "BEGIN", "08P01", "transaction timeout"),
    ] {
        let pooler = config(&database).set(setting, "0.4").start();
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute(opens).await.expect("it runs");
        assert_eq!(client.end().await, words(code, text), "{setting}");
        nothing_runs(&database).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_do_not_reach_those_who_are_not_concerned() {
    let database = Database::create("not_concerned");
    // The idle limits let a query run; the query's limit lets a transaction idle.
    let pooler = config(&database).set("client_idle_timeout", "0.3").set("idle_transaction_timeout", "0.3").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("SELECT pg_sleep(1)").await.expect("it does not idle");
    client.batch_execute("BEGIN; SELECT pg_sleep(1); COMMIT").await.expect("it does not idle");
    let pooler = config(&database).set("pin_idle_timeout", "0.1").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    for ends in ["DROP TABLE t", "DISCARD ALL"] {
        client.batch_execute("CREATE TEMP TABLE t (n int); SELECT pg_sleep(0.5)").await.expect("it does not idle");
        client.batch_execute(ends).await.expect("it is there");
        // A limit that concerned it would have passed by then.
        let other = Session::connect(&pooler.app_dsn("app")).await;
        other.batch_execute("SELECT pg_sleep(0.5)").await.expect("it runs");
        client.batch_execute("SELECT 1").await.expect("it keeps no server");
    }
    let pooler = config(&database).set("query_timeout", "0.3").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("it runs");
    assert!(client.batch_execute("SELECT 1; SELECT 2; COMMIT").await.is_ok());
    for _ in 0..10 {
        client.batch_execute("SELECT pg_sleep(0.1)").await.expect("each query counts by itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_takes_too_long_ends_in_the_middle_of_a_query() {
    let database = Database::create("transaction_timeout");
    let pooler = config(&database).set("transaction_timeout", "0.4").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("it runs");
    let refused = Session::refusal(client.batch_execute(RUNS_LONG).await);
    assert_eq!(refused, words("08P01", "transaction timeout"));
    nothing_runs(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_takes_too_long_is_refused() {
    let database = Database::create("login_timeout");
    let mute = Parrot::saying(Vec::new());
    let entry = format!("host = \"127.0.0.1\"\nport = {}\n", mute.port());
    let pooler = config(&database).section("databases.mute", &entry).set("client_login_timeout", "0.5").start();
    let heard = tokio::task::spawn_blocking({
        let port = pooler.port();
        move || {
            let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
            silent.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket of our own");
            let mut heard = Vec::new();
            silent.read_to_end(&mut heard).expect("the pooler hangs up");
            String::from_utf8_lossy(&heard).into_owned()
        }
    });
    let heard = heard.await.expect("no panic");
    assert!(heard.contains("FATAL") && heard.contains("Mclient_login_timeout\0"), "{heard:?}");
    let refused = Session::refusal(Session::try_connect(&pooler.app_dsn("mute")).await);
    assert_eq!(refused.1, "client_login_timeout (server down)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_limit_is_zero() {
    let database = Database::create("no_limit");
    let mut all = config(&database);
    for setting in
        ["query_wait_timeout", "query_timeout", "client_idle_timeout", "query_wait_notify", "transaction_timeout"]
    {
        all = all.set(setting, "0");
    }
    let pooler = all.set("idle_transaction_timeout", "0").set("client_login_timeout", "0").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (holder, waiter) =
        (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    holder.batch_execute("BEGIN").await.expect("the only server");
    let waiting = tokio::spawn(async move { waiter.value("SELECT 1").await });
    eventually("a second of waiting", async || pool(&console, "app", "maxwait").await >= 1).await;
    assert_eq!(show(&console, "CLIENTS", "state", "waiting").await["wait"], "1");
    holder.batch_execute("COMMIT").await.expect("it has a server");
    assert_eq!(waiting.await.expect("it was served"), "1");
}
