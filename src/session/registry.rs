//! Sessions as others see them: SHOW CLIENTS, KILL_CLIENT, timeouts, cancel requests.

use std::sync::Arc;
use std::time::SystemTime;

use crate::types::{ClientId, PoolKey, ServerId};

/// State of a client as SHOW CLIENTS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Not logged in yet.
    Login,
    /// Logged in, no server linked.
    Idle,
    /// Has a server.
    Active,
    /// Waits for a server.
    Waiting,
}

/// One row of SHOW CLIENTS.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the columns of SHOW CLIENTS")]
pub struct ClientRow {
    pub id: ClientId,
    /// `None` before login.
    pub key: Option<PoolKey>,
    /// As the client named itself, which may differ from the pool's user.
    pub user: Option<Arc<str>>,
    pub state: ClientState,
    /// `unix` for sockets.
    pub addr: String,
    pub port: u16,
    pub local_addr: String,
    pub local_port: u16,
    pub connected_at: SystemTime,
    pub requested_at: SystemTime,
    /// Microseconds of the present wait.
    pub wait_us: u64,
    pub link: Option<ServerId>,
    /// Of a Unix socket's peer; 0 otherwise.
    pub remote_pid: u32,
    pub tls: Arc<str>,
    pub application_name: String,
    pub prepared_statements: u32,
}
