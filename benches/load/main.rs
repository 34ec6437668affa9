//! End to end, against PgBouncer: `cargo bench --bench load`. Starts a throw-away PostgreSQL, PgBouncer and pglifeguard
//! with equal settings, sends pgbench through them in alternating rounds on loopback, and reports ratios, with CPU time
//! and system calls from the kernel's own books. What it measures and how is described in `docs/performance.md`.

mod accounting;
mod args;
mod check;
mod contest;
mod idle;
mod machine;
mod pgbench;
mod pooler;
mod postgres;
mod process;
mod report;
mod results;
mod stats;
mod syscalls;
mod workload;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use args::Args;
use clap::Parser;
use contest::Contest;
use pooler::{Contestant, Kind, Stable};
use postgres::Postgres;
use process::Scratch;
use results::Results;
use syscalls::Tool;
use workload::{Measure, Workload};

/// Errors end a measurement or the run; they are read by people only.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Set by Ctrl-C: the run ends at the next step, and everything that was started ends with it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        // `cargo test --benches` runs this program too, and has no half an hour.
        check::run();
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether Ctrl-C was pressed.
pub(crate) fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Measures and reports; whether nothing failed.
fn run(args: &Args) -> Result<bool> {
    let workloads: Vec<Workload> = Workload::all().into_iter().filter(|workload| args.wants(&workload.name)).collect();
    let idle = args.wants("idle");
    if workloads.is_empty() && !idle {
        return Err(format!("no workload is called {}", args.only.join(", ")).into());
    }
    watch_for_interrupt()?;
    let pgbouncer = pooler::find_pgbouncer()?;
    let file_limit = process::raise_file_limit();
    let scratch = Scratch::new()?;
    let postgres = Postgres::start(&scratch)?;
    let stable = Stable::new(&scratch, &postgres, &pgbouncer)?;
    let contestants = contestants(args);
    let machine = machine::describe(&scratch, &postgres, &pgbouncer, args)?;
    println!("{machine}");
    println!("{}\n", estimate(args, &workloads, contestants.len()));
    let tool = Tool::find();
    let mut results = Results::default();
    results.remarks.push(remark_on(tool));
    let contest =
        Contest { scratch: &scratch, postgres: &postgres, stable: &stable, contestants: &contestants, args, tool };
    let ran = contest
        .run(&workloads, &mut results)
        .and_then(|()| if idle { idle::run(&contest, file_limit, &mut results) } else { Ok(()) });
    // What was measured until an error or Ctrl-C is reported all the same.
    let report = report::markdown(&machine, &contestants, &results);
    println!("\n{report}");
    std::fs::write(&args.report, &report)?;
    println!("Written to {}", args.report.display());
    ran?;
    Ok(results.failures.is_empty())
}

fn contestants(args: &Args) -> Vec<Contestant> {
    if args.tracking {
        let of = |name: &str, tracks| Contestant { name: name.into(), kind: Kind::Pglifeguard { workers: 1, tracks } };
        return vec![of("untracked", false), of("tracked", true)];
    }
    let mut contestants = vec![Contestant { name: "PgBouncer".into(), kind: Kind::PgBouncer }];
    if args.noise {
        contestants.push(Contestant { name: "a second PgBouncer".into(), kind: Kind::PgBouncer });
        return contestants;
    }
    for workers in args.workers.iter().copied() {
        let plural = if workers == 1 { "" } else { "s" };
        contestants.push(Contestant {
            name: format!("pglifeguard, {workers} worker{plural}"),
            kind: Kind::Pglifeguard { workers, tracks: true },
        });
    }
    contestants
}

/// What the run will take, as far as it can be foretold.
fn estimate(args: &Args, workloads: &[Workload], poolers: usize) -> String {
    let seconds_of = |workload: &Workload| {
        let around = 2 + workload.load.clients / 300; // logins, warming up, end
        let counts = contest::counting_rounds(&workload.name) as u32;
        args.rounds * (args.seconds + around) + counts * (contest::COUNT_SECONDS + around)
    };
    let seconds: u32 = workloads.iter().map(seconds_of).sum();
    let minutes = (u64::from(seconds) * poolers as u64).div_ceil(60);
    format!("{} workloads, {poolers} poolers, about {minutes} minutes for rounds.", workloads.len())
}

fn remark_on(tool: Option<Tool>) -> String {
    match tool {
        Some(Tool::Perf) => format!("{}: counted by perf, in a round of their own", Measure::Calls.title()),
        Some(Tool::Strace) => {
            format!("{}: counted by strace, in a round of their own, logins included", Measure::Calls.title())
        }
        None => format!("{}: neither perf nor strace may be used here", Measure::Calls.title()),
    }
}

/// Ctrl-C also reaches the programs that were started; the bench stays to clean up behind them.
fn watch_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(())
}
