//! What a server says without being asked: notices, warnings, notifications. They are for the client that has it.

use super::{app, direct, shown, trusting};
use crate::support::raw::{Message, Raw, query};
use crate::support::{Database, wait_until};

use std::time::Duration;

/// The text of a notice.
fn heard(message: &Message) -> Option<String> {
    let text = message.body.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"M"))?;
    (message.tag == b'N').then(|| String::from_utf8_lossy(text).into_owned())
}

#[test]
fn notices_reach_the_client_whose_query_raised_them_in_their_order_and_no_other() {
    let database = Database::create("notices");
    let pooler = trusting(&database, 1).start();
    let mut clients = [app(&pooler), app(&pooler)];
    for round in 0..3 {
        for (me, client) in clients.iter_mut().enumerate() {
            let block = format!("DO $$ BEGIN FOR n IN 1..2000 LOOP RAISE NOTICE '{me}.{round}.%', n; END LOOP; END $$");
            client.send(&query(&block));
            let answer = client.until(b'Z');
            let texts: Vec<_> = answer.iter().filter_map(heard).collect();
            let expected: Vec<_> = (1..=2000).map(|n| format!("{me}.{round}.{n}")).collect();
            assert_eq!(texts, expected);
            assert_eq!(shown(&answer[2000..]), "CZ");
        }
    }
    let [one, other] = &mut clients;
    one.send(&query("COMMIT"));
    let warned = one.until(b'Z');
    assert_eq!(warned.iter().find_map(heard).as_deref(), Some("there is no transaction in progress"));
    other.send(&query("SELECT 1"));
    assert_eq!(shown(&other.until(b'Z')), "TDCZ");
    // One of many kilobytes, and one that comes with the error of its query.
    one.send(&query("DO $$ BEGIN RAISE WARNING '%', repeat('w', 300000); END $$"));
    assert_eq!(one.until(b'Z').iter().find_map(heard).map(|text| text.len()), Some(300_000));
    one.send(&query("DO $$ BEGIN RAISE NOTICE 'first'; RAISE EXCEPTION 'then'; END $$"));
    assert_eq!(shown(&one.until(b'Z')), "N[P0001 then]Z");
    other.send(&query("SELECT 2"));
    assert_eq!(shown(&other.until(b'Z')), "TDCZ");
}

/// Channel and payload.
fn notified(message: &Message) -> Option<(String, String)> {
    let mut parts = message.body.get(4..)?.split(|&byte| byte == 0).map(|it| String::from_utf8_lossy(it).into_owned());
    (message.tag == b'A').then(|| Some((parts.next()?, parts.next()?))).flatten()
}

fn next_notified(client: &mut Raw) -> (String, String) {
    let message = client.message().expect("a notification");
    notified(&message).unwrap_or_else(|| panic!("{message:?}"))
}

#[test]
fn notifications_reach_a_session_that_is_idle_that_asks_and_that_ends_its_transaction() {
    let database = Database::create("notify");
    let pooler = trusting(&database, 2).set("pool_mode", "\"session\"").start();
    let (mut listener, mut deaf, mut sender) = (app(&pooler), app(&pooler), direct(&database));
    let pid = listener.query("LISTEN news; SELECT pg_backend_pid()").remove(0);
    let news = |payload: &str| ("news".to_owned(), payload.to_owned());
    assert_eq!(deaf.query("SELECT 1"), ["1"]);
    sender.query("NOTIFY news, 'while idle'");
    assert_eq!(next_notified(&mut listener), news("while idle"));
    // One's own, and others', with the answers to queries.
    listener.send(&query("NOTIFY news, 'my own'"));
    let answer = listener.until(b'Z');
    assert_eq!(answer.iter().find_map(notified), Some(news("my own")));
    assert_eq!(answer.last().map(|last| last.tag), Some(b'Z'));
    // During a query they wait for its end, during a transaction for the transaction's.
    listener.query("BEGIN");
    for n in 0..500 {
        sender.query(&format!("NOTIFY news, '{n}'"));
    }
    listener.send(&query("SELECT 1"));
    assert_eq!(shown(&listener.until(b'Z')), "TDCZ");
    listener.send(&query("COMMIT"));
    // PostgreSQL sends them when it has said ReadyForQuery, or before: that is its own business.
    let mut payloads = Vec::new();
    let mut others = String::new();
    while payloads.len() < 500 || !others.ends_with('Z') {
        let message = listener.message().expect("more of them");
        match notified(&message) {
            Some((_, payload)) => payloads.push(payload),
            None => others += &message.text(),
        }
    }
    assert_eq!(payloads, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(others, "CZ");
    deaf.send(&query("SELECT 2"));
    assert_eq!(shown(&deaf.until(b'Z')), "TDCZ", "it never listened");
    // Who gets the listener's server after it has not listened either.
    drop(listener);
    let mut next = app(&pooler);
    wait_until("the listener's server", LIMIT, || {
        let same = next.query("SELECT pg_backend_pid()") == [pid.as_str()];
        if !same {
            next = app(&pooler);
        }
        same
    });
    sender.query("NOTIFY news, 'for nobody'");
    next.send(&query("SELECT 3"));
    assert_eq!(shown(&next.until(b'Z')), "TDCZ");
}

const LIMIT: Duration = Duration::from_secs(30);
