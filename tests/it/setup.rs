//! `scripts/setup` leaves the machine as its administrator wants it, however it ends.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Programs that the script uses and that do no harm.
const TOOLS: &[&str] =
    &["cat", "cut", "dirname", "env", "getent", "head", "mkdir", "readlink", "rm", "sed", "sh", "sort", "tee", "tr"];

/// A machine without PostgreSQL, below a directory of our own.
struct Machine(tempfile::TempDir);

impl Machine {
    /// Its `apt-get` notes whether clusters are made at that time, and then does `install`.
    fn new(install: &str) -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary directory"));
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = fs::read_to_string(project.join("scripts/setup")).expect("it is there");
        let at = |name: &str| machine.at(name).display().to_string();
        let moved = script.replace("/etc/postgresql-common", &at("etc")).replace("/usr/lib/postgresql", &at("lib"));
        assert_ne!(moved, script, "it would touch this machine");
        for dir in ["scripts", "bin"] {
            fs::create_dir(machine.at(dir)).expect("a directory of our own");
        }
        fs::write(machine.at("scripts/setup"), moved).expect("written");
        fs::copy(project.join("Cargo.toml"), machine.at("Cargo.toml")).expect("copied");
        for tool in TOOLS {
            symlink(Path::new("/usr/bin").join(tool), machine.at("bin").join(tool)).expect("made");
        }
        let seen = format!("cat {} > {}", at("etc/createcluster.d/pglifeguard-setup.conf"), at("seen"));
        machine.program("apt-get", &format!("[ $1 = install ] || exit 0\n{seen}\n{install}"));
        machine.program("rustc", "echo rustc 99.0.0");
        machine.program("id", "echo 0");
        machine.program("pg_config", "exit 1");
        ["cargo", "cc"].iter().for_each(|name| machine.program(name, "cat >/dev/null </dev/null"));
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.at("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own");
    }

    /// Runs `scripts/setup run` with nothing in its environment but where programs are: without a HOME, too.
    fn set_up(&self) -> (ExitStatus, String) {
        // Signals that whoever runs the tests ignores, under nohup for one, would be ignored by the script, too.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=HUP,INT,TERM", "/bin/sh"]).arg(self.at("scripts/setup")).arg("run");
        let command = command.env_clear().env("PATH", self.at("bin"));
        let output = command.output().expect("a shell");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn clusters_are_made_again_whether_it_succeeds_fails_or_is_interrupted() {
    for (install, status) in
        [("exit 0", 0), ("exit 1", 1), ("kill -HUP $PPID", 129), ("kill -INT $PPID", 130), ("kill -TERM $PPID", 143)]
    {
        let machine = Machine::new(install);
        let (ended, said) = machine.set_up();
        assert_eq!(ended.code(), Some(status), "{install}: {said}");
        assert!(said.contains("installing with apt-get: postgresql"), "{install}: {said}");
        let seen = fs::read_to_string(machine.at("seen")).unwrap_or_default();
        assert_eq!(seen, "create_main_cluster = false\n", "{install}");
        assert!(!machine.at("etc/createcluster.d/pglifeguard-setup.conf").exists(), "{install}: {said}");
    }
}

#[test]
fn who_cannot_become_root_reads_what_root_must_install() {
    for sudo in [None, Some("echo alice is not in the sudoers file >&2; exit 1")] {
        let machine = Machine::new("exit 0");
        machine.program("id", "echo 1000");
        sudo.iter().for_each(|script| machine.program("sudo", script));
        let (ended, said) = machine.set_up();
        assert_eq!(ended.code(), Some(1), "{sudo:?}: {said}");
        let advice = "become root and run:  apt-get update && apt-get install --no-install-recommends postgresql\n";
        assert!(said.ends_with(advice), "{sudo:?}: {said}");
        assert!(!machine.at("seen").exists(), "{sudo:?}: {said}");
    }
}

#[test]
fn a_rustup_without_a_toolchain_is_not_taken_for_an_old_rust() {
    let machine = Machine::new("exit 0");
    machine.program("rustc", "echo error: no default is configured >&2; exit 1");
    let (ended, said) = machine.set_up();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.ends_with("setup: rustc does not run: try  rustup default stable  and then again\n"), "{said}");
}
