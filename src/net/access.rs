//! Whether files can be made and written: what the kernel would say, without making one.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FsWord, PROC_SUPER_MAGIC, accessat, statfs};

/// Kinds of file systems in which only the kernel makes files: proc, sysfs, cgroup2.
const KERNELS: [FsWord; 3] = [PROC_SUPER_MAGIC, 0x6265_6572, 0x6367_7270];

/// What is asked about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether it is there.
    IsThere,
    /// Whether this thread, with the rights that it has now, may write there.
    MayWrite,
}

impl Question {
    /// Asks about a file that is to be written, and made where it is not there yet.
    ///
    /// # Errors
    /// Why it can't be.
    pub fn of_file(self, path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => self.ask(path, Access::WRITE_OK),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.of_directory(parent(path)),
            Err(error) => Err(error),
        }
    }

    /// Asks about a directory in which a file is to be made.
    ///
    /// # Errors
    /// Why none can be.
    pub fn of_directory(self, dir: &Path) -> io::Result<()> {
        if !fs::metadata(dir)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.ask(dir, Access::WRITE_OK | Access::EXEC_OK)?;
        // Root may do there whatever it likes, and makes no file.
        if statfs(dir).is_ok_and(|system| KERNELS.contains(&system.f_type)) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only the kernel makes files there"));
        }
        Ok(())
    }

    fn ask(self, path: &Path, rights: Access) -> io::Result<()> {
        match self {
            Self::IsThere => Ok(()),
            Self::MayWrite => Ok(accessat(CWD, path, rights, AtFlags::EACCESS)?),
        }
    }
}

/// The directory of a file; of a bare name it is the current one.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_can_be_written_where_it_is_or_where_it_can_be_made() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("old"), "").expect("written");
        symlink(at("old"), at("link")).expect("made");
        for (name, expected) in [
            ("old", None),
            ("link", None),
            ("new", None),
            ("missing/new", Some(io::ErrorKind::NotFound)),
            ("old/new", Some(io::ErrorKind::NotADirectory)),
            ("", Some(io::ErrorKind::IsADirectory)),
        ] {
            for question in [Question::IsThere, Question::MayWrite] {
                assert_eq!(question.of_file(&at(name)).err().map(|e| e.kind()), expected, "{name} {question:?}");
            }
        }
        for dir in ["/proc", "/sys"] {
            let refused = Question::MayWrite.of_file(&Path::new(dir).join("new")).expect_err("it is the kernel's");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{dir}");
        }
        assert!(!at("new").exists(), "nothing is made");
        assert!(Question::MayWrite.of_file(Path::new("bare")).is_ok());
        let is_file = Question::MayWrite.of_directory(&at("old")).expect_err("it is a file");
        assert_eq!(is_file.kind(), io::ErrorKind::NotADirectory);
    }
}
