//! `/metrics` and `/health`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use pglifeguard::app::demo::PortClaim;
use rustix::process::Signal;

use super::pool;
use crate::support::peers::Line;
use crate::support::raw::{Raw, message};
use crate::support::{Database, PoolerConfig, Session, eventually, wait_until};

/// Status line and body.
pub(crate) fn get(port: u16, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket of our own");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it closes after one answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an empty line");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{series} is missing in\n{page}"))
}

fn with_metrics(database: &Database) -> (PortClaim, PoolerConfig) {
    let port = PortClaim::anywhere().expect("a free port");
    let listen = format!("listen = \"127.0.0.1:{}\"\n", port.number());
    (port, PoolerConfig::new().database("app", database).section("metrics", &listen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_what_the_console_tells() {
    let database = Database::create("metrics");
    let (port, config) = with_metrics(&database);
    let pooler = config.set("default_pool_size", "1").start();
    let console = Session::connect(&pooler.console_dsn()).await;
    let (busy, waiter) =
        (Session::connect(&pooler.app_dsn("app")).await, Session::connect(&pooler.app_dsn("app")).await);
    for _ in 0..5 {
        busy.batch_execute("SELECT 1").await.expect("it runs");
    }
    assert!(busy.batch_execute("SELECT 1/0").await.is_err());
    assert!(Session::try_connect(&pooler.dsn("app", "wrong", "app")).await.is_err());
    let page = || {
        let (status, body) = get(port.number(), "/metrics");
        assert!(status.contains("200"), "{status}");
        body
    };
    // A client has its answer before it is counted. What it asks at once may keep the server, and the count, from the
    // pool until its transaction ends.
    eventually("everything to be counted", async || {
        value(&page(), "pgbouncer_stats_totals_queries_pooled_total{database=\"app\"}") >= 6.0
    })
    .await;
    busy.batch_execute("BEGIN").await.expect("the only server");
    let waiting = tokio::spawn(async move { waiter.value("SELECT 1").await });
    eventually("the waiter", async || pool(&console, "app", "cl_waiting").await == 1).await;
    let page = page();
    let of = |name: &str| value(&page, &format!("{name}{{database=\"app\",user=\"app\"}}"));
    assert_eq!(of("pgbouncer_pools_client_waiting_connections"), 1.0);
    assert_eq!(of("pgbouncer_pools_server_active_connections"), 1.0);
    assert_eq!(value(&page, "pglifeguard_login_refusals_total{reason=\"authentication\"}"), 1.0);
    assert_eq!(value(&page, "pglifeguard_server_errors_total{class=\"22\"}"), 1.0, "division by zero");
    assert!(value(&page, "pglifeguard_query_seconds_count{database=\"app\"}") >= 6.0);
    busy.batch_execute("COMMIT").await.expect("it has a server");
    waiting.await.expect("it was served");
    check_format(&page);
}

#[test]
fn a_server_that_is_cleaned_is_counted_whoever_gave_it_back() {
    let database = Database::create("resets");
    let (port, config) = with_metrics(&database);
    let pooler = config.set("auth_type", "\"trust\"").start();
    let resets = |reason: &str| {
        let series = format!("pglifeguard_server_resets_total{{reason=\"{reason}\"}}");
        let (_, page) = get(port.number(), "/metrics");
        if page.contains(&series) { value(&page, &series) } else { 0.0 }
    };
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("CREATE TEMP TABLE t (n int)");
    client.cut();
    let limit = Duration::from_secs(30);
    wait_until("what a departed client has left to be counted", limit, || resets("left_behind") >= 1.0);
    let mut client = Raw::trusted(pooler.port(), "app", "app");
    client.query("DO $$BEGIN EXECUTE 'SELECT 1'; END$$");
    wait_until("what nobody knows to be counted", limit, || resets("code") >= 1.0);
}

/// Every line is a comment or a sample with a number; no series comes twice.
fn check_format(page: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(number.parse::<f64>().is_ok(), "no number: {line}");
        assert!(seen.insert(series), "twice: {series}");
    }
}

#[test]
fn broken_packets_are_counted_at_the_console_and_elsewhere() {
    let database = Database::create("violations");
    let (port, config) = with_metrics(&database);
    let pooler = config.set("auth_type", "\"trust\"").start();
    for (user, name) in [("app", "app"), ("admin", "pgbouncer")] {
        let mut client = Raw::trusted(pooler.port(), user, name);
        client.send(&message(b'?', b""));
        assert_eq!(client.until(b'E').last().map(|last| last.tag), Some(b'E'), "{name}");
    }
    wait_until("both to be counted", Duration::from_secs(30), || {
        value(&get(port.number(), "/metrics").1, "pglifeguard_protocol_violations_total") >= 2.0
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_turns_bad_when_the_pooler_drains() {
    let database = Database::create("health");
    let (port, config) = with_metrics(&database);
    let mut pooler = config.start();
    let client = Session::connect(&pooler.app_dsn("app")).await;
    assert_eq!(client.value("SELECT 1").await, "1");
    let (status, body) = get(port.number(), "/health");
    assert!(status.contains("200"), "{status} {body}");
    assert!(get(port.number(), "/nothing").0.contains("404"));
    pooler.signal(Signal::TERM);
    eventually("health to turn bad", async || get(port.number(), "/health").0.contains("503")).await;
    drop(client);
    assert!(pooler.wait().success());
}

/// A load balancer that follows `/health` sends no clients until it is good again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_turns_good_again_without_a_client() {
    let database = Database::create("health_again");
    let mut line = Line::to(database.port());
    let port = PortClaim::anywhere().expect("a free port");
    let section = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", line.port(), database.name);
    let metrics = format!("listen = \"127.0.0.1:{}\"\n", port.number());
    let config = PoolerConfig::new().section("databases.app", &section).section("metrics", &metrics);
    let pooler = config.set("server_login_retry", "1").set("query_wait_timeout", "1").start();
    let health = || get(port.number(), "/health").0;
    assert_eq!(Session::connect(&pooler.app_dsn("app")).await.value("SELECT 1").await, "1");
    line.cut();
    eventually("health to turn bad", async || {
        if let Ok(client) = Session::try_connect(&pooler.app_dsn("app")).await {
            // It is answered, in words that do not matter here, so nobody waits when the line is there again.
            drop(client.try_rows("SELECT 1").await);
        }
        health().contains("503")
    })
    .await;
    line.mend();
    eventually("health to turn good", async || health().contains("200")).await;
}
