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

fn plays(client: &mut Raw, script: &[Vec<u8>], mut between: impl FnMut()) -> Vec<String> {
    let mut answers = Vec::new();
    for bytes in script {
        answers.push(asks(client, bytes));
        between();
    }
    answers.push(asks(client, &query("DEALLOCATE ALL")));
    answers
}

#[test]
fn names_of_sql_and_of_the_protocol_are_the_same() {
    let database = Database::create("namespace");
    database.sql("GRANT CREATE ON SCHEMA public TO PUBLIC");
    let mut own = direct(&database);
    for size in [1, 2] {
        let pooler = trusting(&database, size).start();
        for (label, script) in scripts() {
            let expected = plays(&mut own, &script, || ());
            let (mut client, mut other) = (app(&pooler), app(&pooler));
            asks(&mut other, &prepares("SELECT $1::int, 'others'"));
            assert_eq!(plays(&mut client, &script, || ()), expected, "{label}");
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
