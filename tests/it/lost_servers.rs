//! Servers that are lost while clients have them: what the client reads, that nothing of a lost transaction is kept or
//! runs elsewhere, and that the client goes on.

use std::time::Duration;

use pglifeguard::app::demo::{Cluster, ClusterOptions, Watch};
use pglifeguard::wire::error::ErrorFields;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::peers::{Line, Parrot};
use crate::support::pooler::Pooler;
use crate::support::programs::{python, run};
use crate::support::raw::{FLUSH, Message, Raw, V3_0, bind, execute, extended, message, parse, query, startup, sync};
use crate::support::{Database, PoolerConfig, Session, eventually, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

fn start(database: &Database, mode: &str) -> Pooler {
    let config = PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"");
    config.set("pool_mode", &format!("\"{mode}\"")).start()
}

/// Ends the only server of the database that runs `sql`, or ran it last, as an administrator does, and waits until it is gone.
fn terminate(database: &Database, sql: &str) {
    let find = format!("FROM pg_stat_activity WHERE datname = current_database() AND query = $q${sql}$q$");
    wait_until("the query to run", LIMIT, || database.sql(&format!("SELECT count(*) {find}")) == "1");
    assert_eq!(database.sql(&format!("SELECT pg_terminate_backend(pid, 30000) {find}")), "t");
}

/// Errors with their text, ReadyForQuery with its status, CommandComplete with its tag, other messages as their tag.
fn shown(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| match message.tag {
        b'Z' => format!("Z {}", char::from(message.body[0])),
        b'C' => format!("C {}", String::from_utf8_lossy(&message.body).trim_end_matches('\0')),
        b'E' => message.text(),
        tag => char::from(tag).to_string(),
    };
    messages.iter().map(text).collect()
}

/// All up to the `count`th ReadyForQuery.
fn answers(client: &mut Raw, count: usize) -> Vec<String> {
    (0..count).flat_map(|_| shown(&client.until(b'Z'))).collect()
}

fn asks(client: &mut Raw, sql: &str) -> Vec<String> {
    client.send(&query(sql));
    answers(client, 1)
}

const ROLLED_BACK: &str = "08006 connection to server lost, the transaction is rolled back";
const STATEMENT_UNKNOWN: &str =
    "08007 connection to server lost, it is not known whether the statement was carried out";
const COMMIT_UNKNOWN: &str = "08007 connection to server lost, it is not known whether the transaction was committed";
const ABORTED: &str = "25P02 current transaction is aborted, commands ignored until end of transaction block";

#[test]
fn a_statement_of_its_own_fails_and_the_client_goes_on() {
    let database = Database::create("lost_statement");
    for mode in ["transaction", "statement"] {
        let pooler = start(&database, mode);
        let mut client = Raw::trusted(pooler.port(), "app", "app");
        let sleep = format!("SELECT pg_sleep(60), '{mode}'");
        client.send(&query(&sleep));
        terminate(&database, &sleep);
        let messages = client.until(b'Z');
        assert_eq!(shown(&messages), ["T", STATEMENT_UNKNOWN, "Z I"]);
        let fields = ErrorFields::parse(&messages[1].body);
        assert_eq!(fields.severity, Some(&b"ERROR"[..]));
        let detail = String::from_utf8_lossy(fields.detail.unwrap_or_default());
        assert!(detail.contains("FATAL 57P01: terminating connection due to administrator command"), "{detail}");
        assert_eq!(client.query("SELECT 'one'"), ["one"]);
        client.send(&[extended("SELECT pg_sleep(61)"), sync()].concat());
        terminate(&database, "SELECT pg_sleep(61)");
        assert_eq!(answers(&mut client, 1), ["1", "2", STATEMENT_UNKNOWN, "Z I"]);
        assert_eq!(client.query("SELECT 'two'"), ["two"]);
    }
}

#[test]
fn a_transaction_that_is_lost_while_it_waits_fails_with_its_next_statement() {
    let database = Database::create("lost_idle");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("CREATE TABLE t (n int)");
    for (round, (asked, answer)) in [
        ("INSERT INTO t VALUES (2)", [ROLLED_BACK, "Z E"]),
        ("COMMIT", [ROLLED_BACK, "Z I"]),
        ("ROLLBACK", ["C ROLLBACK", "Z I"]),
    ]
    .into_iter()
    .enumerate()
    {
        client.query("BEGIN");
        let insert = format!("INSERT INTO t VALUES ({round})");
        client.query(&insert);
        terminate(&database, &insert);
        assert_eq!(asks(&mut client, asked), answer);
        if answer[1] == "Z E" {
            assert_eq!(asks(&mut client, "INSERT INTO t VALUES (3)"), [ABORTED, "Z E"]);
            assert_eq!(asks(&mut client, "ROLLBACK TO SAVEPOINT s"), [ABORTED, "Z E"]);
            assert_eq!(asks(&mut client, "COMMIT"), ["C ROLLBACK", "Z I"]);
        }
        assert_eq!(client.query("SELECT count(*) FROM t"), ["0"], "{asked}");
    }
}

#[test]
fn what_follows_the_end_of_a_lost_transaction_in_one_text_runs() {
    let database = Database::create("lost_rest");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("BEGIN");
    client.query("SELECT 'last'");
    terminate(&database, "SELECT 'last'");
    let answer = asks(&mut client, "ROLLBACK; BEGIN; SELECT 1");
    assert_eq!(answer, ["C ROLLBACK", "C BEGIN", "T", "D", "C SELECT 1", "Z T"]);
    assert_eq!(asks(&mut client, "COMMIT"), ["C COMMIT", "Z I"]);
    client.query("BEGIN");
    client.query("SELECT 'again'");
    terminate(&database, "SELECT 'again'");
    client.send(&query("ROLLBACK; SELECT nothing"));
    let messages = client.until(b'Z');
    let error = messages.iter().find(|message| message.tag == b'E').expect("there is no such column");
    // Field P: a position in the text that the client has sent.
    assert!(error.body.windows(4).any(|field| field == b"P18\0"), "{}", String::from_utf8_lossy(&error.body));
}

#[test]
fn a_long_text_behind_the_end_of_a_lost_transaction_runs() {
    let database = Database::create("lost_long");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    for size in [70_000, 700_000] {
        let long = format!("SELECT length('{}')", "x".repeat(size));
        for (text, answer) in [
            (format!("ROLLBACK; {long}"), &["C ROLLBACK", "T", "D", "C SELECT 1", "Z I"][..]),
            (format!("COMMIT; {long}"), &[ROLLED_BACK, "Z I"]),
            (long, &[ROLLED_BACK, "Z E"]),
        ] {
            client.query("BEGIN");
            let last = format!("SELECT 'last {} of {size}'", &text[..6]);
            client.query(&last);
            terminate(&database, &last);
            assert_eq!(asks(&mut client, &text), answer, "{last}");
            client.query("ROLLBACK");
        }
    }
}

#[test]
fn a_flood_of_requests_in_a_lost_transaction_is_answered_as_it_is_read() {
    let database = Database::create("lost_flood");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("BEGIN");
    client.query("SELECT 'last'");
    terminate(&database, "SELECT 'last'");
    let mut writer = client.another();
    let writing = std::thread::spawn(move || writer.send(&query("x").repeat(200_000)));
    let answers = (0..200_000).filter(|_| client.until(b'Z').first().is_some_and(|it| it.tag == b'E')).count();
    assert_eq!(answers, 200_000);
    writing.join().expect("no panic");
    assert_eq!(asks(&mut client, "ROLLBACK"), ["C ROLLBACK", "Z I"]);
}

#[test]
fn pipelines_are_answered_to_their_ends() {
    let database = Database::create("lost_pipeline");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("CREATE TABLE t (n int)");
    client.query("BEGIN");
    let insert = [extended("INSERT INTO t VALUES (1)"), sync()].concat();
    let sleep = [extended("SELECT pg_sleep(60)"), sync()].concat();
    let commit = [extended("COMMIT"), sync()].concat();
    client.send(&[&insert[..], &sleep, &insert, &commit, &insert].concat());
    terminate(&database, "SELECT pg_sleep(60)");
    let answer = answers(&mut client, 5);
    assert_eq!(answer[..4], ["1", "2", "C INSERT 0 1", "Z T"]);
    let rest = ["1", "2", COMMIT_UNKNOWN, "Z E", ABORTED, "Z E", COMMIT_UNKNOWN, "Z I", STATEMENT_UNKNOWN, "Z I"];
    assert_eq!(answer[4..], rest);
    assert_eq!(client.query("SELECT count(*) FROM t"), ["0"]);
    // With its ROLLBACK in the extended protocol, as most drivers send it.
    client.query("BEGIN");
    client.query("SELECT 'last'");
    terminate(&database, "SELECT 'last'");
    client.send(&[extended("SELECT 1"), sync(), extended("ROLLBACK"), sync()].concat());
    assert_eq!(answers(&mut client, 2), [ROLLED_BACK, "Z E", "1", "2", "C ROLLBACK", "Z I"]);
    assert_eq!(client.query("SELECT 'one'"), ["one"]);
}

#[test]
fn a_commit_that_was_bound_before_something_else_is_one() {
    let database = Database::create("lost_portal");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("BEGIN");
    let bound = [parse("", "COMMIT"), bind("end", "", &[])].concat();
    let sleep = extended("SELECT pg_sleep(60)");
    client.send(&[bound, sleep, execute("end", 0), sync()].concat());
    terminate(&database, "SELECT pg_sleep(60)");
    assert_eq!(answers(&mut client, 1), ["1", "2", "1", "2", COMMIT_UNKNOWN, "Z I"]);
    assert_eq!(client.query("SELECT 'one'"), ["one"]);
}

#[test]
fn nothing_says_that_what_was_committed_without_a_sync_is_undone() {
    let database = Database::create("lost_flushed");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("CREATE TABLE t (n int)");
    client.query("CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN INSERT INTO t VALUES (1); COMMIT; END'");
    let insert = "INSERT INTO t VALUES (1)";
    for (texts, error, kept) in [
        (&["BEGIN", insert, "COMMIT"][..], COMMIT_UNKNOWN, "1"),
        (&[insert, "COMMIT"], COMMIT_UNKNOWN, "1"),
        (&["CALL p()"], COMMIT_UNKNOWN, "1"),
        (&[insert], ROLLED_BACK, "0"),
    ] {
        client.query("TRUNCATE t");
        let frames: Vec<_> = texts.iter().map(|text| extended(text)).collect();
        client.send(&[&frames.concat()[..], FLUSH].concat());
        texts.iter().for_each(|_| _ = client.until(b'C'));
        terminate(&database, texts[texts.len() - 1]);
        client.send(&[&extended("SELECT 2")[..], &sync()].concat());
        assert_eq!(answers(&mut client, 1), [error, "Z I"], "{texts:?}");
        assert_eq!(client.query("SELECT count(*) FROM t"), [kept], "{texts:?}");
    }
}

#[test]
fn a_copy_is_broken_off() {
    let database = Database::create("lost_copy");
    let pooler = start(&database, "transaction");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("CREATE TABLE t (n int)");
    client.send(&[query("COPY t FROM STDIN"), message(b'd', b"1\n")].concat());
    assert_eq!(client.message().map(|message| message.tag), Some(b'G'));
    terminate(&database, "COPY t FROM STDIN");
    assert_eq!(answers(&mut client, 1), [STATEMENT_UNKNOWN, "Z I"]);
    client.send(&[message(b'd', b"2\n"), message(b'c', b""), query("SELECT count(*) FROM t")].concat());
    assert_eq!(answers(&mut client, 1), ["T", "D", "C SELECT 1", "Z I"]);
    client.query("BEGIN");
    let copy = "COPY (SELECT 1 UNION ALL SELECT 2 FROM pg_sleep(60)) TO STDOUT";
    client.send(&query(copy));
    terminate(&database, copy);
    let answer = answers(&mut client, 1);
    assert_eq!(answer[answer.len() - 2..], [ROLLED_BACK, "Z E"]);
    assert_eq!(asks(&mut client, "ROLLBACK"), ["C ROLLBACK", "Z I"]);
}

#[test]
fn a_session_that_is_lost_with_its_server_ends() {
    let database = Database::create("lost_session");
    let pooler = start(&database, "session");
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("SELECT 'last'");
    terminate(&database, "SELECT 'last'");
    assert_eq!(client.rest(), ["57P01 terminating connection due to administrator command"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_goes_on_after_a_lost_transaction() {
    let database = Database::create("lost_driver");
    let pooler = start(&database, "transaction");
    let mut client =
        tokio_postgres::connect(&pooler.app_dsn("app"), tokio_postgres::NoTls).await.map(|(client, all)| {
            tokio::spawn(all);
            client
        });
    let client = client.as_mut().expect("it connects");
    client.batch_execute("CREATE TABLE t (n int)").await.expect("a table");
    let kept = client.prepare("SELECT count(*) FROM t").await.expect("a statement");
    let transaction = client.transaction().await.expect("BEGIN");
    transaction.execute("INSERT INTO t VALUES (1)", &[]).await.expect("a row");
    terminate(&database, "INSERT INTO t VALUES (1)");
    let error = transaction.execute("INSERT INTO t VALUES (2)", &[]).await.expect_err("it is lost");
    assert_eq!(error.code().map(|code| code.code()), Some("08006"), "{error:?}");
    transaction.rollback().await.expect("ROLLBACK");
    let transaction = client.transaction().await.expect("BEGIN");
    transaction.execute("INSERT INTO t VALUES (3)", &[]).await.expect("a row");
    terminate(&database, "INSERT INTO t VALUES (3)");
    let error = transaction.commit().await.expect_err("nothing was committed");
    assert_eq!(error.code().map(|code| code.code()), Some("08006"), "{error:?}");
    let count: i64 = client.query_one(&kept, &[]).await.expect("prepared anew").get(0);
    assert_eq!(count, 0);
    let console = Session::connect(&pooler.console_dsn()).await;
    // It has its answer before its server is given back.
    eventually("it to be idle, without a server", async || {
        let show = console.rows("SHOW CLIENTS").await;
        let row = show.iter().find(|row| row["database"] == "app").expect("it is connected");
        (row["state"].as_str(), row["link"].as_str()) == ("idle", "")
    })
    .await;
}

#[test]
fn other_drivers_go_on_as_well() {
    let database = Database::create("lost_drivers");
    let pooler = start(&database, "transaction");
    assert_eq!(run(&mut python("lost_servers.py", &pooler.app_dsn("app"))), "lost servers: ok\n");
}

/// One backend that is killed takes all others with it, and PostgreSQL restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_survives_a_crash_of_postgresql() {
    let cluster = Cluster::start(&ClusterOptions::default(), &Watch::QUIET).expect("a cluster of its own");
    let at = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.primary().port());
    let pooler = PoolerConfig::new().section("databases.app", &at).start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("a server");
    let pid = client.value("SELECT pg_backend_pid()").await.parse().expect("a number");
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it runs as us, or we as root");
    let (code, _) = Session::refusal(client.batch_execute("SELECT 1").await);
    assert_eq!(code, "08006");
    let (code, _) = Session::refusal(client.batch_execute("SELECT 1").await);
    assert_eq!(code, "25P02");
    client.batch_execute("ROLLBACK").await.expect("it is the end of it");
    eventually("PostgreSQL to be back", async || client.batch_execute("SELECT 1").await.is_ok()).await;
}

#[test]
fn half_a_row_is_not_completed_with_an_error() {
    let database = Database::create("lost_half");
    let mut line = Line::to(database.port());
    let section = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", line.port(), database.name);
    let config = PoolerConfig::new().section("databases.app", &section).set("auth_type", "\"trust\"");
    let pooler = config.start();
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.send(&query("SELECT repeat('x', 100000000)"));
    assert_eq!(client.message().map(|message| message.tag), Some(b'T'));
    // The row's header, the count of its values, and the length of the only one.
    assert_eq!(client.bytes(11).first(), Some(&b'D'));
    line.cut();
    let value = client.bytes(100_000_000);
    assert!(value.len() < 100_000_000 && value.iter().all(|byte| *byte == b'x'), "{} bytes", value.len());
}

/// A client with a setting that servers lack is behind a server that takes logins and nothing else.
#[test]
fn a_message_is_not_tried_for_ever_on_servers_that_take_logins_only() {
    for words in [&b""[..], b"E\0\0\0\x16SFATAL\0C57P01\0Mno\0\0"] {
        let parrot = Parrot::letting_in(words);
        let entry = format!("host = \"127.0.0.1\"\nport = {}\n", parrot.port());
        let config = PoolerConfig::new().section("databases.app", &entry).set("auth_type", "\"trust\"");
        let config = config.set("session_state", "\"pgbouncer\"").set("server_tls_sslmode", "\"disable\"");
        let pooler = config.start();
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", "app"), ("database", "app"), ("application_name", "me")]));
        client.until(b'Z');
        client.send(&query("BEGIN"));
        let told = client.rest();
        assert!(told.len() == 1 && told[0].starts_with("08006"), "{told:?}");
        assert!(parrot.visits() < 10, "{} logins", parrot.visits());
    }
}

#[test]
fn who_is_cut_off_because_a_block_was_about_to_begin_is_told() {
    let parrot = Parrot::letting_in(b"E\0\0\0\x16SFATAL\0C57P01\0Mno\0\0");
    let entry = format!("host = \"127.0.0.1\"\nport = {}\n", parrot.port());
    let config = PoolerConfig::new().section("databases.app", &entry).set("auth_type", "\"trust\"");
    let config = config.set("session_state", "\"pgbouncer\"").set("server_tls_sslmode", "\"disable\"");
    let pooler = config.start();
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.send(&query("BEGIN"));
    let told = client.rest();
    assert!(told.len() == 1 && told[0].starts_with("08006"), "{told:?}");
}

#[test]
fn a_reset_is_lost_with_its_transaction() {
    let database = Database::create("lost_resets");
    let pooler = start(&database, "transaction");
    for (name, start, other) in
        [("datestyle", "German", "ISO, DMY"), ("timezone", "Asia/Tokyo", "UTC"), ("application_name", "one", "two")]
    {
        for reset in [&format!("RESET {name}"), "RESET ALL", &format!("SAVEPOINT s; RESET {name}")] {
            let mut client = Raw::tcp(pooler.port());
            client.send(&startup(V3_0, &[("user", "app"), ("database", "app"), (name, start)]));
            client.until(b'Z');
            client.query(&format!("SET {name} = '{other}'"));
            client.query("BEGIN");
            client.query(reset);
            let inside = client.query(&format!("SHOW {name}"));
            assert_ne!(inside, [other], "{reset}");
            let last = format!("SELECT '{name}, {reset}'");
            client.query(&last);
            terminate(&database, &last);
            client.query("ROLLBACK");
            assert_eq!(client.query(&format!("SHOW {name}")), [other], "{name}, {reset}");
        }
    }
}
