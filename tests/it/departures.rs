//! Clients that are gone while their server works: what may be cancelled is, what may not runs to its end, and the server
//! comes to rest and is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::pooler::Pooler;
use crate::support::raw::{CANCEL_REQUEST, Message, Raw, V3_0, extended, message, packet, query, startup, sync};
use crate::support::{Database, PoolerConfig, wait_until};

/// One server, which has no time limit for coming to rest: what does not happen by itself fails the test.
fn pooler(database: &Database) -> PoolerConfig {
    let config = PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"");
    config.set("default_pool_size", "1").set("cancel_wait_timeout", "\"0\"")
}

fn app(pooler: &Pooler) -> Raw {
    Raw::trusted(pooler.port(), "app", "app")
}

fn backend(pooler: &Pooler) -> Vec<String> {
    app(pooler).query("SELECT pg_backend_pid()")
}

/// Until no client but the console is left, and a cancel or a limit that is not to be would have shown.
fn is_gone(pooler: &Pooler) {
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    wait_until("the client to be gone", LIMIT, || console.query("SHOW CLIENTS").len() == 1);
    // Nothing tells that something does not happen.
    thread::sleep(Duration::from_millis(300));
}

/// Until the server of `app` is in this state of waiting.
fn waits(database: &Database, event: &str) {
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app' \
         AND state = 'active' AND wait_event = '{event}'"
    );
    wait_until(event, LIMIT, || database.sql(&waiting) == "1");
}

#[test]
fn what_may_be_cancelled_is_and_the_server_is_used_again() {
    let database = Database::create("cancelled");
    let pooler = pooler(&database).start();
    let server = backend(&pooler);
    let sleep = "SELECT pg_sleep(600)";
    let parse = message(b'P', b"\0SELECT $1::text\0\0\0");
    let half_a_bind = [&parse[..], &message(b'B', &[0; 100])[..50]].concat();
    for (what, sent) in [
        ("a query", query(sleep)),
        ("a transaction", query(&format!("BEGIN; CREATE TABLE lost (n int); {sleep}"))),
        ("a pipeline of queries", query(sleep).repeat(5)),
        ("an extended query", [extended(sleep), sync()].concat()),
        ("one without Sync", extended(sleep)),
        ("an extended transaction", [extended("BEGIN"), extended(sleep), sync()].concat()),
        ("half a message behind it", [query(sleep), half_a_bind].concat()),
        ("a long query", query(&format!("{sleep} /* {} */", "x".repeat(300_000)))),
        ("several in a long query", query(&format!("SELECT 1; {sleep}; SELECT '{}'", "x".repeat(300_000)))),
        ("a long extended query", [extended(&format!("{sleep} /* {} */", "x".repeat(300_000))), sync()].concat()),
    ] {
        let mut client = app(&pooler);
        client.send(&sent);
        waits(&database, "PgSleep");
        drop(client);
        let next = backend(&pooler);
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND usename = 'app' \
                      AND datname = current_database()";
        wait_until(what, LIMIT, || database.sql(sleeps) == "0");
        // Of what a long text does the end is not known: its server may be closed as well.
        if !what.contains("long") {
            assert_eq!(next == server, !what.starts_with("half"), "{what}");
        }
    }
}

#[test]
fn with_cancel_on_disconnect_off_a_query_runs_to_its_end() {
    let database = Database::create("not_cancelled");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = pooler(&database).set("cancel_on_disconnect", "false").set("cancel_wait_timeout", "0.1").start();
    let server = backend(&pooler);
    let mut holder = app_direct(&database);
    holder.execute("SELECT pg_advisory_lock(1)");
    let mut client = app(&pooler);
    client.send(&query("INSERT INTO t SELECT 1 FROM pg_advisory_xact_lock(1)"));
    waits(&database, "advisory");
    drop(client);
    is_gone(&pooler);
    holder.execute("SELECT pg_advisory_unlock(1)");
    assert_eq!(backend(&pooler), server);
    assert_eq!(database.sql("SELECT count(*) FROM t"), "1");
}

/// A session of its own, past the pooler.
struct Direct(tokio::runtime::Runtime, crate::support::Session);

fn app_direct(database: &Database) -> Direct {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
    let session = runtime.block_on(crate::support::Session::connect(&database.direct_dsn()));
    Direct(runtime, session)
}

impl Direct {
    fn execute(&mut self, sql: &str) {
        self.0.block_on(self.1.rows(sql));
    }
}

#[test]
fn an_index_that_is_built_concurrently_is_finished() {
    let database = Database::create("index");
    database.sql("CREATE TABLE t (n int); ALTER TABLE t OWNER TO app");
    let pooler = pooler(&database).set("cancel_wait_timeout", "0.1").start();
    let server = backend(&pooler);
    let mut holder = app_direct(&database);
    for (name, sent) in [
        ("simple", query("CREATE INDEX CONCURRENTLY simple ON t (n)")),
        ("extended", [extended("CREATE INDEX CONCURRENTLY extended ON t (n)"), sync()].concat()),
    ] {
        holder.execute("BEGIN; INSERT INTO t VALUES (1)");
        let mut client = app(&pooler);
        client.send(&sent);
        waits(&database, "virtualxid");
        drop(client);
        is_gone(&pooler);
        holder.execute("COMMIT");
        assert_eq!(backend(&pooler), server, "{name}");
        let valid = format!("SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass");
        assert_eq!(database.sql(&valid), "t", "{name}");
    }
}

#[test]
fn a_commit_is_never_cancelled() {
    let database = Database::create("commits");
    database.sql(
        "CREATE TABLE t (n int); GRANT ALL ON t TO app; \
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql \
         AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let pooler = pooler(&database).start();
    let server = backend(&pooler);
    let mut holder = app_direct(&database);
    for (n, sent) in [
        [query("BEGIN"), query("INSERT INTO t VALUES (1)"), query("COMMIT")].concat(),
        [query("BEGIN"), query("INSERT INTO t VALUES (1)"), query("COMMIT"), query("SELECT 1")].concat(),
        query("BEGIN; INSERT INTO t VALUES (1); COMMIT"),
        query("INSERT INTO t VALUES (1); /* ; */ COMMIT; SELECT 1"),
        [extended("BEGIN"), extended("INSERT INTO t VALUES (1)"), extended("COMMIT"), sync()].concat(),
        [extended("BEGIN"), extended("INSERT INTO t VALUES (1)"), extended("END"), extended("SELECT 1"), sync()]
            .concat(),
    ]
    .iter()
    .enumerate()
    {
        holder.execute("SELECT pg_advisory_lock(1)");
        let mut client = app(&pooler);
        client.send(sent);
        waits(&database, "advisory");
        drop(client);
        is_gone(&pooler);
        holder.execute("SELECT pg_advisory_unlock(1)");
        assert_eq!(backend(&pooler), server, "way {n}");
        assert_eq!(database.sql("SELECT count(*) FROM t"), (n + 1).to_string(), "way {n}");
    }
}

#[test]
fn what_was_not_ended_by_a_sync_is_undone() {
    let database = Database::create("unsynced");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = pooler(&database).start();
    let server = backend(&pooler);
    let insert = extended("INSERT INTO t VALUES (1)");
    for (what, flush, begins, terminate) in [
        ("alone", false, "", false),
        ("flushed", true, "", false),
        ("in a block", false, "BEGIN", false),
        ("flushed in a block", true, "BEGIN", false),
        ("with good-bye", false, "", true),
        ("flushed with good-bye", true, "", true),
    ] {
        let mut client = app(&pooler);
        client.query(begins);
        client.send(&insert);
        if flush {
            client.send(&message(b'H', b""));
            assert_eq!(client.until(b'C').iter().map(Message::text).collect::<String>(), "12C", "{what}");
        }
        if terminate {
            client.send(&message(b'X', b""));
        }
        drop(client);
        assert_eq!(backend(&pooler), server, "{what}");
        assert_eq!(database.sql("SELECT count(*) FROM t"), "0", "{what}");
    }
}

#[test]
fn a_server_with_more_to_say_than_fits_is_heard_while_it_is_told_the_rest() {
    let database = Database::create("flood");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = pooler(&database).start();
    let server = backend(&pooler);
    // Answers that nobody reads, until all buffers are full, and more questions than fit between the pooler and the
    // server, which takes none of them before it is heard. On a Unix socket whole writes are read at a time: none is cut.
    let question = |sql: &str| query(&format!("{sql} -- {}", "x".repeat(4096 - 10 - sql.len())));
    let mut client = Raw::unix(&pooler.directory().join(format!(".s.PGSQL.{}", pooler.port())));
    client.send(&startup(V3_0, &[("user", "app"), ("database", "app")]));
    client.until(b'Z');
    let mut writer = client.another();
    let (large, small) = (question("SELECT repeat('x', 4000000)"), question("SELECT 1"));
    assert_eq!((large.len(), small.len()), (4096, 4096));
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let writing = thread::spawn(move || {
        for n in 0..16_000 {
            writer.send(if n < 8 { &large } else { &small });
            counted.store(n, Ordering::Relaxed);
        }
    });
    waits(&database, "ClientWrite");
    let mut seen = 0;
    wait_until("the client to get no further", LIMIT, || {
        thread::sleep(Duration::from_millis(200));
        let now = written.load(Ordering::Relaxed);
        std::mem::replace(&mut seen, now) == now
    });
    assert!(seen < 15_999, "more fits than was to");
    client.cut();
    writing.join().expect("no panic");
    drop(client);
    assert_eq!(backend(&pooler), server);
}

#[test]
fn what_stands_before_a_good_bye_runs_to_its_end() {
    let database = Database::create("good_bye");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = pooler(&database).set("cancel_wait_timeout", "0.1").start();
    let server = backend(&pooler);
    let mut client = app(&pooler);
    let insert = query("WITH i AS (INSERT INTO t VALUES (1)) SELECT repeat('x', 2000000), pg_sleep(0.02)");
    client.send(&[insert.repeat(20), message(b'X', b"")].concat());
    // It reads none of it.
    wait_until("all of it", LIMIT, || database.sql("SELECT count(*) FROM t") == "20");
    drop(client);
    assert_eq!(backend(&pooler), server);
}

#[test]
fn a_server_with_half_a_message_is_closed_at_once() {
    let database = Database::create("half");
    database.sql("CREATE TABLE t (x text); GRANT ALL ON t TO app");
    let pooler = pooler(&database).start();
    let long = vec![b'x'; 2_000_000];
    let parse = message(b'P', b"\0SELECT $1::text\0\0\0");
    let bind = message(b'B', &[b"\0\0\0\0\0\x01\0\x1e\x84\x80", &long[..], b"\0\0"].concat());
    for (what, first, whole) in [
        ("a query", "SELECT 1", message(b'Q', &[b"SELECT '", &long[..], b"'\0"].concat())),
        ("a Bind", "SELECT 1", [parse, bind].concat()),
        ("a row", "COPY t FROM STDIN", message(b'd', &long)),
    ] {
        let server = backend(&pooler);
        let mut client = app(&pooler);
        client.send(&query(first));
        // Nothing unread is left behind, or what was sent would be lost with it.
        client.until(if what == "a row" { b'G' } else { b'Z' });
        client.send(&whole[..1_000_000]);
        drop(client);
        // Or the next client may come before the message.
        is_gone(&pooler);
        assert_ne!(backend(&pooler), server, "{what}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_request_to_cancel_reaches_what_a_client_that_is_gone_has_left_running() {
    let database = Database::create("posthumous");
    let pooler = pooler(&database).start();
    let server = backend(&pooler);
    for (what, farewell) in [("vanished", vec![]), ("terminated", message(b'X', b""))] {
        let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
        // What begins with a parenthesis is not known to be harmless.
        client.send(&query("(SELECT pg_sleep(600))"));
        waits(&database, "PgSleep");
        client.send(&farewell);
        drop(client);
        is_gone(&pooler);
        waits(&database, "PgSleep");
        let mut request = Raw::tcp(pooler.port());
        request.send(&packet(CANCEL_REQUEST, &key));
        assert_eq!(request.rest(), [""; 0], "{what}");
        assert_eq!(backend(&pooler), server, "{what}");
    }
}

#[test]
fn an_operator_can_close_a_server_that_a_client_has_left_running() {
    let database = Database::create("left_running");
    let pooler = pooler(&database).start();
    for way in ["KILL app", "KILL_CLIENT"] {
        let mut client = app(&pooler);
        client.send(&query("(SELECT pg_sleep(600))"));
        waits(&database, "PgSleep");
        drop(client);
        is_gone(&pooler);
        let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
        let shown = rows(&mut console, "SHOW SERVERS");
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!((shown[0][2].as_str(), shown[0][4].as_str()), ("app", "active"), "{way}");
        let id = u64::from_str_radix(&link(&shown[0])[2..], 16).expect("a number");
        let told = console.query(&if way == "KILL app" { way.to_owned() } else { format!("KILL_CLIENT {id}") });
        assert_eq!(told, [""; 0], "{way}");
        wait_until("the server to be closed", LIMIT, || console.query("SHOW SERVERS").is_empty());
        console.query("RESUME app");
        database.sql("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()");
        assert_eq!(app(&pooler).query("SELECT 1"), ["1"], "{way}");
    }
}

fn rows(console: &mut Raw, sql: &str) -> Vec<Vec<String>> {
    console.send(&query(sql));
    console.until(b'Z').iter().filter(|row| row.tag == b'D').map(values).collect()
}

/// Of whom SHOW SERVERS says that the server is.
fn link(server: &[String]) -> &str {
    server.iter().filter(|value| value.starts_with("0x")).nth(1).expect("whose it is")
}

/// The columns of a row.
fn values(row: &Message) -> Vec<String> {
    let mut rest = &row.body[2..];
    let mut values = Vec::new();
    while let [a, b, c, d, more @ ..] = rest {
        let size = usize::try_from(i32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(0);
        values.push(String::from_utf8_lossy(&more[..size]).into_owned());
        rest = &more[size..];
    }
    values
}

const LIMIT: Duration = Duration::from_secs(30);

/// A client may take a while to read why its connection ends, and its server is not kept for that.
#[test]
fn a_server_does_not_wait_for_a_client_that_does_not_read() {
    let database = Database::create("unread");
    let pooler = pooler(&database).start();
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    for way in ["KILL app", "KILL_CLIENT"] {
        let mut client = app(&pooler);
        client.send(&query("SELECT repeat('x', 1000000) FROM generate_series(1, 2000)"));
        waits(&database, "ClientWrite");
        let servers = rows(&mut console, "SHOW SERVERS");
        let server = servers.iter().find(|row| row[4] == "active").unwrap_or_else(|| panic!("{servers:?}"));
        console.query(&if way == "KILL app" { way.to_owned() } else { format!("{way} {}", link(server)) });
        let active = |console: &mut Raw| rows(console, "SHOW SERVERS").iter().any(|row| row[4] == "active");
        wait_until("the server to be free", LIMIT, || !active(&mut console));
        let lists = rows(&mut console, "SHOW LISTS");
        let used = lists.iter().find(|row| row[0] == "used_clients").expect("a number");
        assert_eq!(used[1], "2", "{way}: the console, and the client, whose last words wait for it");
        console.query("RESUME app");
    }
}

#[test]
fn a_server_that_is_always_reset_is_reset_after_a_client_that_vanished_too() {
    let database = Database::create("vanished_reset");
    let config = pooler(&database).set("server_reset_query_always", "true");
    let pooler = config.set("server_reset_query", "\"SELECT 'mine'\"").start();
    let server = backend(&pooler);
    for sent in [query("BEGIN; SELECT 1"), query("SELECT pg_sleep(600)")] {
        let mut client = app(&pooler);
        client.send(&sent);
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database() \
            AND (state = 'idle in transaction' OR wait_event = 'PgSleep')";
        wait_until("the query", LIMIT, || database.sql(busy) == "1");
        drop(client);
        let last = "SELECT query FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database() \
            AND state = 'idle'";
        wait_until("the reset", LIMIT, || database.sql(last) == "SELECT 'mine'");
        assert_eq!(backend(&pooler), server, "it is used again");
    }
}
