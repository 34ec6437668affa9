//! Waiting until servers are gone. Costs those who close servers one load while nobody waits.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// Who waits for servers to go, and how they are told.
#[derive(Debug, Default)]
pub(super) struct Settled {
    watchers: AtomicU32,
    changed: Notify,
}

impl Settled {
    /// A server is gone.
    pub(super) fn tell(&self) {
        // A watcher counts itself before it looks, and looking takes the lock under which the server went: so either
        // it sees that, or we see it.
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Ends when `done` says so; asked whenever a server is gone.
    pub(super) async fn until(&self, mut done: impl FnMut() -> bool) {
        let _watching = Watching::new(&self.watchers);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if done() {
                return;
            }
            changed.await;
        }
    }
}

struct Watching<'a>(&'a AtomicU32);

impl<'a> Watching<'a> {
    fn new(watchers: &'a AtomicU32) -> Self {
        watchers.fetch_add(1, Ordering::SeqCst);
        Self(watchers)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
