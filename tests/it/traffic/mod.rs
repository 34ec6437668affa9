//! What passes through: results and copies of gigabytes, large objects, notifications, pipelines, prepared statements,
//! settings. A folder of hazards; each file is one.

mod copies;
mod floods;
mod large_objects;
mod listening;
mod listening_edges;
mod mistakes;
mod namespace;
mod notices;
mod numbers;
mod pins;
mod pipelines;
mod recurring;
mod redefined;
mod results;
mod session;
mod session_by_code;
mod session_definitions;
mod session_edges;
mod session_functions;
mod session_lasting;
mod session_leaks;
mod session_model;
mod session_unexecuted;
mod settings;
mod shared_statements;
mod sizes;
mod statements;

use crate::support::pooler::Pooler;
use crate::support::raw::{Message, Raw};
use crate::support::{Database, PoolerConfig};

/// A pooler for clients that speak by the byte.
fn trusting(database: &Database, servers: u32) -> PoolerConfig {
    let config = PoolerConfig::new().database("app", database).set("auth_type", "\"trust\"");
    config.set("default_pool_size", &servers.to_string())
}

/// A database, and a pooler with a single server for it.
fn one_server(label: &str) -> (Database, Pooler) {
    let database = Database::create(label);
    let pooler = trusting(&database, 1).start();
    (database, pooler)
}

fn app(pooler: &Pooler) -> Raw {
    Raw::trusted(pooler.port(), "app", "app")
}

/// Past the pooler; not as `app`, who needs a password there.
fn direct(database: &Database) -> Raw {
    Raw::trusted(database.port(), "by_trust", &database.name)
}

/// One letter for each message, errors in words.
fn shown(answer: &[Message]) -> String {
    let parts: Vec<_> = answer
        .iter()
        .map(|message| if message.tag == b'E' { format!("[{}]", message.text()) } else { message.text() })
        .collect();
    parts.concat()
}

/// The answer to these bytes, up to a ReadyForQuery.
fn asks(client: &mut Raw, bytes: &[u8]) -> String {
    client.send(bytes);
    shown(&client.until(b'Z'))
}

/// The values of a row, NULL as `-`.
fn values(row: &Message) -> Vec<String> {
    let mut rest = row.body.get(2..).unwrap_or_default();
    let mut values = Vec::new();
    while let [a, b, c, d, after @ ..] = rest {
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        let (value, after) = after.split_at(usize::try_from(length).unwrap_or(0));
        values.push(if length < 0 { "-".to_owned() } else { String::from_utf8_lossy(value).into_owned() });
        rest = after;
    }
    values
}

/// All rows of a query.
fn rows(client: &mut Raw, sql: &str) -> Vec<Vec<String>> {
    client.send(&crate::support::raw::query(sql));
    client.until(b'Z').iter().filter(|message| message.tag == b'D').map(values).collect()
}

/// A setting as its client has it; `-`: it is empty, or there is none.
fn setting(client: &mut Raw, name: &str) -> String {
    rows(client, &format!("SELECT coalesce(nullif(current_setting('{name}', true), ''), '-')")).concat().concat()
}

/// How many clients wait for a server.
fn waiting(pooler: &Pooler) -> usize {
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    let rows = rows(&mut console, "SHOW POOLS");
    rows.iter().filter(|row| row[0] == "app").map(|row| row[3].parse::<usize>().expect("a number")).sum()
}

/// The most memory that the pooler has had, in KiB.
fn memory(pooler: &Pooler) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pooler.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Fails when the pooler has had more memory than it needs for a few buffers beyond what it had `before`.
#[track_caller]
fn memory_is_constant(pooler: &Pooler, before: u64) {
    let now = memory(pooler);
    assert!(now < before + CONSTANT, "{now} KiB, {before} before");
}

/// What a few buffers and the allocator may take, in KiB.
const CONSTANT: u64 = 48 * 1024;
