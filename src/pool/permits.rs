//! The limits that pools share, behind one lock. The lock is never held together with any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::limits::{Ask, Claim, Limits, PoolId, Scarce};
use super::now;
use crate::types::Endpoint;

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
        limits.on_time(now());
        let answer = limits.ask(ask);
        let next = limits.next();
        let (passed_over, behind) =
            if answer.is_ok() { (limits.unowed(&claim), limits.helped_by(&claim)) } else { (None, None) };
        self.queued.store(limits.queued(), Ordering::Relaxed);
        drop(limits);
        // More than one place may be free, or be to be had: each who gets one passes the word on, as does who leaves it to
        // another.
        [next, passed_over, behind].into_iter().for_each(wake);
        answer.map(|()| Permit { permits: self.clone(), claim, connected: false })
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

    /// Notes that another pool is asked to close a server for this one. Returns whether it should be: this one is queued,
    /// has no server at all, and no other was asked, or its place has gone elsewhere.
    pub(super) fn owe(&self, pool: PoolId) -> bool {
        self.limits.lock().owe(pool)
    }

    /// A pool that could use a place of `claim` has just had another asked to close a server: the next one that starves looks
    /// whether there is one more.
    pub(super) fn others_starve(&self, claim: &Claim) {
        let starving = self.limits.lock().unowed(claim);
        wake(starving);
    }

    /// Nobody closes a server for this pool any more.
    pub(super) fn forgive(&self, pool: PoolId) {
        self.limits.lock().forgive(pool);
    }

    /// A node has refused a server because it is full. Returns whether some of ours are there, so that one can be had when
    /// another is closed.
    pub(super) fn refused(&self, node: &Arc<Endpoint>) -> bool {
        self.limits.lock().refused(node, now())
    }

    /// Whether a node that is full may only not have noticed yet that one of our servers is closed.
    pub(super) fn was_just_freed(&self, node: &Endpoint) -> bool {
        self.limits.lock().was_just_freed(node, now())
    }

    /// A server has logged in at a node; its permit is about to be told.
    pub(super) fn connected(&self, node: &Arc<Endpoint>) {
        self.limits.lock().connected(node);
    }

    fn give_back(&self, claim: &Claim, connected: bool) {
        let mut limits = self.limits.lock();
        limits.give_back(claim, connected, now());
        let next = limits.next();
        drop(limits);
        wake(next);
    }

    /// Whether any pool is queued. A pool that queues looks for resting servers afterwards, and again every second,
    /// so that one who reads this too early does no harm.
    pub(super) fn hungry(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > 0
    }

    /// The least stay of a server that counts against `claim` is over. From now on it may be evicted, or its pool asked to
    /// close it when it comes back: who could use its place looks.
    pub(super) fn stayed(&self, claim: &Claim) {
        let limits = self.limits.lock();
        let (next, starving) = (limits.helped_by(claim), limits.unowed(claim));
        drop(limits);
        wake(next);
        wake(starving);
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
    connected: bool,
}

impl Permit {
    /// What it counts against.
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Its server is logged in, as [`Permits::connected`] was told.
    pub(super) fn set_connected(&mut self) {
        self.connected = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.give_back(&self.claim, self.connected);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    use super::super::limits::Caps;
    use super::*;
    use crate::types::Host;

    fn is_woken(handle: &Notify) -> bool {
        pin!(handle.notified()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_leaves_a_place_to_another_tells_it_so() {
        let permits = Arc::new(Permits::default());
        let node = Arc::new(Endpoint { host: Host::Name("db".into()), port: 1 });
        let begun = Instant::now();
        let ask = |pool: u64, waits: u64| Ask {
            pool: PoolId(pool),
            claim: Claim { database: "d".into(), user: pool.to_string().into(), node: Arc::clone(&node) },
            caps: Caps { node: Some(1), ..Caps::default() },
            since: Some(begun + Duration::from_secs(waits)),
            starving: true,
            handle: Arc::new(Notify::new()),
        };
        let place = permits.ask(ask(1, 1)).expect("it is the first");
        let oldest = ask(2, 0);
        permits.ask(oldest.clone()).expect_err("there is no place");
        drop(place);
        assert!(is_woken(&oldest.handle));
        permits.ask(ask(3, 2)).expect_err("it is the other's");
        assert!(is_woken(&oldest.handle));
        permits.ask(oldest).expect("it is the first in the queue");
    }
}
