//! SHOW STATS and its relatives: the same twelve figures under different names.

use std::sync::Arc;

use super::columns;
use crate::admin::averages::{Averages, ByDatabase, Figures};
use crate::admin::table::{Cell, Column, Table, Type};

columns! {
    /// Columns of SHOW STATS: twelve totals, then twelve averages.
    STATS = [
        Text: "database";
        Numeric: "total_server_assignment_count" "total_xact_count" "total_query_count" "total_received" "total_sent"
            "total_xact_time" "total_query_time" "total_wait_time" "total_client_parse_count"
            "total_server_parse_count" "total_bind_count" "total_client_login_count"
            "avg_server_assignment_count" "avg_xact_count" "avg_query_count" "avg_recv" "avg_sent" "avg_xact_time"
            "avg_query_time" "avg_wait_time" "avg_client_parse_count" "avg_server_parse_count" "avg_bind_count"
            "avg_client_login_count";
    ];
    /// Columns of SHOW STATS_TOTALS.
    STATS_TOTALS = [
        Text: "database";
        Numeric: "server_assignment_count" "xact_count" "query_count" "bytes_received" "bytes_sent" "xact_time"
            "query_time" "wait_time" "client_parse_count" "server_parse_count" "bind_count" "client_login_count";
    ];
    /// Columns of SHOW STATS_AVERAGES. The uneven names are PgBouncer's.
    STATS_AVERAGES = [
        Text: "database";
        Numeric: "server_assignment_count" "xact_count" "query_count" "bytes_received" "bytes_sent" "xact_time"
            "query_time" "wait_time" "avg_client_parse_count" "avg_server_parse_count" "avg_bind_count"
            "avg_client_login_count";
    ];
    /// Columns of SHOW TOTALS.
    TOTALS = [
        Text: "name";
        Numeric: "value";
    ];
}

/// Names of the figures in SHOW TOTALS, before which stands `total_` or `avg_`.
const TOTAL_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

/// SHOW STATS
pub fn stats(totals: &ByDatabase, averages: &Averages) -> Table {
    let row = |(name, figures): (&Arc<str>, &Figures)| row(name, figures.0.iter().chain(&averages.of(name).0));
    Table { columns: STATS, rows: totals.iter().map(row).collect() }
}

/// SHOW STATS_TOTALS
pub fn stats_totals(totals: &ByDatabase) -> Table {
    Table { columns: STATS_TOTALS, rows: totals.iter().map(|(name, figures)| row(name, figures.0.iter())).collect() }
}

/// SHOW STATS_AVERAGES, for the databases that there are now.
pub fn stats_averages(totals: &ByDatabase, averages: &Averages) -> Table {
    let rows = totals.keys().map(|name| row(name, averages.of(name).0.iter())).collect();
    Table { columns: STATS_AVERAGES, rows }
}

/// SHOW TOTALS: all databases together.
pub fn totals(totals: &ByDatabase, averages: &Averages) -> Table {
    let sums = totals.values().fold(Figures::default(), |sum, figures| sum.plus(*figures));
    let rows = |prefix: &'static str, figures: Figures| {
        TOTAL_NAMES
            .into_iter()
            .zip(figures.0)
            .map(move |(name, value)| vec![Cell::from(format!("{prefix}_{name}")), value.into()])
    };
    Table { columns: TOTALS, rows: rows("total", sums).chain(rows("avg", averages.overall())).collect() }
}

fn row<'a>(database: &Arc<str>, figures: impl Iterator<Item = &'a u64>) -> Vec<Cell> {
    std::iter::once(Cell::from(database)).chain(figures.map(|figure| Cell::from(*figure))).collect()
}
