//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures pglifeguard against PgBouncer with pgbench, in alternating rounds on loopback.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
pub(crate) struct Args {
    /// Rounds per workload; in each, every pooler is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Measured seconds per pooler and round, after one second of warming up.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) seconds: u32,

    /// Workloads to run, by whole name or first part: `simple`, `simple-32,prepared`, `reconnect`, `rows`, `idle`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Numbers of workers that pglifeguard is measured with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    pub(crate) workers: Vec<u32>,

    /// Numbers of idle clients to measure memory with, in rising order.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    pub(crate) idle_clients: Vec<u32>,

    /// Measures a second PgBouncer in pglifeguard's place: how far from 1 the ratios get by noise alone.
    #[arg(long)]
    pub(crate) noise: bool,

    /// Measures what following the session's state costs: pglifeguard with `session_state = "track"` against pglifeguard with
    /// `"pgbouncer"`, one worker each.
    #[arg(long, conflicts_with = "noise")]
    pub(crate) tracking: bool,

    /// Where the report in Markdown goes.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../load-report.md"))]
    pub(crate) report: PathBuf,

    /// Given by `cargo bench`, and by nothing else.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Args {
    /// Whether the workload `name` was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|only| {
                name.strip_prefix(only.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
    }
}
