//! What a server still owes, in order, and whether it may be given to someone else.

use std::collections::VecDeque;
use std::sync::Arc;

use super::kinds::{Kinds, Tally};
use super::namespace::{Shows, There};
use super::prepared::Statement;
use super::running::Running;
pub use super::words::Effect;
use crate::server::statements::StatementId;
use crate::sql::deeds::{Deed, Deeds};
use crate::wire::error::ErrorReply;

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The server's reply goes to the client.
    Reply,
    /// The request was ours: its reply goes nowhere.
    Swallow,
    /// The server was not asked: we reply when its turn comes.
    Answer,
}

/// A client's name for a statement.
pub type Name = Arc<[u8]>;

/// One reply owed to the client, or to us. Small: every message makes one, and moves it in and out of a queue.
#[derive(Debug)]
pub enum Owed {
    /// A simple Query, up to its ReadyForQuery.
    Query {
        /// What its first statement may do.
        effect: Effect,
        /// It was sent in a transaction block, and a later statement of it may end that.
        ends_later: bool,
        /// What its statements do to the session.
        deeds: Option<Box<Running>>,
    },
    /// A FunctionCall, up to its ReadyForQuery.
    Function,
    /// ReadyForQuery.
    Sync(How),
    /// ReadyForQuery of a Sync that the server may have read past because it copied.
    DoubtfulSync,
    /// ParseComplete.
    Parse {
        /// What becomes of the reply.
        how: How,
        /// What is there from now on, unless an error takes it back.
        what: Parses,
    },
    /// ParseComplete of a statement that servers keep under our name.
    Prepare {
        /// What becomes of the reply.
        how: How,
        /// What is there from now on, unless an error takes it back.
        what: Box<Prepared>,
    },
    /// BindComplete.
    Bind(How),
    /// ParameterDescription, then RowDescription or NoData.
    Describe,
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended; or a COPY.
    Execute {
        /// What becomes of the reply.
        how: How,
        /// What it may do.
        effect: Effect,
        /// What it does to the session.
        deeds: Option<Arc<Deeds>>,
    },
    /// CloseComplete. What an error takes back: that the server has dropped it, that the client's name is free.
    Close {
        /// What becomes of the reply.
        how: How,
        /// What was closed, where an error takes that back.
        what: Option<Box<Closed>>,
    },
    /// Nothing: here the client said CopyDone or CopyFail, before the server said that it copies.
    CopyEnd,
    /// A question of ours, up to its ReadyForQuery.
    Inquiry,
    /// A request of ours that must fail; the client reads this error in place of the server's.
    Poison(Box<ErrorReply>),
}

/// What a Parse makes.
#[derive(Debug)]
pub enum Parses {
    /// A setting of ours that goes before the client's message.
    Setting,
    /// What the client said, unchanged.
    AsSaid {
        /// From now on the server's unnamed statement is this client's.
        takes_unnamed: bool,
    },
}

/// A statement prepared under our name.
#[derive(Debug)]
pub struct Prepared {
    /// The statement that the server has from now on.
    pub id: Option<StatementId>,
    /// The name that the client has given it, and to what.
    pub name: Option<(Name, Arc<Statement>)>,
    /// It is prepared under the client's own name for it.
    pub shows: Option<Shows>,
}

/// A statement that was closed.
#[derive(Debug)]
pub struct Closed {
    /// The statement that the server had, and drops.
    pub id: Option<StatementId>,
    /// The client's name that is free from now on, and what it meant.
    pub was: Option<(Name, Arc<Statement>)>,
    /// What was there under that name.
    pub there: Option<There>,
}

impl Owed {
    /// What its statements do that are not done yet.
    pub(super) fn deeds(&self) -> impl Iterator<Item = &Deed> {
        let (query, execute) = match self {
            Self::Query { deeds, .. } => (deeds.as_deref(), None),
            Self::Execute { deeds, .. } => (None, deeds.as_deref()),
            _ => (None, None),
        };
        query.into_iter().flat_map(Running::deeds).chain(execute.into_iter().flatten())
    }

    /// Whether the server does not answer it: we do, when its turn comes, or nobody.
    fn is_answer(&self) -> bool {
        self.kinds().any(Kinds::ANSWER)
    }

    /// A setting of ours that goes before the client's message.
    pub fn is_prefix(&self) -> bool {
        matches!(
            self,
            Self::Parse { what: Parses::Setting, .. }
                | Self::Bind(How::Swallow)
                | Self::Execute { how: How::Swallow, .. }
        ) || matches!(self, Self::Close { how: How::Swallow, what } if what.as_ref().is_none_or(|what| what.id.is_none()))
    }

    /// What the server skips after an error in the extended protocol: everything but Sync.
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Sync(_))
    }
}

/// Transaction status as ReadyForQuery tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    InTransaction,
    /// In a failed transaction block.
    Failed,
}

impl Status {
    /// From ReadyForQuery's byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// ReadyForQuery's byte.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// Replies that the server still owes, oldest first, and what else ties it to its client.
/// Invariant: an answer of ours is never at the front; it is given at once.
#[derive(Debug)]
pub struct Pipeline {
    queue: VecDeque<Owed>,
    owed: Tally,
    /// How many of those that change statements have a Sync behind them.
    sealed: usize,
    /// The same of those that take the unnamed statement.
    sealed_unnamed: usize,
    /// How many of those that end an implicit transaction were noted.
    ends: u64,
    /// As of the last ReadyForQuery.
    pub status: Status,
    /// Messages of the extended protocol were sent since the last Sync.
    pub unsynced: bool,
    /// An error was seen, the Sync that ends the skipping is still to come from the client.
    pub skipping: bool,
    /// The server reads CopyData.
    pub copying_in: bool,
    /// Something was done that may change by what constants in later texts are read; the server says so before its next
    /// ReadyForQuery.
    unreported: bool,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            owed: Tally::default(),
            sealed: 0,
            sealed_unnamed: 0,
            ends: 0,
            status: Status::Idle,
            unsynced: false,
            skipping: false,
            copying_in: false,
            unreported: false,
        }
    }
}

impl Pipeline {
    /// For the next client.
    pub fn reset(&mut self) {
        // Whatever is added must be named here.
        let Self { queue, owed, sealed, sealed_unnamed, ends, status, unsynced, skipping, copying_in, unreported } =
            self;
        queue.clear();
        *owed = Tally::default();
        (*sealed, *sealed_unnamed, *ends) = (0, 0, 0);
        *status = Status::Idle;
        (*unsynced, *skipping, *copying_in, *unreported) = (false, false, false, false);
    }

    /// Whether the server owes nothing, is idle and in sync.
    #[inline]
    pub fn settled(&self) -> bool {
        self.queue.is_empty() && self.status == Status::Idle && !self.unsynced && !self.skipping && !self.copying_in
    }

    /// Whether the last of what is owed ends the implicit transaction before it.
    #[inline]
    pub fn ends_transaction(&self) -> bool {
        !self.queue.is_empty() && !self.unsynced
    }

    /// Whether nothing is owed: the next message is the client's.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many replies are owed.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether the server owes nothing; what is owed is ours.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.queue.len() == self.owed.answers
    }

    /// Whether replies are owed that may end or fail a transaction before the next message is read.
    #[inline]
    pub fn owes_ready(&self) -> bool {
        self.owed.ready > 0
    }

    /// The number of the implicit transaction that the next request is in.
    #[inline]
    pub fn noted(&self) -> u64 {
        self.ends
    }

    /// The number of that which the oldest reply owed is in.
    pub fn owed(&self) -> u64 {
        self.ends.saturating_sub(self.owed.ready as u64)
    }

    /// Whether it is still open which statements there will be when the server reads the next message,
    /// and that message does not share the fate of those that decide it.
    #[inline]
    pub fn statements_unsure(&self) -> bool {
        self.sealed > 0
    }

    /// The same of the unnamed statement.
    #[inline]
    pub fn unnamed_unsure(&self) -> bool {
        self.sealed_unnamed > 0
    }

    /// Whether something is owed that may drop all statements.
    #[inline]
    pub fn forgetting(&self) -> bool {
        self.owed.forgets > 0
    }

    /// Whether it is not known by what constants in later texts are read: something is owed that may change it, or was
    /// done and not reported yet.
    #[inline]
    pub(super) fn may_set(&self) -> bool {
        self.owed.sets > 0 || self.unreported
    }

    /// Notes a request.
    #[inline(always)] // Each caller knows the kind of what it pushes, and most of this folds away.
    pub fn push(&mut self, owed: Owed) {
        let kinds = owed.kinds();
        if kinds.any(Kinds::READY) {
            // Each of them ends an implicit transaction, and with it what was sent without Sync before.
            self.unsynced = false;
            self.ends += 1;
        } else if !kinds.any(Kinds::ANSWER.and(Kinds::DOUBTFUL)) {
            self.unsynced = true;
        }
        self.note(kinds);
        self.queue.push_back(owed);
    }

    #[inline(always)]
    fn note(&mut self, kinds: Kinds) {
        self.owed.add(kinds);
        if kinds.any(Kinds::SEALS) {
            self.sealed = self.owed.changes;
            self.sealed_unnamed = self.owed.unnamed;
        }
    }

    /// Notes a request that is answered before all others.
    pub fn push_front(&mut self, owed: Owed) {
        self.owed.add(owed.kinds());
        self.queue.push_front(owed);
    }

    /// Changes all that is owed, oldest first.
    pub fn revise(&mut self, mut revise: impl FnMut(&mut Owed)) {
        self.owed = Tally::default();
        let mut queue = std::mem::take(&mut self.queue);
        for owed in &mut queue {
            revise(owed);
            self.note(owed.kinds());
        }
        self.queue = queue;
    }

    /// All that is owed, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Owed> {
        self.queue.iter()
    }

    /// The same, to be changed in what is not counted.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Owed> {
        self.queue.iter_mut()
    }

    /// Gives all of it up, newest first.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Owed> + use<> {
        self.owed = Tally::default();
        (self.sealed, self.sealed_unnamed) = (0, 0);
        std::mem::take(&mut self.queue).into_iter().rev()
    }

    /// The reply that comes next.
    #[inline]
    pub fn front(&self) -> Option<&Owed> {
        self.queue.front()
    }

    /// Whether a question of ours is under way.
    #[inline]
    pub(super) fn inquires(&self) -> bool {
        matches!(self.queue.front(), Some(Owed::Inquiry))
    }

    /// The same, to be changed in what is not counted.
    #[inline]
    pub(super) fn front_mut(&mut self) -> Option<&mut Owed> {
        self.queue.front_mut()
    }

    /// Takes the reply that came.
    #[inline]
    pub fn pop(&mut self) -> Option<Owed> {
        let kinds = self.queue.front()?.kinds();
        self.forget(kinds);
        self.queue.pop_front()
    }

    /// Takes the reply that came, if it is one whose fate `how` knows.
    #[inline(always)]
    pub fn pop_if(&mut self, how: impl FnOnce(&Owed) -> Option<How>) -> Option<How> {
        let front = self.queue.front()?;
        let (how, kinds) = (how(front)?, front.kinds());
        self.forget(kinds);
        self.queue.pop_front();
        Some(how)
    }

    #[inline(always)]
    fn forget(&mut self, kinds: Kinds) {
        self.unreported = (self.unreported || kinds.any(Kinds::SETS)) && !kinds.any(Kinds::READY);
        if !kinds.any(Kinds::RARE) {
            self.owed.ready -= kinds.count(Kinds::READY);
        } else {
            self.owed.remove(kinds);
            self.sealed = self.sealed.saturating_sub(kinds.count(Kinds::CHANGES));
            self.sealed_unnamed = self.sealed_unnamed.saturating_sub(kinds.count(Kinds::UNNAMED));
        }
    }

    /// Whether answers of ours are owed.
    #[inline]
    pub fn owes_answers(&self) -> bool {
        self.owed.answers > 0
    }

    /// Takes the answer of ours whose turn has come.
    #[inline]
    pub fn pop_answer(&mut self) -> Option<Owed> {
        if self.queue.front()?.is_answer() { self.pop() } else { None }
    }

    /// Drops what the server skips after an error: everything up to the next Sync. Oldest first.
    /// Syncs in doubt among them stay.
    pub fn skip_to_sync(&mut self) -> Vec<Owed> {
        let mut skipped = Vec::new();
        let mut doubtful = 0;
        while self.queue.front().is_some_and(|front| !front.is_sync()) {
            match self.pop() {
                Some(Owed::DoubtfulSync) => doubtful += 1,
                owed => skipped.extend(owed),
            }
        }
        (0..doubtful).for_each(|_| self.push_front(Owed::DoubtfulSync));
        skipped
    }
}

mod doubtful;
#[cfg(test)]
mod tests {
    use super::*;

    /// Moving larger ones cost a tenth of all that a transaction does here.
    #[test]
    fn what_is_owed_is_small() {
        assert!(size_of::<Owed>() <= 16, "{}", size_of::<Owed>());
    }
}
