//! What the kernel lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits on open files. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What was in force when the process started.
    pub before: Option<u64>,
    /// What is in force now.
    pub now: Option<u64>,
    /// What an administrator set as the most that is possible.
    pub hard: Option<u64>,
}

/// Raises the limit on open files as far as the kernel allows. Each connection is one file.
pub fn raise_open_files() -> OpenFiles {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A hard limit above the system's (fs.nr_open) can't be reached; then the limit is as before.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let now = getrlimit(Resource::Nofile);
    OpenFiles { before: limit.current, now: now.current, hard: now.maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_hard_one_afterwards() {
        let limits = raise_open_files();
        assert_eq!(limits.now, limits.hard);
        assert_eq!(raise_open_files().before, limits.now);
    }
}
