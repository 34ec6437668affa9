//! What the code of functions, procedures, triggers and DO leaves in a session counts as if the client had said it.

use super::session_functions::{database, left, resets, sends};
use super::{app, rows, trusting};
use crate::support::raw::{Raw, bind, execute, extended, parse, query, sync};

use pglifeguard::app::demo::PortClaim;

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
    let port = PortClaim::anywhere().expect("a free port");
    let metrics = format!("listen = \"127.0.0.1:{}\"\n", port.number());
    let pooler = trusting(&database, 1).section("metrics", &metrics).start();
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
    for text in ["SELECT hides()", "SELECT long()"] {
        sends(&mut one, &query("SET app.other = 'mine'"));
        sends(&mut one, &query(text));
        let other = "SELECT nullif(current_setting('app.other', true), ''), current_setting('app.tenant', true)";
        assert_eq!(rows(&mut two, other), [["-", ""]], "{text}");
        assert_eq!(rows(&mut one, other), [["mine", ""]], "{text}");
    }
    database.sql("ALTER ROLE app SET dynamic_library_path = '/somewhere'");
    drop(pooler);
    let pooler = trusting(&database, 1).start();
    sends(&mut app(&pooler), &query("SELECT hides()"));
    let path = "SELECT setting FROM pg_settings WHERE name = 'app.tenant'";
    assert_eq!(rows(&mut app(&pooler), path).concat(), [""; 0]);
    database.sql("ALTER ROLE app RESET dynamic_library_path");
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
