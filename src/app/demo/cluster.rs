//! A primary with streaming standbys.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::account::Account;
use super::binaries::Binaries;
use super::error::ClusterError;
use super::node::Node;
use super::scratch::ScratchDir;

/// A running cluster. Dropping it stops the servers and removes their directory.
#[derive(Debug)]
pub struct Cluster {
    // Before `dir`: the servers stop before their directory goes.
    primary: Node,
    standbys: Vec<Node>,
    superuser_password: String,
    binaries: Binaries,
    dir: ScratchDir,
}

/// What the cluster is to be like.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many standbys stream from the primary.
    pub standbys: usize,
    /// Users to create. The superuser is always `postgres`, with a random password.
    pub logins: Vec<Login>,
    /// Databases to create, each with its owner from `logins`.
    pub databases: Vec<(String, String)>,
    /// TLS on the primary, and on standbys, which copy its data directory.
    pub tls: Option<TlsFiles>,
    /// Further lines of `pg_hba.conf`, before those of `logins`.
    pub hba: Vec<String>,
    /// Further settings for `postgresql.conf`, after ours.
    pub settings: Vec<(String, String)>,
}

impl Default for ClusterOptions {
    /// A primary alone with one database `app` of a user `app`, password `app`, by SCRAM.
    fn default() -> Self {
        Self {
            standbys: 0,
            logins: vec![Login::new("app", "app", LoginMethod::Scram)],
            databases: vec![("app".to_owned(), "app".to_owned())],
            tls: None,
            hba: Vec::new(),
            settings: Vec::new(),
        }
    }
}

/// A user, and how it logs in over TCP.
#[derive(Debug, Clone)]
pub struct Login {
    name: String,
    password: String,
    method: LoginMethod,
    tls_only: bool,
}

impl Login {
    /// A user with a password that is asked for by `method`.
    pub fn new(name: &str, password: &str, method: LoginMethod) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), method, tls_only: false }
    }

    /// The same, refused without TLS.
    pub fn over_tls_only(mut self) -> Self {
        self.tls_only = true;
        self
    }
}

/// The methods of `pg_hba.conf` that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// Nothing is asked.
    Trust,
    /// The password in clear.
    Password,
    /// An MD5 challenge, with the secret stored as MD5 too.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

impl LoginMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
        }
    }

    fn stored_as(self) -> &'static str {
        if self == Self::Md5 { "md5" } else { "scram-sha-256" }
    }
}

/// Files for TLS, copied into the cluster.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities for clients' certificates.
    pub client_ca: Option<PathBuf>,
}

/// How the owner follows the start, and calls it off.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called at each step with what has been reached; also from the threads that make standbys.
    pub progress: &'a (dyn Fn(&str) + Sync),
    /// Once set, what is under way ends with [`ClusterError::Interrupted`].
    pub interrupted: Option<&'a AtomicBool>,
}

impl Watch<'_> {
    /// Nobody looks, nobody interrupts.
    pub const QUIET: Watch<'static> = Watch { progress: &|_| (), interrupted: None };

    pub(super) fn check(&self) -> Result<(), ClusterError> {
        let interrupted = self.interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed));
        if interrupted { Err(ClusterError::Interrupted) } else { Ok(()) }
    }
}

impl Cluster {
    /// Makes and starts it; returns when every standby streams.
    pub fn start(options: &ClusterOptions, watch: &Watch<'_>) -> Result<Self, ClusterError> {
        let binaries = Binaries::find()?;
        let account = Account::unprivileged()?;
        let dir = ScratchDir::create()?;
        let sockets = dir.subdir("sockets")?;
        account.own(&sockets)?;
        let node = |number: usize| Node::new(dir.path(), &format!("pg{number}"), &sockets, &account, &binaries);

        let maker = Maker { options, watch, dir: dir.path(), account: &account, binaries: &binaries };
        let mut primary = node(1);
        let superuser_password = random_password();
        let replicator_password = random_password();
        maker.make_primary(&mut primary, &superuser_password, &replicator_password)?;
        let mut standbys: Vec<_> = (2..2 + options.standbys).map(node).collect();
        maker.make_standbys(&primary, &mut standbys, &replicator_password)?;
        Ok(Self { primary, standbys, superuser_password, binaries, dir })
    }

    /// The node that was made first.
    pub fn primary(&self) -> &Node {
        &self.primary
    }

    /// The same, to be stopped and started.
    pub fn primary_mut(&mut self) -> &mut Node {
        &mut self.primary
    }

    /// The nodes that stream from it.
    pub fn standbys(&self) -> &[Node] {
        &self.standbys
    }

    /// The same, to be stopped and started.
    pub fn standbys_mut(&mut self) -> &mut [Node] {
        &mut self.standbys
    }

    /// The password of `postgres` over TCP.
    pub fn superuser_password(&self) -> &str {
        &self.superuser_password
    }

    /// The programs that it was made with.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The directory that goes with it: a place for files that must not outlive it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// What all the steps of making a cluster need.
struct Maker<'a> {
    options: &'a ClusterOptions,
    watch: &'a Watch<'a>,
    dir: &'a Path,
    account: &'a Account,
    binaries: &'a Binaries,
}

impl Maker<'_> {
    fn make_primary(&self, node: &mut Node, superuser: &str, replicator: &str) -> Result<(), ClusterError> {
        self.make_data_dir(node.data())?;
        self.run("initdb", |command| {
            command.arg("-D").arg(node.data()).args(["-U", "postgres", "-A", "trust"]);
            command.args(["-E", "UTF8", "--locale=C", "--no-sync"])
        })?;
        self.write_settings(node.data())?;
        (self.watch.progress)("data directory of pg1 is initialised");
        node.start_on_a_free_port(self.watch)?;
        node.sql("postgres", &self.users_sql(superuser, replicator))?;
        for (database, owner) in &self.options.databases {
            let sql = format!("CREATE DATABASE {} OWNER {}", identifier(database), identifier(owner));
            node.sql("postgres", &sql)?;
        }
        (self.watch.progress)(&format!("primary pg1 answers on port {}", node.port()));
        Ok(())
    }

    /// All at the same time: each copies from the primary.
    fn make_standbys(&self, primary: &Node, standbys: &mut [Node], password: &str) -> Result<(), ClusterError> {
        if standbys.is_empty() {
            return Ok(());
        }
        let count = standbys.len().to_string();
        thread::scope(|scope| {
            let makers: Vec<_> = standbys
                .iter_mut()
                .map(|standby| scope.spawn(move || self.make_standby(primary.port(), standby, password)))
                .collect();
            // All are waited for before the first error is returned.
            let made: Vec<_> = makers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            made.into_iter().try_for_each(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        primary.wait_for(streaming, &count, self.watch)
    }

    fn make_standby(&self, primary_port: u16, node: &mut Node, password: &str) -> Result<(), ClusterError> {
        self.watch.check()?;
        self.make_data_dir(node.data())?;
        let upstream = format!("host=127.0.0.1 port={primary_port} user=replicator application_name={}", node.name());
        self.run("pg_basebackup", |command| {
            command.env("PGPASSWORD", password).arg("-D").arg(node.data()).arg("-d").arg(upstream);
            command.args(["-R", "-X", "stream", "-c", "fast", "--no-sync"])
        })?;
        node.start_on_a_free_port(self.watch)?;
        (self.watch.progress)(&format!("standby {} answers on port {}", node.name(), node.port()));
        Ok(())
    }

    fn run(
        &self,
        program: &str,
        arguments: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command,
    ) -> Result<(), ClusterError> {
        self.watch.check()?;
        let program = self.binaries.path(program);
        let mut command = self.account.command(&program);
        let output = arguments(&mut command).output().map_err(ClusterError::spawn(&program))?;
        ClusterError::check(&program, output)?;
        self.watch.check()
    }

    fn make_data_dir(&self, path: &Path) -> Result<(), ClusterError> {
        fs::DirBuilder::new().mode(0o700).create(path).map_err(ClusterError::file(path))?;
        self.account.own(path)
    }

    fn write_settings(&self, data: &Path) -> Result<(), ClusterError> {
        let mut settings: Vec<(&str, String)> =
            SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if let Some(tls) = &self.options.tls {
            settings.push(("ssl", "on".to_owned()));
            settings.push(("ssl_cert_file", self.copy_tls(&tls.cert, "server.crt")?));
            settings.push(("ssl_key_file", self.copy_tls(&tls.key, "server.key")?));
            if let Some(ca) = &tls.client_ca {
                settings.push(("ssl_ca_file", self.copy_tls(ca, "client-ca.crt")?));
            }
        }
        settings.extend(self.options.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let text: String = settings.iter().map(|(name, value)| format!("{name} = {}\n", literal(value))).collect();
        let conf = data.join("postgresql.conf");
        // Written anew; the sample that initdb made has nothing that we want.
        fs::write(&conf, text).map_err(ClusterError::file(&conf))?;
        let hba = data.join("pg_hba.conf");
        fs::write(&hba, self.hba()).map_err(ClusterError::file(&hba))
    }

    /// Copies a file to where the servers' user can read it and nobody else; beside the data directories, so that
    /// every node finds it.
    fn copy_tls(&self, from: &Path, name: &str) -> Result<String, ClusterError> {
        let to = self.dir.join(name);
        fs::copy(from, &to).map_err(ClusterError::file(from))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).map_err(ClusterError::file(&to))?;
        self.account.own(&to)?;
        Ok(to.display().to_string())
    }

    fn hba(&self) -> String {
        let mut lines = self.options.hba.clone();
        // The socket's directory is the lock: only root and the servers' user can enter it.
        lines.push("local all all trust".to_owned());
        lines.push("local replication all trust".to_owned());
        for login in &self.options.logins {
            let connection = if login.tls_only { "hostssl" } else { "host" };
            let user = identifier(&login.name);
            lines.push(format!("{connection} all {user} 127.0.0.1/32 {}", login.method.as_str()));
            if login.tls_only {
                lines.push(format!("host all {user} 127.0.0.1/32 reject"));
            }
        }
        lines.push("host replication replicator 127.0.0.1/32 scram-sha-256".to_owned());
        lines.push("host all all 127.0.0.1/32 scram-sha-256".to_owned());
        lines.join("\n") + "\n"
    }

    fn users_sql(&self, superuser: &str, replicator: &str) -> String {
        let mut sql = format!(
            "ALTER ROLE postgres PASSWORD {};\nCREATE ROLE replicator LOGIN REPLICATION PASSWORD {};\n",
            literal(superuser),
            literal(replicator)
        );
        for login in &self.options.logins {
            sql += &format!(
                "SET password_encryption = {};\nCREATE ROLE {} LOGIN PASSWORD {};\n",
                literal(login.method.stored_as()),
                identifier(&login.name),
                literal(&login.password)
            );
        }
        sql
    }
}

/// Fast, small, and nothing that has to survive.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("max_prepared_transactions", "10"),
    ("wal_level", "replica"),
    ("max_wal_senders", "20"),
    ("wal_keep_size", "128MB"),
    ("max_wal_size", "256MB"),
    ("wal_receiver_status_interval", "1s"),
    ("hot_standby", "on"),
    ("password_encryption", "scram-sha-256"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
];

/// A quoted SQL string; also right in `postgresql.conf` for values without a backslash.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted SQL name; also right in `pg_hba.conf`.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn random_password() -> String {
    let mut bytes = [0_u8; 12];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes once it has started");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
