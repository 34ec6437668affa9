//! Reported settings go with the client, whichever server it gets, and it is told of changes only that are its own.

use super::{app, shown, trusting};
use crate::support::Database;
use crate::support::pooler::Pooler;
use crate::support::raw::{Message, Raw, V3_0, bind, execute, extended, parse, query, startup, sync};

const NAMES: [&str; 6] =
    ["client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name", "IntervalStyle"];
const FIRST: [&str; 6] = ["LATIN1", "German, DMY", "Asia/Tokyo", "off", "one", "sql_standard"];
const SECOND: [&str; 6] = ["UTF8", "SQL, MDY", "America/Lima", "on", "it's \"two\" \\", "iso_8601"];
const SHOWN: &str = "SELECT concat_ws('|', current_setting('client_encoding'), current_setting('DateStyle'), \
    current_setting('TimeZone'), current_setting('standard_conforming_strings'), \
    current_setting('application_name'), current_setting('IntervalStyle'))";

/// Runs `check` with one server held and then with the other one held; returns which was left in each case.
fn on_each_server(holder: &mut Raw, client: &mut Raw, mut check: impl FnMut(&mut Raw)) {
    let mut servers = Vec::new();
    // Which of the two comes back first is not sure.
    for _ in 0..100 {
        holder.query("BEGIN; SELECT 1");
        let server = client.query("SELECT pg_backend_pid()").remove(0);
        if !servers.contains(&server) {
            check(client);
            servers.push(server);
        }
        holder.query("COMMIT");
        if servers.len() == 2 {
            return;
        }
    }
    panic!("it never had the other");
}

fn logged_in(pooler: &Pooler, wishes: [&str; 6]) -> Raw {
    let mut params = vec![("user", "app"), ("database", "app")];
    params.extend(NAMES.into_iter().zip(wishes));
    let mut client = Raw::tcp(pooler.port());
    client.send(&startup(V3_0, &params));
    assert_eq!(client.until(b'Z').last().map(|last| last.tag), Some(b'Z'));
    client
}

fn set(values: [&str; 6]) -> String {
    let literal = |value: &str| value.replace('\\', "\\\\").replace('\'', "''");
    NAMES.into_iter().zip(values).map(|(name, value)| format!("SET {name} TO E'{}';", literal(value))).collect()
}

/// Names and values of the reports in an answer.
fn reports(answer: &[Message]) -> Vec<(String, String)> {
    let text = |message: &Message| String::from_utf8_lossy(&message.body).into_owned();
    let pair = |text: String| {
        let mut parts = text.split('\0').map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    answer.iter().filter(|message| message.tag == b'S').map(text).filter_map(pair).collect()
}

/// The settings that the server works with, and what it reports meanwhile.
fn found(client: &mut Raw) -> (String, Vec<(String, String)>) {
    client.send(&query(SHOWN));
    let answer = client.until(b'Z');
    let row = answer.iter().find(|message| message.tag == b'D').map(super::values);
    (row.map_or_else(|| shown(&answer), |row| row.concat()), reports(&answer))
}

fn pooler(database: &Database) -> Pooler {
    let config = trusting(database, 2).set("track_extra_parameters", "[\"IntervalStyle\"]");
    config.set("server_round_robin", "true").start()
}

fn pairs(values: [&str; 6]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> =
        NAMES.into_iter().zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    pairs.sort();
    pairs
}

#[test]
fn what_a_client_asks_for_at_login_goes_with_it() {
    let database = Database::create("settings_login");
    let pooler = pooler(&database);
    let (mut one, mut two, mut holder) = (logged_in(&pooler, FIRST), logged_in(&pooler, SECOND), app(&pooler));
    for _ in 0..3 {
        for (client, wishes) in [(&mut one, FIRST), (&mut two, SECOND)] {
            on_each_server(&mut holder, client, |client| assert_eq!(found(client), (wishes.join("|"), Vec::new())));
        }
    }
}

#[test]
fn what_a_client_sets_is_reported_once_and_goes_with_it() {
    let database = Database::create("settings_set");
    let pooler = pooler(&database);
    let (mut client, mut other, mut holder) = (logged_in(&pooler, FIRST), logged_in(&pooler, SECOND), app(&pooler));
    for values in [SECOND, FIRST] {
        client.send(&query(&set(values)));
        let mut told = reports(&client.until(b'Z'));
        told.sort();
        assert_eq!(told, pairs(values));
        on_each_server(&mut holder, &mut client, |client| {
            assert_eq!(found(client), (values.join("|"), Vec::new()));
            assert_eq!(found(&mut other), (SECOND.join("|"), Vec::new()));
        });
    }
}

#[test]
fn what_is_rolled_back_or_local_goes_nowhere() {
    let database = Database::create("settings_rolled_back");
    let pooler = pooler(&database);
    let (mut client, mut holder) = (logged_in(&pooler, FIRST), app(&pooler));
    let local = set(SECOND).replace("SET ", "SET LOCAL ");
    for (change, end) in [(set(SECOND), "ROLLBACK"), (local.clone(), "COMMIT"), (local, "ROLLBACK")] {
        on_each_server(&mut holder, &mut client, |client| {
            client.query("BEGIN");
            client.query(&change);
            assert_eq!(found(client).0, SECOND.join("|"));
            client.send(&query(end));
            let mut told = reports(&client.until(b'Z'));
            told.sort();
            assert_eq!(told, pairs(FIRST), "the client is told what it has again");
        });
        on_each_server(&mut holder, &mut client, |client| {
            assert_eq!(found(client), (FIRST.join("|"), Vec::new()), "{end}");
        });
    }
    // An error undoes them as well.
    client.send(&query(&format!("{} SELECT 1/0", set(SECOND))));
    client.until(b'Z');
    on_each_server(&mut holder, &mut client, |client| {
        assert_eq!(found(client), (FIRST.join("|"), Vec::new()));
    });
}

/// A client with settings of its own, behind another one on the only server.
fn behind_another(pooler: &Pooler) -> Raw {
    let mut other = logged_in(pooler, SECOND);
    let client = logged_in(pooler, FIRST);
    assert_eq!(found(&mut other).0, SECOND.join("|"));
    client
}

/// Batches that settings must not be a part of; and how many rows are kept.
fn batches(blocks: bool) -> Vec<(&'static str, Vec<Vec<u8>>, &'static str)> {
    let bound = |name: &str| [bind("", name, &[]), execute("", 0)].concat();
    let mut batches = vec![
        (
            "a portal bound again",
            vec![
                extended("select 1"),
                parse("c", "commit"),
                bind("", "c", &[]),
                parse("i", "insert into kept values (1)"),
                bound("i"),
                parse("z", "select 1/0"),
                bound("z"),
                sync(),
            ],
            "0",
        ),
        ("a rollback in a procedure", vec![extended("select 1"), extended("call rolls_back()"), sync()], "0"),
        ("a rollback in DO", vec![parse("", "select 1"), query("do 'begin rollback; end'")], "0"),
        ("a long text", vec![parse("", "select 1"), query(&format!("select length('{}')", "x".repeat(300_000)))], "0"),
    ];
    if blocks {
        let text = "insert into kept values (2); commit; select 2";
        let batch = vec![extended("select 1"), extended("begin"), sync(), query(text)];
        batches.push(("a commit, and more in its text", batch, "1"));
    }
    batches
}

#[test]
fn no_batch_is_cut_and_no_rollback_undoes_settings() {
    let database = Database::create("settings_batches");
    database.sql(
        "CREATE TABLE kept (n int); GRANT ALL ON kept TO app; \
         CREATE PROCEDURE rolls_back() LANGUAGE plpgsql AS 'begin rollback; end'",
    );
    for mode in ["transaction", "session", "statement"] {
        let config = trusting(&database, 1).set("track_extra_parameters", "[\"IntervalStyle\"]");
        let pooler = config.set("pool_mode", &format!("\"{mode}\"")).start();
        for (what, batch, kept) in batches(mode != "statement") {
            let mut client = behind_another(&pooler);
            client.send(&batch.concat());
            for _ in batch.iter().filter(|part| ends_with_ready(part)) {
                let answer = client.until(b'Z');
                assert_eq!(answer.last().map(|last| last.tag), Some(b'Z'), "{mode}, {what}: {}", shown(&answer));
                assert_eq!(reports(&answer), [], "{mode}, {what}");
            }
            assert_eq!(found(&mut client), (FIRST.join("|"), Vec::new()), "{mode}, {what}");
            let rows = database.sql("WITH gone AS (DELETE FROM kept RETURNING n) SELECT count(*) FROM gone");
            assert_eq!(rows.trim(), kept, "{mode}, {what}");
        }
    }
}

fn ends_with_ready(part: &[u8]) -> bool {
    part.first() == Some(&b'Q') || part.ends_with(&sync())
}
