//! Cancel requests: they reach the query that they are meant for wherever it is, and never another.

use std::time::Duration;

use crate::support::peers::SlowCancels;
use crate::support::pooler::Pooler;
use crate::support::raw::{CANCEL_REQUEST, Message, Raw, V3_0, V3_2, packet, query};
use crate::support::{Database, PoolerConfig, wait_until};

/// One server, so that whatever hits the wrong query finds one.
fn config(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"").set("default_pool_size", "1")
}

/// The same, over a line where requests take their time.
fn slowly(cancels: &SlowCancels, database: &Database) -> PoolerConfig {
    let entry = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", cancels.port(), database.name);
    let config = PoolerConfig::new().section("databases.app", &entry);
    config.set("auth_type", "\"trust\"").set("default_pool_size", "1")
}

/// Begins a query that runs for a minute.
fn begins(client: &mut Raw, database: &Database, sleep: &str) {
    client.send(&query(sleep));
    runs(database, sleep);
}

fn runs(database: &Database, sleep: &str) {
    let sleeps = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND query = '{sleep}' AND state = 'active'"
    );
    wait_until("the query to run", LIMIT, || database.sql(&sleeps) == "1");
}

/// A request, on a connection that is closed when it has landed.
fn request(pooler: &Pooler, key: &[u8]) -> Raw {
    let mut request = Raw::tcp(pooler.port());
    request.send(&packet(CANCEL_REQUEST, key));
    request
}

fn is_cancelled(client: &mut Raw) {
    let answer: Vec<String> = client.until(b'Z').iter().map(Message::text).collect();
    let error = answer.iter().find(|text| text.len() > 1).map(String::as_str);
    assert_eq!(error, Some("57014 canceling statement due to user request"));
}

/// What SHOW POOLS says of the pool.
fn column(pooler: &Pooler, name: &str) -> String {
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    console.send(&query("SHOW POOLS"));
    let answer = console.until(b'Z');
    let row = answer.iter().find(|message| message.tag == b'D').expect("a pool");
    let names: Vec<&str> = POOLS.split(' ').collect();
    let at = names.iter().position(|known| *known == name).expect("a column");
    let mut rest = &row.body[2..];
    for _ in 0..at {
        let size = u32::from_be_bytes(rest[..4].try_into().expect("four")) as usize;
        rest = &rest[4 + size..];
    }
    let size = u32::from_be_bytes(rest[..4].try_into().expect("four")) as usize;
    String::from_utf8_lossy(&rest[4..4 + size]).into_owned()
}

#[test]
fn every_query_that_runs_too_long_can_be_cancelled_not_only_the_first() {
    let database = Database::create("cancels");
    for (mode, first) in [("\"session\"", "SELECT 1"), ("\"transaction\"", "BEGIN")] {
        let pooler = config(&database).set("pool_mode", mode).start();
        for version in [V3_0, V3_2] {
            let (mut client, key) = Raw::with_key(pooler.port(), version);
            assert_eq!(key.len() > 8, version == V3_2, "long keys came with 3.2");
            client.query(first);
            for round in 0..3 {
                client.query("ROLLBACK AND CHAIN");
                begins(&mut client, &database, &format!("SELECT pg_sleep(60), {round}"));
                assert_eq!(request(&pooler, &key).rest(), [""; 0]);
                is_cancelled(&mut client);
            }
        }
    }
}

#[test]
fn one_request_cancels_once() {
    let database = Database::create("once");
    let pooler = config(&database).start();
    let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
    let handled = "DO $$BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.5); END$$";
    begins(&mut client, &database, handled);
    // Before it sleeps it can't handle anything.
    let sleeps =
        format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '{}'", database.name);
    wait_until("it to sleep", LIMIT, || database.sql(&sleeps) == "1");
    client.send(&query("SELECT 'next' FROM pg_sleep(0.2)"));
    assert_eq!(request(&pooler, &key).rest(), [""; 0]);
    let answers: Vec<String> = (0..2).flat_map(|_| client.until(b'Z')).map(|message| message.text()).collect();
    let errors: Vec<&String> = answers.iter().filter(|text| text.contains("57014")).collect();
    assert_eq!(errors, [""; 0], "its handler runs to its end, and so does what was sent behind it");
}

#[test]
fn a_requests_connection_stays_open_until_nothing_can_be_hit_any_more() {
    let database = Database::create("landing");
    let cancels = SlowCancels::to(database.port());
    let pooler = slowly(&cancels, &database).start();
    let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
    begins(&mut client, &database, "SELECT pg_sleep(60), 1");
    let mut first = request(&pooler, &key);
    is_cancelled(&mut client);
    wait_until("the server's side to be through", LIMIT, || cancels.arrived() == 1);
    assert!(first.is_open(), "it has not landed for all that the pooler knows");
    assert_eq!(column(&pooler, "cl_active_cancel_req"), "1");
    cancels.let_go();
    assert_eq!(first.rest(), [""; 0]);
    assert_eq!(client.query("SELECT 'next'"), ["next"]);
}

#[test]
fn a_request_is_sent_on_while_an_earlier_one_is_on_its_way_and_the_server_waits_for_both() {
    let database = Database::create("chain");
    let cancels = SlowCancels::to(database.port());
    let pooler = slowly(&cancels, &database).set("pool_mode", "\"session\"").start();
    let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
    let mut requests = Vec::new();
    for round in 1..=2 {
        begins(&mut client, &database, &format!("SELECT pg_sleep(60), {round}"));
        requests.push(request(&pooler, &key));
        is_cancelled(&mut client);
        wait_until("the request to arrive", LIMIT, || cancels.arrived() == round);
    }
    assert_eq!(column(&pooler, "cl_active_cancel_req"), "2");
    drop(client);
    wait_until("the server to be kept", LIMIT, || column(&pooler, "sv_being_canceled") == "1");
    let mut other = Raw::trusted(pooler.port(), "app", "app");
    other.send(&query("SELECT 'other'"));
    wait_until("the other to wait", LIMIT, || column(&pooler, "cl_waiting") == "1");
    assert!(other.is_open() && requests.iter_mut().all(Raw::is_open));
    cancels.let_go();
    requests.iter_mut().for_each(|request| assert_eq!(request.rest(), [""; 0]));
    assert_eq!(other.until(b'Z').iter().map(Message::text).collect::<String>(), "TDCZ");
}

#[test]
fn a_server_whose_request_never_lands_is_closed_and_nobody_waits_for_longer_than_the_timeout() {
    let database = Database::create("lost");
    let cancels = SlowCancels::to(database.port());
    let pooler = slowly(&cancels, &database).set("cancel_wait_timeout", "3").start();
    let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
    let before = client.query("SELECT pg_backend_pid()");
    begins(&mut client, &database, "SELECT pg_sleep(60), 1");
    let mut lost = request(&pooler, &key);
    is_cancelled(&mut client);
    assert_eq!(lost.rest(), [""; 0]);
    assert_ne!(client.query("SELECT pg_backend_pid()"), before, "a late request may still come");
}

#[test]
fn more_requests_than_can_be_waited_for_are_let_go_at_once() {
    let database = Database::create("pile");
    let cancels = SlowCancels::to(database.port());
    let pooler = slowly(&cancels, &database).start();
    let (mut client, key) = Raw::with_key(pooler.port(), V3_0);
    begins(&mut client, &database, "SELECT pg_sleep(60), 1");
    let mut first = request(&pooler, &key);
    is_cancelled(&mut client);
    client.send(&query("SELECT pg_sleep(60), 2"));
    let mut pile: Vec<Raw> = (0..20).map(|_| request(&pooler, &key)).collect();
    let open = |pile: &mut Vec<Raw>| pile.iter_mut().filter_map(|request| request.is_open().then_some(())).count();
    wait_until("the pile to shrink", LIMIT, || open(&mut pile) <= 3);
    assert!(first.is_open());
    cancels.let_go();
    is_cancelled(&mut client);
    assert_eq!(first.rest(), [""; 0]);
    pile.iter_mut().for_each(|request| assert_eq!(request.rest(), [""; 0]));
}

#[test]
fn a_client_in_the_queue_is_cancelled_there_and_the_one_before_it_goes_on() {
    let database = Database::create("queued");
    let pooler = config(&database).start();
    let (mut holder, mut waiter) = (Raw::with_key(pooler.port(), V3_0).0, Raw::with_key(pooler.port(), V3_0));
    holder.query("BEGIN");
    waiter.0.send(&query("SELECT 'late'"));
    wait_until("it to wait", LIMIT, || column(&pooler, "cl_waiting") == "1");
    assert_eq!(request(&pooler, &waiter.1).rest(), [""; 0]);
    is_cancelled(&mut waiter.0);
    assert_eq!(column(&pooler, "cl_waiting"), "0");
    assert_eq!(holder.query("SELECT 'held'"), ["held"]);
    holder.query("COMMIT");
    assert_eq!(waiter.0.query("SELECT 'again'"), ["again"]);
}

#[test]
fn a_request_with_a_wrong_secret_or_for_an_idle_client_hits_nobody() {
    let database = Database::create("nobody");
    let pooler = config(&database).start();
    for version in [V3_0, V3_2] {
        let ((mut worker, key), (_idle, idle_key)) =
            (Raw::with_key(pooler.port(), version), Raw::with_key(pooler.port(), version));
        begins(&mut worker, &database, &format!("SELECT pg_sleep(60), {version}"));
        let mut wrong = key.clone();
        *wrong.last_mut().expect("a secret") ^= 1;
        for other in [&wrong, &[&key[..], b"x"].concat(), &idle_key] {
            assert_eq!(request(&pooler, other).rest(), [""; 0]);
        }
        assert!(worker.is_open(), "no answer has come");
        runs(&database, &format!("SELECT pg_sleep(60), {version}"));
        assert_eq!(request(&pooler, &key).rest(), [""; 0]);
        is_cancelled(&mut worker);
    }
}

/// The first columns of SHOW POOLS.
const POOLS: &str = "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active \
                     sv_active_cancel sv_being_canceled";
const LIMIT: Duration = Duration::from_secs(30);
