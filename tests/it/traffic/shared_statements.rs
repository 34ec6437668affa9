//! What one client prepares by name is shared with others only where it means the same to them: types of parameters, of
//! results and of constants are fixed when a text is first parsed.

use super::{app, asks, direct, rows, trusting};
use crate::support::Database;
use crate::support::pooler::Pooler;
use crate::support::raw::{Raw, V3_0, bind, execute, parse, query, startup, sync};

fn with_path(pooler: &Pooler, path: &str) -> Raw {
    let mut client = Raw::tcp(pooler.port());
    let options = format!("-c search_path={path}");
    client.send(&startup(V3_0, &[("user", "app"), ("database", "app"), ("options", &options)]));
    client.until(b'Z');
    client
}

/// Prepares and inserts a moment, which a date can't hold.
fn inserts(client: &mut Raw) -> String {
    let moment = b"2026-11-28 12:34:56";
    asks(client, &[parse("i", INSERT), bind("", "i", &[moment]), execute("", 0), sync()].concat())
}

const INSERT: &str = "INSERT INTO ev VALUES ($1)";
const STORED: &str = "SELECT at::text FROM s2.ev";
const MOMENT: [&str; 1] = ["2026-11-28 12:34:56"];

/// A table of dates that some see, and a table of moments.
fn two_tables(label: &str) -> (Database, Pooler) {
    let database = Database::create(label);
    database.sql(
        "CREATE SCHEMA s1; CREATE SCHEMA s2; CREATE TABLE s1.ev (at date); CREATE TABLE s2.ev (at timestamp); \
         GRANT ALL ON s1.ev, s2.ev TO PUBLIC; GRANT ALL ON SCHEMA s1, s2 TO PUBLIC",
    );
    let pooler = trusting(&database, 1).start();
    (database, pooler)
}

#[test]
fn a_statement_is_read_by_the_clients_own_tables() {
    let (database, pooler) = two_tables("shared");
    database.sql(
        "CREATE ROLE shares_s1; GRANT shares_s1 TO app; CREATE SCHEMA shares_s1; CREATE TABLE shares_s1.ev (at date); \
         GRANT ALL ON shares_s1.ev TO PUBLIC; GRANT ALL ON SCHEMA shares_s1 TO PUBLIC",
    );
    let mut own = direct(&database);
    let prepare = [parse("i", INSERT), sync()].concat();
    type Before<'a> = (&'a str, Vec<Vec<u8>>);
    let cases: [Before<'_>; 6] = [
        ("s1", vec![prepare.clone()]),
        ("s2", vec![query("SET search_path = s1"), prepare.clone()]),
        ("\"$user\",s2", vec![query("SET ROLE shares_s1"), prepare.clone()]),
        ("s2", vec![query("BEGIN; SET LOCAL search_path = s1"), prepare.clone(), query("COMMIT")]),
        ("s2", vec![query("BEGIN; SELECT set_config('search_path', 's1', true)"), prepare.clone(), query("COMMIT")]),
        ("s2", vec![query("BEGIN; CREATE TEMP TABLE ev (at date)"), prepare.clone(), query("ROLLBACK")]),
    ];
    for (path, before) in cases {
        own.query("TRUNCATE s2.ev");
        let mut first = with_path(&pooler, path);
        for bytes in &before {
            let answer = asks(&mut first, bytes);
            assert!(!answer.contains('['), "{path}: {answer}");
        }
        let mut second = with_path(&pooler, if path.contains("user") { path } else { "s2" });
        assert_eq!(inserts(&mut second), "12CZ");
        assert_eq!(rows(&mut own, STORED).concat(), MOMENT, "{path}");
        drop(first);
    }
    // What belongs to a temporary table is nobody else's, whoever prepares first.
    let mut first = with_path(&pooler, "s2");
    asks(&mut first, &query("CREATE TEMP TABLE ev (at date)"));
    asks(&mut first, &prepare);
    asks(&mut first, &query("DROP TABLE pg_temp.ev"));
    own.query("TRUNCATE s2.ev");
    assert_eq!(inserts(&mut with_path(&pooler, "s2")), "12CZ");
    assert_eq!(rows(&mut own, STORED).concat(), MOMENT);
}

#[test]
fn a_statement_that_comes_to_a_server_within_a_transaction_is_not_left_there_for_others() {
    let (database, pooler) = two_tables("shared_later");
    let mut own = direct(&database);
    let (mut first, mut second) = (with_path(&pooler, "s2"), with_path(&pooler, "s2"));
    assert_eq!(inserts(&mut first), "12CZ");
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    asks(&mut console, &query("RECONNECT app"));
    asks(&mut first, &query("BEGIN; SET LOCAL search_path = s1"));
    asks(&mut first, &[bind("", "i", &[b"2026-01-01"]), execute("", 0), sync()].concat());
    asks(&mut first, &query("COMMIT"));
    own.query("TRUNCATE s2.ev");
    assert_eq!(inserts(&mut second), "12CZ");
    assert_eq!(rows(&mut own, STORED).concat(), MOMENT);
}

#[test]
fn who_comes_after_a_change_of_definitions_reads_the_new_ones() {
    let (database, pooler) = two_tables("shared_altered");
    let mut own = direct(&database);
    let (mut first, mut second) = (with_path(&pooler, "s1"), with_path(&pooler, "s1"));
    assert_eq!(inserts(&mut first), "12CZ");
    database.sql("ALTER TABLE s1.ev OWNER TO app; ALTER SCHEMA s1 OWNER TO app");
    assert_eq!(asks(&mut app(&pooler), &query("ALTER TABLE s1.ev ALTER at TYPE timestamp")), "CZ");
    own.query("TRUNCATE s1.ev");
    assert_eq!(inserts(&mut second), "12CZ");
    assert_eq!(rows(&mut own, "SELECT at::text FROM s1.ev").concat(), MOMENT);
}

#[test]
fn clients_that_read_alike_share() {
    let (database, pooler) = two_tables("shared_alike");
    let mut clients = Vec::new();
    for setting in ["SELECT 1", "SET LOCAL work_mem = 4096", "SELECT set_config('app.tenant', '7', true)"] {
        for _ in 0..3 {
            let mut client = with_path(&pooler, "s2");
            asks(&mut client, &query(&format!("BEGIN; {setting}")));
            assert_eq!(inserts(&mut client), "12CZ");
            asks(&mut client, &query("COMMIT"));
            clients.push(client);
        }
    }
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql";
    assert_eq!(rows(&mut with_path(&pooler, "s2"), prepared).concat(), ["1"]);
    drop(database);
}

/// A temporary table that is made behind other requests, in one write, on a server that has had one before.
#[test]
fn what_hides_a_table_behind_other_requests_is_not_overlooked() {
    let (database, pooler) = two_tables("shared_pipelined");
    let (mut first, mut second) = (with_path(&pooler, "s2"), with_path(&pooler, "s2"));
    asks(&mut second, &query("BEGIN; CREATE TEMP TABLE other (n int) ON COMMIT DROP; COMMIT"));
    assert_eq!(inserts(&mut second), "12CZ");
    let hides = "CREATE TEMP TABLE ev (at date) ON COMMIT DROP";
    first.send(&["SELECT 1", "BEGIN", hides].map(query).concat());
    (0..3).for_each(|_| drop(first.until(b'Z')));
    let delete = [parse("d", "DELETE FROM ev"), bind("", "d", &[]), execute("", 0), sync()].concat();
    assert_eq!(inserts(&mut first), "12CZ");
    assert_eq!(asks(&mut first, &delete), "12CZ");
    asks(&mut first, &query("COMMIT"));
    assert_eq!(rows(&mut direct(&database), STORED).concat(), MOMENT);
}
