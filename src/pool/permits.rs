//! The limits that pools share, behind one lock. The lock is never held together with any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::{Ask, Claim, Limits, PoolId, Scarce};

/// The shared limits.
#[derive(Debug, Default)]
pub(super) struct Permits {
    limits: Mutex<Limits<Arc<Notify>>>,
    /// How many pools are queued. A hint that saves the lock.
    queued: AtomicUsize,
}

impl Permits {
    /// A place for one server.
    ///
    /// # Errors
    /// The limit that is reached; the pool is queued, and its handle notified when it should ask again.
    pub(super) fn ask(self: &Arc<Self>, ask: Ask<Arc<Notify>>) -> Result<Permit, Scarce> {
        let claim = ask.claim.clone();
        let mut limits = self.limits.lock();
        let answer = limits.ask(ask);
        let next = if answer.is_ok() { limits.next() } else { None };
        self.queued.store(limits.queued(), Ordering::Relaxed);
        drop(limits);
        // More than one place may be free: each who gets one passes the word on.
        wake(next);
        answer.map(|()| Permit { permits: self.clone(), claim })
    }

    /// A pool wants no place any more.
    pub(super) fn withdraw(&self, pool: PoolId) {
        let mut limits = self.limits.lock();
        limits.withdraw(pool);
        self.queued.store(limits.queued(), Ordering::Relaxed);
        let next = limits.next();
        drop(limits);
        wake(next);
    }

    fn give_back(&self, claim: &Claim) {
        let mut limits = self.limits.lock();
        limits.give_back(claim);
        let next = limits.next();
        drop(limits);
        wake(next);
    }

    /// Whether any pool is queued. A pool that queues looks for resting servers afterwards, and again every second,
    /// so that one who reads this too early does no harm.
    pub(super) fn hungry(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    /// A server that counts against `claim` came to rest: the first in the queue that its place would help looks.
    pub(super) fn rested(&self, claim: &Claim) {
        let next = self.limits.lock().helped_by(claim);
        wake(next);
    }
}

fn wake(pool: Option<Arc<Notify>>) {
    if let Some(pool) = pool {
        pool.notify_one();
    }
}

/// A place for one server; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    claim: Claim,
}

impl Permit {
    /// What it counts against.
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.give_back(&self.claim);
    }
}
