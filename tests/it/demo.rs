//! `pglifeguard demo`: what `make run` shows to somebody who has just cloned the repository.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pglifeguard::app::demo::PortClaim;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::programs::{psql, run};
use crate::support::wait_until;

/// A running demo and what it has printed.
struct Demo {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    text: String,
}

impl Demo {
    fn start(port: u16) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_pglifeguard"))
            .args(["demo", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary has just been built");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, output, text: String::new() }
    }

    /// Reads on until a line contains `text`.
    fn read_until(&mut self, text: &str) {
        loop {
            let begin = self.text.len();
            let read = self.output.read_line(&mut self.text).expect("UTF-8");
            assert!(read > 0, "the demo ended without saying {text:?}:\n{}", self.text);
            if self.text[begin..].contains(text) {
                return;
            }
        }
    }

    /// The rest of the first line that contains `label`, from `postgresql://` on.
    fn dsn(&self, label: &str) -> &str {
        let line = self.text.lines().find(|line| line.contains(label) && line.contains("postgresql://"));
        let line = line.unwrap_or_else(|| panic!("no DSN for {label} in:\n{}", self.text));
        line[line.find("postgresql://").expect("just seen")..].split_whitespace().next().expect("just seen")
    }

    fn dir(&self) -> PathBuf {
        let (_, rest) = self.text.split_once("removes ").unwrap_or_else(|| panic!("no directory in:\n{}", self.text));
        PathBuf::from(rest.lines().next().expect("a line").trim_end_matches('.'))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("our own child");
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the demo to end", LIMIT, || {
            status = self.process.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The demo claims it for itself, so the claim ends here.
fn free_port() -> u16 {
    PortClaim::anywhere().expect("a port").number()
}

#[test]
fn its_dsns_work_and_ctrl_c_leaves_nothing_behind() {
    // Any port: the DSNs say which.
    let mut demo = Demo::start(0);
    demo.read_until("Ctrl-C");
    assert!(!demo.text.contains("is taken"), "{}", demo.text);
    for (label, query, answer) in [
        ("pg1 (primary)", "SELECT pg_is_in_recovery()", "f\n"),
        ("pg2 (standby)", "SELECT pg_is_in_recovery()", "t\n"),
        ("pg3 (standby)", "SELECT pg_is_in_recovery()", "t\n"),
        ("superuser", "SELECT rolsuper FROM pg_roles WHERE rolname = current_user", "t\n"),
        ("application", "SELECT current_database() || pg_is_in_recovery()", "appfalse\n"),
    ] {
        assert_eq!(run(psql(demo.dsn(label)).args(["-At", "-c", query])), answer, "{label}");
    }
    let version = run(psql(demo.dsn("console")).args(["-At", "-c", "SHOW VERSION"]));
    assert!(version.to_lowercase().contains("pglifeguard"), "{version}");

    let dir = demo.dir();
    assert!(dir.exists());
    demo.signal(Signal::INT);
    assert!(demo.wait().success());
    assert!(!dir.exists());
}

#[test]
fn a_second_demo_takes_the_next_port_and_says_so() {
    let port = free_port();
    let mut first = Demo::start(port);
    first.read_until("Ctrl-C");
    let mut second = Demo::start(port);
    second.read_until("Ctrl-C");
    assert!(second.text.contains(&format!("port {port} is taken")), "{}", second.text);
    assert_ne!(first.dsn("application"), second.dsn("application"));
    assert_ne!(first.dir(), second.dir());
    second.signal(Signal::TERM);
    assert!(second.wait().success());
    assert!(first.dir().exists(), "the second demo removed the first one's cluster");
    first.signal(Signal::HUP);
    assert!(first.wait().success());
    assert!(!first.dir().exists() && !second.dir().exists());
}

#[test]
fn a_signal_while_it_starts_ends_it_cleanly() {
    let mut demo = Demo::start(free_port());
    demo.read_until("starting");
    demo.signal(Signal::INT);
    demo.read_until("nothing is left behind");
    assert!(demo.wait().success());
}

#[test]
fn a_killed_demo_leaves_nothing_behind_either() {
    let mut demo = Demo::start(free_port());
    demo.read_until("Ctrl-C");
    let dir = demo.dir();
    demo.signal(Signal::KILL);
    assert!(!demo.wait().success());
    wait_until("the directory to vanish", LIMIT, || !dir.exists());
}

const LIMIT: Duration = Duration::from_secs(20);
