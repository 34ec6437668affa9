//! A logged-in connection to PostgreSQL, idle or lent.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use super::statements::Statements;
use crate::net::Stream;
use crate::types::{ClientId, Endpoint, ServerId};
use crate::wire::params::ParamSet;

/// What BackendKeyData said: opens a CancelRequest. 4 bytes in protocol 3.0, up to 256 in 3.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id of the backend.
    pub pid: u32,
    /// The secret key.
    pub secret: Arc<[u8]>,
}

/// A connection that has logged in and answered ReadyForQuery.
#[derive(Debug)]
pub struct Server {
    /// The socket.
    pub stream: Stream,
    /// What the server reported last.
    pub params: ParamSet,
    /// The client's settings that this server is known to have; `None` when they must be compared.
    pub matched: Option<ParamSet>,
    /// Settings beyond the reported ones that it was given, in small letters; `None`: it has its defaults.
    pub assigned: Option<ParamSet>,
    /// Whose numbers of sequences it may remember.
    pub numbers: NumbersOf,
    /// Named statements of ours that it has.
    pub statements: Statements,
    /// For cancel requests.
    pub key: BackendKey,
    /// Where it was connected to.
    pub endpoint: Arc<Endpoint>,
    /// What its users share about the database that it is connected to, and know the type of.
    pub catalog: Option<Arc<dyn Any + Send + Sync>>,
    /// How often that had come as a surprise when this server was surely clean.
    pub surprises: u64,
    /// The pool's generation when it was opened: RECONNECT and changed settings raise the pool's.
    pub generation: u64,
    /// When it logged in.
    pub connected_at: Instant,
    /// What others may see of it.
    pub shared: Arc<ServerShared>,
}

/// Whose numbers a server's `lastval()` and `currval()` may answer with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NumbersOf {
    /// It has none.
    #[default]
    Nobody,
    /// Of this client only.
    One(ClientId),
    /// Of several.
    Several,
}

/// What SHOW SERVERS reads of a server while someone else owns it. Values are hints: relaxed, never decided on.
#[derive(Debug)]
pub struct ServerShared {
    /// Number from the counter that clients and servers share.
    pub id: ServerId,
    /// When it logged in.
    pub connected_at: SystemTime,
    /// Process id of the backend.
    pub remote_pid: u32,
    /// Peer's address and port; `unix` for sockets.
    pub addr: (String, u16),
    /// Our own.
    pub local_addr: (String, u16),
    /// Protocol and cipher, or empty.
    pub tls: Arc<str>,
    /// Microseconds since the Unix epoch when it was last lent.
    pub requested_at_us: AtomicU64,
    /// The client that has it; 0: none.
    pub link: AtomicU64,
    /// How many statements are prepared.
    pub prepared: AtomicU32,
}

impl ServerShared {
    /// Notes who has the server now.
    pub fn lent_to(&self, client: u64, at_us: u64) {
        self.link.store(client, Ordering::Relaxed);
        self.requested_at_us.store(at_us, Ordering::Relaxed);
    }

    /// Notes how many statements are prepared.
    pub fn notes(&self, prepared: usize) {
        self.prepared.store(u32::try_from(prepared).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
