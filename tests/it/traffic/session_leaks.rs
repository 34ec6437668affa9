//! What is left in a session by ways that no word of the text shows: whoever leaves it keeps his server, or it is undone,
//! and nobody else ever sees it.

use std::time::Duration;

use super::session_functions::{pooler, resets};
use super::{app, asks, rows, trusting};
use crate::support::pooler::Pooler;
use crate::support::raw::{Raw, V3_0, bind, execute, extended, message, parse, query, startup, sync};
use crate::support::{Database, wait_until};

/// What a session of a client that has done nothing is like.
const FRESH: &str = "SELECT current_setting('work_mem'), nullif(current_setting('app.tenant', true), ''), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_depend WHERE refobjid = pg_my_temp_schema())";

fn logged_in(pooler: &Pooler, wishes: &[(&str, &str)]) -> Raw {
    let mut client = Raw::tcp(pooler.port());
    client.send(&startup(V3_0, &[&[("user", "app"), ("database", "app")], wishes].concat()));
    client.until(b'Z');
    client
}

/// A database where `app` may make what it likes.
fn creative(label: &str, sql: &str) -> Database {
    let database = Database::create(label);
    database
        .sql(&format!("GRANT CREATE ON SCHEMA public TO app; {sql}; GRANT ALL ON ALL TABLES IN SCHEMA public TO app"));
    database
}

/// Nobody else sees what this client leaves, be it while it is there or when it is gone.
#[track_caller]
fn leaves_nothing(pooler: &Pooler, mut client: Raw, texts: &[&str], fresh: &[Vec<String>]) {
    for text in texts {
        let answer = asks(&mut client, &query(text));
        assert!(!answer.contains('['), "{text}: {answer}");
    }
    client.cut();
    assert_eq!(rows(&mut app(pooler), FRESH), fresh, "{texts:?}");
}

/// Functions that make what is temporary only by the `search_path`.
const MAKERS: &str = "
    CREATE FUNCTION by_set() RETURNS int LANGUAGE plpgsql AS $$BEGIN
        SET LOCAL search_path TO 'pg_temp'; CREATE TABLE made (n int); RETURN 1; END$$;
    CREATE FUNCTION by_clause() RETURNS int LANGUAGE plpgsql SET search_path = pg_temp AS $$BEGIN
        CREATE TABLE made (n int); RETURN 1; END$$;
    CREATE FUNCTION by_config() RETURNS int LANGUAGE plpgsql AS $$BEGIN
        PERFORM set_config('search_path', 'pg_te' || 'mp', true); CREATE SEQUENCE made; RETURN 1; END$$;
    CREATE FUNCTION by_query() RETURNS int LANGUAGE sql SET search_path = nosuch, pg_temp
        AS $$SELECT 1 AS n INTO made; SELECT 1$$;
    CREATE TABLE triggers (n int);
    CREATE FUNCTION by_trigger() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_temp AS $$BEGIN
        CREATE TYPE made AS (n int); RETURN new; END$$;
    CREATE TRIGGER t BEFORE INSERT ON triggers FOR EACH ROW EXECUTE FUNCTION by_trigger()";

#[test]
fn what_is_temporary_by_the_search_path_nobody_else_sees() {
    let database = creative("leaks_path", MAKERS);
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    let set = "SET search_path = pg_temp";
    for texts in [
        &["SELECT by_set()"][..],
        &["SELECT by_clause()"],
        &["SELECT by_config()"],
        &["SELECT by_query()"],
        &["INSERT INTO triggers VALUES (1)"],
        &["DO $$BEGIN SET LOCAL search_path TO 'pg_temp'; CREATE TABLE made (n int); END$$"],
        &["BEGIN", "SELECT set_config('search_path', 'pg_temp', true)", "CREATE TABLE made (n int)", "COMMIT"],
        &["BEGIN; SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE made (n int); COMMIT"],
        &["BEGIN", "SET LOCAL search_path TO E'pg\\x5ftemp'", "CREATE TABLE made (n int)", "COMMIT"],
        &["SET search_path TO U&'pg\\005ftemp'", "CREATE TABLE made (n int)"],
        &["SELECT set_config('search_path', 'nosuch, PG_TEMP', false)", "CREATE TABLE made (n int)"],
        &[set, "CREATE TABLE made AS SELECT 1 AS n"],
        &[set, "SELECT 1 AS n INTO made"],
        &[set, "with a as (select 1) select * Into made from a"],
        &[set, "EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1 AS n"],
        &[set, "CREATE VIEW made AS SELECT 1 AS n"],
        &[set, "CREATE SEQUENCE made"],
        &[set, "CREATE TYPE made AS ENUM ('a')"],
        &[set, "CREATE DOMAIN made AS int"],
        &[set, "CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        &[set, "CREATE AGGREGATE made (int) (SFUNC = int4pl, STYPE = int)"],
        &[set, "CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)"],
        &[set, "CREATE COLLATION made FROM \"C\""],
        &[set, "CREATE TEXT SEARCH CONFIGURATION made (COPY = pg_catalog.english)"],
        &["EXPLAIN ANALYZE CREATE TABLE pg_temp.made AS SELECT 1 AS n"],
    ] {
        leaves_nothing(&pooler, app(&pooler), texts, &fresh);
    }
    let wishes = [[("options", "-c search_path=pg_temp")], [("search_path", "nosuch, pg_temp")]];
    for wishes in wishes {
        leaves_nothing(&pooler, logged_in(&pooler, &wishes), &["CREATE TABLE made (n int)"], &fresh);
    }
}

#[test]
fn nor_what_is_so_by_the_default_of_a_role_or_a_database() {
    let database = creative("leaks_default", "SELECT 1");
    database.sql(&format!("ALTER DATABASE \"{}\" SET search_path = nosuch, pg_temp", database.name));
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    leaves_nothing(&pooler, app(&pooler), &["CREATE TABLE made (n int)"], &fresh);
    // With the next message right behind it, and in a pipeline.
    for bytes in [
        [query("CREATE TABLE made (n int)"), query("SELECT 1")].concat(),
        [parse("s", "CREATE TABLE made (n int)"), bind("", "s", &[]), execute("", 0), sync(), query("SELECT 1")]
            .concat(),
        [extended("CREATE TABLE made (n int)"), sync(), extended("SELECT 1"), sync()].concat(),
    ] {
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        one.send(&bytes);
        (0..2).for_each(|_| drop(one.until(b'Z')));
        two.send(&query(FRESH));
        assert_eq!(rows(&mut one, "SELECT count(*) FROM made").concat(), ["0"], "it has what it has made");
        one.cut();
        let answer = two.until(b'Z');
        let seen: Vec<_> = answer.iter().filter(|message| message.tag == b'D').map(super::values).collect();
        assert_eq!(seen, fresh);
    }
    drop(pooler);
}

#[test]
fn it_ties_its_client_until_it_is_dropped_and_what_is_not_temporary_ties_nobody() {
    let database = creative("leaks_ties", MAKERS);
    let pooler = trusting(&database, 2).set("server_round_robin", "true").start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    one.query("BEGIN");
    two.query("SELECT 1");
    one.query("COMMIT");
    let pid = |client: &mut Raw| rows(client, "SELECT pg_backend_pid()").concat().concat();
    // One of them may just be reading the catalog.
    let takes_turns = |client: &mut Raw, when: &str| {
        wait_until(&format!("servers to take turns: {when}"), Duration::from_secs(20), || pid(client) != pid(client));
    };
    for text in [
        "SET search_path = public, pg_temp",
        "CREATE TABLE plain (n int)",
        "DROP TABLE plain",
        "SELECT 1 AS n INTO plain",
    ] {
        asks(&mut one, &query(text));
        takes_turns(&mut one, text);
    }
    asks(&mut one, &query("SET search_path = nosuch, pg_temp"));
    takes_turns(&mut one, "nothing is made yet");
    for text in ["CREATE TABLE made (n int)", "CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)"]
    {
        asks(&mut one, &query(text));
        let mine = pid(&mut one);
        for _ in 0..3 {
            assert_eq!(pid(&mut one), mine, "{text}");
            assert_ne!(pid(&mut two), mine, "{text}");
        }
    }
    asks(&mut one, &query("DROP TABLE made"));
    assert_eq!(pid(&mut one), pid(&mut one), "the operator is still there");
    asks(&mut one, &query("DROP OPERATOR pg_temp.=== (int, int)"));
    takes_turns(&mut one, "all is dropped");
}

#[test]
fn where_nobody_keeps_a_server_it_is_undone() {
    for pin in ["\"off\"", "\"error\""] {
        let database = creative("leaks_unpinned", "SELECT 1");
        let pooler = trusting(&database, 1).set("pin", pin).start();
        let fresh = rows(&mut app(&pooler), FRESH);
        let mut client = app(&pooler);
        for text in ["SET search_path = pg_temp", "CREATE TABLE made (n int)"] {
            assert_eq!(asks(&mut client, &query(text)), "CZ");
        }
        assert_eq!(rows(&mut app(&pooler), FRESH), fresh, "{pin}");
    }
}

#[test]
fn whoever_writes_the_settings_by_a_view_of_them_sets_one() {
    let update = "SET setting = '9MB' WHERE name = 'work_mem'";
    let views = format!(
        "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO app;
        CREATE VIEW other.one AS SELECT * FROM pg_settings; GRANT ALL ON other.one TO app;
        CREATE VIEW two AS SELECT name, setting FROM other.one;
        CREATE TABLE ruled (n int); CREATE RULE r AS ON INSERT TO ruled DO ALSO UPDATE pg_settings {update};
        CREATE FUNCTION writes() RETURNS void LANGUAGE plpgsql AS $$BEGIN UPDATE two {update}; END$$;
        CREATE FUNCTION parsed() RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE pg_settings {update}; END"
    );
    let database = creative("leaks_settings", &views);
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    for texts in [
        &[&*format!("UPDATE other.one {update}")][..],
        &[&*format!("UPDATE/**/two {update}")],
        &["INSERT INTO ruled VALUES (1)"],
        &["SELECT writes()"],
        &["SELECT parsed()"],
        &[&*format!("EXPLAIN ANALYZE UPDATE pg_settings {update}")],
        &[&*format!("UPDATE U&\"pg\\005fsettings\" {update}")],
        &[&*format!("UPDATE U&\"pg_setting\\0073\" {update}")],
        &[&*format!("UPDATE U&\"pg!005fsettings\" UESCAPE '!' {update}")],
        &[&*format!("WITH x AS (SELECT 1) UPDATE pg_settings {update}")],
        &["SELECT U&\"set!005fconfig\" UESCAPE '!' ('work_mem', '9MB', false)"],
        &["SELECT U&\"set!005fconfig\" UESCAPE $$!$$('work_mem', '9MB', false)"],
        &["CREATE VIEW mine AS TABLE pg_settings", &*format!("UPDATE mine {update}")],
        &["CREATE TEMP VIEW passing AS TABLE pg_settings", &*format!("UPDATE passing {update}"), "DROP VIEW passing"],
    ] {
        leaves_nothing(&pooler, app(&pooler), texts, &fresh);
    }
}

/// Code that runs where no name tells of it.
const UNNAMED: &str = "
    CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO app;
    CREATE FUNCTION other.never(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR other.= (FUNCTION = other.never, LEFTARG = oid, RIGHTARG = oid);
    CREATE FUNCTION locks(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_advisory_lock_shared(8); RETURN 1; END$$;
    CREATE TABLE indexed (n int); INSERT INTO indexed VALUES (1); CREATE INDEX by_lock ON indexed (locks(n));
    CREATE TABLE referenced (n int PRIMARY KEY); CREATE TABLE referencing (n int REFERENCES referenced);
    CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN SET app.tenant = 'x'; RETURN NULL; END$$;
    CREATE TRIGGER t BEFORE TRUNCATE ON referencing EXECUTE FUNCTION sets();
    ALTER TABLE indexed OWNER TO app; ALTER TABLE referenced OWNER TO app; ALTER TABLE referencing OWNER TO app;
    SET standard_conforming_strings = off;
    CREATE FUNCTION escapes() RETURNS text LANGUAGE plpgsql SET standard_conforming_strings = off AS $$
        DECLARE x text; BEGIN x := 'a\\' || '; SET app.tenant = 1; --';
        RETURN x; END$$";

#[test]
fn code_that_no_name_tells_of_leaves_nothing() {
    let database = creative("leaks_unnamed", UNNAMED);
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    let hides = "SET search_path = other, pg_catalog, public";
    for texts in [
        &[hides, "SET search_path = nosuch, pg_temp, other, pg_catalog", "CREATE TABLE made (n int)"][..],
        &[hides, "CREATE TEMP TABLE made (n int)", "CREATE TEMP TABLE more (n int)", "DROP TABLE more"],
        &["ANALYZE"],
        &["REINDEX INDEX by_lock"],
        &["TRUNCATE referenced CASCADE"],
        &["SELECT escapes()"],
    ] {
        leaves_nothing(&pooler, app(&pooler), texts, &fresh);
    }
}

#[test]
fn code_within_code_and_tables_within_queries_are_seen() {
    let functions = "
        CREATE FUNCTION in_sql() RETURNS int LANGUAGE sql AS
            $f$DO $$BEGIN PERFORM set_config('app.tenant', 'x', false); END$$; SELECT 1$f$;
        CREATE FUNCTION in_plpgsql() RETURNS int LANGUAGE plpgsql AS
            $f$BEGIN DO LANGUAGE plpgsql 'BEGIN PERFORM pg_advisory_lock(7); END'; RETURN 1; END$f$";
    let database = creative("leaks_code", functions);
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    for text in ["SELECT in_sql()", "SELECT in_plpgsql()", "DO $f$BEGIN DO $$BEGIN SET app.tenant = 'x'; END$$; END$f$"]
    {
        leaves_nothing(&pooler, app(&pooler), &[text], &fresh);
    }
}

/// A text that says something else by the settings of a request before it, on which it does not wait.
#[test]
fn a_text_is_read_by_what_is_set_right_before_it() {
    let database = creative("leaks_dialect", "SELECT 1");
    let pooler = trusting(&database, 1).start();
    let fresh = rows(&mut app(&pooler), FRESH);
    let parse = |name: &str, text: &[u8]| message(b'P', &[name.as_bytes(), b"\0", text, b"\0\0\0"].concat());
    let run = |name: &str| [bind("", name, &[]), execute("", 0)].concat();
    let simple = |text: &[u8]| message(b'Q', &[text, b"\0"].concat());
    let all = |text: &[u8]| [parse("", text), run("")].concat();
    let (flush, fails) = (message(b'H', b""), b"SELECT 1 / 0");
    for (set, text) in [
        (
            &b"SET standard_conforming_strings = off"[..],
            &b"SELECT 'a\\' --', set_config('work_mem', '9MB', false)\n"[..],
        ),
        (b"SET client_encoding = 'SJIS'", b"SELECT E'\x95\\', set_config('work_mem', '9MB', false)"),
        (b"SET client_encoding = 'GBK'", b"SELECT E'\x81\\', pg_advisory_lock(5)"),
    ] {
        for (pieces, readies) in [
            (vec![simple(set), simple(text)], 2),
            (vec![all(set), sync(), all(text), sync()], 2),
            (vec![all(set), all(text), sync()], 1),
            (vec![all(set), simple(text)], 1),
            (vec![all(set), flush.clone(), parse("n", text), run("n"), sync()], 1),
            (vec![parse("n", text), sync(), simple(set), run("n"), sync()], 3),
        ] {
            let mut client = app(&pooler);
            client.send(&pieces.concat());
            (0..readies).for_each(|_| drop(client.until(b'Z')));
            client.cut();
            assert_eq!(rows(&mut app(&pooler), FRESH), fresh, "{}", String::from_utf8_lossy(&pieces.concat()));
        }
    }
    // What is set is undone by a failure behind it.
    let text = b"SELECT '\\', set_config('work_mem', '9MB', false) --'";
    let mut client = app(&pooler);
    client.send(&[all(b"SET standard_conforming_strings = off"), flush].concat());
    client.until(b'C');
    client.send(&[all(fails), sync(), simple(text)].concat());
    (0..2).for_each(|_| drop(client.until(b'Z')));
    client.cut();
    assert_eq!(rows(&mut app(&pooler), FRESH), fresh);
}

#[test]
fn a_short_timeout_is_gone_before_another_client_has_the_server() {
    let database = Database::create("leaks_timeouts");
    for (setting, hasty) in [
        ("statement_timeout = '40ms'", true),
        ("idle_session_timeout = '900ms'", true),
        ("statement_timeout = '30s'", false),
        ("lock_timeout = '1ms'", false),
    ] {
        let (pooler, port) = pooler(&database);
        let mut one = app(&pooler);
        asks(&mut one, &query(&format!("SET {setting}")));
        let timeouts = "SELECT current_setting('statement_timeout'), current_setting('idle_session_timeout')";
        assert_eq!(rows(&mut app(&pooler), timeouts), [["0", "0"]], "{setting}");
        assert_eq!(resets(&port) > 0, hasty, "{setting}");
        let (name, value) = setting.split_once(" = ").expect("both");
        assert_eq!(rows(&mut one, &format!("SHOW {name}")), [[value.trim_matches('\'')]], "{setting}");
    }
}
