//! Pipelines: thousands of requests before the first answer is read.

use std::thread;
use std::time::Duration;

use super::{app, memory, memory_is_constant, one_server, rows, shown, trusting, values, waiting};
use crate::support::raw::{FLUSH, Message, Raw, SYNC, bind, execute, parse, query, sync};
use crate::support::{Database, wait_until};

fn firsts(answer: &[Message]) -> Vec<String> {
    answer.iter().filter(|message| message.tag == b'D').map(|row| values(row).remove(0)).collect()
}

#[test]
fn thousands_of_requests_before_one_sync_are_written_before_any_answer_is_read() {
    let database = Database::create("pipelines");
    let pooler = trusting(&database, 2).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    let request = |n: usize| {
        let name = if n % 2 == 1 { String::new() } else { format!("s{}", n % 100) };
        let mut frames = Vec::new();
        if name.is_empty() || n <= 100 {
            frames = parse(&name, "SELECT $1::text");
        }
        [frames, bind("", &name, &[n.to_string().as_bytes()]), execute("", 0)].concat()
    };
    for synced in [5000, 1] {
        let mut frames: Vec<u8> = Vec::new();
        for n in 1..=5000 {
            frames.extend(request(n));
            if n % synced == 0 {
                frames.extend_from_slice(SYNC);
            }
        }
        client.send(&frames);
        let answer: Vec<Message> = (0..5000 / synced).flat_map(|_| client.until(b'Z')).collect();
        let expected: Vec<_> = (1..=5000).map(|n| n.to_string()).collect();
        assert!(firsts(&answer) == expected, "a Sync every {synced} requests: {:?}", answer.last());
        assert_eq!(other.query("SELECT 'other'"), ["other"]);
        client.query("DEALLOCATE ALL");
    }
    memory_is_constant(&pooler, before);
}

#[test]
fn a_pipeline_of_many_megabytes_is_read_while_it_is_written() {
    let database = Database::create("long_pipeline");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    assert_eq!(client.query("SELECT 1"), ["1"]);
    let before = memory(&pooler);
    let mut reader = client.another();
    let value = vec![b'v'; 10_000];
    let frames = [parse("", "SELECT $1::text"), bind("", "", &[&value]), execute("", 0)].concat();
    let writing = thread::spawn(move || {
        (0..20_000).for_each(|_| client.send(&frames));
        client.send(SYNC);
        client
    });
    for n in 0..20_000 {
        let answer: Vec<_> = (0..4).map(|_| reader.message().expect("an answer")).collect();
        assert_eq!((shown(&answer).as_str(), answer[2].body.len()), ("12DC", 2 + 4 + 10_000), "request {n}");
    }
    assert_eq!(shown(&reader.until(b'Z')), "Z");
    assert_eq!(writing.join().expect("no panic").query("SELECT 'on'"), ["on"]);
    memory_is_constant(&pooler, before);
}

#[test]
fn every_sync_is_answered_once() {
    let database = Database::create("syncs");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    let many = SYNC.repeat(20_000);
    for before in [vec![], parse("", "SELECT 1"), parse("", "x"), query("SELECT 1")] {
        client.send(&[&before[..], &many, &query("SELECT 'last'")].concat());
        let mut syncs = 0;
        let rest = loop {
            match client.message().expect("an answer") {
                Message { tag: b'Z', .. } => syncs += 1,
                message if message.tag == b'T' && syncs > 1 => break client.until(b'Z'),
                _ => {}
            }
        };
        let of_query = usize::from(before.first() == Some(&b'Q'));
        assert_eq!((syncs, shown(&rest).as_str()), (20_000 + of_query, "DCZ"));
        assert_eq!(other.query("SELECT 'other'"), ["other"]);
    }
}

#[test]
fn a_flush_is_answered_and_keeps_the_server_until_sync() {
    let database = Database::create("flush");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other) = (app(&pooler), app(&pooler));
    client.send(&[parse("", "SELECT $1::text"), FLUSH.to_vec()].concat());
    assert_eq!(client.message().map(|it| it.tag), Some(b'1'));
    other.send(&query("SELECT 'waited'"));
    wait_until("the other to wait", LIMIT, || waiting(&pooler) == 1);
    client.send(&[bind("", "", &[b"mine"]), execute("", 0), FLUSH.to_vec()].concat());
    assert_eq!(shown(&client.until(b'C')), "2DC");
    assert_eq!(waiting(&pooler), 1);
    client.send(SYNC);
    assert_eq!(shown(&client.until(b'Z')), "Z");
    assert_eq!(firsts(&other.until(b'Z')), ["waited"]);
    // With nothing outstanding it needs no server.
    other.query("BEGIN");
    client.send(&[FLUSH, SYNC].concat());
    assert_eq!(shown(&client.until(b'Z')), "Z");
    other.query("COMMIT");
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_message_that_is_taken_whole_takes_no_server_before_it_is_there() {
    let (_database, pooler) = one_server("halves");
    let (mut slow, mut other) = (app(&pooler), app(&pooler));
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    let mut assigned = || {
        let totals = rows(&mut console, "SHOW STATS_TOTALS");
        totals.iter().filter(|row| row[0] == "app").map(|row| row[1].parse::<usize>().expect("a number")).sum::<usize>()
    };
    let long = format!("SELECT 1 -- {}", "x".repeat(9000));
    let [simple, named] = [query(&long), [parse("a", &long), sync()].concat()];
    for message in [simple, named] {
        let before = assigned();
        for part in message.chunks(4000) {
            slow.send(part);
            assert_eq!(rows(&mut other, "SELECT 2").concat(), ["2"]);
        }
        slow.until(b'Z');
        // Counted after the answer is on its way. Had it taken the server early, the other would have waited above.
        let takings = message.chunks(4000).len() + 1;
        wait_until("all takings to be counted", LIMIT, || assigned() - before >= takings);
        assert_eq!(assigned() - before, takings);
    }
}
