//! A throw-away PostgreSQL with pgbench's tables and a user who logs in by SCRAM.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::Result;
use crate::process::{Daemon, Scratch};

/// Database and user of all measurements.
pub(crate) const DATABASE: &str = "bench";
/// The user's name.
pub(crate) const USER: &str = "bench";
/// The user's password.
pub(crate) const PASSWORD: &str = "bench-password";

const SCALE: &str = "10";

/// A running PostgreSQL. Dropping it stops it.
pub(crate) struct Postgres {
    programs: PathBuf,
    sockets: PathBuf,
    port: u16,
    _daemon: Daemon,
}

impl Postgres {
    /// Makes a cluster, starts it and fills it.
    pub(crate) fn start(scratch: &Scratch) -> Result<Self> {
        let programs = find_programs()?;
        let data = scratch.make_dir("data")?;
        let sockets = scratch.make_dir("sockets")?;
        scratch.run(
            scratch
                .command(programs.join("initdb"))
                .args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"])
                .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pgdata"])
                .arg(&data),
        )?;
        let port = free_port()?;
        let conf = data.join("postgresql.conf");
        fs::write(&conf, fs::read_to_string(&conf)? + &settings(port, &sockets))?;
        let mut daemon = Daemon::start(
            scratch,
            "postgres",
            scratch.command(programs.join("postgres")).arg("-D").arg(&data),
            Signal::INT, // fast shutdown
        )?;
        let socket = sockets.join(format!(".s.PGSQL.{port}"));
        daemon.await_ready(|| socket.exists())?;
        let postgres = Self { programs, sockets, port, _daemon: daemon };
        postgres.fill(scratch)?;
        Ok(postgres)
    }

    /// Its TCP port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Path of one of PostgreSQL's own programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// What a query answers to the superuser.
    pub(crate) fn query(&self, scratch: &Scratch, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.local(scratch, "psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        Ok(scratch.run(&mut psql)?.trim().to_owned())
    }

    /// The user's line for a `userlist.txt`, with the secret as PostgreSQL stores it: the client's key opens the server.
    pub(crate) fn userlist(&self, scratch: &Scratch) -> Result<String> {
        let secret =
            self.query(scratch, DATABASE, &format!("select rolpassword from pg_authid where rolname = '{USER}'"))?;
        Ok(format!("\"{USER}\" \"{secret}\"\n"))
    }

    fn fill(&self, scratch: &Scratch) -> Result<()> {
        self.query(scratch, "postgres", &format!("create role {USER} login password '{PASSWORD}'"))?;
        self.query(scratch, "postgres", &format!("create database {DATABASE} owner {USER}"))?;
        let mut pgbench = self.local(scratch, "pgbench");
        scratch.run(pgbench.args(["--initialize", "--quiet", "--scale", SCALE, DATABASE]))?;
        self.query(scratch, DATABASE, &format!("grant select on all tables in schema public to {USER}; checkpoint"))?;
        Ok(())
    }

    /// A program that talks to the server as superuser through the Unix socket.
    fn local(&self, scratch: &Scratch, name: &str) -> Command {
        let mut command = scratch.command(self.program(name));
        command.env("PGHOST", &self.sockets).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command
    }
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Everything in memory and nothing in the background, so that rounds resemble each other.
fn settings(port: u16, sockets: &Path) -> String {
    format!(
        "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 200\n\
         shared_buffers = '256MB'\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\nautovacuum = off\n\
         jit = off\npassword_encryption = 'scram-sha-256'\nmax_parallel_workers_per_gather = 0\n\
         checkpoint_timeout = '1h'\nmax_wal_size = '4GB'\n",
        sockets.display()
    )
}

/// The directory that `PG_BINDIR` names, else the newest that Debian's packages installed, else what `pg_config` says.
fn find_programs() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("PG_BINDIR") {
        return Ok(dir.into());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("pgbench").exists())
        .max();
    if let Some((_, bin)) = newest {
        return Ok(bin);
    }
    let output = Command::new("pg_config").arg("--bindir").output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8(output.stdout)?.trim().into()),
        _ => Err("no PostgreSQL server found; install the package postgresql or name its programs in PG_BINDIR".into()),
    }
}
