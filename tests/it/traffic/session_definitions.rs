//! Functions that are made by text which nobody has seen: the catalog is looked at before anybody relies on it.

use super::session_functions::{database, left, sends};
use super::{app, rows, trusting};
use crate::support::raw::{extended, message, query, sync};

const MAKERS: &str = "
    GRANT CREATE ON SCHEMA public TO PUBLIC;
    CREATE TABLE texts (t text);
    CREATE FUNCTION runs(t text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE t; END$$;
    CREATE FUNCTION runs_too(t text) RETURNS void LANGUAGE sql AS 'SELECT runs(t)';
    CREATE PROCEDURE proceeds(t text) LANGUAGE plpgsql AS $$BEGIN EXECUTE format('%s', t); END$$;
    CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE new.t; RETURN new; END$$;
    CREATE TABLE running (t text);
    CREATE TRIGGER t BEFORE INSERT ON running FOR EACH ROW EXECUTE FUNCTION triggered();
    CREATE FUNCTION defines() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT set_config(''app.tenant'', ''x'', false)';
        RETURN new; END$$;
    CREATE TABLE defining (t text);
    CREATE TRIGGER t BEFORE INSERT ON defining FOR EACH ROW EXECUTE FUNCTION defines();
    CREATE FUNCTION is_run(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN EXECUTE $1; RETURN true; END$$;
    CREATE DOMAIN text_to_run AS text CHECK (is_run(value));";

#[test]
fn what_a_trigger_has_made_counts_in_its_own_transaction() {
    let makes = "CREATE FUNCTION defines() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            CREATE FUNCTION late() RETURNS text LANGUAGE sql AS 'SELECT pg_advisory_lock(8)::text'; RETURN new; END$$;
        CREATE TABLE defining (t text);
        CREATE TRIGGER t BEFORE INSERT ON defining FOR EACH ROW EXECUTE FUNCTION defines();
        GRANT CREATE ON SCHEMA public TO PUBLIC;";
    let database = database("definitions_own", makes);
    let pooler = trusting(&database, 1).set("pin", "\"off\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    sends(&mut one, &query("BEGIN; INSERT INTO defining VALUES (''); SELECT late(); ROLLBACK"));
    assert_eq!(left(&mut two), "- 0 0 0", "in one text");
    for text in ["BEGIN", "INSERT INTO defining VALUES ('')", "SELECT late()", "ROLLBACK"] {
        sends(&mut one, &query(text));
    }
    assert_eq!(left(&mut two), "- 0 0 0", "one by one");
}

#[test]
fn a_column_of_a_type_that_runs_code_is_seen_when_it_is_added() {
    let database = database(
        "definitions_columns",
        "CREATE FUNCTION meddles(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
            PERFORM set_config('app.tenant', 'x', false); RETURN true; END$$;
        CREATE DOMAIN good AS text CHECK (meddles(value));
        CREATE FUNCTION runs(t text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN EXECUTE t; END$$;
        CREATE TYPE pair AS (a int);",
    );
    let pooler = trusting(&database, 1).set("catalog_refresh", "\"1h\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    sends(&mut one, &query("SELECT runs('ALTER TYPE pair ADD ATTRIBUTE b good')"));
    sends(&mut one, &query("SELECT '(1,x)'::pair"));
    assert_eq!(left(&mut two), "- 0 0 0");
}

/// Makes a function that leaves something.
const LATE: &str = "$q$CREATE FUNCTION late() RETURNS text LANGUAGE sql AS \
    'SELECT set_config(''app.tenant'', ''x'', false)'$q$";

#[test]
fn what_text_has_made_that_nobody_has_seen_is_known_at_once() {
    let database = database("definitions", MAKERS);
    let oid: u32 = database.sql("SELECT 'runs(text)'::regprocedure::oid").parse().expect("a number");
    let late = LATE.trim_matches(|c| "$q".contains(c));
    let argument = [&u32::try_from(late.len()).expect("short").to_be_bytes(), late.as_bytes()].concat();
    let call = message(b'F', &[&oid.to_be_bytes()[..], b"\0\0\0\x01", &argument, b"\0\0"].concat());
    let requests = [
        query(&format!("SELECT runs({LATE})")),
        [extended(&format!("SELECT runs_too({LATE})")), sync()].concat(),
        query(&format!("CALL proceeds({LATE})")),
        query(&format!("INSERT INTO running VALUES ({LATE})")),
        query("INSERT INTO defining VALUES ('')"),
        query(&format!("DO $do$BEGIN PERFORM runs({LATE}); END$do$")),
        query(&format!("DO $do$BEGIN EXECUTE {LATE}; END$do$")),
        query(&format!("SELECT {LATE}::text_to_run")),
        query(&format!("PREPARE p AS SELECT runs({LATE}); EXECUTE p; DEALLOCATE p")),
        query(&format!("SELECT query_to_xml($x$SELECT runs({LATE})$x$, true, true, '')")),
        call,
    ];
    for servers in [1, 2] {
        for request in &requests {
            let pooler = trusting(&database, servers).set("catalog_refresh", "\"1h\"").start();
            let (mut one, mut two, mut three) = (app(&pooler), app(&pooler), app(&pooler));
            // All servers are there.
            sends(&mut two, &query("BEGIN"));
            if servers == 2 {
                rows(&mut one, "SELECT 1");
            }
            sends(&mut two, &query("COMMIT"));
            sends(&mut one, request);
            sends(&mut one, &query("SELECT late()"));
            let said = String::from_utf8_lossy(request);
            if servers == 2 {
                sends(&mut two, &query("BEGIN"));
            }
            assert_eq!(left(&mut three), "- 0 0 0", "{said}, {servers}");
            if servers == 2 {
                assert_eq!(left(&mut two), "- 0 0 0", "{said}, the other");
            }
            database.sql("DROP FUNCTION late()");
        }
    }
}
