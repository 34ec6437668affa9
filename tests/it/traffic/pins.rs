//! What ties a client to its server where that is refused or not kept, by scope.

use std::time::Duration;

use super::{app, asks, rows, trusting};
use crate::support::raw::{extended, parse, query, sync};
use crate::support::{Database, PoolerConfig, wait_until};

/// What would tie a client to its server, and what the refusal calls it.
const TIES: [(&str, &str); 7] = [
    ("CREATE TEMP TABLE t (n int)", "temporary tables"),
    ("SELECT 1 AS n INTO TEMP t", "temporary tables"),
    ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "cursors WITH HOLD"),
    ("PREPARE p AS SELECT 1", "PREPARE in SQL"),
    ("SELECT pg_advisory_lock(7)", "advisory locks of the session"),
    ("LOAD 'plpgsql'", "LOAD"),
    ("SELECT setseed(0.5)", "setseed()"),
];

fn refuses(database: &Database) -> PoolerConfig {
    trusting(database, 1).set("pin", "\"error\"")
}

#[test]
fn a_statement_that_would_tie_its_client_is_refused_before_it_runs() {
    let database = Database::create("pins_refused");
    let pooler = refuses(&database).start();
    let mut client = app(&pooler);
    for (text, what) in TIES {
        let refusal = format!("[0A000 this pooler does not support {what}]");
        let answer = asks(&mut client, &query(text));
        assert!(answer.starts_with(&refusal) && answer.len() < refusal.len() + 4, "{text}: {answer}");
        if !text.contains(';') {
            let answer = asks(&mut client, &[extended(text), sync()].concat());
            assert!(answer.contains(&refusal), "{text}: {answer}");
        }
        asks(&mut client, &query("BEGIN"));
        assert!(asks(&mut client, &query(text)).contains(&refusal), "{text}");
        assert!(asks(&mut client, &query("SELECT 1")).contains("25P02"), "its transaction has failed");
        asks(&mut client, &query("ROLLBACK"));
    }
    assert_eq!(asks(&mut client, &query("BEGIN; CREATE TEMP TABLE t (n int) ON COMMIT DROP; COMMIT")), "CCCZ");
    assert_eq!(rows(&mut client, "SELECT pg_advisory_xact_lock(7)").len(), 1, "these end by themselves");
    assert_eq!(asks(&mut client, &query("LISTEN news")), "CZ", "it ties nobody");
    let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(rows(&mut app(&pooler), left).concat(), ["0"]);
}

#[test]
fn the_user_counts_before_the_database_and_that_before_the_rest() {
    let database = Database::create("pins_scopes");
    let scoped = |database_pin: &str, user_pin: &str| {
        let entry = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
        let config = PoolerConfig::new().section("databases.app", &format!("{entry}{database_pin}"));
        let config = config.section("users.app", user_pin).set("auth_type", "\"trust\"");
        config.set("default_pool_size", "1").set("pin", "\"error\"").start()
    };
    let table = query("CREATE TEMP TABLE t (n int)");
    for (of_database, of_user, refused, kept) in [
        ("", "", true, false),
        ("pin = \"auto\"", "", false, true),
        ("pin = \"auto\"", "pin = \"off\"", false, false),
        ("pin = \"off\"", "pin = \"error\"", true, false),
    ] {
        let pooler = scoped(of_database, of_user);
        let mut client = app(&pooler);
        assert_eq!(asks(&mut client, &table).contains("0A000"), refused, "{of_database} {of_user}");
        assert_eq!(!asks(&mut client, &query("SELECT FROM t")).contains("42P01"), kept, "{of_database} {of_user}");
    }
}

#[test]
fn so_many_servers_are_kept_and_no_more() {
    let database = Database::create("pins_limited");
    let pooler = trusting(&database, 3).set("max_pinned_servers", "1").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let refusal = "[53400 too many servers of this pool are kept by clients]";
    let (table, lock) = (query("CREATE TEMP TABLE t (n int)"), query("SELECT pg_advisory_lock(7)"));
    assert_eq!(asks(&mut one, &table), "CZ");
    assert!(asks(&mut two, &lock).starts_with(refusal));
    assert!(asks(&mut two, &[extended("PREPARE p AS SELECT 1"), sync()].concat()).contains(refusal));
    assert_eq!(rows(&mut two, "SELECT 1").concat(), ["1"], "all else runs");
    assert!(!asks(&mut one, &lock).contains('['), "who keeps one may keep more there");
    assert_eq!(asks(&mut two, &[parse("n", "SELECT 1"), sync()].concat()), "1Z");
    assert!(asks(&mut two, &query("EXECUTE n")).starts_with(refusal), "one of the protocol keeps it, too");
    assert!(asks(&mut two, &[extended("EXECUTE n"), sync()].concat()).contains(refusal));
    let mut three = app(&pooler);
    assert_eq!(rows(&mut three, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'n'").concat(), ["0"]);
    asks(&mut one, &query("DISCARD ALL"));
    assert_eq!(asks(&mut two, &query("BEGIN")), "CZ");
    assert_eq!(asks(&mut two, &table), "CZ");
    assert!(asks(&mut one, &table).starts_with(refusal), "it counts from the statement on");
    assert_eq!(asks(&mut two, &query("ROLLBACK")), "CZ");
    assert_eq!(asks(&mut one, &table), "CZ", "it was undone");
    one.cut();
    let mut after = app(&pooler);
    wait_until("the server to be free", Duration::from_secs(30), || asks(&mut after, &table) == "CZ");
}
