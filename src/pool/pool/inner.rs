//! What a pool's lock protects.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Job, Machine};
use crate::config::model::Database;
use crate::pool::attempts::Attempts;
use crate::pool::complaints::Complaints;
use crate::pool::connector::Turns;
use crate::pool::limits::Claim;
use crate::pool::permits::{Permit, Permits};
use crate::pool::places::Slot;
use crate::pool::settled::Settled;
use crate::pool::state::Wants;
use crate::pool::stats::Totals;
use crate::server::ServerShared;
use crate::server::login::Credential;
use crate::types::{PoolKey, ServerId};
use crate::wire::params::ParamSet;

/// What the lock protects.
pub(in crate::pool) struct Inner {
    pub(in crate::pool) state: Machine,
    /// About the server at each place.
    pub(in crate::pool) records: Vec<Option<Record>>,
    pub(in crate::pool) totals: Totals,
    pub(in crate::pool) target: Target,
    pub(in crate::pool) turns: Turns,
    pub(in crate::pool) complaints: Complaints,
    pub(in crate::pool) welcome: Option<ParamSet>,
    /// Work for the keeper.
    pub(in crate::pool) jobs: Vec<Job>,
    /// When the keeper looks again by itself.
    pub(in crate::pool) keeper_wakes: Option<Instant>,
    /// For whom the keeper has asked for a place that is shared with other pools and not free.
    pub(in crate::pool) keeper_asks: Asks,
}

/// For whom a login is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Asks {
    Nobody,
    Minimum,
    Clients,
    /// For clients of a pool that has no server: one that loses its last has to ask anew, since it comes first now.
    Starving,
}

impl Asks {
    pub(in crate::pool) fn of(wants: Option<&Wants>) -> Self {
        match wants {
            None => Self::Nobody,
            Some(Wants { waiting_since: None, .. }) => Self::Minimum,
            Some(Wants { starving: false, .. }) => Self::Clients,
            Some(_) => Self::Starving,
        }
    }

    /// Whether the pool is in the queue for a place.
    pub(in crate::pool) fn is_queued(self) -> bool {
        matches!(self, Self::Clients | Self::Starving)
    }
}

/// How the pool's servers are reached.
#[derive(Debug, Clone)]
pub(in crate::pool) struct Target {
    pub(in crate::pool) database: Arc<Database>,
    pub(in crate::pool) dbname: Arc<str>,
    pub(in crate::pool) credential: Credential,
}

impl Target {
    /// Whether `credential` is worth more than the present one. A password opens every server, a proven key only
    /// those with the same secret; a forced user has its own.
    pub(super) fn improves(&self, credential: &Credential) -> bool {
        if self.database.forced_user.is_some() || *credential == self.credential {
            return false;
        }
        match (credential, &self.credential) {
            (Credential::None, _) => false,
            (Credential::Plain(_) | Credential::Md5(_), _) => true,
            (Credential::ScramKeys(_), current) => {
                matches!(current, Credential::None | Credential::ScramKeys(_))
            }
        }
    }
}

/// What a pool shares with others.
#[derive(Debug, Clone, Default)]
pub(in crate::pool) struct Shared {
    pub(in crate::pool) permits: Arc<Permits>,
    /// The same limits for connections that are no pool's servers.
    pub(in crate::pool) permits_beside: Arc<Permits>,
    pub(in crate::pool) settled: Arc<Settled>,
    pub(in crate::pool) attempts: Arc<Attempts>,
}

/// What is known of a server whoever has it.
#[derive(Debug)]
pub(in crate::pool) struct Record {
    pub(in crate::pool) id: ServerId,
    pub(in crate::pool) permit: Permit,
    pub(in crate::pool) begun_at: SystemTime,
    /// `None` while it logs in.
    pub(in crate::pool) shared: Option<Arc<ServerShared>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("counts", &self.state.counts()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Notes what is known of the server at a place.
    pub(in crate::pool) fn put(&mut self, slot: Slot, record: Record) {
        let index = slot.index();
        if self.records.len() <= index {
            self.records.resize_with(index + 1, || None);
        }
        self.records[index] = Some(record);
    }

    /// Forgets it. What comes back is to be dropped after the lock is given up: it frees a place for other pools.
    #[must_use]
    pub(in crate::pool) fn take(&mut self, slot: Slot) -> Option<Record> {
        self.records.get_mut(slot.index()).and_then(Option::take)
    }

    /// What servers count against whose places other pools could have from now on.
    pub(in crate::pool) fn stayed(&mut self, now: Instant) -> Vec<Claim> {
        let slots = self.state.stayed(now);
        let records = slots.iter().filter_map(|slot| self.records.get(slot.index()).and_then(Option::as_ref));
        records.map(|record| record.permit.claim().clone()).collect()
    }

    /// What a server counts against that has just come to rest, if another pool could have its place.
    pub(super) fn spared(&self, slot: Slot, now: Instant) -> Option<Claim> {
        let record = self.records.get(slot.index()).and_then(Option::as_ref)?;
        self.state.places().has_stayed(slot, now).then(|| record.permit.claim().clone())
    }

    /// Whether only `*` serves the database of its pool.
    pub(super) fn is_automatic(&self, key: &PoolKey) -> bool {
        self.target.database.name != key.database
    }

    /// Whether the database is more than a name that some client made up: it is in the configuration, or has let in a
    /// server or a client.
    pub(super) fn is_known(&self, key: &PoolKey) -> bool {
        !self.is_automatic(key) || self.welcome.is_some() || self.totals.client_logins > 0
    }

    /// Whether the keeper has to look before it would by itself.
    pub(super) fn needs_keeper(&self, now: Instant) -> bool {
        if self.state.ended().is_some() {
            return true;
        }
        let wants = Asks::of(self.state.wants(now).as_ref());
        let sooner = match (self.state.next_wake(now), self.keeper_wakes) {
            (Some(next), Some(planned)) => next < planned,
            (next, None) => next.is_some(),
            (None, Some(_)) => false,
        };
        wants != self.keeper_asks || sooner
    }
}
