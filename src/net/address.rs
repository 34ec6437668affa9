//! Who is at an end of a connection.

use std::fmt;
use std::net::SocketAddr;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Internet address and port.
    Tcp(SocketAddr),
    /// A process on this machine, as the kernel vouches for it.
    Unix {
        /// Its user.
        uid: u32,
        /// Its process id; 0 where the kernel doesn't tell.
        pid: u32,
    },
}

impl Address {
    /// The internet address as text, or `unix`, as SHOW has it.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().to_string(),
            Self::Unix { .. } => "unix".into(),
        }
    }

    /// The TCP port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(addr) => Some(addr.port()),
            Self::Unix { .. } => None,
        }
    }

    /// The process id of a Unix socket's peer; 0 where there is none.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Tcp(_) => 0,
            Self::Unix { pid, .. } => *pid,
        }
    }
}

impl fmt::Display for Address {
    /// As in PgBouncer's log: `10.0.0.1:5000`, `[::1]:5000`, `unix(1234)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => SocketAddr::new(addr.ip().to_canonical(), addr.port()).fmt(f),
            Self::Unix { pid, .. } => write!(f, "unix({pid})"),
        }
    }
}
