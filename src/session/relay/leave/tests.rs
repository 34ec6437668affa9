use std::sync::Arc;

use bytes::BytesMut;

use super::super::machine::{Attached, Relay};
use super::super::table::Table;
use super::*;
use crate::server::statements::Statements;
use crate::wire::params::ParamSet;

/// A client with a server.
struct Pair {
    relay: Relay,
    exchange: Exchange,
    params: ParamSet,
    matched: Option<ParamSet>,
    assigned: Option<ParamSet>,
    statements: Statements,
}

impl Pair {
    fn new(own_names: bool, client: &[u8], server: &[u8]) -> Self {
        let set = |value| {
            let mut set = ParamSet::default();
            set.set("TimeZone", value);
            set
        };
        Self {
            relay: Relay::new(Arc::new(Table::default()), set(client), 1 << 20, own_names),
            exchange: Exchange::default(),
            params: set(server),
            matched: None,
            assigned: None,
            statements: Statements::new(10),
        }
    }

    /// The tags of what the server is sent.
    fn client_sends(&mut self, bytes: &[u8]) -> String {
        let Self { relay, exchange, params, matched, assigned, statements } = self;
        let mut steps = Steps::default();
        relay.from_client(Some(Attached { exchange, params, matched, assigned, statements }), bytes, &mut steps);
        tags(&steps.to_server.concat(bytes))
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        let Self { relay, exchange, params, matched, assigned, statements } = self;
        let mut steps = Steps::default();
        let server = &mut Attached { exchange, params, matched, assigned, statements };
        relay.from_server(server, bytes, &mut steps).expect("what is owed");
    }

    /// The tags of what comes next, and whether it is at rest.
    fn toward_rest(&mut self) -> (String, bool) {
        let mut steps = Steps::default();
        let rests = toward_rest(&mut self.exchange, &mut steps);
        (tags(&steps.to_server.concat(&[])), rests)
    }
}

fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let [tag, a, b, c, d, ..] = *bytes {
        tags.push(char::from(tag));
        bytes = &bytes[bytes.len().min(1 + u32::from_be_bytes([a, b, c, d]) as usize)..];
    }
    tags
}

fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_frame(&mut out, tag, parts);
    out.to_vec()
}

fn query(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"])
}

/// Parse, Bind and Execute.
fn extended(name: &str, text: &str) -> Vec<u8> {
    [frame(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), &[0; 3]]), again(name)].concat()
}

fn again(name: &str) -> Vec<u8> {
    [frame(b'B', &[b"\0", name.as_bytes(), &[0; 7]]), frame(b'E', &[&[0; 5]])].concat()
}

fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

fn ready(status: u8) -> Vec<u8> {
    frame(b'Z', &[&[status]])
}

fn done() -> Vec<u8> {
    [frame(b'2', &[]), frame(b'C', &[b"DONE\0"])].concat()
}

fn parsed() -> Vec<u8> {
    [frame(b'1', &[]), done()].concat()
}

#[test]
fn a_cancel_is_allowed_only_if_all_that_is_owed_allows_it() {
    let close = || frame(b'C', &[b"Pp\0"]);
    for (what, sent, allowed) in [
        ("a query", vec![query("select 1")], true),
        ("a COMMIT before it", vec![query("commit"), query("select 1")], false),
        ("a COMMIT behind it", vec![query("select 1"), query("commit")], false),
        ("a COMMIT in it", vec![query("insert into t values (1); commit")], false),
        ("an extended one", vec![extended("", "select 1"), sync()], true),
        ("a named one", vec![extended("s", "select 1"), sync()], true),
        ("extended VACUUM", vec![extended("", "vacuum"), sync()], false),
        ("named VACUUM", vec![extended("s", "vacuum"), sync()], false),
        ("a transaction's first", vec![extended("", "begin"), extended("", "select 1"), sync()], true),
        ("all of a transaction", vec![extended("", "begin"), extended("a", "select 1"), extended("b", "end")], false),
        ("behind a Close", vec![close(), extended("", "select 1"), sync()], true),
        ("a function call", vec![frame(b'F', &[&[0; 10]])], true),
    ] {
        for own_names in [false, true] {
            let mut pair = Pair::new(own_names, b"A", b"A");
            pair.client_sends(&sent.concat());
            assert_eq!(pair.exchange.may_cancel, allowed, "{what}, own names: {own_names}");
        }
    }
}

#[test]
fn whether_a_cancel_is_allowed_is_judged_afresh_and_by_what_is_bound() {
    for own_names in [false, true] {
        let mut pair = Pair::new(own_names, b"A", b"A");
        let mut asks = |sent: &[u8], answer: &[u8]| {
            pair.client_sends(sent);
            let allowed = pair.exchange.may_cancel;
            pair.server_sends(answer);
            allowed
        };
        assert!(!asks(&query("vacuum"), &[frame(b'C', &[b"VACUUM\0"]), ready(b'I')].concat()));
        let parse = |name: &str, text: &str| [extended(name, text), sync()].concat();
        let bind = |name: &str| [again(name), sync()].concat();
        assert!(asks(&parse("s", "begin"), &[parsed(), ready(b'T')].concat()), "own names: {own_names}");
        assert!(asks(&query("create table t (n int)"), &[frame(b'C', &[b"\0"]), ready(b'T')].concat()), "in a block");
        assert!(!asks(&parse("c", "commit"), &[parsed(), ready(b'I')].concat()), "own names: {own_names}");
        assert!(!asks(&query("create table t (n int)"), &[frame(b'C', &[b"\0"]), ready(b'I')].concat()));
        assert!(asks(&parse("", "select 1"), &[parsed(), ready(b'T')].concat()));
        assert!(!asks(&bind("c"), &[done(), ready(b'T')].concat()), "own names: {own_names}");
        assert!(asks(&bind(""), &[done(), ready(b'T')].concat()), "own names: {own_names}");
        assert!(asks(&bind("s"), &[done(), ready(b'T')].concat()), "own names: {own_names}");
        let more = [frame(b'E', &[&[0; 5]]), sync()].concat();
        assert!(asks(&more, &[frame(b'C', &[b"DONE\0"]), ready(b'T')].concat()), "own names: {own_names}");
        let commits = [frame(b'P', &[b"\0commit\0\0\0"]), frame(b'B', &[&[0; 8]]), sync()].concat();
        asks(&commits, &[frame(b'1', &[]), frame(b'2', &[]), ready(b'T')].concat());
        assert!(!asks(&more, &[frame(b'C', &[b"DONE\0"]), ready(b'I')].concat()), "own names: {own_names}");
        let bound = [frame(b'P', &[b"\0commit\0\0\0"]), frame(b'B', &[b"p\0", &[0; 7]]), sync()].concat();
        asks(&bound, &[frame(b'1', &[]), frame(b'2', &[]), ready(b'T')].concat());
        let behind = [extended("", "select 1"), frame(b'E', &[b"p\0", &[0; 4]]), sync()].concat();
        let answer = [parsed(), frame(b'C', &[b"COMMIT\0"]), ready(b'I')].concat();
        assert!(!asks(&behind, &answer), "own names: {own_names}");
    }
}

#[test]
fn settings_before_a_query_do_not_keep_it_from_being_cancelled() {
    let mut pair = Pair::new(true, b"A", b"B");
    assert_eq!(pair.client_sends(&query("select 1")), "PBECQ");
    assert!(pair.exchange.may_cancel);
}

#[test]
fn what_the_client_has_not_committed_is_made_to_fail_before_the_sync() {
    for flushed in [false, true] {
        let mut pair = Pair::new(true, b"A", b"A");
        pair.client_sends(&extended("", "insert into t values (1)"));
        if flushed {
            pair.server_sends(&parsed());
        }
        assert_eq!(pair.toward_rest(), ("BS".to_owned(), false), "flushed: {flushed}");
        assert_eq!(pair.toward_rest(), (String::new(), false));
        if !flushed {
            pair.server_sends(&parsed());
        }
        pair.server_sends(&[frame(b'E', &[b"SERROR\0C26000\0\0"]), ready(b'I')].concat());
        assert_eq!(pair.toward_rest(), (String::new(), true), "flushed: {flushed}");
    }
}

#[test]
fn a_message_that_its_settings_kept_waiting_is_not_waited_for() {
    let mut pair = Pair::new(true, b"A", b"B");
    assert_eq!(pair.client_sends(&query("vacuum")), "PBECS");
    pair.server_sends(&[frame(b'E', &[b"SERROR\0C22023\0\0"]), ready(b'I')].concat());
    assert_eq!(pair.toward_rest(), (String::new(), true));
}
