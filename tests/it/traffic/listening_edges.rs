//! LISTEN by one connection for all clients, when that connection is in trouble.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::listening::{asks, hears, read, with_pid};
use super::{app, direct, one_server, shown};
use crate::support::pooler::Pooler;
use crate::support::raw::{CANCEL_REQUEST, Raw, V3_0, packet, query};
use crate::support::{Database, wait_until};

/// A backend that does nothing.
struct Stopped(Pid);

impl Stopped {
    /// The one that listens for everybody.
    fn hub(database: &Database) -> Self {
        let pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name = 'pglifeguard: LISTEN'";
        let pid = Pid::from_raw(database.sql(pid).parse().expect("one listens")).expect("it has an id");
        kill_process(pid, Signal::STOP).expect("it is ours");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn cancel(pooler: &Pooler, key: &[u8]) {
    let mut canceller = Raw::tcp(pooler.port());
    canceller.send(&packet(CANCEL_REQUEST, key));
    canceller.rest();
}

#[test]
fn a_connection_that_says_nothing_holds_nobody_up_and_loses_nothing() {
    let (database, pooler) = one_server("listen_stopped");
    let ((mut one, mine), (mut two, other)) = (with_pid(&pooler), with_pid(&pooler));
    let mut third = app(&pooler);
    asks(&mut one, &query("LISTEN c"));
    asks(&mut two, &query("LISTEN c"));
    let stopped = Stopped::hub(&database);
    for round in 0..10 {
        for client in [&mut one, &mut third, &mut two] {
            assert_eq!(asks(client, &query(&format!("NOTIFY c, '{round}'"))), "CZ");
        }
    }
    drop(stopped);
    for client in [&mut one, &mut two] {
        for round in 0..30 {
            let message = client.message().expect("a notification");
            let (pid, channel, payload) = read(&message).unwrap_or_else(|| panic!("{message:?}"));
            assert_eq!((channel, payload), ("c".into(), (round / 3).to_string()));
            // Nobody takes another's for its own; whether its own are known is another matter.
            assert!(round == 0 || ![mine, other].contains(&pid), "{round}: {pid}");
        }
    }
    wait_until("a notification of its own", LIMIT, || {
        asks(&mut one, &query("NOTIFY c, 'own'"));
        read(&one.message().expect("a notification")).is_some_and(|(pid, ..)| pid == mine)
    });
}

#[test]
fn who_waits_to_notify_may_cancel_and_may_go() {
    let (database, pooler) = one_server("listen_cancel");
    let (mut one, (mut two, key)) = (app(&pooler), Raw::with_key(pooler.port(), V3_0));
    asks(&mut one, &query("LISTEN c"));
    let held = query("SELECT pg_notify('d', ''), pg_sleep(60)");
    for leaves in [false, true] {
        let stopped = Stopped::hub(&database);
        asks(&mut one, &query("NOTIFY c, 'x'"));
        two.send(&held);
        if leaves {
            two.cut();
        } else {
            cancel(&pooler, &key);
            assert_eq!(shown(&two.until(b'Z')), "[57014 canceling statement due to user request]Z");
        }
        assert_eq!(asks(&mut app(&pooler), &query("SELECT 1")), "TDCZ");
        drop(stopped);
        assert_eq!(hears(&mut one), "c x");
    }
}

#[test]
fn who_changes_the_encoding_again_and_again_opens_few_connections() {
    let (_database, pooler) = one_server("listen_many");
    let mut clients = Vec::new();
    for (encoding, answer) in [
        ("UTF8", "CZ"),
        ("latin1", "CZ"),
        ("LATIN2", "CZ"),
        ("WIN1252", "CZ"),
        ("LATIN9", "[53300 too many connections listen for clients (client_encoding)]Z"),
        ("LATIN-1", "CZ"),
    ] {
        let mut client = app(&pooler);
        asks(&mut client, &query(&format!("SET client_encoding = '{encoding}'")));
        assert_eq!(asks(&mut client, &query("LISTEN a")), answer, "{encoding}");
        clients.push(client);
    }
}

#[test]
fn a_client_may_listen_to_thousands_of_channels() {
    let (database, pooler) = one_server("listen_thousands");
    let (mut client, mut notifier) = (app(&pooler), direct(&database));
    let all = |verb: &str| (0..10_000).map(|n| format!("{verb} c{n}; ")).collect::<String>();
    // What it listens to already is asked for again.
    for _ in 0..2 {
        assert_eq!(asks(&mut client, &query(&all("LISTEN"))), format!("{}Z", "C".repeat(10_000)));
    }
    assert_eq!(asks(&mut client, &query("UNLISTEN c0")), "CZ");
    assert_eq!(asks(&mut client, &query("LISTEN c10000")), "CZ");
    notifier.query(&format!("{} NOTIFY c10000", all("NOTIFY")));
    for n in 1..=10_000 {
        assert_eq!(hears(&mut client), format!("c{n} "));
    }
    assert_eq!(asks(&mut client, &query("UNLISTEN *")), "CZ");
    let listens = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pglifeguard: LISTEN'";
    wait_until("nobody to listen", LIMIT, || database.sql(listens) == "0");
}

const LIMIT: Duration = Duration::from_secs(30);
