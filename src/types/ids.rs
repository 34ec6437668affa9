//! Names and numbers of things: clients, servers, pools, endpoints.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An accepted client. Clients and servers draw from one counter, as `SHOW CLIENTS.id` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub u64);

/// A connection to PostgreSQL. Clients and servers draw from one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "C-{:#x}", self.0)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S-{:#x}", self.0)
    }
}

/// Where a PostgreSQL instance listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Host name, address, or socket directory.
    pub host: Host,
    /// TCP port, or the number in the socket's file name.
    pub port: u16,
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name or a literal address.
    Name(Arc<str>),
    /// A directory that holds `.s.PGSQL.PORT`; a leading `@` means the abstract namespace.
    UnixDir(Arc<Path>),
}

impl Endpoint {
    /// The socket file of a Unix endpoint; `None` for TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Name(_) => None,
            Host::UnixDir(dir) => Some(dir.join(format!(".s.PGSQL.{}", self.port))),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::UnixDir(dir) => write!(f, "{}", dir.display()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// Which pool: the database as the client names it, and the user that the servers log in as.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The database's name in the configuration, not on the server.
    pub database: Arc<str>,
    /// The user's name on the server.
    pub user: Arc<str>,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.user)
    }
}
