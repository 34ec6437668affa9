//! What a process does once: file-descriptor limit, pid file, leaving root behind.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Uid;
use rustix::process::{Gid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::pooler::StartError;
use crate::config::model::Config;
use crate::net::limits::raise_open_files;
use crate::telemetry::events::process as events;

/// Files that a pooler opens besides connections: listeners, log, the runtime's own.
const OTHER_FILES: u64 = 64;

/// Raises the limit on open files, and says what it is and what the settings need.
///
/// # Errors
/// The kernel's.
pub fn note_descriptors(config: &Config) -> Result<(), StartError> {
    let limits = raise_open_files().map_err(StartError::io("cannot raise the limit on open files"))?;
    events::descriptor_limit(limits.now.unwrap_or(u64::MAX), needed(config));
    Ok(())
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

/// The file that holds our process id; removed when dropped.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it. One that names a process which lives is left alone.
    ///
    /// # Errors
    /// Another pooler runs, or the file can't be written.
    pub fn write(path: &Path) -> Result<Self, StartError> {
        if let Ok(text) = fs::read_to_string(path)
            && let Some(pid) = text.trim().parse::<u32>().ok().filter(|pid| *pid != std::process::id())
            && Path::new(&format!("/proc/{pid}")).exists()
        {
            let running = format!("process {pid} runs, which pidfile {} names", path.display());
            return Err(StartError::io(running)(io::ErrorKind::AlreadyExists.into()));
        }
        let written = fs::File::create(path).and_then(|mut file| writeln!(file, "{}", std::process::id()));
        written.map_err(StartError::io(format!("cannot write pidfile {}", path.display())))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may be gone, or not ours to remove after we became another user.
        let _ = fs::remove_file(&self.0);
    }
}

/// Becomes `user`, when started as root. To be called while the process has one thread: the kernel keeps
/// these identities by thread, and later threads inherit them.
///
/// # Errors
/// There is no such user, or the kernel refuses.
pub fn become_user(user: &str) -> Result<(), StartError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = lookup(user)
        .ok_or_else(|| StartError::io(format!("cannot become user \"{user}\""))(io::ErrorKind::NotFound.into()))?;
    let failed = |error: rustix::io::Errno| StartError::io(format!("cannot become user \"{user}\""))(error.into());
    set_thread_groups(&[gid]).map_err(failed)?;
    set_thread_gid(gid).map_err(failed)?;
    set_thread_uid(uid).map_err(failed)
}

/// User and group from the passwd file.
fn lookup(user: &str) -> Option<(Uid, Gid)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Says so when the process has more rights than it needs.
pub fn note_root() {
    if geteuid().is_root() {
        events::running_as_root();
    }
}
