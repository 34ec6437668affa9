//! Syncs that were sent behind a COPY: the server reads past them while it copies in, and answers them if that has failed.

use super::{Owed, Pipeline};

impl Pipeline {
    /// The server has begun to copy in. It reads past the Syncs behind the COPY, up to the first other message,
    /// unless the COPY fails before it reads any: until then they are in doubt.
    pub fn copy_in_begins(&mut self) {
        self.copying_in = true;
        let mut at = 1;
        while let Some(owed) = self.queue.get_mut(at) {
            match owed {
                Owed::Sync(_) => {
                    self.owed.remove(owed.kinds());
                    *owed = Owed::DoubtfulSync;
                    self.owed.add(owed.kinds());
                    at += 1;
                }
                Owed::CopyEnd => {
                    self.owed.remove(owed.kinds());
                    self.queue.remove(at);
                    self.copying_in = false;
                    break;
                }
                _ => break,
            }
        }
        // A Sync that is read past does not end the transaction.
        self.unsynced |= !self.owes_ready();
    }

    /// Whether a Sync is in doubt.
    #[inline]
    pub fn in_doubt(&self) -> bool {
        self.owed.doubtful > 0
    }

    /// The COPY went well, so the server has read all of it, and past these.
    pub fn drop_doubtful(&mut self) {
        self.queue.retain(|owed| !matches!(owed, Owed::DoubtfulSync));
        self.owed.doubtful = 0;
    }

    /// The server answers something else: those in doubt before it were read past.
    pub fn drop_doubtful_front(&mut self) {
        while matches!(self.front(), Some(Owed::DoubtfulSync)) {
            self.pop();
        }
    }

    /// The COPY failed. One ReadyForQuery is like another, so the certain Syncs among those in doubt come first.
    /// Returns whether nothing is owed behind that tells by its reply what became of those in doubt.
    pub fn sort_doubtful(&mut self) -> bool {
        let rank = |owed: &Owed| match owed {
            Owed::Sync(_) => 0,
            Owed::DoubtfulSync => 1,
            _ => 2,
        };
        let start = usize::from(matches!(self.front(), Some(Owed::Query { .. })));
        let silent = |owed: &&Owed| owed.is_sync() || owed.is_answer() || matches!(owed, Owed::DoubtfulSync);
        let end = start + self.queue.range(start..).take_while(silent).count();
        self.queue.make_contiguous()[start..end].sort_by_key(rank);
        end == self.queue.len()
    }
}
