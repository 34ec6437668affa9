//! What is measured, and what is to be reached.

use crate::Result;
use crate::pooler::Kind;
use crate::process::Scratch;

/// One kind of load that pgbench makes.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// pgbench's `--protocol`.
    pub(crate) protocol: &'static str,
    /// Simultaneous clients.
    pub(crate) clients: u32,
    /// A new connection for each transaction.
    pub(crate) reconnect: bool,
    /// A statement to run in place of the point select.
    pub(crate) statement: Option<&'static str>,
}

/// A load with its name in the report.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// As it is asked for on the command line.
    pub(crate) name: String,
    /// What pgbench does.
    pub(crate) load: Load,
}

/// A figure of one pooler in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// CPU time of the pooler per transaction, µs.
    Cpu,
    /// Transactions per second.
    Throughput,
    /// Median latency, µs.
    P50,
    /// 99th percentile of latency, µs.
    P99,
    /// Average time to connect, ms; where each transaction has its own connection.
    Connect,
    /// Context switches of the pooler per transaction.
    Switches,
    /// System calls of the pooler per transaction.
    Calls,
    /// Resident memory per idle client, KiB.
    Memory,
}

impl Measure {
    /// All that rounds yield.
    pub(crate) const ALL: [Self; 8] =
        [Self::Cpu, Self::Throughput, Self::P50, Self::P99, Self::Connect, Self::Switches, Self::Calls, Self::Memory];

    /// As a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU per transaction, µs",
            Self::Throughput => "Throughput, transactions/s",
            Self::P50 => "Latency p50, µs",
            Self::P99 => "Latency p99, µs",
            Self::Connect => "Time to connect, ms (average)",
            Self::Switches => "Context switches per transaction",
            Self::Calls => "System calls per transaction",
            Self::Memory => "Resident memory per idle client, KiB",
        }
    }

    /// Digits after the point.
    pub(crate) fn decimals(self) -> usize {
        match self {
            Self::Throughput | Self::P50 | Self::P99 => 0,
            Self::Cpu | Self::Memory => 1,
            Self::Connect | Self::Switches | Self::Calls => 2,
        }
    }
}

/// What a figure may be at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    /// So many times PgBouncer's in the same round.
    Ratio(f64),
    /// This.
    Value(f64),
}

impl Workload {
    /// All of them, in the order of the report.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for protocol in ["simple", "extended", "prepared"] {
            for clients in [1, 32, 500, 1000] {
                let load = Load { protocol, clients, reconnect: false, statement: None };
                all.push(Self { name: format!("{protocol}-{clients}"), load });
            }
        }
        let reconnect = Load { protocol: "simple", clients: 10, reconnect: true, statement: None };
        all.push(Self { name: "reconnect".into(), load: reconnect });
        let statement = Some("select repeat('x', 1000000);");
        let rows = Load { protocol: "simple", clients: 4, reconnect: false, statement };
        all.push(Self { name: "rows".into(), load: rows });
        all
    }
}

impl Load {
    /// pgbench's arguments, without those that say where to and how long.
    pub(crate) fn arguments(&self, scratch: &Scratch) -> Result<Vec<String>> {
        let threads = self.clients.min(2);
        let mut arguments = vec![
            format!("--protocol={}", self.protocol),
            format!("--client={}", self.clients),
            format!("--jobs={threads}"),
        ];
        match self.statement {
            Some(statement) => {
                arguments.push(format!("--file={}", scratch.write("statement.sql", statement)?.display()))
            }
            None => arguments.push("--select-only".into()),
        }
        if self.reconnect {
            arguments.push("--connect".into());
        }
        if self.clients > 10 {
            // Enough for a 99th percentile, and pgbench has two cores to share.
            arguments.push("--sampling-rate=0.2".into());
        }
        Ok(arguments)
    }
}

/// The limit on a figure of pglifeguard, where there is one. The noise run takes one-worker limits as its example.
pub(crate) fn limit(workload: &str, measure: Measure, kind: Kind) -> Option<Limit> {
    let many_workers = matches!(kind, Kind::Pglifeguard { workers: 2.., .. });
    match (measure, workload) {
        (Measure::Cpu, "simple-32" | "extended-32") => Some(Limit::Ratio(if many_workers { 1.1 } else { 1.0 })),
        (Measure::Cpu, "prepared-32") => Some(Limit::Ratio(0.75)),
        (Measure::Cpu, "simple-500" | "extended-500" | "prepared-500" | "reconnect") => Some(Limit::Ratio(1.0)),
        (Measure::Cpu, "rows") => Some(Limit::Ratio(0.45)),
        (Measure::P50, "simple-1" | "extended-1" | "prepared-1") => Some(Limit::Ratio(1.0)),
        (Measure::Calls, "simple-32" | "extended-32" | "prepared-32") => Some(Limit::Value(4.4)),
        (Measure::Memory, _) => Some(Limit::Value(3.0)),
        _ => None,
    }
}
