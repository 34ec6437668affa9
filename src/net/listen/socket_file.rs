//! The file of a Unix socket: who may use it, and whether somebody does already.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Gid, getegid, geteuid, getgroups};
use socket2::{Domain, SockAddr, Socket, Type};

use super::ListenError;
use crate::net::access::Question;

/// A Unix socket as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixOptions<'a> {
    /// `unix_socket_dir`; a leading `@` means the abstract namespace.
    pub dir: &'a Path,
    /// `listen_port`, the number in the file's name.
    pub port: u16,
    /// `unix_socket_mode`.
    pub mode: u32,
    /// `unix_socket_group`: a name or a number.
    pub group: Option<&'a str>,
    /// `listen_backlog`.
    pub backlog: u32,
}

impl UnixOptions<'_> {
    fn file(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{}", self.port))
    }
}

/// The file, which goes when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file that is ours; `None` in the abstract namespace.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// Where it is; with a leading `@` in the abstract namespace.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own there meanwhile.
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether [`super::Listener::unix`] could make the socket, in the same words. That somebody listens there already is
/// no error: it may be the pooler for whose next start this asks.
///
/// # Errors
/// As there.
pub fn examine(options: &UnixOptions<'_>, question: Question) -> Result<(), ListenError> {
    let path = options.file();
    let failed = |what, cause| ListenError::Unix { path: path.clone(), what, cause };
    SockAddr::unix(kernel_path(&path)).map_err(|e| failed("path", e))?;
    if is_abstract(&path) {
        return Ok(());
    }
    question.of_directory(options.dir).map_err(|e| failed("bind", e))?;
    if let Ok(found) = fs::symlink_metadata(&path)
        && !found.file_type().is_socket()
    {
        return Err(failed("bind", not_a_socket()));
    }
    let Some(group) = options.group else { return Ok(()) };
    let id = group_id(group).map_err(|e| failed(GROUP, e))?;
    let may_give = || {
        let id = Gid::from_raw(id);
        geteuid().is_root() || getegid() == id || getgroups().is_ok_and(|groups| groups.contains(&id))
    };
    match question {
        Question::MayWrite if !may_give() => Err(failed(GROUP, rustix::io::Errno::PERM.into())),
        _ => Ok(()),
    }
}

pub(super) const GROUP: &str = "unix_socket_group";

fn not_a_socket() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name that is not a socket")
}

pub(super) fn listen(options: &UnixOptions<'_>) -> Result<(Socket, SocketFile), ListenError> {
    let path = options.file();
    let failed = |what, cause| ListenError::Unix { path: path.clone(), what, cause };
    let address = SockAddr::unix(kernel_path(&path)).map_err(|e| failed("path", e))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(|e| failed("socket", e))?;
    let is_abstract = is_abstract(&path);
    if !is_abstract {
        remove_stale(&path, &address)?;
    }
    match socket.bind(&address) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(ListenError::InUse { path }),
        Err(e) => return Err(failed("bind", e)),
    }
    let mut file = SocketFile { path: path.clone(), identity: None };
    if !is_abstract {
        file.identity = Some(identity(&path).map_err(|e| failed("stat", e))?);
        // Before listen: nobody gets in while the mode is not what it should be.
        permit(&path, options).map_err(|(what, e)| failed(what, e))?;
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX)).map_err(|e| failed("listen", e))?;
    Ok((socket, file))
}

/// The path as the kernel wants it: the abstract namespace begins with a zero byte.
pub(in crate::net) fn kernel_path(path: &Path) -> PathBuf {
    if !is_abstract(path) {
        return path.to_owned();
    }
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    bytes[0] = 0;
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().first() == Some(&b'@')
}

/// Removes the socket of a process that is no more. Leaves alone what is not a socket.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), ListenError> {
    let failed = |what, cause| ListenError::Unix { path: path.to_owned(), what, cause };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("stat", e)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed("bind", not_a_socket()));
        }
        Ok(_) => {}
    }
    // Non-blocking: a full backlog answers with EAGAIN, and is somebody too.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(|e| failed("socket", e))?;
    match probe.connect(address) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| failed("remove what a dead process left", e))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(failed("see whether somebody is there", e)),
        Ok(()) | Err(_) => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

fn permit(path: &Path, options: &UnixOptions<'_>) -> Result<(), (&'static str, io::Error)> {
    if let Some(group) = options.group {
        let id = group_id(group).map_err(|e| (GROUP, e))?;
        chown(path, None, Some(id)).map_err(|e| (GROUP, e))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(options.mode)).map_err(|e| ("unix_socket_mode", e))
}

/// A number is itself; a name is looked up as the system is configured to.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let local = fs::read_to_string("/etc/group").unwrap_or_default();
    if let Some(id) = group_in(&local, group) {
        return Ok(id);
    }
    // Groups of LDAP and the like: only the C library can ask for them, and this is its tool.
    let asked = Command::new("getent").args(["group", group]).output();
    let answer = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no group \"{group}\""));
    group_in(&answer, group).ok_or_else(unknown)
}

/// Lines of `name:password:id:members`.
fn group_in(table: &str, group: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
