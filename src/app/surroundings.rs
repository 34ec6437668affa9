//! What the settings need of the machine, looked at without changing anything: that directories are there and can be
//! written to, users and groups known, addresses this machine's own and named once. `check` tells what a start would
//! fail at, and a start refuses it in the same words.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use rustix::process::geteuid;

use super::startup::{Account, PidFile, no_metrics};
use crate::config::{Complaint, Config, Loaded, ReadFile};
use crate::net::access::Question;
use crate::net::listen::{ListenError, UnixOptions, examine_tcp, examine_unix, is_only_v6};
use crate::net::options::TcpOptions;
use crate::net::tls::TlsSlot;
use crate::telemetry::log::cannot_open;

/// What a look at the machine found.
#[derive(Debug, Default)]
pub struct Found {
    /// What a start would fail at, in the order of the file; what is wrong with the file itself is among it.
    pub mistakes: Vec<Complaint>,
    /// What could not be looked at.
    pub warnings: Vec<Complaint>,
}

/// Looks at what `loaded`, read from `path`, needs. Of a file with mistakes it looks at those settings that have none.
pub fn examine(path: &Path, loaded: &Loaded) -> Found {
    let mut look = Look::new(path, loaded);
    look.all();
    look.found.mistakes.sort();
    look.found
}

/// Looks at what a reload would fail at, as the user that the process is. Places of the pooler's own that only a start
/// takes are left alone.
pub fn examine_again(path: &Path, loaded: &Loaded) -> Vec<Complaint> {
    let mut look = Look::new(path, loaded);
    look.log_file(Question::MayWrite);
    look.options();
    look.found.mistakes.sort();
    look.found.mistakes
}

struct Look<'a> {
    path: &'a Path,
    loaded: &'a Loaded,
    found: Found,
}

impl<'a> Look<'a> {
    fn new(path: &'a Path, loaded: &'a Loaded) -> Self {
        let mistakes = loaded.refused.clone();
        Self { path, loaded, found: Found { mistakes, warnings: Vec::new() } }
    }

    /// A setting's value, unless it is wrong by itself.
    fn sound<T: ?Sized>(&self, key: &'static str, value: Option<&'a T>) -> Option<&'a T> {
        value.filter(|_| self.loaded.is_sound("pooler", key))
    }

    /// In the steps of a start: the pid file is root's, what follows is the user's.
    fn all(&mut self) {
        let account = self.loaded.config.pooler.user.as_deref().map(Account::find).transpose();
        let account = account.unwrap_or_else(|error| {
            self.complain("user", error.to_string());
            None
        });
        match (account, self.loaded.config.pooler.user.as_deref()) {
            (Some(account), Some(name)) if geteuid().is_root() => {
                self.pid_file(Question::MayWrite);
                // Identities are a thread's own: only this one becomes another's.
                let looked = thread::scope(|scope| scope.spawn(|| self.rest_as(&account, name)).join());
                looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
            (Some(account), Some(name)) if !account.is_ours() => {
                self.pid_file(Question::IsThere);
                self.rest(Question::IsThere);
                let text = format!("user: only root can become \"{name}\", and see what it may write to");
                self.found.warnings.push(self.complaint("pooler", "user", text));
            }
            _ => {
                self.pid_file(Question::MayWrite);
                self.rest(Question::MayWrite);
            }
        }
    }

    fn rest_as(&mut self, account: &Account, name: &str) {
        match account.become_it(name) {
            Ok(()) => self.rest(Question::MayWrite),
            Err(error) => self.complain("user", error.to_string()),
        }
        // What root could read, its user may not.
        for file in &self.loaded.reads {
            self.may_read(file, name);
        }
        if let Err(why) = denied(self.path) {
            let file = self.path.display().to_string();
            let text = format!("can't read it: {why}{}", as_whom(name));
            self.found.mistakes.push(Complaint { file, place: None, text });
        }
        let config = &self.loaded.config;
        if self.loaded.refused.iter().any(|wrong| wrong.text.contains("_tls_")) {
            return;
        }
        let clients = TlsSlot::for_clients(&config.client_tls.options()).err();
        let servers = TlsSlot::for_servers(&config.server_tls.options()).err();
        for error in [clients, servers].into_iter().flatten() {
            self.complain(error.setting().unwrap_or_default(), error.to_string());
        }
    }

    /// Looks at a file that holds secrets as the user `name`, who reads it at every reload.
    fn may_read(&mut self, file: &ReadFile, name: &str) {
        if let Err(why) = denied(&file.path) {
            let text = format!("{}: can't read {}: {why}{}", file.key, file.path.display(), as_whom(name));
            self.found.mistakes.push(self.complaint(&file.section, file.key, text));
        }
    }

    fn log_file(&mut self, question: Question) {
        if let Some(path) = self.sound("logfile", self.loaded.config.pooler.logfile.as_deref())
            && let Err(cause) = question.of_file(path)
        {
            self.complain("logfile", cannot_open(path, &cause));
        }
    }

    /// The options of TCP connections, those that the system refuses left out.
    fn options(&mut self) -> TcpOptions {
        let options = self.loaded.config.pooler.tcp.options();
        let refused = options.refused();
        let of_no_use = !refused.is_empty();
        for (setting, error) in refused {
            self.complain(setting, cannot_set(setting, &error));
        }
        if of_no_use { TcpOptions::default() } else { options }
    }

    fn rest(&mut self, question: Question) {
        let pooler = &self.loaded.config.pooler;
        self.log_file(question);
        if let Some(dir) = self.sound("unix_socket_dir", pooler.unix_socket_dir.as_deref()) {
            let group = self.sound("unix_socket_group", pooler.unix_socket_group.as_deref());
            let (mode, backlog) = (pooler.unix_socket_mode, pooler.listen_backlog);
            let options = UnixOptions { dir, port: pooler.listen_port, mode, group, backlog };
            if let Err(error) = examine_unix(&options, question) {
                self.complain(error.unix_setting(), error.to_string());
            }
        }
        self.addresses(&self.loaded.config);
    }

    fn pid_file(&mut self, question: Question) {
        if let Some(path) = self.sound("pidfile", self.loaded.config.pooler.pidfile.as_deref())
            && let Err(cause) = question.of_file(path)
        {
            self.complain("pidfile", PidFile::cannot_write(path)(cause).to_string());
        }
    }

    fn addresses(&mut self, config: &'a Config) {
        let pooler = &config.pooler;
        let options = self.options();
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let is_wrong = |key| pooler_has(self.loaded, key) && !self.loaded.is_sound("pooler", key);
        // Where the port is not known, addresses are tried with any.
        let port = if is_wrong("listen_port") { None } else { Some(pooler.listen_port) };
        for host in self.sound("listen_addr", Some(&pooler.listen_addr)).into_iter().flatten() {
            let addresses = match examine_tcp(host, port.unwrap_or(0), &options) {
                Ok(addresses) => addresses,
                Err(error) => {
                    let text = match error {
                        ListenError::Address { cause, .. } if port.is_none() => {
                            format!("cannot listen on {host}: {cause}")
                        }
                        error => error.to_string(),
                    };
                    self.complain("listen_addr", text);
                    continue;
                }
            };
            let twice = |address: &&SocketAddr| taken.iter().any(|(_, other)| are_one(**address, *other, true));
            if let Some(address) = addresses.iter().find(twice) {
                self.complain(
                    "listen_addr",
                    format!("listen_addr: {host:?} is {}, which is in it already", address.ip()),
                );
                continue;
            }
            taken.extend(addresses.into_iter().map(|address| (host.as_str(), address)));
        }
        if let Some(metrics) = config.metrics_listen.filter(|_| self.loaded.is_sound("metrics", "listen")) {
            let clash = taken.iter().find(|(_, address)| port.is_some() && are_one(metrics, *address, is_only_v6()));
            let text = match clash {
                Some((host, _)) => {
                    Some(format!("listen: {metrics} is where clients are listened for (listen_addr {host:?})"))
                }
                None => match examine_tcp(&metrics.ip().to_string(), metrics.port(), &TcpOptions::default()) {
                    Err(ListenError::Address { cause, .. }) => Some(no_metrics(metrics)(cause).to_string()),
                    _ => None,
                },
            };
            if let Some(text) = text {
                self.found.mistakes.push(self.complaint("metrics", "listen", text));
            }
        }
    }

    /// Notes a mistake in a setting of `[pooler]`.
    fn complain(&mut self, key: &'static str, text: String) {
        self.found.mistakes.push(self.complaint("pooler", key, text));
    }

    fn complaint(&self, section: &str, key: &'static str, text: String) -> Complaint {
        let place = self.loaded.places.get(&(section.to_owned(), key)).copied();
        Complaint { file: self.path.display().to_string(), place, text }
    }
}

fn pooler_has(loaded: &Loaded, key: &'static str) -> bool {
    loaded.places.contains_key(&("pooler".to_owned(), key))
}

/// A TCP option that the kernel does not take.
pub(super) fn cannot_set(setting: &str, error: &io::Error) -> String {
    format!("{setting}: the system refuses it: {error}")
}

/// Whether the rights of this thread are too few to read a file. That it can't be read by anybody is said elsewhere.
fn denied(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

fn as_whom(user: &str) -> String {
    format!("; at a reload it is user \"{user}\" who reads it")
}

/// Whether who listens at `address` keeps others from listening at `other`. Unless it is told to take `only_v6`, the
/// unspecified address of IPv6 stands for those of IPv4 as well.
fn are_one(address: SocketAddr, other: SocketAddr, only_v6: bool) -> bool {
    let covers = |address: SocketAddr, other: SocketAddr| address.ip().is_unspecified() || address.ip() == other.ip();
    address.port() == other.port()
        && match address.is_ipv4() == other.is_ipv4() {
            true => covers(address, other) || covers(other, address),
            false => !only_v6 && address.is_ipv6() && address.ip().is_unspecified(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_stand_for_others_are_one_with_them() {
        for (address, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::1]:1", "127.0.0.1:1", false),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let (address, other) = (address.parse().expect("an address"), other.parse().expect("an address"));
            assert_eq!(are_one(address, other, true), expected, "{address} {other}");
            assert_eq!(are_one(address, other, false), expected, "{address} {other}");
        }
        let (all, one) = (SocketAddr::from(([0u16; 8], 1)), SocketAddr::from(([127, 0, 0, 1], 1)));
        assert!(are_one(all, one, false) && !are_one(all, one, true));
    }
}
