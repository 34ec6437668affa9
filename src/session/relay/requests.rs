//! Parse, Bind, Describe, Execute and Close of a client that has a server: names of prepared statements
//! are the client's own, the statements behind them are shared.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BufMut;

use super::Stop;
use super::channels::Hears;
use super::exchange::Exchange;
use super::loss::in_failed_transaction;
use super::machine::{Attached, Relay, Take, put_empty};
use super::pipeline::{Closed, How, Name, Owed, Parses, Prepared, Status};
use super::portals::Does;
use super::prepared::{LASTING_MAX, Statement, put_frame, write_close};
use super::steps::Steps;
use super::tracking::{READ_MAX, depends_on_values, resolved};
use super::words::{Redefines, first_word};
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::frame::{self, FrameError, HEADER, Head, Header, NAMES_MAX};
use crate::wire::tag::{backend, frontend};

const HOLD: Take = Take::Stop(Stop::Hold);

impl Relay {
    /// Whether a message is not all here that is taken only whole: a statement that is read or remembered.
    #[inline]
    pub(super) fn is_awaited(&self, header: Header, have: &[u8]) -> bool {
        have.len() < header.total && self.wants_whole(header, have)
    }

    #[cold]
    fn wants_whole(&self, header: Header, have: &[u8]) -> bool {
        let read = self.tracks && header.total <= READ_MAX;
        let named = have.get(HEADER).is_none_or(|first| *first != 0);
        match header.tag {
            frontend::QUERY => read,
            frontend::PARSE => read || (self.own_names && (named || header.total <= LASTING_MAX)),
            _ => false,
        }
    }

    pub(super) fn parse(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        let (name, front) = match frame::parse_head(have, header.total)? {
            Head::Known(head) => head,
            Head::More => return Ok(Take::Stop(Stop::Input)),
        };
        let named = self.own_names && !name.is_empty();
        if self.is_awaited(header, have) {
            return Ok(Take::Stop(Stop::Input));
        }
        if self.is_unsure(server.exchange, &have[front..]) {
            return Ok(HOLD);
        }
        let word = first_word(&have[front..]);
        self.redefines(server.exchange, word.redefines(&have[front..]));
        if named {
            return self.parse_named(server, name, definition(&have[front..])?, steps);
        }
        let cut = have.len() < header.total;
        server.exchange.asks(|in_block| word.allows_cancel(in_block));
        if !self.begin(server, server.exchange.vetted, steps) {
            return Ok(HOLD);
        }
        let deeds = self.reads_statement(server.exchange, &have[front..], cut);
        if !self.before_code(server, deeds.as_deref(), steps) {
            return Ok(HOLD);
        }
        let exchange = &mut *server.exchange;
        exchange.parsed = Does { effect: word.effect(&have[front..], cut), deeds };
        if name.is_empty() {
            (exchange.unnamed_word, exchange.unnamed_does) = (Some(word), exchange.parsed.clone());
        } else if !word.allows_cancel(false) {
            self.guarded.add(name);
        }
        exchange.counts.client_parses += 1;
        exchange.counts.server_parses += 1;
        let takes_unnamed = self.own_names && !std::mem::replace(&mut exchange.has_unnamed, true);
        if self.own_names {
            // One that it had before is forgotten when this is carried out: it may be skipped.
            exchange.unnamed.made((!cut).then_some(&have[front..]));
        }
        exchange.pipeline.push(Owed::Parse { how: How::Reply, what: Parses::AsSaid { takes_unnamed } });
        Ok(Take::Forward)
    }

    fn parse_named(
        &mut self,
        server: &mut Attached<'_>,
        name: &[u8],
        definition: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        if statements_unsure(server.exchange, steps) {
            return Ok(HOLD);
        }
        let pipeline = &server.exchange.pipeline;
        let statement = self.intern_here(server.exchange, definition);
        let there = server.statements.touch(statement.id);
        let duplicate = self.names.has_taken(name) || self.is_of_sql(name);
        // What we are to answer depends on the transaction: in a failed one it is refused.
        if (there || duplicate) && pipeline.owes_ready() {
            return Ok(HOLD);
        }
        server.exchange.asks(|in_block| statement.word().allows_cancel(in_block));
        if !self.begin(server, server.exchange.vetted, steps) {
            return Ok(HOLD);
        }
        let failed = server.exchange.pipeline.status == Status::Failed;
        if !duplicate && (failed || !there) {
            let does = self.does_now(server.exchange, &statement);
            if !self.before_code(server, does.deeds.as_deref(), steps) {
                return Ok(HOLD);
            }
        }
        let exchange = &mut *server.exchange;
        exchange.counts.client_parses += 1;
        if duplicate {
            let error = if failed && !statement.word().leaves_failed() {
                in_failed_transaction()
            } else {
                already_exists(name)
            };
            poison(exchange, error, steps);
            return Ok(Take::Drop);
        }
        let name: Name = name.into();
        self.names.insert(Arc::clone(&name), Arc::clone(&statement));
        let name = Some((name, Arc::clone(&statement)));
        if there && !failed {
            let what = Box::new(Prepared { id: None, name, shows: None });
            answer(exchange, Owed::Prepare { how: How::Answer, what }, steps);
        } else {
            prepare(server, &statement, How::Reply, name, steps);
        }
        Ok(Take::Drop)
    }

    pub(super) fn bind(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        let head = match frame::bind_head(have, header.total)? {
            Head::Known(head) => head,
            Head::More => return Ok(Take::Stop(Stop::Input)),
        };
        if have.len() < header.total && header.total <= READ_MAX && self.reads_values(server.exchange, head.statement) {
            return Ok(Take::Stop(Stop::Input));
        }
        if !self.own_names || head.statement.is_empty() {
            if let Some(take) = self.without_unnamed(server, head.statement, steps) {
                return Ok(take);
            }
            let exchange = &*server.exchange;
            let does = if head.statement.is_empty() { &exchange.unnamed_does } else { &exchange.parsed };
            let does = bound(does.clone(), header, have);
            if !self.before_code(server, does.deeds.as_deref(), steps) {
                return Ok(HOLD);
            }
            let exchange = &mut *server.exchange;
            exchange.binds(head.portal, does);
            exchange.unnamed.used();
            exchange.counts.binds += 1;
            server.exchange.pipeline.push(Owed::Bind(How::Reply));
            return Ok(Take::Forward);
        }
        if self.is_only_of_sql(head.statement) {
            return Ok(self.bind_of_sql(server, head.portal, steps));
        }
        let statement = match self.prepared(server, head.statement, steps) {
            Ok(statement) => statement,
            Err(take) => return Ok(take),
        };
        let does = bound(self.does_now(server.exchange, &statement), header, have);
        if !self.before_code(server, does.deeds.as_deref(), steps) {
            return Ok(HOLD);
        }
        let name = statement.name();
        steps.to_server.own(|out| {
            let length = header.total - 1 + name.len() - head.statement.len();
            out.put_u8(frontend::BIND);
            out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
            for part in [head.portal, b"\0", name, b"\0"] {
                out.put_slice(part);
            }
        });
        server.exchange.binds(head.portal, does);
        server.exchange.counts.binds += 1;
        server.exchange.pipeline.push(Owed::Bind(How::Reply));
        Ok(Take::Behind(head.size))
    }

    pub(super) fn describe(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        if have.len() < header.total {
            return whole_name(header);
        }
        let (kind, name) = frame::target(have)?;
        if kind == b'S' && self.own_names && !name.is_empty() {
            if self.is_only_of_sql(name) {
                return Ok(self.describe_of_sql(server, steps));
            }
            let statement = match self.prepared(server, name, steps) {
                Ok(statement) => statement,
                Err(take) => return Ok(take),
            };
            // It may be read anew.
            let does = self.does_now(server.exchange, &statement);
            if !self.before_code(server, does.deeds.as_deref(), steps) {
                return Ok(HOLD);
            }
            steps.to_server.own(|out| put_frame(out, frontend::DESCRIBE, &[b"S", statement.name(), b"\0"]));
            server.exchange.pipeline.push(Owed::Describe);
            return Ok(Take::Drop);
        }
        if kind == b'S'
            && let Some(take) = self.without_unnamed(server, name, steps)
        {
            return Ok(take);
        }
        if kind == b'P' {
            server.exchange.asks(|_| true);
            self.begin_beyond_portals(server, steps);
        }
        server.exchange.pipeline.push(Owed::Describe);
        Ok(Take::Forward)
    }

    pub(super) fn execute(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        if have.len() < header.total {
            return whole_name(header);
        }
        let (portal, _) = frame::c_string(&have[HEADER..]).ok_or(FrameError::Body(frontend::EXECUTE))?;
        // What waits for channels is looked at again, and is executed once.
        if let Some(deeds) = server.exchange.portals.would_do(portal) {
            match self.hears(server.exchange, deeds.iter(), false) {
                Hears::Now => {}
                Hears::Later => return Ok(Take::Stop(Stop::Channels)),
                Hears::Never(error) => {
                    server.exchange.asks(|_| true);
                    poison(server.exchange, error, steps);
                    return Ok(Take::Drop);
                }
            }
        }
        let Does { effect, deeds } = server.exchange.portals.execute(portal);
        let ends = effect.may_end();
        // A portal that was bound earlier is in a transaction block, of which only the end is not to be cancelled.
        server.exchange.asks(|_| !ends);
        self.begin_beyond_portals(server, steps);
        server.exchange.pipeline.push(Owed::Execute { how: How::Reply, effect, deeds });
        server.exchange.flushed = false;
        Ok(Take::Forward)
    }

    pub(super) fn close(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Take, FrameError> {
        if have.len() < header.total {
            return whole_name(header);
        }
        let (kind, name) = frame::target(have)?;
        let exchange = &mut *server.exchange;
        if kind == b'P' || !self.own_names || name.is_empty() {
            if kind == b'S' && name.is_empty() {
                exchange.has_unnamed = false;
                self.unnamed.forget();
            }
            exchange.asks(|_| true);
            exchange.pipeline.push(Owed::Close { how: How::Reply, what: None });
            return Ok(Take::Forward);
        }
        if statements_unsure(exchange, steps) {
            return Ok(HOLD);
        }
        if let Some(take) = self.close_there(exchange, name) {
            return Ok(take);
        }
        let was = self.names.remove(name);
        let what = was.map(|was| Box::new(Closed { id: None, was: Some(was), there: None }));
        answer(exchange, Owed::Close { how: How::Answer, what }, steps);
        Ok(Take::Drop)
    }

    /// The statement that the client calls `name`, with the server ready to be asked for it; or what becomes of
    /// the request instead: without a statement it is made to fail on the server too.
    fn prepared(&mut self, server: &mut Attached<'_>, name: &[u8], steps: &mut Steps) -> Result<Arc<Statement>, Take> {
        if statements_unsure(server.exchange, steps) {
            return Err(HOLD);
        }
        let Some(statement) = self.names.get(name).cloned() else {
            poison(server.exchange, does_not_exist(name), steps);
            return Err(Take::Drop);
        };
        self.redefines(server.exchange, statement.redefines());
        server.exchange.asks(|in_block| statement.word().allows_cancel(in_block));
        if !self.begin(server, server.exchange.vetted, steps) {
            return Err(HOLD);
        }
        if server.statements.touch(statement.id) {
            return Ok(statement);
        }
        if self.is_unsure(server.exchange, statement.definition()) {
            return Err(HOLD);
        }
        let statement = self.read_anew(server.exchange, name, statement);
        if !server.statements.touch(statement.id) {
            prepare(server, &statement, How::Swallow, None, steps);
        }
        Ok(statement)
    }

    /// Before a request for the unnamed statement. One that another client has left is not this one's, nor is one
    /// of ours: using it fails. (Where names are the server's, it may be for a named one.)
    fn without_unnamed(&mut self, server: &mut Attached<'_>, name: &[u8], steps: &mut Steps) -> Option<Take> {
        if self.own_names && server.exchange.pipeline.unnamed_unsure() {
            return Some(HOLD);
        }
        let recalled = self.unnamed.definition().filter(|_| !server.exchange.has_unnamed).map(first_word);
        let word = recalled.or(server.exchange.unnamed_word);
        let redefines = word.map_or(Redefines::ForAll, |word| word.redefines(b""));
        self.redefines(server.exchange, redefines);
        server.exchange.asks(|in_block| match name {
            b"" => word.is_some_and(|word| word.allows_cancel(in_block)),
            _ => !self.guarded.has(name),
        });
        if !self.begin(server, server.exchange.vetted, steps) {
            return Some(HOLD);
        }
        if !self.own_names || server.exchange.has_unnamed {
            return None;
        }
        if let Some(definition) = self.unnamed.definition() {
            if self.is_unsure(server.exchange, definition) {
                return Some(HOLD);
            }
            let deeds = self.reads_statement(server.exchange, definition, false);
            let exchange = &mut *server.exchange;
            let word = first_word(definition);
            exchange.unnamed_does = Does { effect: word.effect(definition, false), deeds };
            exchange.unnamed_word = Some(word);
            steps.to_server.own(|out| put_frame(out, frontend::PARSE, &[b"\0", definition]));
            exchange.counts.server_parses += 1;
            exchange.has_unnamed = true;
            exchange.unnamed.recalled(definition);
            exchange.pipeline.push(Owed::Parse { how: How::Swallow, what: Parses::AsSaid { takes_unnamed: true } });
            return None;
        }
        poison(server.exchange, self.unnamed.missing(), steps);
        Some(Take::Drop)
    }

    /// Portals end with their transaction. Where the server is not the client's own, a request for one that comes
    /// first fails whatever the settings are.
    fn begin_beyond_portals(&mut self, server: &mut Attached<'_>, steps: &mut Steps) {
        if !self.own_names {
            self.begin(server, true, steps);
        }
    }
}

/// What a portal does that is bound by this message, some of whose values may tell.
fn bound(does: Does, header: Header, have: &[u8]) -> Does {
    let Some(deeds) = does.deeds.as_ref().filter(|deeds| depends_on_values(deeds)) else { return does };
    let whole = (have.len() == header.total).then_some(have);
    let values = whole.and_then(frame::bind_values).unwrap_or_default();
    Does { deeds: Some(Arc::new(resolved(deeds, &values))), ..does }
}

/// Has the server prepare a statement, and drop others if it has too many.
pub(super) fn prepare(
    server: &mut Attached<'_>,
    statement: &Statement,
    how: How,
    name: Option<(Name, Arc<Statement>)>,
    steps: &mut Steps,
) {
    let mut close = |id, exchange: &mut Exchange| {
        steps.to_server.own(|out| write_close(id, out));
        let what = Some(Box::new(Closed { id: Some(id), was: None, there: None }));
        exchange.pipeline.push(Owed::Close { how: How::Swallow, what });
    };
    // In a failed transaction the server is asked even if it has it: the refusal is to be its own.
    if server.statements.remove(statement.id) {
        close(statement.id, server.exchange);
    }
    server.statements.insert(statement.id);
    while let Some(evicted) = server.statements.evict() {
        close(evicted, server.exchange);
    }
    steps.to_server.own(|out| statement.write_parse(out));
    server.exchange.counts.server_parses += 1;
    let what = Box::new(Prepared { id: Some(statement.id), name, shows: None });
    server.exchange.pipeline.push(Owed::Prepare { how, what });
}

/// Whether names of statements have to wait for what becomes of those before them.
/// Without a Sync behind these the server would keep its answer to itself.
pub(super) fn statements_unsure(exchange: &mut Exchange, steps: &mut Steps) -> bool {
    if exchange.pipeline.statements_unsure() {
        return true;
    }
    let waits = exchange.pipeline.forgetting();
    if waits && !std::mem::replace(&mut exchange.flushed, true) {
        steps.to_server.own(|out| put_frame(out, frontend::FLUSH, &[]));
    }
    waits
}

/// A name that no statement has: PREPARE cuts longer ones than 63 bytes, and those of the protocol are ours.
const NOBODY: &[u8] = b"PGLIFEGUARD_nobody: a name of more than 63 bytes, which PREPARE would cut";

/// Fails the client's request with our own error: the server is sent something that fails there as well,
/// so that its transaction and its skipping up to Sync are what they would be.
pub(super) fn poison(exchange: &mut Exchange, error: ErrorReply, steps: &mut Steps) {
    steps.to_server.own(|out| put_frame(out, frontend::BIND, &[b"\0", NOBODY, b"\0", &[0; 6]]));
    exchange.pipeline.push(Owed::Poison(Box::new(error)));
}

/// Answers in the server's place, when the turn has come.
fn answer(exchange: &mut Exchange, owed: Owed, steps: &mut Steps) {
    if exchange.pipeline.is_empty() && exchange.run.left == 0 {
        write_answer(&owed, steps);
    } else {
        exchange.pipeline.push(owed);
    }
}

pub(super) fn write_answer(owed: &Owed, steps: &mut Steps) {
    match owed {
        Owed::Parse { .. } | Owed::Prepare { .. } => put_empty(backend::PARSE_COMPLETE, steps),
        Owed::Close { .. } => put_empty(backend::CLOSE_COMPLETE, steps),
        _ => {}
    }
}

pub(super) fn already_exists(name: &[u8]) -> ErrorReply {
    let text = format!("prepared statement \"{}\" already exists", said(name));
    ErrorReply::error(SqlState::DUPLICATE_STATEMENT, text)
}

pub(super) fn does_not_exist(name: &[u8]) -> ErrorReply {
    if name.is_empty() {
        return ErrorReply::error(SqlState::UNKNOWN_STATEMENT, "unnamed prepared statement does not exist");
    }
    none_of_these_exists(&[said(name)])
}

/// The same of a statement with several names, of which one was asked for.
pub(super) fn none_of_these_exists(names: &[Cow<'_, str>]) -> ErrorReply {
    let text = format!("prepared statement \"{}\" does not exist", names.join("\" or \""));
    ErrorReply::error(SqlState::UNKNOWN_STATEMENT, text)
}

/// A name as far as PostgreSQL's own names go: thousands of these errors may wait for their turn.
pub(super) fn said(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&name[..name.len().min(63)])
}

/// Checks the part of a Parse behind the name: text, NUL, a count, as many types.
pub(super) fn definition(body: &[u8]) -> Result<&[u8], FrameError> {
    let types = frame::c_string(body).map(|(_, size)| &body[size..]);
    match types {
        Some([high, low, types @ ..]) if types.len() == 4 * usize::from(u16::from_be_bytes([*high, *low])) => Ok(body),
        _ => Err(FrameError::Body(frontend::PARSE)),
    }
}

/// A Describe or Close that is not all here yet: it is little more than a name.
pub(super) fn whole_name(header: Header) -> Result<Take, FrameError> {
    if header.total > NAMES_MAX { Err(FrameError::Body(header.tag)) } else { Ok(Take::Stop(Stop::Input)) }
}
