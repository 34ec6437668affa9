//! The pooler as its users run it: the built binary with a `pooler.toml`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pglifeguard::app::demo::PortClaim;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::cluster::Database;

/// What goes into `pooler.toml` and `userlist.txt`. Values are written as TOML: `"2"`, `"\"session\""`.
#[derive(Debug, Clone)]
pub(crate) struct PoolerConfig {
    settings: Vec<(String, String)>,
    sections: String,
    users: Vec<(String, String)>,
    before: String,
    owner: Option<u32>,
}

impl PoolerConfig {
    /// Transaction pooling, SCRAM, the user `app` of the shared cluster, and `admin` for the console.
    pub(crate) fn new() -> Self {
        let config = Self {
            settings: Vec::new(),
            sections: String::new(),
            users: Vec::new(),
            before: String::new(),
            owner: None,
        };
        config
            .set("listen_addr", "\"127.0.0.1\"")
            .set("pool_mode", "\"transaction\"")
            .set("auth_type", "\"scram-sha-256\"")
            .set("auth_file", "\"userlist.txt\"")
            .set("admin_users", "[\"admin\"]")
            .user("app", "app")
            .user("admin", "admin")
    }

    /// A setting of `[pooler]`; a later one replaces an earlier one.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.retain(|(other, _)| other != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A database of the shared cluster under the name `name`.
    pub(crate) fn database(self, name: &str, database: &Database) -> Self {
        let entry = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\n", database.port(), database.name);
        self.section(&format!("databases.{name}"), &entry)
    }

    /// Any other section, its lines as they are.
    pub(crate) fn section(mut self, name: &str, lines: &str) -> Self {
        let _ = write!(self.sections, "\n[{name}]\n{lines}");
        self
    }

    /// A line of `userlist.txt`.
    pub(crate) fn user(mut self, name: &str, secret: &str) -> Self {
        self.users.retain(|(other, _)| other != name);
        self.users.push((name.to_owned(), secret.to_owned()));
        self
    }

    /// What a shell runs before it becomes the pooler, such as `ulimit`.
    pub(crate) fn before(mut self, command: &str) -> Self {
        command.clone_into(&mut self.before);
        self
    }

    /// Files and directory belong to the user with this id.
    pub(crate) fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// What `pglifeguard check` says of it, and whether it finds it good.
    pub(crate) fn check(&self, port: u16) -> (String, bool) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = self.write(dir.path(), port);
        let output = Command::new(env!("CARGO_BIN_EXE_pglifeguard")).arg("check").arg(config).output();
        let output = output.expect("the binary has just been built");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    }

    /// Starts a pooler that can't start, on this port, and returns what it says.
    #[track_caller]
    pub(crate) fn fails(&self, port: u16) -> String {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        let config = self.write(dir.path(), port);
        let mut process = self.spawn(&config, &log);
        let begun = Instant::now();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        loop {
            match process.try_wait().expect("our own child") {
                Some(status) if status.success() => panic!("it started, and left:\n{}", said()),
                Some(_) => return said(),
                None if begun.elapsed() > START_LIMIT => {
                    let _ = process.kill();
                    let _ = process.wait();
                    panic!("it started:\n{}", said());
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Starts a pooler on it and waits until it accepts.
    #[track_caller]
    pub(crate) fn start(&self) -> Pooler {
        let dir = tempfile::Builder::new().prefix("pglifeguard-test-").tempdir().expect("a temporary directory");
        let log = dir.path().join("log");
        for _ in 0..PORT_TRIES {
            let port = PortClaim::anywhere().expect("a free port");
            let config = self.write(dir.path(), port.number());
            let process = self.spawn(&config, &log);
            let mut pooler = Pooler { process, port, log: log.clone(), config, dir: None };
            if pooler.accepts() {
                pooler.dir = Some(dir);
                return pooler;
            }
            let log = pooler.log();
            assert!(log.to_lowercase().contains("in use"), "the pooler did not start:\n{log}");
        }
        panic!("no port was free in {PORT_TRIES} tries");
    }

    fn spawn(&self, config: &Path, log: &Path) -> Child {
        let log = File::create(log).expect("a file of our own");
        let program = env!("CARGO_BIN_EXE_pglifeguard");
        let mut command = Command::new(if self.before.is_empty() { program } else { "/bin/sh" });
        if !self.before.is_empty() {
            command.args(["-c", &format!("{}\nexec \"$0\" \"$@\"", self.before), program]);
        }
        command
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("the binary has just been built")
    }

    fn write(&self, dir: &Path, port: u16) -> PathBuf {
        let users: String = self.users.iter().map(|(name, secret)| format!("\"{name}\" \"{secret}\"\n")).collect();
        fs::write(dir.join("userlist.txt"), users).expect("a file of our own");
        let config = dir.join("pooler.toml");
        fs::write(&config, self.text(dir, port)).expect("a file of our own");
        if self.owner.is_some() {
            for path in [dir, &config, &dir.join("userlist.txt")] {
                chown(path, self.owner, None).expect("only root can do this");
            }
        }
        config
    }

    /// The configuration file of a pooler in the directory.
    pub(crate) fn text(&self, dir: &Path, port: u16) -> String {
        let mut text = format!("[pooler]\nlisten_port = {port}\n");
        if !self.settings.iter().any(|(key, _)| key == "unix_socket_dir") {
            let _ = writeln!(text, "unix_socket_dir = \"{}\"", dir.display());
        }
        for (key, value) in &self.settings {
            let _ = writeln!(text, "{key} = {value}");
        }
        text + &self.sections
    }
}

/// A running pooler. At its end, when the test has not failed already, it must leave cleanly and without a panic in
/// its log.
#[derive(Debug)]
pub(crate) struct Pooler {
    process: Child,
    port: PortClaim,
    log: PathBuf,
    config: PathBuf,
    /// `None` until it accepts: what did not start is not checked at its end.
    dir: Option<TempDir>,
}

impl Pooler {
    /// Whether it came to accept connections; `false` when it ended instead.
    fn accepts(&mut self) -> bool {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number())).is_err() {
            if self.try_wait().is_some() {
                return false;
            }
            assert!(begun.elapsed() < START_LIMIT, "the pooler does not accept:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        // Somebody accepts; that it is this process is sure only while this process lives.
        self.try_wait().is_none()
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A client's DSN.
    pub(crate) fn dsn(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port.number())
    }

    /// The DSN of the user `app`.
    pub(crate) fn app_dsn(&self, database: &str) -> String {
        self.dsn("app", "app", database)
    }

    /// The console, as its administrator.
    pub(crate) fn console_dsn(&self) -> String {
        self.dsn("admin", "admin", "pgbouncer")
    }

    /// A DSN without password over its Unix socket.
    pub(crate) fn socket_dsn(&self, user: &str, database: &str) -> String {
        let (dir, port) = (self.directory().display(), self.port.number());
        format!("host={dir} port={port} user={user} dbname={database}")
    }

    /// Where its configuration, its log and its Unix socket are.
    pub(crate) fn directory(&self) -> &Path {
        self.config.parent().expect("it is in a directory")
    }

    /// Replaces its configuration, for a reload.
    pub(crate) fn reconfigure(&self, config: &PoolerConfig) {
        config.write(self.directory(), self.port.number());
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        // It has not been waited for, so its number is still its own.
        kill_process(Pid::from_child(&self.process), signal).expect("our own child");
    }

    /// Waits until it has ended by itself or by a signal that was sent before; ends it the hard way when it does not.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if let Some(status) = self.try_wait() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        panic!("the pooler did not end within {STOP_LIMIT:?}:\n{}", self.log());
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("our own child")
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends it without a chance to tidy up (`kill -9`), and starts it again where it was.
    #[track_caller]
    pub(crate) fn crash_and_start_again(&mut self, config: &PoolerConfig) {
        self.kill();
        self.process = config.spawn(&self.config, &self.log);
        assert!(self.accepts(), "the pooler did not start:\n{}", self.log());
    }

    /// SIGINT: it lets running transactions end, and goes.
    fn leave(&mut self) {
        if self.try_wait().is_none() {
            self.signal(Signal::INT);
        }
        let status = self.wait();
        let log = self.log();
        assert!(status.success(), "the pooler left with {status}:\n{log}");
        assert!(!log.contains("panicked at"), "the pooler panicked:\n{log}");
    }

    /// What a person needs to see after a failed test.
    fn report(&self) -> String {
        let config = fs::read_to_string(&self.config).unwrap_or_default();
        format!("{}:\n{config}\nlog of the pooler:\n{}", self.config.display(), self.log())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Only what has started and has not failed already has to leave cleanly.
        if thread::panicking() || self.dir.is_none() {
            self.kill();
        } else {
            self.leave();
        }
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const PORT_TRIES: usize = 5;
