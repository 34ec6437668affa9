//! What a process does once: file-descriptor limit, pid file, leaving root behind. And why it did not start.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, Uid, flock};
use rustix::io::Errno;
use rustix::process::{Gid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::config::model::Config;
use crate::net::limits::raise_open_files;
use crate::net::listen::ListenError;
use crate::net::tls::TlsError;
use crate::telemetry::events::process as events;

/// Why the pooler did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket.
    #[error("{0}")]
    Listen(#[from] ListenError),
    /// Certificates or keys.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The kernel, for something else.
    #[error("{doing}: {cause}")]
    Io {
        /// What was tried.
        doing: String,
        /// What it said.
        cause: io::Error,
    },
    /// No source of random numbers: no key would be safe.
    #[error("no random numbers to be had")]
    Random,
}

impl StartError {
    pub(super) fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.to_string();
        move |cause| Self::Io { doing, cause }
    }
}

/// There is no `/metrics` at `address`.
pub(super) fn no_metrics(address: SocketAddr) -> impl FnOnce(io::Error) -> StartError {
    StartError::io(format!("cannot listen on {address} for metrics"))
}

/// Files that a pooler opens besides connections: listeners, log, the runtime's own.
const OTHER_FILES: u64 = 64;

/// Raises the limit on open files, and says what it is and what the settings need.
pub fn note_descriptors(config: &Config) {
    let limits = raise_open_files();
    events::descriptor_limit(limits.now.unwrap_or(u64::MAX), config.pooler.max_client_conn, needed(config));
}

/// One file for each client, and one for each server that the pools may have.
fn needed(config: &Config) -> u64 {
    let users = config.userlist.len().max(1) as u64;
    let servers: u64 = config
        .databases
        .values()
        .map(|database| {
            let settings = config.pool_settings(database, database.forced_user.as_deref().unwrap_or(""));
            let pools = if database.forced_user.is_some() { 1 } else { users };
            let most = pools * u64::from(settings.pool_size + settings.reserve_pool_size);
            settings.max_db_connections.map_or(most, |limit| most.min(limit.into()))
        })
        .sum();
    u64::from(config.pooler.max_client_conn) + servers + OTHER_FILES
}

/// The file that holds our process id; removed when dropped. Its lock, which ends with the process, tells whether that
/// runs: the number may long be another program's, or its own again in a container.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: fs::File,
}

impl PidFile {
    /// Writes it. That of a pooler that runs is left alone. It is made `owner`'s, who is to remove it at the end.
    ///
    /// # Errors
    /// Another pooler runs, or the file can't be written.
    pub fn write(path: &Path, owner: Option<&Account>) -> Result<Self, StartError> {
        let mut file = loop {
            let mut file = open(path).map_err(Self::cannot_write(path))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(in_use(path, &mut file)),
                // Where the file system has no locks, what must not be taken twice is the addresses.
                _ if is_there(&file, path) => break file,
                // Whoever had it has removed it meanwhile.
                _ => {}
            }
        };
        let written = (|| {
            if let Some(owner) = owner.filter(|_| geteuid().is_root()) {
                fchown(&file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
            }
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        })();
        written.map_err(Self::cannot_write(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// There is none at `path`.
    pub(super) fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> StartError {
        StartError::io(format!("cannot write pidfile {}", path.display()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may be gone. Where the directory is not ours to change, since we became another user, an empty file names
        // nobody.
        if fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether a file is still the one of this name.
fn is_there(file: &fs::File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().ok().map(id) == fs::metadata(path).ok().map(id)
}

fn in_use(path: &Path, file: &mut fs::File) -> StartError {
    let mut pid = String::new();
    // It says which one for who reads it only.
    let _ = file.read_to_string(&mut pid);
    let why = format!("process {}, which it names, is running: is this pooler started already?", pid.trim());
    StartError::io(format!("pidfile {}", path.display()))(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// A user of the system, with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    gid: Gid,
    /// All of them, `gid` included.
    groups: Vec<Gid>,
}

impl Account {
    /// Looks `user` up, in the system's files or where the system is configured to look.
    ///
    /// # Errors
    /// There is no such user.
    pub fn find(user: &str) -> Result<Self, StartError> {
        let table = |name: &str| fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        let (passwd, group) = (table("passwd"), table("group"));
        // Users of LDAP and the like: only the C library can ask for them, and this is its tool.
        let asked = || Command::new("getent").args(["passwd", user]).output();
        let answer = || asked().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Self::of(user, &passwd, &group).or_else(|| Self::of(user, &answer(), &group)).ok_or_else(|| {
            StartError::io("user")(io::Error::new(io::ErrorKind::NotFound, format!("there is no user \"{user}\"")))
        })
    }

    fn of(user: &str, passwd: &str, group: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
        let mut fields = line.split(':').skip(2);
        let uid = Uid::from_raw(fields.next()?.parse().ok()?);
        let gid = Gid::from_raw(fields.next()?.parse().ok()?);
        let mut groups = vec![gid];
        for line in group.lines() {
            let mut fields = line.split(':').skip(2);
            let (id, members) = (fields.next().and_then(|id| id.parse().ok()), fields.next().unwrap_or_default());
            if let Some(id) = id.map(Gid::from_raw)
                && members.split(',').any(|member| member == user)
                && !groups.contains(&id)
            {
                groups.push(id);
            }
        }
        Some(Self { uid, gid, groups })
    }

    /// Whether this process is this user's already.
    pub fn is_ours(&self) -> bool {
        geteuid() == self.uid
    }

    /// Becomes this user, with all groups that it is in: keys may be readable by one of those only. To be called
    /// while the process has one thread: the kernel keeps these identities by thread, and later threads inherit them.
    ///
    /// # Errors
    /// The process is neither root's nor this user's.
    pub fn become_it(&self, name: &str) -> Result<(), StartError> {
        if self.is_ours() {
            return Ok(());
        }
        let failed = |error: Errno| StartError::io(format!("user: cannot become \"{name}\""))(error.into());
        if !geteuid().is_root() {
            let why = "only root can; start as root or as that user, or remove the setting";
            return Err(StartError::io(format!("user: cannot become \"{name}\""))(io::Error::other(why)));
        }
        set_thread_groups(&self.groups).map_err(failed)?;
        set_thread_gid(self.gid).map_err(failed)?;
        set_thread_uid(self.uid).map_err(failed)
    }
}

/// Says so when the process has more rights than it needs.
pub fn note_root() {
    if geteuid().is_root() {
        events::running_as_root();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_own_group_and_those_that_name_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npool:x:101:104:,,:/:/bin/false\nbroken:x\n";
        let group = "root:x:0:\nssl-cert:x:103:postgres,pool\npool:x:104:pool\npools:x:105:pooler,poo\nbroken\n";
        let ids = |account: Account| {
            let groups: Vec<_> = account.groups.iter().map(|group| group.as_raw()).collect();
            (account.uid.as_raw(), account.gid.as_raw(), groups)
        };
        assert_eq!(Account::of("pool", passwd, group).map(ids), Some((101, 104, vec![104, 103])));
        for nobody in ["broken", "poo", ""] {
            assert_eq!(Account::of(nobody, passwd, group), None, "{nobody}");
        }
    }
}
