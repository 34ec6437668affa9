//! Who runs PostgreSQL: we ourselves, or as root an unprivileged user, because PostgreSQL refuses root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use super::error::ClusterError;

/// The user that owns the data directories and runs the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Whoever runs this program.
    Own,
    /// Another one, because this program runs as root.
    Other {
        /// Its user id.
        uid: u32,
        /// Its primary group.
        gid: u32,
    },
}

impl Account {
    /// Ourselves, or as root `postgres` or `nobody`.
    pub fn unprivileged() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let path = Path::new("/etc/passwd");
        let passwd = fs::read_to_string(path).map_err(ClusterError::file(path))?;
        ["postgres", "nobody"].iter().find_map(|name| find(&passwd, name)).ok_or(ClusterError::NoAccount)
    }

    /// A command of this account: no input, no `PG*` settings of the caller's, English messages, and a process group
    /// of its own so that Ctrl-C in the terminal reaches only us and the order of shutdown stays ours.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Self::Other { uid, gid } = self {
            // As root, this also drops the supplementary groups.
            command.uid(*uid).gid(*gid).env("HOME", "/");
        }
        command
    }

    /// Makes the account the owner of `path`.
    pub fn own(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(*uid), Some(*gid)).map_err(ClusterError::file(path)),
        }
    }
}

/// The account of `name` in the text of `/etc/passwd`; never one with root's id.
fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account::Other { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::{Account, find};

    #[test]
    fn an_account_is_found_by_its_whole_name_and_is_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104:a,b:/var:/bin/bash\n\
                      toor:x:0:5::/:/bin/sh\nbroken:x\n";
        for (name, expected) in [
            ("postgres", Some(Account::Other { uid: 101, gid: 104 })),
            ("root", None),
            ("toor", None),
            ("broken", None),
            ("nobody", None),
        ] {
            assert_eq!(find(passwd, name), expected, "{name}");
        }
    }
}
