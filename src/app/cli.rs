//! Arguments, and what they start.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use super::commands::demo::DemoArgs;
use super::commands::{check, demo};
use super::logging;
use super::pooler::{Around, run};
use super::startup::{Account, PidFile, StartError, note_root};
use super::surroundings;
use crate::admin::http;
use crate::config::{Complaint, load, load_despite};
use crate::telemetry::events::process as events;

/// How long what still runs at the end, such as a look-up of a name, may take to stop.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// A second word; clap takes it for a command.
const ONE_FILE: &str = "one configuration file is expected; a command goes first: pglifeguard check pooler.toml";

/// Options of PgBouncer, and what there is instead of them.
const OTHERS: [([&str; 2], &str); 5] = [
    (["-d", "--daemon"], "pglifeguard stays in the foreground; let systemd, or the like, start it"),
    (["-R", "--reboot"], "no process takes over from another; SIGTERM lets the clients of the old one finish"),
    (["-u", "--user"], "set user in [pooler]"),
    (["-q", "--quiet"], "set logfile in [pooler]: nothing goes to standard error then"),
    (["-v", "--verbose"], "set verbose in [pooler]"),
];

/// PostgreSQL connection pooler: a drop-in for PgBouncer on every core.
#[derive(Debug, Parser)]
#[command(name = "pglifeguard", version = version(), args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file
    #[arg(default_value = "pooler.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a configuration: print every mistake with its place and what to write instead
    Check {
        /// Configuration file
        #[arg(default_value = "pooler.toml")]
        config: PathBuf,
    },
    /// Try it out: a throw-away primary with two standbys, and the pooler in front of it
    Demo(DemoArgs),
}

/// As `SHOW VERSION` has it: the PgBouncer that this one equals goes first, since scripts compare it.
fn version() -> &'static str {
    crate::admin::show::VERSION_TEXT
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| match error.kind() {
        // The first line is that of SHOW VERSION, as with PgBouncer; clap would begin it with our name.
        ErrorKind::DisplayVersion => {
            print(&format!("{}\n", version()));
            std::process::exit(0);
        }
        ErrorKind::ArgumentConflict => Args::command().error(ErrorKind::TooManyValues, ONE_FILE).exit(),
        kind => match option_of_pgbouncer(&error) {
            Some(told) => Args::command().error(kind, told).exit(),
            None => error.exit(),
        },
    });
    let done = match args.command {
        None => serve(&args.config),
        Some(Command::Check { config }) => {
            let (report, good) = check::report(&config);
            print(&report);
            return if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(Command::Demo(demo)) => run_demo(&demo),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Whoever reads nothing can't be told.
            let _ = writeln!(io::stderr(), "pglifeguard: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What to do instead of an option that only PgBouncer has.
fn option_of_pgbouncer(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let (_, instead) = OTHERS.iter().find(|(names, _)| names.contains(&option.as_str()))?;
    Some(format!("there is no '{option}': {instead}"))
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // A closed pipe is no error of ours.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn serve(path: &Path) -> Result<(), String> {
    let loaded = load_despite(path).map_err(|complaints| mistakes(&complaints))?;
    let mut wrong = surroundings::examine(path, &loaded).mistakes;
    if !wrong.is_empty() {
        wrong.extend(loaded.mistakes);
        return Err(mistakes(&wrong));
    }
    let pooler = &loaded.config.pooler;
    let account = pooler.user.as_deref().map(Account::find).transpose().map_err(|error| error.to_string())?;
    let pid_file = pooler.pidfile.as_deref().map(|path| PidFile::write(path, account.as_ref())).transpose();
    let pid_file = pid_file.map_err(|error| error.to_string())?;
    if let (Some(user), Some(account)) = (&pooler.user, &account) {
        account.become_it(user).map_err(|error| error.to_string())?;
    }
    let log = logging::start(&loaded.config).map_err(|error| error.to_string())?;
    note_root();
    let recorder = match loaded.config.metrics_listen {
        Some(_) => Some(http::install_recorder().map_err(|error| error.to_string())?),
        None => None,
    };
    keep_to_small_pages();
    let runtime = runtime(pooler.workers).map_err(|error| format!("cannot start threads: {error}"))?;
    let around = Around { path: path.to_owned(), log: Some(log), recorder };
    let started_at = Instant::now();
    let ended = runtime.block_on(run(loaded, around)).map_err(|error| error.to_string());
    // Clients that still wait for something must not keep the process.
    runtime.shutdown_timeout(STRAGGLERS);
    drop(pid_file);
    if ended.is_ok() {
        events::stopped(started_at.elapsed());
    }
    ended
}

fn mistakes(complaints: &[Complaint]) -> String {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    format!("the configuration has mistakes:\n{}", lines.join("\n"))
}

/// The allocator asks for pages of 2 MiB, of which a few kilobytes for each client use little. Where the system knows no
/// such pages, nothing is to be done.
fn keep_to_small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// One thread drives everything itself; several share the work.
fn runtime(workers: usize) -> io::Result<Runtime> {
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    match workers {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    }
}

fn run_demo(args: &DemoArgs) -> Result<(), String> {
    let runtime = runtime(0).map_err(|error| format!("cannot start threads: {error}"))?;
    let started_at = Instant::now();
    let ended = runtime.block_on(demo::run(args, |path| async move {
        let loaded = load(&path).map_err(|complaints| {
            let io = io::Error::other(complaints.first().map(ToString::to_string).unwrap_or_default());
            StartError::io("cannot use the demo's configuration")(io)
        })?;
        let log = logging::start(&loaded.config).map_err(StartError::io("cannot open the log"))?;
        let recorder = http::install_recorder().ok();
        run(loaded, Around { path, log: Some(log), recorder }).await
    }));
    runtime.shutdown_timeout(STRAGGLERS);
    if ended.is_ok() {
        events::stopped(started_at.elapsed());
    }
    ended.map_err(|error| error.to_string())
}
