//! Counts the system calls of a process. By `perf` where the kernel's tracepoints may be read: it can be switched on
//! and off at the edges of the window. Else by `strace`, which slows the process down and so counts from before the
//! first login to after the last logout. Either way in a round of its own: no other figure comes from it.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::Result;
use crate::process::{Scratch, end};

/// How calls can be counted on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `perf stat` on tracepoints.
    Perf,
    /// `strace -c`.
    Strace,
}

/// Calls that were counted: the total, and by name, the most frequent first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// All calls.
    pub(crate) total: u64,
    /// By name.
    pub(crate) by_name: Vec<(String, u64)>,
}

/// A count in progress.
pub(crate) struct Count {
    child: Child,
    output: PathBuf,
    control: Option<(File, File)>,
}

/// Looked at one by one; the rest is in the total only.
const NAMES: [&str; 16] = [
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "accept4",
    "close",
    "futex",
    "madvise",
    "sched_yield",
];
const TRACEPOINTS: &str = "/sys/kernel/tracing/events/syscalls/sys_enter_";

impl Tool {
    /// The first that works here.
    pub(crate) fn find() -> Option<Self> {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", "raw_syscalls:sys_enter", "true"]) {
            Some(Self::Perf)
        } else if works("strace", &["-f", "-c", "true"]) {
            Some(Self::Strace)
        } else {
            None
        }
    }

    /// Starts to count the calls of all threads of `pid`.
    pub(crate) fn start(self, scratch: &Scratch, pid: u32) -> Result<Count> {
        let output = scratch.path("syscalls.txt");
        let _ = fs::remove_file(&output); // of the count before
        match self {
            Self::Perf => start_perf(scratch, pid, output),
            Self::Strace => start_strace(pid, output),
        }
    }
}

impl Count {
    /// Switches counting on or off, where the tool can.
    pub(crate) fn switch(&mut self, on: bool) -> Result<()> {
        let Some((control, acknowledged)) = &mut self.control else { return Ok(()) };
        control.write_all(if on { b"enable\n" } else { b"disable\n" })?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut answer = [0; 16];
        while !matches!(acknowledged.read(&mut answer), Ok(1..)) {
            if Instant::now() > deadline {
                return Err("perf does not answer".into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Whether only the window was counted.
    pub(crate) fn is_windowed(&self) -> bool {
        self.control.is_some()
    }

    /// Ends the count.
    pub(crate) fn finish(mut self) -> Result<Calls> {
        end(&mut self.child, Signal::INT);
        let text = fs::read_to_string(&self.output)?;
        let calls = if self.is_windowed() { parse_perf(&text) } else { parse_strace(&text) };
        calls.ok_or_else(|| format!("no count in:\n{text}").into())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        end(&mut self.child, Signal::INT);
    }
}

fn start_perf(scratch: &Scratch, pid: u32, output: PathBuf) -> Result<Count> {
    let control = make_pipe(&scratch.path("perf-control"))?;
    let acknowledged = make_pipe(&scratch.path("perf-ack"))?;
    let present = NAMES.iter().filter(|name| Path::new(&format!("{TRACEPOINTS}{name}")).exists());
    let by_name: Vec<String> = present.map(|name| format!("syscalls:sys_enter_{name}")).collect();
    let mut command = Command::new("perf");
    command.args(["stat", "--field-separator=,", "--delay=-1", "--event=raw_syscalls:sys_enter"]);
    if !by_name.is_empty() {
        command.arg(format!("--event={}", by_name.join(",")));
    }
    command.arg(format!("--pid={pid}")).arg("--output").arg(&output);
    command.arg(format!(
        "--control=fifo:{},{}",
        scratch.path("perf-control").display(),
        scratch.path("perf-ack").display()
    ));
    let child = command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(Count { child, output, control: Some((control, acknowledged)) })
}

/// A named pipe, opened at both ends so that neither side waits for the other; reading returns at once.
fn make_pipe(path: &Path) -> Result<File> {
    let _ = fs::remove_file(path); // of the count before
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into())?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
    Ok(File::options().read(true).write(true).custom_flags(flags).open(path)?)
}

fn start_strace(pid: u32, output: PathBuf) -> Result<Count> {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-p", &pid.to_string(), "-o"]).arg(&output);
    let child = command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(500)); // it says nowhere but on a terminal that it is attached
    Ok(Count { child, output, control: None })
}

/// Lines `4711,,syscalls:sys_enter_read,…`.
pub(crate) fn parse_perf(text: &str) -> Option<Calls> {
    let mut calls = Calls::default();
    let mut seen = false;
    for line in text.lines() {
        let mut fields = line.split(',');
        let (Some(count), Some(event)) = (fields.next(), fields.nth(1)) else { continue };
        let Ok(count) = count.parse() else { continue };
        if event == "raw_syscalls:sys_enter" {
            calls.total = count;
            seen = true;
        } else if let Some(name) = event.strip_prefix("syscalls:sys_enter_") {
            calls.by_name.push((name.to_owned(), count));
        }
    }
    seen.then(|| calls.sorted())
}

/// Lines `% time, seconds, usecs/call, calls, [errors,] name`, and one for the total.
pub(crate) fn parse_strace(text: &str) -> Option<Calls> {
    let mut calls = Calls::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(Ok(count)), Some(name)) = (fields.get(3).map(|count| count.parse()), fields.last()) else { continue };
        if *name == "total" {
            calls.total = count;
        } else {
            calls.by_name.push(((*name).to_owned(), count));
        }
    }
    (calls.total > 0).then(|| calls.sorted())
}

impl Calls {
    fn sorted(mut self) -> Self {
        self.by_name.retain(|(_, count)| *count > 0);
        self.by_name.sort_by_key(|(_, count)| Reverse(*count));
        self
    }
}
