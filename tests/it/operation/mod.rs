//! The running pooler as an operator sees it: its pools, its time limits, its console, its signals, its reload.

mod commands;
mod console;
pub(crate) mod http;
mod limits;
mod log;
mod modes;
mod pools;
mod refusals;
mod reload;
mod shutdown;
mod timeouts;

use crate::support::{Database, Row, Session};

/// A column of the row of `database` in SHOW POOLS, as a number; 0 where there is no such row.
async fn pool(console: &Session, database: &str, column: &str) -> u32 {
    number(&show(console, "POOLS", "database", database).await, column)
}

/// The first row of a SHOW whose `key` has this value; empty where there is none.
async fn show(console: &Session, what: &str, key: &str, value: &str) -> Row {
    let rows = console.rows(&format!("SHOW {what}")).await;
    rows.into_iter().find(|row| row.get(key).is_some_and(|found| found == value)).unwrap_or_default()
}

/// How many servers of the user `app` PostgreSQL has for this database.
fn servers(database: &Database) -> u32 {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = current_database()";
    database.sql(count).parse().expect("a number")
}

fn number(row: &Row, column: &str) -> u32 {
    row.get(column).map_or(0, |text| text.parse().unwrap_or_else(|_| panic!("{column}: {text}")))
}

/// The lines of a database of this name at a port of this machine.
fn at(port: u16, dbname: &str) -> String {
    format!("host = \"127.0.0.1\"\nport = {port}\ndbname = \"{dbname}\"\n")
}
