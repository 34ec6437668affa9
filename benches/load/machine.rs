//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::accounting::status_field;
use crate::args::Args;
use crate::postgres::Postgres;
use crate::process::Scratch;

/// A Markdown list that describes machine, programs and settings.
pub(crate) fn describe(scratch: &Scratch, postgres: &Postgres, pgbouncer: &Path, args: &Args) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let memory = status_field(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default() / (1024 * 1024);
    let server = postgres.query(scratch, "postgres", "select version()")?;
    let version = Command::new(pgbouncer).arg("--version").output()?.stdout;
    let version = String::from_utf8(version)?.lines().collect::<Vec<_>>().join(", ");
    let compared = if args.noise { "a second PgBouncer in pglifeguard's place".to_owned() } else { ours() };
    Ok(format!(
        "- {}, {cores} cores, {memory} GiB of memory; {}, Linux {}\n\
         - load average before the run: {}\n\
         - {server}\n\
         - {version}\n\
         - {compared}\n\
         - {} rounds of {} s\n",
        processor(),
        distribution(),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        args.rounds,
        args.seconds,
    ))
}

fn ours() -> String {
    let profile = if cfg!(debug_assertions) { "NOT OPTIMISED, its figures mean nothing" } else { "optimised" };
    format!("pglifeguard {} ({profile})", env!("CARGO_PKG_VERSION"))
}

fn processor() -> String {
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn distribution() -> String {
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// What is missing on some system is left empty: the description is for people.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
