//! A client's code that PostgreSQL runs where nothing is executed: when it reads a constant, a parameter, a function's
//! body, and when it plans. What that leaves nobody else sees either.

use super::session_functions::{database, left, pooler, resets, sends};
use super::{app, rows, trusting};
use crate::support::Database;
use crate::support::raw::{bind, execute, extended, parse, parse_with_types, query, sync, target};

const CODE: &str = "
    CREATE FUNCTION meddles(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        PERFORM set_config('app.tenant', 'x', false); RETURN true; END$$;
    CREATE FUNCTION pretends(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
        PERFORM meddles('x'); RETURN 1; END$$;
    CREATE FUNCTION guesses() RETURNS int STABLE LANGUAGE plpgsql AS $$BEGIN
        PERFORM meddles('x'); RETURN 1; END$$;
    CREATE FUNCTION locks(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
        PERFORM pg_advisory_lock(5); RETURN 1; END$$;
    CREATE DOMAIN good AS text CHECK (meddles(value));
    CREATE DOMAIN better AS good;
    CREATE FUNCTION reads(oid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        RETURN array_in('{x}', $1, -1) IS NULL; END$$;
    CREATE TYPE pair AS (a good, b int);
    CREATE TABLE of_domain (a good);
    CREATE TABLE of_rows (a of_domain);
    CREATE TABLE of_array (a good[]);
    CREATE TABLE plain (n int);
    INSERT INTO plain VALUES (1), (2);
    CREATE VIEW seen AS SELECT meddles('x');
    CREATE TABLE indexed (n int);
    ALTER TABLE indexed OWNER TO app;
    ALTER FUNCTION locks(int) OWNER TO app;
    CREATE INDEX of_locks ON indexed (locks(n));
    INSERT INTO indexed VALUES (1);
    CREATE TYPE row_type AS (n int, m int);
    ALTER TYPE row_type OWNER TO app;
    CREATE TABLE typed OF row_type;
    ALTER TABLE typed OWNER TO app;
    CREATE INDEX ON typed (locks(n));
    INSERT INTO typed VALUES (1, 2);
    CREATE TABLE referenced (n int PRIMARY KEY);
    CREATE TABLE referencing (n int REFERENCES referenced);
    CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM meddles('x'); RETURN new; END$$;
    CREATE TRIGGER t AFTER TRUNCATE ON referencing FOR EACH STATEMENT EXECUTE FUNCTION triggered();
    CREATE TYPE mood AS ENUM ('x', 'y');
    GRANT CREATE ON SCHEMA public TO PUBLIC;
    CREATE DOMAIN clean AS text CHECK (length(value) > 0);";

/// A Parse of `statement` with a parameter of this type.
fn typed(database: &Database, name: &str, statement: &str) -> Vec<u8> {
    let oid = database.sql(&format!("SELECT '{name}'::regtype::oid")).parse().expect("a number");
    parse_with_types(statement, "SELECT $1", &[oid])
}

fn bind_of(statement: &str, value: &str) -> Vec<u8> {
    bind("", statement, &[value.as_bytes()])
}

/// What a request leaves where nobody looks after that.
fn left_alone(database: &Database, request: &[u8]) -> String {
    let pooler = trusting(database, 1).set("session_state", "\"pgbouncer\"").start();
    sends(&mut app(&pooler), request);
    left(&mut app(&pooler))
}

/// Each request leaves something in its session, of a client that has it to itself.
#[track_caller]
fn leave_nothing(label: &str, requests: &[(&str, Vec<u8>)]) {
    let database = database(label, CODE);
    let (pooler, _port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    rows(&mut one, "SELECT 1");
    let mut seen = Vec::new();
    for (name, request) in requests {
        assert_ne!(left_alone(&database, request), "- 0 0 0", "{name} does something");
        sends(&mut one, request);
        if left(&mut two) != "- 0 0 0" {
            seen.push(*name);
            sends(&mut two, &query("DISCARD ALL"));
        }
    }
    assert_eq!(seen, [""; 0], "what it leaves is seen by others");
}

#[test]
fn a_parameter_of_a_type_that_runs_code_is_read_when_it_is_bound() {
    let types = [
        ("good", "x"),
        ("better", "x"),
        ("good[]", "{x}"),
        ("pair", "(x,1)"),
        ("pair[]", "{\"(x,1)\"}"),
        ("of_domain", "(x)"),
        ("of_domain[]", "{(x)}"),
        ("of_rows", "(\"(x)\")"),
    ];
    reads_at_bind("unexecuted_types", CODE, &types);
}

#[test]
fn so_is_a_range_of_such() {
    // It comes with a cast, which has no name where it is used: with one any statement counts.
    let code = format!("{CODE} CREATE TYPE good_range AS RANGE (SUBTYPE = good);");
    reads_at_bind("unexecuted_ranges", &code, &[("good_range", "[x,y]"), ("good_multirange", "{[x,y]}")]);
}

#[track_caller]
fn reads_at_bind(label: &str, code: &str, types: &[(&str, &str)]) {
    let database = database(label, code);
    let (pooler, _port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    for (name, value) in types {
        let parse = typed(&database, name, "");
        let bound = [parse, bind_of("", value)].concat();
        for request in [[&bound[..], &execute("", 0), &sync()].concat(), [bound.clone(), sync()].concat()] {
            assert_eq!(left_alone(&database, &request), "x 0 0 0", "{name} runs code");
            sends(&mut one, &request);
            assert_eq!(left(&mut two), "- 0 0 0", "{name}");
        }
        // Where it is prepared first, and bound later.
        sends(&mut one, &[typed(&database, name, "n"), target(b'D', b'S', "n"), sync()].concat());
        assert_eq!(left(&mut two), "- 0 0 0", "{name}");
        sends(&mut one, &[bind_of("n", value), sync()].concat());
        assert_eq!(left(&mut two), "- 0 0 0", "{name}, bound later");
        sends(&mut one, &[target(b'C', b'S', "n"), sync()].concat());
    }
}

#[test]
fn a_parameter_of_any_other_type_costs_nothing() {
    let database = database("unexecuted_clean", CODE);
    let (pooler, port) = pooler(&database);
    let mut one = app(&pooler);
    for (name, value) in [("mood", "x"), ("clean", "x"), ("mood[]", "{x}"), ("plain", "(1)"), ("int", "1")] {
        let request = [typed(&database, name, ""), bind_of("", value), execute("", 0), sync()].concat();
        sends(&mut one, &request);
    }
    assert_eq!(resets(&port), 0, "these run nothing");
}

#[test]
fn what_is_bound_and_not_executed_is_planned() {
    let bound = |text: &str| [parse("", text), bind("", "", &[]), sync()].concat();
    leave_nothing(
        "unexecuted_planned",
        &[
            ("folded", bound("SELECT pretends(1)")),
            ("estimated", bound("SELECT * FROM plain WHERE n = guesses()")),
            ("locked", bound("SELECT locks(1)")),
            ("explained", query("EXPLAIN SELECT pretends(1)")),
            (
                "explained by name",
                query("EXPLAIN SELECT * FROM plain WHERE n::text = table_to_xml('seen', true, true, '')::text"),
            ),
            ("bound by name", bound("SELECT * FROM plain WHERE n::text = table_to_xml('seen', true, true, '')::text")),
        ],
    );
}

#[test]
fn constants_are_read_when_a_statement_is_parsed() {
    let parsed = |text: &str| [parse("", text), sync()].concat();
    let described = |text: &str| [parse("", text), target(b'D', b'S', ""), sync()].concat();
    leave_nothing(
        "unexecuted_parsed",
        &[
            ("an array", parsed("SELECT '{x}'::good[]")),
            ("an array by its own name", query("SELECT '{x}'::_good")),
            ("a composite", parsed("SELECT '(x,1)'::pair")),
            ("a column", parsed("INSERT INTO of_array VALUES ('{x}')")),
            ("a column of rows", query("INSERT INTO of_rows VALUES ('(x)')")),
            ("an array of rows", query("SELECT '{(x)}'::_of_domain")),
            ("an array that is described", described("SELECT '{x}'::good[]")),
            ("SQL's own PREPARE", query("PREPARE p AS SELECT '{x}'::good[]; DEALLOCATE p")),
            ("a view", query("BEGIN; CREATE TEMP VIEW v AS SELECT '{x}'::good[]; ROLLBACK; SELECT meddles('x')")),
        ],
    );
}

#[test]
fn the_body_of_a_function_is_read_when_it_is_made() {
    let body = "CREATE OR REPLACE FUNCTION made() RETURNS text[] LANGUAGE sql AS $$SELECT '{x}'::good[]::text[]$$";
    leave_nothing("unexecuted_bodies", &[("simple", query(body)), ("extended", [extended(body), sync()].concat())]);
}

#[test]
fn a_type_may_be_told_as_a_value() {
    let of_type = "(SELECT oid FROM pg_type WHERE typname = 'go' || 'od')";
    leave_nothing(
        "unexecuted_values",
        &[
            ("a function of PostgreSQL", query(&format!("SELECT array_in('{{x}}', {of_type}, -1)"))),
            ("one that calls it", query(&format!("SELECT reads({of_type})"))),
            ("code", query(&format!("DO $$BEGIN PERFORM array_in('{{x}}', {of_type}, -1); END$$"))),
        ],
    );
}

#[test]
fn what_is_too_long_to_be_read_may_run_anything() {
    let long = |text: &str| format!("{text} -- {}", "x".repeat(300_000));
    let bound = |text: &str| [parse("", &long(text)), bind("", "", &[]), sync()].concat();
    leave_nothing(
        "unexecuted_long",
        &[("read", bound("SELECT '{x}'::good[]")), ("planned", bound("SELECT pretends(1)"))],
    );
}

#[test]
fn the_arguments_of_execute_are_computed_to_explain_it() {
    let text = "PREPARE p(text) AS SELECT $1; EXPLAIN EXECUTE p(set_config('app.tenant', 'x', false)); DEALLOCATE p";
    leave_nothing("unexecuted_arguments", &[("EXPLAIN EXECUTE", query(text))]);
}

#[test]
fn upkeep_runs_what_hangs_on_relations_that_it_does_not_name() {
    leave_nothing(
        "unexecuted_upkeep",
        &[
            ("an index", query("REINDEX INDEX of_locks")),
            ("TRUNCATE", query("TRUNCATE referenced CASCADE")),
            ("a type", query("ALTER TYPE row_type ALTER ATTRIBUTE m TYPE bigint CASCADE")),
        ],
    );
}
