//! Where clients come in: TCP and Unix sockets, and how to keep accepting when the process is out of files.

mod socket_file;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

pub(super) use socket_file::kernel_path;
pub use socket_file::{UnixOptions, examine as examine_unix};

use self::socket_file::SocketFile;
use super::address::Address;
use super::options::TcpOptions;
use super::stream::Stream;

/// A socket that clients connect to. Dropping it closes it; a Unix socket's file is removed then.
#[derive(Debug)]
pub enum Listener {
    /// On an internet address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener, SocketFile),
}

/// What [`Listener::accept`] came back with.
#[derive(Debug)]
pub enum Accepted {
    /// A client, and who it is.
    Client(Stream, Address),
    /// The process is out of files or memory, and a pause has been made. Clients wait in the backlog
    /// meanwhile. Worth a line in the log; then call again.
    Starved(io::Error),
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The kernel refuses the address.
    #[error("cannot listen on {address}: {cause}{}", is_another_there(.cause))]
    Address {
        /// As configured, with the port.
        address: String,
        /// The kernel's or the resolver's reason.
        cause: io::Error,
    },
    /// Somebody answers on the Unix socket.
    #[error("unix socket is in use, cannot continue: {}", path.display())]
    InUse {
        /// The socket's file.
        path: PathBuf,
    },
    /// The Unix socket can't be made.
    #[error("cannot listen on unix socket {}: {what}: {cause}", path.display())]
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        cause: io::Error,
    },
}

impl ListenError {
    /// The setting of the Unix socket that is in the way.
    pub fn unix_setting(&self) -> &'static str {
        match self {
            Self::Unix { what: socket_file::GROUP, .. } => socket_file::GROUP,
            _ => "unix_socket_dir",
        }
    }
}

impl Listener {
    /// Listens on one entry of `listen_addr`: an address, a name (all its addresses), or `*` (everywhere).
    /// IPv6 listeners take IPv6 only, so that both can have the same port. Clients get `options`.
    ///
    /// # Errors
    /// When an address can't be listened on. A machine without IPv6 is no error where something else works.
    pub async fn tcp(host: &str, port: u16, backlog: u32, options: &TcpOptions) -> Result<Vec<Self>, ListenError> {
        let failed = |cause| ListenError::Address { address: format!("{host}:{port}"), cause };
        let mut listeners = Vec::new();
        let mut missing = None;
        for ip in addresses(host).await.map_err(failed)? {
            let address = SocketAddr::new(ip, port);
            match listen_tcp(address, backlog, options) {
                Ok(listener) => listeners.push(Self::Tcp(listener)),
                Err(cause) if ip.is_ipv6() && is_missing_family(&cause) => missing = Some(cause),
                Err(cause) => return Err(ListenError::Address { address: address.to_string(), cause }),
            }
        }
        match missing {
            Some(cause) if listeners.is_empty() => Err(failed(cause)),
            _ => Ok(listeners),
        }
    }

    /// Listens on `.s.PGSQL.PORT` in a directory, or in the abstract namespace (`@name`). A file that a dead
    /// process left behind is removed; one on which somebody answers is not.
    ///
    /// # Errors
    /// When somebody is there, or the file can't be made as wanted.
    pub fn unix(options: &UnixOptions<'_>) -> Result<Self, ListenError> {
        let (socket, file) = socket_file::listen(options)?;
        let failed = |cause| ListenError::Unix { path: file.path().to_owned(), what: "register", cause };
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Self::Unix(listener, file))
    }

    /// Changes the options of clients that are accepted from now on: the kernel copies them from here.
    ///
    /// # Errors
    /// The kernel's, when a value is out of its range.
    pub fn set_options(&self, options: &TcpOptions) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => options.replace_on(&SockRef::from(listener)),
            Self::Unix(..) => Ok(()),
        }
    }

    /// The next client. Errors of a single connection are passed over, so this always goes on; where it can't
    /// for want of files, it pauses and says so. Dropping the future loses no client.
    pub async fn accept(&self) -> Accepted {
        loop {
            let error = match self.try_accept().await {
                Ok((stream, address)) => return Accepted::Client(stream, address),
                Err(error) => error,
            };
            if is_starvation(&error) {
                tokio::time::sleep(STARVED_PAUSE).await;
                return Accepted::Starved(error);
            }
            // The client was gone before we looked, or the network failed for it alone (accept(2)).
        }
    }

    /// Where this listens, with the port that the kernel chose if it was 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(..) => Ok(None),
        }
    }

    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(..))
    }

    async fn try_accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                Ok((Stream::Tcp(socket), Address::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept().await?;
                let stream = Stream::Unix(socket);
                let peer = stream.peer()?;
                Ok((stream, peer))
            }
        }
    }
}

impl fmt::Display for Listener {
    /// As in PgBouncer's log: `127.0.0.1:6432`, `unix:/tmp/.s.PGSQL.6432`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => f.write_str("tcp"),
            },
            Self::Unix(_, file) => write!(f, "unix:{}", file.path().display()),
        }
    }
}

fn is_another_there(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => ": is another pooler running there?",
        _ => "",
    }
}

/// Whether [`Listener::tcp`] could listen, and where, in the same words. That somebody listens there already is no
/// error: it may be the pooler for whose next start this asks.
///
/// # Errors
/// As there.
pub fn examine_tcp(host: &str, port: u16, options: &TcpOptions) -> Result<Vec<SocketAddr>, ListenError> {
    let failed = |address: String| |cause| ListenError::Address { address, cause };
    let found = match literal(host) {
        Some(found) => found,
        None => distinct((host, 0).to_socket_addrs().map_err(failed(format!("{host}:{port}")))?),
    };
    let (mut bindable, mut missing) = (Vec::new(), None);
    for address in found.into_iter().map(|ip| SocketAddr::new(ip, port)) {
        match bind_tcp(address, options) {
            Err(cause) if address.is_ipv6() && is_missing_family(&cause) => missing = Some(cause),
            Err(cause) if cause.kind() != io::ErrorKind::AddrInUse => return Err(failed(address.to_string())(cause)),
            _ => bindable.push(address),
        }
    }
    match missing {
        Some(cause) if bindable.is_empty() => Err(failed(format!("{host}:{port}"))(cause)),
        _ => Ok(bindable),
    }
}

/// Whether a listener on `[::]` that isn't told otherwise leaves IPv4 alone.
pub fn is_only_v6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, None).and_then(|socket| socket.only_v6()).unwrap_or(true)
}

fn listen_tcp(address: SocketAddr, backlog: u32, options: &TcpOptions) -> io::Result<TcpListener> {
    let socket = bind_tcp(address, options)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

fn bind_tcp(address: SocketAddr, options: &TcpOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit these, which saves as many system calls per client.
    options.apply(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    match literal(host) {
        Some(found) => Ok(found),
        None => Ok(distinct(tokio::net::lookup_host((host, 0)).await?)),
    }
}

/// The addresses of what is no name.
fn literal(host: &str) -> Option<Vec<IpAddr>> {
    if host == "*" {
        return Some(vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(vec![address])
}

fn distinct(addresses: impl Iterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in addresses {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    found
}

/// The machine has no such address family, or has it without addresses.
fn is_missing_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn is_starvation(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Long enough not to spin, short enough that a freed file is used soon.
const STARVED_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
