//! Programs that the bench starts: under an unprivileged user when root runs it, with their output in a file, and
//! ended with the value that stands for them.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, getuid, kill_process, setrlimit};
use tempfile::TempDir;

use crate::Result;

/// A directory for everything that the run writes, and the user who owns it. Gone when dropped.
pub(crate) struct Scratch {
    dir: TempDir,
    /// Set when root runs the bench: neither PostgreSQL nor PgBouncer work as root.
    user: Option<(u32, u32)>,
}

impl Scratch {
    /// Makes the directory below the system's temporary one.
    pub(crate) fn new() -> Result<Self> {
        let user = if getuid().is_root() { Some(unprivileged_user()?) } else { None };
        let dir = tempfile::Builder::new().prefix("pglifeguard-load-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let scratch = Self { dir, user };
        scratch.give(scratch.dir.path())?;
        Ok(scratch)
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that the unprivileged user can read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        self.give(&path)?;
        Ok(path)
    }

    /// Makes a directory that belongs to the unprivileged user.
    pub(crate) fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path)?;
        self.give(&path)?;
        Ok(path)
    }

    /// Copies a program here, where the unprivileged user can reach it.
    pub(crate) fn copy_program(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::copy(from, &path).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
        Ok(path)
    }

    /// A command that will run as the unprivileged user.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a command to its end; its standard output.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String> {
        let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command:?} failed ({}): {}", output.status, said.trim()).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn give(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }
}

/// A program in the background. Dropping it ends it.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    end_with: Signal,
}

impl Daemon {
    /// Starts it with both outputs in the file `name.log` of the scratch directory; `end_with` asks it to end.
    pub(crate) fn start(scratch: &Scratch, name: &str, command: &mut Command, end_with: Signal) -> Result<Self> {
        let log = scratch.path(&format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Self { child, log, end_with })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `ready` says so, for at most 20 seconds and only as long as the program runs.
    pub(crate) fn await_ready(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready() {
            if !self.is_alive() || Instant::now() > deadline {
                return Err(format!("it did not come up; its log ends with:\n{}", self.log_tail()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last lines of its output.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child, self.end_with);
    }
}

/// Asks a child to end and reaps it; kills it when it takes longer than ten seconds.
pub(crate) fn end(child: &mut Child, signal: Signal) {
    signal_child(child, signal);
    if !wait_within(child, Duration::from_secs(10)) {
        // Failing means that it ended just now, and then `wait` reaps it all the same.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Sends a signal to a child that has not been reaped yet; harmless when it already ended.
pub(crate) fn signal_child(child: &mut Child, signal: Signal) {
    if matches!(child.try_wait(), Ok(None))
        && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    {
        let _ = kill_process(pid, signal);
    }
}

/// Whether the child ended within `patience`.
pub(crate) fn wait_within(child: &mut Child, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Raises the limit of open files as far as it goes, for us and for what we start; what it is now.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let got = if setrlimit(Resource::Nofile, wanted).is_ok() { wanted } else { limit };
    got.current.unwrap_or(u64::MAX)
}

/// User and group id of `postgres`, else of `nobody`.
fn unprivileged_user() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let fields: Vec<&str> =
            passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| "neither user postgres nor nobody exists".into())
}
