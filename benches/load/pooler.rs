//! The poolers under test, with equal settings: SCRAM, no TLS, transaction mode, 25 servers, loopback TCP.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::Result;
use crate::postgres::{DATABASE, Postgres, free_port};
use crate::process::{Daemon, Scratch};

/// Servers per pool.
pub(crate) const POOL_SIZE: u32 = 25;
/// More than any workload has.
const MAX_CLIENTS: u32 = 12_000;

/// Which program, and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one to compare with.
    PgBouncer,
    /// pglifeguard with so many workers.
    Pglifeguard {
        /// Threads.
        workers: u32,
        /// `session_state = "track"`.
        tracks: bool,
    },
}

/// A pooler that takes part.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// As in the report.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
}

/// The programs of the contestants, and what they connect to.
pub(crate) struct Stable<'a> {
    scratch: &'a Scratch,
    postgres: &'a Postgres,
    pgbouncer: PathBuf,
    pglifeguard: PathBuf,
}

/// A running pooler. Dropping it stops it.
pub(crate) struct Pooler {
    daemon: Daemon,
    port: u16,
}

impl<'a> Stable<'a> {
    /// Copies the programs to where the unprivileged user can run them.
    pub(crate) fn new(scratch: &'a Scratch, postgres: &'a Postgres, pgbouncer: &Path) -> Result<Self> {
        scratch.write("userlist.txt", &postgres.userlist(scratch)?)?;
        Ok(Self {
            scratch,
            postgres,
            pgbouncer: scratch.copy_program(pgbouncer, "pgbouncer")?,
            pglifeguard: scratch.copy_program(Path::new(env!("CARGO_BIN_EXE_pglifeguard")), "pglifeguard")?,
        })
    }

    /// Starts a pooler on a port of its own and waits until it listens.
    pub(crate) fn start(&self, contestant: &Contestant) -> Result<Pooler> {
        let port = free_port()?;
        let (program, file, text, end_with) = match contestant.kind {
            Kind::PgBouncer => {
                (&self.pgbouncer, format!("pgbouncer-{port}.ini"), self.pgbouncer_ini(port), Signal::TERM)
            }
            Kind::Pglifeguard { workers, tracks } => {
                let text = self.pooler_toml(port, workers, tracks);
                (&self.pglifeguard, format!("pooler-{port}.toml"), text, Signal::TERM)
            }
        };
        let settings = self.scratch.write(&file, &text)?;
        let mut command = self.scratch.command(program);
        let mut daemon = Daemon::start(self.scratch, &format!("pooler-{port}"), command.arg(settings), end_with)?;
        daemon
            .await_ready(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
            .map_err(|error| format!("{}: {error}", contestant.name))?;
        Ok(Pooler { daemon, port })
    }

    fn pgbouncer_ini(&self, port: u16) -> String {
        format!(
            "[databases]\n{DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             max_client_conn = {MAX_CLIENTS}\ndefault_pool_size = {POOL_SIZE}\nlog_connections = 0\nlog_disconnections = 0\n",
            self.postgres.port(),
            self.scratch.path("userlist.txt").display(),
        )
    }

    fn pooler_toml(&self, port: u16, workers: u32, tracks: bool) -> String {
        let state = if tracks { "track" } else { "pgbouncer" };
        format!(
            "[pooler]\nlisten_addr = \"127.0.0.1\"\nlisten_port = {port}\nunix_socket_dir = \"\"\n\
             auth_type = \"scram-sha-256\"\nauth_file = \"{}\"\npool_mode = \"transaction\"\n\
             max_client_conn = {MAX_CLIENTS}\ndefault_pool_size = {POOL_SIZE}\nworkers = {workers}\nsession_state = \"{state}\"\n\
             log_connections = false\nlog_disconnections = false\n\n\
             [databases.{DATABASE}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"{DATABASE}\"\n",
            self.scratch.path("userlist.txt").display(),
            self.postgres.port(),
        )
    }
}

impl Pooler {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its TCP port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.daemon.is_alive()
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.daemon.log_tail()
    }
}

/// The binary that `PGBOUNCER` names, else what `scripts/pgbouncer` builds.
pub(crate) fn find_pgbouncer() -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/pgbouncer");
    let output =
        Command::new(script).stderr(Stdio::inherit()).output().map_err(|error| format!("{script}: {error}"))?;
    if !output.status.success() {
        return Err("there is no PgBouncer to compare with".into());
    }
    let path = String::from_utf8(output.stdout)?.lines().last().unwrap_or_default().into();
    Ok(path)
}
