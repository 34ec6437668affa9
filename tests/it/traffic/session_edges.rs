//! What a client's session is behind statements that end otherwise than they begin: rolled back, run a second time, run
//! by others, or not at all.

use super::{app, one_server, rows, setting, shown, trusting};
use crate::support::Database;
use crate::support::raw::{Raw, V3_0, bind, execute, extended, parse, query, startup, sync};

/// Sends this, and waits for so many ReadyForQuery.
fn asks(client: &mut Raw, bytes: &[u8], ready: usize) -> String {
    client.send(bytes);
    (0..ready).map(|_| shown(&client.until(b'Z'))).collect()
}

/// A setting as its client has it and as another has it, on the same server.
fn seen(client: &mut Raw, other: &mut Raw, name: &str) -> [String; 2] {
    asks(other, &query("SELECT 1"), 1);
    [setting(client, name), setting(other, name)]
}

/// Of a batch without Sync.
fn unsynced(portal: &str, sql: &str, limit: u32) -> Vec<u8> {
    [parse("", sql), bind(portal, "", &[]), execute(portal, limit)].concat()
}

#[test]
fn a_reported_setting_is_what_was_said_last_whatever_was_reset_before() {
    let (_database, pooler) = one_server("edges_reset");
    let mut other = app(&pooler);
    let default = setting(&mut other, "TimeZone");
    for (bytes, ready, zone) in [
        (query("RESET TimeZone; SET TimeZone = 'Europe/Berlin'"), 1, "Europe/Berlin"),
        (query("RESET ALL; SET TimeZone = 'Europe/Berlin'"), 1, "Europe/Berlin"),
        ([query("RESET TimeZone"), query("SET TimeZone = 'Europe/Berlin'")].concat(), 2, "Europe/Berlin"),
        ([query("DISCARD ALL"), query("SET TimeZone = 'Europe/Berlin'")].concat(), 2, "Europe/Berlin"),
        ([query("RESET TimeZone"), query(&format!("SET TimeZone = '{default}'"))].concat(), 2, &default),
        (query("BEGIN; RESET TimeZone; ROLLBACK"), 1, "Africa/Cairo"),
        ([query("BEGIN"), query("RESET TimeZone"), query("ROLLBACK")].concat(), 3, "Africa/Cairo"),
        (query("BEGIN; SAVEPOINT s; RESET TimeZone; ROLLBACK TO s; COMMIT"), 1, "Africa/Cairo"),
        (query("RESET TimeZone; SELECT 1/0"), 1, "Africa/Cairo"),
        ([extended("RESET TimeZone"), extended("SELECT 1/0"), sync()].concat(), 1, "Africa/Cairo"),
        ([query("RESET TimeZone"), query("SELECT 1/0")].concat(), 2, "Asia/Tokyo"),
        (query("RESET TimeZone"), 1, "Asia/Tokyo"),
        (query("RESET TimeZone; SELECT 1"), 1, "Asia/Tokyo"),
    ] {
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", "app"), ("database", "app"), ("TimeZone", "Asia/Tokyo")]));
        client.until(b'Z');
        asks(&mut client, &query("SET TimeZone = 'Africa/Cairo'"), 1);
        let answer = asks(&mut client, &bytes, ready);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for _ in 0..2 {
            assert_eq!(seen(&mut client, &mut other, "TimeZone"), [zone, &default], "{text}: {answer}");
        }
    }
}

#[test]
fn what_is_behind_discard_all_does_not_undo_it() {
    let (_database, pooler) = one_server("edges_discard");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SET app.tenant = 'x'"), 1);
    asks(&mut one, &[extended("DISCARD ALL"), extended("SELECT 1/0"), sync()].concat(), 1);
    assert_eq!(seen(&mut one, &mut two, "app.tenant"), ["-", "-"]);
}

#[test]
fn a_portal_that_goes_on_does_nothing_a_second_time() {
    let (_database, pooler) = one_server("edges_portals");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let sets = "SELECT set_config('app.tenant', 'x', false)";
    for limit in [1, 0] {
        asks(&mut one, &query("BEGIN"), 1);
        let batch = [unsynced("p", sets, limit), extended("SET app.tenant = 'y'"), execute("p", 0), sync()].concat();
        asks(&mut one, &batch, 1);
        asks(&mut one, &query("COMMIT"), 1);
        assert_eq!(seen(&mut one, &mut two, "app.tenant"), ["y", "-"], "{limit}");
    }
}

#[test]
fn what_another_statement_runs_is_not_left_behind() {
    let (_database, pooler) = one_server("edges_fetch");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let sets = "SELECT set_config('app.tenant', 'x', false)";
    asks(&mut one, &query("BEGIN"), 1);
    asks(&mut one, &[parse("", sets), bind("p", "", &[]), sync()].concat(), 1);
    asks(&mut one, &query("FETCH p"), 1);
    asks(&mut one, &query("COMMIT"), 1);
    assert_eq!(setting(&mut two, "app.tenant"), "-");
    // A Bind that fails leaves the portal as it was.
    asks(&mut one, &query("BEGIN"), 1);
    asks(&mut one, &[parse("", "SET app.tenant = 'x'"), bind("p", "", &[]), sync()].concat(), 1);
    asks(&mut one, &query("SAVEPOINT s"), 1);
    let answer = asks(&mut one, &[parse("", "SELECT 1"), bind("p", "", &[]), sync()].concat(), 1);
    assert!(answer.contains("42P03"), "{answer}");
    asks(&mut one, &query("ROLLBACK TO s"), 1);
    asks(&mut one, &[execute("p", 0), sync()].concat(), 1);
    asks(&mut one, &query("COMMIT"), 1);
    assert_eq!(setting(&mut two, "app.tenant"), "-");
}

const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";

#[test]
fn an_unlock_that_does_not_run_leaves_its_client_tied() {
    let database = Database::create("edges_unlock");
    let pooler = trusting(&database, 2).start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SELECT pg_advisory_lock(3)"), 1);
    asks(&mut one, &query("SELECT pg_advisory_unlock_all() WHERE false"), 1);
    assert_eq!(rows(&mut one, LOCKS).concat(), ["1"]);
    for _ in 0..3 {
        assert_eq!(rows(&mut two, LOCKS).concat(), ["0"]);
    }
    asks(&mut one, &query("SELECT pg_advisory_unlock_all()"), 1);
    assert_eq!(rows(&mut one, LOCKS).concat(), ["0"]);
}

#[test]
fn a_question_that_fails_undoes_nothing() {
    let database = Database::create("edges_question");
    let pooler = trusting(&database, 2).start();
    let mut busy = super::direct(&database);
    // The server takes more than a moment to look through these.
    asks(&mut busy, &query("SELECT pg_advisory_lock(1000 + n) FROM generate_series(1, 4000) n"), 1);
    let mut client = app(&pooler);
    asks(&mut client, &query("SELECT pg_advisory_lock(1), pg_advisory_lock(2)"), 1);
    asks(&mut client, &query("SET statement_timeout = '1ms'"), 1);
    asks(&mut client, &query("SELECT pg_advisory_unlock(1)"), 1);
    asks(&mut client, &query("SET statement_timeout = 0"), 1);
    asks(&mut client, &query("SET app.tenant = 'x'"), 1);
    busy.cut();
    asks(&mut client, &query("SELECT pg_advisory_unlock_all()"), 1);
    let mut other = app(&pooler);
    for _ in 0..3 {
        assert_eq!(setting(&mut client, "statement_timeout"), "0");
        assert_eq!(seen(&mut client, &mut other, "app.tenant"), ["x", "-"]);
    }
}

#[test]
fn what_only_a_role_may_set_harms_nobody_else() {
    let (database, pooler) = one_server("edges_roles");
    database.sql("DROP ROLE IF EXISTS edges_boss; CREATE ROLE edges_boss SUPERUSER; GRANT edges_boss TO app");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let name = "log_min_duration_statement";
    asks(&mut one, &query("SET ROLE edges_boss"), 1);
    asks(&mut one, &query(&format!("SET {name} = 100000")), 1);
    for _ in 0..2 {
        assert_eq!(seen(&mut one, &mut two, name), ["100s", "-1"]);
    }
    drop(pooler);
    database.sql("DROP ROLE edges_boss");
}

#[test]
fn what_is_refused_takes_nothing_from_what_was_sent_behind_it() {
    let (_database, pooler) = one_server("edges_behind");
    let tenant = "SET app.tenant = 'one'";
    let refused = [bind("", "nobody's", &[]), execute("", 0), sync()].concat();
    let misread = [parse("", "SELECT nothing"), sync()].concat();
    let parts = [parse("", tenant), bind("", "", &[]), [execute("", 0), sync()].concat()];
    for fails in [&refused, &misread] {
        for cut in 1..3 {
            let (mut one, mut two) = (app(&pooler), app(&pooler));
            one.send(&[fails.clone(), parts[..cut].concat()].concat());
            one.until(b'Z');
            one.send(&parts[cut..].concat());
            one.until(b'Z');
            assert_eq!(seen(&mut one, &mut two, "app.tenant"), ["one", "-"], "{fails:?} {cut}");
        }
    }
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    one.send(&[&refused[..], &parse("", "SELECT pg_advisory_lock(7)"), &bind("", "", &[])].concat());
    one.until(b'Z');
    one.send(&parts[2]);
    one.until(b'Z');
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(rows(&mut one, locks).concat(), ["1"]);
    one.cut();
    assert_eq!(rows(&mut two, locks).concat(), ["0"]);
}

#[test]
fn so_much_is_remembered_of_a_clients_settings_and_no_more() {
    let (_database, pooler) = one_server("edges_memory");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let long = |name: &str, byte: &str| query(&format!("SET app.{name} = '{}'", byte.repeat(200_000)));
    let full = "[54000 too many settings, or too long ones, for this pooler to remember]";
    for name in ["a", "b", "c", "d", "e", "a", "b"] {
        assert_eq!(asks(&mut one, &long(name, "x"), 1), "CZ", "{name}");
    }
    let parameter = [parse("", "SELECT set_config('app.f', $1, false)"), bind("", "", &[&[b'x'; 200_000]])].concat();
    for bytes in [long("f", "x"), [parameter, execute("", 0), sync()].concat()] {
        let answer = asks(&mut one, &bytes, 1);
        assert!(answer.contains(full), "{answer}");
    }
    assert_eq!(asks(&mut one, &query("SET LOCAL app.f = 'x'; RESET app.e"), 1), "CCZ");
    assert_eq!(asks(&mut one, &long("f", "x"), 1), "CZ");
    // So does what was sent before and is not answered yet.
    let mut three = app(&pooler);
    let piped: Vec<_> = (0..20).map(|at| extended(&format!("SET app.p{at} = '{}'", "x".repeat(200_000)))).collect();
    let answer = asks(&mut three, &[piped.concat(), sync()].concat(), 1);
    assert!(answer.contains(full) && answer.matches('C').count() == 5, "{answer}");
    assert_eq!(seen(&mut three, &mut two, "app.p0"), ["-", "-"]);
    // What a savepoint would put back counts, too: once for each.
    asks(&mut two, &query("BEGIN"), 1);
    for round in 0..200 {
        let answer = asks(&mut two, &long("a", &(round % 10).to_string()), 1);
        assert_eq!(answer, "CZ", "{round}");
        if round == 2 {
            asks(&mut two, &query("SAVEPOINT s"), 1);
        }
    }
    let mut savepoint = |byte: &str| {
        asks(&mut two, &query("SAVEPOINT s"), 1);
        asks(&mut two, &long("a", byte), 1)
    };
    assert!(["p", "q", "r", "s", "t", "u"].iter().any(|byte| savepoint(byte).contains(full)));
    assert_eq!(asks(&mut two, &query("ROLLBACK TO s"), 1), "CZ");
    asks(&mut two, &query("ROLLBACK"), 1);
    assert_eq!(seen(&mut two, &mut one, "app.a")[0], "-");
}

#[test]
fn numbers_are_what_the_server_makes_of_them() {
    let (_database, pooler) = one_server("edges_numbers");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    for (number, value) in
        [("007", "7"), ("-007", "-7"), ("0", "0"), ("00.5", "00.5"), ("0099999999999", "0099999999999")]
    {
        asks(&mut one, &query(&format!("SET app.tenant = {number}")), 1);
        assert_eq!(setting(&mut one, "app.tenant"), value);
        assert_eq!(seen(&mut one, &mut two, "app.tenant"), [value, "-"]);
    }
}
