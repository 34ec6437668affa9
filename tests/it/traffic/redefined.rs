//! Texts that come to mean another thing: to whoever prepares them afterwards they mean the new one, whoever has changed it
//! and however.

use std::time::Duration;

use super::{app, asks, direct, rows, shown, trusting};
use crate::support::raw::{Raw, bind, execute, parse, query, sync};
use crate::support::{Database, PoolerConfig, wait_until};

/// Prepared by name, with one parameter.
fn runs(client: &mut Raw, sql: &str, value: &str) -> String {
    asks(client, &[parse("n", sql), bind("", "n", &[value.as_bytes()]), execute("", 0), sync()].concat())
}

/// The same without a name.
fn batch(client: &mut Raw, sql: &str, value: &str) -> String {
    asks(client, &[parse("", sql), bind("", "", &[value.as_bytes()]), execute("", 0), sync()].concat())
}

/// A table of whoever sees it, and code that hides it by a temporary one.
fn hidden(label: &str) -> Database {
    let database = Database::create(label);
    database.sql(
        "CREATE TABLE who (w text); INSERT INTO who VALUES ('in public'); GRANT ALL ON who TO PUBLIC; \
         CREATE FUNCTION mk() RETURNS int LANGUAGE plpgsql AS $$BEGIN \
         CREATE TEMP TABLE who ON COMMIT DROP AS SELECT 'in temp'::text AS w; RETURN 1; END$$; \
         CREATE FUNCTION lasting() RETURNS int LANGUAGE plpgsql AS $$BEGIN \
         CREATE TEMP TABLE who AS SELECT 'in temp'::text AS w; RETURN 1; END$$; \
         CREATE FUNCTION dynamic() RETURNS int LANGUAGE plpgsql AS $$BEGIN \
         EXECUTE 'CREATE TEMP TABLE who ON COMMIT DROP AS SELECT ''in temp''::text AS w'; RETURN 1; END$$",
    );
    database
}

const DELETE: &str = "DELETE FROM who WHERE w <> $1::text";

#[test]
fn a_table_that_code_has_hidden_is_not_touched() {
    let database = hidden("redefined_hidden");
    let pooler = trusting(&database, 1).start();
    let mut own = direct(&database);
    for hides in [
        query("SELECT mk()"),
        query("SELECT lasting()"),
        query("SELECT dynamic()"),
        [parse("", "SELECT mk()"), bind("", "", &[]), execute("", 0)].concat(),
        query("EXPLAIN ANALYZE CREATE TEMP TABLE who AS SELECT 'in temp'::text AS w"),
    ] {
        let (mut other, mut client) = (app(&pooler), app(&pooler));
        // The server has had a temporary schema before, so that PostgreSQL sees nothing new.
        asks(&mut other, &query("BEGIN; CREATE TEMP TABLE z (n int) ON COMMIT DROP; COMMIT"));
        asks(&mut other, &[parse("n", DELETE), sync()].concat());
        asks(&mut client, &query("BEGIN"));
        client.send(&hides);
        if hides[0] == b'Q' {
            assert!(!shown(&client.until(b'Z')).contains('['));
        }
        let answer = runs(&mut client, DELETE, "x");
        assert!(!answer.contains('['), "{answer}");
        asks(&mut client, &query("COMMIT"));
        assert_eq!(
            rows(&mut own, "SELECT w FROM who").concat(),
            ["in public"],
            "{:?}",
            String::from_utf8_lossy(&hides)
        );
        asks(&mut client, &query("DISCARD ALL"));
    }
}

/// A table of dates, and what makes one of moments of it.
fn dates(label: &str) -> Database {
    let database = Database::create(label);
    database.sql(
        "CREATE TABLE other (n int); GRANT ALL ON other TO PUBLIC; CREATE TABLE ty (at date); GRANT ALL ON ty TO PUBLIC; ALTER TABLE ty OWNER TO app; \
         CREATE FUNCTION mig() RETURNS int LANGUAGE plpgsql AS $$BEGIN ALTER TABLE ty ALTER at TYPE timestamp; RETURN 1; END$$; \
         CREATE FUNCTION dyn(text) RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE $1; RETURN 1; END$$",
    );
    database
}

/// What servers have of clients without a name.
const PREPARED: &str = "SELECT statement FROM pg_prepared_statements WHERE NOT from_sql";
const INSERT: &str = "INSERT INTO ty VALUES ($1)";
const ALTER: &str = "ALTER TABLE ty ALTER at TYPE timestamp";
const MOMENT: &str = "2024-05-06 17:18:19";

fn aliases(database: &Database) -> PoolerConfig {
    let more = |mode: &str| {
        let (port, name) = (database.port(), &database.name);
        format!("host = \"127.0.0.1\"\nport = {port}\ndbname = \"{name}\"\npool_mode = \"{mode}\"")
    };
    let config = trusting(database, 2);
    config.section("databases.alias", &more("transaction")).section("databases.whole", &more("session"))
}

fn stored(own: &mut Raw) -> Vec<String> {
    let stored = rows(own, "SELECT at::text FROM ty").concat();
    assert_eq!(asks(own, &query("TRUNCATE ty")), "CZ");
    stored
}

#[test]
fn types_of_parameters_are_those_of_now_whoever_has_altered_the_table() {
    let database = dates("redefined_types");
    let pooler = aliases(&database).start();
    let mut own = direct(&database);
    let by = |name: &str| Raw::trusted(pooler.port(), "app", name);
    let cases = [
        ("app", query(ALTER)),
        ("app", query("SELECT mig()")),
        ("app", [parse("", "SELECT mig()"), bind("", "", &[]), execute("", 0), sync()].concat()),
        ("app", query(&format!("SELECT dyn('{ALTER}')"))),
        ("app", query(&format!("DO $$BEGIN {ALTER}; END$$"))),
        ("app", [query("SELECT 1"), query("BEGIN"), query(ALTER), query("COMMIT")].concat()),
        ("alias", query(ALTER)),
        ("alias", query("SELECT mig()")),
        ("whole", query(ALTER)),
        ("whole", query(&format!("DO $$BEGIN {ALTER}; END$$"))),
    ];
    for (case, (name, alters)) in cases.into_iter().enumerate() {
        database.sql("ALTER TABLE ty ALTER at TYPE date");
        let insert = format!("{INSERT} /* {case} */");
        let (mut old, mut named, mut changes) = (by("app"), by("app"), by(name));
        wait_until("it to recur", LIMIT, || {
            assert_eq!(batch(&mut old, &insert, "2024-05-06"), "12CZ");
            rows(&mut old, PREPARED).concat().contains(&insert)
        });
        assert_eq!(runs(&mut named, &insert, "2024-05-06"), "12CZ");
        changes.send(&alters);
        let requests = alters.windows(5).filter(|it| it[0] == b'Q' && it[1..4] == [0, 0, 0]).count().max(1);
        (0..requests).for_each(|_| assert!(!shown(&changes.until(b'Z')).contains('[')));
        // What nobody knows anything of is not relied on in any case.
        let another = format!("SELECT n FROM other WHERE n = $1 /* {case} */");
        wait_until("the catalog to be known", LIMIT, || {
            batch(&mut old, &another, "1");
            rows(&mut old, PREPARED).concat().contains(&another)
        });
        stored(&mut own);
        for _ in 0..3 {
            assert_eq!(batch(&mut old, &insert, MOMENT), "12CZ");
            assert_eq!(runs(&mut by("app"), &insert, MOMENT), "12CZ");
        }
        assert_eq!(stored(&mut own), [MOMENT; 6], "{name} {:?}", String::from_utf8_lossy(&alters));
    }
}

#[test]
fn what_was_changed_past_the_pooler_is_noticed() {
    let database = dates("redefined_past");
    database.sql(
        "CREATE ROLE redefined_reader; GRANT redefined_reader TO app; CREATE TABLE safe (n int); INSERT INTO safe VALUES (1); \
         GRANT ALL ON safe TO PUBLIC; ALTER TABLE safe ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON safe TO redefined_reader USING (true)",
    );
    let pooler = trusting(&database, 2).set("catalog_refresh", "\"1s\"").start();
    const READ: &str = "SELECT n FROM safe WHERE n < $1::int";
    let fresh = |sql: &str, value: &str| runs(&mut app(&pooler), sql, value);
    let (mut holds, mut reads) = (app(&pooler), app(&pooler));
    assert_eq!((runs(&mut holds, INSERT, "2024-05-06"), runs(&mut reads, READ, "5")), ("12CZ".into(), "12DCZ".into()));
    let mut own = direct(&database);
    database.sql(&format!("{ALTER}; REVOKE redefined_reader FROM app"));
    wait_until("the new type", LIMIT, || {
        fresh(INSERT, MOMENT);
        stored(&mut own).last().is_some_and(|stored| stored == MOMENT)
    });
    wait_until("the right to be gone", LIMIT, || fresh(READ, "5") == "12CZ");
    database.sql("DROP POLICY p ON safe; DROP ROLE redefined_reader");
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn rights_that_were_revoked_through_the_pooler_are_gone() {
    let database = Database::create("redefined_rights");
    database.sql(
        "CREATE ROLE redefined_guest; GRANT redefined_guest TO app WITH ADMIN OPTION; CREATE TABLE safe (n int); \
         INSERT INTO safe VALUES (1); GRANT ALL ON safe TO PUBLIC; ALTER TABLE safe ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY p ON safe TO redefined_guest USING (true)",
    );
    let pooler = trusting(&database, 1).start();
    const READ: &str = "SELECT n FROM safe WHERE n < $1::int";
    let mut client = app(&pooler);
    wait_until("it to recur", LIMIT, || {
        assert_eq!(batch(&mut client, READ, "5"), "12DCZ");
        rows(&mut client, PREPARED).concat().contains(&READ.to_owned())
    });
    let mut named = app(&pooler);
    assert_eq!(runs(&mut named, READ, "5"), "12DCZ");
    asks(&mut app(&pooler), &query("REVOKE redefined_guest FROM app"));
    assert_eq!(batch(&mut client, READ, "5"), "12CZ");
    assert_eq!(runs(&mut app(&pooler), READ, "5"), "12CZ");
    database.sql("DROP POLICY p ON safe; DROP ROLE redefined_guest");
}

#[test]
fn a_query_that_makes_a_table_may_hide_another() {
    let database = Database::create("redefined_into");
    database.sql(
        "CREATE SCHEMA h; GRANT ALL ON SCHEMA h TO PUBLIC; CREATE TABLE public.who (w text); \
         INSERT INTO public.who VALUES ('in public'); GRANT ALL ON public.who TO PUBLIC",
    );
    let pooler = trusting(&database, 1).start();
    const READ: &str = "SELECT w FROM who WHERE w <> $1";
    let reads = |client: &mut Raw, name: &str| {
        client.send(&[parse(name, READ), bind("", name, &[b"x"]), execute("", 0), sync()].concat());
        let answer = client.until(b'Z');
        answer.iter().find(|message| message.tag == b'D').map(super::values).unwrap_or_default().concat()
    };
    let with_path = || {
        let mut client = app(&pooler);
        asks(&mut client, &query("SET search_path = h, public"));
        client
    };
    for makes in [
        query("SELECT 'in h'::text AS w INTO h.who"),
        query("WITH x AS (SELECT 'in h'::text AS w) SELECT * INTO h.who FROM x"),
        query("EXPLAIN ANALYZE CREATE TABLE h.who AS SELECT 'in h'::text AS w"),
        [parse("", "SELECT 'in h'::text AS w INTO h.who"), bind("", "", &[]), execute("", 0), sync()].concat(),
    ] {
        let mut client = with_path();
        wait_until("it to recur", LIMIT, || {
            assert_eq!(reads(&mut client, ""), "in public");
            rows(&mut client, PREPARED).concat().contains(&READ.to_owned())
        });
        let mut named = with_path();
        assert_eq!(reads(&mut named, "n"), "in public");
        let made = asks(&mut with_path(), &makes);
        assert!(!made.contains('['), "{made}");
        assert_eq!(reads(&mut client, ""), "in h");
        assert_eq!(reads(&mut with_path(), "n"), "in h");
        asks(&mut client, &query("DROP TABLE h.who"));
    }
}

#[test]
fn what_two_phases_define_counts_from_the_second_on() {
    let database = Database::create("redefined_phases");
    database.sql(
        "CREATE SCHEMA h; GRANT ALL ON SCHEMA h TO PUBLIC; CREATE TABLE public.who (w text); \
         INSERT INTO public.who VALUES ('in public'); GRANT ALL ON public.who TO PUBLIC; \
         GRANT CREATE ON SCHEMA public TO PUBLIC",
    );
    let pooler = trusting(&database, 1).start();
    let reads = |client: &mut Raw| rows(client, "SELECT current_setting('app.tenant', true)").concat().concat();
    let prepares = |named: &str, makes: &str| {
        let mut client = app(&pooler);
        for text in ["BEGIN", makes, &format!("PREPARE TRANSACTION '{named}'")] {
            assert_eq!(asks(&mut client, &query(text)), "CZ");
        }
    };
    let in_path = || {
        let mut client = app(&pooler);
        asks(&mut client, &query("SET search_path = h, public"));
        client
    };
    const READ: &str = "SELECT w FROM who WHERE w <> $1";
    let read = |client: &mut Raw| {
        client.send(&[parse("n", READ), bind("", "n", &[b"x"]), execute("", 0), sync()].concat());
        client.until(b'Z').iter().find(|message| message.tag == b'D').map(super::values).unwrap_or_default().concat()
    };
    for phase in [query("COMMIT PREPARED 'redefined'"), extended_alone("commit prepared $$redefined$$")] {
        prepares("redefined", "CREATE TABLE h.who AS SELECT 'in h'::text AS w");
        let mut keeps = in_path();
        assert_eq!(read(&mut keeps), "in public");
        assert!(!asks(&mut app(&pooler), &phase).contains('['));
        assert_eq!(read(&mut in_path()), "in h");
        asks(&mut keeps, &query("DROP TABLE h.who"));
    }
    prepares(
        "redefined",
        "CREATE FUNCTION meddles() RETURNS int LANGUAGE plpgsql AS $$BEGIN \
         PERFORM set_config('app.tenant', 'x', false); RETURN 1; END$$",
    );
    wait_until("the catalog to be known", LIMIT, || {
        batch(&mut app(&pooler), READ, "x");
        rows(&mut app(&pooler), PREPARED).concat().contains(&READ.to_owned())
    });
    asks(&mut app(&pooler), &query("COMMIT PREPARED 'redefined'"));
    asks(&mut app(&pooler), &query("SELECT meddles()"));
    assert_eq!(reads(&mut app(&pooler)), "");
}

/// One statement by the extended protocol.
fn extended_alone(text: &str) -> Vec<u8> {
    [parse("", text), bind("", "", &[]), execute("", 0), sync()].concat()
}

#[test]
fn a_function_that_a_client_with_a_server_of_its_own_makes_is_known() {
    let database = Database::create("redefined_pinned");
    database.sql("GRANT ALL ON SCHEMA public TO PUBLIC; CREATE TABLE other (n int); GRANT ALL ON other TO PUBLIC");
    let pooler = trusting(&database, 2).start();
    let (mut pinned, mut other) = (app(&pooler), app(&pooler));
    asks(&mut pinned, &query("SELECT pg_advisory_lock(3)"));
    let function = "CREATE FUNCTION leak() RETURNS text LANGUAGE plpgsql AS \
        $$BEGIN RETURN set_config('work_mem', '9MB', false); END$$";
    asks(&mut pinned, &[parse("", function), sync()].concat());
    const ANOTHER: &str = "SELECT n FROM other WHERE n = $1";
    wait_until("the catalog to be known", LIMIT, || {
        batch(&mut other, ANOTHER, "1");
        rows(&mut other, PREPARED).concat().contains(&ANOTHER.to_owned())
    });
    assert_eq!(asks(&mut pinned, &[bind("", "", &[]), execute("", 0), sync()].concat()), "2CZ");
    for _ in 0..3 {
        let leaks = rows(&mut app(&pooler), "SELECT leak()").concat();
        assert_eq!(leaks, ["9MB"]);
        assert_ne!(rows(&mut other, "SELECT current_setting('work_mem')").concat(), leaks);
    }
}
