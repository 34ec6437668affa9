//! A question of our own: whether what ties a client to its server is there, and what a setting is, where its statements
//! don't tell. CREATE may have made something temporary by the `search_path` alone, DROP may have dropped the last of that,
//! an unlock may have released the last lock, code may have done any of that, or set something. The client does not wait
//! for it, unless its next message comes before the answer.

use smallvec::SmallVec;

use super::backend::Take;
use super::channels::SETTINGS_MAX;
use super::exchange::Exchange;
use super::machine::{Attached, Relay};
use super::own::{Own, ROLE};
use super::pipeline::{Owed, Status};
use super::prepared::put_frame;
use super::steps::Steps;
use super::tracking::{READ_MAX, doubts};
use crate::config::model::Listen;
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
    /// What values these have.
    Settings(Box<[Name]>),
}

impl Asked {
    fn question(&self) -> String {
        match self {
            Self::Is(asked) => {
                QUESTIONS.iter().find(|(what, _)| what == asked).map_or("SELECT", |(_, text)| text).to_owned()
            }
            Self::Settings(names) => {
                let value =
                    |name: &Name| format!("pg_catalog.current_setting('{}', true)", String::from_utf8_lossy(name));
                format!("SELECT {}", names.iter().map(value).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

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
        let kinds = QUESTIONS.iter().map(|(what, _)| *what).filter(asks);
        // Of those that it reports the server has told us.
        let is_reported = |name: &Name| str::from_utf8(name).is_ok_and(|name| self.params.get(name).is_some());
        perhaps.set.retain(|name| !is_reported(name));
        let settings = (!perhaps.set.is_empty()).then(|| Asked::Settings(perhaps.set.to_vec().into()));
        // Who may not see a setting is refused: the other answers are there by then.
        let asked: SmallVec<[Asked; 2]> = kinds.map(Asked::Is).chain(settings).collect();
        if asked.is_empty() {
            return;
        }
        let text = asked.iter().map(Asked::question).collect::<Vec<_>>().join("; ");
        // It drops the unnamed statement.
        if std::mem::replace(&mut exchange.has_unnamed, false) {
            self.unnamed.keep(&exchange.unnamed);
        }
        steps.to_server.own(|out| put_frame(out, frontend::QUERY, &[text.as_bytes(), b"\0"]));
        exchange.pipeline.push(Owed::Inquiry);
        exchange.session.asking = asked.into_iter().rev().collect();
    }

    /// The server's answer to a question of ours goes nowhere. `None`: it is no part of the answer.
    pub(super) fn hear_inquiry(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
    ) -> Result<Option<Take>, FrameError> {
        let whole = have.len() == header.total;
        match header.tag {
            backend::NOTICE | backend::NOTIFICATION | backend::PARAMETER_STATUS | backend::ERROR => Ok(None),
            backend::COMMAND_COMPLETE | backend::READY if !whole => Ok(Some(Take::More)),
            backend::DATA_ROW if matches!(server.exchange.session.asking.last(), Some(Asked::Settings(_))) => {
                // A longer answer is not read.
                let reads = header.total <= READ_MAX;
                if !whole && reads {
                    return Ok(Some(Take::More));
                }
                if let Some(Asked::Settings(names)) = server.exchange.session.asking.pop()
                    && let Some(values) = simple::row(&have[HEADER..]).filter(|_| reads)
                {
                    server.exchange.session.perhaps.set.clear();
                    self.are_set(server, &names, &values);
                }
                Ok(Some(Take::Drop))
            }
            backend::COMMAND_COMPLETE => {
                if let Some(Asked::Is(what)) = server.exchange.session.asking.pop() {
                    server.exchange.session.perhaps.there.retain(|there| *there != what);
                    self.has(what, have[HEADER..] != *b"SELECT 0\0");
                }
                Ok(Some(Take::Drop))
            }
            backend::READY => {
                if have.get(HEADER).copied().and_then(Status::from_byte) != Some(Status::Idle) {
                    return Err(FrameError::Tag(backend::READY));
                }
                answered(server.exchange);
                Ok(Some(Take::Drop))
            }
            _ => Ok(Some(Take::Drop)),
        }
    }

    /// Something of this kind is there, or nothing is.
    fn has(&mut self, what: What, there: bool) {
        if there {
            self.own.get_or_insert_default().shares_channels = self.listen == Listen::Shared;
        }
        self.own.iter_mut().for_each(|own| own.has(what, there));
    }

    /// These settings have these values.
    fn are_set(&mut self, server: &mut Attached<'_>, names: &[Name], values: &[Option<Box<[u8]>>]) {
        let assigned = server.assigned.as_ref();
        for (name, value) in names.iter().zip(values) {
            let Ok(name) = str::from_utf8(name) else { continue };
            let there = server.exchange.session.there.get_or_insert_with(|| Box::new(Own::of_server(assigned)));
            let (was, value) = (there.settings().get(name), value.as_deref());
            let value = value.filter(|value| name != ROLE || *value != b"none");
            // A setting of that name was there once, and is not any more.
            let value = value.filter(|value| !value.is_empty() || !name.contains('.') || was.is_some());
            if was == value {
                continue;
            }
            let own = self.own.get_or_insert_default();
            own.shares_channels = self.listen == Listen::Shared;
            if own.bytes_with(value.map(|value| (name.as_bytes(), value)).into_iter()) > SETTINGS_MAX {
                // It is not followed.
                doubts(server.exchange, Doubt::Setting);
            } else {
                self.sessions(server.exchange, |session| session.is_set(name, value));
            }
        }
        self.keep_assigned(server);
    }
}

fn answered(exchange: &mut Exchange) {
    exchange.pipeline.pop();
    exchange.session.asking.clear();
}
