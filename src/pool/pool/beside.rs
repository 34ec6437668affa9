//! What those see of a pool who keep a connection beside its servers.

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::{Inner, Pool};
use crate::pool::guest::Standing;
use crate::pool::state::End;

impl Pool {
    /// Whether it has connections now.
    pub fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// Hears of every change of [`Self::standing`].
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(in crate::pool) fn guests(&self) -> MutexGuard<'_, SmallVec<[u64; 2]>> {
        self.guests.lock()
    }

    pub(in crate::pool) fn tell_settled(&self) {
        self.settled.tell();
    }
}

impl Inner {
    pub(super) fn standing(&self) -> Standing {
        match self.state.ended() {
            Some(End::ShuttingDown) => Standing::ShuttingDown,
            Some(_) => Standing::Ended,
            None if self.state.gate().is_paused() => Standing::Paused,
            None => Standing::Open { generation: self.state.generation() },
        }
    }
}
