//! What can go wrong while a throw-away cluster is made, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// A throw-away cluster could not be made or asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No complete set of PostgreSQL's programs.
    #[error(
        "PostgreSQL's server programs ({missing}) were not found in {searched}.\n\
         Install them (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
         macOS: brew install postgresql), or name their directory in PGLIFEGUARD_PG_BIN."
    )]
    NoBinaries {
        /// Programs that no place had together with the others.
        missing: String,
        /// Where we looked.
        searched: String,
    },
    /// PostgreSQL refuses to run as root, and there is nobody to run it as.
    #[error(
        "PostgreSQL does not run as root, and this system has neither a user \"postgres\" nor \"nobody\" to run it as: \
         create one (useradd --system postgres), or run this command as an ordinary user"
    )]
    NoAccount,
    /// A file or directory could not be made, written or removed.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be run at all.
    #[error("could not run {program}: {source}", program = program.display())]
    Spawn {
        /// Which one.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed ({status}):\n{output}", program = program.display())]
    Failed {
        /// Which one.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// What it wrote, standard error first.
        output: String,
    },
    /// A PostgreSQL server ended while it started.
    #[error("node {node} ended while it started; the end of its log:\n{log}")]
    Died {
        /// The node's name.
        node: String,
        /// Last lines of its log.
        log: String,
    },
    /// Something did not become true in time.
    #[error("waited {waited:?} in vain for {what}{log}")]
    Timeout {
        /// For what.
        what: String,
        /// How long.
        waited: Duration,
        /// Last lines of the log concerned, or nothing.
        log: String,
    },
    /// No port could be had.
    #[error("no free TCP port on 127.0.0.1 in {from}-{to}")]
    NoPort {
        /// First port tried.
        from: u16,
        /// Last port tried.
        to: u16,
    },
    /// The owner asked to stop before the cluster was complete.
    #[error("interrupted")]
    Interrupted,
}

impl ClusterError {
    /// For `map_err` on file operations.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// For `map_err` on running a program.
    pub(super) fn spawn(program: &Path) -> impl FnOnce(io::Error) -> Self {
        let program = program.to_owned();
        move |source| Self::Spawn { program, source }
    }

    /// A program's output if it succeeded, else what it said.
    pub(super) fn check(program: &Path, output: Output) -> Result<String, Self> {
        let stdout = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(stdout.into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(Self::Failed {
            program: program.to_owned(),
            status: output.status.to_string(),
            output: format!("{}{}", stderr, stdout).trim_end().to_owned(),
        })
    }
}
