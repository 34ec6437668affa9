//! Clients that mean no good, or are broken: what they send costs them their connection, and nobody else anything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::pooler::Pooler;
use crate::support::random::Random;
use crate::support::raw::{Message, Raw, V3_0, message, query, startup};
use crate::support::{Database, PoolerConfig, wait_until};

/// One server: whatever is left on it, the next client meets.
fn one_server(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"").set("default_pool_size", "1")
}

fn app(pooler: &Pooler) -> Raw {
    Raw::trusted(pooler.port(), "app", "app")
}

fn header(tag: u8, length: u32) -> Vec<u8> {
    [&[tag], &length.to_be_bytes()[..]].concat()
}

/// What a client in its right mind finds: a server that answers it, in no transaction, without locks of others.
fn all_is_well(pooler: &Pooler, what: &str) {
    let mut next = app(pooler);
    let state = "SELECT count(*) || ' ' || (pg_current_xact_id_if_assigned() IS NULL) FROM pg_locks \
                 WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
    assert_eq!(next.query(state), ["0 true"], "after {what}");
    assert_eq!(next.query("SELECT 1; SELECT 2"), ["1", "2"], "after {what}");
}

#[test]
fn what_is_no_message_ends_its_connection_with_a_protocol_error_and_leaves_the_server_clean() {
    let database = Database::create("malformed");
    let pooler = one_server(&database).set("max_packet_size", "1048576").start();
    let no_type = |tag: u8| format!("08P01 invalid message type '{}'", tag.escape_ascii());
    let length = |tag: u8, length: u32| format!("08P01 invalid length {length} of message '{}'", tag.escape_ascii());
    let mut table = vec![
        ("length 0", header(b'Q', 0), length(b'Q', 0)),
        ("length 3", header(b'S', 3), length(b'S', 3)),
        ("a long query", header(b'Q', 1 << 21), length(b'Q', 1 << 21)),
        ("length 2^31", header(b'Q', 1 << 31), length(b'Q', 1 << 31)),
        ("length 2^32-1", header(b'd', u32::MAX), length(b'd', u32::MAX)),
        ("a long Terminate", header(b'X', u32::MAX), length(b'X', u32::MAX)),
        ("a password", message(b'p', b"secret\0"), no_type(b'p')),
        ("a startup packet", startup(V3_0, &[("user", "admin"), ("database", "pgbouncer")]), no_type(0)),
        ("a server's message", message(b'Z', b"I"), no_type(b'Z')),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), length(b'G', u32::from_be_bytes(*b"ET /"))),
        ("a Parse without end", message(b'P', b"name"), "08P01 broken Parse packet".into()),
        ("a Parse without types", message(b'P', b"name\0SELECT 1\0\0\x02"), "08P01 broken Parse packet".into()),
        ("a Bind without names", message(b'B', b"portal\0"), "08P01 broken Bind packet".into()),
        ("a Describe of nothing", message(b'D', b"Xname\0"), "08P01 broken Describe packet".into()),
        ("a Close without name", message(b'C', b""), "08P01 broken Close packet".into()),
    ];
    let tags = (0..=u8::MAX).filter(|tag| !b"QPBDECSHFXdcf".contains(tag));
    table.extend(tags.map(|tag| ("an unknown type", message(tag, b"x"), no_type(tag))));
    for (what, bytes, error) in &table {
        let mut client = app(&pooler);
        client.send(bytes);
        assert_eq!(client.rest().last(), Some(error), "{what}");
    }
    // The same within a transaction that holds a lock.
    for (what, bytes, error) in &table[..20] {
        let mut client = app(&pooler);
        client.query("BEGIN");
        client.query("SELECT pg_advisory_xact_lock(1)");
        client.send(bytes);
        assert_eq!(client.rest().last(), Some(error), "{what}");
        all_is_well(&pooler, what);
    }
}

#[test]
fn a_message_that_only_the_server_finds_wrong_is_answered_by_it() {
    let database = Database::create("wrong");
    let pooler = one_server(&database).start();
    for (what, bytes) in [
        ("a query without end", message(b'Q', b"SELECT 1")),
        ("an Execute without portal", [message(b'E', b""), message(b'S', b"")].concat()),
        ("a Bind with too many values", [message(b'B', b"\0\0\0\0\x7f\xff\0\0"), message(b'S', b"")].concat()),
        ("a function call of nothing", message(b'F', b"")),
        ("a Sync with a body", [query("SELECT 1"), message(b'S', b"body")].concat()),
        ("copy data without COPY", [message(b'd', b"row\n"), message(b'c', b""), message(b'f', b"x\0")].concat()),
        ("a portal that isn't there", [message(b'E', b"none\0\0\0\0\0"), message(b'S', b"")].concat()),
    ] {
        let mut client = app(&pooler);
        client.send(&bytes);
        client.no_more();
        let answer = client.rest();
        let sound = |text: &String| !text.starts_with("XX") && !text.starts_with("57");
        assert!(answer.iter().all(sound), "{what}: {answer:?}");
        all_is_well(&pooler, what);
    }
}

#[test]
fn a_client_that_vanishes_within_a_message_leaves_no_half_of_it_to_the_next() {
    let database = Database::create("halves");
    database.sql("CREATE TABLE t (x text); GRANT ALL ON t TO app");
    let pooler = one_server(&database).start();
    let parse = message(b'P', b"\0SELECT $1::text\0\0\0");
    let long_bind = [b"\0\0\0\0\0\x01\0\x10\0\0".as_slice(), &[b'x'; 100_000]].concat();
    let cuts = |whole: &[u8], at: &[usize]| at.iter().map(|at| whole[..*at].to_vec()).collect::<Vec<_>>();
    let long_query = query(&format!("SELECT '{}'", "x".repeat(200_000)));
    let copy = [query("COPY t FROM STDIN"), message(b'd', &[b'y'; 100_000])].concat();
    for (what, beginnings) in [
        ("a query", cuts(&long_query, &[1, 4, 5, 6, 100, 65_536, 70_000, 200_000])),
        ("a Parse", cuts(&parse, &[3, 6, 10, parse.len() - 1, parse.len()])),
        ("a Bind", cuts(&[&parse[..], &header(b'B', 1_048_600), &long_bind].concat(), &[40, 60, 70_000, 100_000])),
        ("a COPY", cuts(&copy, &[30, 1000, 66_000, copy.len() - 1, copy.len()])),
        ("a function call", cuts(&[&header(b'F', 100_000)[..], &[0; 50_000]].concat(), &[5, 100, 50_000])),
    ] {
        for beginning in beginnings {
            for within in ["", "BEGIN"] {
                let mut client = app(&pooler);
                client.query(within);
                client.send(&beginning);
                if beginning.len().is_multiple_of(2) {
                    client.no_more();
                }
                drop(client);
                all_is_well(&pooler, &format!("{} bytes of {what} within {within:?}", beginning.len()));
            }
        }
    }
    assert_eq!(database.sql("SELECT count(*) FROM t"), "0");
}

#[test]
fn connections_that_never_log_in_are_closed_in_time_and_cost_little() {
    let database = Database::create("silent");
    let pooler = one_server(&database).set("client_login_timeout", "3").set("max_client_conn", "1000").start();
    let mut honest = app(&pooler);
    let before = resident(&pooler);
    let whole = startup(V3_0, &[("user", "app"), ("database", "app"), ("application_name", &"x".repeat(9_900))]);
    let mut crowd: Vec<Raw> = (0..600).map(|_| Raw::tcp(pooler.port())).collect();
    for (n, client) in crowd.iter_mut().enumerate() {
        // Nothing, a little, or all but the last byte of the longest packet there is.
        client.send(match n % 3 {
            0 => b"",
            1 => &whole[..5],
            _ => &whole[..whole.len() - 1],
        });
    }
    assert_eq!(honest.query("SELECT 1"), ["1"], "who is there is served");
    assert_eq!(app(&pooler).query("SELECT 2"), ["2"], "who comes is served");
    assert!(resident(&pooler) < before + 24 * 1024, "{} KiB, {before} before", resident(&pooler));
    for client in &mut crowd {
        assert_eq!(client.rest(), ["08P01 client_login_timeout"]);
    }
    assert_eq!(honest.query("SELECT 3"), ["3"]);
}

#[test]
fn a_startup_packet_byte_by_byte_does_not_outlive_the_login_timeout() {
    let database = Database::create("loris");
    let pooler = one_server(&database).set("client_login_timeout", "1").start();
    let mut client = Raw::tcp(pooler.port());
    let endless = AtomicBool::new(true);
    let whole = startup(V3_0, &[("user", "app"), ("application_name", &"x".repeat(9_000))]);
    let mut bytes = whole.iter();
    // Each byte comes well before the timeout; all of them do not.
    let ended = thread::scope(|scope| {
        let reader = client.another();
        let reading = scope.spawn(|| {
            let mut reader = reader;
            let told = reader.rest();
            endless.store(false, Ordering::Relaxed);
            told
        });
        wait_until("the pooler to lose patience", LIMIT, || {
            client.send(&[*bytes.next().expect("slower than that")]);
            !endless.load(Ordering::Relaxed)
        });
        reading.join().expect("no panic")
    });
    assert_eq!(ended, ["08P01 client_login_timeout"]);
}

/// Some messages of a dialogue that makes sense, with a few bytes changed, cut out, put in or repeated.
fn garbage(random: &mut Random) -> Vec<u8> {
    let pieces: [Vec<u8>; 14] = [
        query("SELECT 1"),
        query("BEGIN"),
        query("SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all()"),
        query("COPY (SELECT 1) TO STDOUT"),
        query("CREATE TEMP TABLE IF NOT EXISTS x (n int) ON COMMIT DROP; COPY x FROM STDIN"),
        message(b'P', b"s\0SELECT $1::text\0\0\0"),
        message(b'P', b"\0SELECT 'garbage'\0\0\0"),
        message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x07garbage\0\0"),
        message(b'D', b"Ss\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'C', b"Ss\0"),
        message(b'S', b""),
        message(b'H', b""),
        message(b'd', b"1\n"),
    ];
    let mut bytes = startup(V3_0, &[("user", "app"), ("database", "app"), ("application_name", "garbage")]);
    let untouched = if random.below(4) == 0 { 0 } else { bytes.len() };
    for _ in 0..random.below(12) {
        bytes.extend_from_slice(&pieces[random.below(pieces.len())]);
    }
    for _ in 0..random.below(4) {
        if bytes.len() <= untouched {
            break;
        }
        let at = untouched + random.below(bytes.len() - untouched);
        match random.below(4) {
            0 => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            1 => bytes.truncate(at),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, [0, 0xff, b'Q', b'X'][random.below(4)]),
        }
    }
    bytes
}

#[test]
fn others_get_their_own_right_answers_while_garbage_pours_in() {
    let database = Database::create("garbage");
    let config = one_server(&database).set("default_pool_size", "3").set("client_login_timeout", "2");
    let pooler = config.set("ignore_startup_parameters", "[\"options\"]").start();
    let honest_ones = AtomicUsize::new(4);
    thread::scope(|scope| {
        for seed in 1..=4 {
            let (pooler, honest_ones) = (&pooler, &honest_ones);
            scope.spawn(move || pour(pooler, seed, || honest_ones.load(Ordering::Relaxed) > 0));
        }
        for me in 0..4 {
            let (pooler, honest_ones) = (&pooler, &honest_ones);
            scope.spawn(move || {
                let left = Leaves(honest_ones);
                for asked in 0..60 {
                    honest(&mut app(pooler), &format!("{me}.{asked}"));
                }
                drop(left);
            });
        }
    });
    all_is_well(&pooler, "all that");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database() \
                AND state <> 'idle' AND pid <> pg_backend_pid()";
    wait_until("every server to be at rest", LIMIT, || database.sql(busy) == "0");
}

/// Counts itself out, also when it panics.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections full of garbage, at least so many, and for as long as `wanted`.
fn pour(pooler: &Pooler, seed: u64, wanted: impl Fn() -> bool) {
    let mut random = Random::new(seed);
    let mut poured = 0;
    while poured < 300 || wanted() {
        poured += 1;
        let mut client = Raw::tcp(pooler.port());
        client.send(&garbage(&mut random));
        match random.below(3) {
            0 => drop(client),
            1 => client.no_more(),
            _ => {
                client.no_more();
                client.rest();
            }
        }
    }
}

/// A question with a token, simple and extended, alone and in a transaction; every answer brings it back.
fn honest(client: &mut Raw, token: &str) {
    assert_eq!(client.query(&format!("SELECT '{token}', current_setting('application_name')")).len(), 1);
    assert_eq!(client.query(&format!("BEGIN; SELECT '{token}'")), [token]);
    assert_eq!(client.query("SELECT current_setting('application_name') <> 'garbage'"), ["t"]);
    assert_eq!(client.query("COMMIT"), [""; 0]);
    let bind = [
        b"\0s\0\0\0\0\x01".as_slice(),
        &u32::try_from(token.len()).expect("short").to_be_bytes(),
        token.as_bytes(),
        b"\0\0",
    ]
    .concat();
    let pipeline = [
        message(b'P', b"s\0SELECT $1::text || ' mine'\0\0\0"),
        message(b'B', &bind),
        message(b'E', b"\0\0\0\0\0"),
        message(b'C', b"Ss\0"),
        message(b'S', b""),
    ];
    client.send(&pipeline.concat());
    let answer = client.until(b'Z');
    assert_eq!(answer.iter().map(Message::text).collect::<String>(), "12DC3Z");
    assert!(answer[2].body.ends_with(format!("{token} mine").as_bytes()), "{answer:?}");
}

/// The memory that the pooler has now, in KiB.
fn resident(pooler: &Pooler) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pooler.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

const LIMIT: Duration = Duration::from_secs(60);
