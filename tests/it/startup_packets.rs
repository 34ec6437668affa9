//! What connections begin with, by the byte: versions, requests for encryption, parameters, and what is none of these.

use crate::support::pooler::Pooler;
use crate::support::raw::{
    CANCEL_REQUEST, GSS_REQUEST, Message, Raw, SSL_REQUEST, V3_0, message, packet, query, startup,
};
use crate::support::{Database, PoolerConfig, wait_until};

use std::time::Duration;

fn trusting(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"")
}

const APP: [(&str, &str); 2] = [("user", "app"), ("database", "app")];

/// A client that sends `bytes` first.
fn after(pooler: &Pooler, bytes: &[u8]) -> Raw {
    let mut client = Raw::tcp(pooler.port());
    client.send(bytes);
    client
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    startup(V3_0, &[&APP, more].concat())
}

fn parameter(answer: &[Message], name: &str) -> Option<String> {
    let status = answer.iter().filter(|message| message.tag == b'S');
    let pairs = status.map(|message| String::from_utf8_lossy(&message.body).into_owned());
    pairs
        .filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('\0').map(|v| v.trim_end_matches('\0').into()))
        .next_back()
}

#[test]
fn what_is_no_startup_packet_gets_its_error_and_costs_only_its_connection() {
    let database = Database::create("startup");
    let pooler = trusting(&database).start();
    let long = "n".repeat(128);
    let unterminated = packet(V3_0, b"user\0app\0");
    let cut = packet(V3_0, b"user\0app");
    let behind = packet(V3_0, b"user\0app\0\0more");
    let header = |length: u32| [&length.to_be_bytes()[..], &V3_0.to_be_bytes()].concat();
    let not_utf8 = packet(V3_0, b"user\0\xff\xfe\0\0");
    let layout = "08P01 invalid startup packet layout: expected terminator as last byte";
    for (what, bytes, expected) in [
        ("protocol 2", packet(2 << 16, b"\0"), "0A000 old V2 protocol not supported"),
        ("protocol 4", packet(4 << 16, b"\0"), "0A000 unsupported frontend protocol 4.0: server supports 3.0 to 3.2"),
        ("no user", startup(V3_0, &[("database", "app")]), "28000 no username supplied"),
        ("an empty user", startup(V3_0, &[("user", "")]), "28000 no username supplied"),
        ("a long user", startup(V3_0, &[("user", &long)]), "28000 username too long"),
        ("a long database", startup(V3_0, &[("user", "app"), ("database", &long)]), "28000 database name too long"),
        ("no terminator", unterminated, layout),
        ("a name without value", cut, layout),
        ("bytes behind the terminator", behind, layout),
        ("bytes that are no text", not_utf8, "22021 startup packet is not valid UTF-8"),
        ("length 0", header(0), "08P01 bad packet header: '00000000'"),
        ("length 7", header(7), "08P01 bad packet header: '00000007'"),
        ("length 10001", header(10_001), "08P01 bad packet header: '00002711'"),
        ("length 2^31", header(1 << 31), "08P01 bad packet header: '80000000'"),
        ("length 2^32-1", header(u32::MAX), "08P01 bad packet header: 'ffffffff'"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01 bad packet header: '47455420'"),
        (
            "a short cancel request",
            packet(CANCEL_REQUEST, b"\0\0\0\x01\0\0"),
            "08P01 bad packet header: '0000000e04d2162e'",
        ),
        ("a long SSL request", packet(SSL_REQUEST, b"x"), "08P01 bad packet header: '0000000904d2162f'"),
        ("a password first", message(b'p', b"secret\0"), "08P01 bad packet header: '70000000'"),
        ("replication", with(&[("replication", "database")]), "0A000 replication connections are not supported"),
    ] {
        assert_eq!(after(&pooler, &bytes).rest(), [expected], "{what}");
    }
    assert_eq!(Raw::trusted(pooler.port(), "app", "app").query("SELECT 1"), ["1"]);
}

#[test]
fn where_a_password_is_due_anything_else_is_refused_by_its_first_byte() {
    let database = Database::create("no_password");
    let refused = |got: &str| [format!("08P01 expected password response, got message type \"{got}\"")];
    for method in ["plain", "md5", "scram-sha-256"] {
        let pooler = PoolerConfig::new().database("app", &database).set("auth_type", &format!("{method:?}")).start();
        for (sent, got) in [(&with(&[])[..], "\\x00"), (b"\0", "\\x00"), (b"Q\xff\xff\xff\xff", "Q"), (b"X", "X")] {
            let mut client = after(&pooler, &with(&[]));
            assert_eq!(client.message().map(|asked| asked.tag), Some(b'R'), "{method}");
            client.send(sent);
            assert_eq!(client.rest(), refused(got), "{method}: {sent:?}");
        }
        let mut client = after(&pooler, &[with(&[]), with(&[])].concat());
        client.message();
        assert_eq!(client.rest(), refused("\\x00"), "{method}: both at once");
    }
    let pooler = PoolerConfig::new().database("app", &database).start();
    let mut client = after(&pooler, &with(&[]));
    client.message();
    client.send(&message(b'p', b"SCRAM-SHA-256\0\0\0\0\x0fn,,n=,r=abcdefg"));
    assert_eq!(client.message().map(|asked| asked.tag), Some(b'R'));
    client.send(&with(&[]));
    assert_eq!(client.rest(), refused("\\x00"), "within the exchange");
}

#[test]
fn versions_are_negotiated_and_keys_are_as_long_as_they_say() {
    let database = Database::create("versions");
    let pooler = trusting(&database).start();
    let minor = |minor: u32| V3_0 | minor;
    let option = [("_pq_.compression", "on"), ("_pq_.other", "1")];
    let none: [(&str, &str); 0] = [];
    for (version, options, negotiated, secret) in [
        (minor(0), &none[..], None, 4),
        (minor(1), &none, Some((minor(0), 0)), 4),
        (minor(2), &none, None, 32),
        (minor(9999), &none, Some((minor(2), 0)), 32),
        (minor(0), &option, Some((minor(0), 2)), 4),
        (minor(2), &option, Some((minor(2), 2)), 32),
    ] {
        let params = [&APP, options].concat();
        let mut client = after(&pooler, &startup(version, &params));
        let answer = client.until(b'Z');
        let told: Vec<_> = answer.iter().filter(|message| message.tag == b'v').collect();
        let told: Option<(u32, u32)> = told.first().map(|message| {
            let number = |at: usize| u32::from_be_bytes(message.body[at..at + 4].try_into().expect("four"));
            (number(0), number(4))
        });
        assert_eq!(told, negotiated, "{version:x}");
        assert_eq!(answer.first().map(|first| first.tag), Some(if told.is_some() { b'v' } else { b'R' }));
        let key = answer.iter().find(|message| message.tag == b'K').expect("a key");
        assert_eq!(key.body.len(), 4 + secret, "{version:x}");
        assert_eq!(client.query("SELECT 1"), ["1"]);
        cancels(&pooler, client, &key.body);
    }
}

/// The whole key ends what its client runs; a part of it does nothing.
fn cancels(pooler: &Pooler, mut client: Raw, key: &[u8]) {
    client.send(&query("SELECT pg_sleep(60)"));
    let wrong = [&key[..key.len() - 1], &[!key[key.len() - 1]]].concat();
    assert_eq!(after(pooler, &packet(CANCEL_REQUEST, &wrong)).rest(), [""; 0]);
    // A request that is there before its query has nothing to cancel.
    let (done, asked) = std::sync::mpsc::channel();
    let answer = std::thread::spawn(move || {
        let answer: Vec<String> = client.until(b'Z').iter().map(Message::text).collect();
        let _ = done.send(());
        answer
    });
    wait_until("the query to be cancelled", Duration::from_secs(30), || {
        assert_eq!(after(pooler, &packet(CANCEL_REQUEST, key)).rest(), [""; 0], "never a word");
        asked.recv_timeout(Duration::from_millis(100)).is_ok()
    });
    let answer = answer.join().expect("no panic");
    assert_eq!(answer.iter().filter(|text| text.starts_with("57014 canceling statement")).count(), 1, "{answer:?}");
}

#[test]
fn requests_for_encryption_are_answered_once_each_and_nothing_may_stand_behind_them() {
    let database = Database::create("encryption");
    let pooler = trusting(&database).start();
    let (ssl, gss) = (packet(SSL_REQUEST, b""), packet(GSS_REQUEST, b""));
    for order in [vec![&gss], vec![&ssl], vec![&gss, &ssl], vec![&ssl, &gss]] {
        let mut client = Raw::tcp(pooler.port());
        for request in order {
            client.send(request);
            assert_eq!(client.bytes(1), b"N");
        }
        client.send(&with(&[]));
        assert_eq!(client.until(b'Z').last().map(Message::text).as_deref(), Some("Z"));
    }
    for (request, text) in
        [(&ssl, "08P01 client asked for SSL twice"), (&gss, "08P01 client asked for GSS encryption twice")]
    {
        let mut client = after(&pooler, request);
        assert_eq!(client.bytes(1), b"N");
        client.send(request);
        assert_eq!(client.rest(), [text]);
    }
    for (request, what) in [(&ssl, "SSL"), (&gss, "GSS encryption")] {
        let mut client = after(&pooler, &[request, &with(&[])[..]].concat());
        assert_eq!(client.rest(), [format!("08P01 received unencrypted data after {what} request")]);
    }
    // TLS at once, where there is none.
    assert_eq!(after(&pooler, b"\x16\x03\x01\x02\x00\x01\x00").rest(), ["08P01 bad packet header: '16030102'"]);
}

/// Exporters and other tools over the console can't help what their drivers send.
#[test]
fn the_console_ignores_settings_and_shows_what_its_clients_call_themselves() {
    let database = Database::create("console_parameters");
    let pooler = trusting(&database).set("session_state", "\"pgbouncer\"").start();
    let own = |more: &[(&str, &str)]| {
        startup(V3_0, &[&[("user", "admin"), ("database", "pgbouncer"), ("application_name", "psql")], more].concat())
    };
    let mut console = after(&pooler, &own(&[("extra_float_digits", "2"), ("options", "-c work_mem=1MB")]));
    assert_eq!(console.until(b'Z').last().map(|last| last.tag), Some(b'Z'));
    let row = console.query("SHOW CLIENTS");
    assert!(row.iter().any(|row| row.contains("\u{4}psql")), "{row:?}");
    let refused = "0A000 replication connections are not supported";
    assert_eq!(after(&pooler, &own(&[("replication", "true")])).rest(), [refused]);
}

#[test]
fn startup_parameters_are_taken_ignored_or_refused() {
    let database = Database::create("parameters");
    let pooler = trusting(&database).set("session_state", "\"pgbouncer\"");
    let pooler = pooler.set("ignore_startup_parameters", "[\"extra_float_digits\", \"geqo\"]").start();
    let options = |text: &'static str| with(&[("options", text)]);
    let only = "0A000 unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed";
    for (bytes, expected) in [
        (with(&[("search_path", "x")]), "0A000 unsupported startup parameter: search_path"),
        (with(&[("Search_Path\u{1}", "x")]), "0A000 unsupported startup parameter: Search_Path\u{1}"),
        (options("-c work_mem=1MB"), "0A000 unsupported startup parameter in options: work_mem"),
        (options("--work-mem=1MB"), "0A000 unsupported startup parameter in options: work_mem"),
        (options("-c="), only),
        (options("-c"), only),
        (options("--=x"), only),
        (options("-d5"), only),
        (options("-c TimeZone"), only),
        (options("\\"), only),
    ] {
        let answer = after(&pooler, &bytes).until(0);
        assert_eq!(answer.iter().map(Message::text).collect::<Vec<_>>(), [expected]);
        let hinted = expected.contains("parameter: ") && !expected.contains("only");
        assert!(!hinted || answer[0].hint().contains("ignore_startup_parameters"), "{expected}: {}", answer[0].hint());
    }
    let taken = with(&[
        ("EXTRA_FLOAT_DIGITS", "3"),
        ("options", "-c geqo=off -c datestyle=German --TimeZone=Antarctica/Troll -c application_name=a\\ b"),
        ("replication", "off"),
    ]);
    let mut client = after(&pooler, &taken);
    let answer = client.until(b'Z');
    let seen = ["DateStyle", "TimeZone", "application_name"].map(|name| parameter(&answer, name).unwrap_or_default());
    assert_eq!(seen, ["German", "Antarctica/Troll", "a b"]);
    assert_eq!(
        client.query("SELECT current_setting('TimeZone') || ' ' || current_setting('application_name')"),
        ["Antarctica/Troll a b"]
    );
    assert_eq!(client.query("SELECT '2020-12-31'::date"), ["31.12.2020"]);
}

#[test]
fn ignoring_options_ignores_only_the_unknown_within_them() {
    let database = Database::create("options");
    let pooler = trusting(&database).set("ignore_startup_parameters", "[\"options\"]").start();
    let mut client = after(&pooler, &with(&[("options", "-c work_mem=1MB -c TimeZone=Antarctica/Troll")]));
    assert_eq!(parameter(&client.until(b'Z'), "TimeZone").as_deref(), Some("Antarctica/Troll"));
    assert_ne!(client.query("SHOW work_mem"), ["1MB"]);
    let mut other = after(&pooler, &with(&[("geqo", "off")]));
    other.until(b'Z');
    assert_eq!(other.query("SHOW geqo"), ["off"]);
    let none = after(&pooler, &with(&[("geqo\u{1}", "off")])).rest();
    assert_eq!(none, ["0A000 unsupported startup parameter: geqo\u{1}"]);
    let mut refused = after(&pooler, &with(&[("no_such_setting", "off")]));
    refused.until(b'Z');
    refused.send(&query("SELECT 1"));
    let rest = refused.rest();
    assert_eq!(rest[0], "42704 unrecognized configuration parameter \"no_such_setting\"");
    assert!(!refused.is_open(), "{rest:?}");
}

#[test]
fn the_host_is_added_to_the_application_name_where_that_is_wanted() {
    let database = Database::create("add_host");
    let pooler = trusting(&database).set("application_name_add_host", "true").start();
    for (params, prefix) in [(vec![], "app - 127.0.0.1:"), (vec![("application_name", "job")], "job - 127.0.0.1:")] {
        let mut client = after(&pooler, &with(&params));
        let told = parameter(&client.until(b'Z'), "application_name").unwrap_or_default();
        assert!(told.starts_with(prefix), "{told}");
        assert_eq!(client.query("SELECT current_setting('application_name')"), [told]);
    }
}

#[test]
fn a_startup_packet_that_comes_byte_by_byte_is_one() {
    let database = Database::create("bytes");
    let pooler = trusting(&database).start();
    let mut client = Raw::tcp(pooler.port());
    for byte in with(&[]) {
        client.send(&[byte]);
    }
    assert_eq!(client.until(b'Z').last().map(Message::text).as_deref(), Some("Z"));
    // And with the first query right behind it.
    let mut client = after(&pooler, &[with(&[]), query("SELECT 7")].concat());
    client.until(b'Z');
    assert!(client.until(b'Z').iter().any(|message| message.tag == b'D' && message.body.ends_with(b"7")));
}
