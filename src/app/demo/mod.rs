//! A throw-away PostgreSQL cluster made from the programs installed here: for `pglifeguard demo` and for the tests.
//! Blocking code without a runtime. Never touches an existing data directory, and leaves nothing behind, however its
//! owner ends: a [`Cluster`] stops and removes itself when dropped, a watchdog process does it when the owner is
//! killed, and the next run clears what even the watchdog could not.

mod account;
mod binaries;
mod cluster;
mod error;
mod files;
mod node;
mod port;
mod scratch;

pub use account::Account;
pub use binaries::Binaries;
pub use cluster::{Cluster, ClusterOptions, Login, LoginMethod, TlsFiles, Watch};
pub use error::ClusterError;
pub use files::PoolerFiles;
pub use node::{Node, Shutdown};
pub use port::PortClaim;
pub use scratch::ScratchDir;
