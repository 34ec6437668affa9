//! Odd dialogues, mistakes among them: the answer is the one that PostgreSQL itself gives to the same bytes, and the
//! connection goes on.

use super::{app, direct, trusting};
use crate::support::Database;
use crate::support::raw::{FLUSH, Message, Raw, bind, execute, message, parse, query, sync, target};

/// What a client can tell apart: bodies too, and of errors the code and the text.
fn seen(client: &mut Raw) -> Vec<String> {
    let body = |message: &Message| match message.tag {
        // What only the server can find names the statement as the server knows it.
        b'E' if message.text().starts_with("08P01 bind message") => "[08P01 bind message]".to_owned(),
        b'E' => format!("[{}]", message.text()),
        b'N' => "N".to_owned(),
        tag => format!("{} {}", char::from(tag), message.body.escape_ascii()),
    };
    // The end of each dialogue is a question with a known answer.
    client.send(&query("SELECT 'the end'"));
    let mut seen = Vec::new();
    while let Some(message) = client.message() {
        let last = message.body.ends_with(b"the end");
        seen.push(body(&message));
        if last {
            seen.extend(client.until(b'Z').iter().map(body));
            break;
        }
    }
    seen
}

type Dialogue = (&'static str, Vec<Vec<u8>>);

fn run(statement: &str, values: &[&[u8]]) -> Vec<Vec<u8>> {
    vec![bind("", statement, values), target(b'D', b'P', ""), execute("", 0), sync()]
}

fn simple() -> Vec<Dialogue> {
    vec![
        ("nothing", vec![query("")]),
        ("hardly anything", vec![query(" ;; -- nothing\n")]),
        ("many", vec![query("SELECT 1; SELECT 2;; SELECT 'three'")]),
        ("an error in the middle", vec![query("SELECT 1; SELECT 1/0; SELECT 3"), query("SELECT 4")]),
        ("an error that shows while parsing", vec![query("SELECT 1; SELEC 2")]),
        ("a block opened and left to the next", vec![query("BEGIN; SELECT 1"), query("SELECT 2; COMMIT; SELECT 3")]),
        ("a block that fails in its middle", vec![query("BEGIN; SELECT 1/0; COMMIT"), query("COMMIT; SELECT 1")]),
        ("a failed block", vec![query("BEGIN"), query("x"), query("SELECT 1"), query(""), query("ROLLBACK")]),
        ("chains", vec![query("BEGIN"), query("COMMIT AND CHAIN"), query("SELECT 1"), query("ROLLBACK")]),
        ("savepoints", vec![query("BEGIN; SAVEPOINT s"), query("x"), query("ROLLBACK TO s"), query("COMMIT")]),
        ("no block", vec![query("COMMIT"), query("ROLLBACK AND CHAIN"), query("SAVEPOINT s")]),
        ("copies", vec![query("COPY (VALUES (1), (2)) TO STDOUT; SELECT 3; COPY (SELECT 4) TO STDOUT")]),
        ("late copy data", vec![message(b'd', b"1\n"), message(b'c', b""), message(b'f', b"x\0"), query("SELECT 1")]),
        ("settings", vec![query("SET TimeZone TO 'Antarctica/Troll'; SHOW TimeZone"), query("RESET TimeZone")]),
    ]
}

fn extended() -> Vec<Dialogue> {
    let select = |name: &str| parse(name, "SELECT $1::text, $2::int");
    let two: [&[u8]; 2] = [b"a", b"2"];
    let cursor = parse("", "SELECT * FROM generate_series(1, 5)");
    vec![
        ("a statement", [vec![select("s")], run("s", &two), run("s", &two)].concat()),
        ("an unknown statement", [run("none", &[]), run("none", &[])].concat()),
        ("no unnamed statement", [vec![query("")], run("", &[])].concat()),
        ("a description of nothing", vec![target(b'D', b'S', "none"), sync(), target(b'D', b'P', "none"), sync()]),
        ("a name twice", [vec![select("t"), sync(), select("t"), sync()], run("t", &two)].concat()),
        ("a name twice, closed between", vec![select("u"), target(b'C', b'S', "u"), select("u"), sync()]),
        ("a close of nothing", vec![target(b'C', b'S', "none"), target(b'C', b'P', "none"), sync()]),
        ("too few values", [vec![select("v"), sync()], run("v", &[b"a"]), run("v", &two)].concat()),
        ("too many values", [vec![select("w"), sync()], run("w", &[b"a", b"2", b"3"]), run("w", &two)].concat()),
        ("a value that is none", [vec![select("x"), sync()], run("x", &[b"a", b"b"]), run("x", &two)].concat()),
        ("a syntax error", vec![parse("y", "SELEC"), sync(), bind("", "y", &[]), sync()]),
        ("several in one", vec![parse("", "SELECT 1; SELECT 2"), sync()]),
        ("nothing", [vec![parse("", "")], run("", &[])].concat()),
        (
            "an error skips to Sync",
            vec![parse("", "x"), parse("z", "SELECT 1"), sync(), target(b'D', b'S', "z"), sync()],
        ),
        ("an error, many Syncs", vec![parse("", "x"), sync(), sync(), sync()]),
        ("a Query without Sync before", vec![cursor.clone(), bind("", "", &[]), query("SELECT 1")]),
        ("Flush and Sync alone", vec![FLUSH.to_vec(), sync(), FLUSH.to_vec(), sync()]),
        ("a portal in portions", {
            let portions = (0..4).map(|_| execute("p", 2));
            let begin = [query("BEGIN"), cursor.clone(), bind("p", "", &[]), sync()];
            begin.into_iter().chain(portions).chain([sync(), execute("p", 1), sync(), query("COMMIT")]).collect()
        }),
        (
            "a portal beyond its transaction",
            vec![cursor, bind("p", "", &[]), execute("p", 2), sync(), execute("p", 2), sync()],
        ),
        ("a failed block", {
            let begin = vec![select("f"), sync(), query("BEGIN"), query("x")];
            [begin, run("f", &two), vec![select("f"), sync(), select("g"), sync(), query("ROLLBACK")], run("f", &two)]
                .concat()
        }),
        ("a block by hand", {
            let step = |sql| [vec![parse("", sql)], run("", &[])].concat();
            [step("BEGIN"), step("SELECT 1/0"), step("SELECT 1"), step("COMMIT"), step("SELECT 2")].concat()
        }),
        (
            "all forgotten",
            [vec![select("h"), sync(), query("DEALLOCATE ALL")], run("h", &two), vec![select("h"), sync()]].concat(),
        ),
        (
            "all discarded",
            [vec![select("i"), sync(), query("DISCARD ALL")], run("i", &two), vec![select("i"), sync()]].concat(),
        ),
        ("COPY out", [vec![parse("", "COPY (VALUES (1), (2)) TO STDOUT")], run("", &[])].concat()),
        ("a function call of nothing", vec![message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])]),
    ]
}

#[test]
fn odd_dialogues_are_answered_as_postgresql_answers_them() {
    let database = Database::create("dialogues");
    let pooler = trusting(&database, 2).start();
    for dialogue in [simple(), extended()].concat() {
        let (what, frames) = dialogue;
        let expected = {
            let mut client = direct(&database);
            client.send(&frames.concat());
            seen(&mut client)
        };
        let mut client = app(&pooler);
        client.send(&frames.concat());
        assert_eq!(seen(&mut client), expected, "{what}");
        let mut client = app(&pooler);
        for byte in frames.concat() {
            client.send(&[byte]);
        }
        assert_eq!(seen(&mut client), expected, "{what}, byte by byte");
    }
}
