//! Servers that go from client to client: they do go on as soon as the client is done, and nothing goes with them.

use std::time::Duration;

use crate::support::pooler::Pooler;
use crate::support::raw::{
    CANCEL_REQUEST, Message, Raw, V3_0, bind, execute, extended, message, packet, parse, query, startup, sync,
};
use crate::support::{Database, PoolerConfig, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

fn config(database: &Database) -> PoolerConfig {
    let config = PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"");
    config.set("default_pool_size", "1").set("pool_mode", "\"transaction\"")
}

fn client(pooler: &Pooler) -> Raw {
    Raw::trusted(pooler.port(), "app", "app")
}

#[test]
fn a_server_whose_copy_failed_at_once_goes_to_the_next_client() {
    let database = Database::create("handed_copy");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    one.query("CREATE TABLE t (n int)");
    one.query("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'");
    one.query("CREATE TRIGGER no BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION no()");
    let copy = [extended("COPY t FROM STDIN"), sync()].concat();
    for _ in 0..10 {
        one.send(&copy);
        assert_eq!(one.until(b'Z').iter().rev().nth(1).map(Message::text), Some("P0001 no".to_owned()));
        // The first client is idle: what became of its Sync was found out behind its back.
        assert_eq!(other.query("SELECT 'served'"), ["served"]);
    }
}

#[test]
fn a_server_that_is_always_reset_is_reset_after_a_cancel_too() {
    let database = Database::create("handed_reset");
    let pooler = config(&database).set("server_reset_query_always", "true").start();
    let (mut one, key) = Raw::with_key(pooler.port(), V3_0);
    let mut other = client(&pooler);
    one.query("SET work_mem = '77MB'");
    assert_ne!(other.query("SHOW work_mem"), ["77MB"]);
    one.send(&query("BEGIN; SET work_mem = '77MB'; COMMIT; SELECT pg_sleep(60)"));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait_until("the query to run", LIMIT, || database.sql(running) == "1");
    let mut cancel = Raw::tcp(pooler.port());
    cancel.send(&packet(CANCEL_REQUEST, &key));
    one.until(b'Z');
    assert_ne!(other.query("SHOW work_mem"), ["77MB"]);
}

#[test]
fn a_text_that_rolls_back_keeps_its_client_s_settings() {
    let database = Database::create("handed_settings");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    for (text, size) in [("BEGIN; ROLLBACK; SHOW timezone", 1), ("SELECT 1; ROLLBACK; SHOW timezone", 2)] {
        one.query("SET timezone = 'Europe/Berlin'");
        other.query("SET timezone = 'Asia/Tokyo'");
        let answers = one.query(text);
        assert_eq!(answers.last().map(String::as_str), Some("Europe/Berlin"), "{text}");
        assert_eq!(answers.len(), size, "{text}");
    }
}

#[test]
fn what_stands_behind_the_end_of_a_block_in_one_text_has_its_client_s_settings() {
    let database = Database::create("handed_behind");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    for (first, text) in [
        (query("BEGIN"), "ROLLBACK; SHOW timezone"),
        (query("BEGIN; SELECT 1"), "ROLLBACK; BEGIN; SHOW timezone; COMMIT"),
        (query("START TRANSACTION READ ONLY"), "ROLLBACK AND CHAIN; SHOW timezone; COMMIT"),
        ([extended("BEGIN"), sync()].concat(), "ROLLBACK; SHOW timezone"),
        ([query("BEGIN"), query("SELECT nothing")].concat(), "COMMIT; SHOW timezone"),
    ] {
        one.query("SET timezone = 'Europe/Berlin'");
        other.query("SET timezone = 'Asia/Tokyo'");
        one.send(&first);
        one.until(b'Z');
        if first.ends_with(b"nothing\0") {
            one.until(b'Z');
        }
        assert!(one.query(text).contains(&"Europe/Berlin".to_owned()), "{text}");
    }
    // Begun without a Sync.
    other.query("SET timezone = 'Asia/Tokyo'");
    one.send(&extended("SELECT 1"));
    assert!(one.query("BEGIN; ROLLBACK; SHOW timezone").contains(&"Europe/Berlin".to_owned()));
    assert_eq!(other.query("SHOW timezone"), ["Asia/Tokyo"]);
}

#[test]
fn a_chained_transaction_has_its_client_s_settings() {
    let database = Database::create("handed_chain");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    for (texts, zone) in [
        (&["BEGIN", "ROLLBACK AND CHAIN"][..], "Europe/Berlin"),
        (&["BEGIN", "SAVEPOINT s", "ROLLBACK AND CHAIN"], "Europe/Berlin"),
        (&["BEGIN", "SAVEPOINT s", "SELECT nothing", "ROLLBACK AND CHAIN"], "Europe/Berlin"),
        (&["BEGIN", "SAVEPOINT s", "SELECT nothing", "COMMIT AND CHAIN"], "Europe/Berlin"),
        (&["BEGIN", "SAVEPOINT s", "SELECT nothing", "ROLLBACK TO s"], "Europe/Berlin"),
        (&["BEGIN", "SET timezone = 'Asia/Tokyo'", "SAVEPOINT s", "ROLLBACK TO s"], "Asia/Tokyo, then Europe/Berlin"),
        (&["BEGIN", "SAVEPOINT s", "SET timezone = 'Asia/Tokyo'", "ROLLBACK AND CHAIN"], "Europe/Berlin"),
        (&["BEGIN", "COMMIT AND CHAIN"], "Europe/Berlin"),
        (&["BEGIN", "COMMIT AND CHAIN", "SELECT nothing", "ROLLBACK AND CHAIN"], "Europe/Berlin"),
        (
            &["BEGIN", "COMMIT AND CHAIN", "SET timezone = 'Asia/Tokyo'", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"],
            "Asia/Tokyo",
        ),
    ] {
        let (zone, at_last) = zone.split_once(", then ").unwrap_or((zone, zone));
        for all_at_once in [false, true] {
            one.query("SET timezone = 'Europe/Berlin'");
            other.query("SET timezone = 'Asia/Tokyo'");
            if all_at_once {
                let all: Vec<u8> = texts.iter().flat_map(|text| query(text)).collect();
                one.send(&[all, query("SHOW timezone")].concat());
                texts.iter().for_each(|_| _ = one.until(b'Z'));
                let answer = one.until(b'Z');
                assert!(answer[1].body.ends_with(zone.as_bytes()), "{texts:?} at once: {answer:?}");
            } else {
                texts.iter().for_each(|text| _ = one.query(text));
                assert_eq!(one.query("SHOW timezone"), [zone], "{texts:?}");
            }
            one.query("ROLLBACK");
            assert_eq!(other.query("SHOW timezone"), ["Asia/Tokyo"], "{texts:?}");
            assert_eq!(one.query("SHOW timezone"), [at_last], "{texts:?} rolled back");
        }
    }
}

#[test]
fn another_request_in_a_copy_ends_the_copy() {
    let database = Database::create("handed_mid_copy");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    one.query("CREATE TABLE t (n int)");
    one.send(&query("COPY t FROM STDIN"));
    one.until(b'G');
    one.send(&query("SELECT 'next'"));
    let told: Vec<String> = one.until(b'Z').iter().map(|message| message.text()).collect();
    assert!(told[0].contains("unexpected message type 0x51 during COPY from stdin"), "{told:?}");
    let next = one.until(b'Z');
    assert!(next.iter().any(|message| message.tag == b'D' && message.body.ends_with(b"next")), "{next:?}");
    assert_eq!(other.query("SELECT count(*) FROM t"), ["0"]);
}

#[test]
fn a_text_of_semicolons_holds_nobody_up() {
    let database = Database::create("handed_semicolons");
    let pooler = config(&database).set("workers", "1").start();
    let mut one = client(&pooler);
    one.query("BEGIN");
    // So many arrive together: of what is cut there is nothing to be told.
    let text = ";".repeat(60_000);
    one.send(&query(&text));
    assert_eq!(one.until(b'Z').last().map(|ready| ready.body.clone()), Some(b"T".to_vec()));
}

#[test]
fn a_setting_that_no_server_takes_ends_its_client() {
    let database = Database::create("handed_refused");
    let pooler = config(&database).start();
    let mut other = client(&pooler);
    let mut one = Raw::tcp(pooler.port());
    one.send(&startup(V3_0, &[("user", "app"), ("database", "app"), ("TimeZone", "Nope")]));
    one.until(b'Z');
    one.send(&query("SELECT 1"));
    let told = one.rest();
    let expected = ["22023 invalid value for parameter \"TimeZone\": \"Nope\"", "22023 invalid server parameter"];
    assert_eq!(told, expected);
    assert_eq!(other.query("SELECT 'served'"), ["served"]);
}

#[test]
fn a_shared_statement_is_read_by_each_client_s_own_settings() {
    let database = Database::create("handed_dates");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    one.query("SET DateStyle = 'ISO, MDY'");
    other.query("SET DateStyle = 'ISO, DMY'");
    let ask = [parse("s", "SELECT date '02/03/2026'"), bind("", "s", &[]), execute("", 0), sync()].concat();
    for (client, date) in [(&mut one, "2026-02-03"), (&mut other, "2026-03-02")] {
        client.send(&ask);
        let answer = client.until(b'Z');
        assert!(answer.iter().any(|it| it.tag == b'D' && it.body.ends_with(date.as_bytes())), "{date}: {answer:?}");
    }
}

/// Rows' first columns, and errors with their hints, up to ReadyForQuery.
fn told(client: &mut Raw) -> Vec<String> {
    let text = |message: &Message| match message.tag {
        b'D' => Some(String::from_utf8_lossy(&message.body[6..]).into_owned()),
        b'E' => Some([message.text(), message.hint()].join("; ").trim_end_matches("; ").to_owned()),
        _ => None,
    };
    client.until(b'Z').iter().filter_map(text).collect()
}

#[test]
fn the_unnamed_statement_is_its_client_s_beyond_the_transaction() {
    let database = Database::create("handed_unnamed");
    let pooler = config(&database).start();
    let (mut one, mut other) = (client(&pooler), client(&pooler));
    let again = [bind("", "", &[]), execute("", 0), sync()].concat();
    one.send(&[extended("SELECT 'mine'"), sync()].concat());
    assert_eq!(told(&mut one), ["mine"]);
    for _ in 0..2 {
        other.send(&[extended("SELECT 'other'"), sync()].concat());
        assert_eq!(told(&mut other), ["other"]);
        one.send(&again);
        assert_eq!(told(&mut one), ["mine"]);
    }
    // A Query drops it, as in a session of one's own.
    one.query("SELECT 1");
    one.send(&again);
    assert_eq!(told(&mut one), ["26000 unnamed prepared statement does not exist"]);
    let long = format!("SELECT 'mine' -- {}", "x".repeat(20_000));
    one.send(&[extended(&long), sync()].concat());
    assert_eq!(told(&mut one), ["mine"]);
    one.send(&again);
    let text = "26000 unnamed prepared statement does not exist; It was too long to be kept beyond its transaction: \
                prepare it again, or give it a name.";
    assert_eq!(told(&mut one), [text]);
    one.send(&[extended("SELECT 'short'"), sync(), again].concat());
    assert_eq!([told(&mut one), told(&mut one)].concat(), ["short", "short"]);
}

#[test]
fn statements_that_a_function_has_dropped_are_prepared_again() {
    let database = Database::create("handed_dropped");
    let pooler = config(&database).start();
    let mut one = client(&pooler);
    let ask = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    let missing = |name| {
        let hint = "Something has dropped it on the server. It is prepared again when it is used next.";
        [format!("26000 prepared statement \"{name}\" does not exist; {hint}")]
    };
    let drops = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$";
    one.send(&[parse("a", "SELECT 'a'"), parse("b", "SELECT 'b'"), sync()].concat());
    assert_eq!(told(&mut one), [""; 0]);
    for in_block in [false, true] {
        one.query(drops);
        if in_block {
            one.query("BEGIN");
        }
        one.send(&[ask("a"), ask("a")].concat());
        // The second was on its way already.
        for _ in 0..2 {
            assert_eq!(told(&mut one), missing("a"));
        }
        one.query("ROLLBACK");
        for name in ["a", "b", "a", "b"] {
            one.send(&ask(name));
            assert_eq!(told(&mut one), [name]);
        }
    }
    one.query(drops);
    one.send(&[message(b'D', b"Sb\0"), sync()].concat());
    assert_eq!(told(&mut one), missing("b"));
    // To the client it is gone: the name is free.
    one.send(&[parse("b", "SELECT 'new b'"), ask("b"), parse("b", "SELECT 'newer b'"), sync()].concat());
    assert_eq!(told(&mut one), ["new b"]);
    assert_eq!(told(&mut one), ["42P05 prepared statement \"b\" already exists"]);
    one.send(&[message(b'C', b"Sa\0"), parse("a", "SELECT 'a'"), ask("a")].concat());
    assert_eq!(told(&mut one), ["a"]);
}
