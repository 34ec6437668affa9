//! A question of our own: whether what ties a client to its server is there, and what a setting is, where its statements
//! don't tell. CREATE may have made something temporary by the `search_path` alone, DROP may have dropped the last of that,
//! an unlock may have released the last lock, code may have done any of that, or set something. The client does not wait
//! for it, unless its next message comes before the answer.

use smallvec::SmallVec;

use super::backend::Take;
use super::exchange::Exchange;
use super::machine::{Attached, Relay};
use super::own::{Own, ROLE, SETTINGS_MAX};
use super::pipeline::{Owed, Status};
use super::prepared::put_frame;
use super::steps::Steps;
use super::tracking::{READ_MAX, doubts};
use crate::server::simple;
use crate::sql::deeds::{Deed, Doubt, Name, What};
use crate::wire::frame::{FrameError, HEADER, Header};
use crate::wire::tag::{backend, frontend};

/// Asks one after the other; `SELECT 0` answers that nothing of the kind is there. Whatever DISCARD TEMP discards depends
/// on the schema. No `search_path` of the client's makes another question of it.
const QUESTIONS: [(What, &str); 2] = [
    (
        What::Temporary,
        "SELECT FROM pg_catalog.pg_depend WHERE refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
         AND refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass LIMIT 1",
    ),
    (
        What::Lock,
        "SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1",
    ),
];

/// What may be there, or gone, as far as only the server knows.
#[derive(Debug, Default)]
pub struct Perhaps {
    /// Something of these kinds may be there.
    there: SmallVec<[What; 2]>,
    /// Of these something may be gone that ties the client to the server.
    gone: SmallVec<[What; 1]>,
    /// These may have other values.
    set: SmallVec<[Name; 1]>,
}

impl Perhaps {
    /// A statement may do this, or has come to its end that does.
    pub(super) fn does(&mut self, deed: &Deed) {
        match deed {
            Deed::MayBeTemporary => add(&mut self.there, &What::Temporary),
            Deed::MayLet(what) => add(&mut self.gone, what),
            Deed::MayHold(what) => {
                add(&mut self.there, what);
                add(&mut self.gone, what);
            }
            Deed::MaySet(name) => add(&mut self.set, name),
            _ => {}
        }
    }

    /// Whether the next client might find something, if nobody asks.
    pub(super) fn leaves_something(&self) -> bool {
        !self.there.is_empty() || self.sets()
    }

    /// Whether a setting may have another value.
    pub(super) fn sets(&self) -> bool {
        !self.set.is_empty()
    }

    /// What may be there.
    pub(super) fn there(&self) -> impl Iterator<Item = What> {
        self.there.iter().copied()
    }

    /// Nothing is.
    pub(super) fn clear(&mut self) {
        self.there.clear();
        self.gone.clear();
        self.set.clear();
    }
}

fn add<T: PartialEq + Clone, A: smallvec::Array<Item = T>>(all: &mut SmallVec<A>, one: &T) {
    if !all.contains(one) {
        all.push(one.clone());
    }
}

/// What a server is asked.
#[derive(Debug)]
pub(super) enum Asked {
    /// Whether something of this kind is there.
    Is(What),
    /// What is set in the session of these, which are PostgreSQL's own.
    Listed,
    /// The values of these, which no view tells of.
    Values(Box<[Name]>),
    /// What they would be without: with these values.
    Defaults(Box<[Name]>, simple::Row),
}

/// One row for each of these that the client may see.
const LISTED: &str = "SELECT name, pg_catalog.current_setting(name), source, context FROM pg_catalog.pg_settings \
     WHERE name OPERATOR(pg_catalog.=) ANY ('{$NAMES}'::pg_catalog.text[])";

/// A setting that one of PostgreSQL's views tells of. (`role` is not among them.)
fn is_listed(name: &Name) -> bool {
    !name.contains(&b'.') && **name != *ROLE.as_bytes()
}

/// Adds what is asked about settings.
fn ask_settings(names: &[Name], asked: &mut SmallVec<[Asked; 2]>, text: &mut String) {
    let (listed, others): (Vec<_>, Vec<_>) = names.iter().cloned().partition(is_listed);
    let word = |name: &Name| String::from_utf8_lossy(name).into_owned();
    if !listed.is_empty() {
        asked.push(Asked::Listed);
        text.push_str(&LISTED.replace("$NAMES", &listed.iter().map(word).collect::<Vec<_>>().join(",")));
        text.push_str("; ");
    }
    if !others.is_empty() {
        let values = others.iter().map(|name| format!("pg_catalog.current_setting('{}', true)", word(name)));
        let values = values.collect::<Vec<_>>().join(", ");
        text.push_str(&format!("SELECT {values}; "));
        for name in &others {
            text.push_str(&format!("RESET \"{}\"; ", word(name).replace('.', "\".\"")));
        }
        text.push_str(&format!("SELECT {values}; "));
        asked.push(Asked::Values(others.into()));
    }
}

/// Whatever the client's transactions begin with: a question waits for no other transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; ";

impl Relay {
    /// Asks, if the server is idle and owes nothing, and something may be there or gone that ties the client to it, or may be
    /// set.
    pub(super) fn inquire(&mut self, server: &mut Attached<'_>, steps: &mut Steps) {
        let exchange = &mut *server.exchange;
        let perhaps = &mut exchange.session.perhaps;
        if (perhaps.gone.is_empty() && !perhaps.leaves_something()) || !exchange.pipeline.settled() {
            return;
        }
        let gone = std::mem::take(&mut perhaps.gone);
        let ties = |what: &What| self.ties().any(|tie| tie == *what);
        // Where there is something already, whatever was made goes with it.
        perhaps.there.retain(|what| !ties(what));
        let asks = |what: &What| if ties(what) { gone.contains(what) } else { perhaps.there.contains(what) };
        // Of those that it reports the server has told us.
        let is_reported = |name: &Name| str::from_utf8(name).is_ok_and(|name| self.params.get(name).is_some());
        perhaps.set.retain(|name| !is_reported(name));
        let (mut asked, mut text) = (SmallVec::new(), BEGIN.to_owned());
        for (what, question) in QUESTIONS.iter().filter(|(what, _)| asks(what)) {
            asked.push(Asked::Is(*what));
            text.push_str(question);
            text.push_str("; ");
        }
        // Of what may be refused the other answers are there by then.
        ask_settings(&perhaps.set, &mut asked, &mut text);
        if asked.is_empty() {
            return;
        }
        text.push_str(ROLLBACK);
        asked.reverse();
        exchange.session.asking = asked;
        // It drops the unnamed statement.
        if std::mem::replace(&mut exchange.has_unnamed, false) {
            self.unnamed.keep(&exchange.unnamed);
        }
        ask(exchange, &text, steps);
    }

    /// The server's answer to a question of ours goes nowhere. `None`: it is no part of the answer.
    pub(super) fn hear_inquiry(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
        steps: &mut Steps,
    ) -> Result<Option<Take>, FrameError> {
        let whole = have.len() == header.total;
        match header.tag {
            backend::NOTICE | backend::NOTIFICATION | backend::PARAMETER_STATUS | backend::ERROR => Ok(None),
            backend::COMMAND_COMPLETE | backend::READY if !whole => Ok(Some(Take::More)),
            backend::DATA_ROW if !matches!(server.exchange.session.asking.last(), Some(Asked::Is(_)) | None) => {
                if !whole && header.total <= READ_MAX {
                    return Ok(Some(Take::More));
                }
                // A longer answer is not read.
                let row = simple::row(&have[HEADER..]).filter(|_| header.total <= READ_MAX);
                self.hear_values(server, row);
                Ok(Some(Take::Drop))
            }
            backend::COMMAND_COMPLETE => {
                self.hear_end(server, &have[HEADER..]);
                Ok(Some(Take::Drop))
            }
            backend::READY => {
                let status = have.get(HEADER).copied().and_then(Status::from_byte);
                answered(server.exchange);
                match status {
                    Some(Status::Idle) => {}
                    // It was refused, or took too long: what it did not answer is undone when the client gives it back.
                    Some(Status::Failed) => ask(server.exchange, ROLLBACK, steps),
                    _ => return Err(FrameError::Tag(backend::READY)),
                }
                Ok(Some(Take::Drop))
            }
            _ => Ok(Some(Take::Drop)),
        }
    }

    /// A row of the answer about settings; `None`: it was not read.
    fn hear_values(&mut self, server: &mut Attached<'_>, row: Option<simple::Row>) {
        let asking = &mut server.exchange.session.asking;
        match (asking.pop(), row) {
            // What is not asked any more is undone.
            (_, None) => asking.clear(),
            (Some(Asked::Listed), Some(row)) => {
                asking.push(Asked::Listed);
                self.hear_listed(server, &row);
            }
            (Some(Asked::Values(names)), Some(row)) => asking.push(Asked::Defaults(names, row)),
            (Some(Asked::Defaults(names, values)), Some(defaults)) => {
                for ((name, value), default) in names.iter().zip(values).zip(defaults) {
                    let Ok(text) = str::from_utf8(name) else { continue };
                    let same = there(server, text) == value.as_deref();
                    self.is_set(server, text, value.as_deref().filter(|_| same || value != default));
                    server.exchange.session.perhaps.set.retain(|asked| asked != name);
                }
            }
            (_, Some(_)) => {}
        }
    }

    /// A part of the question has come to its end, with this tag.
    fn hear_end(&mut self, server: &mut Attached<'_>, tag: &[u8]) {
        let session = &mut server.exchange.session;
        if !tag.starts_with(b"SELECT ") {
            return;
        }
        match session.asking.last() {
            Some(&Asked::Is(what)) => {
                session.asking.pop();
                session.perhaps.there.retain(|there| *there != what);
                self.has(what, tag != b"SELECT 0\0");
            }
            Some(Asked::Listed) => {
                session.asking.pop();
                // What is not among them is no setting of this server's.
                session.perhaps.set.retain(|name| !is_listed(name));
            }
            _ => {}
        }
    }

    /// Something of this kind is there, or nothing is.
    fn has(&mut self, what: What, there: bool) {
        if there {
            self.own_session();
        }
        self.own.iter_mut().for_each(|own| own.has(what, there));
    }

    /// A setting's name, value, source and context.
    fn hear_listed(&mut self, server: &mut Attached<'_>, row: &[Option<Box<[u8]>>]) {
        let [Some(name), value, Some(source), Some(context)] = row else { return };
        let Ok(name) = str::from_utf8(name) else { return };
        let value = value.as_deref().filter(|_| **source == *b"session");
        if value.is_some() && **context != *b"user" && there(server, name) != value {
            // Not everybody may set it, nor RESET it by itself.
            return doubts(server.exchange, Doubt::Setting);
        }
        self.is_set(server, name, value);
    }

    /// A setting has this value on the server, or its default there.
    fn is_set(&mut self, server: &mut Attached<'_>, name: &str, value: Option<&[u8]>) {
        if there(server, name) == value {
            return;
        }
        if self.own_session().bytes_with(value.map(|value| (name.as_bytes(), value)).into_iter()) > SETTINGS_MAX {
            // It is not followed.
            return doubts(server.exchange, Doubt::Setting);
        }
        self.leaves_settings(server.exchange);
        let assigned = server.assigned.as_ref();
        server.exchange.session.there.get_or_insert_with(|| Box::new(Own::of_server(assigned)));
        self.sessions(server.exchange, |session| session.is_set(name, value));
        self.keep_assigned(server);
    }
}

/// What a server's setting is that was given to it; `None`: its default.
fn there<'a>(server: &'a Attached<'_>, name: &str) -> Option<&'a [u8]> {
    server.assigned.as_ref().and_then(|assigned| assigned.get(name))
}

const ROLLBACK: &str = "ROLLBACK";

fn ask(exchange: &mut Exchange, text: &str, steps: &mut Steps) {
    steps.to_server.own(|out| put_frame(out, frontend::QUERY, &[text.as_bytes(), b"\0"]));
    exchange.pipeline.push(Owed::Inquiry);
}

fn answered(exchange: &mut Exchange) {
    exchange.pipeline.pop();
    let session = &mut exchange.session;
    for asked in session.asking.drain(..) {
        // What was not answered is asked again behind the next transaction.
        if let Asked::Is(what) = asked {
            add(&mut session.perhaps.gone, &what);
        }
    }
}
