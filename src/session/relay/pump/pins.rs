//! A server that its client keeps, or leaves with something that is to be undone.

use std::time::Instant;

use super::Pump;
use crate::pool::{CloseReason, Lease};
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
        for what in self.relay.ties() {
            if self.shared.pin(label(what)) {
                events::client_pinned(&*self.shared, label(what));
            }
        }
        true
    }
}

/// Of what the server is to be cleaned that the client gives back, or leaves.
#[cold]
pub fn undo(relay: &mut Relay, shared: &Shared, exchange: &mut Exchange) -> Undo {
    shared.unpin();
    let of_doubts = exchange.session.doubts.iter().map(|doubt| match doubt {
        Doubt::Setting => Dirt::Setting,
        Doubt::Code => Dirt::Code,
        Doubt::Text => Dirt::Text,
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
        What::Number => Pin::Number,
    }
}

/// Gives a server back that is at rest, once it is fit for the next client: after `undo`, or where there is nothing to
/// undo after `server_reset_query`, if that `resets` it. One that may still be hit by a cancel request and is to be cleaned
/// is closed, for this reason.
pub fn give_back(mut lease: Lease, work: &mut Work, undo: Undo, resets: bool, now: Instant, uncertain: CloseReason) {
    let numbers = &work.exchange.session.numbers;
    lease.numbers = numbers.left();
    if numbers.news {
        lease.pool().asked_numbers();
    }
    let tally = &mut work.tally;
    match (work.cancels.take(), undo) {
        (None, Undo::Nothing) if resets => lease.release_after_reset(now, tally),
        (None, Undo::Nothing) => lease.release(now, tally),
        (None, Undo::Query { text, resets }) => lease.release_after(text, resets, now, tally),
        (None, Undo::Close) => lease.discard(CloseReason::Unclean, tally),
        (Some(cancels), Undo::Nothing) => lease.quarantine(cancels.landed(), resets, now, tally),
        (Some(_), _) => lease.discard(uncertain, tally),
    }
}
