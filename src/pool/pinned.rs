//! How many servers of a pool are kept by clients beyond their transactions, and how many may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::pool::Pool;

/// Of one pool.
#[derive(Debug, Default)]
pub struct Pinned {
    now: AtomicU32,
    /// 0: any number.
    most: AtomicU32,
}

/// A client keeps a server, or is about to; until this is dropped.
#[derive(Debug)]
pub struct PinPlace(Arc<Pinned>);

impl Pinned {
    /// For a pool of which so many may be kept; `None`: all.
    pub fn new(most: Option<u32>) -> Self {
        let pinned = Self::default();
        pinned.allow(most);
        pinned
    }

    /// So many may be from now on; `None`: all. Those that are stay.
    pub fn allow(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(0), Ordering::Relaxed);
    }

    /// One more.
    ///
    /// # Errors
    /// The limit, which is reached.
    pub fn take(self: &Arc<Self>) -> Result<PinPlace, u32> {
        let most = self.most.load(Ordering::Relaxed);
        let one_more = |now: u32| (most == 0 || now < most).then_some(now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| most)?;
        Ok(PinPlace(Arc::clone(self)))
    }
}

impl Pool {
    /// How many of its servers clients keep.
    pub fn pinned(&self) -> &Arc<Pinned> {
        &self.pinned
    }
}

impl Drop for PinPlace {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_kept_and_no_more_whatever_was_allowed_before() {
        let pinned = Arc::new(Pinned::new(None));
        let mut places: Vec<PinPlace> = (0..3).map(|_| pinned.take().expect("no limit")).collect();
        pinned.allow(Some(2));
        for left in (2..=3).rev() {
            assert_eq!(pinned.take().err(), Some(2), "{left} are kept");
            places.pop();
        }
        places.push(pinned.take().expect("one is left"));
        assert!(pinned.take().is_err());
    }
}
