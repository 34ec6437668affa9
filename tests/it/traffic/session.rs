//! What a client makes its session to be goes with it from server to server, and nobody else ever sees it.

use super::{app, asks, one_server, rows, setting, shown, trusting};
use crate::support::Database;
use crate::support::raw::{Raw, SYNC, V3_0, bind, execute, extended, parse, query, startup, sync};

/// What a session of a client that has done nothing is like.
const FRESH: &str = "SELECT current_setting('work_mem'), nullif(current_setting('app.tenant', true), ''), \
    current_setting('search_path'), current_user, \
    (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors WHERE is_holdable), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_listening_channels()), \
    (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema())";

/// By the extended protocol, with values as text.
fn with_values(sql: &str, values: &[&[u8]]) -> Vec<u8> {
    [parse("", sql), bind("", "", values), execute("", 0), sync()].concat()
}

#[test]
fn settings_go_with_their_client_and_with_nobody_else() {
    let (_database, pooler) = one_server("session_settings");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let default = setting(&mut two, "work_mem");
    for (request, name, value) in [
        (query("SET work_mem = '5MB'"), "work_mem", "5MB"),
        (query("SET SESSION app.tenant = 'it''s'"), "app.tenant", "it's"),
        ([extended("SET work_mem TO 6144"), sync()].concat(), "work_mem", "6MB"),
        (query("SELECT set_config('app.tenant', 'seven', false)"), "app.tenant", "seven"),
        (with_values("SELECT set_config('app.tenant', $1, false)", &[b"acht \xc3\xa4"]), "app.tenant", "acht \u{e4}"),
        (with_values("SELECT set_config($1, $2, $3)", &[b"App.Tenant", b"nine", b"f"]), "app.tenant", "nine"),
        (query("SELECT 1; SET work_mem = '7MB'; SELECT 2"), "work_mem", "7MB"),
        (query("BEGIN; SET work_mem = '8MB'; COMMIT"), "work_mem", "8MB"),
        (query("SET search_path = app, \"A b\", public"), "search_path", "app, \"A b\", public"),
        (query("SELECT set_config('search_path', '', false)"), "search_path", "-"),
        (query("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), "default_transaction_read_only", "on"),
    ] {
        let answer = asks(&mut one, &request);
        for _ in 0..2 {
            assert_eq!(setting(&mut one, name), value, "{answer}");
            assert_ne!(setting(&mut two, name), value, "{name} of another client");
        }
    }
    assert_eq!(setting(&mut two, "work_mem"), default);
    asks(&mut one, &query("RESET ALL"));
    assert_eq!(setting(&mut one, "work_mem"), default);
}

#[test]
fn what_is_undone_or_local_goes_nowhere() {
    let (_database, pooler) = one_server("session_undone");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SET app.tenant = 'kept'"));
    for texts in [
        &["BEGIN", "SET app.tenant = 'x'", "ROLLBACK"][..],
        &["BEGIN", "SET app.tenant = 'x'", "SELECT 1/0", "COMMIT"],
        &["SET app.tenant = 'x'; SELECT 1/0"],
        &["BEGIN", "SAVEPOINT s", "SET app.tenant = 'x'", "ROLLBACK TO s", "COMMIT"],
        &["BEGIN; SAVEPOINT s; SET app.tenant = 'x'; ROLLBACK TO s; COMMIT"],
        &["BEGIN", "SET LOCAL app.tenant = 'x'", "COMMIT"],
        &["SELECT set_config('app.tenant', 'x', true)"],
        &["SELECT set_config('app.tenant', 'x', false) WHERE false"],
    ] {
        for text in texts {
            asks(&mut one, &query(text));
        }
        assert_eq!(setting(&mut two, "app.tenant"), "-", "{texts:?}");
        assert_eq!(setting(&mut one, "app.tenant"), "kept", "{texts:?}");
    }
    for texts in [
        &["BEGIN; SET app.tenant = 'a'; COMMIT; SET app.tenant = 'b'; SELECT 1/0"][..],
        &["BEGIN", "SAVEPOINT s", "SET app.tenant = 'a'", "RELEASE s", "COMMIT"],
        &["BEGIN", "SET app.tenant = 'a'", "SAVEPOINT s", "SET app.tenant = 'b'", "SELECT 1/0", "ROLLBACK TO s", "END"],
    ] {
        asks(&mut one, &query("SET app.tenant = 'before'"));
        for text in texts {
            asks(&mut one, &query(text));
        }
        assert_eq!([setting(&mut one, "app.tenant"), setting(&mut two, "app.tenant")], ["a", "-"], "{texts:?}");
    }
}

#[test]
fn what_a_client_asks_for_at_login_is_what_a_reset_returns_to() {
    let (_database, pooler) = one_server("session_startup");
    let mut one = Raw::tcp(pooler.port());
    let options = "-c work_mem=9MB -c app.tenant=login";
    let wishes = [("user", "app"), ("database", "app"), ("options", options), ("application_name", "mine")];
    one.send(&startup(V3_0, &wishes));
    one.until(b'Z');
    let mut two = app(&pooler);
    let seen = |client: &mut Raw| ["work_mem", "app.tenant", "application_name"].map(|name| setting(client, name));
    for reset in ["RESET ALL", "DISCARD ALL", "RESET work_mem; RESET app.tenant; RESET application_name", "SELECT 1"] {
        assert_eq!(seen(&mut one), ["9MB", "login", "mine"], "before {reset}");
        assert_ne!(seen(&mut two)[0], "9MB");
        if reset != "SELECT 1" {
            asks(&mut one, &query("SET work_mem = '5MB'; SET app.tenant = 'x'; SET application_name = 'y'"));
        }
        asks(&mut one, &query(reset));
    }
    asks(&mut one, &query("BEGIN"));
    asks(&mut one, &query("RESET work_mem"));
    assert_eq!(setting(&mut one, "work_mem"), "9MB", "within a transaction");
    asks(&mut one, &query("ROLLBACK"));
    assert_eq!([setting(&mut two, "app.tenant"), setting(&mut one, "app.tenant")], ["-", "login"]);
}

#[test]
fn roles_go_with_their_client() {
    let (database, pooler) = one_server("session_roles");
    database.sql("DROP ROLE IF EXISTS session_guest; CREATE ROLE session_guest; GRANT session_guest TO app");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SET ROLE session_guest"));
    asks(&mut one, &query("SET work_mem = '5MB'"));
    for _ in 0..2 {
        assert_eq!(rows(&mut one, "SELECT current_user").concat(), ["session_guest"]);
        assert_eq!(rows(&mut two, "SELECT current_user").concat(), ["app"]);
    }
    asks(&mut one, &query("RESET ALL"));
    asks(&mut two, &query("SELECT 1"));
    assert_eq!(rows(&mut one, "SELECT current_user").concat(), ["session_guest"]);
    asks(&mut one, &query("RESET ROLE"));
    asks(&mut two, &query("SELECT 1"));
    assert_eq!(rows(&mut one, "SELECT current_user").concat(), ["app"]);
    drop(pooler);
    database.sql("DROP ROLE session_guest");
}

/// Each leaves something that no other server has; what ends it.
const TIES: [(&str, &str); 12] = [
    ("CREATE TEMP TABLE t AS SELECT 1 AS n", "DISCARD TEMP"),
    ("SELECT 1 AS n INTO TEMP t", "DISCARD ALL"),
    ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE c"),
    ("PREPARE p AS SELECT 1", "DEALLOCATE p"),
    ("LISTEN c", "UNLISTEN c"),
    ("LISTEN c; LISTEN d", "UNLISTEN *"),
    ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock_all()"),
    ("PREPARE p AS SELECT 1", "DEALLOCATE ALL"),
    ("CREATE TEMP TABLE t (n int)", "DROP TABLE t"),
    ("CREATE TEMP SEQUENCE s; CREATE TEMP VIEW v AS SELECT 1", "DROP SEQUENCE s; DROP VIEW v"),
    (
        "SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)",
        "SELECT pg_advisory_unlock(7), pg_advisory_unlock_shared(8)",
    ),
    (
        "BEGIN; CREATE TEMP TABLE t (n int); SELECT pg_advisory_lock(7); COMMIT",
        "DROP TABLE t; SELECT pg_advisory_unlock(7)",
    ),
];

#[test]
fn what_is_only_partly_gone_ties_on() {
    let database = Database::create("session_partly");
    let pooler = trusting(&database, 2).set("server_round_robin", "true").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(
        &mut one,
        &query("BEGIN; CREATE TEMP TABLE t (n int); CREATE TEMP TABLE u (n int); SELECT pg_advisory_lock(7)"),
    );
    asks(&mut two, &query("SELECT 1"));
    asks(&mut one, &query("COMMIT"));
    for text in ["DROP TABLE t", "SELECT pg_advisory_unlock(7)", "DROP TABLE IF EXISTS nothing"] {
        asks(&mut one, &query(text));
        assert_eq!(rows(&mut one, "SELECT count(*) FROM u").concat(), ["0"], "{text}");
    }
    // With the next message right behind it.
    let bytes = [query("DROP TABLE u"), query("SELECT 1"), query("SELECT 2")].concat();
    one.send(&bytes);
    assert_eq!([(); 3].map(|()| shown(&one.until(b'Z'))), ["CZ", "TDCZ", "TDCZ"]);
}

#[test]
fn what_only_one_server_has_ties_its_client_to_it_until_it_is_gone() {
    let database = Database::create("session_ties");
    let pooler = trusting(&database, 2).set("server_round_robin", "true").set("listen", "\"pin\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    // Answered without a server, and not before the one that it had is back.
    let rests = |client: &mut Raw| assert_eq!(asks(client, SYNC), "Z");
    one.query("BEGIN");
    two.query("SELECT 1");
    rests(&mut two);
    one.query("COMMIT");
    let pid = |client: &mut Raw| rows(client, "SELECT pg_backend_pid()").concat().concat();
    for (ties, ends) in TIES {
        let first = pid(&mut one);
        assert_ne!(pid(&mut one), first, "servers take turns");
        asks(&mut one, &query(ties));
        let mine = pid(&mut one);
        for _ in 0..3 {
            assert_eq!(pid(&mut one), mine, "{ties}");
            assert_ne!(pid(&mut two), mine, "{ties}");
        }
        rests(&mut two);
        asks(&mut one, &query(ends));
        let after = [pid(&mut one), pid(&mut one)];
        assert_ne!(after[0], after[1], "{ends}");
    }
}

#[test]
fn the_server_of_a_tied_client_that_leaves_is_as_good_as_new() {
    let database = Database::create("session_left");
    let pooler = trusting(&database, 1).set("listen", "\"pin\"").start();
    let fresh = rows(&mut app(&pooler), FRESH);
    for (ties, _) in TIES {
        let mut client = app(&pooler);
        asks(&mut client, &query(ties));
        asks(&mut client, &query("SET app.tenant = 'x'"));
        client.cut();
        assert_eq!(rows(&mut app(&pooler), FRESH), fresh, "{ties}");
    }
    drop(database);
}

#[test]
fn code_that_may_have_done_anything_leaves_nothing_behind() {
    let (database, pooler) = one_server("session_code");
    let fresh = rows(&mut app(&pooler), FRESH);
    let setup = "CREATE PROCEDURE meddles() LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SET app.tenant = 1'; \
        EXECUTE 'CREATE TEMP TABLE t (n int)'; EXECUTE 'PREPARE p AS SELECT 1'; EXECUTE 'LISTEN c'; \
        EXECUTE 'SELECT pg_advisory_lock(3)'; END$$";
    database.sql(setup);
    let mut other = app(&pooler);
    for text in [
        "CALL meddles()",
        "DO $$BEGIN CALL meddles(); END$$",
        "DO $$BEGIN EXECUTE 'SET work_mem = ''3MB'''; END$$",
        "SELECT set_config('app.' || 'tenant', n::text, false) FROM generate_series(1, 2) n",
    ] {
        let mut client = app(&pooler);
        let answer = asks(&mut client, &query(text));
        assert!(!answer.contains('['), "{answer}");
        assert_eq!(rows(&mut other, FRESH), fresh, "{text}");
        assert_eq!(rows(&mut client, FRESH), fresh, "{text}");
    }
}

#[test]
fn as_in_pgbouncer_state_stays_behind() {
    let database = Database::create("session_pgbouncer");
    let pooler = trusting(&database, 1).set("session_state", "\"pgbouncer\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SET app.tenant = 'x'"));
    asks(&mut one, &query("CREATE TEMP TABLE t (n int)"));
    assert_eq!(setting(&mut two, "app.tenant"), "x");
    assert_eq!(rows(&mut two, "SELECT count(*) FROM t").concat(), ["0"]);
}

#[test]
fn what_was_missed_once() {
    let (database, pooler) = one_server("session_missed");
    database.sql("CREATE TABLE written (n int); GRANT ALL ON written TO app");
    let limited = |sql: &str| [parse("", sql), bind("", "", &[]), execute("", 1), sync()].concat();
    let plain = |sql: &str| [extended(sql), sync()].concat();
    // Read-only is whoever has said so, and nobody else.
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SET default_transaction_read_only = on"));
    let added = asks(&mut two, &query("INSERT INTO written VALUES (1)"));
    assert!(added.ends_with("CZ"), "{added}");
    let refused = "[25006 cannot execute INSERT in a read-only transaction]Z";
    let answer = asks(&mut one, &query("INSERT INTO written VALUES (1)"));
    assert!(answer.ends_with(refused), "{answer}");
    asks(&mut two, &query("SELECT 1"));
    assert!(asks(&mut one, &plain("INSERT INTO written VALUES (1)")).contains(refused));
    // What only gives some of its rows has run.
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &limited("SELECT set_config('app.tenant', 'seven', false)"));
    assert_eq!([setting(&mut two, "app.tenant"), setting(&mut one, "app.tenant")], ["-", "seven"]);
    // An error before a Sync is nothing to what comes behind.
    let batches = [plain("SELECT 1/0"), plain("SET app.tenant = 'eight'")].concat();
    one.send(&batches);
    (0..2).for_each(|_| drop(one.until(b'Z')));
    assert_eq!([setting(&mut two, "app.tenant"), setting(&mut one, "app.tenant")], ["-", "eight"]);
    // A portal of the same name, in the next transaction of a batch.
    let bound = |sql: &str| [parse("", sql), bind("c", "", &[]), execute("c", 0)].concat();
    let batch = [bound("SET app.tenant = 'nine'"), extended("COMMIT"), bound("SET app.tenant = 'ten'"), sync()];
    asks(&mut one, &batch.concat());
    assert_eq!([setting(&mut two, "app.tenant"), setting(&mut one, "app.tenant")], ["-", "ten"]);
    // Ways around the words.
    let fresh = rows(&mut two, FRESH);
    for bytes in [
        query("UPDATE pg_settings SET setting = '9MB' WHERE name = 'work_mem'"),
        query("DO $$BEGIN UPDATE pg_settings SET setting = '9MB' WHERE name = 'work_mem'; END$$"),
        plain("SET search_path = pg_temp; CREATE TABLE zz (n int)"),
        [query("SET search_path = pg_temp"), query("CREATE TABLE zz (n int)")].concat(),
        [extended("SET work_mem = '9MB'"), extended("DO $$BEGIN COMMIT; END$$"), extended("SELECT 1/0"), sync()]
            .concat(),
        crate::support::raw::message(b'F', b"\0\0\x0b\x40\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x07\0\x01"),
    ] {
        let mut client = app(&pooler);
        client.send(&bytes);
        client.until(b'Z');
        if bytes.ends_with(b"CREATE TABLE zz (n int)\0") && bytes.starts_with(b"Q") {
            client.until(b'Z');
        }
        client.cut();
        assert_eq!(rows(&mut two, FRESH), fresh, "{}", String::from_utf8_lossy(&bytes));
    }
}
