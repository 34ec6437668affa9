//! Other people's programs: psql, pgbench, Python, Node. Found where `scripts/setup` puts them.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::cluster::shared;

/// `psql`, without the developer's own settings.
pub(crate) fn psql(dsn: &str) -> Command {
    let mut command = postgres_program("psql");
    command.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", dsn]);
    command
}

/// `pgbench`, which takes its database last.
pub(crate) fn pgbench(arguments: &[&str], dsn: &str) -> Command {
    let mut command = postgres_program("pgbench");
    command.args(arguments).arg(dsn);
    command
}

/// A script of `tests/it/drivers` under the Python that has the drivers.
pub(crate) fn python(script: &str, dsn: &str) -> Command {
    let mut command = clean(&installed("venv/bin/python3"));
    command.arg("-u").arg(driver(script)).arg(dsn);
    command
}

/// A script of `tests/it/drivers` under Node.
pub(crate) fn node(script: &str, dsn: &str) -> Command {
    let mut command = clean(Path::new("node"));
    command.env("NODE_DRIVERS", installed("node/node_modules")).arg(driver(script)).arg(dsn);
    command
}

/// Runs it to its end and returns what it wrote to standard output; fails the test when it fails or takes too long.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let (success, stdout, stderr) = finish(command);
    assert!(success, "{command:?} failed:\n{stderr}{stdout}");
    stdout
}

/// Whether it succeeded, what it wrote to standard output, and what to standard error.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> (bool, String, String) {
    // Files, not pipes: nobody has to read while it runs.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let out = stdout.try_clone().expect("a file descriptor");
    let err = stderr.try_clone().expect("a file descriptor");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            let text = format!("{}{}", contents(&mut stderr), contents(&mut stdout));
            panic!("{command:?} did not end within {LIMIT:?}:\n{text}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    (status.success(), contents(&mut stdout), contents(&mut stderr))
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file of our own");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn postgres_program(name: &str) -> Command {
    let beside_the_server = shared().binaries().path(name);
    clean(if beside_the_server.is_file() { &beside_the_server } else { Path::new(name) })
}

/// Without the caller's `PG*` variables, which all drivers would heed.
fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A file below `target/` that `scripts/setup test` has put there.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(path);
    assert!(path.exists(), "{} is missing: run scripts/setup test, or make test", path.display());
    path
}

fn driver(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/drivers").join(script)
}

const LIMIT: Duration = Duration::from_secs(180);
