//! The end: by signal and by command, at once, after the servers, after the clients.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::show;
use crate::support::pooler::Pooler;
use crate::support::raw::{self, Raw};
use crate::support::{Database, PoolerConfig, Session, eventually};

fn words(code: &str, text: &str) -> (String, String) {
    (code.to_owned(), text.to_owned())
}

async fn listener_closed(pooler: &Pooler) {
    let port = pooler.port();
    eventually("the listener to close", async || {
        let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err_and(refused)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_lets_transactions_end_and_sends_the_others_home() {
    let database = Database::create("sigint");
    let mut pooler = PoolerConfig::new().database("app", &database).start();
    let (idle, busy) = (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    let asking = Session::connect(&pooler.app_dsn("app")).await;
    busy.batch_execute("CREATE TABLE kept (n int)").await.expect("a server");
    busy.batch_execute("BEGIN; INSERT INTO kept VALUES (1)").await.expect("a server");
    pooler.signal(Signal::INT);
    listener_closed(&pooler).await;
    assert_eq!(Session::refusal(asking.batch_execute("SELECT 1").await), words("57P01", "server shutting down"));
    let operator = Session::connect(&pooler.socket_dsn("pgbouncer", "pgbouncer")).await;
    assert_eq!(show(&operator, "SERVERS", "database", "app").await["state"], "active");
    let refused = Session::refusal(Session::try_connect(&pooler.socket_dsn("app", "app")).await);
    assert_eq!(refused, words("57P03", "pooler is shutting down"));
    busy.batch_execute("COMMIT").await.expect("its transaction goes on to its end");
    assert!(pooler.wait().success());
    assert_eq!(idle.end().await, words("57P01", "server shutting down"));
    assert_eq!(database.sql("SELECT count(*) FROM kept"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_serves_its_clients_until_they_leave() {
    let database = Database::create("sigterm");
    let mut pooler = PoolerConfig::new().database("app", &database).start();
    let (one, two) = (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    pooler.signal(Signal::TERM);
    listener_closed(&pooler).await;
    assert_eq!(one.value("SELECT 1").await, "1");
    drop(one);
    for n in 0..20 {
        assert_eq!(two.value(&format!("SELECT {n}")).await, n.to_string(), "the last one is served as before");
    }
    drop(two);
    assert!(pooler.wait().success());
}

/// A client that the pooler has taken, and that has not said yet who it is.
fn undecided(pooler: &Pooler) -> Raw {
    let mut client = Raw::tcp(pooler.port());
    client.send(&raw::packet(raw::SSL_REQUEST, b""));
    assert_eq!(client.bytes(1), b"N");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_waits_for_those_who_are_logging_in_and_serves_them() {
    let database = Database::create("sigterm_logins");
    let mut pooler = PoolerConfig::new().database("app", &database).set("auth_type", "\"trust\"").start();
    let mut client = undecided(&pooler);
    pooler.signal(Signal::TERM);
    listener_closed(&pooler).await;
    client.send(&raw::startup(raw::V3_0, &[("user", "app"), ("database", "app")]));
    let answer = client.until(b'Z');
    assert_eq!(answer.last().map(|last| last.tag), Some(b'Z'), "{answer:?}");
    assert_eq!(client.query("SELECT 1"), ["1"]);
    drop(client);
    assert!(pooler.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_waits_for_nobody_who_came_later() {
    let database = Database::create("sigterm_late");
    let mut pooler = PoolerConfig::new().database("app", &database).set("client_login_timeout", "0").start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    pooler.signal(Signal::TERM);
    listener_closed(&pooler).await;
    let socket = pooler.directory().join(format!(".s.PGSQL.{}", pooler.port()));
    let _silent = UnixStream::connect(socket).expect("operators still get in");
    let refused = Session::refusal(Session::try_connect(&pooler.socket_dsn("app", "app")).await);
    assert_eq!(refused, words("57P03", "pooler is shutting down"));
    let operator = Session::connect(&pooler.socket_dsn("pgbouncer", "pgbouncer")).await;
    assert_eq!(Session::refusal(operator.try_rows("RESUME").await), words("08P01", "pooler is shutting down"));
    drop(client);
    assert!(pooler.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_refuses_those_who_are_logging_in() {
    let database = Database::create("sigint_logins");
    let mut pooler = PoolerConfig::new().database("app", &database).set("auth_type", "\"trust\"").start();
    let busy = Session::connect(&pooler.app_dsn("app")).await;
    busy.batch_execute("BEGIN").await.expect("a server");
    let mut client = undecided(&pooler);
    pooler.signal(Signal::INT);
    listener_closed(&pooler).await;
    client.send(&raw::startup(raw::V3_0, &[("user", "app"), ("database", "app")]));
    assert_eq!(client.rest(), ["57P03 pooler is shutting down"]);
    drop(busy);
    assert!(pooler.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_and_sigquit_end_at_once() {
    let database = Database::create("second_signal");
    for signals in [
        &[Signal::TERM, Signal::TERM][..],
        &[Signal::INT, Signal::INT],
        &[Signal::TERM, Signal::INT],
        &[Signal::INT, Signal::TERM],
        &[Signal::QUIT],
    ] {
        let mut pooler = PoolerConfig::new().database("app", &database).start();
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("BEGIN").await.expect("a server");
        for (at, signal) in signals.iter().enumerate() {
            pooler.signal(*signal);
            if at == 0 && signals.len() > 1 {
                listener_closed(&pooler).await;
                assert_eq!(client.value("SELECT 1").await, "1", "{signals:?}: the first waits");
            }
        }
        assert!(pooler.wait().success(), "{signals:?}");
        assert_eq!(client.end().await, words("57P01", "server shutting down"), "{signals:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_do_as_the_signals() {
    let database = Database::create("shutdown_command");
    for (command, ends) in
        [("SHUTDOWN", true), ("SHUTDOWN WAIT_FOR_SERVERS", false), ("SHUTDOWN WAIT_FOR_CLIENTS", false)]
    {
        let mut pooler = PoolerConfig::new().database("app", &database).start();
        let console = Session::connect(&pooler.console_dsn()).await;
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("BEGIN").await.expect("a server");
        let answer = console.batch_execute(command).await;
        assert_eq!(answer.is_ok(), !ends, "{command}: {answer:?}");
        if !ends {
            listener_closed(&pooler).await;
            client.batch_execute("COMMIT").await.expect("its transaction goes on to its end");
            if command.ends_with("CLIENTS") {
                assert_eq!(client.value("SELECT 1").await, "1");
            }
        }
        drop(client);
        assert!(pooler.wait().success(), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_with_nothing_to_wait_for_is_answered() {
    let database = Database::create("shutdown_answer");
    for command in ["SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN WAIT_FOR_CLIENTS"].repeat(5) {
        let mut pooler = PoolerConfig::new().database("app", &database).start();
        let console = Session::connect(&pooler.console_dsn()).await;
        console.batch_execute(command).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
        assert!(pooler.wait().success(), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_with_a_limit_does_not_wait_for_ever() {
    let database = Database::create("drain_limit");
    for signal in [Signal::TERM, Signal::INT] {
        let mut pooler = PoolerConfig::new().database("app", &database).set("shutdown_timeout", "0.5").start();
        let client = Session::connect(&pooler.app_dsn("app")).await;
        client.batch_execute("BEGIN").await.expect("a server");
        pooler.signal(signal);
        assert!(pooler.wait().success());
        assert_eq!(client.end().await, words("57P01", "server shutting down"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usr1_pauses_and_usr2_resumes() {
    let database = Database::create("usr_signals");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    pooler.signal(Signal::USR1);
    eventually("the pause", async || show(&console, "STATE", "key", "paused").await["value"] == "yes").await;
    let waiting = tokio::spawn(async move { client.value("SELECT 1").await });
    eventually("the client to wait", async || super::pool(&console, "app", "cl_waiting").await == 1).await;
    pooler.signal(Signal::USR2);
    assert_eq!(waiting.await.expect("it was served"), "1");
    pooler.signal(Signal::USR2);
    eventually("the useless signal to be noted", async || pooler.log().contains("got SIGUSR2, ignoring")).await;
    assert_eq!(["PAUSE", "RESUME"].map(|command| pooler.log().matches(command).count()), [1, 1], "{}", pooler.log());
}

#[test]
fn the_pid_file_lives_as_long_as_the_process() {
    let database = Database::create("pid_file");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pid");
    // A stale one, of a process that can't be, is replaced.
    fs::write(&path, "4194305\n").expect("a file of our own");
    let config = PoolerConfig::new().database("app", &database).set("pidfile", &format!("\"{}\"", path.display()));
    let mut pooler = config.start();
    let written = fs::read_to_string(&path).expect("it was written");
    assert_eq!(written.trim(), pooler.pid().to_string());
    pooler.signal(Signal::TERM);
    assert!(pooler.wait().success());
    assert!(!path.exists(), "it is removed at the end");
}
