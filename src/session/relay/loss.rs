//! What a client reads when its server is lost while it has it: what it is owed fails, and where a transaction block
//! was open, that has failed. Nothing says of a request that it was not carried out unless that is certain.

use super::alone::{Alone, Failed};
use super::ending::Ending;
use super::exchange::{AfterRun, Block, Exchange, Gate};
use super::machine::{Attached, Relay, put_complete, put_ready};
use super::pipeline::{How, Owed, Status};
use super::steps::Steps;
use crate::wire::error::{ErrorReply, SqlState};

/// Where a client stands that goes on without the server that it has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// It had asked for nothing, and is not told.
    Unnoticed,
    /// It read errors, or reads one with its next request, and goes on.
    Told,
    /// The same, and its transaction block has failed.
    Failed,
}

/// What a server has carried out for its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Done {
    #[default]
    Nothing,
    /// What a rollback undoes.
    Something,
    /// The client has read the end of a command that may have committed, with or without a Sync behind it.
    MayCommit,
}

impl Exchange {
    /// A command has come to its end, with this tag.
    pub(super) fn is_done(&mut self, tag: &[u8]) {
        let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
        let may = match self.block {
            Block::Inside => matches!(tag, b"COMMIT" | b"PREPARE TRANSACTION"),
            Block::Outside | Block::Unsure => may_commit(tag),
        };
        self.done = self.done.max(if may { Done::MayCommit } else { Done::Something });
    }
}

/// Whether a command with this tag may have committed, outside of a transaction block. DDL does not, unless it is of the
/// kind that begins and ends transactions of its own; the two have the same tags.
fn may_commit(tag: &[u8]) -> bool {
    let counted = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
    let undone = match counted {
        b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"FETCH" | b"MOVE" | b"COPY" => true,
        b"SET" | b"RESET" | b"SHOW" | b"EXPLAIN" | b"DEALLOCATE" | b"SAVEPOINT" | b"RELEASE" => true,
        _ => matches!(
            tag,
            b"BEGIN"
                | b"START TRANSACTION"
                | b"ROLLBACK"
                | b"DECLARE CURSOR"
                | b"CLOSE CURSOR"
                | b"CLOSE CURSOR ALL"
                | b"LOCK TABLE"
                | b"PREPARE"
        ),
    };
    !undone
}

impl Relay {
    /// The client's server is lost. `why` is a sentence that the client may read. The relay goes on without a server.
    ///
    /// `None` where the client can't go on: it has read the front of a message that will have no end; a Sync within its
    /// COPY may have been read past, so that nobody knows how many answers it expects; the server was its own, with whatever
    /// it had left there; or it has begun a transaction block and not read that there is one.
    pub fn lose(&mut self, server: &mut Attached<'_>, why: &str, steps: &mut Steps) -> Option<Aftermath> {
        let exchange = &mut *server.exchange;
        if !self.own_names || exchange.half_told() || self.is_tied() || exchange.pipeline.in_doubt() || begins(exchange)
        {
            return None;
        }
        if let Some(own) = &mut self.own {
            own.rolls_back();
        }
        // What is still to come of a frame under way goes nowhere.
        self.run.forward = false;
        self.put_settings_back(exchange, steps);
        self.restore(server, true, steps);
        let exchange = &mut *server.exchange;
        let quiet = exchange.pipeline.iter().all(is_ours);
        // It has been answered, and its Sync is to come. (What waits for its settings goes to another server.)
        let waits = quiet && exchange.pipeline.unsynced;
        let mut telling = Telling {
            why,
            block: exchange.block,
            failed: exchange.pipeline.status == Status::Failed && exchange.done == Done::Nothing,
            committed: exchange.done == Done::MayCommit,
            told: exchange.answered,
            may_commit: false,
            steps,
        };
        let skips = telling.tell(exchange) || exchange.pipeline.skipping;
        let then = telling.status();
        if exchange.after_run == AfterRun::Sync {
            // Of a Query that was skipped ReadyForQuery was to come when all of it is here.
            put_ready(then, telling.steps);
        }
        let told = telling.told || telling.failed;
        let alone = match exchange.gate {
            _ if skips => Some(Alone::Skipping { then }),
            Gate::SettlingFailed { skips: true } => Some(Alone::Skipping { then }),
            Gate::SettlingFailed { skips: false } | Gate::Refusing => Some(Alone::Refused { untold: None, then }),
            _ if then == Status::Failed => Some(Alone::Failed(Failed::new((!told).then(|| telling.undone())))),
            _ if waits => Some(Alone::Refused { untold: Some(Box::new(telling.undone())), then }),
            _ => None,
        };
        self.alone = alone.map(Box::new);
        for owed in exchange.pipeline.give_up() {
            self.take_back(server, owed);
        }
        self.part(server.exchange);
        Some(match self.alone {
            _ if then == Status::Failed => Aftermath::Failed,
            None if quiet => Aftermath::Unnoticed,
            _ => Aftermath::Told,
        })
    }

    /// What the lost transaction has set is not set any more.
    fn put_settings_back(&mut self, exchange: &mut Exchange, steps: &mut Steps) {
        for (name, value) in exchange.before.drain(..) {
            self.tell(&name, &value, steps);
        }
    }
}

/// Whether the client was about to be in a transaction block, and does not know it yet. It may have sent, without waiting,
/// what is to be undone with that: nothing of it may run without.
fn begins(exchange: &Exchange) -> bool {
    let mut begins = false;
    let mut outside = exchange.block == Block::Outside;
    for owed in exchange.pipeline.iter() {
        if owed.begins() {
            begins |= outside;
        } else if owed.ending().is_some() {
            (begins, outside) = (false, true);
        }
    }
    begins
}

/// Whether the client does not know of it.
fn is_ours(owed: &Owed) -> bool {
    let swallowed = |how: &How| *how == How::Swallow;
    match owed {
        Owed::Parse { how, .. }
        | Owed::Prepare { how, .. }
        | Owed::Close { how, .. }
        | Owed::Execute { how, .. }
        | Owed::Bind(how)
        | Owed::Sync(how) => swallowed(how),
        Owed::CopyEnd | Owed::Inquiry => true,
        _ => false,
    }
}

/// Answers what is owed, oldest first.
struct Telling<'a> {
    why: &'a str,
    block: Block,
    /// The block had failed before.
    failed: bool,
    /// What the client has read answers of may have been committed.
    committed: bool,
    /// The client knows that its transaction is over.
    told: bool,
    /// What is owed behind this may have committed it.
    may_commit: bool,
    steps: &'a mut Steps,
}

impl Telling<'_> {
    /// Returns whether the client's messages are skipped up to its next Sync.
    fn tell(&mut self, exchange: &Exchange) -> bool {
        let mut first = true;
        let mut answered = exchange.answered;
        let mut skips = false;
        let mut ending = None;
        let asked = |owed: &&Owed| !is_ours(owed);
        let commits = |owed: &Owed| matches!(owed.ending(), Some(Ending::Commits | Ending::Chains | Ending::Unclear));
        let mut endings = exchange.pipeline.iter().filter(asked).filter(|owed| commits(owed)).count();
        for owed in exchange.pipeline.iter().filter(asked) {
            ending = together(ending, owed.ending());
            endings -= usize::from(commits(owed));
            self.may_commit = endings > 0;
            let simple = matches!(owed, Owed::Query { .. } | Owed::Function);
            let sync = matches!(owed, Owed::Sync(_));
            if !sync && (skips || !simple) {
                skips = true;
                continue;
            }
            // A Sync fails for what it ends. Of the first one that may have been answered already.
            if !answered && (simple || skips || first) {
                self.fail(ending, matches!(owed, Owed::Query { .. }));
            }
            put_ready(self.status(), self.steps);
            (first, answered, skips, ending) = (false, false, false, None);
        }
        if skips {
            self.fail(ending, false);
        }
        skips
    }

    fn status(&self) -> Status {
        if self.block == Block::Outside { Status::Idle } else { Status::Failed }
    }

    /// Nothing is left of the transaction that the server had; but one before it, without a Sync between them, may be.
    fn undone(&self) -> ErrorReply {
        if self.committed { commit_unknown(self.why) } else { rolled_back(self.why) }
    }

    /// A request fails, which may do this to the block.
    fn fail(&mut self, ending: Option<Ending>, query: bool) {
        if self.block == Block::Inside && ending == Some(Ending::RollsBack) && query {
            self.block = Block::Outside;
            return put_complete(b"ROLLBACK", self.steps);
        }
        let (block, reply) = match (self.block, ending) {
            (Block::Outside, _) => (Block::Outside, statement_unknown(self.why)),
            (Block::Inside, None) if self.told => (Block::Inside, in_failed_transaction()),
            (Block::Inside, None) if self.may_commit => (Block::Inside, commit_unknown(self.why)),
            (Block::Inside, None) => (Block::Inside, self.undone()),
            (Block::Inside, Some(Ending::RollsBack)) => (Block::Outside, self.undone()),
            (Block::Inside, Some(Ending::Commits)) if self.failed => (Block::Outside, self.undone()),
            (_, Some(Ending::Commits | Ending::RollsBack)) => (Block::Outside, commit_unknown(self.why)),
            (_, _) => (Block::Unsure, commit_unknown(self.why)),
        };
        self.block = block;
        self.told = true;
        self.steps.to_client.own(|out| reply.encode(out));
    }
}

/// What two requests of one transaction may do to it.
fn together(one: Option<Ending>, other: Option<Ending>) -> Option<Ending> {
    match (one, other) {
        (Some(_), Some(_)) => Some(Ending::Unclear),
        _ => one.or(other),
    }
}

fn statement_unknown(why: &str) -> ErrorReply {
    let text = "connection to server lost, it is not known whether the statement was carried out";
    ErrorReply::error(SqlState::RESOLUTION_UNKNOWN, text)
        .detail(why.to_owned())
        .hint("If it changes data, find out whether it took effect before you run it again.")
}

fn commit_unknown(why: &str) -> ErrorReply {
    let text = "connection to server lost, it is not known whether the transaction was committed";
    ErrorReply::error(SqlState::RESOLUTION_UNKNOWN, text)
        .detail(why.to_owned())
        .hint("Find out whether it took effect before you run it again.")
}

/// Nothing of the transaction was kept.
fn rolled_back(why: &str) -> ErrorReply {
    ErrorReply::error(SqlState::CONNECTION_FAILURE, "connection to server lost, the transaction is rolled back")
        .detail(why.to_owned())
        .hint("Nothing of it took effect: run it again.")
}

/// As PostgreSQL says it.
pub(super) fn in_failed_transaction() -> ErrorReply {
    let text = "current transaction is aborted, commands ignored until end of transaction block";
    ErrorReply::error(SqlState::IN_FAILED_TRANSACTION, text)
}

#[cfg(test)]
mod tests;
