//! Connections to PostgreSQL: from an endpoint to a connected socket. The deadline is the caller's.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::dns::{Dns, DnsError};
use super::options::TcpOptions;
use super::stream::Stream;
use crate::types::{Endpoint, Host};

/// What connections are made with.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Names to addresses.
    pub dns: Dns,
    /// For each TCP connection.
    pub tcp: TcpOptions,
}

/// Why there is no connection.
#[derive(Debug)]
pub struct ConnectError {
    /// Where to.
    pub endpoint: Endpoint,
    /// The last address that was tried, where the name has others than itself.
    pub address: Option<IpAddr>,
    /// What happened.
    pub cause: ConnectCause,
}

/// What kept a connection from being made.
#[derive(Debug)]
pub enum ConnectCause {
    /// The name has no address.
    Dns(DnsError),
    /// Nobody listens there.
    Refused,
    /// No answer before the deadline, or before the kernel gave up.
    TimedOut,
    /// Anything else that the kernel says.
    Other(io::Error),
}

impl Connector {
    /// Connects. A name's addresses are tried one after another, beginning with number `turn` modulo their
    /// number, so that callers can go round; the time up to `deadline` is divided among those left.
    ///
    /// # Errors
    /// What the last address that was tried had to say.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        turn: usize,
        deadline: Option<Instant>,
    ) -> Result<Stream, ConnectError> {
        let failed = |address, cause| ConnectError { endpoint: endpoint.clone(), address, cause };
        let name = match (&endpoint.host, endpoint.socket_path()) {
            (Host::Name(name), None) => name,
            (_, path) => {
                let path = path.unwrap_or_default();
                let connected = within(deadline, connect_unix(&path)).await;
                return connected.map_err(|cause| failed(None, cause));
            }
        };
        let resolved = async { self.dns.resolve(name).await.map_err(ConnectCause::Dns) };
        let addresses = within(deadline, resolved).await.map_err(|cause| failed(None, cause))?;
        let mut last = ConnectCause::TimedOut;
        let mut tried = None;
        for left in (1..=addresses.len()).rev() {
            let address = addresses[turn.wrapping_add(addresses.len() - left) % addresses.len()];
            let until = deadline.map(|deadline| share(Instant::now(), deadline, left));
            match within(until, self.connect_tcp(SocketAddr::new(address, endpoint.port))).await {
                Ok(stream) => return Ok(stream),
                Err(cause) => last = cause,
            }
            tried = Some(address);
        }
        Err(failed(tried.filter(|address| name.parse() != Ok(*address)), last))
    }

    async fn connect_tcp(&self, address: SocketAddr) -> Result<Stream, ConnectCause> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.tcp.apply(&SockRef::from(&socket))?;
        Ok(Stream::Tcp(socket.connect(address).await?))
    }
}

impl ConnectError {
    /// PgBouncer's words, as they appear behind `server login has been failing, cached error:`.
    pub fn reason(&self) -> &'static str {
        match self.cause {
            ConnectCause::Dns(_) => "server DNS lookup failed",
            ConnectCause::TimedOut => "connect timeout",
            ConnectCause::Refused | ConnectCause::Other(_) => "connect failed",
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint.socket_path() {
            Some(path) => write!(f, "could not connect to unix socket {}", path.display())?,
            None => write!(f, "could not connect to {}", self.endpoint)?,
        }
        if let Some(address) = self.address {
            write!(f, " ({address})")?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            ConnectCause::Dns(cause) => Some(cause),
            ConnectCause::Other(cause) => Some(cause),
            ConnectCause::Refused | ConnectCause::TimedOut => None,
        }
    }
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(cause) => write!(f, "DNS lookup failed: {cause}"),
            Self::Refused => {
                f.write_str("connection refused (does PostgreSQL run there, and listen on that address and port?)")
            }
            Self::TimedOut => f.write_str("no answer in time (is the host up, does a firewall drop packets?)"),
            Self::Other(cause) => cause.fmt(f),
        }
    }
}

impl From<io::Error> for ConnectCause {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Other(error),
        }
    }
}

async fn connect_unix(path: &Path) -> Result<Stream, ConnectCause> {
    Ok(Stream::Unix(UnixStream::connect(super::listen::kernel_path(path)).await?))
}

async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, ConnectCause>>,
) -> Result<T, ConnectCause> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or(Err(ConnectCause::TimedOut)),
        None => work.await,
    }
}

/// The end of the first of `left` equal parts of the time that is left.
fn share(now: Instant, deadline: Instant, left: usize) -> Instant {
    let parts = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + deadline.saturating_duration_since(now).max(Duration::ZERO) / parts
}

#[cfg(test)]
mod tests;
