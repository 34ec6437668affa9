//! An unnamed statement that comes again and again, from whichever client, is prepared once on each server, under a name of
//! ours: PostgreSQL then neither parses nor analyses it each time, and plans it less often. Only where no client can tell:
//!
//! - for what is sent at once, Parse to Sync, without names, outside of a transaction block: if the server refuses it before
//!   BindComplete, nothing has been done, and it is sent once more as the client has sent it;
//! - for texts without constants in quotes ('today' would stay that day) that do nothing to their session;
//! - by the client's settings: what a planner computes beforehand, it computes by these;
//! - until somebody changes definitions: a statement goes on reading the old table where a new one hides it;
//! - for a second: who changes them past us, or takes rights away, is not seen here, and PostgreSQL goes on with types of
//!   parameters and with rights to rows that it has once found.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use bytes::BufMut;
use hashbrown::HashMap;
use lru::LruCache;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::backend::{Heard, Take as Hears, reply};
use super::exchange::{Block, Exchange};
use super::machine::{Attached, Relay, Stop, Take, put_empty};
use super::pipeline::{How, Owed};
use super::portals::Does;
use super::prepared::{Hasher, Statement};
use super::requests::{definition, prepare};
use super::steps::Steps;
use super::words::{Effect, Redefines, first_word};
use crate::server::statements::StatementId;
use crate::wire::error::SqlState;
use crate::wire::frame::{self, FrameError, HEADER};
use crate::wire::params::ParamSet;
use crate::wire::tag::{backend, frontend};

/// What is longer, in bytes, goes as it is: it is kept until it is bound.
const BATCH_MAX: usize = 8 * 1024;
/// Texts that were seen once are told apart by so many places.
const PLACES: usize = 1024;
/// So old, in microseconds, may be what a server has prepared; then it prepares it anew.
const AGE_MAX: u64 = 1_000_000;
/// The keys of all that is prepared may take so many bytes.
const KEYS_MAX: usize = 1 << 20;

/// The texts that recur among the clients of one database.
#[derive(Debug)]
pub struct Recurring {
    hasher: Hasher,
    /// A server has room for twice as many.
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Of texts that were seen once, or more often; a later one takes an earlier one's place.
    seen: Vec<u64>,
    statements: LruCache<Box<[u8]>, Arc<Statement>, Hasher>,
    /// Of their keys.
    bytes: usize,
}

impl Recurring {
    /// Where each server has room for so many statements.
    pub fn new(room: u32) -> Self {
        let statements = LruCache::unbounded_with_hasher(Hasher::default());
        let known = Mutex::new(Known { seen: Vec::new(), statements, bytes: 0 });
        Self { hasher: Hasher::default(), most: (room as usize / 2).max(1), known }
    }

    /// The statement for a text and what it depends on.
    fn find(&self, key: &[u8]) -> Option<Arc<Statement>> {
        self.known.lock().statements.get(key).map(Arc::clone)
    }

    /// Notes a text that may recur. From the second time on there is a statement for it.
    fn notes(&self, key: &[u8], make: impl FnOnce() -> Arc<Statement>) -> Option<Arc<Statement>> {
        let mut known = self.known.lock();
        if let Some(statement) = known.statements.get(key) {
            return Some(Arc::clone(statement));
        }
        let hash = self.hasher.hash_one(key);
        if known.seen.is_empty() {
            known.seen = vec![0; PLACES];
        }
        let place = usize::try_from(hash % PLACES as u64).unwrap_or_default();
        if std::mem::replace(&mut known.seen[place], hash) != hash {
            return None;
        }
        let statement = make();
        known.bytes += key.len();
        known.statements.put(key.into(), Arc::clone(&statement));
        while known.statements.len() > self.most || known.bytes > KEYS_MAX {
            let (gone, _) = known.statements.pop_lru()?;
            known.bytes -= gone.len();
        }
        Some(statement)
    }

    /// Definitions may have changed: whoever comes next has it parsed by the new ones.
    pub fn forget(&self) {
        let mut known = self.known.lock();
        known.statements.clear();
        known.seen.clear();
        known.bytes = 0;
    }
}

/// Those of all databases.
#[derive(Debug, Default)]
pub struct AllRecurring(Mutex<HashMap<Arc<str>, Weak<Recurring>>>);

impl AllRecurring {
    /// Those of a database, whose servers have room for so many statements.
    pub fn of(&self, database: &Arc<str>, room: u32) -> Arc<Recurring> {
        let mut all = self.0.lock();
        if let Some(known) = all.get(database).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Recurring::new(room));
        all.insert(Arc::clone(database), Arc::downgrade(&new));
        new
    }
}

/// What was sent in place of what a client has said, until it is known that the server takes it.
#[derive(Debug, Default)]
pub struct Rerun {
    said: Vec<u8>,
    statement: Option<StatementId>,
}

impl Rerun {
    /// Whether it is not known yet.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.statement.is_some()
    }

    /// It is, or nobody wants to know.
    pub fn is_over(&mut self) {
        self.statement = None;
        self.said.clear();
    }
}

/// Parse, Bind, Execute and Sync, and perhaps a Describe of the portal: all without names, and nothing behind them.
struct Batch<'a> {
    text: &'a [u8],
    definition: &'a [u8],
    bind: &'a [u8],
    rest: &'a [u8],
    describes: bool,
}

impl<'a> Batch<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        let mut next = |tag: u8| {
            let header = frame::header(&input[at..], BATCH_MAX).ok()??;
            let frame = input.get(at..at + header.total).filter(|_| header.tag == tag)?;
            at += header.total;
            Some(frame)
        };
        let parse = next(frontend::PARSE)?;
        let bind = next(frontend::BIND)?;
        let rest = parse.len() + bind.len();
        let describe = next(frontend::DESCRIBE);
        let execute = next(frontend::EXECUTE)?;
        let sync = next(frontend::SYNC)?;
        let [0, definition_of @ ..] = parse.get(HEADER..)? else { return None };
        let definition = definition(definition_of).ok()?;
        let unnamed = bind.get(HEADER..)?.starts_with(&[0, 0])
            && describe.is_none_or(|describe| describe[HEADER..] == *b"P\0")
            && execute.get(HEADER..)?.len() == 5
            && execute[HEADER] == 0
            && sync.len() == HEADER;
        let all = rest + describe.map_or(0, <[u8]>::len) + execute.len() + sync.len();
        (unnamed && all == input.len()).then_some(Self {
            text: frame::c_string(definition)?.0,
            definition,
            bind,
            rest: &input[rest..],
            describes: describe.is_some(),
        })
    }

    /// Whether its text says the same whenever it is read, and to whomever has these settings.
    fn is_constant(&self) -> bool {
        let dollars = memchr::memchr_iter(b'$', self.text);
        let mut quotes = dollars.filter(|at| !self.text.get(at + 1).is_some_and(u8::is_ascii_digit));
        self.text.is_ascii() && memchr::memchr(b'\'', self.text).is_none() && quotes.next().is_none()
    }
}

impl Relay {
    /// Takes a whole batch at once, if it recurs; returns how many bytes.
    pub(super) fn recurs(&mut self, server: &mut Attached<'_>, input: &[u8], steps: &mut Steps) -> Option<usize> {
        let recurring = self.recurring.as_ref()?;
        let exchange = &mut *server.exchange;
        let defines = exchange.defining || exchange.may_define;
        if self.again.is_some()
            || input.len() > BATCH_MAX
            || exchange.block != Block::Outside
            || !exchange.settled()
            || defines
        {
            return None;
        }
        let batch = Batch::of(input)?;
        let word = first_word(batch.text);
        if !word.is_planned() || !batch.is_constant() || self.is_tied() {
            return None;
        }
        if !server.exchange.begun && self.may_lack(server) {
            return None;
        }
        let key = self.recurring_key(server.params, batch.definition);
        let statement = match recurring.find(&key) {
            Some(statement) => statement,
            None if self.reads_statement(server.exchange, batch.definition, false).is_some() => return None,
            None => recurring.notes(&key, || self.table.unshared(batch.definition, self.dialect))?,
        };
        self.begin(server, true, steps);
        server.exchange.asks(|in_block| word.allows_cancel(in_block));
        if !server.statements.touch_since(statement.id, self.now.saturating_sub(AGE_MAX)) {
            prepare(server, &statement, How::Swallow, None, steps);
            server.statements.insert_at(statement.id, self.now);
        }
        let exchange = &mut *server.exchange;
        steps.to_server.own(|out| {
            let name = statement.name();
            out.put_u8(frontend::BIND);
            out.put_u32(u32::try_from(batch.bind.len() - 1 + name.len()).unwrap_or(u32::MAX));
            for part in [b"\0", name, &batch.bind[HEADER + 1..], batch.rest] {
                out.put_slice(part);
            }
        });
        exchange.pipeline.push(Owed::Bind(How::Reply));
        if batch.describes {
            exchange.pipeline.push(Owed::Describe);
        }
        let does = Does::effect(Effect::Plain);
        exchange.binds(b"", does.clone());
        exchange.portals.execute(b"");
        exchange.pipeline.push(Owed::Execute { how: How::Reply, effect: does.effect, deeds: None });
        exchange.pipeline.push(Owed::Sync(How::Reply));
        exchange.flushed = false;
        exchange.counts.client_parses += 1;
        exchange.counts.binds += 1;
        exchange.session.rerun.said.extend_from_slice(input);
        exchange.session.rerun.statement = Some(statement.id);
        // It is the client's unnamed statement from now on, which the server does not have.
        exchange.has_unnamed = false;
        exchange.unnamed.forget();
        self.unnamed.set(batch.definition);
        Some(input.len())
    }

    /// All that the plan of a statement, what is computed beforehand and what we know of it may depend on: of two that are
    /// equal, what has been found of one holds for the other.
    fn recurring_key(&self, reported: &ParamSet, definition: &[u8]) -> SmallVec<[u8; 1024]> {
        let (reported, own) = (reported.key(), self.own_settings().map_or(&b""[..], ParamSet::key));
        let [generation, definitions] = self.functions.numbers().map(u64::to_be_bytes);
        let length = reported.len().to_be_bytes();
        let mut key = SmallVec::new();
        for part in [definition, &generation, &definitions, &length, reported, own] {
            key.extend_from_slice(part);
        }
        key
    }

    /// The server refuses what was sent in place of what the client has said. Where that may be for the statement's age,
    /// what the client has said is taken as it is, like all that it says: it may have to wait, or go to another server.
    /// Nothing was carried out. Returns whether it is.
    pub(super) fn runs_again(&mut self, server: &mut Attached<'_>, heard: &mut Heard, steps: &mut Steps) -> bool {
        let rerun = &mut server.exchange.session.rerun;
        let Some(id) = rerun.statement.take() else { return false };
        let said = std::mem::take(&mut rerun.said);
        if heard.error.take_if(|code| may_be_of_age(*code)).is_none() {
            if matches!(server.exchange.pipeline.front(), Some(Owed::Bind(How::Reply))) {
                put_empty(backend::PARSE_COMPLETE, steps);
            }
            return false;
        }
        for owed in server.exchange.pipeline.skip_to_sync().into_iter().rev() {
            self.take_back(server, owed);
        }
        server.statements.insert_doubtful(id);
        let exchange = &mut *server.exchange;
        exchange.pipeline.pop();
        exchange.pipeline.push(Owed::Sync(How::Swallow));
        exchange.portals.clear();
        self.again = Some(said.into());
        true
    }

    /// Takes what the client has said and the server has refused in its stead, before all that the client says behind it.
    /// `None`: all of it is taken.
    #[cold]
    pub(super) fn says_again(&mut self, mut server: Option<&mut Attached<'_>>, steps: &mut Steps) -> Option<Stop> {
        while let Some(rest) = self.again.clone().filter(|rest| !rest.is_empty()) {
            let header = match frame::header(&rest, BATCH_MAX) {
                Ok(header) => header?,
                Err(error) => return Some(Stop::Violation(error)),
            };
            let frame = &rest[..header.total];
            match self.frame(server.as_deref_mut(), header, frame, &rest, steps) {
                Ok(Take::Forward) => steps.to_server.own_bytes(frame),
                Ok(Take::Behind(front)) => steps.to_server.own_bytes(&frame[front..]),
                Ok(Take::Drop | Take::Batch(_)) => {}
                Ok(Take::Stop(stop)) => return Some(stop),
                Err(error) => return Some(Stop::Violation(error)),
            }
            self.again = Some(rest.slice(header.total..));
        }
        self.again = None;
        None
    }
}

impl Relay {
    /// The client sends what may change definitions for these.
    #[inline]
    pub(super) fn redefines(&self, exchange: &mut Exchange, whom: Redefines) {
        if self.tracks {
            exchange.session.redefines = exchange.session.redefines.max(whom);
        }
    }

    /// A transaction is over, or given up. If it may have changed definitions for others, what is prepared from now on is
    /// read by the new ones. What is owed behind it may be another that changes them.
    #[inline]
    pub fn definitions_are_over(&self, exchange: &mut Exchange) {
        let session = &mut exchange.session;
        session.reads_apart = false;
        if session.redefines == Redefines::ForAll {
            self.functions.redefined();
            self.table.forget();
            self.recurring.iter().for_each(|recurring| recurring.forget());
        }
        if exchange.pipeline.is_empty() {
            session.redefines = Redefines::Nothing;
        }
    }
}

impl Exchange {
    /// BindComplete. If what was bound was sent in place of what the client has said, it reads ParseComplete first.
    #[inline]
    pub(super) fn is_bound(&mut self, steps: &mut Steps) -> Result<Hears, FrameError> {
        if self.session.rerun.is_due() {
            self.session.rerun.is_over();
            put_empty(backend::PARSE_COMPLETE, steps);
        }
        reply(self, backend::BIND_COMPLETE, |owed| match owed {
            Owed::Bind(how) => Some(*how),
            _ => None,
        })
    }
}

/// Whether a statement may be refused so because definitions have changed since it was prepared.
fn may_be_of_age(code: SqlState) -> bool {
    matches!(&code.0[..2], b"08" | b"0A" | b"22" | b"26" | b"3F" | b"42" | b"XX")
}

#[cfg(test)]
mod tests;
