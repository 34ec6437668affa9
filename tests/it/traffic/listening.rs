//! LISTEN by one connection for all clients: who listens has no server, hears everything in the order of the commits and
//! between its transactions, and nothing that it did not ask for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{app, direct, one_server, rows, shown, trusting};
use crate::support::pooler::Pooler;
use crate::support::raw::{Message, Raw, bind, execute, extended, parse, query, sync};
use crate::support::{Database, wait_until};

/// What a notification says: who, channel, payload.
pub(super) fn read(message: &Message) -> Option<(u32, String, String)> {
    let (pid, rest) = message.body.split_at_checked(4).filter(|_| message.tag == b'A')?;
    let mut texts = rest.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
    Some((u32::from_be_bytes(pid.try_into().expect("four")), texts.next()?, texts.next()?))
}

/// The next notification, as `channel payload`; nothing else may come before it.
#[track_caller]
pub(super) fn hears(client: &mut Raw) -> String {
    let message = client.message().expect("a notification");
    let (_, channel, payload) = read(&message).unwrap_or_else(|| panic!("{message:?} is no notification"));
    format!("{channel} {payload}")
}

/// What a request is answered, notifications left out.
pub(super) fn asks(client: &mut Raw, bytes: &[u8]) -> String {
    client.send(bytes);
    let answer = client.until(b'Z');
    shown(&answer.into_iter().filter(|message| message.tag != b'A').collect::<Vec<_>>())
}

/// Whether a client hears nothing of what is notified now on these channels. Another, which does, says when that has come.
#[track_caller]
pub(super) fn hears_nothing(client: &mut Raw, witness: &mut Raw, notifier: &mut Raw, channels: &[&str]) {
    for channel in channels {
        notifier.query(&format!("NOTIFY \"{channel}\", 'unheard'"));
    }
    notifier.query("NOTIFY witnessed, 'x'");
    while hears(witness) != "witnessed x" {}
    assert_eq!(asks(client, &query("SELECT 1")), "TDCZ");
    assert!(client.is_open(), "it has heard something");
}

/// The process id that a client was told at its login, and the client.
pub(super) fn with_pid(pooler: &Pooler) -> (Raw, u32) {
    let (client, key) = Raw::with_key(pooler.port(), crate::support::raw::V3_0);
    (client, u32::from_be_bytes(key[..4].try_into().expect("four")))
}

#[test]
fn a_client_that_listens_has_no_server() {
    let (database, pooler) = one_server("listen_plain");
    let (mut listener, mut worker, mut notifier) = (app(&pooler), app(&pooler), direct(&database));
    // The only server is another's.
    worker.query("BEGIN");
    assert_eq!(asks(&mut listener, &query("LISTEN news")), "CZ");
    notifier.query("NOTIFY news, 'one'");
    assert_eq!(hears(&mut listener), "news one");
    worker.query("NOTIFY news, 'two'; COMMIT");
    assert_eq!(hears(&mut listener), "news two");
    assert_eq!(asks(&mut listener, &query("SELECT 1")), "TDCZ");
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    let pins: Vec<_> = rows(&mut console, "SHOW CLIENTS").into_iter().filter_map(|row| row.last().cloned()).collect();
    assert!(pins.iter().all(String::is_empty), "{pins:?}");
    assert_eq!(asks(&mut listener, &query("UNLISTEN news")), "CZ");
    let mut witness = app(&pooler);
    asks(&mut witness, &query("LISTEN witnessed"));
    hears_nothing(&mut listener, &mut witness, &mut notifier, &["news"]);
}

/// Texts that are sent one by one, and the channels that are listened to then.
const WAYS: [(&[&str], &[&str]); 22] = [
    (&["LISTEN a"], &["a"]),
    (&["LISTEN a", "LISTEN b", "UNLISTEN a"], &["b"]),
    (&["LISTEN a", "LISTEN b", "UNLISTEN *"], &[]),
    (&["LISTEN a", "DISCARD ALL"], &[]),
    (&["BEGIN", "LISTEN a", "COMMIT"], &["a"]),
    (&["BEGIN", "LISTEN a", "ROLLBACK"], &[]),
    (&["BEGIN", "LISTEN a", "SELECT 1/0", "COMMIT"], &[]),
    (&["BEGIN", "LISTEN b", "SAVEPOINT s", "LISTEN a", "ROLLBACK TO s", "COMMIT"], &["b"]),
    (&["BEGIN", "LISTEN b", "SAVEPOINT s", "LISTEN a", "RELEASE s", "COMMIT"], &["a", "b"]),
    (&["LISTEN a", "BEGIN", "UNLISTEN a", "ROLLBACK"], &["a"]),
    (&["LISTEN a", "BEGIN", "UNLISTEN a", "LISTEN b", "COMMIT"], &["b"]),
    (&["LISTEN a", "BEGIN", "UNLISTEN a", "LISTEN a", "COMMIT"], &["a"]),
    (&["SELECT 1; LISTEN a; SELECT 2"], &["a"]),
    (&["LISTEN a; LISTEN b"], &["a", "b"]),
    (&["LISTEN a; SELECT 1/0"], &[]),
    (&["BEGIN", "SELECT 1/0", "ROLLBACK; LISTEN a"], &["a"]),
    (&["BEGIN", "SELECT 1/0", "LISTEN a; ROLLBACK", "ROLLBACK"], &[]),
    (&["BEGIN", "SELECT 1/0", "COMMIT; LISTEN a; COMMIT; LISTEN b; SELECT 1/0"], &["a"]),
    (&["BEGIN; LISTEN a; COMMIT; LISTEN b; SELECT 1/0"], &["a"]),
    (&["listen A", "LISTEN \"B c\"", "UNLISTEN a", "/* x */ LISTEN \"\u{e4}\"\"\""], &["B c", "\u{e4}\"\""]),
    (
        &[
            "CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
            "BEGIN",
            "INSERT INTO t VALUES (1), (1)",
            "LISTEN a",
            "COMMIT",
        ],
        &[],
    ),
    (&["LISTEN \"\"", "LISTEN a b", "UNLISTEN", "LISTEN"], &[]),
];

#[test]
fn listen_and_unlisten_obey_their_transaction() {
    let database = Database::create("listen_ways");
    let pooler = trusting(&database, 2).start();
    let (mut witness, mut notifier) = (app(&pooler), direct(&database));
    asks(&mut witness, &query("LISTEN witnessed"));
    for protocol in ["simple", "extended", "pipelined"] {
        for (texts, channels) in WAYS {
            let mut client = app(&pooler);
            let bytes = |text: &str| match protocol {
                "simple" => query(text),
                _ if text.contains(';') => query(text),
                _ => [extended(text), sync()].concat(),
            };
            if protocol == "pipelined" {
                client.send(&texts.iter().flat_map(|text| bytes(text)).collect::<Vec<_>>());
                texts.iter().for_each(|_| drop(client.until(b'Z')));
            } else {
                texts.iter().for_each(|text| drop(asks(&mut client, &bytes(text))));
            }
            for channel in channels {
                notifier.query(&format!("NOTIFY \"{channel}\", 'now'"));
                let named = channel.replace("\"\"", "\"");
                assert_eq!(hears(&mut client), format!("{named} now"), "{protocol}: {texts:?}");
            }
            let all = ["a", "b", "B c", "\u{e4}\"\""];
            let others: Vec<_> = all.into_iter().filter(|name| !channels.contains(name)).collect();
            hears_nothing(&mut client, &mut witness, &mut notifier, &others);
            asks(&mut client, &query("DROP TABLE IF EXISTS t"));
        }
    }
    // Nothing is left on the servers.
    for _ in 0..4 {
        assert_eq!(rows(&mut app(&pooler), "SELECT count(*) FROM pg_listening_channels()").concat(), ["0"]);
    }
}

#[test]
fn names_are_cut_as_postgresql_cuts_them() {
    let (database, pooler) = one_server("listen_names");
    let (mut client, mut notifier) = (app(&pooler), direct(&database));
    for name in ["x".repeat(70), format!("{}\u{e4}{}", "y".repeat(62), "z".repeat(9)), "\u{20ac}".repeat(30)] {
        for text in [format!("LISTEN \"{name}\""), format!("BEGIN; LISTEN \"{name}\"; COMMIT")] {
            assert!(!asks(&mut client, &query(&text)).contains('['));
            notifier.query(&format!("NOTIFY \"{name}\", 'p'"));
            let heard = hears(&mut client);
            assert!(heard.len() <= 65 && name.starts_with(heard.strip_suffix(" p").expect("the payload")), "{heard}");
            asks(&mut client, &query(&format!("UNLISTEN \"{name}\"")));
        }
    }
}

#[test]
fn who_listens_hears_what_comes_after_and_between_its_transactions() {
    let (database, pooler) = one_server("listen_order");
    let (mut client, mut other, mut notifier) = (app(&pooler), app(&pooler), direct(&database));
    asks(&mut other, &query("LISTEN news"));
    for round in 0..50 {
        // What was committed before is not for who comes later.
        notifier.query(&format!("NOTIFY news, 'before {round}'"));
        assert_eq!(asks(&mut client, &query("LISTEN news")), "CZ");
        notifier.query(&format!("NOTIFY news, 'after {round}'"));
        assert_eq!(hears(&mut client), format!("news after {round}"));
        asks(&mut client, &query("UNLISTEN *"));
    }
    asks(&mut client, &query("LISTEN news"));
    asks(&mut client, &query("BEGIN"));
    notifier.query("NOTIFY news, 'in between'");
    while hears(&mut other) != "news in between" {}
    client.send(&query("SELECT 1"));
    assert_eq!(shown(&client.until(b'Z')), "TDCZ", "not within a transaction");
    client.send(&query("COMMIT"));
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    assert_eq!(hears(&mut client), "news in between");
    // Many of one transaction and of several: in their order.
    notifier.query("SELECT pg_notify('news', n::text) FROM generate_series(1, 5000) n");
    (1..=5000).for_each(|n| assert_eq!(hears(&mut client), format!("news {n}")));
}

#[test]
fn a_listen_of_a_lost_transaction_is_none() {
    let (database, pooler) = one_server("listen_lost");
    let (mut client, mut witness, mut notifier) = (app(&pooler), app(&pooler), direct(&database));
    asks(&mut witness, &query("LISTEN witnessed"));
    asks(&mut client, &query("LISTEN kept"));
    asks(&mut client, &query("BEGIN; LISTEN lost"));
    let server = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
        AND usename = 'app' AND application_name NOT LIKE 'pglifeguard%'";
    database.sql(server);
    assert!(asks(&mut client, &query("SELECT 1")).contains("[08006"));
    notifier.query("NOTIFY kept, 'late'");
    assert_eq!(
        asks(&mut client, &query("SELECT 1")),
        "[25P02 current transaction is aborted, commands ignored until end of transaction block]Z"
    );
    client.send(&query("ROLLBACK"));
    assert_eq!(shown(&client.until(b'Z')), "CZ");
    assert_eq!(hears(&mut client), "kept late");
    hears_nothing(&mut client, &mut witness, &mut notifier, &["lost"]);
}

#[test]
fn databases_and_users_are_apart() {
    let (one, two) = (Database::create("listen_one"), Database::create("listen_two"));
    let pooler = trusting(&one, 1).database("second", &two).user("by_trust", "x").start();
    let mut clients =
        [app(&pooler), Raw::trusted(pooler.port(), "by_trust", "app"), Raw::trusted(pooler.port(), "app", "second")];
    clients.iter_mut().for_each(|client| assert_eq!(asks(client, &query("LISTEN c")), "CZ"));
    direct(&one).query("NOTIFY c, 'one'");
    direct(&two).query("NOTIFY c, 'two'");
    assert_eq!(clients.each_mut().map(hears), ["c one", "c one", "c two"]);
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pglifeguard: LISTEN' AND datname = \
        current_database()";
    assert_eq!([one.sql(listening), two.sql(listening)], ["2", "1"]);
    drop(clients);
    wait_until("connections that nobody needs to be closed", LIMIT, || one.sql(listening) == "0");
}

#[test]
fn a_clients_own_notifications_carry_its_own_process_id() {
    let (database, pooler) = one_server("listen_pid");
    database.sql("CREATE TABLE t (n int); GRANT ALL ON t TO app");
    let ((mut one, mine), (mut two, other)) = (with_pid(&pooler), with_pid(&pooler));
    for client in [&mut one, &mut two] {
        assert_eq!(asks(client, &query("LISTEN c")), "CZ");
    }
    let heard = |client: &mut Raw| read(&client.message().expect("a notification")).expect("it is one").0;
    for bytes in [
        query("NOTIFY c"),
        query("BEGIN; NOTIFY c; COMMIT"),
        query("SELECT pg_notify('c', '')"),
        [extended("NOTIFY c"), sync()].concat(),
        [parse("n", "SELECT pg_notify('c', $1)"), bind("", "n", &[b"x"]), execute("", 0), sync()].concat(),
        query("INSERT INTO t SELECT 1 FROM (SELECT pg_notify('c', 'y')) n"),
    ] {
        for _ in 0..20 {
            one.send(&bytes);
            one.until(b'Z');
            assert_eq!(heard(&mut one), mine);
            assert!(![mine, other].contains(&heard(&mut two)));
            if bytes[0] == b'P' && bytes[5] == b'n' {
                asks(&mut one, &query("DEALLOCATE ALL"));
            }
            two.send(&query("NOTIFY c"));
            two.until(b'Z');
            assert_eq!(heard(&mut two), other);
            assert!(![mine, other].contains(&heard(&mut one)));
        }
    }
}

#[test]
fn when_the_connection_breaks_it_is_made_again_and_the_clients_are_told() {
    let database = Database::create("listen_broken");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut other, mut notifier) = (app(&pooler), app(&pooler), direct(&database));
    asks(&mut client, &query("LISTEN a"));
    asks(&mut client, &query("LISTEN b"));
    asks(&mut other, &query("LISTEN b"));
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'pglifeguard: LISTEN'";
    for _ in 0..3 {
        database.sql(end);
        for client in [&mut client, &mut other] {
            let notice = client.message().expect("a notice");
            assert_eq!(notice.tag, b'N', "{notice:?}");
            let text = String::from_utf8_lossy(&notice.body).into_owned();
            assert!(text.contains("C01000") && text.contains("notifications may be missing"), "{text}");
        }
        notifier.query("NOTIFY a, 'on'; NOTIFY b, 'and on'");
        assert_eq!([hears(&mut client), hears(&mut client), hears(&mut other)], ["a on", "b and on", "b and on"]);
    }
    assert!(pooler.log().contains("notifications may be missing"), "{}", pooler.log());
}

#[test]
fn who_does_not_read_is_disconnected() {
    let (database, pooler) = one_server("listen_slow");
    let (mut slow, mut fast, mut notifier) = (app(&pooler), app(&pooler), direct(&database));
    asks(&mut slow, &query("LISTEN c"));
    asks(&mut fast, &query("LISTEN c"));
    for round in 0..8 {
        notifier.query("SELECT pg_notify('c', rpad(n::text, 7900, '.')) FROM generate_series(1, 500) n");
        for n in 1..=500 {
            assert!(hears(&mut fast).starts_with(&format!("c {n}.")), "{round}");
        }
    }
    let rest = slow.rest();
    assert_eq!(rest.last().map(String::as_str), Some("54000 too many notifications wait for this client"));
    assert!(rest[..rest.len() - 1].iter().all(|text| text == "A"));
    assert_eq!(asks(&mut fast, &query("SELECT 1")), "TDCZ");
}

#[test]
fn a_listen_that_can_not_be_had_is_refused_in_time_and_may_be_cancelled() {
    let database = Database::create("listen_refused");
    let pooler = trusting(&database, 2).set("query_wait_timeout", "1").start();
    let (mut client, key) = Raw::with_key(pooler.port(), crate::support::raw::V3_0);
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    asks(&mut client, &query("BEGIN"));
    // The transaction goes on; what would listen for it is not there.
    console.send(&query("PAUSE app"));
    wait_until("the pause", LIMIT, || {
        let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
        rows(&mut console, "SHOW DATABASES").iter().any(|row| row[0] == "app" && row[row.len() - 2] == "1")
    });
    assert!(asks(&mut client, &query("LISTEN c")).starts_with("[57014 query_wait_timeout]"));
    assert!(asks(&mut client, &query("SELECT 1")).starts_with("[25P02"));
    asks(&mut client, &query("ROLLBACK"));
    console.until(b'Z');
    client.send(&query("LISTEN c"));
    let mut canceller = Raw::tcp(pooler.port());
    canceller.send(&crate::support::raw::packet(crate::support::raw::CANCEL_REQUEST, &key));
    canceller.rest();
    let answer = shown(&client.until(b'Z'));
    assert!(answer.starts_with("[57014"), "{answer}");
    asks(&mut console, &query("RESUME app"));
    assert_eq!(asks(&mut client, &query("LISTEN c")), "CZ");
    direct(&database).query("NOTIFY c, 'here'");
    assert_eq!(hears(&mut client), "c here");
}

#[test]
fn operators_have_the_connection_closed_and_made_again() {
    let (database, pooler) = one_server("listen_orders");
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    let mut client = app(&pooler);
    asks(&mut client, &query("LISTEN c"));
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'";
    for (order, then) in [("PAUSE", "RESUME"), ("RECONNECT", "WAIT_CLOSE")] {
        assert_eq!(asks(&mut console, &query(order)), "CZ");
        if order == "PAUSE" {
            wait_until("the backends to be gone", LIMIT, || database.sql(connections) == "0");
        }
        assert_eq!(asks(&mut console, &query(then)), "CZ");
        assert_eq!(client.message().map(|notice| notice.tag), Some(b'N'), "{order}");
        direct(&database).query("NOTIFY c, 'again'");
        assert_eq!(hears(&mut client), "c again", "{order}");
    }
    assert_eq!(asks(&mut console, &query("KILL app")), "CZ");
    assert!(client.rest().last().is_some_and(|last| last.starts_with("57P01")));
    wait_until("the backends to be gone", LIMIT, || database.sql(connections) == "0");
}

#[test]
fn other_encodings_have_a_connection_of_their_own() {
    let (database, pooler) = one_server("listen_encodings");
    let mut latin = Raw::tcp(pooler.port());
    let wishes = [("user", "app"), ("database", "app"), ("client_encoding", "LATIN1")];
    latin.send(&crate::support::raw::startup(crate::support::raw::V3_0, &wishes));
    latin.until(b'Z');
    latin.send(&crate::support::raw::message(b'Q', b"LISTEN \"\xe4\"\0"));
    assert_eq!(shown(&latin.until(b'Z')), "CZ");
    direct(&database).query("NOTIFY \"\u{e4}\", '\u{f6}'");
    let message = latin.message().expect("a notification");
    assert_eq!((message.tag, &message.body[4..]), (b'A', &b"\xe4\0\xf6\0"[..]));
}

#[test]
fn listen_may_be_refused() {
    let database = Database::create("listen_error");
    let pooler = trusting(&database, 1).set("listen", "\"error\"").start();
    let mut client = app(&pooler);
    let refused = "[0A000 LISTEN is not supported by this pooler]Z";
    for bytes in [query("LISTEN c"), query("SELECT 1; LISTEN c"), query("/**/ LISTEN c")] {
        assert_eq!(asks(&mut client, &bytes), refused);
    }
    let extended = [extended("LISTEN c"), sync()].concat();
    assert_eq!(asks(&mut client, &extended), format!("12{refused}"));
    assert_eq!(asks(&mut client, &query("UNLISTEN *")), "CZ");
    asks(&mut client, &query("BEGIN"));
    assert_eq!(asks(&mut client, &query("LISTEN c")), refused);
    assert!(asks(&mut client, &query("SELECT 1")).starts_with("[25P02"));
    assert_eq!(asks(&mut client, &query("ROLLBACK")), "CZ");
}

#[test]
fn as_in_pgbouncer_the_server_listens() {
    let database = Database::create("listen_pgbouncer");
    let pooler = trusting(&database, 1).set("session_state", "\"pgbouncer\"").start();
    let mut client = app(&pooler);
    asks(&mut client, &query("LISTEN c"));
    assert_eq!(rows(&mut app(&pooler), "SELECT * FROM pg_listening_channels()").concat(), ["c"]);
    client.send(&query("NOTIFY c, 'x'"));
    let seen: BTreeSet<_> = client.until(b'Z').iter().map(|message| message.tag).collect();
    assert!(seen.contains(&b'A'));
}

const LIMIT: Duration = Duration::from_secs(30);
