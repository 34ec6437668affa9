//! Messages of hundreds of megabytes, and those at the edge of `max_packet_size`.

use super::results::count;
use super::{app, memory, memory_is_constant, shown, trusting};
use crate::support::Database;
use crate::support::raw::{Message, SYNC, bind, execute, message, parse, query};

const MEGA: usize = 1_000_000;

#[test]
fn messages_of_hundreds_of_megabytes_pass_at_constant_memory() {
    let database = Database::create("sizes");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    client.send(&[parse("length", "SELECT length($1::bytea)"), SYNC.to_vec()].concat());
    assert_eq!(shown(&client.until(b'Z')), "1Z");
    let before = memory(&pooler);
    // A query of 50 MB.
    let text = format!("SELECT length('{}')", "q".repeat(50 * MEGA));
    assert_eq!(client.query(&text), [(50 * MEGA).to_string()]);
    assert_eq!(other.query("SELECT 1"), ["1"]);
    // A value of 200 MB for a statement with a name, and one for the unnamed.
    let value = vec![b'v'; 200 * MEGA];
    for (first, name) in [(vec![], "length"), (parse("", "SELECT length($1::bytea)"), "")] {
        client.send(&first);
        client.send(&bind("", name, &[&value]));
        client.send(&[&execute("", 0)[..], SYNC].concat());
        let answer = client.until(b'Z');
        assert!(shown(&answer).ends_with("2DCZ"), "{}", shown(&answer));
        assert!(answer.iter().any(|row| row.tag == b'D' && row.body.ends_with(b"200000000")));
        assert_eq!(other.query("SELECT 1"), ["1"]);
    }
    // A row of 500 MB.
    client.send(&query(&format!("SELECT repeat('r', {})", 500 * MEGA)));
    assert_eq!(client.message().map(|first| first.tag), Some(b'T'));
    assert_eq!(count(&mut client, b'D', 2 + 4 + 500 * MEGA), (1, b'C'));
    assert_eq!(shown(&client.until(b'Z')), "Z");
    assert_eq!(other.query("SELECT 1"), ["1"]);
    memory_is_constant(&pooler, before);
}

#[test]
fn a_long_text_is_prepared_under_a_name_and_without() {
    let database = Database::create("long_texts");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    let text = format!("SELECT length('{}')", "t".repeat(20 * MEGA));
    for name in ["long", ""] {
        client.send(&[parse(name, &text), bind("", name, &[]), execute("", 0), SYNC.to_vec()].concat());
        let answer = client.until(b'Z');
        assert_eq!(shown(&answer), "12DCZ", "{name}");
        assert!(answer[2].body.ends_with(b"20000000"));
        assert_eq!(other.query("SELECT 1"), ["1"]);
    }
    // A name is for ever. The unnamed one is remembered beyond its transaction only while it is short.
    client.send(&[bind("", "long", &[]), execute("", 0), SYNC.to_vec()].concat());
    assert_eq!(shown(&client.until(b'Z')), "2DCZ");
    client.send(&[bind("", "", &[]), SYNC.to_vec()].concat());
    assert_eq!(shown(&client.until(b'Z')), "[26000 unnamed prepared statement does not exist]Z");
}

#[test]
fn a_message_as_long_as_is_allowed_passes_and_a_byte_more_ends_its_connection() {
    let database = Database::create("max_packet");
    let pooler = trusting(&database, 1).set("max_packet_size", "100000").start();
    let body = |length: usize| {
        let text = format!("SELECT length('{}')", "m".repeat(length - 4 - "SELECT length('')\0".len()));
        [text.as_bytes(), b"\0"].concat()
    };
    let mut other = app(&pooler);
    for (length, fits) in [(100_000, true), (100_001, false)] {
        let mut client = app(&pooler);
        client.query("BEGIN");
        client.send(&message(b'Q', &body(length)));
        if fits {
            assert_eq!(shown(&client.until(b'Z')), "TDCZ");
            // Of a server no length is too long.
            assert_eq!(client.query("SELECT repeat('x', 200000)").remove(0).len(), 200_000);
            client.query("COMMIT");
        } else {
            let told: Vec<_> = client.until(b'E').iter().map(Message::text).collect();
            assert_eq!(told, ["08P01 invalid length 100001 of message 'Q'"]);
            assert_eq!(client.rest(), [""; 0]);
        }
        assert_eq!(other.query("SELECT pg_current_xact_id_if_assigned() IS NULL"), ["t"]);
    }
}
