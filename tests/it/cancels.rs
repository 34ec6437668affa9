//! Cancel requests, one after the other, to a client that keeps its server.

use crate::support::raw::{CANCEL_REQUEST, Message, Raw, V3_0, packet, query, startup};
use crate::support::{Database, PoolerConfig, wait_until};

use std::time::Duration;

#[test]
fn every_query_that_runs_too_long_can_be_cancelled_not_only_the_first() {
    let database = Database::create("cancels");
    let config = PoolerConfig::new().database("app", &database).set("auth_type", "\"trust\"");
    for (mode, first) in [("\"session\"", "SELECT 1"), ("\"transaction\"", "BEGIN")] {
        let pooler = config.clone().set("pool_mode", mode).start();
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", "app"), ("database", "app")]));
        let answer = client.until(b'Z');
        let key = answer.iter().find(|message| message.tag == b'K').expect("a key").body.clone();
        client.query(first);
        for round in 0..3 {
            client.query("ROLLBACK AND CHAIN");
            let sleep = format!("SELECT pg_sleep(60), {round}");
            client.send(&query(&sleep));
            let sleeps = format!("SELECT count(*) FROM pg_stat_activity WHERE query = '{sleep}' AND state = 'active'");
            wait_until("the query to run", LIMIT, || database.sql(&sleeps) == "1");
            let mut request = Raw::tcp(pooler.port());
            request.send(&packet(CANCEL_REQUEST, &key));
            assert_eq!(request.rest(), [""; 0]);
            let answer: Vec<String> = client.until(b'Z').iter().map(Message::text).collect();
            assert_eq!(answer.get(1).map(String::as_str), Some("57014 canceling statement due to user request"));
        }
    }
}

const LIMIT: Duration = Duration::from_secs(30);
