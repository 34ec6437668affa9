//! What the code of functions, procedures, triggers and DO leaves in a session counts as if the client had said it.

use super::session_functions::{database, left, pooler, resets, sends};
use super::{app, rows, trusting};
use crate::support::raw::{Raw, V3_0, bind, execute, extended, parse, query, startup, sync};

const CODE: &str = "
    CREATE FUNCTION tenant(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
        RETURN set_config('app.tenant', $1, false); END$$;
    CREATE FUNCTION memory() RETURNS void LANGUAGE plpgsql AS $$BEGIN SET work_mem = '9MB'; END$$;
    CREATE FUNCTION zone() RETURNS void LANGUAGE plpgsql AS $$BEGIN SET timezone = 'Asia/Tokyo'; END$$;
    CREATE FUNCTION forgets() RETURNS void LANGUAGE plpgsql AS $$BEGIN RESET app.tenant; RESET work_mem; END$$;
    CREATE FUNCTION hides() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN
        PERFORM set_config('dynamic_library_path', '/nowhere', false), set_config('app.tenant', 'h', false); END$$;
    CREATE FUNCTION long() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        PERFORM set_config('app.tenant', repeat('x', 300000), false); END$$;
    CREATE FUNCTION locks(int) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock($1); END$$;
    CREATE FUNCTION unlocks(int) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_unlock($1); END$$;
    CREATE FUNCTION holds_for_a_moment() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        PERFORM locks(1); PERFORM unlocks(1); END$$;
    CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM locks(2), tenant('f'); RAISE 'no'; END$$;
    CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE made (n int); END$$;
    CREATE FUNCTION makes_for_a_moment() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        CREATE TEMP TABLE moment (n int) ON COMMIT DROP; END$$;
    CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS $$BEGIN DROP TABLE made; END$$;
    CREATE TABLE audited (n int);
    CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM tenant('t'); RETURN new; END$$;
    CREATE TRIGGER audits BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audits();
    CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS $$BEGIN PERFORM tenant('p'); END$$;";

const SEEN: &str = "SELECT nullif(current_setting('app.tenant', true), ''), current_setting('work_mem'), \
    current_setting('timezone')";

fn seen(client: &mut Raw) -> String {
    rows(client, SEEN).concat().join(" ")
}

fn all(client: &mut Raw, texts: &[&str]) {
    for text in texts {
        client.send(&query(text));
        client.until(b'Z');
    }
}

#[test]
fn what_code_sets_by_name_goes_with_its_client() {
    let database = database("by_code_settings", CODE);
    let (pooler, port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let untouched = seen(&mut one);
    let zone = untouched.split(' ').next_back().expect("a time zone").to_owned();
    for (texts, then) in [
        (&["SELECT tenant('1')"][..], "1 4MB"),
        (&["SELECT tenant(n::text) FROM generate_series(1, 3) n"], "3 4MB"),
        (&["SELECT set_config('app.tenant', max(n)::text, false) FROM generate_series(1, 4) n"], "4 4MB"),
        (&["DO $$BEGIN PERFORM tenant('d'); SET work_mem = '8MB'; END$$"], "d 8MB"),
        (&["INSERT INTO audited VALUES (1)"], "t 4MB"),
        (&["CALL proceeds()"], "p 4MB"),
        (&["SELECT memory(), tenant('m')", "SELECT forgets()"], "- 4MB"),
        (&["SET app.tenant = 's'", "SELECT memory()"], "s 9MB"),
        (&["SELECT tenant('1'), memory()", "RESET ALL"], "- 4MB"),
        (&["SELECT tenant('1')", "SELECT tenant('')"], "- 4MB"),
        (&["BEGIN", "SELECT tenant('1')", "ROLLBACK"], "- 4MB"),
        (&["BEGIN", "SELECT tenant('1')", "SAVEPOINT s", "SELECT tenant('2')", "ROLLBACK TO s", "COMMIT"], "1 4MB"),
        (&["BEGIN", "SELECT tenant('1')", "SELECT 1/0", "COMMIT"], "- 4MB"),
        (&["SELECT tenant('1'); SELECT tenant('2'); SELECT 1/0"], "- 4MB"),
        (&["SELECT tenant('1'); COMMIT; SELECT tenant('2'); SELECT 1/0"], "1 4MB"),
    ] {
        all(&mut one, texts);
        for _ in 0..2 {
            assert_eq!(seen(&mut two), untouched, "{texts:?}");
            assert_eq!(seen(&mut one), format!("{then} {zone}"), "{texts:?}");
        }
        all(&mut one, &["RESET ALL"]);
    }
    all(&mut one, &["SELECT zone()"]);
    assert_eq!([seen(&mut two), seen(&mut one)], [untouched.clone(), "- 4MB Asia/Tokyo".into()]);
    sends(&mut one, &[parse("s", "SELECT tenant($1)"), sync()].concat());
    sends(&mut one, &[bind("", "s", &[b"b"]), execute("", 0), sync()].concat());
    assert_eq!([seen(&mut two), seen(&mut one)], [untouched, "b 4MB Asia/Tokyo".into()]);
    assert_eq!(resets(&port), 0, "it has cost no reset");
}

#[test]
fn who_leaves_before_the_server_has_told_leaves_nothing() {
    let database = database("by_code_leaves", CODE);
    let pooler = trusting(&database, 1).start();
    for text in ["SELECT tenant('1')", "SELECT locks(3)", "SELECT makes()", "SELECT fails()", "SELECT hides()"] {
        for bytes in [query(text), [extended(text), sync()].concat()] {
            let mut client = app(&pooler);
            client.send(&bytes);
            client.until(b'Z');
            client.cut();
            assert_eq!(left(&mut app(&pooler)), "- 0 0 0", "{text}");
        }
    }
}

#[test]
fn what_the_server_does_not_tell_is_undone() {
    let database = database("by_code_hidden", CODE);
    let pooler = trusting(&database, 1).start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    // What can't be seen or is too long does not go along; what was set beside it does.
    for text in ["SELECT hides()", "SELECT long()"] {
        sends(&mut one, &query("SET app.other = 'mine'"));
        sends(&mut one, &query(text));
        let other = "SELECT nullif(current_setting('app.other', true), ''), current_setting('app.tenant', true)";
        assert_eq!(rows(&mut two, other), [["-", ""]], "{text}");
        assert_eq!(rows(&mut one, other), [["mine", "h"]], "{text}");
    }
    let role = format!("ALTER ROLE app IN DATABASE {}", database.name);
    database.sql(&format!("{role} SET dynamic_library_path = '$libdir:/somewhere'"));
    drop(pooler);
    let pooler = trusting(&database, 1).start();
    sends(&mut app(&pooler), &query("SELECT hides()"));
    let path = "SELECT setting FROM pg_settings WHERE name = 'app.tenant'";
    assert_eq!(rows(&mut app(&pooler), path).concat(), [""; 0]);
    database.sql(&format!("{role} RESET dynamic_library_path"));
}

#[test]
fn locks_and_temporary_tables_of_code_keep_the_server_while_they_are_there() {
    let database = database("by_code_ties", CODE);
    let pooler = trusting(&database, 2).start();
    let pins = |client: &mut Raw| {
        // It is asked behind the answer; the client's next request waits for that.
        rows(client, "SELECT 1");
        let mut admin = Raw::trusted(pooler.port(), "admin", "pgbouncer");
        let clients = admin.query("SHOW CLIENTS");
        ["temporary_object", "advisory_lock"].map(|pin| clients.iter().any(|value| value.contains(pin)))
    };
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    for (text, then) in [
        ("SELECT holds_for_a_moment()", [false, false]),
        ("SELECT makes_for_a_moment()", [false, false]),
        ("SELECT locks(3)", [false, true]),
        ("SELECT makes()", [true, true]),
        ("SELECT unlocks(3)", [true, false]),
        ("SELECT fails()", [true, true]),
        ("SELECT drops()", [false, true]),
        ("DO $$BEGIN PERFORM pg_advisory_unlock_all(); END$$", [false, false]),
        ("DO $$BEGIN CREATE TEMP TABLE made (n int); END$$", [true, false]),
        ("DO $$BEGIN DROP TABLE made; END$$", [false, false]),
        ("BEGIN; SELECT makes(); ROLLBACK", [false, false]),
    ] {
        one.send(&query(text));
        one.until(b'Z');
        assert_eq!(pins(&mut one), then, "{text}");
        assert_eq!(left(&mut two), "- 0 0 0", "{text}");
    }
}

/// What is set for whoever connects, and by code that says so and does not do it.
const ODD: &str = "
    CREATE FUNCTION perhaps(boolean) RETURNS int LANGUAGE plpgsql AS $$BEGIN
        IF $1 THEN SET session_replication_role = replica; SET log_min_duration_statement = 0; SET work_mem = '9MB';
            SET search_path = nowhere; SET app.tenant = 'p'; SET no_such_setting = 1; END IF; RETURN 1; END$$;
    CREATE FUNCTION perhaps_and_fails() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM perhaps(false); RAISE 'no'; END$$;
    CREATE FUNCTION as_boss() RETURNS int SECURITY DEFINER LANGUAGE plpgsql AS $$BEGIN
        SET session_replication_role = replica; RETURN 1; END$$;
    CREATE FUNCTION empties() RETURNS text LANGUAGE plpgsql AS $$BEGIN
        RETURN set_config('app.tenant', '', false); END$$;
    CREATE FUNCTION is_none() RETURNS int LANGUAGE plpgsql AS $$BEGIN SET ROLE none; RETURN 1; END$$;
    CREATE FUNCTION dotted() RETURNS int LANGUAGE plpgsql AS $$BEGIN
        SET local.x = 'l'; SET transaction.x = 't'; SET constraints.x = 'c'; SET session.x = 's'; RETURN 1; END$$;
    CREATE FUNCTION resets() RETURNS int LANGUAGE plpgsql AS $$BEGIN
        SET work_mem = '9MB'; RESET work_mem; RESET app.wish; RETURN 1; END$$;
    CREATE TABLE parent (n int PRIMARY KEY);
    CREATE TABLE child (n int REFERENCES parent);
    CREATE TRIGGER truncated BEFORE TRUNCATE ON child FOR EACH STATEMENT EXECUTE FUNCTION audits();
    CREATE FUNCTION truncates() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$BEGIN TRUNCATE parent CASCADE; END$$;
    CREATE FUNCTION guess(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
        PERFORM pg_advisory_lock_shared(5); RETURN 1; END$$;
    CREATE TABLE indexed (n int);
    CREATE INDEX ON indexed (guess(n));
    INSERT INTO indexed VALUES (1);
    CREATE FUNCTION analyzes() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$BEGIN ANALYZE; END$$;
    CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM tenant('ev'); END$$;
    CREATE EVENT TRIGGER on_ddl ON ddl_command_end EXECUTE FUNCTION on_ddl();
    CREATE FUNCTION into_table() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1 AS n INTO made_here; SELECT 1';
    GRANT ALL ON audited, parent, child, indexed TO PUBLIC;";

const ALL_SEEN: &str = "SELECT current_setting('app.tenant', true), current_setting('work_mem'), \
    current_setting('search_path'), current_setting('session_replication_role'), current_user, \
    nullif(concat(current_setting('local.x', true), current_setting('transaction.x', true), \
        current_setting('constraints.x', true), current_setting('session.x', true)), ''), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";

#[test]
fn what_code_only_speaks_of_is_as_it_was() {
    let database = database("by_code_odd", &format!("{CODE} {ODD}"));
    database.sql(&format!(
        "DROP ROLE IF EXISTS by_code_group; CREATE ROLE by_code_group; GRANT by_code_group TO app; \
        ALTER ROLE app IN DATABASE {0} SET role = 'by_code_group'; ALTER DATABASE {0} SET app.tenant = 'nobody'",
        database.name
    ));
    let pooler = trusting(&database, 1).set("pin", "\"off\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let seen = |client: &mut Raw| rows(client, ALL_SEEN).concat().join(" ");
    let fresh = "nobody 4MB \"$user\", public origin by_code_group - 0";
    let own = "own 6MB mine, public origin by_code_group - 0";
    let mine = ["SET app.tenant = 'own'", "SET work_mem = '6MB'", "SET search_path = mine, public"];
    let long = format!("SELECT set_config('app.{}', 'long', false)", "a".repeat(70));
    for (texts, then) in [
        (&["SELECT public.perhaps(false)"][..], ""),
        (&["SELECT public.perhaps_and_fails()"], ""),
        (&["SELECT public.perhaps(false); SELECT 1/0"], ""),
        (&["SELECT public.as_boss()"], ""),
        (&["SELECT public.empties()"], " 6MB mine, public origin by_code_group - 0"),
        (&["SELECT public.is_none()"], "own 6MB mine, public origin app - 0"),
        (&["SELECT public.dotted()"], "own 6MB mine, public origin by_code_group ltcs 0"),
        (&["SELECT public.truncates()"], "t 6MB mine, public origin by_code_group - 0"),
        (&["SELECT public.analyzes()"], ""),
        (&["SELECT public.into_table()"], "ev 6MB mine, public origin by_code_group - 0"),
        (&["DO $$BEGIN SET local.x = 'v'; END$$"], "own 6MB mine, public origin by_code_group v 0"),
        (&[&long], ""),
    ] {
        all(&mut one, &mine);
        // So that they come along with what follows.
        assert_eq!(seen(&mut two), fresh);
        all(&mut one, texts);
        for _ in 0..2 {
            assert_eq!(seen(&mut two), fresh, "{texts:?}");
            assert_eq!(seen(&mut one), if then.is_empty() { own } else { then }, "{texts:?}");
        }
        let name = format!("SELECT current_setting('app.{}', true)", "a".repeat(70));
        assert!(["", "-"].contains(&&*rows(&mut two, &name).concat()[0]), "{texts:?}");
        all(&mut one, &["RESET ALL", "RESET ROLE"]);
    }
    let mut wishing = Raw::tcp(pooler.port());
    let options = ("options", "-c work_mem=7MB -c app.wish=base");
    wishing.send(&startup(V3_0, &[("user", "app"), ("database", "app"), options]));
    wishing.until(b'Z');
    all(&mut wishing, &["SELECT public.resets()"]);
    assert_eq!(seen(&mut two), fresh);
    let wishes = "SELECT current_setting('work_mem'), current_setting('app.wish', true)";
    assert_eq!(rows(&mut wishing, wishes), [["7MB", "base"]], "RESET returns to these");
}

#[test]
fn what_servers_begin_with_others_find_again() {
    let code = "CREATE FUNCTION public.names() RETURNS int LANGUAGE plpgsql AS $$BEGIN
            IF false THEN SET search_path = x; SET app.tenant = 'x'; END IF; RETURN 1; END$$;
        CREATE SCHEMA sx; GRANT USAGE ON SCHEMA sx TO PUBLIC; CREATE TABLE sx.t AS SELECT 1 AS n;
        GRANT ALL ON sx.t TO PUBLIC";
    let database = database("by_code_connect", code);
    let entry = format!(
        "host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n\
        connect_query = \"SET search_path TO sx; SELECT set_config('app.tenant', 'base', false)\"\n",
        database.port(),
        database.name
    );
    let pooler = trusting(&database, 1).section("databases.odd", &entry).start();
    let connect = || Raw::trusted(pooler.port(), "app", "odd");
    let (mut one, mut two) = (connect(), connect());
    let reads = |client: &mut Raw| rows(client, "SELECT n, current_setting('app.tenant') FROM t").concat().join(" ");
    for text in [
        "SELECT public.names()",
        "SET search_path = public",
        "SET app.tenant = 'mine'",
        "RESET ALL",
        "DISCARD ALL",
        "DO $$BEGIN EXECUTE 'SET search_path = public'; END$$",
        "DO $$BEGIN SET app.tenant = 'mine'; END$$",
    ] {
        let mut three = connect();
        all(&mut three, &[text]);
        assert_eq!(reads(&mut two), "1 base", "{text}");
        // With settings of its own, which come along.
        all(&mut three, &["SELECT 1"]);
        three.cut();
        assert_eq!([reads(&mut two), reads(&mut one), reads(&mut connect())], ["1 base"; 3], "{text}");
    }
}

#[test]
fn where_servers_are_not_kept_nothing_of_code_is_there_with_the_next_message() {
    let database = database("by_code_next", CODE);
    let pooler = trusting(&database, 1).set("pin", "\"off\"").start();
    let mut one = app(&pooler);
    for text in ["SELECT makes()", "SELECT locks(3)", "DO $$BEGIN CREATE TEMP TABLE made (n int); END$$"] {
        for _ in 0..10 {
            one.send(&[query(text), query(super::session_functions::FRESH)].concat());
            one.until(b'Z');
            one.until(b'Z');
            one.send(&query(text));
            one.until(b'Z');
            assert_eq!(left(&mut one), "- 0 0 0", "{text}");
        }
    }
}

#[test]
fn what_nobody_knows_may_keep_the_server() {
    let database = database("by_code_unknown", CODE);
    let sets = "DO $$BEGIN EXECUTE 'SET app.tenant = 1'; EXECUTE 'CREATE TEMP TABLE odd (n int)'; END$$";
    for (pin, unknown, kept) in [("auto", "pin", true), ("auto", "reset", false), ("off", "pin", false)] {
        let config = trusting(&database, 2).set("pin", &format!("\"{pin}\""));
        let pooler = config.set("unknown", &format!("\"{unknown}\"")).start();
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        sends(&mut one, &query(sets));
        for _ in 0..3 {
            assert_eq!(left(&mut two), "- 0 0 0", "{pin}, {unknown}");
            assert_eq!(left(&mut one), if kept { "1 0 1 0" } else { "- 0 0 0" }, "{pin}, {unknown}");
        }
        let mut admin = Raw::trusted(pooler.port(), "admin", "pgbouncer");
        for what in ["SHOW CLIENTS", "SHOW SERVERS"] {
            let pins =
                rows(&mut admin, what).iter().filter(|row| row.last().is_some_and(|pins| pins == "unknown")).count();
            assert_eq!(pins, usize::from(kept), "{what}");
        }
        sends(&mut one, &query("DISCARD ALL"));
        // Nor is it less known for what the transaction has defined before.
        sends(
            &mut one,
            &query("BEGIN; DROP TABLE IF EXISTS nowhere; CREATE TABLE dropped (n int); DROP TABLE dropped"),
        );
        sends(&mut one, &query(sets));
        sends(&mut one, &query("COMMIT"));
        assert_eq!(left(&mut two), "- 0 0 0", "{pin}, {unknown}");
        assert!(!kept || left(&mut one) == "1 0 1 0", "{pin}, {unknown}");
        sends(&mut one, &query("DISCARD ALL"));
        assert!(!rows(&mut admin, "SHOW SERVERS").concat().contains(&"unknown".to_owned()));
        assert_eq!([left(&mut two), left(&mut one)], ["- 0 0 0", "- 0 0 0"]);
        sends(&mut one, &query(sets));
        one.cut();
        assert_eq!(left(&mut two), "- 0 0 0");
        assert_eq!(left(&mut app(&pooler)), "- 0 0 0");
    }
}

#[test]
fn where_no_client_keeps_a_server_code_leaves_no_locks_nor_tables() {
    let database = database("by_code_off", CODE);
    for pin in ["off", "error"] {
        let pooler = trusting(&database, 1).set("pin", &format!("\"{pin}\"")).start();
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        for text in ["SELECT locks(3)", "SELECT makes()", "SELECT tenant('1'), locks(4)"] {
            sends(&mut one, &query(text));
            assert_eq!(left(&mut two), "- 0 0 0", "{text}, {pin}");
        }
        assert_eq!(left(&mut one), "1 0 0 0", "{pin}");
    }
}
