//! Results of gigabytes: at constant memory, and at the pace of the client that reads them.

use std::time::Duration;

use super::{app, memory, memory_is_constant, trusting};
use crate::support::raw::{Raw, bind, execute, message, parse, query};
use crate::support::{Database, wait_until};

/// Reads messages with this tag, each of so many bytes in its body, up to another one.
pub(super) fn count(client: &mut Raw, tag: u8, body: usize) -> (usize, u8) {
    let mut frame = vec![0; 5 + body];
    let mut messages = 0;
    loop {
        assert_eq!(client.fill(&mut frame[..5]), 5, "the end after {messages} messages");
        let [other, a, b, c, d, ..] = frame[..] else { unreachable!("five at least") };
        let length = u32::from_be_bytes([a, b, c, d]) as usize - 4;
        if other != tag {
            client.bytes(length);
            return (messages, other);
        }
        assert_eq!(length, body);
        assert_eq!(client.fill(&mut frame[5..]), body);
        messages += 1;
    }
}

const VALUE: usize = 1_000_000;

#[test]
fn gigabytes_of_rows_pass_at_constant_memory() {
    let database = Database::create("large_results");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    let sql = format!("SELECT repeat('x', {VALUE}) FROM generate_series(1, 1000)");
    for frames in [
        query(&sql),
        [parse("", &sql), bind("", "", &[]), message(b'D', b"P\0"), execute("", 0), message(b'S', b"")].concat(),
    ] {
        client.send(&frames);
        while client.message().expect("a result").tag != b'T' {}
        assert_eq!(count(&mut client, b'D', 2 + 4 + VALUE), (1000, b'C'));
        assert_eq!(client.message().map(|last| last.tag), Some(b'Z'));
        memory_is_constant(&pooler, before);
    }
}

#[test]
fn a_client_that_stops_reading_stops_its_server_and_nobody_else() {
    let database = Database::create("slow_reader");
    let pooler = trusting(&database, 2).start();
    let (mut slow, mut other) = (app(&pooler), app(&pooler));
    let pid = slow.query("BEGIN; SELECT pg_backend_pid()").remove(0);
    assert_ne!(other.query("SELECT pg_backend_pid()"), [pid.as_str()]);
    let before = memory(&pooler);
    slow.send(&query("SELECT n, repeat(chr(97 + n % 26), 100000) FROM generate_series(0, 2999) AS n"));
    assert_eq!(slow.message().map(|first| first.tag), Some(b'T'));
    let waits = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'ClientWrite'");
    wait_until("the server to wait for the client", LIMIT, || database.sql(&waits) == "1");
    for n in 0..100 {
        assert_eq!(other.query(&format!("SELECT {n}")), [n.to_string()]);
    }
    memory_is_constant(&pooler, before);
    for n in 0..3000_u32 {
        let row = slow.message().expect("a row").body;
        let letter = b'a' + u8::try_from(n % 26).expect("a letter");
        let number = n.to_string();
        assert!(row[6..].starts_with(number.as_bytes()), "row {n} is not the next");
        assert!(row[6 + number.len() + 4..] == vec![letter; 100_000], "row {n} is not whole");
    }
    assert_eq!(slow.until(b'Z').len(), 2);
    assert_eq!(slow.query("COMMIT; SELECT 'on'"), ["on"]);
    memory_is_constant(&pooler, before);
}

const LIMIT: Duration = Duration::from_secs(30);
