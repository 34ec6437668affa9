//! Clients that break the protocol in the middle of something: it costs them their connection, and nobody else anything.

use crate::support::raw::{Raw, query};
use crate::support::{Database, PoolerConfig};

/// What is sent at once, what is sent once that is answered, and the error that ends the connection.
/// What it is, what is sent before it, it itself, what the client is told.
type Violation = (&'static str, &'static [&'static [u8]], &'static [&'static [u8]], &'static str);

const VIOLATIONS: [Violation; 11] = [
    ("no length", &[SELECT], &[b"Q\0\0\0\0"], "08P01 invalid length 0 of message 'Q'"),
    ("behind a query", &[], &[SELECT, b"\0\0\0\0\x04"], "08P01 invalid message type '\\x00'"),
    // PostgreSQL takes no notice of CopyData where there is no COPY, but it must all come.
    (
        "behind half a message",
        &[SELECT, b"d\0\0\0\x0cabcd"],
        &[b"efgh", b"?\0\0\0\x04"],
        "08P01 invalid message type '?'",
    ),
    // PostgreSQL's error would reach the server's next client, whose queries it would skip.
    // PostgreSQL takes none of 1 GiB.
    ("a Query too long", &[SELECT], &[b"Q\x3f\xff\xff\xffSELECT"], "08P01 invalid length 1073741823 of message 'Q'"),
    ("a Parse of 2 GiB", &[SELECT], &[b"P\x7f\xff\xff\xffs\0"], "08P01 invalid length 2147483647 of message 'P'"),
    ("a Flush with a body", &[SELECT], &[SELECT, b"H\0\0\0\x08abcd"], "08P01 broken Flush packet"),
    ("a Sync with a body", &[SELECT], &[SELECT, b"S\0\0\0\x07abc"], "08P01 broken Sync packet"),
    ("a Flush with a body, without a server", &[], &[b"H\0\0\0\x05a"], "08P01 broken Flush packet"),
    ("a Sync with a body, without a server", &[], &[b"S\0\0\0\x07abc"], "08P01 broken Sync packet"),
    ("a Sync with a body that is to come", &[], &[b"S\0\0\0\x07"], "08P01 broken Sync packet"),
    ("a Sync with a body behind a Parse", &[SELECT], &[PARSE, b"S\0\0\0\x07abc"], "08P01 broken Sync packet"),
];
const PARSE: &[u8] = b"P\0\0\0\x10\0SELECT 1\0\0\0";
const SELECT: &[u8] = b"Q\0\0\0\x11SELECT 'one'\0";

#[test]
fn a_violation_costs_its_connection_and_the_server_goes_on_with_the_next_client() {
    let database = Database::create("violations");
    let pooler = PoolerConfig::new()
        .database("app", &database)
        .set("auth_type", "\"trust\"")
        .set("default_pool_size", "1")
        .set("cancel_wait_timeout", "\"0\"")
        .start();
    for (name, first, then, error) in VIOLATIONS {
        let mut client = Raw::trusted(pooler.port(), "app", "app");
        client.send(&first.concat());
        if !first.is_empty() {
            client.until(b'Z');
        }
        client.send(&then.concat());
        assert_eq!(client.rest().last().map(String::as_str), Some(error), "{name}");
        let mut next = Raw::trusted(pooler.port(), "app", "app");
        for round in ["a", "b"] {
            assert_eq!(next.query(&format!("SELECT '{round}'")), [round], "after {name}");
        }
    }
}

#[test]
fn a_block_in_statement_mode_keeps_its_server_from_nobody() {
    let database = Database::create("violations_block");
    let pooler = PoolerConfig::new()
        .database("app", &database)
        .set("auth_type", "\"trust\"")
        .set("pool_mode", "\"statement\"")
        .set("default_pool_size", "1")
        .set("cancel_wait_timeout", "\"0\"")
        .start();
    let mut next = Raw::trusted(pooler.port(), "app", "app");
    next.query("CREATE TABLE t (n int)");
    for behind in [&["INSERT INTO t VALUES (1)", "SELECT 1"][..], &["SELECT 1"; 20], &["COMMIT", "BEGIN", "SELECT 1"]] {
        let mut client = Raw::trusted(pooler.port(), "app", "app");
        client.send(&[&["BEGIN"][..], behind].concat().into_iter().flat_map(query).collect::<Vec<_>>());
        let error = "08P01 transaction blocks not allowed in statement pooling mode";
        assert_eq!(client.rest().last().map(String::as_str), Some(error), "{behind:?}");
        assert_eq!(next.query("SELECT count(*) FROM t"), ["0"], "{behind:?}");
    }
}
