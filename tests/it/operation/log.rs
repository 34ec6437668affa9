//! The log: whom and what its lines are about, and how many of them there are.

use std::net::{Ipv4Addr, TcpListener};

use super::{number, show};
use crate::support::pki::Pki;
use crate::support::raw::{Raw, SSL_REQUEST, packet};
use crate::support::{Database, PoolerConfig, Session, eventually};

/// A port where nobody listens.
fn nobody() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn nowhere(port: u16) -> PoolerConfig {
    let config = PoolerConfig::new().section("databases.app", &format!("host = \"127.0.0.1\"\nport = {port}\n"));
    config.set("server_login_retry", "0.1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_its_address_its_number_and_its_cause() {
    let (database, pki) = (Database::create("log_clients"), Pki::new());
    let pair = pki.issue("localhost");
    let pooler = PoolerConfig::new()
        .database("app", &database)
        .set("verbose", "1")
        .set("client_tls_sslmode", "\"allow\"")
        .set("client_tls_cert_file", &format!("\"{}\"", pair.cert.display()))
        .set("client_tls_key_file", &format!("\"{}\"", pair.key.display()))
        .start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let _client = Session::connect(&pooler.app_dsn("app")).await;
    let row = show(&console, "CLIENTS", "database", "app").await;
    let who = format!("client=C-{:#x}: app/app@127.0.0.1:{}", number(&row, "id"), row["port"]);
    let mut stranger = Raw::tcp(pooler.port());
    stranger.send(&packet(SSL_REQUEST, b""));
    assert_eq!(stranger.bytes(1), b"S");
    stranger.send(b"GET / HTTP/1.1\r\n\r\n");
    eventually("the refusal to be logged", async || pooler.log().contains("reason=\"tls_failed\"")).await;
    let log = pooler.log();
    let line = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["client logged in", &who]), "{who}: {log}");
    assert!(line(&["client connected", &format!("client=127.0.0.1:{}", row["port"])]), "{log}");
    assert!(line(&["login refused", "tls_failed", "TLS handshake failed: "]), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_and_a_failed_reset_are_told_with_all_that_is_known() {
    let database = Database::create("log_servers");
    let config = PoolerConfig::new().database("app", &database).set("pool_mode", "\"session\"");
    let pooler = config.set("server_reset_query", "\"SELECT reset_that_is_not_there()\"").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let client = Session::connect(&pooler.app_dsn("app")).await;
    assert_eq!(client.value("SELECT 1").await, "1");
    drop(client);
    let failed = "closing because: reset query failed: function reset_that_is_not_there() does not exist (42883)";
    eventually("the reset to fail", async || pooler.log().contains(failed)).await;
    let log = pooler.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(failed)), "{log}");
    let client = Session::connect(&pooler.app_dsn("app")).await;
    let row = show(&console, "CLIENTS", "database", "app").await;
    let who = format!("client=C-{:#x}: app/app@127.0.0.1:{}", number(&row, "id"), row["port"]);
    assert!(client.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await.is_err());
    eventually("the loss to be logged", async || pooler.log().contains("server conn crashed?")).await;
    let log = pooler.log();
    let line = log.lines().find(|line| line.contains("server conn crashed?")).unwrap_or_default();
    assert!(line.contains(&who) && line.contains("pool=app"), "{who}: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_down_is_not_told_with_every_attempt() {
    let pooler = nowhere(nobody()).set("verbose", "1").set("client_login_timeout", "1").start();
    let error = Session::try_connect(&pooler.app_dsn("app")).await.expect_err("nobody listens");
    let error = error.as_db_error().expect("the pooler's error");
    assert_eq!((error.code().code(), error.message()), ("08006", "client_login_timeout (server down)"));
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("the last error was: ") && detail.contains("refused"), "{detail}");
    assert!(error.hint().unwrap_or_default().contains("can't be reached or refuses logins"), "{error:?}");
    let log = pooler.log();
    let (told, kept) = (log.matches("server login failed: ").count(), log.matches("server login failed again").count());
    assert!(told == 1 && kept > 1, "{told}, {kept}: {log}");
    // It has not logged in.
    let console = Session::connect(&pooler.console_dsn()).await;
    let stats = show(&console, "STATS", "database", "app").await;
    assert_eq!(stats["total_client_login_count"], "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_process_is_the_last_word() {
    let database = Database::create("log_end");
    let mut pooler = PoolerConfig::new().database("app", &database).start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    client.batch_execute("BEGIN").await.expect("a server");
    let console = Session::connect(&pooler.console_dsn()).await;
    assert!(console.batch_execute("SHUTDOWN").await.is_err(), "it says nothing");
    assert!(pooler.wait().success());
    let log = pooler.log();
    assert!(log.lines().last().unwrap_or_default().contains("process ends"), "{log}");
    assert!(log.contains("closing because: client disconnect") || log.contains("closing because: server"), "{log}");
}
