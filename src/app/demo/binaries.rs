//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::error::ClusterError;

/// A directory that holds all the programs we need, of one PostgreSQL version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// `PGLIFEGUARD_PG_BIN` and nothing else where it is set; else PATH, `pg_config --bindir` and the newest version
    /// under `/usr/lib/postgresql`, whichever is complete first.
    pub fn find() -> Result<Self, ClusterError> {
        let candidates = match env::var_os("PGLIFEGUARD_PG_BIN") {
            Some(dir) => vec![PathBuf::from(dir)],
            None => {
                let mut dirs = from_path();
                dirs.extend(from_pg_config());
                dirs.extend(from_debian(Path::new("/usr/lib/postgresql")));
                dirs
            }
        };
        Self::first_complete(candidates)
    }

    /// The path of `program`.
    pub fn path(&self, program: &str) -> PathBuf {
        self.dir.join(program)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn first_complete(candidates: Vec<PathBuf>) -> Result<Self, ClusterError> {
        // What the best place lacks is what to install, so that is what the error names.
        let mut missing = NEEDED.to_vec();
        for dir in &candidates {
            let lacks: Vec<_> = NEEDED.iter().copied().filter(|program| !dir.join(program).is_file()).collect();
            if lacks.is_empty() {
                return Ok(Self { dir: dir.clone() });
            }
            if lacks.len() < missing.len() {
                missing = lacks;
            }
        }
        let searched = candidates.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
        let searched = if searched.is_empty() { "PATH, pg_config, /usr/lib/postgresql".to_owned() } else { searched };
        Err(ClusterError::NoBinaries { missing: missing.join(", "), searched })
    }
}

/// What a cluster is made and asked with.
const NEEDED: &[&str] = &["initdb", "postgres", "pg_basebackup", "psql"];

/// Directories of PATH that have `initdb`, links followed: Debian links single programs into /usr/bin.
fn from_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter_map(|dir| fs::canonicalize(dir.join("initdb")).ok())
        .filter_map(|program| program.parent().map(Path::to_owned))
        .collect()
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success())?;
    let dir = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(dir.trim()))
}

/// `ROOT/VERSION/bin`, newest version first.
fn from_debian(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(dir: &Path, programs: &[&str]) {
        fs::create_dir_all(dir).expect("a directory of our own");
        for program in programs {
            fs::write(dir.join(program), "").expect("a file of our own");
        }
    }

    #[test]
    fn the_newest_complete_version_wins_by_number_not_by_text() {
        let root = tempfile::tempdir().expect("a temporary directory");
        install(&root.path().join("9/bin"), NEEDED);
        install(&root.path().join("15/bin"), NEEDED);
        install(&root.path().join("17/bin"), &["psql"]);
        install(&root.path().join("common"), &[]);
        let found = Binaries::first_complete(from_debian(root.path())).expect("15 is complete");
        assert_eq!(found.dir(), root.path().join("15/bin"));
    }

    #[test]
    fn an_incomplete_installation_is_told_what_it_lacks() {
        let root = tempfile::tempdir().expect("a temporary directory");
        install(root.path(), &["psql", "pg_basebackup"]);
        let error = Binaries::first_complete(vec![root.path().to_owned()]).expect_err("no server there");
        let text = error.to_string();
        assert!(text.contains("(initdb, postgres)"), "{text}");
        assert!(text.contains("apt-get install postgresql"), "{text}");
        assert!(text.contains(&root.path().display().to_string()), "{text}");
    }
}
