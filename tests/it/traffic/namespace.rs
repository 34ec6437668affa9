//! Statements prepared by SQL and by the protocol have their names in one place, as on a connection of one's own.

use super::{app, direct, rows, shown, trusting, values};
use crate::support::Database;
use crate::support::raw::{Raw, bind, execute, extended, parse, query, sync, target};

/// The answer, rows by their values.
fn asks(client: &mut Raw, bytes: &[u8]) -> String {
    client.send(bytes);
    let parts = client.until(b'Z').into_iter().map(|message| match message.tag {
        b'D' => format!("{:?}", values(&message)),
        _ => shown(&[message]),
    });
    parts.collect()
}

fn prepares(text: &str) -> Vec<u8> {
    [parse("n", text), sync()].concat()
}

fn runs() -> Vec<u8> {
    [bind("", "n", &[b"7"]), execute("", 0), sync()].concat()
}

fn said(text: &str) -> Vec<u8> {
    [extended(text), sync()].concat()
}

const BY_PROTOCOL: &str = "SELECT $1::int, 'protocol'";
const OTHERS: &str = "2[\"7\", \"others\"]CZ";
const BY_SQL: &str = "PREPARE n (int) AS SELECT $1, 'sql'";

/// What is sent one after another, each up to a ReadyForQuery.
fn scripts() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (p, q) = (|| prepares(BY_PROTOCOL), query);
    vec![
        ("dropped", vec![p(), q("DEALLOCATE n"), runs(), q("DEALLOCATE n"), p(), runs()]),
        ("dropped, extended", vec![p(), said("DEALLOCATE PREPARE \"n\""), runs(), p(), runs()]),
        ("in a block", vec![q("BEGIN"), p(), q("DEALLOCATE n"), runs(), q("ROLLBACK"), p(), runs()]),
        ("before a block", vec![p(), q("BEGIN"), q("DEALLOCATE n"), q("ROLLBACK"), runs()]),
        ("in a failed block", vec![p(), q("BEGIN"), q("x"), q("DEALLOCATE n"), q("ROLLBACK"), runs()]),
        ("several", vec![p(), q("DEALLOCATE n; SELECT 1"), runs(), p(), q("SELECT 1; DEALLOCATE n"), runs()]),
        ("not reached", vec![p(), q("SELECT 1/0; DEALLOCATE n"), runs(), q("EXECUTE n(1)"), q("DEALLOCATE n"), runs()]),
        (
            "anew at once",
            vec![p(), [parse("", "DEALLOCATE n"), bind("", "", &[]), execute("", 0), p()].concat(), runs()],
        ),
        (
            "behind BEGIN at once",
            vec![p(), [q("BEGIN; DEALLOCATE n"), runs()].concat(), vec![], q("ROLLBACK"), p(), runs()],
        ),
        (
            "behind COMMIT at once",
            vec![p(), q("BEGIN"), [q("COMMIT; DEALLOCATE n"), runs()].concat(), vec![], p(), runs()],
        ),
        ("sent at once", vec![p(), [q("SELECT 2"), q("DEALLOCATE n")].concat(), vec![], runs(), p(), runs()]),
        ("executed", vec![p(), q("EXECUTE n(3)"), said("EXECUTE n(4)"), q("EXPLAIN (COSTS OFF) EXECUTE n(5)"), runs()]),
        ("executed, dropped", vec![p(), q("EXECUTE n(3)"), q("DEALLOCATE n"), q("EXECUTE n(3)"), runs(), p(), runs()]),
        (
            "executed, closed",
            vec![p(), q("EXECUTE n(3)"), [target(b'C', b'S', "n"), sync()].concat(), q("EXECUTE n(3)")],
        ),
        ("executed, all dropped", vec![p(), q("EXECUTE n(3)"), q("DEALLOCATE ALL"), q("EXECUTE n(3)"), p(), runs()]),
        ("taken", vec![p(), q(BY_SQL), runs(), said(BY_SQL), runs(), q("EXECUTE n(3)"), q("DEALLOCATE n"), q(BY_SQL)]),
        ("taken in a block", vec![p(), q("BEGIN"), q(BY_SQL), q("SELECT 1"), q("ROLLBACK"), runs()]),
        ("taken by SQL", vec![q(BY_SQL), p(), q("EXECUTE n(3)"), runs(), q("DEALLOCATE n"), p(), runs()]),
    ]
}

/// More of them.
fn scripts_of_other_ways() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (p, q) = (|| prepares(BY_PROTOCOL), query);
    vec![
        (
            "bound",
            vec![
                q(BY_SQL),
                runs(),
                [target(b'D', b'S', "n"), sync()].concat(),
                q("BEGIN"),
                runs(),
                q("ROLLBACK"),
                runs(),
            ],
        ),
        ("closed", vec![q(BY_SQL), [target(b'C', b'S', "n"), sync()].concat(), q("EXECUTE n(3)"), runs(), p(), runs()]),
        ("not there", vec![q("DEALLOCATE n"), q("EXECUTE n(3)"), runs(), p(), q("DEALLOCATE \"N\""), runs()]),
        (
            "changed",
            vec![
                q("CREATE TABLE IF NOT EXISTS changed (a int)"),
                prepares("SELECT a FROM changed WHERE a = $1::int"),
                runs(),
                q("DROP TABLE changed"),
                q("EXECUTE n(3)"),
                q("DEALLOCATE n"),
                q("EXECUTE n(3)"),
                p(),
                runs(),
            ],
        ),
        (
            "changed in a block",
            vec![
                q("CREATE TABLE IF NOT EXISTS changed (a int)"),
                prepares("SELECT a FROM changed WHERE a = $1::int"),
                runs(),
                q("DROP TABLE changed"),
                q("BEGIN"),
                q("DEALLOCATE n"),
                q("SELECT 1"),
                q("COMMIT"),
                runs(),
            ],
        ),
    ]
}

/// Where the statement is prepared before a text that has more to it.
fn scripts_of_longer_texts() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (p, q) = (|| prepares(BY_PROTOCOL), query);
    vec![
        ("executed behind BEGIN", vec![p(), q("BEGIN; EXECUTE n(3); DEALLOCATE n; COMMIT"), q("EXECUTE n(3)"), runs()]),
        (
            "executed behind BEGIN with a level",
            vec![p(), q("BEGIN ISOLATION LEVEL SERIALIZABLE; EXECUTE n(3)"), q("EXECUTE n(4)"), q("COMMIT"), runs()],
        ),
        (
            "made a table of",
            vec![
                p(),
                q("CREATE TEMP TABLE made AS EXECUTE n(3)"),
                q("SELECT * FROM made"),
                q("EXPLAIN (COSTS OFF) CREATE TABLE made AS EXECUTE n(3)"),
                q("DROP TABLE made"),
                q("CREATE TEMP TABLE IF NOT EXISTS made AS EXECUTE n(4) WITH NO DATA"),
                q("DROP TABLE made"),
                runs(),
            ],
        ),
    ]
}

/// Where something is refused on the way.
fn scripts_of_mishaps() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (p, q) = (|| prepares(BY_PROTOCOL), query);
    vec![
        (
            "refused, closed",
            vec![p(), [extended("EXECUTE n(3)"), refused(), closes()].concat(), q("EXECUTE n(3)"), runs()],
        ),
        (
            "refused, dropped",
            vec![p(), [extended("DEALLOCATE n"), refused(), closes()].concat(), q("DEALLOCATE n"), p()],
        ),
        (
            "refused, dropped, executed",
            vec![
                p(),
                [extended("DEALLOCATE n"), extended("EXECUTE n(3)"), refused(), sync()].concat(),
                runs(),
                q("EXECUTE n(3)"),
                [refused(), closes()].concat(),
                q("EXECUTE n(3)"),
                q("DEALLOCATE n"),
            ],
        ),
        (
            "changed, executed, dropped in a block",
            vec![
                q("CREATE TABLE IF NOT EXISTS changed (a int)"),
                prepares("SELECT a FROM changed WHERE a = $1::int"),
                q("DROP TABLE changed"),
                q("BEGIN"),
                q("SAVEPOINT a"),
                q("EXECUTE n(3)"),
                q("ROLLBACK TO a"),
                q("DEALLOCATE n"),
                q("COMMIT"),
                p(),
                runs(),
            ],
        ),
        (
            "changed, executed, dropped with a server kept",
            vec![
                q("CREATE TABLE IF NOT EXISTS changed (a int)"),
                q("CREATE TEMP TABLE keeps ()"),
                prepares("SELECT a FROM changed WHERE a = $1::int"),
                q("DROP TABLE changed"),
                q("EXECUTE n(3)"),
                q("DEALLOCATE n"),
                p(),
                runs(),
                q("DROP TABLE keeps"),
            ],
        ),
        ("read, refused, closed", vec![p(), [parse("", "EXECUTE n(3)"), refused(), closes()].concat()]),
        ("read for dropping, refused, closed", vec![p(), [parse("", "DEALLOCATE n"), refused(), closes()].concat()]),
        (
            "closed behind what is refused",
            vec![p(), [refused(), closes(), q("EXECUTE n(3)")].concat(), vec![], q("DEALLOCATE n"), p()],
        ),
    ]
}

/// A request that PostgreSQL refuses, without its Sync.
fn refused() -> Vec<u8> {
    execute("nobody's", 0)
}

fn closes() -> Vec<u8> {
    [target(b'C', b'S', "n"), sync()].concat()
}

fn plays(client: &mut Raw, script: &[Vec<u8>]) -> Vec<String> {
    let last = query("DEALLOCATE ALL");
    script.iter().chain([&last]).map(|bytes| asks(client, bytes)).collect()
}

#[test]
fn names_of_sql_and_of_the_protocol_are_the_same() {
    let database = Database::create("namespace");
    database.sql("GRANT CREATE ON SCHEMA public TO PUBLIC");
    let mut own = direct(&database);
    for size in [1, 2] {
        let pooler = trusting(&database, size).start();
        for (label, script) in
            [scripts(), scripts_of_other_ways(), scripts_of_longer_texts(), scripts_of_mishaps()].concat()
        {
            let expected = plays(&mut own, &script);
            let (mut client, mut other) = (app(&pooler), app(&pooler));
            asks(&mut other, &prepares("SELECT $1::int, 'others'"));
            assert_eq!(plays(&mut client, &script), expected, "{label}");
            // Another that leaves as it is.
            let mut leaves = app(&pooler);
            script.iter().for_each(|bytes| _ = asks(&mut leaves, bytes));
            leaves.cut();
            assert_eq!(asks(&mut other, &runs()), OTHERS, "{label}");
            let left = rows(&mut other, "SELECT name FROM pg_prepared_statements WHERE from_sql OR name = 'n'");
            assert!(left.is_empty(), "{label}: {left:?}");
        }
    }
}

#[test]
fn whoever_drops_a_statement_keeps_no_server() {
    let database = Database::create("namespace_free");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    for drops in [query("DEALLOCATE n"), said("DEALLOCATE n"), query("SELECT 1/0; DEALLOCATE n")] {
        asks(&mut client, &prepares(BY_PROTOCOL));
        asks(&mut client, &drops);
        assert_eq!(rows(&mut other, "SELECT 1").concat(), ["1"], "the server is free");
        asks(&mut client, &query("DEALLOCATE ALL"));
    }
    // Whom another client's statement of that name belongs to does not matter.
    asks(&mut other, &prepares("SELECT $1::int, 'others'"));
    assert_eq!(asks(&mut client, &query("DEALLOCATE n")), "[26000 prepared statement \"n\" does not exist]Z");
    assert_eq!(asks(&mut other, &runs()), OTHERS);
}

#[test]
fn what_only_stands_for_a_statement_is_never_executed() {
    let database = Database::create("namespace_stands");
    database.sql("CREATE TABLE kept (n int); GRANT ALL ON kept TO PUBLIC");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    // It keeps its server.
    asks(&mut client, &query("CREATE TEMP TABLE keeps ()"));
    let inserts = "INSERT INTO kept VALUES (7)";
    asks(&mut client, &prepares(inserts));
    for stands in ["SELECT 1/0; DEALLOCATE n", "PREPARE n AS SELECT 1"] {
        asks(&mut client, &query(stands));
        for executes in ["EXECUTE n", "EXECUTE n(NULL)", "EXECUTE n(7)", "EXECUTE n(NULL::text)"] {
            let answer = asks(&mut client, &query(&format!("DO $$BEGIN EXECUTE '{executes}'; END$$")));
            assert!(answer.contains('['), "{executes}: {answer}");
        }
        for behind in ["BEGIN; EXECUTE n; COMMIT", "BEGIN; SAVEPOINT a; SELECT 1/0"] {
            asks(&mut client, &query(behind));
        }
        let answer = asks(&mut client, &query("ROLLBACK TO a; EXECUTE n; COMMIT"));
        let said = answer.contains('[');
        asks(&mut client, &query("ROLLBACK"));
        let inserted = rows(&mut client, "DELETE FROM kept RETURNING n").concat();
        assert_eq!(inserted, vec!["7"; if said { 1 } else { 2 }], "{answer}");
        asks(&mut client, &query("DEALLOCATE n"));
        asks(&mut client, &prepares(inserts));
    }
}

#[test]
fn a_name_like_those_that_servers_have_of_us_is_only_a_name() {
    let database = Database::create("namespace_ours");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    asks(&mut other, &prepares("SELECT $1::int, 'others'"));
    let ours = rows(&mut other, "SELECT name FROM pg_prepared_statements WHERE statement LIKE '%others%'").concat();
    asks(&mut client, &[parse(&ours[0], BY_PROTOCOL), sync()].concat());
    for asked in ["EXECUTE \"{}\"", "EXECUTE \"{}\"(1)", "PREPARE \"{}\" AS SELECT 1"] {
        asks(&mut client, &query(&asked.replace("{}", &ours[0])));
        let run = asks(&mut client, &[bind("", &ours[0], &[b"7"]), execute("", 0), sync()].concat());
        assert_eq!(run, "2[\"7\", \"protocol\"]CZ", "{asked}");
        assert_eq!(asks(&mut other, &runs()), OTHERS, "{asked}");
    }
    asks(&mut client, &query("DISCARD ALL"));
    assert_eq!(asks(&mut other, &runs()), OTHERS);
}
