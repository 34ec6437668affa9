//! A server that its client keeps, or leaves with something that is to be undone.

use std::time::Instant;

use super::Pump;
use super::catalog::{knows_all, surprised};
use crate::pool::stats::Tally;
use crate::pool::{CloseReason, Lease};
use crate::session::catalogs::Care;
use crate::session::registry::Shared;
use crate::session::relay::active::Work;
use crate::session::relay::undo::Undo;
use crate::session::relay::{Exchange, Relay};
use crate::sql::deeds::{Doubt, What};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::{Dirt, Pin};

impl Pump {
    /// The client has what only this server has. Returns whether it may keep it.
    #[cold]
    pub(super) fn keeps_server(&mut self) -> bool {
        let Some(active) = self.active.as_mut().filter(|_| self.pins) else { return false };
        self.shared.pool.tally(&mut active.work.tally);
        for reason in self.shared.pin(self.relay.ties().map(label)) {
            events::client_pinned(&*self.shared, reason);
        }
        true
    }
}

/// Of what the server is to be cleaned that the client gives back, or leaves.
#[cold]
pub fn undo(relay: &mut Relay, shared: &Shared, exchange: &mut Exchange) -> Undo {
    shared.unpin();
    relay.leaves_no_timeout(exchange);
    let of_doubts = exchange.session.doubts.iter().map(|doubt| match doubt {
        Doubt::Setting => Dirt::Setting,
        Doubt::Code => Dirt::Code,
        Doubt::Text => Dirt::Text,
        Doubt::Unread => Dirt::Unread,
    });
    let left = relay.ties().any(|what| what != What::Number).then_some(Dirt::LeftBehind);
    of_doubts.chain(left).for_each(|dirt| events::server_dirty(shared, dirt));
    relay.undo(exchange)
}

fn label(what: What) -> Pin {
    match what {
        What::Temporary => Pin::Temporary,
        What::Cursor => Pin::Cursor,
        What::Statement => Pin::Statement,
        What::Channel => Pin::Channel,
        What::Lock => Pin::Lock,
        What::Library => Pin::Library,
        What::Seed => Pin::Seed,
        What::Connection => Pin::Connection,
        What::Replication => Pin::Replication,
        What::Number => Pin::Number,
        What::Unknown => Pin::Unknown,
    }
}

/// What is done with a server before the next client has it.
#[derive(Debug)]
pub struct Cleaning {
    /// This is undone.
    pub undo: Undo,
    /// Where there is nothing to undo, `server_reset_query` is run.
    pub resets: bool,
    /// And so much has to do with the catalog.
    pub care: Option<Care>,
}

/// Gives a server back that is at rest, once it is fit for the next client. One that may still be hit by a cancel request
/// and is to be cleaned is closed, for this reason.
pub fn give_back(mut lease: Lease, work: &mut Work, cleaning: Cleaning, now: Instant, uncertain: CloseReason) {
    let Cleaning { undo, resets, care } = cleaning;
    let numbers = &work.exchange.session.numbers;
    lease.numbers = numbers.left();
    if numbers.news {
        lease.pool().asked_numbers();
    }
    let tally = &mut work.tally;
    match (work.cancels.take(), undo) {
        (None, Undo::Close) => lease.discard(CloseReason::Unclean, tally),
        (None, undo) if care.is_some() => {
            let care = care.map(|care| (care, work.catalog_seen));
            lease.release_by(now, tally, |lease| clean(lease, undo, resets, care));
        }
        (None, Undo::Nothing) if resets => lease.release_after_reset(now, tally),
        (None, Undo::Nothing) => lease.release(now, tally),
        (None, Undo::Query { text, resets }) => lease.release_after(text, resets, now, tally),
        (Some(cancels), Undo::Nothing) => lease.quarantine(cancels.landed(), resets, now, tally),
        (Some(_), _) => lease.discard(uncertain, tally),
    }
}

/// First the server is as after its login again; then it looks after the catalog. If that was another one than the client
/// was served by, nobody knows what it has called.
async fn clean(mut lease: Lease, undo: Undo, resets: bool, care: Option<(Care, u64)>) {
    if let Undo::Query { text, resets } = &undo {
        let Some(cleaned) = lease.run(text, *resets).await else { return };
        lease = cleaned;
    }
    let mut doubtful = false;
    if let Some((care, seen)) = care {
        match care.take(&mut lease, seen).await {
            Ok(changed) => doubtful = changed,
            Err(error) => return lease.discard_failed(CloseReason::CheckFailed, &error),
        }
    }
    if doubtful {
        knows_all(&mut lease);
        if let Undo::Query { text, resets } = surprised(&lease) {
            let Some(cleaned) = lease.run(&text, resets).await else { return };
            lease = cleaned;
        }
    }
    let (now, tally) = (Instant::now(), &mut Tally::default());
    if resets && undo == Undo::Nothing { lease.release_after_reset(now, tally) } else { lease.release(now, tally) }
}
