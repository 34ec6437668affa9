//! Which catalog tells of a lent server's functions, and whether what it has told held until the server comes back.

use std::sync::Arc;
use std::time::Instant;

use super::Pump;
use crate::pool::Lease;
use crate::pool::stats::Tally;
use crate::session::catalogs::{Care, DatabaseCatalog};
use crate::session::relay::Relay;
use crate::session::relay::active::Work;
use crate::session::relay::exchange::Redefined;
use crate::session::relay::inquiry::Perhaps;
use crate::session::relay::tracking::doubts;
use crate::session::relay::undo::Undo;
use crate::sql::deeds::Doubt;
use crate::telemetry::events::session as events;
use crate::telemetry::labels::Dirt;

impl Pump {
    /// Has the relay read by the catalog of this server's database. Returns its generation.
    #[inline]
    pub(super) fn catalog_of(&mut self, lease: &Lease) -> u64 {
        let known = self.relay.functions.catalog.as_ref();
        if lease.catalog.as_ref().map(|catalog| Arc::as_ptr(catalog).cast()) != known.map(Arc::as_ptr) {
            self.relay.functions.catalog = lease.catalog.clone().and_then(|catalog| catalog.downcast().ok());
        }
        self.relay.functions.catalog.as_ref().map_or(0, |catalog| catalog.current.generation())
    }
}

/// Whether nobody can have called on this server what came as a surprise since. Else it is reset, and goes to whoever waits.
pub(super) fn fit(mut lease: Lease, tracks: bool, now: Instant) -> Option<Lease> {
    let before = lease.surprises;
    knows_all(&mut lease);
    if lease.surprises == before || !tracks {
        return Some(lease);
    }
    if let Undo::Query { text, resets } = surprised(&lease) {
        lease.release_after(text, resets, now, &mut Tally::default());
    }
    None
}

/// What cleans a server on which anything may have been called.
pub(super) fn surprised(lease: &Lease) -> Undo {
    events::server_dirty(&lease.shared.id, Dirt::Unread);
    Undo::of(None, &[Doubt::Code], &Perhaps::default(), false, &[])
}

/// It is cleaned of all that it may have been left with by now.
pub(super) fn knows_all(lease: &mut Lease) {
    let catalog = lease.catalog.as_ref().and_then(|catalog| catalog.downcast_ref::<DatabaseCatalog>());
    lease.surprises = catalog.map_or(0, |catalog| catalog.current.surprises());
}

/// What the client sends now may change what the catalog tells, for all: the server commits before it says so. What the
/// client itself has sent since was read as if nothing was known.
#[cold]
pub(super) fn redefines(relay: &Relay, work: &mut Work) {
    if let Some(catalog) = relay.functions.catalog.as_ref().filter(|_| work.changing.is_none()) {
        let (changing, was) = catalog.changing();
        work.changing = Some(changing);
        work.catalog_seen += u64::from(was == work.catalog_seen);
    }
}

/// Its transaction is over that may have changed that.
#[cold]
pub fn redefined(relay: &Relay, work: &mut Work, now: Instant) {
    match work.exchange.takes_redefined() {
        Redefined::No => {}
        Redefined::Perhaps => relay.functions.catalog.iter().for_each(|catalog| catalog.suspects(now)),
        Redefined::Surely => {
            redefines(relay, work);
            work.changing = None;
            relay.functions.redefined();
        }
    }
}

/// What is to be done with a server that comes back now. Where the catalog is another by now, what the client has called is
/// not known.
#[inline]
pub fn care(relay: &Relay, work: &mut Work, now: Instant) -> Option<Care> {
    let catalog: &Arc<DatabaseCatalog> = relay.functions.catalog.as_ref().filter(|_| relay.tracks)?;
    if catalog.current.generation() != work.catalog_seen {
        doubts(&mut work.exchange, Doubt::Unread);
    }
    catalog.care(now)
}
