//! What functions do to the session of their caller, and whatever calls them unseen, is known by the catalog: nobody else
//! ever sees it, and who calls what is clean pays nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pglifeguard::app::demo::PortClaim;

use super::{app, rows, shown, trusting};
use crate::support::pooler::Pooler;
use crate::support::raw::{Raw, bind, execute, extended, parse, query, sync};
use crate::support::{Database, wait_until};

/// Functions that touch the session of their caller, and what calls them.
const DANGEROUS: &str = "
    CREATE FUNCTION meddles() RETURNS text LANGUAGE plpgsql AS $$BEGIN
        PERFORM set_config('app.tenant', 'x', false); RETURN 'm'; END$$;
    CREATE FUNCTION asks() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT meddles()); END$$;
    CREATE FUNCTION lies() RETURNS text STABLE LANGUAGE plpgsql AS $$BEGIN
        RETURN set_config('app.tenant', 'x', false); END$$;
    CREATE FUNCTION in_sql() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.tenant', 'x', false)$$;
    CREATE FUNCTION parsed() RETURNS text LANGUAGE sql BEGIN ATOMIC
        SELECT set_config('app.tenant', 'x', false); END;
    CREATE FUNCTION by_default(a text DEFAULT set_config('app.tenant', 'x', false)) RETURNS text LANGUAGE sql
        AS $$SELECT 'b'$$;
    CREATE FUNCTION pretends(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RETURN meddles(); END$$;
    CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM asks(); RETURN new; END$$;
    CREATE FUNCTION is_good(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM lies(); RETURN true; END$$;
    CREATE TABLE with_trigger (n int);
    CREATE TRIGGER t BEFORE INSERT ON with_trigger FOR EACH ROW EXECUTE FUNCTION triggered();
    CREATE TABLE with_default (n int, tenant text DEFAULT lies());
    CREATE TABLE with_own (n int, tenant text DEFAULT set_config('app.tenant', 'x', false));
    CREATE VIEW seen AS SELECT asks() AS tenant;
    CREATE VIEW seen_again AS SELECT tenant FROM seen;
    CREATE VIEW seen_own AS SELECT set_config('app.tenant', 'x', false) AS tenant;
    CREATE DOMAIN good AS text CHECK (is_good(value));
    CREATE TABLE of_domain (a good);
    CREATE TABLE parent (n int) PARTITION BY LIST (n);
    CREATE TABLE part PARTITION OF parent FOR VALUES IN (1);
    CREATE TRIGGER t BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION triggered();
    CREATE TABLE referenced (n int PRIMARY KEY);
    INSERT INTO referenced VALUES (1);
    CREATE TABLE referencing (n int REFERENCES referenced ON UPDATE CASCADE);
    INSERT INTO referencing VALUES (1);
    CREATE TRIGGER t BEFORE UPDATE ON referencing FOR EACH ROW EXECUTE FUNCTION triggered();
    CREATE FUNCTION writes() RETURNS void LANGUAGE plpgsql AS $$BEGIN INSERT INTO with_trigger VALUES (2); END$$;
    CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS $$BEGIN PERFORM asks(); END$$;
    CREATE FUNCTION of_row(with_default) RETURNS text LANGUAGE sql
        AS $$SELECT set_config('app.tenant', 'x', false)$$;
    CREATE FUNCTION defined() RETURNS text SECURITY DEFINER LANGUAGE plpgsql AS $$BEGIN RETURN asks(); END$$;
    CREATE FUNCTION \"In Quotes\"() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN \"meddles\"(); END$$;
    CREATE SCHEMA other;
    GRANT USAGE ON SCHEMA other TO app;
    CREATE FUNCTION loaded(a int) RETURNS text LANGUAGE sql AS $$SELECT 'l'$$;
    CREATE FUNCTION other.loaded(a text) RETURNS text LANGUAGE sql
        AS $$SELECT set_config('app.tenant', 'x', false)$$;
    CREATE FUNCTION dynamic() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        EXECUTE 'SE' || 'T app.tenant = 1'; END$$;
    CREATE FUNCTION locks() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock(5); END$$;
    CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE IF NOT EXISTS made (); END$$;
    CREATE FUNCTION listens() RETURNS void LANGUAGE plpgsql AS $$BEGIN LISTEN news; END$$;
    CREATE FUNCTION adds_up(a text, b int) RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN meddles(); END$$;
    CREATE AGGREGATE sums(int) (SFUNC = adds_up, STYPE = text);
    CREATE TABLE checked (a text CHECK (is_good(a)));
    CREATE TABLE guarded (a int);
    INSERT INTO guarded VALUES (1);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY guards ON guarded USING (asks() IS NOT NULL);
    CREATE TABLE ruled (a int);
    CREATE RULE rules AS ON INSERT TO ruled DO ALSO SELECT asks();
    CREATE TABLE computed (a int, b text GENERATED ALWAYS AS (pretends(a)) STORED);";

/// Each leaves something in its session.
const USES: [&str; 37] = [
    "SELECT table_to_xml('seen', true, true, '')",
    "SELECT meddles()",
    "SELECT public . \"meddles\" ()",
    "SELECT asks()",
    "SELECT lies()",
    "SELECT in_sql()",
    "SELECT parsed()",
    "SELECT by_default()",
    "INSERT INTO with_trigger VALUES (1)",
    "INSERT INTO with_default VALUES (1)",
    "INSERT INTO with_own VALUES (1)",
    "SELECT * FROM seen",
    "SELECT * FROM seen_again",
    "SELECT * FROM seen_own",
    "SELECT 'a'::good",
    "INSERT INTO of_domain VALUES ('a')",
    "INSERT INTO parent VALUES (1)",
    "UPDATE referenced SET n = n + 1",
    "SELECT writes()",
    "CALL proceeds()",
    "DO $$BEGIN PERFORM asks(); END$$",
    "SELECT t.of_row FROM with_default t",
    "SELECT defined()",
    "SELECT \"In Quotes\"()",
    "SELECT other.loaded('a')",
    "SELECT dynamic()",
    "SELECT locks()",
    "SELECT makes()",
    "SELECT listens()",
    "SELECT sums(a) FROM generate_series(1, 2) a",
    "INSERT INTO checked VALUES ('a')",
    "SELECT * FROM guarded",
    "INSERT INTO ruled VALUES (1)",
    "INSERT INTO computed VALUES (1)",
    "COPY (SELECT meddles()) TO STDOUT",
    "EXPLAIN ANALYZE SELECT meddles()",
    "MERGE INTO with_trigger USING (VALUES (1)) v (n) ON false WHEN NOT MATCHED THEN INSERT VALUES (v.n)",
];

const CLEAN: &str = "
    CREATE TABLE plain (n int DEFAULT 3, at timestamptz DEFAULT now());
    CREATE VIEW plainly AS SELECT n FROM plain;
    CREATE FUNCTION adds(a int) RETURNS int LANGUAGE plpgsql AS $$BEGIN INSERT INTO plain VALUES (a); RETURN a; END$$;
    CREATE FUNCTION locally() RETURNS text LANGUAGE plpgsql SET work_mem = '9MB' SET search_path FROM CURRENT
        AS $$BEGIN SET LOCAL work_mem = '8MB'; RETURN set_config('app.tenant', 'x', true); END$$;
    CREATE PROCEDURE clean() LANGUAGE plpgsql AS $$BEGIN PERFORM adds(1); END$$;
    CREATE EXTENSION hstore;
    CREATE EXTENSION pgcrypto;";

const CLEAN_USES: [&str; 9] = [
    "SELECT locally()",
    "CALL clean()",
    "SELECT adds(2)",
    "INSERT INTO plain VALUES (1)",
    "SELECT count(*), max(n) FROM plainly",
    "DO $$BEGIN CALL clean(); END$$",
    "SELECT upper('a'), pg_typeof(1)",
    "SELECT 'a=>1'::hstore -> 'a', gen_random_bytes(3)",
    "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1",
];

/// What a session of a client that has done nothing is like.
pub(super) const FRESH: &str = "SELECT nullif(current_setting('app.tenant', true), ''), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), \
    (SELECT count(*) FROM pg_listening_channels())";

pub(super) fn left(client: &mut Raw) -> String {
    rows(client, FRESH).concat().join(" ")
}

fn asks(client: &mut Raw, text: &str) -> String {
    sends(client, &query(text))
}

pub(super) fn sends(client: &mut Raw, bytes: &[u8]) -> String {
    client.send(bytes);
    let answer = shown(&client.until(b'Z'));
    assert!(!answer.contains('['), "{answer}");
    answer
}

/// A pooler with one server, and where its metrics are.
pub(super) fn pooler(database: &Database) -> (Pooler, PortClaim) {
    let port = PortClaim::anywhere().expect("a free port");
    let metrics = format!("listen = \"127.0.0.1:{}\"\n", port.number());
    // Who is tied to the only server leaves none for others.
    let config = trusting(database, 1).set("catalog_refresh", "\"1s\"").set("pin", "\"off\"");
    let config = config.section("metrics", &metrics);
    (config.start(), port)
}

pub(super) fn database(label: &str, sql: &str) -> Database {
    let database = Database::create(label);
    database
        .sql(&format!("{sql}; GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT CREATE ON SCHEMA public TO app"));
    database
}

/// How many servers were reset for what a client may have left.
pub(super) fn resets(port: &PortClaim) -> u64 {
    let (_, body) = crate::operation::http::get(port.number(), "/metrics");
    let counts = body.lines().filter(|line| line.starts_with("pglifeguard_server_resets_total"));
    counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[track_caller]
fn leaves_nothing(one: &mut Raw, two: &mut Raw, uses: &[&str], when: &str) {
    for text in uses {
        for bytes in [query(text), [extended(text), sync()].concat()] {
            sends(one, &bytes);
            assert_eq!(left(two), "- 0 0 0", "{text}, {when}");
        }
        asks(one, "RESET ALL");
    }
}

#[test]
fn what_functions_leave_nobody_else_sees_from_the_first_client_on() {
    let database = database("functions_first", DANGEROUS);
    for text in USES {
        let (pooler, port) = pooler(&database);
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        asks(&mut one, "SELECT f.a FROM generate_series(1, 2) f (a)");
        assert_eq!(resets(&port), 0, "the catalog was read before");
        for bytes in [query(text), [extended(text), sync()].concat()] {
            sends(&mut one, &bytes);
            assert_eq!(left(&mut two), "- 0 0 0", "{text}");
        }
        assert!(resets(&port) > 0 || left(&mut one) == "x 0 0 0", "{text} has left something");
    }
}

#[test]
fn nor_of_functions_that_were_made_through_the_pooler() {
    let database = database("functions_through", "");
    let (pooler, _port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, DANGEROUS);
    leaves_nothing(&mut two, &mut one, &USES, "at once");
    leaves_nothing(&mut one, &mut two, &USES, "later");
}

#[test]
fn nor_of_those_made_past_it_once_the_catalog_was_looked_at() {
    let database = database("functions_past", "");
    let (pooler, _port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, "SELECT 1");
    database.sql(&format!("{DANGEROUS} GRANT ALL ON ALL TABLES IN SCHEMA public TO app"));
    wait_until("it was looked at", Duration::from_secs(20), || {
        asks(&mut one, "SELECT meddles()");
        left(&mut two) == "- 0 0 0"
    });
    leaves_nothing(&mut one, &mut two, &USES, "afterwards");
}

#[test]
fn a_server_that_rests_is_cleaned_of_what_came_as_a_surprise() {
    let database = database("functions_rest", "");
    let pooler = trusting(&database, 2).set("catalog_refresh", "\"1h\"").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, "SELECT 1");
    database.sql("CREATE FUNCTION late() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.tenant', 'x', false)$$");
    let both = |one: &mut Raw, two: &mut Raw, text: &str| {
        asks(one, "BEGIN");
        asks(two, "BEGIN");
        let answers = [&mut *one, &mut *two].map(|client| rows(client, text).concat().join(" "));
        asks(one, "COMMIT");
        asks(two, "COMMIT");
        answers
    };
    both(&mut one, &mut two, "SELECT late()");
    assert_eq!(both(&mut one, &mut two, FRESH), ["x 0 0 0", "x 0 0 0"], "nobody can know yet");
    // Has it looked at.
    Raw::trusted(pooler.port(), "admin", "pgbouncer").query("RELOAD");
    wait_until("it was looked at", Duration::from_secs(20), || left(&mut one) == "- 0 0 0");
    for text in ["SELECT 1", "SELECT late()", "SELECT 1"] {
        assert_eq!(both(&mut app(&pooler), &mut app(&pooler), FRESH), ["- 0 0 0", "- 0 0 0"]);
        both(&mut one, &mut two, text);
    }
}

#[test]
fn operators_casts_and_event_triggers_are_in_no_name() {
    let operator = "CREATE FUNCTION same(int, int) RETURNS boolean LANGUAGE plpgsql AS \
        $$BEGIN PERFORM set_config('app.tenant', 'x', false); RETURN true; END$$; \
        CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = int)";
    let cast = "CREATE TYPE pair AS (a int); CREATE FUNCTION to_pair(int) RETURNS pair LANGUAGE plpgsql AS \
        $$BEGIN PERFORM set_config('app.tenant', 'x', false); RETURN row($1)::pair; END$$; \
        CREATE CAST (int AS pair) WITH FUNCTION to_pair(int) AS IMPLICIT";
    let on_ddl = "CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS \
        $$BEGIN PERFORM set_config('app.tenant', 'x', false); END$$; \
        CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION on_ddl()";
    let by_function = &format!(
        "{on_ddl}; CREATE FUNCTION does_ddl() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS \
        $$BEGIN COMMENT ON FUNCTION on_ddl() IS 'x'; END$$"
    );
    for (label, made, used) in [
        ("functions_operator", operator, "SELECT 1 === 2"),
        ("functions_cast", cast, "SELECT (1::pair).a"),
        ("functions_ddl", on_ddl, "CREATE TABLE IF NOT EXISTS made_by_ddl ()"),
        ("functions_ddl_do", on_ddl, "DO $$BEGIN CREATE TABLE IF NOT EXISTS made_by_ddl (); END$$"),
        ("functions_ddl_function", by_function, "SELECT does_ddl()"),
    ] {
        let database = database(label, made);
        let (pooler, _port) = pooler(&database);
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        leaves_nothing(&mut one, &mut two, &[used], label);
    }
}

#[test]
fn a_prepared_statement_is_judged_by_what_its_function_is_now() {
    let database = database("functions_prepared", "");
    let (pooler, port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let create = |body: &str| format!("CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE sql AS '{body}'");
    asks(&mut one, &create("SELECT ''a''"));
    let run = [bind("", "s", &[]), execute("", 0), sync()].concat();
    sends(&mut one, &[parse("s", "SELECT f()"), sync()].concat());
    // The catalog is read by the server that comes back, and not at any time.
    wait_until("it is known as clean", Duration::from_secs(20), || {
        let before = resets(&port);
        sends(&mut one, &run);
        resets(&port) == before
    });
    asks(&mut two, &create("SELECT set_config(''app.tenant'', ''x'', false)"));
    for _ in 0..3 {
        sends(&mut one, &run);
        assert_eq!(left(&mut two), "- 0 0 0");
    }
    asks(&mut one, "BEGIN");
    asks(&mut one, "CREATE FUNCTION g() RETURNS text LANGUAGE sql AS 'SELECT f()'");
    asks(&mut one, "SELECT g()");
    asks(&mut one, "COMMIT");
    assert_eq!(left(&mut two), "- 0 0 0", "of the transaction that made it");
}

#[test]
fn who_waited_for_a_lock_is_judged_by_what_was_made_meanwhile() {
    let made = "CREATE FUNCTION meddles() RETURNS trigger LANGUAGE plpgsql AS \
        $$BEGIN PERFORM set_config('app.tenant', 'x', false); RETURN new; END$$; CREATE TABLE t (n int); \
        ALTER TABLE t OWNER TO app";
    let database = database("functions_waited", made);
    let pooler = trusting(&database, 2).start();
    let (mut one, mut two, mut three) = (app(&pooler), app(&pooler), app(&pooler));
    asks(&mut one, "BEGIN");
    asks(&mut one, "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION meddles()");
    two.send(&query("INSERT INTO t VALUES (1)"));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("it waits for the lock", Duration::from_secs(20), || database.sql(waits) == "1");
    asks(&mut one, "COMMIT");
    two.until(b'Z');
    // Both servers at once.
    asks(&mut one, "BEGIN");
    asks(&mut three, "BEGIN");
    assert_eq!([left(&mut one), left(&mut three)], ["- 0 0 0", "- 0 0 0"]);
}

#[test]
fn who_calls_what_is_clean_has_no_server_reset() {
    for dangers in ["", DANGEROUS] {
        let label = if dangers.is_empty() { "functions_clean" } else { "functions_mixed" };
        let database = database(label, &format!("{CLEAN} {dangers}"));
        let (pooler, port) = pooler(&database);
        let mut one = app(&pooler);
        for text in CLEAN_USES {
            for bytes in [query(text), [extended(text), sync()].concat()] {
                sends(&mut one, &bytes);
            }
            assert_eq!(resets(&port), 0, "{text}");
        }
    }
}

#[test]
fn with_one_server_for_all_the_catalog_is_looked_at_and_nobody_is_stuck() {
    let database = database("functions_crowd", CLEAN);
    let (pooler, _port) = pooler(&database);
    let known = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = app(&pooler);
                while !known.load(Ordering::Relaxed) {
                    assert_eq!(rows(&mut client, "SELECT adds(7)"), [["7"]]);
                }
            });
        }
        let mut one = app(&pooler);
        asks(&mut one, "SELECT 1");
        database
            .sql("CREATE FUNCTION late() RETURNS text LANGUAGE sql AS $$SELECT set_config('app.tenant', 'x', false)$$");
        wait_until("it is known", Duration::from_secs(20), || {
            asks(&mut one, "SELECT late()");
            [left(&mut one), left(&mut app(&pooler))] == ["x 0 0 0", "- 0 0 0"]
        });
        known.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_cannot_be_read_counts_as_unknown_until_it_can() {
    let database = database("functions_hidden", &format!("{DANGEROUS} {CLEAN} REVOKE SELECT ON pg_proc FROM PUBLIC"));
    let (pooler, port) = pooler(&database);
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    leaves_nothing(&mut one, &mut two, &USES, "while it can't be read");
    let told = |pooler: &Pooler| pooler.log().matches("catalog could not be read").count();
    assert_eq!(told(&pooler), 1, "{}", pooler.log());
    database.sql("GRANT SELECT ON pg_proc TO PUBLIC");
    wait_until("it is read", Duration::from_secs(80), || {
        let before = resets(&port);
        asks(&mut one, "SELECT adds(1)");
        resets(&port) == before
    });
    leaves_nothing(&mut one, &mut two, &USES, "when it was read");
}

#[test]
fn who_connects_does_not_wait_for_what_takes_too_long_to_read() {
    let database = database("functions_locked", DANGEROUS);
    let mut other = Raw::trusted(database.port(), "by_trust", &database.name);
    database.sql(
        "CREATE FUNCTION locks_it() RETURNS void SECURITY DEFINER \
        LANGUAGE sql AS 'LOCK pg_policy IN ACCESS EXCLUSIVE MODE'",
    );
    asks(&mut other, "BEGIN");
    asks(&mut other, "SELECT locks_it()");
    let pooler = trusting(&database, 1).set("server_connect_timeout", "2").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    assert!(pooler.log().contains("catalog could not be read: canceling statement due to statement timeout"));
    leaves_nothing(&mut one, &mut two, &["SELECT asks()", "INSERT INTO with_trigger VALUES (1)"], "unread");
}

#[test]
fn reading_it_leaves_no_trace_whatever_the_session_is_like() {
    let database = database("functions_trace", DANGEROUS);
    // Operators and functions of another's making, where PostgreSQL's own are not found first.
    database.sql(
        "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO app; \
        CREATE FUNCTION trap.array_agg(xid) RETURNS int LANGUAGE sql AS 'SELECT 1/0'; \
        CREATE FUNCTION trap.encode(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT 'trapped'$$",
    );
    let settings = "SELECT name, setting, source FROM pg_settings ORDER BY name";
    let seen = ["track", "pgbouncer"].map(|session_state| {
        let name = format!(
            "connect_query = \"SET search_path TO trap, public, pg_catalog; SET statement_timeout TO 30000; \
            SET client_encoding TO LATIN1; SET default_transaction_read_only TO on; SET lock_timeout TO 7000\"\n\
            host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n",
            database.port(),
            database.name
        );
        let config = trusting(&database, 1).section("databases.odd", &name);
        let pooler = config.set("session_state", &format!("\"{session_state}\"")).start();
        let mut client = Raw::trusted(pooler.port(), "app", "odd");
        if session_state == "track" {
            let reads =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%reached%' \
                AND pid <> pg_backend_pid()";
            assert_eq!(database.sql(reads), "1", "it was read");
            assert!(!pooler.log().contains("catalog could not be read"), "{}", pooler.log());
        }
        rows(&mut client, settings)
    });
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_function_that_is_said_to_be_clean_costs_nothing_and_is_believed() {
    let database = Database::create("functions_trusted");
    database.sql(
        "CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            EXECUTE 'SELECT set_config(''app.tenant'', ''x'', false)'; RETURN new; END$$;
        CREATE TABLE audited (n int);
        CREATE TRIGGER t BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audits();
        GRANT ALL ON audited TO app",
    );
    for (trusted, seen) in [("", ""), ("audits", "x")] {
        let pooler = trusting(&database, 1).set("clean_functions", &format!("\"{trusted}\"")).start();
        app(&pooler).query("INSERT INTO audited VALUES (1)");
        let tenant = "SELECT coalesce(current_setting('app.tenant', true), '')";
        assert_eq!(app(&pooler).query(tenant), [seen], "{trusted:?}");
    }
}
