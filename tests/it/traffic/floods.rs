//! Clients that would have the pooler write, or remember, far more than they send: it does so at the pace of the server.

use std::thread;

use super::{app, memory, memory_is_constant, shown, trusting};
use crate::support::Database;
use crate::support::raw::{Raw, SYNC, bind, message, parse, query, target};

/// Counts the messages with this tag up to another one, which comes back.
fn count(client: &mut Raw, tag: u8) -> (usize, Option<String>) {
    let mut counted = 0;
    loop {
        match client.message() {
            Some(message) if message.tag == tag => counted += 1,
            other => return (counted, other.map(|message| message.text())),
        }
    }
}

/// Writes in a thread of its own: this one reads.
fn writing(client: &Raw, frames: Vec<u8>) -> thread::JoinHandle<()> {
    let mut writer = client.another();
    thread::spawn(move || writer.send(&frames))
}

#[test]
fn statements_that_take_turns_on_a_server_are_prepared_again_at_its_pace() {
    let database = Database::create("flood_of_binds");
    let pooler = trusting(&database, 1).set("max_prepared_statements", "1").start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    for name in ["a", "b"] {
        client.send(&[parse(name, &format!("SELECT '{}'", name.repeat(500_000))), SYNC.to_vec()].concat());
        assert_eq!(shown(&client.until(b'Z')), "1Z");
    }
    let before = memory(&pooler);
    let frames = [[bind("", "a", &[]), bind("", "b", &[])].concat().repeat(200), SYNC.to_vec()].concat();
    client.send(&frames);
    assert_eq!(count(&mut client, b'2'), (400, Some("Z".to_owned())));
    assert_eq!(other.query("SELECT 1"), ["1"]);
    memory_is_constant(&pooler, before);
}

#[test]
fn answers_of_ours_that_wait_for_the_servers_do_not_pile_up() {
    let database = Database::create("flood_of_closes");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    // Without Sync or Flush the server keeps its own answer, in front of all of ours, to itself.
    let closes = target(b'C', b'S', "x").repeat(CLOSES);
    let writer = writing(&client, [parse("", "SELECT 1"), closes, SYNC.to_vec()].concat());
    assert_eq!(client.message().map(|it| it.tag), Some(b'1'));
    assert_eq!(count(&mut client, b'3'), (CLOSES, Some("Z".to_owned())));
    writer.join().expect("no panic");
    assert_eq!(client.query("SELECT 2"), ["2"]);
    memory_is_constant(&pooler, before);
}

#[test]
fn syncs_without_end_within_a_copy_end_the_connection() {
    let database = Database::create("flood_of_syncs");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    // Some are nothing out of the way.
    client.send(&query("COPY t FROM STDIN"));
    assert_eq!(client.message().map(|it| it.tag), Some(b'G'));
    client.send(&[&message(b'd', b"1\n")[..], &SYNC.repeat(1000), &message(b'c', b"")].concat());
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    client.send(&query("COPY t FROM STDIN"));
    assert_eq!(client.message().map(|it| it.tag), Some(b'G'));
    let writer = writing(&client, SYNC.repeat(3_000_000));
    assert_eq!(client.rest(), ["08P01 too many 'S' messages without an answer"]);
    writer.join().expect("no panic");
    assert_eq!(other.query("SELECT count(*) FROM t"), ["1"]);
    memory_is_constant(&pooler, before);
}

const CLOSES: usize = 1_200_000;
