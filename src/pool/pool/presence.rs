//! Who is in a pool, for as long as a guard lives, and what its clients ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Pool;

/// A client of the pool, from its login to its end.
#[derive(Debug)]
pub struct ClientPresence {
    pub(super) pool: Arc<Pool>,
}

impl ClientPresence {
    /// The client's login has succeeded.
    pub fn logged_in(&self) {
        self.pool.client_logged_in();
    }

    /// The client's pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for ClientPresence {
    fn drop(&mut self) {
        self.pool.client_left();
    }
}

/// A cancel request, while it is on its way.
#[derive(Debug)]
pub struct CancelPresence {
    pub(super) pool: Arc<Pool>,
}

impl Drop for CancelPresence {
    fn drop(&mut self) {
        self.pool.cancels.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// Whether clients ask for the last number of a sequence: nobody is to find another's then.
    pub fn asks_numbers(&self) -> bool {
        self.asks_numbers.load(Ordering::Relaxed)
    }

    /// A client does.
    pub fn asked_numbers(&self) {
        self.asks_numbers.store(true, Ordering::Relaxed);
    }
}
