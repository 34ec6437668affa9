//! What a pool looks like from outside: for SHOW, for its neighbours under shared limits, for who waits until it is
//! empty.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Pool, Record};
use crate::config::model::LoadBalance;
use crate::pool::error::WaitCause;
use crate::pool::limits::{Claim, Scarce};
use crate::pool::places::{Busy, Slot, Stay};
use crate::pool::state::End;
use crate::pool::stats::{PoolRow, ServerRow, ServerState, Totals};
use crate::types::{ClientId, Endpoint, Host};

impl Pool {
    /// Its row of SHOW POOLS.
    pub(in crate::pool) fn row(&self, now: Instant) -> PoolRow {
        let inner = self.lock();
        let (counts, waiting) = (inner.state.counts(), inner.state.waiting());
        let database = &inner.target.database;
        let balance = match database.load_balance_hosts {
            _ if database.endpoints.len() < 2 => None,
            LoadBalance::RoundRobin => Some("round-robin"),
            LoadBalance::Disable => Some("disable"),
        };
        let (used, cancels) = (inner.state.used(now), self.cancels.load(Ordering::Relaxed));
        PoolRow {
            key: self.key().clone(),
            cl_active: self.clients().saturating_sub(waiting),
            cl_waiting: waiting,
            cl_active_cancel_req: cancels,
            cl_waiting_cancel_req: 0,
            sv_active: counts.active,
            sv_active_cancel: cancels,
            sv_being_canceled: counts.canceled,
            sv_idle: counts.idle - used,
            sv_used: used,
            sv_tested: counts.tested,
            sv_login: counts.login,
            maxwait: inner.state.oldest_wait().map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            pool_mode: self.settings().pool_mode,
            load_balance_hosts: balance,
            known: inner.is_known(self.key()),
        }
    }

    /// Its rows of SHOW SERVERS.
    pub(in crate::pool) fn server_rows(&self, now: Instant) -> Vec<ServerRow> {
        let inner = self.lock();
        let current = if inner.state.ended().is_some() { None } else { Some(inner.state.generation()) };
        inner
            .state
            .stays(now)
            .filter_map(|stay| {
                let record = inner.records.get(stay.slot.index())?.as_ref()?;
                let mut row = self.server_row(record, state(&stay));
                row.close_needed = Some(stay.generation) != current;
                Some(row)
            })
            .collect()
    }

    fn server_row(&self, record: &Record, state: ServerState) -> ServerRow {
        let endpoint: &Arc<Endpoint> = &record.permit.claim().node;
        let key = self.key().clone();
        let Some(shared) = &record.shared else {
            let (addr, port) = (address(endpoint), endpoint.port);
            return ServerRow {
                id: record.id,
                key,
                state,
                endpoint: (**endpoint).clone(),
                addr,
                port,
                local_addr: String::new(),
                local_port: 0,
                connected_at: record.begun_at,
                requested_at: record.begun_at,
                close_needed: false,
                link: None,
                remote_pid: 0,
                tls: "".into(),
                application_name: String::new(),
                pins: 0,
                prepared_statements: 0,
            };
        };
        let requested = shared.requested_at_us.load(Ordering::Relaxed);
        let link = shared.link.load(Ordering::Relaxed);
        ServerRow {
            id: shared.id,
            key,
            state,
            endpoint: (**endpoint).clone(),
            addr: shared.addr.0.clone(),
            port: shared.addr.1,
            local_addr: shared.local_addr.0.clone(),
            local_port: shared.local_addr.1,
            connected_at: shared.connected_at,
            requested_at: if requested == 0 { shared.connected_at } else { wall(requested) },
            close_needed: false,
            link: (link != 0 && state == ServerState::Active).then_some(ClientId(link)),
            remote_pid: shared.remote_pid,
            tls: shared.tls.clone(),
            application_name: String::new(),
            pins: 0,
            prepared_statements: shared.prepared.load(Ordering::Relaxed),
        }
    }

    pub(in crate::pool) fn add_totals(&self, sum: &mut Totals) {
        sum.add(&self.lock().totals);
    }

    /// Whether its totals are those of a database that is there.
    pub(in crate::pool) fn counts(&self) -> bool {
        let inner = self.lock();
        inner.state.ended() != Some(End::DatabaseRemoved) && inner.is_known(self.key())
    }

    /// Whether only `*` serves its database: clients made up the name.
    pub(in crate::pool) fn is_automatic(&self) -> bool {
        self.lock().is_automatic(self.key())
    }

    /// Why whoever waits for a server now has none.
    pub fn wait_cause(&self) -> WaitCause {
        self.lock().state.wait_cause()
    }

    /// All servers, logins included.
    pub(in crate::pool) fn connections(&self) -> u32 {
        self.lock().state.counts().total()
    }

    /// Nobody uses any of its servers, nor checks one.
    pub(in crate::pool) fn is_quiet(&self) -> bool {
        let counts = self.lock().state.counts();
        counts.active + counts.tested + counts.canceled == 0 && self.guests().is_empty()
    }

    /// Nobody will ever tell it anything again.
    pub(in crate::pool) fn is_deserted(&self) -> bool {
        self.clients() == 0 && self.connections() == 0
    }

    /// For how long it has been deserted; looked at now and then.
    pub(in crate::pool) fn deserted_for(&self, now: Instant) -> Duration {
        let mut since = self.deserted_since.lock();
        *since = if self.is_deserted() { since.or(Some(now)) } else { None };
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Somebody is about to use it.
    pub(in crate::pool) fn touch(&self) {
        *self.deserted_since.lock() = None;
    }

    /// Some server is of before the last RECONNECT or change.
    pub(in crate::pool) fn has_obsolete(&self) -> bool {
        let inner = self.lock();
        let generation = inner.state.generation();
        let obsolete = inner.state.places().of_other_generation(generation) > 0;
        drop(inner);
        obsolete || self.guests().iter().any(|guest| *guest != generation)
    }

    /// The resting server that was unused for longest of those that hold what `claim` lacks.
    pub(in crate::pool) fn longest_unused(
        &self,
        scarce: Scarce,
        claim: &Claim,
        now: Instant,
    ) -> Option<(Slot, Instant)> {
        let inner = self.lock();
        inner
            .state
            .evictable(now)
            .filter(|server| {
                let record = inner.records.get(server.slot.index()).and_then(Option::as_ref);
                record.is_some_and(|record| scarce.shared(claim, record.permit.claim()))
            })
            .map(|server| (server.slot, server.facts.used_at))
            .min_by_key(|(_, used_at)| *used_at)
    }

    /// How many lent servers hold what `claim` lacks, and have stayed for long enough to be closed for it.
    pub(in crate::pool) fn busy_sharing(&self, scarce: Scarce, claim: &Claim, now: Instant) -> u32 {
        let inner = self.lock();
        let sharing = inner.records.iter().flatten().any(|record| scarce.shared(claim, record.permit.claim()));
        if sharing { inner.state.places().lent_and_stayed(now) } else { 0 }
    }
}

fn state(stay: &Stay) -> ServerState {
    match stay.busy {
        _ if stay.login => ServerState::Login,
        Some(Busy::Active) => ServerState::Active,
        Some(Busy::Tested) => ServerState::Tested,
        Some(Busy::Canceled) => ServerState::BeingCanceled,
        None if stay.stale => ServerState::Used,
        None => ServerState::Idle,
    }
}

fn address(endpoint: &Endpoint) -> String {
    match &endpoint.host {
        Host::Name(name) => name.to_string(),
        Host::UnixDir(_) => "unix".into(),
    }
}

fn wall(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}
