//! The directory that holds a throw-away cluster, and who removes it.
//!
//! Three lines of defence, because each can be cut: the owner's `Drop`; a watchdog process that sees the owner's end of
//! a pipe close (SIGKILL, a panic while unwinding, a `static` that is never dropped); and the next run, which clears
//! directories whose lock nobody holds (the whole group was killed).
//!
//! Not PR_SET_PDEATHSIG: it fires when the *thread* that started the process ends, and a test's thread ends long
//! before its process does.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::error::ClusterError;

/// A directory of our own that does not outlive us.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    /// Held for our lifetime: an unlocked directory is a leftover.
    _lock: File,
    watchdog: Watchdog,
}

impl ScratchDir {
    /// Makes one, after removing what dead runs left behind. Others may look through it but not list it.
    pub fn create() -> Result<Self, ClusterError> {
        let parent = parent()?;
        sweep(&parent);
        static MADE: AtomicU32 = AtomicU32::new(0);
        loop {
            let name = format!("{PREFIX}{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
            // Under its final name only once locked: another run must never take it for a leftover.
            let (staging, path) = (parent.join(format!(".{name}")), parent.join(name));
            if path.exists() {
                continue; // of an earlier process with our number, which is still being removed
            }
            match DirBuilder::new().mode(0o711).create(&staging) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(ClusterError::file(&staging))?,
            }
            let lock_path = staging.join(LOCK);
            let lock = File::create(&lock_path).map_err(ClusterError::file(&lock_path))?;
            lock.lock().map_err(ClusterError::file(&lock_path))?;
            let watchdog = Watchdog::start(&path)?;
            fs::rename(&staging, &path).map_err(ClusterError::file(&staging))?;
            return Ok(Self { path, _lock: lock, watchdog });
        }
    }

    /// Where it is. Absolute, free of links, short enough for a socket in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it that only the caller's user can enter.
    pub fn subdir(&self, name: &str) -> Result<PathBuf, ClusterError> {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).map_err(ClusterError::file(&path))?;
        Ok(path)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        remove(&self.path);
        self.watchdog.dismiss();
    }
}

/// A process that waits until we are gone, stops the servers in our directory and removes it.
#[derive(Debug)]
struct Watchdog {
    process: Child,
    /// Nothing is written; that it closes is the news.
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    fn start(dir: &Path) -> Result<Self, ClusterError> {
        let shell = Path::new("/bin/sh");
        let mut process = Command::new(shell)
            .arg("-c")
            .arg(WATCHDOG)
            .arg("pglifeguard-watchdog")
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(ClusterError::spawn(shell))?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }

    /// Lets it end; it finds nothing to do.
    fn dismiss(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

/// A process number in `postmaster.pid` counts only while that process works in the data directory.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
for signal in QUIT KILL; do
    for file in "$1"/*/postmaster.pid; do
        [ -f "$file" ] || continue
        read -r pid <"$file"
        [ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ] && kill -s "$signal" "$pid"
    done
    tries=0
    while ls "$1"/*/postmaster.pid && [ "$tries" -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
done
rm -rf "$1"
"#;

/// The first directory for temporary files that another user can reach (as root, the servers run as another user) and
/// whose name leaves room for a socket's.
fn parent() -> Result<PathBuf, ClusterError> {
    let candidates = [env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
    let usable = |dir: &PathBuf| {
        let open = !geteuid().is_root() || dir.ancestors().all(others_may_enter);
        open && dir.as_os_str().len() < 50
    };
    let found = candidates.iter().filter_map(|dir| fs::canonicalize(dir).ok()).find(usable);
    found.ok_or_else(|| ClusterError::File {
        path: env::temp_dir(),
        source: io::Error::other("no directory for temporary files that every user can enter; set TMPDIR to one"),
    })
}

fn others_may_enter(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// Removes what dead runs of the same user left in `parent`. Leftovers are no reason to fail.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            // Not a link, and nobody else's: what stands in it is believed below.
            && fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if ours && is_abandoned(&path) {
            remove(&path);
        }
    }
}

fn is_abandoned(dir: &Path) -> bool {
    match File::open(dir.join(LOCK)) {
        // The lock is gone again when the file is closed here; between that and the removal nobody wants it.
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => true,
    }
}

/// Stops the servers that still run in `dir`, and removes it.
fn remove(dir: &Path) {
    for signal in [Signal::QUIT, Signal::KILL] {
        let servers = running_servers(dir);
        for (pid, _) in &servers {
            let _ = kill_process(*pid, signal);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while servers.iter().any(|(_, file)| file.exists()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let _ = fs::remove_dir_all(dir);
}

/// Postmasters whose data directory is in `dir`, each with the file that it removes when it ends.
fn running_servers(dir: &Path) -> Vec<(Pid, PathBuf)> {
    let mut servers = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.path().join("postmaster.pid");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        let works_in = fs::read_link(format!("/proc/{pid}/cwd"));
        if works_in.is_ok_and(|cwd| cwd == entry.path()) {
            servers.push((pid, file));
        }
    }
    servers
}

const PREFIX: &str = "pglifeguard-demo-";
const LOCK: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_after_its_owner() {
        let dir = ScratchDir::create().expect("a directory");
        let path = dir.path().to_owned();
        fs::write(path.join("file"), "x").expect("a file of our own");
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn the_watchdog_removes_the_directory_of_an_owner_that_never_cleaned_up() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cluster");
        fs::create_dir_all(path.join("data")).expect("a directory of our own");
        let mut watchdog = Watchdog::start(&path).expect("/bin/sh");
        assert!(path.exists());
        watchdog.dismiss();
        assert!(!path.exists());
    }

    #[test]
    fn a_leftover_is_removed_and_a_directory_in_use_is_not() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let [used, dead, other] =
            [format!("{PREFIX}1-0"), format!("{PREFIX}2-0"), "other".to_owned()].map(|name| parent.path().join(name));
        for dir in [&used, &dead, &other] {
            fs::create_dir(dir).expect("a directory of our own");
            File::create(dir.join(LOCK)).expect("a file of our own");
        }
        let lock = File::open(used.join(LOCK)).expect("just made");
        lock.lock().expect("nobody else locks it");
        sweep(parent.path());
        assert_eq!([used.exists(), dead.exists(), other.exists()], [true, false, true]);
    }
}
