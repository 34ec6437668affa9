//! Alternating rounds: all poolers run all the time, and in each round each is measured once, in turning order, so that
//! whatever else happens on the machine meets all of them alike.

use crate::accounting::Books;
use crate::args::Args;
use crate::pgbench::{self, Edge, Outcome};
use crate::pooler::{Contestant, Kind, Pooler, Stable};
use crate::postgres::Postgres;
use crate::process::Scratch;
use crate::results::{Figures, Results};
use crate::stats::{median, percentile};
use crate::syscalls::Tool;
use crate::workload::{Load, Measure, Workload, limit};
use crate::{Result, was_interrupted};

/// Seconds of a round that counts system calls.
pub(crate) const COUNT_SECONDS: u32 = 2;

/// Everything that the rounds need.
pub(crate) struct Contest<'a> {
    /// Files.
    pub(crate) scratch: &'a Scratch,
    /// The server behind all poolers.
    pub(crate) postgres: &'a Postgres,
    /// How poolers are started.
    pub(crate) stable: &'a Stable<'a>,
    /// Who takes part; PgBouncer first.
    pub(crate) contestants: &'a [Contestant],
    /// How long, how often.
    pub(crate) args: &'a Args,
    /// How system calls are counted, if at all.
    pub(crate) tool: Option<Tool>,
}

/// A way to measure the pooler of this process id and port; figures, and a remark on them.
type Method<'a> = fn(&Contest<'a>, &Workload, u32, u16) -> Result<(Figures, Option<String>)>;

impl<'a> Contest<'a> {
    /// Runs the rounds of all `workloads`. A failed measurement is noted and does not end the contest.
    pub(crate) fn run(&self, workloads: &[Workload], results: &mut Results) -> Result<()> {
        let mut poolers = self.contestants.iter().map(|c| self.stable.start(c)).collect::<Result<Vec<_>>>()?;
        for pooler in &poolers {
            self.prime(pooler, results);
        }
        for workload in workloads {
            self.alternate(Self::timed, workload, self.args.rounds as usize, &mut poolers, results)?;
            if self.tool.is_some() {
                self.alternate(Self::counted, workload, counting_rounds(&workload.name), &mut poolers, results)?;
            }
            self.show(workload, results);
        }
        Ok(())
    }

    /// Fills the pools, so that the first round is like the others.
    fn prime(&self, pooler: &Pooler, results: &mut Results) {
        let load = Load { protocol: "simple", clients: 32, reconnect: false, statement: None };
        let primed = pgbench::run(self.scratch, self.postgres, pooler.port(), &load, 1, &mut |_| Ok(()));
        results.failures.extend(primed.err().map(|error| format!("warming up: {error}\n{}", pooler.log_tail())));
    }

    /// Each pooler once per round, another one first each time.
    fn alternate(
        &self,
        method: Method<'a>,
        workload: &Workload,
        rounds: usize,
        poolers: &mut [Pooler],
        results: &mut Results,
    ) -> Result<()> {
        for round in 0..rounds {
            for turn in 0..poolers.len() {
                let number = (round + turn) % poolers.len();
                self.measure(method, workload, round, number, &mut poolers[number], results)?;
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        method: Method<'a>,
        workload: &Workload,
        round: usize,
        number: usize,
        pooler: &mut Pooler,
        results: &mut Results,
    ) -> Result<()> {
        if was_interrupted() {
            return Err("interrupted".into());
        }
        let name = &self.contestants[number].name;
        match method(self, workload, pooler.pid(), pooler.port()) {
            Ok((figures, remark)) => {
                results.add(&workload.name, number, round, figures);
                if let Some(remark) = remark.filter(|_| round == 0) {
                    results.remarks.push(format!("{}, {name}: {remark}", workload.name));
                }
            }
            Err(error) => {
                let failure = format!("{}, {name}: {error}\n{}", workload.name, pooler.log_tail());
                eprintln!("FAILED {failure}");
                results.failures.push(failure);
            }
        }
        if !pooler.is_alive() {
            *pooler = self.stable.start(&self.contestants[number])?;
        }
        Ok(())
    }

    /// One round with the kernel's books read at the edges of the window.
    fn timed(&self, workload: &Workload, pid: u32, port: u16) -> Result<(Figures, Option<String>)> {
        let mut books = Vec::with_capacity(2);
        let mut watch = |_: Edge| {
            books.push(Books::read(pid)?);
            Ok(())
        };
        let outcome = pgbench::run(self.scratch, self.postgres, port, &workload.load, self.args.seconds, &mut watch)?;
        let [begin, end] = books.as_slice() else { return Err("no window".into()) };
        Ok((figures(&outcome, begin, end), None))
    }

    /// One round with system calls counted.
    fn counted(&self, workload: &Workload, pid: u32, port: u16) -> Result<(Figures, Option<String>)> {
        let tool = self.tool.ok_or("nothing to count with")?;
        let mut count = tool.start(self.scratch, pid)?;
        let mut watch = |edge: Edge| count.switch(edge == Edge::Begin);
        let outcome = pgbench::run(self.scratch, self.postgres, port, &workload.load, COUNT_SECONDS, &mut watch)?;
        let transactions = if count.is_windowed() { outcome.transactions } else { outcome.all_transactions };
        let calls = count.finish()?;
        let each = calls.by_name.iter().map(|(name, count)| (name, *count as f64 / transactions));
        let frequent: Vec<String> =
            each.take_while(|(_, rate)| *rate >= 0.005).map(|(name, rate)| format!("{name} {rate:.2}")).collect();
        let total = calls.total as f64 / transactions;
        Ok((Figures::from([(Measure::Calls, total)]), Some(frequent.join(", "))))
    }

    /// One line per pooler while the bench goes on.
    fn show(&self, workload: &Workload, results: &Results) {
        for (number, contestant) in self.contestants.iter().enumerate() {
            let figure = |measure: Measure| {
                let values = results.values(&workload.name, number, measure);
                format!("{:.*}", measure.decimals(), median(&values))
            };
            println!(
                "{:<14} {:<24} {:>7} µs CPU  {:>7} tps  p50 {:>7} µs  p99 {:>7} µs  {:>7} calls  {:>5} switches",
                workload.name,
                contestant.name,
                figure(Measure::Cpu),
                figure(Measure::Throughput),
                figure(Measure::P50),
                figure(Measure::P99),
                figure(Measure::Calls),
                figure(Measure::Switches),
            );
        }
    }
}

/// How often system calls are counted: their number depends on how much is found ready at once, and so varies a little
/// with many clients. Where it has a limit it is worth a median.
pub(crate) fn counting_rounds(workload: &str) -> usize {
    let limited = limit(workload, Measure::Calls, Kind::Pglifeguard { workers: 1, tracks: true }).is_some();
    if limited { 3 } else { 1 }
}

fn figures(outcome: &Outcome, begin: &Books, end: &Books) -> Figures {
    let spent = end.since(begin);
    let mut figures = Figures::from([
        (Measure::Cpu, spent.cpu.as_secs_f64() * 1e6 / outcome.transactions),
        (Measure::Switches, spent.switches as f64 / outcome.transactions),
        (Measure::Throughput, outcome.transactions / outcome.window.as_secs_f64()),
    ]);
    for (measure, percent) in [(Measure::P50, 50), (Measure::P99, 99)] {
        if let Some(latency) = percentile(&outcome.latencies, percent) {
            figures.insert(measure, latency as f64);
        }
    }
    if let Some(connect) = outcome.connect_ms {
        figures.insert(Measure::Connect, connect);
    }
    figures
}
