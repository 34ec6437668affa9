//! Prepared statements that clients share servers for: how many a server keeps, who has what, what is forgotten.

use super::{app, direct, shown, trusting, values};
use crate::support::Database;
use crate::support::raw::{Raw, SYNC, bind, execute, extended, message, parse, query, sync, target};

/// What the server has prepared, asked for without preparing anything.
fn prepared(client: &mut Raw) -> Vec<String> {
    client.query("SELECT statement FROM pg_prepared_statements ORDER BY statement")
}

/// The answer to these frames and a Sync.
fn ask(client: &mut Raw, frames: &[Vec<u8>]) -> String {
    client.send(&[&frames.concat()[..], SYNC].concat());
    let answer = client.until(b'Z');
    let row = answer.iter().find(|message| message.tag == b'D').map(|row| values(row).concat());
    row.unwrap_or_else(|| shown(&answer))
}

fn run(client: &mut Raw, name: &str, value: &str) -> String {
    ask(client, &[bind("", name, &[value.as_bytes()]), execute("", 0)])
}

fn numbered(n: usize) -> (String, String) {
    (format!("name {n}"), format!("SELECT $1::text || ' {n}'"))
}

#[test]
fn a_server_keeps_no_more_statements_than_it_may_and_clients_do_not_notice() {
    let database = Database::create("statements_lru");
    let pooler = trusting(&database, 1).set("max_prepared_statements", "2").start();
    let mut clients = [app(&pooler), app(&pooler)];
    for client in &mut clients {
        for n in 0..10 {
            let (name, text) = numbered(n);
            assert_eq!(ask(client, &[parse(&name, &text)]), "1Z");
        }
    }
    for round in 0..5 {
        for (me, client) in clients.iter_mut().enumerate() {
            for n in (0..10).map(|n| (n * (round + 1) + me) % 10) {
                let token = format!("{me}.{round}");
                assert_eq!(run(client, &numbered(n).0, &token), format!("{token} {n}"));
                assert!(prepared(client).len() <= 2);
            }
            // All in one transaction, without a word between them.
            let frames: Vec<Vec<u8>> =
                (0..10).flat_map(|n| [bind("", &numbered(n).0, &[b"at once"]), execute("", 0)]).collect();
            client.send(&[&frames.concat()[..], SYNC].concat());
            let rows: Vec<_> =
                client.until(b'Z').iter().filter(|it| it.tag == b'D').map(|row| values(row).concat()).collect();
            assert_eq!(rows, (0..10).map(|n| format!("at once {n}")).collect::<Vec<_>>());
            assert_eq!(prepared(client).len(), 2);
        }
    }
}

#[test]
fn one_text_is_one_statement_whoever_prepares_it_under_whatever_name() {
    let database = Database::create("statements_shared");
    let pooler = trusting(&database, 1).start();
    let mut clients = [app(&pooler), app(&pooler), app(&pooler)];
    let text = "SELECT $1::text || ' shared'";
    for (n, client) in clients.iter_mut().enumerate() {
        for name in [format!("mine {n}"), "common".to_owned()] {
            assert_eq!(ask(client, &[parse(&name, text)]), "1Z");
            assert_eq!(run(client, &name, "x"), "x shared");
        }
    }
    let [one, other, _] = &mut clients;
    assert_eq!(prepared(one), [text]);
    // With other parameter types it is another.
    let typed = message(b'P', &[b"typed\0", text.as_bytes(), b"\0\0\x01\0\0\0\x19"].concat());
    assert_eq!(ask(one, &[typed]), "1Z");
    assert_eq!(prepared(one).len(), 2);
    // A name is the client's own: what one closes, the others keep.
    assert_eq!(ask(one, &[target(b'C', b'S', "common")]), "3Z");
    assert_eq!(run(one, "common", "x"), "[26000 prepared statement \"common\" does not exist]Z");
    assert_eq!(run(other, "common", "x"), "x shared");
    assert_eq!(run(other, "mine 0", "x"), "[26000 prepared statement \"mine 0\" does not exist]Z");
}

#[test]
fn deallocate_all_and_discard_all_forget_the_clients_own_statements_and_no_others() {
    let database = Database::create("statements_all");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    for forget in ["DEALLOCATE ALL", "DISCARD ALL", "deallocate /* */ all"] {
        for it in [&mut client, &mut other] {
            // The other has them from before.
            let _ = ask(it, &[parse("a", "SELECT $1::text || ' a'")]);
            let _ = ask(it, &[parse("b", "SELECT $1::text || ' b'")]);
        }
        assert_eq!(client.query(forget), [""; 0]);
        assert_eq!(prepared(&mut client), [""; 0], "{forget}");
        for name in ["a", "b"] {
            assert_eq!(run(&mut client, name, "x"), format!("[26000 prepared statement \"{name}\" does not exist]Z"));
            assert_eq!(run(&mut other, name, "x"), format!("x {name}"));
        }
    }
    // In the extended protocol, with more behind it in the same pipeline.
    let _ = ask(&mut client, &[parse("a", "SELECT $1::text || ' a'")]);
    let frames = [parse("", "DEALLOCATE ALL"), bind("", "", &[]), execute("", 0)];
    let again = [parse("a", "SELECT $1::text || ' again'"), bind("", "a", &[b"x"]), execute("", 0)];
    assert_eq!(ask(&mut client, &[frames.concat(), again.concat()]), "x again");
    assert_eq!(run(&mut other, "a", "x"), "x a");
}

#[test]
fn names_may_be_long() {
    let database = Database::create("statements_names");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    let long = "n".repeat(10_000);
    for end in ["a", "b"] {
        let (name, text) = (format!("{long}{end}"), format!("SELECT $1::text || ' {end}'"));
        assert_eq!(ask(&mut client, &[parse(&name, &text), target(b'D', b'S', &name)]), "1tTZ");
    }
    for end in ["a", "b"] {
        let name = format!("{long}{end}");
        assert_eq!(run(&mut client, &name, "x"), format!("x {end}"));
        assert_eq!(ask(&mut client, &[target(b'C', b'S', &name)]), "3Z");
        // Errors name as much of it as PostgreSQL's own names have.
        let said = &name[..63];
        assert_eq!(run(&mut client, &name, "x"), format!("[26000 prepared statement \"{said}\" does not exist]Z"));
    }
}

#[test]
fn constants_are_read_by_the_settings_of_whoever_prepares_them() {
    let database = Database::create("statements_constants");
    let pooler = trusting(&database, 1).start();
    const TEXT: &str = "SELECT to_char(date '01-02-2020', 'YYYY-MM-DD')";
    let uses = |name: &str| [parse(name, TEXT), bind("", name, &[]), execute("", 0), sync()].concat();
    let last = |client: &mut Raw, bytes: &[u8], answers: usize| {
        client.send(bytes);
        let answers: Vec<_> = (0..answers).flat_map(|_| client.until(b'Z')).collect();
        answers.iter().filter(|message| message.tag == b'D').flat_map(values).next_back().unwrap_or_default()
    };
    for (how, requests, answers) in [
        ("in one batch", [extended("SET DateStyle TO 'ISO, DMY'"), uses("s")].concat(), 1),
        (
            "in a transaction that is sent at once",
            [query("BEGIN"), query("SET LOCAL DateStyle TO 'ISO, DMY'"), uses("s"), query("COMMIT")].concat(),
            4,
        ),
        ("in one write", [query("SET DateStyle TO 'ISO, DMY'"), uses("s")].concat(), 2),
        (
            "behind the end of a SET LOCAL",
            [
                query("BEGIN"),
                query("SET LOCAL DateStyle TO 'ISO, YMD'"),
                query("COMMIT; SET DateStyle TO DMY"),
                uses("s"),
            ]
            .concat(),
            4,
        ),
    ] {
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        assert_eq!(last(&mut two, &query("SET DateStyle TO 'ISO, MDY'"), 1), "");
        assert_eq!(last(&mut one, &requests, answers), "2020-02-01", "{how}");
        assert_eq!(last(&mut two, &uses("s"), 1), "2020-01-02", "another client, {how}");
    }
    // On a server that does not have it yet.
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    for client in [&mut one, &mut two] {
        last(client, &query("SET DateStyle TO 'ISO, MDY'"), 1);
    }
    assert_eq!(last(&mut one, &uses("t"), 1), "2020-01-02");
    let pid = one.query("SELECT pg_backend_pid()").remove(0);
    one.query("SET DateStyle TO 'ISO, DMY'");
    database.sql(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    last(&mut one, &[bind("", "t", &[]), execute("", 0), sync()].concat(), 1);
    assert_eq!(last(&mut two, &uses("t"), 1), "2020-01-02", "another client, when the server was replaced");
}

#[test]
fn a_statement_whose_result_has_changed_is_prepared_again_after_one_error() {
    let database = Database::create("statements_changed");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    client.query("CREATE TABLE cp AS SELECT 1 AS a");
    let p = || parse("s", "SELECT * FROM cp");
    let (b, e) = (|| bind("", "s", &[]), || execute("", 0));
    let error = "[0A000 cached plan must not change result type]Z";
    assert_eq!(ask(&mut other, &[p()]), "1Z");
    assert_eq!(ask(&mut client, &[p(), b(), e()]), "1");
    for (column, first, then) in [
        ("b", vec![b(), e()], vec![target(b'C', b'S', "s"), p(), b(), e()]),
        ("c", vec![target(b'D', b'S', "s")], vec![b(), e()]),
        ("d", vec![b(), e()], vec![target(b'D', b'S', "s"), b(), e()]),
    ] {
        database.sql(&format!("ALTER TABLE cp ADD {column} text DEFAULT '{column}'"));
        let answer = ask(&mut client, &first);
        assert!(answer.ends_with(error), "{column}: {answer}");
        let row = format!("1{}", &"bcd"[..=column.as_bytes()[0] as usize - usize::from(b'b')]);
        assert_eq!(ask(&mut client, &then), row);
        assert_eq!(ask(&mut other, &[b(), e()]), row);
    }
}

#[test]
fn an_unnamed_statement_stays_where_the_one_that_was_to_replace_it_was_skipped() {
    let database = Database::create("unnamed_stays");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    let mut straight = direct(&database);
    let uses = [bind("", "", &[]), execute("", 0)].concat();
    for request in [
        [parse("", "SELECT 'old'"), uses.clone()].concat(),
        [bind("", "nobody", &[]), parse("", "SELECT 'new'")].concat(),
        uses.clone(),
        [bind("", "nobody", &[]), query("SELECT 'drops it'")].concat(),
        uses.clone(),
        [parse("", "SELECT 'other'"), bind("", "nobody", &[]), query("SELECT 1"), parse("", "SELECT 'new'")].concat(),
        uses.clone(),
        parse("", "SELECT bad syntax here"),
        uses.clone(),
    ] {
        let frames = [request];
        assert_eq!(ask(&mut client, &frames), ask(&mut straight, &frames));
        other.query("SELECT 1");
    }
}

#[test]
fn an_error_of_bind_has_the_clients_name_for_the_statement() {
    let database = Database::create("statements_bind");
    let pooler = trusting(&database, 1).start();
    let one: &[u8] = b"x";
    for (name, values) in [("s", &[one][..]), ("a \"b\" \u{e4}", &[]), ("PGLIFEGUARD_7", &[one; 3])] {
        let texts = [app(&pooler), direct(&database)].map(|mut client| {
            ask(&mut client, &[parse(name, "SELECT $1::text || $2")]);
            ask(&mut client, &[bind("", name, values), execute("", 0)])
        });
        assert_eq!(texts[0], texts[1]);
        assert!(texts[0].contains(name), "{texts:?}");
    }
    let mut client = app(&pooler);
    for name in ["one", "two"] {
        ask(&mut client, &[parse(name, "SELECT $1::text || $2")]);
    }
    let error = ask(&mut client, &[bind("", "one", &[b"x"]), execute("", 0)]);
    assert!(error.contains("\"one\" or \"two\"") || error.contains("\"two\" or \"one\""), "{error}");
    for _ in 0..5 {
        let error = ask(&mut client, &[parse("", "SELECT $1::text, $2::text"), bind("", "", &[b"x"]), execute("", 0)]);
        assert!(error.contains("prepared statement \"\" requires 2"), "{error}");
    }
    // What a function says passes as it is.
    ask(&mut client, &[parse("cast", "SELECT $1::int")]);
    let error = ask(&mut client, &[bind("", "cast", &[b"PGLIFEGUARD_1"]), execute("", 0)]);
    assert!(error.contains("\"PGLIFEGUARD_1\""), "{error}");
}
