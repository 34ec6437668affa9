//! COPY of gigabytes, in and out; one whose server stalls, and those that fail in the middle.

use std::time::Duration;

use super::results::count;
use super::{app, direct, memory, memory_is_constant, shown, trusting};
use crate::support::raw::{Raw, SYNC, bind, execute, message, parse, query};
use crate::support::{Database, wait_until};

const ROW: usize = 1_000_000;

/// A table that keeps of its rows only how long they were. A row waits for `lock` if that is held.
fn lengths(database: &Database) {
    database.sql(
        "CREATE TABLE t (x text, n int);
         CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_xact_lock(1);
             NEW.n := octet_length(NEW.x);
             NEW.x := NULL;
             RETURN NEW;
         END $$;
         CREATE TRIGGER measure BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION measure();
         GRANT ALL ON t TO app",
    );
}

fn begins(client: &mut Raw, sql: &str, tag: u8) {
    client.send(&query(sql));
    assert_eq!(client.message().map(|first| first.tag), Some(tag), "{sql}");
}

#[test]
fn gigabytes_are_copied_out_at_constant_memory() {
    let database = Database::create("copy_out");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    begins(&mut client, &format!("COPY (SELECT repeat('x', {ROW}) FROM generate_series(1, 1000)) TO STDOUT"), b'H');
    assert_eq!(count(&mut client, b'd', ROW + 1), (1000, b'c'));
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    memory_is_constant(&pooler, before);
}

#[test]
fn gigabytes_are_copied_in_at_constant_memory() {
    let database = Database::create("copy_in");
    lengths(&database);
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    let row = message(b'd', &[&vec![b'x'; ROW][..], b"\n"].concat());
    begins(&mut client, "COPY t (x) FROM STDIN", b'G');
    (0..1000).for_each(|_| client.send(&row));
    client.send(&message(b'c', b""));
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    memory_is_constant(&pooler, before);
    assert_eq!(client.query("SELECT count(*) || ' ' || sum(n) FROM t"), ["1000 1000000000"]);
}

#[test]
fn a_server_that_stalls_stops_its_client() {
    let database = Database::create("copy_stall");
    lengths(&database);
    let pooler = trusting(&database, 2).start();
    let (mut client, mut other, mut holder) = (app(&pooler), app(&pooler), direct(&database));
    assert_eq!(client.query("SELECT 1"), ["1"]);
    holder.query("SELECT pg_advisory_lock(1)");
    let before = memory(&pooler);
    let row = message(b'd', &[&[b'x'; 100_000][..], b"\n"].concat());
    let all = row.repeat(1500);
    begins(&mut client, "COPY t (x) FROM STDIN", b'G');
    let taken = client.send_while_taken(&all, PATIENCE);
    assert!(taken < 50_000_000, "{taken} bytes went somewhere");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'";
    wait_until("the server to wait for the lock", LIMIT, || database.sql(waits) == "1");
    for n in 0..20 {
        assert_eq!(other.query(&format!("SELECT {n}")), [n.to_string()]);
    }
    memory_is_constant(&pooler, before);
    holder.query("SELECT pg_advisory_unlock(1)");
    client.send(&all[taken..]);
    client.send(&message(b'c', b""));
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    assert_eq!(client.query("SELECT count(*) || ' ' || sum(n) FROM t"), ["1500 150000000"]);
    memory_is_constant(&pooler, before);
}

#[test]
fn what_is_sent_behind_the_failure_of_a_copy_is_dropped_and_the_connection_goes_on() {
    let database = Database::create("copy_fails");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    let good = message(b'd', &b"1\n".repeat(50_000));
    let (bad, done) = (message(b'd', b"one\n"), message(b'c', b""));
    let fail = message(b'f', b"no more\0");
    let extended = [parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0), SYNC.to_vec()].concat();
    let (refused, given_up) =
        ("22P02 invalid input syntax for type integer: \"one\"", "57014 COPY from stdin failed: no more");
    for (what, begin, end, error) in [
        ("a bad row", query("COPY t FROM STDIN"), [&bad[..], &good.repeat(300), &done].concat(), refused),
        ("a bad row, given up", query("COPY t FROM STDIN"), [&bad[..], &good.repeat(3), &fail].concat(), refused),
        ("given up", query("COPY t FROM STDIN"), fail.clone(), given_up),
        // The Sync before the data is read past by the server, so another one ends the skipping.
        ("extended", extended.clone(), [&bad[..], &good.repeat(300), &done, SYNC].concat(), refused),
        ("extended, given up", extended, [&fail[..], SYNC].concat(), given_up),
    ] {
        client.send(&[&begin[..], &good, &end].concat());
        let answer = shown(&client.until(b'Z'));
        let expected = if what.starts_with("extended") { "12G" } else { "G" };
        assert_eq!(answer, format!("{expected}[{error}]Z"), "{what}");
        assert_eq!(client.query("SELECT 'mine'"), ["mine"], "{what}");
        assert_eq!(other.query("SELECT count(*) FROM t"), ["0"], "{what}");
    }
    // Within a transaction block it is the block that fails.
    client.query("BEGIN");
    client.send(&[query("COPY t FROM STDIN"), bad, good.repeat(3), done].concat());
    client.until(b'Z');
    assert_eq!(client.query("SELECT 1"), [ABORTED]);
    client.query("ROLLBACK");
    assert_eq!(other.query("SELECT 2"), ["2"]);
    memory_is_constant(&pooler, before);
}

const ABORTED: &str = "25P02 current transaction is aborted, commands ignored until end of transaction block";
/// How long nothing is taken until that counts as the other side having stopped.
const PATIENCE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);
