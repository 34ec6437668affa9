//! What a server's bytes mean: which pass to the client, which are swallowed, what they change.

use super::exchange::{Block, Exchange, Gate, Run};
use super::loss::Done;
use super::machine::{Attached, Relay};
use super::numbers::explain;
use super::pipeline::{Closed, How, Owed, Status};
use super::prepared::named_in;
use super::requests::write_answer;
use super::steps::Steps;
use super::tracking::doubts;
use crate::config::model::Listen;
use crate::server::statements::StatementId;
use crate::sql::deeds::Doubt;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frame::{self, FrameError, HEADER, Header};
use crate::wire::tag::backend;

/// Bytes of an error or notice that are read for its SQLSTATE before the rest passes unread.
const ERROR_READ_MAX: usize = 32 * 1024;
/// A message that is kept until all of it is here may not be longer: few words, or the value of a setting.
const KEPT_MAX: usize = 1 << 20;
/// PostgreSQL sends no message of 2 GiB or more.
const MESSAGE_MAX: usize = i32::MAX as usize;

/// What a chunk of server bytes brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// Bytes taken; the rest is an incomplete frame.
    pub consumed: usize,
    /// How many ReadyForQuery went to the client.
    pub ready: u32,
    /// SQLSTATE of the last error in it.
    pub error: Option<SqlState>,
    /// That error was FATAL: the server is closing the connection. Where the client can go on without it
    /// ([`Relay::lose`]) it has not passed, and nothing behind it is taken.
    pub fatal: bool,
    /// A transaction block was begun where none may be. The client has not read ReadyForQuery; nothing behind it is
    /// taken.
    pub block_refused: bool,
    /// A setting of the client's was refused, which it can only have asked for at its login: it would be refused
    /// before each of its requests.
    pub setting_refused: bool,
}

/// What becomes of a frame.
pub(super) enum Take {
    Pass,
    Drop,
    /// Not enough of it is here.
    More,
    /// It goes nowhere, and the client is to end.
    Refuse,
    /// It is the server's last.
    End,
}

impl Relay {
    /// Takes what the server sent.
    ///
    /// # Errors
    /// What the server may not send here: the connection to it is lost, and so is what it owes.
    pub fn from_server(
        &mut self,
        server: &mut Attached<'_>,
        input: &[u8],
        steps: &mut Steps,
    ) -> Result<Heard, FrameError> {
        let mut heard = Heard::default();
        let mut at = if server.exchange.run.left > 0 { go_on(server.exchange, input, steps) } else { 0 };
        while server.exchange.run.left == 0 {
            heard.consumed = at;
            let Some(header) = frame::header(&input[at..], MESSAGE_MAX)? else { return Ok(heard) };
            let have = &input[at..input.len().min(at + header.total)];
            let forward = match self.hear(server, header, have, steps, &mut heard)? {
                Take::Pass => true,
                Take::Drop => false,
                Take::More => return Ok(heard),
                Take::Refuse => {
                    heard.block_refused = true;
                    heard.consumed = at + have.len();
                    return Ok(heard);
                }
                Take::End => {
                    heard.consumed = input.len();
                    return Ok(heard);
                }
            };
            if forward {
                steps.to_client.pass(at..at + have.len());
            }
            at += have.len();
            server.exchange.run = Run::new(header.total - have.len(), forward);
            if header.tag != backend::DATA_ROW {
                give_answers(server.exchange, steps);
            }
        }
        heard.consumed = at;
        Ok(heard)
    }

    #[inline]
    fn hear(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
        heard: &mut Heard,
    ) -> Result<Take, FrameError> {
        if server.exchange.pipeline.inquires()
            && let Some(take) = self.hear_inquiry(server, header, have, steps)?
        {
            return Ok(take);
        }
        let exchange = &mut *server.exchange;
        // The last words of a server are no answer.
        if exchange.pipeline.in_doubt() && tells_of_request(header.tag) && header.tag != backend::ERROR {
            exchange.pipeline.drop_doubtful_front();
            give_answers(exchange, steps);
        }
        match header.tag {
            // What a statement has its server listen to comes by another connection.
            backend::NOTIFICATION if self.listen == Listen::Shared => Ok(Take::Drop),
            backend::NOTICE | backend::NOTIFICATION => Ok(Take::Pass),
            // Whatever answers nothing answers somebody else.
            tag if tag != backend::ERROR && tag != backend::PARAMETER_STATUS && exchange.pipeline.is_empty() => {
                Err(FrameError::Tag(tag))
            }
            backend::DATA_ROW
            | backend::COPY_DATA
            | backend::COPY_DONE
            | backend::COPY_OUT
            | backend::FUNCTION_RESULT
            | backend::PARAMETER_DESCRIPTION => Ok(Take::Pass),
            backend::ROW_DESCRIPTION | backend::NO_DATA => {
                if matches!(exchange.pipeline.front(), Some(Owed::Describe)) {
                    exchange.pipeline.pop();
                }
                Ok(Take::Pass)
            }
            backend::PARSE_COMPLETE => {
                self.is_shown(server);
                reply(server.exchange, header.tag, |owed| match owed {
                    Owed::Parse { how, .. } | Owed::Prepare { how, .. } => Some(*how),
                    _ => None,
                })
            }
            backend::BIND_COMPLETE => exchange.is_bound(steps),
            backend::CLOSE_COMPLETE => reply(exchange, header.tag, |owed| match owed {
                Owed::Close { how, .. } => Some(*how),
                _ => None,
            }),
            backend::COMMAND_COMPLETE | backend::READY | backend::PARAMETER_STATUS if have.len() < header.total => {
                more_of(header)
            }
            backend::COMMAND_COMPLETE => self.command_complete(server, &have[HEADER..]),
            backend::EMPTY_QUERY | backend::PORTAL_SUSPENDED => {
                self.suspended(server, header.tag);
                executed(server.exchange, header.tag)
            }
            backend::COPY_IN | backend::COPY_BOTH => {
                exchange.pipeline.copy_in_begins();
                Ok(Take::Pass)
            }
            backend::READY => self.ready(server, have, steps, heard),
            backend::PARAMETER_STATUS => self.parameter(server, &have[HEADER..]),
            backend::ERROR if have.len() < header.total.min(ERROR_READ_MAX) => Ok(Take::More),
            backend::ERROR => self.error_explained(server, header, have, steps, heard),
            tag => Err(FrameError::Tag(tag)),
        }
    }

    fn command_complete(&mut self, server: &mut Attached<'_>, tag: &[u8]) -> Result<Take, FrameError> {
        server.exchange.is_done(tag);
        match tag {
            b"BEGIN\0" | b"START TRANSACTION\0" => server.exchange.block_begins(),
            b"COMMIT\0" | b"ROLLBACK\0" | b"PREPARE TRANSACTION\0" => server.exchange.block_may_end(),
            _ => {}
        }
        self.done(server, tag);
        match tag {
            b"DEALLOCATE ALL\0" | b"DISCARD ALL\0" => {
                self.names.clear();
                server.exchange.session.shown.clear();
                server.statements.clear();
                self.redo(server);
            }
            b"ROLLBACK\0" => server.exchange.rolls_back(),
            b"COMMIT\0" => server.exchange.committed |= !server.exchange.rolled_back,
            b"SAVEPOINT\0" => server.exchange.savepoint = true,
            _ => {}
        }
        executed(server.exchange, backend::COMMAND_COMPLETE)
    }

    /// All statements are gone; what was sent behind that finds none of them, and makes its own.
    fn redo(&mut self, server: &mut Attached<'_>) {
        let Attached { exchange, statements, .. } = server;
        exchange.pipeline.revise(|owed| match owed {
            Owed::Prepare { what: prepared, .. } => {
                prepared.id.iter().for_each(|id| statements.insert(*id));
                if let Some((name, statement)) = &prepared.name {
                    self.names.insert(name.clone(), statement.clone());
                }
            }
            Owed::Close { what, .. } => {
                if let Some(Closed { id, was, .. }) = what.as_deref_mut() {
                    *id = id.filter(|id| statements.remove(*id));
                    *was = was.take().and_then(|(name, _)| self.names.remove(&name));
                }
                what.take_if(|what| what.id.is_none() && what.was.is_none() && what.there.is_none());
            }
            _ => {}
        });
    }

    fn ready(
        &mut self,
        server: &mut Attached<'_>,
        have: &[u8],
        steps: &mut Steps,
        heard: &mut Heard,
    ) -> Result<Take, FrameError> {
        let exchange = &mut *server.exchange;
        let status = have.get(HEADER).copied().and_then(Status::from_byte);
        let front = exchange.pipeline.front();
        let (Some(status), Some(Owed::Query { .. } | Owed::Function | Owed::Sync(_) | Owed::DoubtfulSync)) =
            (status, front)
        else {
            return Err(FrameError::Tag(backend::READY));
        };
        let owed = exchange.pipeline.pop();
        exchange.pipeline.status = status;
        exchange.spared.take_if(|_| matches!(owed, Some(Owed::Query { .. })));
        exchange.answered = false;
        exchange.block = if status == Status::Idle { Block::Outside } else { Block::Inside };
        exchange.pipeline.copying_in = false;
        self.settings_after(server, status, steps);
        self.session_ready(server, status == Status::Idle, steps);
        let exchange = &mut *server.exchange;
        if status == Status::Idle {
            exchange.before.clear();
            self.definitions_are_over(exchange);
        }
        match owed {
            Some(Owed::Sync(How::Swallow)) => {
                self.ours_ready(server);
                return Ok(Take::Drop);
            }
            Some(Owed::DoubtfulSync) if exchange.gate == (Gate::Doubting { skips: true }) => {
                exchange.gate = Gate::Doubting { skips: false };
            }
            _ => {}
        }
        if self.single_statements && status != Status::Idle {
            return Ok(Take::Refuse);
        }
        heard.ready += 1;
        exchange.done = Done::Nothing;
        if exchange.pipeline.is_answered() {
            self.settle(server);
            self.inquire(server, steps);
        }
        Ok(Take::Pass)
    }

    /// A Sync of ours is answered.
    fn ours_ready(&mut self, server: &mut Attached<'_>) {
        let exchange = &mut *server.exchange;
        match exchange.gate {
            Gate::Settling => exchange.gate = Gate::Open,
            Gate::SettlingFailed { skips: false } => return exchange.gate = Gate::Refusing,
            Gate::SettlingFailed { skips: true } => {
                exchange.gate = Gate::Open;
                exchange.pipeline.skipping = true;
            }
            Gate::Doubting { skips } if exchange.pipeline.is_answered() => {
                exchange.gate = Gate::Open;
                exchange.pipeline.skipping = skips;
            }
            _ => return,
        }
        if !exchange.pipeline.skipping {
            self.settle(server);
        }
    }

    fn error_explained(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
        heard: &mut Heard,
    ) -> Result<Take, FrameError> {
        let (body, whole) = (&have[HEADER..], have.len() == header.total);
        let of_numbers = whole && self.asked_number(server, body);
        let misnamed = if whole { self.misnamed(server.exchange, body) } else { None };
        let take = self.error(server, body, steps, heard)?;
        Ok(match (take, misnamed) {
            (Take::Pass, _) if of_numbers => explain(body, steps),
            (Take::Pass, Some(id)) => self.renamed(id, body, steps),
            (take, _) => take,
        })
    }

    fn error(
        &mut self,
        server: &mut Attached<'_>,
        body: &[u8],
        steps: &mut Steps,
        heard: &mut Heard,
    ) -> Result<Take, FrameError> {
        let fields = ErrorFields::parse(body);
        heard.error = Some(fields.code.unwrap_or(SqlState::INTERNAL));
        heard.fatal = matches!(fields.severity, Some(b"FATAL" | b"PANIC"));
        let exchange = &mut *server.exchange;
        match (heard.fatal, self.own_names) {
            // Its last words answer nothing, whatever it owes.
            (true, false) => return Ok(Take::Pass),
            (true, true) => {
                exchange.last_words = Some(last_words(&fields));
                return Ok(Take::End);
            }
            (false, _) => {}
        }
        let reruns = exchange.session.rerun.is_due();
        if exchange.pipeline.inquires() || (reruns && self.runs_again(server, heard, steps)) {
            return Ok(Take::Drop);
        }
        let exchange = &mut *server.exchange;
        if exchange.pipeline.in_doubt() {
            exchange.pipeline.drop_doubtful_front();
            give_answers(exchange, steps);
        }
        if exchange.is_lost_in_copy() {
            return Err(FrameError::Copy);
        }
        if exchange.gate == Gate::Failing {
            exchange.gate = Gate::Open;
        }
        exchange.pipeline.copying_in = false;
        exchange.rolled_back = true;
        exchange.answered = true;
        self.request_failed(server);
        let exchange = &mut *server.exchange;
        let mut dropped = None;
        let take = match exchange.pipeline.front() {
            // It would be the answer to what the client sends next, or the next client.
            None => return Err(FrameError::Tag(backend::ERROR)),
            Some(Owed::Function | Owed::Sync(_) | Owed::DoubtfulSync | Owed::Inquiry) => return Ok(Take::Pass),
            Some(Owed::Query { .. }) => {
                self.doubt(server.exchange, false, steps);
                return Ok(Take::Pass);
            }
            Some(Owed::Poison(error)) => {
                steps.to_client.own(|out| error.encode(out));
                Take::Drop
            }
            Some(_) => {
                dropped = self.front_fails(server, &fields, heard);
                Take::Pass
            }
        };
        self.skip_to_sync(server, steps);
        Ok(if dropped.is_some_and(|id| self.was_dropped(server, id, steps)) { Take::Drop } else { take })
    }

    /// A request of the extended protocol fails. Returns which statement of ours is said not to exist, if it is for that.
    fn front_fails(
        &mut self,
        server: &mut Attached<'_>,
        fields: &ErrorFields<'_>,
        heard: &mut Heard,
    ) -> Option<StatementId> {
        let owed = server.exchange.pipeline.front()?;
        if matches!(owed, Owed::Parse { how: How::Reply, .. }) {
            // PostgreSQL drops the one before it first.
            self.unnamed.forget();
        }
        let names = matches!(owed, Owed::Bind(How::Reply) | Owed::Describe) && self.own_names;
        if owed.is_prefix() {
            heard.setting_refused = refused(server.exchange, heard.error);
        }
        if names && heard.error == Some(SqlState::NOT_SUPPORTED) {
            // "Cached plan must not change result type": so it would be for as long as the server has it.
            server.statements.doubt();
        }
        let missing = names && heard.error == Some(SqlState::UNKNOWN_STATEMENT);
        if missing { fields.message.and_then(named_in) } else { None }
    }
}

/// Whether a setting of ours was refused for good. It may have been one that undoes what others have set: the next client is
/// to be spared that.
fn refused(exchange: &mut Exchange, error: Option<SqlState>) -> bool {
    let refused = error == Some(SqlState::INVALID_PARAMETER_VALUE)
        || (exchange.session.assigning.is_some() && error.is_some_and(is_refusal));
    if refused {
        doubts(exchange, Doubt::Setting);
    }
    refused
}

/// Whether a setting would be refused the next time, too: its value, its name, or who may set it.
fn is_refusal(code: SqlState) -> bool {
    matches!(&code.0[..2], b"22" | b"42" | b"28" | b"0L" | b"0P")
}

fn last_words(fields: &ErrorFields<'_>) -> Box<str> {
    let text = |field: Option<&[u8]>| String::from_utf8_lossy(field.unwrap_or(b"?")).into_owned();
    let code = fields.code.as_ref().map_or("?????", SqlState::as_str);
    format!("{} {code}: {}", text(fields.severity), text(fields.message)).into()
}

/// Whether such a message belongs to a request's reply, and is not its end.
fn tells_of_request(tag: u8) -> bool {
    use backend::{NOTICE, NOTIFICATION, PARAMETER_STATUS, READY};
    !matches!(tag, NOTICE | NOTIFICATION | PARAMETER_STATUS | READY)
}

/// A reply in its turn: passes, or is swallowed.
/// All of a message is needed: it is awaited, unless it is longer than what a server has a reason to send.
fn more_of(header: Header) -> Result<Take, FrameError> {
    if header.total > KEPT_MAX { Err(FrameError::Body(header.tag)) } else { Ok(Take::More) }
}

pub(super) fn reply(
    exchange: &mut Exchange,
    tag: u8,
    how: impl FnOnce(&Owed) -> Option<How>,
) -> Result<Take, FrameError> {
    let how = exchange.pipeline.pop_if(how).ok_or(FrameError::Tag(tag))?;
    Ok(if how == How::Swallow { Take::Drop } else { Take::Pass })
}

/// The end of a command: of an Execute it is the reply, of a Query only a part.
fn executed(exchange: &mut Exchange, tag: u8) -> Result<Take, FrameError> {
    exchange.pipeline.copying_in = false;
    if exchange.pipeline.in_doubt() {
        exchange.pipeline.drop_doubtful();
    }
    match exchange.pipeline.front() {
        Some(Owed::Query { .. }) => Ok(Take::Pass),
        Some(Owed::Execute { how: How::Swallow, deeds: Some(_), .. }) => {
            exchange.session.numbers.discarded();
            exchange.pipeline.pop();
            Ok(Take::Drop)
        }
        Some(Owed::Execute { how: How::Swallow, .. }) => {
            exchange.changed = true;
            exchange.rolled_back = false;
            exchange.pipeline.pop();
            // If one of the others fails, this is undone, too.
            if let (Some(there), Some(assigning)) = (&mut exchange.session.there, &exchange.session.assigning) {
                there.becomes(assigning);
            }
            Ok(Take::Drop)
        }
        _ => reply(exchange, tag, |owed| match owed {
            Owed::Execute { how, .. } => Some(*how),
            _ => None,
        }),
    }
}

/// Passes on, or drops, what follows of a frame under way; returns how many bytes.
fn go_on(exchange: &mut Exchange, input: &[u8], steps: &mut Steps) -> usize {
    let taken = exchange.run.take(input.len());
    if exchange.run.forward {
        steps.to_client.pass(0..taken);
    }
    give_answers(exchange, steps);
    taken
}

#[inline]
fn give_answers(exchange: &mut Exchange, steps: &mut Steps) {
    // The frame before it must have passed whole, or the answer would land in its middle.
    if exchange.pipeline.owes_answers() && exchange.run.left == 0 {
        give_some(exchange, steps);
    }
}

fn give_some(exchange: &mut Exchange, steps: &mut Steps) {
    while let Some(owed) = exchange.pipeline.pop_answer() {
        write_answer(&owed, steps);
    }
}
