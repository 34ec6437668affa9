//! What holds while a client has a server: what is owed, what is half done, what goes along with the transaction.

use smallvec::SmallVec;

use super::ending::Ending;
use super::inquiry::{Asked, Perhaps};
use super::loss::Done;
use super::namespace::Shown;
use super::numbers::Numbers;
use super::own::Own;
use super::pipeline::{How, Owed, Pipeline, Status};
use super::portals::{Does, Portals};
use super::prepared::{Unnamed, put_frame, write_close};
use super::recurring::Rerun;
use super::settings::Changes;
use super::skipping::Spared;
use super::steps::Steps;
use super::words::{FirstWord, Redefines};
use crate::pool::PinPlace;
use crate::server::statements::StatementId;
use crate::sql::deeds::Doubt;
use crate::wire::params::ParamSet;
use crate::wire::tag::frontend;

/// A frame of which the front was handled and the rest is still to come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// Bytes. No frame is of more than 2 GiB.
    pub(super) left: u32,
    pub(super) forward: bool,
}

impl Run {
    /// `left` is less than the length of a frame.
    pub(super) fn new(left: usize, forward: bool) -> Self {
        Self { left: u32::try_from(left).unwrap_or(u32::MAX), forward }
    }

    /// Takes what there is of it among `have` bytes; returns how many.
    #[inline]
    pub(super) fn take(&mut self, have: usize) -> usize {
        let taken = self.left.min(u32::try_from(have).unwrap_or(u32::MAX));
        self.left -= taken;
        taken as usize
    }
}

/// What holds while the client has a server.
#[derive(Debug, Default)]
pub struct Exchange {
    /// Replies owed, transaction status.
    pub pipeline: Pipeline,
    /// Counted since the session last took them.
    pub counts: Counts,
    /// Whatever the server works at may be cancelled when the client is gone.
    pub may_cancel: bool,
    /// It is in a transaction block, for as long as it may be cancelled.
    in_block: bool,
    /// The statement that the client's unnamed one is, for the requests that use it; `None` where it was not all here.
    pub(super) unnamed_word: Option<FirstWord>,
    /// What that may do.
    pub(super) unnamed_does: Does,
    /// What the statement last parsed may do: where names are the server's, what is bound by name is taken for that.
    pub(super) parsed: Does,
    /// Settings sent in the client's transaction; kept until it ends, since a rollback undoes them.
    pub(super) changes: Changes,
    /// The client has sent what may change the database's functions, and its transaction is not over.
    pub defining: bool,
    /// It has sent what nobody knows, which may be such.
    pub may_define: bool,
    /// What the client has changed there holds for others, too.
    pub redefined: Redefined,
    /// What becomes of the session there.
    pub session: Course,
    /// The server has carried them out.
    pub(super) changed: bool,
    /// An error was seen, or a ROLLBACK.
    pub(super) rolled_back: bool,
    /// A COMMIT was seen before any of these, and no ReadyForQuery since.
    pub(super) committed: bool,
    /// The transaction has had savepoints.
    pub(super) savepoint: bool,
    pub(super) run: Run,
    pub(super) gate: Gate,
    /// What of ours is to follow the client's frame under way.
    pub(super) after_run: AfterRun,
    /// The front of a client's frame went out, the rest has not come yet.
    pub(super) half_sent: bool,
    /// The settings were compared for this exchange.
    pub(super) begun: bool,
    /// They may be in one transaction with the client's requests up to its Sync, which are all here.
    pub(super) vetted: bool,
    /// The server's unnamed statement, if there is one, is this client's.
    pub(super) has_unnamed: bool,
    /// What that is.
    pub(super) unnamed: Unnamed,
    /// That, and what the client had from before, as a Query found it that may be skipped.
    pub(super) spared: Option<Box<Spared>>,
    /// A Flush was sent behind the last Execute.
    pub(super) flushed: bool,
    /// What was bound.
    pub(super) portals: Portals,
    /// Too much is owed, and a Flush was sent for that.
    pub(super) pressed: bool,
    /// Where the client stands by what it has read.
    pub(super) block: Block,
    /// What was carried out since the client has last read ReadyForQuery.
    pub(super) done: Done,
    /// Of the request at the front the client has read an error, or all: what it is owed is ReadyForQuery only.
    pub(super) answered: bool,
    /// The client's settings that have changed in its transaction, as they were before.
    pub(super) before: SmallVec<[Before; 1]>,
    /// What the server said when it ended the connection.
    pub(super) last_words: Option<Box<str>>,
}

/// What becomes of a server's session while its client has it.
#[derive(Debug, Default)]
pub struct Course {
    /// The settings that nobody reports which were sent so; all that the server has then.
    pub(super) assigning: Option<ParamSet>,
    /// What the server's session has become since the client has it.
    pub(super) there: Option<Box<Own>>,
    /// Reported settings that were reset, and that the client had asked for at its login: what the server says of them
    /// is not believed before all that the client has asked for is answered.
    pub(super) restored: SmallVec<[Box<str>; 1]>,
    /// What may be there, or gone, and the server has not said yet.
    pub(super) perhaps: Perhaps,
    /// Something is there that nothing undoes, and the client is not tied by it any more.
    pub(super) is_spent: bool,
    /// The server is asked for these, the last one first, and its answers go nowhere.
    pub(super) asking: SmallVec<[Asked; 2]>,
    /// Whose numbers of sequences are there.
    pub numbers: Numbers,
    /// Why nobody knows what the server was left with.
    pub doubts: SmallVec<[Doubt; 1]>,
    /// The client keeps the server, or is about to.
    pub(super) pin_place: Option<PinPlace>,
    /// It may listen where its client does not need it to.
    pub(super) listens: bool,
    /// The client has sent what may change definitions, and its transaction is not over.
    pub(super) redefines: Redefines,
    /// The transaction has settings of its own by which texts are read.
    pub(super) reads_apart: bool,
    /// Statements that are there under the client's own names for them.
    pub(super) shown: SmallVec<[Shown; 1]>,
    /// What was sent in place of what the client has said.
    pub rerun: Rerun,
    /// Whether it has notified there, and who knows.
    pub notifies: Notifies,
}

/// Whether the database's functions may be others since a transaction is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Redefined {
    /// They are not.
    #[default]
    No,
    /// It has run what nobody knows: the catalog tells when it is looked at.
    Perhaps,
    /// They are.
    Surely,
}

/// Whether a client notifies on its server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notifies {
    /// It does not.
    #[default]
    No,
    /// Its next message does, and waits until somebody has taken note of that.
    Asked,
    /// It has asked for that message not to be carried out.
    Cancelled,
    /// Somebody takes note of that.
    Noted,
    /// Nobody does.
    Unheard,
}

impl Course {
    /// Whether nothing is to be undone but what the client is known to have.
    pub(super) fn leaves_nothing(&self) -> bool {
        self.doubts.is_empty()
            && !self.perhaps.leaves_something()
            && !self.is_spent
            && !self.listens
            && self.shown.is_empty()
    }

    /// For the next client.
    fn reset(&mut self) {
        // Whatever is added must be named here.
        let Self {
            assigning,
            there,
            restored,
            perhaps,
            is_spent,
            asking,
            numbers,
            doubts,
            pin_place,
            listens,
            redefines,
            reads_apart,
            shown,
            rerun,
            notifies,
        } = self;
        (*assigning, *there, *numbers, *pin_place) = (None, None, Numbers::default(), None);
        (*is_spent, *listens, *reads_apart, *notifies) = (false, false, false, Notifies::No);
        *redefines = Redefines::Nothing;
        rerun.is_over();
        restored.clear();
        shown.clear();
        perhaps.clear();
        asking.clear();
        doubts.clear();
    }
}

/// Name and value of a setting.
type Before = (Box<str>, Box<[u8]>);

/// A transaction block, as its client knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Block {
    /// There is none.
    #[default]
    Outside,
    Inside,
    /// Something may have ended it, and may have begun another.
    Unsure,
}

/// Whether the client's messages may go to the server now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Gate {
    #[default]
    Open,
    /// Settings went out with a Sync of their own; the client's message waits for it.
    Settling,
    /// And they failed.
    SettlingFailed {
        /// With what the client had sent before them: it skips up to its Sync.
        skips: bool,
    },
    /// They failed, the client has read why: its message is skipped, as after any error.
    Refusing,
    /// A COPY is made to fail that may have read past a Sync. What follows waits until the server says that it failed:
    /// then it can be told what becomes of the Sync.
    Failing,
    /// A COPY failed. Whether the server had read past a Sync before is being found out.
    Doubting {
        /// If it had, it now skips up to the next Sync of the client's.
        skips: bool,
    },
}

/// What of ours waits for the end of the client's frame under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum AfterRun {
    #[default]
    Nothing,
    /// A Sync in place of the Query that was skipped.
    Sync,
    /// What tells whether a Sync in doubt was read past.
    Probe,
}

/// Figures for SHOW STATS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the columns of SHOW STATS_TOTALS")]
pub struct Counts {
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
}

impl Exchange {
    /// For the next client.
    pub fn reset(&mut self) {
        // Whatever is added must be named here.
        let Self {
            pipeline,
            counts,
            may_cancel,
            in_block,
            unnamed_word,
            unnamed_does,
            parsed,
            changes,
            defining,
            may_define,
            redefined,
            session,
            changed,
            rolled_back,
            committed,
            savepoint,
            run,
            gate,
            after_run,
            half_sent,
            begun,
            vetted,
            has_unnamed,
            unnamed,
            spared,
            flushed,
            portals,
            pressed,
            block,
            done,
            answered,
            before,
            last_words,
        } = self;
        pipeline.reset();
        *counts = Counts::default();
        (*may_cancel, *in_block, *unnamed_word) = (false, false, None);
        changes.clear();
        session.reset();
        for flag in [
            defining,
            may_define,
            changed,
            rolled_back,
            committed,
            savepoint,
            half_sent,
            begun,
            vetted,
            has_unnamed,
            flushed,
            pressed,
            answered,
        ] {
            *flag = false;
        }
        unnamed.forget();
        *spared = None;
        *run = Run::default();
        *gate = Gate::Open;
        *after_run = AfterRun::Nothing;
        (*unnamed_does, *parsed) = (Does::default(), Does::default());
        portals.clear();
        (*block, *done, *redefined) = (Block::Outside, Done::Nothing, Redefined::No);
        before.clear();
        *last_words = None;
    }

    /// Whether settings were sent in the client's transaction.
    #[inline]
    pub(super) fn carries(&self) -> bool {
        !self.changes.is_empty() || self.session.assigning.is_some()
    }

    /// Whether what the client sends now is the first of its transaction.
    pub(super) fn begins_transaction(&self) -> bool {
        self.pipeline.is_empty() && self.block == Block::Outside
    }

    /// A setting of the client's changes that was this when its transaction began, unless that has changed it before.
    pub(super) fn notes_before(&mut self, name: &str, value: Box<[u8]>) {
        if !self.before.iter().any(|(noted, _)| noted.eq_ignore_ascii_case(name)) {
            self.before.push((name.into(), value));
        }
    }

    /// A command has begun a transaction block. In a Query others follow it, unseen.
    pub(super) fn block_begins(&mut self) {
        let of_query = matches!(self.pipeline.front(), Some(Owed::Query { .. }));
        self.block = if of_query { Block::Unsure } else { Block::Inside };
    }

    /// A command came to its end that ends a transaction block, or a part of one.
    pub(super) fn block_may_end(&mut self) {
        let front = self.pipeline.front();
        match front.and_then(Owed::in_block) {
            Some(Ending::Commits | Ending::RollsBack) => {
                self.answered |= matches!(front, Some(Owed::Query { .. }));
                self.block = Block::Outside;
            }
            Some(Ending::ToSavepoint) => {}
            _ if self.block != Block::Outside => self.block = Block::Unsure,
            _ => {}
        }
    }

    /// A ROLLBACK came to its end, of whatever kind.
    pub(super) fn rolls_back(&mut self) {
        let ending = self.pipeline.front().and_then(Owed::in_block);
        self.rolled_back = ending != Some(Ending::ToSavepoint);
        // The savepoints are gone with all that was before them.
        self.savepoint &= ending != Some(Ending::Chains);
    }

    /// Before a request is noted: whether it may be cancelled when the client is gone, given whether it is in a
    /// transaction block. A cancel hits whichever of the requests runs, so all must allow it.
    #[inline]
    pub(super) fn asks(&mut self, allows_cancel: impl FnOnce(bool) -> bool) {
        if self.pipeline.is_empty() && !self.pipeline.unsynced {
            self.may_cancel = true;
            self.in_block = self.pipeline.status == Status::InTransaction;
        }
        self.may_cancel = self.may_cancel && allows_cancel(self.in_block);
    }

    /// Whether the client has the front of a message only: nothing else may be said to it.
    pub fn half_told(&self) -> bool {
        self.run.left > 0 && self.run.forward
    }

    /// Whether the server may go to someone else: it owes nothing, is idle, in sync, and no frame is half done,
    /// neither one from the server nor one to it. Both sides' bytes can bring this about.
    #[inline]
    pub fn settled(&self) -> bool {
        self.pipeline.settled() && self.run.left == 0 && !self.half_sent && self.gate == Gate::Open
    }

    /// Whether, should what is in front fail now, nobody knows what is skipped: behind a Sync that may have been read
    /// past there are requests, up to the next Sync. PostgreSQL itself ends a connection that asks for something else in
    /// a COPY; only where the COPY fails before it reads that does it go on.
    pub(super) fn is_lost_in_copy(&self) -> bool {
        let front = self.pipeline.front();
        if !self.pipeline.in_doubt() || matches!(front, None | Some(Owed::Query { .. } | Owed::DoubtfulSync)) {
            return false;
        }
        let behind = self.pipeline.iter().skip_while(|owed| !matches!(owed, Owed::DoubtfulSync));
        let mut skipped = behind.take_while(|owed| !owed.is_sync());
        skipped.any(|owed| !matches!(owed, Owed::DoubtfulSync | Owed::CopyEnd))
    }
}

/// Sends a Sync of our own.
pub(super) fn send_sync(exchange: &mut Exchange, how: How, steps: &mut Steps) {
    steps.to_server.own(|out| put_frame(out, frontend::SYNC, &[]));
    exchange.pipeline.push(Owed::Sync(how));
}

/// Sends what tells whether the Syncs in doubt were read past: a Close, of nothing, which is answered behind them.
/// A server that skips needs a Sync first, or it would skip the Close, too; of all ReadyForQuery that come then,
/// the first counts as the answer to that.
pub(super) fn send_probe(exchange: &mut Exchange, steps: &mut Steps) {
    if exchange.gate == (Gate::Doubting { skips: true }) {
        steps.to_server.own(|out| put_frame(out, frontend::SYNC, &[]));
        exchange.pipeline.push_front(Owed::Sync(How::Swallow));
    }
    steps.to_server.own(|out| write_close(StatementId(0), out));
    exchange.pipeline.push(Owed::Close { how: How::Swallow, what: None });
    send_sync(exchange, How::Swallow, steps);
}
