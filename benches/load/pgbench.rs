//! One run of pgbench, watched: a steady window is cut out of it, from the first progress line to the last, so that
//! logins, warming up and the end are in no figure.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::postgres::{DATABASE, PASSWORD, Postgres, USER};
use crate::process::{Scratch, end, signal_child, wait_within};
use crate::workload::Load;
use crate::{Result, was_interrupted};

/// An edge of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// The load is steady: figures count from here.
    Begin,
    /// They count up to here.
    End,
}

/// What pgbench saw.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Transactions in the window.
    pub(crate) transactions: f64,
    /// Length of the window.
    pub(crate) window: Duration,
    /// Latencies in the window in µs, sorted; a sample of them where there are many.
    pub(crate) latencies: Vec<u64>,
    /// Transactions from the first login to the last logout.
    pub(crate) all_transactions: f64,
    /// With a connection per transaction: its average time in ms.
    pub(crate) connect_ms: Option<f64>,
}

/// Runs `load` for `seconds` through `port`. `watch` is called at both edges of the window, at once.
pub(crate) fn run(
    scratch: &Scratch,
    postgres: &Postgres,
    port: u16,
    load: &Load,
    seconds: u32,
    watch: &mut dyn FnMut(Edge) -> Result<()>,
) -> Result<Outcome> {
    let logs = scratch.make_dir("pgbench-logs")?;
    let result = run_logged(scratch, postgres, port, load, seconds, watch, &logs);
    fs::remove_dir_all(&logs)?;
    result
}

fn run_logged(
    scratch: &Scratch,
    postgres: &Postgres,
    port: u16,
    load: &Load,
    seconds: u32,
    watch: &mut dyn FnMut(Edge) -> Result<()>,
    logs: &Path,
) -> Result<Outcome> {
    let mut command = scratch.command(postgres.program("pgbench"));
    command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable").env("LC_ALL", "C");
    command.args(["--host=127.0.0.1", &format!("--port={port}"), &format!("--username={USER}"), "--no-vacuum"]);
    // Its time starts before the logins, whose length nobody knows: it gets plenty, and is told to end.
    command.args([&format!("--time={}", seconds + 600), "--progress=1", "--log"]);
    command.arg(format!("--log-prefix={}", logs.join("log").display()));
    command.args(load.arguments(scratch)?).arg(DATABASE);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = read_lines(child.stderr.take().ok_or("pgbench without standard error")?);
    let watched = watch_progress(&lines, seconds, watch);
    // The signal by which its own clock ends it: clients finish their transactions, logs are written.
    signal_child(&mut child, Signal::ALARM);
    if watched.is_err() || !wait_within(&mut child, Duration::from_secs(60)) {
        end(&mut child, Signal::TERM);
    }
    let (transactions, begin, end_of_window) = watched?;
    let summary = read_summary(&mut child, &lines)?;
    Ok(Outcome {
        transactions,
        window: end_of_window.0.duration_since(begin.0),
        latencies: read_latencies(logs, begin.1, end_of_window.1)?,
        all_transactions: summary_number(&summary, "number of transactions actually processed: ").unwrap_or_default(),
        connect_ms: summary_number(&summary, "average connection time = "),
    })
}

type Moment = (Instant, SystemTime);

/// Passes on what pgbench says, line by line, with the time at which it was read.
fn read_lines(stderr: ChildStderr) -> Receiver<(Moment, String)> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(|line| line.ok()) {
            if sender.send(((Instant::now(), SystemTime::now()), line)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Follows the progress lines; the window's transactions, begin and end.
fn watch_progress(
    lines: &Receiver<(Moment, String)>,
    seconds: u32,
    watch: &mut dyn FnMut(Edge) -> Result<()>,
) -> Result<(f64, Moment, Moment)> {
    let mut deadline = Instant::now() + Duration::from_secs(60); // for the logins
    let mut said = String::new();
    let mut begin: Option<Moment> = None;
    let mut last: Option<Moment> = None;
    let (mut transactions, mut progressed) = (0.0, 0);
    while progressed <= seconds {
        let (moment, line) = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err(format!("pgbench does not get on. {said}").into()),
            Err(RecvTimeoutError::Disconnected) => return Err(format!("pgbench ended early. {said}").into()),
        };
        if was_interrupted() {
            return Err("interrupted".into());
        }
        let Some(rate) = progress_rate(&line) else {
            said.push_str(&line);
            said.push('\n');
            continue;
        };
        if let Some(last) = last {
            transactions += rate * moment.0.duration_since(last.0).as_secs_f64();
        } else {
            watch(Edge::Begin)?;
            begin = Some(moment);
            deadline = Instant::now() + Duration::from_secs(u64::from(seconds) + 30);
        }
        last = Some(moment);
        progressed += 1;
    }
    watch(Edge::End)?;
    match (begin, last) {
        (Some(begin), Some(last)) if transactions > 0.0 => Ok((transactions, begin, last)),
        _ => Err(format!("not one transaction went through. {said}").into()),
    }
}

/// What pgbench prints at its end; an error when it did not end well.
fn read_summary(child: &mut Child, lines: &Receiver<(Moment, String)>) -> Result<String> {
    let mut summary = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut summary)?;
    }
    let status = child.wait()?;
    if !status.success() {
        let said: Vec<String> = lines.iter().map(|line| line.1).filter(|line| progress_rate(line).is_none()).collect();
        return Err(format!("pgbench: {status}: {}", said.join("\n")).into());
    }
    Ok(summary)
}

/// Transactions per second of a line `progress: 2.0 s, 7021.9 tps, lat 0.141 ms stddev 0.020, 0 failed`.
pub(crate) fn progress_rate(line: &str) -> Option<f64> {
    line.strip_prefix("progress: ")?.split(", ").nth(1)?.strip_suffix(" tps")?.parse().ok()
}

/// The number behind `name` in pgbench's summary.
pub(crate) fn summary_number(summary: &str, name: &str) -> Option<f64> {
    let rest = summary.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split([' ', '/']).next()?.parse().ok()
}

/// Latencies of the transactions that ended between two times, sorted.
fn read_latencies(logs: &Path, begin: SystemTime, end: SystemTime) -> Result<Vec<u64>> {
    let micros = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_micros());
    let (begin, end) = (micros(begin)?, micros(end)?);
    let mut latencies = Vec::new();
    let files: Vec<PathBuf> = fs::read_dir(logs)?.flatten().map(|entry| entry.path()).collect();
    for file in files {
        let text = fs::read_to_string(file)?;
        let inside = text.lines().filter_map(logged).filter(|(at, _)| (begin..=end).contains(at));
        latencies.extend(inside.map(|(_, latency)| latency));
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// End (µs since 1970) and latency (µs) of a line `client transaction latency script seconds microseconds`.
pub(crate) fn logged(line: &str) -> Option<(u128, u64)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (seconds, micros): (u128, u128) = (fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
    Some((seconds * 1_000_000 + micros, fields.get(2)?.parse().ok()?))
}
