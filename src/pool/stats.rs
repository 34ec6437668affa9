//! What SHOW and /metrics read of pools: counters, histograms, snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::model::PoolMode;
use crate::types::{ClientId, Endpoint, PoolKey, ServerId};

/// What a session did since it last told its pool; added up under the pool's lock when a server is given back.
/// Times are summed in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW STATS_TOTALS")]
pub struct Tally {
    pub server_assignments: u64,
    pub xacts: u64,
    pub queries: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub xact_time_us: u64,
    pub query_time_us: u64,
    pub wait_time_us: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
}

/// State of a server as SHOW SERVERS names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Linked to a client.
    Active,
    /// At rest, ready.
    Idle,
    /// At rest for longer than `server_check_delay`: checked before its next use.
    Used,
    /// Being checked or reset.
    Tested,
    /// Logging in.
    Login,
    /// Its client's cancel request is on its way.
    BeingCanceled,
}

/// One row of SHOW POOLS.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW POOLS")]
pub struct PoolRow {
    pub key: PoolKey,
    pub cl_active: u32,
    pub cl_waiting: u32,
    pub cl_active_cancel_req: u32,
    pub cl_waiting_cancel_req: u32,
    pub sv_active: u32,
    pub sv_active_cancel: u32,
    pub sv_being_canceled: u32,
    pub sv_idle: u32,
    pub sv_used: u32,
    pub sv_tested: u32,
    pub sv_login: u32,
    /// How long the oldest waiter has waited.
    pub maxwait: Duration,
    pub pool_mode: PoolMode,
    pub load_balance_hosts: Option<&'static str>,
}

/// One row of SHOW SERVERS.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the columns of SHOW SERVERS")]
pub struct ServerRow {
    pub id: ServerId,
    pub key: PoolKey,
    pub state: ServerState,
    pub endpoint: Endpoint,
    /// Address and port as connected to; `unix` and the port for sockets.
    pub addr: String,
    pub port: u16,
    pub local_addr: String,
    pub local_port: u16,
    pub connected_at: SystemTime,
    pub requested_at: SystemTime,
    pub close_needed: bool,
    pub link: Option<ClientId>,
    pub remote_pid: u32,
    /// `TLSv1.3/TLS_AES_256_GCM_SHA384`, or empty.
    pub tls: Arc<str>,
    pub prepared_statements: u32,
}

/// When a waiter came, and when it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Arrival.
    pub since: Instant,
    /// `None` waits for ever.
    pub deadline: Option<Instant>,
}
