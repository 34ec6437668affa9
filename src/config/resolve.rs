//! From the tree to [`Config`]: what depends on several settings, on files or on the environment is looked up and
//! checked here, all mistakes at once. Files and variables come through [`Outside`].

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::complaint::{Complaint, Place};
use super::model::{Config, Database, LoadBalance, ShownSetting, SslMode, TlsFiles, User};
use super::settings::section::{Findings, Places};
use super::settings::table::{Group, Reload, Tree, pooler_settings};
use super::settings::texts::{Choices, SecretSource};
use super::settings::{ClientTls, DatabaseSettings, Metrics, Pooler, ServerTls, UserSettings};
use super::toml::{Parsed, heading};
use super::users::Userlist;
use crate::types::{Endpoint, Host, Secret};

/// What resolving needs of the world.
pub struct Outside<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The contents of a file, or why they can't be had.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, String>,
}

impl fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

/// A configuration that can be used. The user list is still empty.
#[derive(Debug)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// What is no mistake, but should be known.
    pub warnings: Vec<Complaint>,
    /// Settings of which the running value was kept, since only a restart changes them.
    pub needs_restart: Vec<&'static str>,
    /// Where the settings stand.
    pub places: Places,
}

/// Resolves what a reader found. With a `running` configuration, settings that only a restart changes keep its values.
///
/// # Errors
/// All mistakes, those that the reader found included, in the order of the file.
pub fn resolve(parsed: Parsed, running: Option<&Config>, outside: &Outside<'_>) -> Result<Resolved, Vec<Complaint>> {
    let (resolved, complaints) = resolve_despite(parsed, running, outside);
    if complaints.is_empty() { Ok(resolved) } else { Err(complaints) }
}

/// As [`resolve`], for who looks at the rest as well: what is wrong has its default. With all mistakes, in the order of
/// the file; with any of them the configuration is not to be used.
pub fn resolve_despite(parsed: Parsed, running: Option<&Config>, outside: &Outside<'_>) -> (Resolved, Vec<Complaint>) {
    let Parsed { mut tree, findings } = parsed;
    let needs_restart = running.map_or_else(Vec::new, |running| keep_restart_only(&mut tree, running));
    let mut resolver = Resolver { findings, outside };
    let tls_files =
        TlsFiles { client: resolver.client_tls(&tree.client_tls), server: resolver.server_tls(&tree.server_tls) };
    resolver.pooler(&tree);
    let databases = resolver.databases(&tree);
    resolver.check_pool_sizes(&tree, &databases);
    let Findings { mut complaints, mut warnings, places, .. } = resolver.findings;
    complaints.sort();
    warnings.sort();
    let shown = shown(&tree);
    let Tree { pooler, client_tls, server_tls, metrics, users, .. } = tree;
    let users = users.into_iter().map(|(name, settings)| (name.into(), user(settings))).collect();
    let userlist = Arc::new(Userlist::default());
    let metrics_listen = metrics.listen;
    let config =
        Config { pooler, client_tls, server_tls, metrics_listen, databases, users, userlist, shown, tls_files };
    (Resolved { config, warnings, needs_restart, places }, complaints)
}

impl Default for Config {
    /// Every setting by default, no databases, no users.
    fn default() -> Self {
        let tree = Tree::defaults();
        let shown = shown(&tree);
        Self {
            pooler: tree.pooler,
            client_tls: tree.client_tls,
            server_tls: tree.server_tls,
            metrics_listen: tree.metrics.listen,
            databases: BTreeMap::new(),
            users: BTreeMap::new(),
            userlist: Arc::new(Userlist::default()),
            shown,
            tls_files: TlsFiles::default(),
        }
    }
}

fn keep_restart_only(tree: &mut Tree, running: &Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    tree.pooler.keep_restart_only(&running.pooler, &mut kept);
    tree.client_tls.keep_restart_only(&running.client_tls, &mut kept);
    tree.server_tls.keep_restart_only(&running.server_tls, &mut kept);
    let mut metrics = Vec::new();
    tree.metrics.keep_restart_only(&Metrics { listen: running.metrics_listen }, &mut metrics);
    kept.extend(metrics.iter().map(|_| METRICS_LISTEN));
    kept
}

/// How `[metrics] listen` is called where no section is said.
pub const METRICS_LISTEN: &str = "metrics.listen";

/// The rows of SHOW CONFIG.
fn shown(tree: &Tree) -> Vec<ShownSetting> {
    let values = |pooler: &Pooler, client_tls: &ClientTls, server_tls: &ServerTls| {
        let mut values = Vec::new();
        pooler.show(&mut values);
        client_tls.show(&mut values);
        server_tls.show(&mut values);
        values.into_iter().collect::<BTreeMap<_, _>>()
    };
    let defaults = values(&Pooler::defaults(), &ClientTls::defaults(), &ServerTls::defaults());
    let mut reloads =
        pooler_settings().into_iter().map(|setting| (setting.key, setting.reload)).collect::<BTreeMap<_, _>>();
    values(&tree.pooler, &tree.client_tls, &tree.server_tls)
        .into_iter()
        .zip(defaults.into_values())
        .map(|((key, value), default)| {
            let changeable = reloads.remove(key) == Some(Reload::Live);
            ShownSetting { key, value, default, changeable }
        })
        .collect()
}

struct Resolver<'a> {
    findings: Findings,
    outside: &'a Outside<'a>,
}

impl Resolver<'_> {
    fn pooler(&mut self, tree: &Tree) {
        let place = self.findings.place_of_section("pooler");
        if tree.pooler.listen_addr.is_empty() && tree.pooler.unix_socket_dir.is_none() {
            let place = self.findings.place("pooler", "listen_addr").or(place);
            self.findings.complain(place, "nothing to listen on: set listen_addr or unix_socket_dir");
        }
        if tree.databases.is_empty() && self.findings.complaints.is_empty() {
            self.findings.warn(None, "no database is configured: add a section [databases.NAME]");
        }
        let lacks_users = tree.pooler.auth_file.is_none() && self.findings.place("pooler", "auth_file").is_none();
        if lacks_users && self.findings.complaints.is_empty() {
            self.findings.warn(place, "auth_file is not set: there are no users, and nobody can log in");
        }
    }

    /// Checks `client_tls_*`, and returns the fingerprint of its files.
    fn client_tls(&mut self, tls: &ClientTls) -> u64 {
        let mode = ("client_tls_sslmode", tls.sslmode);
        let key = ("client_tls_key_file", &tls.key_file);
        let cert = ("client_tls_cert_file", &tls.cert_file);
        let ca = ("client_tls_ca_file", &tls.ca_file);
        if tls.sslmode == SslMode::Disable {
            return 0;
        }
        self.need(mode, key);
        self.need(mode, cert);
        if tls.sslmode >= SslMode::VerifyCa {
            self.need(mode, ca);
        }
        self.fingerprint(&[key, cert, ca])
    }

    /// Checks `server_tls_*`, and returns the fingerprint of its files.
    fn server_tls(&mut self, tls: &ServerTls) -> u64 {
        let mode = ("server_tls_sslmode", tls.sslmode);
        let key = ("server_tls_key_file", &tls.key_file);
        let cert = ("server_tls_cert_file", &tls.cert_file);
        let ca = ("server_tls_ca_file", &tls.ca_file);
        if tls.sslmode == SslMode::Disable {
            return 0;
        }
        if tls.sslmode >= SslMode::VerifyCa {
            self.need(mode, ca);
        }
        for ((given, path), (missing, other)) in [(key, cert), (cert, key)] {
            if path.is_some() && other.is_none() && !self.is_wrong(missing) {
                let place = self.findings.place("pooler", given);
                self.findings.complain(place, format!("{given} needs {missing}"));
            }
        }
        self.fingerprint(&[key, cert, ca])
    }

    /// Whether a setting has a value that its reader refused. What lacks because of that needs no second complaint.
    fn is_wrong(&self, key: &str) -> bool {
        self.findings.complaints.iter().any(|complaint| complaint.text.starts_with(&format!("{key}: ")))
    }

    /// Complains when `mode` needs a file that is not set.
    fn need(&mut self, mode: (&'static str, SslMode), (key, path): FileSetting<'_>) {
        if path.is_none() && !self.is_wrong(key) {
            let place = self.findings.place("pooler", mode.0);
            self.findings.complain(place, format!("{} = \"{}\" needs {key}", mode.0, mode.1.name()));
        }
    }

    fn fingerprint(&mut self, files: &[FileSetting<'_>]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (key, path) in files {
            let Some(path) = path else { continue };
            match (self.outside.read)(path) {
                Ok(contents) => (key, contents).hash(&mut hasher),
                Err(why) => {
                    let place = self.findings.place("pooler", key);
                    self.findings.complain(place, format!("{key}: can't read {}: {why}", path.display()));
                }
            }
        }
        hasher.finish()
    }

    fn databases(&mut self, tree: &Tree) -> BTreeMap<Arc<str>, Arc<Database>> {
        let mut databases = BTreeMap::new();
        for (name, settings) in &tree.databases {
            let name: Arc<str> = name.as_str().into();
            let section = heading("databases", &name);
            let password = self.password(&section, settings);
            let endpoints = self.endpoints(&section, settings, tree.pooler.unix_socket_dir.as_deref());
            let database = database(&name, settings.clone(), endpoints, password);
            databases.insert(name, Arc::new(database));
        }
        databases
    }

    fn endpoints(&mut self, section: &str, settings: &DatabaseSettings, socket_dir: Option<&Path>) -> Vec<Endpoint> {
        let port = settings.port.unwrap_or(5432);
        let hosts = match (&settings.host, socket_dir) {
            (Some(hosts), _) => hosts.clone(),
            (None, Some(dir)) => vec![Host::UnixDir(dir.into())],
            (None, None) => Vec::new(),
        };
        if hosts.is_empty() && self.findings.place(section, "host").is_none() {
            let place = self.findings.place_of_section(section);
            self.findings
                .complain(place, format!("[{section}] has no host, and there is no unix_socket_dir to look in"));
        }
        hosts.into_iter().map(|host| Endpoint { host, port }).collect()
    }

    fn password(&mut self, section: &str, settings: &DatabaseSettings) -> Option<Secret> {
        let inline = self.findings.place(section, "password");
        let file = self.findings.place(section, "password_file");
        if inline.is_some() && file.is_some() {
            self.findings.complain(file, format!("[{section}] has a password and a password_file: one is enough"));
        }
        let place = inline.or(file);
        if place.is_some() && settings.user.is_none() && self.findings.place(section, "user").is_none() {
            self.findings.complain(place, format!("[{section}] has a password, but no user to whom it belongs"));
        }
        match (&settings.password, settings.password_file.as_ref()) {
            (Some(SecretSource::Inline(secret)), _) => Some(secret.clone()),
            (Some(SecretSource::Variable(name)), _) => {
                let value = (self.outside.variable)(name).filter(|value| !value.is_empty());
                if value.is_none() {
                    self.findings.complain(inline, format!("password: the environment variable {name} is not set"));
                }
                value.map(Secret::new)
            }
            (None, Some(Some(path))) => self.password_from(path, file),
            (None, _) => None,
        }
    }

    /// Reads a password file; the end of its line is no part of the password.
    fn password_from(&mut self, path: &Path, place: Option<Place>) -> Option<Secret> {
        let why = match (self.outside.read)(path) {
            Ok(mut password) => {
                if password.ends_with(b"\n") {
                    password.pop();
                }
                if password.ends_with(b"\r") {
                    password.pop();
                }
                if !password.is_empty() && !password.contains(&0) {
                    return Some(Secret::new(password));
                }
                "it holds no password".into()
            }
            Err(why) => why,
        };
        self.findings.complain(place, format!("password_file: can't use {}: {why}", path.display()));
        None
    }

    /// Warns of pools that are to keep more servers than they may have.
    fn check_pool_sizes(&mut self, tree: &Tree, databases: &BTreeMap<Arc<str>, Arc<Database>>) {
        let global = &tree.pooler.defaults;
        let mut warn = |section: &str, min: u32, size: u32| {
            if min > size {
                let place =
                    self.findings.place(section, "min_pool_size").or_else(|| self.findings.place_of_section(section));
                self.findings.warn(place, format!("[{section}] min_pool_size {min} is more than the pool size {size}"));
            }
        };
        warn("pooler", global.min_pool_size, global.default_pool_size);
        for (name, database) in
            databases.iter().filter(|(_, database)| database.min_pool_size.or(database.pool_size).is_some())
        {
            let min = database.min_pool_size.unwrap_or(global.min_pool_size);
            let size = database.pool_size.unwrap_or(global.default_pool_size);
            warn(&heading("databases", name), min, size);
        }
    }
}

type FileSetting<'a> = (&'static str, &'a Option<PathBuf>);

/// Every setting is named, so that none can be read and then forgotten.
fn database(
    name: &Arc<str>,
    settings: DatabaseSettings,
    endpoints: Vec<Endpoint>,
    password: Option<Secret>,
) -> Database {
    let DatabaseSettings {
        host: _,
        port: _,
        dbname,
        load_balance_hosts,
        user,
        password: _,
        password_file: _,
        connect_query,
        client_encoding,
        datestyle,
        timezone,
        application_name,
        pool_mode,
        pool_size,
        min_pool_size,
        reserve_pool_size,
        max_db_connections,
        max_db_client_connections,
        pin,
        unknown,
        max_pinned_servers,
        server_lifetime,
        query_wait_timeout,
    } = settings;
    let startup = [
        ("client_encoding", client_encoding),
        ("DateStyle", datestyle),
        ("TimeZone", timezone),
        ("application_name", application_name),
    ];
    let own_name = (&**name != "*").then(|| name.clone());
    Database {
        name: name.clone(),
        endpoints,
        load_balance_hosts: load_balance_hosts.unwrap_or(LoadBalance::RoundRobin),
        dbname: dbname.map(Arc::from).or(own_name),
        forced_user: user.map(Arc::from),
        forced_password: password,
        connect_query: connect_query.filter(|query| !query.trim().is_empty()),
        startup: startup.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        pool_mode,
        pool_size,
        min_pool_size,
        reserve_pool_size,
        max_db_connections: max_db_connections.flatten(),
        max_db_client_connections: max_db_client_connections.flatten(),
        pin,
        unknown,
        max_pinned_servers: max_pinned_servers.flatten(),
        server_lifetime,
        query_wait_timeout,
    }
}

fn user(settings: UserSettings) -> User {
    let UserSettings {
        pool_mode,
        pool_size,
        reserve_pool_size,
        max_user_connections,
        max_user_client_connections,
        query_timeout,
        query_wait_timeout,
        client_idle_timeout,
        idle_transaction_timeout,
        pin,
        unknown,
        max_pinned_servers,
        pin_idle_timeout,
        transaction_timeout,
    } = settings;
    User {
        pool_mode,
        pool_size,
        reserve_pool_size,
        max_user_connections: max_user_connections.flatten(),
        max_user_client_connections: max_user_client_connections.flatten(),
        query_timeout,
        query_wait_timeout,
        client_idle_timeout,
        idle_transaction_timeout,
        pin,
        unknown,
        max_pinned_servers: max_pinned_servers.flatten(),
        pin_idle_timeout,
        transaction_timeout,
    }
}

#[cfg(test)]
mod tests;
