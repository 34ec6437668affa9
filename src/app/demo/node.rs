//! One PostgreSQL server of a throw-away cluster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::binaries::Binaries;
use super::cluster::Watch;
use super::error::ClusterError;
use super::port::PortClaim;

/// A data directory and, while it runs, the server on it.
#[derive(Debug)]
pub struct Node {
    name: String,
    /// From the first start on, for good.
    port: Option<PortClaim>,
    data: PathBuf,
    sockets: PathBuf,
    log: PathBuf,
    account: Account,
    binaries: Binaries,
    server: Option<Child>,
}

/// How a server is stopped, as PostgreSQL names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Waits for its clients to leave.
    Smart,
    /// Rolls back and disconnects them, writes a checkpoint.
    Fast,
    /// Drops everything at once, as a crash would; recovers at the next start.
    Immediate,
}

impl Node {
    /// A node that is to live in `DIR/NAME`, with its log beside it. Nothing is made yet.
    pub(super) fn new(dir: &Path, name: &str, sockets: &Path, account: &Account, binaries: &Binaries) -> Self {
        Self {
            name: name.to_owned(),
            port: None,
            data: dir.join(name),
            sockets: sockets.to_owned(),
            log: dir.join(format!("{name}.log")),
            account: account.clone(),
            binaries: binaries.clone(),
            server: None,
        }
    }

    /// Its name: `pg1` for the first primary, and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port on 127.0.0.1; 0 before its first start.
    pub fn port(&self) -> u16 {
        self.port.as_ref().map_or(0, PortClaim::number)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The directory of its Unix socket: whoever can enter it is let in without a password.
    pub fn socket_dir(&self) -> &Path {
        &self.sockets
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The first start: on a port that turns out to be free, for good.
    pub(super) fn start_on_a_free_port(&mut self, watch: &Watch<'_>) -> Result<(), ClusterError> {
        let mut tries = 1;
        loop {
            self.port = Some(PortClaim::anywhere()?);
            match self.start(watch) {
                // Somebody else was quicker; the log says so in these words whatever the system's are.
                Err(ClusterError::Died { log, .. }) if log.contains("could not bind") && tries < PORT_TRIES => {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Starts the server and waits until it answers.
    pub fn start(&mut self, watch: &Watch<'_>) -> Result<(), ClusterError> {
        let program = self.binaries.path("postgres");
        let log = File::options().create(true).append(true).open(&self.log).map_err(ClusterError::file(&self.log))?;
        let stdout = log.try_clone().map_err(ClusterError::file(&self.log))?;
        let mut command = self.account.command(&program);
        command.arg("-D").arg(&self.data).arg("-p").arg(self.port().to_string()).arg("-k").arg(&self.sockets);
        let server = command.stdout(stdout).stderr(log).spawn().map_err(ClusterError::spawn(&program))?;
        self.server = Some(server);
        self.wait_ready(watch)
    }

    /// Stops the server and waits until it is gone. Nothing happens when it does not run.
    pub fn stop(&mut self, how: Shutdown) -> Result<(), ClusterError> {
        let signal = match how {
            Shutdown::Smart => Signal::TERM,
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        };
        let Some(server) = &mut self.server else { return Ok(()) };
        // It has not been waited for, so its number is still its own.
        let _ = kill_process(Pid::from_child(server), signal);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if matches!(server.try_wait(), Ok(Some(_))) {
                self.server = None;
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(self.timeout("stop", STOP_TIMEOUT))
    }

    /// Sends the server a signal: SIGHUP to reload, SIGSTOP to make it hang.
    pub fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let Some(server) = &self.server else { return Ok(()) };
        kill_process(Pid::from_child(server), signal)
            .map_err(|error| ClusterError::File { path: self.data.clone(), source: error.into() })
    }

    /// Runs SQL as superuser through `psql`: unaligned rows without headings, columns separated by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, ClusterError> {
        let psql = self.binaries.path("psql");
        let output = self.psql(&psql, database, sql).map_err(ClusterError::spawn(&psql))?;
        Ok(ClusterError::check(&psql, output)?.trim_end().to_owned())
    }

    /// Waits until `sql` gives `expected`.
    pub fn wait_for(&self, sql: &str, expected: &str, watch: &Watch<'_>) -> Result<(), ClusterError> {
        let begun = Instant::now();
        loop {
            let answer = self.sql("postgres", sql)?;
            if answer == expected {
                return Ok(());
            }
            watch.check()?;
            if begun.elapsed() > START_TIMEOUT {
                return Err(self.timeout(&format!("give {expected} for {sql}, last {answer},"), START_TIMEOUT));
            }
            thread::sleep(POLL);
        }
    }

    fn psql(&self, psql: &Path, database: &str, sql: &str) -> std::io::Result<Output> {
        let mut command = self.account.command(psql);
        command.arg("-XAtq").args(["-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        command.arg("-h").arg(&self.sockets).arg("-p").arg(self.port().to_string()).output()
    }

    /// The postmaster writes its state into the eighth line of its pid file; that is what `pg_ctl -w` reads too.
    fn wait_ready(&mut self, watch: &Watch<'_>) -> Result<(), ClusterError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let pid = server.id().to_string();
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            watch.check()?;
            if matches!(server.try_wait(), Ok(Some(_))) {
                self.server = None;
                return Err(ClusterError::Died { node: self.name.clone(), log: self.log_tail() });
            }
            let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = file.lines();
            if lines.next() == Some(&pid) && lines.nth(6).is_some_and(|state| state.trim_end() == "ready") {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(self.timeout("answer", START_TIMEOUT))
    }

    fn timeout(&self, what: &str, waited: Duration) -> ClusterError {
        let log = format!("; the end of its log:\n{}", self.log_tail());
        ClusterError::Timeout { what: format!("node {} to {what}", self.name), waited, log }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A stopped process would not hear anything else.
        let _ = self.signal(Signal::CONT);
        if self.stop(Shutdown::Immediate).is_err() {
            let _ = self.signal(Signal::KILL);
            if let Some(server) = &mut self.server {
                let _ = server.wait();
            }
        }
    }
}

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const PORT_TRIES: u32 = 10;
