//! Statements of SQL's PREPARE and those of the protocol have their names in one place, as PostgreSQL has it. The protocol's
//! are ours on servers: before SQL names one (DEALLOCATE, EXECUTE), it is prepared under the client's own name as well.
//! SQL's are on the one server that their client keeps, where the protocol finds them as they are.

use super::Stop;
use super::exchange::Exchange;
use super::machine::{Attached, Relay, Take};
use super::pipeline::{Closed, How, Owed, Prepared, Status};
use super::portals::Does;
use super::prepared::{SERVER_NAME, put_frame};
use super::requests::statements_unsure;
use super::steps::Steps;
use super::tracking::{doubts, unclear_deeds};
use super::words::Effect;
use crate::sql::deeds::{Deed, Doubt, Name, What};
use crate::wire::tag::frontend;

/// A statement of the protocol that is on the server under its client's name for it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    name: Name,
    /// It is to be that statement, for it is executed. Else only the name is taken, or to be dropped: what stands for it has
    /// no text, which is read in no time, and whatever has become of its tables.
    whole: bool,
    /// Which of the two the server has, if anything.
    there: Option<bool>,
}

/// Such a statement on its way: its name, and whether it is that statement.
pub(super) type Shows = (Name, bool);

/// A definition without a text. Its parameter is of a type that no value has: EXECUTE of it fails, whatever is given.
const EMPTY: &[u8] = &[0, 0, 1, 0, 0, 0, 0];

impl Relay {
    /// SQL has given this name to a statement on the client's server.
    #[inline]
    pub(super) fn is_of_sql(&self, name: &[u8]) -> bool {
        self.own.as_deref().is_some_and(|own| own.names_of(What::Statement).any(|known| known == name))
    }

    /// The same, and the protocol has not.
    #[inline]
    pub(super) fn is_only_of_sql(&self, name: &[u8]) -> bool {
        self.is_of_sql(name) && self.names.get(name).is_none()
    }

    /// Before statements that do this: what they name is on the server. Returns whether they may go on now: in a failed
    /// transaction nothing can be prepared.
    #[must_use]
    pub(super) fn before_names<'d>(
        &mut self,
        server: &mut Attached<'_>,
        deeds: impl Iterator<Item = &'d Deed>,
        steps: &mut Steps,
    ) -> bool {
        // A Close that is under way may be skipped: then there is one still.
        let none = self.names.is_empty() && !server.exchange.pipeline.statements_unsure();
        if none || !(self.tracks && self.own_names) {
            return true;
        }
        for deed in deeds {
            let (name, whole) = match deed {
                Deed::Lets(What::Statement, Some(name)) | Deed::Holds(What::Statement, name) => (name, false),
                Deed::Executes(name) => (name, true),
                _ => continue,
            };
            if statements_unsure(server.exchange, steps) || !self.shows(server, name, whole, steps) {
                return false;
            }
        }
        true
    }

    /// Whether EXECUTE of this name has a statement of the protocol prepared under it.
    pub(super) fn shows_whole(&self, name: &[u8]) -> bool {
        self.tracks
            && self.own_names
            && self.names.has_taken(name)
            && self.names.get(name).is_some_and(|statement| statement.word().is_planned())
    }

    fn shows(&mut self, server: &mut Attached<'_>, name: &Name, whole: bool, steps: &mut Steps) -> bool {
        // By a name like ours another client's statement may be known there.
        let showable = self.names.has_taken(name) && !name.starts_with(SERVER_NAME);
        let Some(statement) = self.names.get(name).filter(|_| showable).cloned() else { return true };
        let exchange = &mut *server.exchange;
        let known = exchange.session.shown.iter().position(|shown| shown.name == *name);
        // What is to be executed still must be what it is.
        let whole = whole || known.is_some_and(|at| exchange.session.shown[at].whole);
        if known.is_some_and(|at| exchange.session.shown[at].there == Some(whole)) {
            return true;
        }
        if exchange.pipeline.owes_ready() {
            return false;
        }
        // Nothing can be parsed there but what has no text.
        if whole && exchange.pipeline.status == Status::Failed {
            return true;
        }
        if whole && !statement.word().is_planned() {
            // EXECUTE runs utilities of the protocol, too: what these do is not followed through it.
            if let Some(at) = known {
                let was = exchange.session.shown.remove(at);
                close_name(exchange, name, Some(was), steps);
            }
            return true;
        }
        if whole && self.may_be_tied(exchange, What::Statement).is_err() {
            // It is refused where it would be executed.
            return true;
        }
        if whole {
            self.redefines(exchange, statement.redefines());
            if statement.deeds().is_some() {
                doubts(exchange, Doubt::Code);
            }
        }
        let definition = if whole { statement.definition() } else { EMPTY };
        let was = known.map(|at| exchange.session.shown.remove(at));
        close_name(exchange, name, was, steps);
        steps.to_server.own(|out| put_frame(out, frontend::PARSE, &[name, b"\0", definition]));
        exchange.counts.server_parses += 1;
        exchange.session.shown.push(Shown { name: name.clone(), whole, there: None });
        let what = Box::new(Prepared { id: None, name: None, shows: Some((name.clone(), whole)) });
        exchange.pipeline.push(Owed::Prepare { how: How::Swallow, what });
        true
    }

    /// A ParseComplete: what it may be of is there.
    pub(super) fn is_shown(&mut self, server: &mut Attached<'_>) {
        let Some(Owed::Prepare { what, .. }) = server.exchange.pipeline.front_mut() else { return };
        let Some((name, whole)) = what.shows.take() else { return };
        let exchange = &mut *server.exchange;
        // A Close may be under way, which may be skipped.
        let mut closes = exchange.pipeline.iter_mut().filter_map(Owed::there_mut);
        if let Some(there) = closes.find(|there| there.shown.as_ref().is_some_and(|shown| shown.name == name)) {
            there.shown.iter_mut().for_each(|shown| shown.there = Some(whole));
            there.tie = there.tie.take().or_else(|| whole.then_some(name));
            return;
        }
        drop(closes);
        let Some(shown) = exchange.session.shown.iter_mut().find(|shown| shown.name == name) else { return };
        shown.there = Some(whole);
        if whole {
            self.does(server, &[Deed::Holds(What::Statement, name)]);
        }
    }

    /// One on its way was refused or skipped: under its name there is what was there before, if that was not closed.
    pub(super) fn not_shown(exchange: &mut Exchange, name: &Name) {
        exchange.session.shown.retain(|shown| shown.name != *name || shown.there.is_some());
    }

    /// DEALLOCATE has come to its end, of one statement; that of all is told by its tag.
    pub(super) fn deallocated(&mut self, exchange: &mut Exchange, name: &Name) {
        self.names.remove(name);
        exchange.session.shown.retain(|shown| shown.name != *name);
    }

    /// Binds a portal to a statement of SQL's, as the client says it. What that does was not kept.
    pub(super) fn bind_of_sql(&mut self, server: &mut Attached<'_>, portal: &[u8], steps: &mut Steps) -> Take {
        if !self.asks_sql(server, steps) {
            return Take::Stop(Stop::Hold);
        }
        let does = Does { effect: Effect::Plain, ..Does::anything() };
        server.exchange.binds(portal, does);
        server.exchange.counts.binds += 1;
        server.exchange.pipeline.push(Owed::Bind(How::Reply));
        Take::Forward
    }

    /// Describes such a statement.
    pub(super) fn describe_of_sql(&mut self, server: &mut Attached<'_>, steps: &mut Steps) -> Take {
        if !self.asks_sql(server, steps) {
            return Take::Stop(Stop::Hold);
        }
        server.exchange.pipeline.push(Owed::Describe);
        Take::Forward
    }

    /// Returns whether a request for one may go on now.
    fn asks_sql(&mut self, server: &mut Attached<'_>, steps: &mut Steps) -> bool {
        // Only what is planned can be prepared so.
        server.exchange.asks(|_| true);
        self.begin(server, server.exchange.vetted, steps) && self.before_code(server, Some(&unclear_deeds()), steps)
    }

    /// A Close of a name by which something is on the server: it goes there.
    pub(super) fn close_there(&mut self, exchange: &mut Exchange, name: &[u8]) -> Option<Take> {
        let of_sql = self.is_of_sql(name);
        let shown = exchange.session.shown.iter().position(|shown| *shown.name == *name);
        if !of_sql && shown.is_none() {
            return None;
        }
        let shown = shown.map(|at| exchange.session.shown.remove(at));
        self.sessions(exchange, |session| session.lets(What::Statement, Some(name)));
        let was = self.names.remove(name);
        let there = Some(There { tie: of_sql.then(|| name.into()), shown });
        exchange.asks(|_| true);
        let what = Some(Box::new(Closed { id: None, was, there }));
        exchange.pipeline.push(Owed::Close { how: How::Reply, what });
        Some(Take::Forward)
    }

    /// Such a Close was skipped.
    pub(super) fn not_closed(&mut self, server: &mut Attached<'_>, there: There) {
        server.exchange.session.shown.extend(there.shown);
        if let Some(name) = there.tie {
            self.does(server, &[Deed::Holds(What::Statement, name)]);
        }
    }
}

/// Closes what may be there under a name, and surely is if it `was` noted.
fn close_name(exchange: &mut Exchange, name: &[u8], was: Option<Shown>, steps: &mut Steps) {
    steps.to_server.own(|out| put_frame(out, frontend::CLOSE, &[b"S", name, b"\0"]));
    let there = was.map(|was| There { tie: None, shown: Some(was) });
    let what = there.map(|there| Box::new(Closed { id: None, was: None, there: Some(there) }));
    exchange.pipeline.push(Owed::Close { how: How::Swallow, what });
}

impl Owed {
    /// What a Close closes that is there under the client's name for it.
    fn there_mut(&mut self) -> Option<&mut There> {
        match self {
            Self::Close { what: Some(closed), .. } => closed.there.as_mut(),
            _ => None,
        }
    }
}

/// What a server had under the client's own name for it.
#[derive(Debug)]
pub struct There {
    /// The client keeps the server for it.
    tie: Option<Name>,
    shown: Option<Shown>,
}

/// The names that are there.
pub(super) fn to_drop(shown: &[Shown]) -> impl Iterator<Item = &[u8]> {
    shown.iter().filter(|shown| shown.there.is_some()).map(|shown| &*shown.name)
}

/// Whether it takes a name of a statement, or gives one back.
pub(super) fn is_of_names(deed: &Deed) -> bool {
    matches!(deed, Deed::Holds(What::Statement, _) | Deed::Lets(What::Statement, _))
}
