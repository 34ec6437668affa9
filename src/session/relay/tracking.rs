//! What the statements of a client do to its session, followed from their text to their end.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Stop;
use super::ending::until_nul;
use super::exchange::Exchange;
use super::machine::{Attached, Relay, Take};
use super::own::{Own, outlasts_reset, outlasts_rollback};
use super::pipeline::Owed;
use super::prefix::settles_apart;
use super::prepared::Statement;
use super::running::Running;
use super::settings::has_hasty_timeout;
use super::steps::Steps;
use super::table::{Reading, is_read_by};
use super::undo::Undo;
use super::words::{Redefines, Said, first_word};
use crate::config::model::Listen;
use crate::sql::deeds::{self, Deed, Deeds, Doubt, What};
use crate::sql::{Catalog, Dialect, Encoding, says_always_the_same};
use crate::wire::frame::HEADER;
use crate::wire::params::ParamSet;
use crate::wire::tag::backend;

/// A text of so many bytes is waited for; of a longer one it is unknown what its end does.
pub(super) const READ_MAX: usize = 256 * 1024;

/// lo_open and its like, as `pg_proc.dat` numbers them.
const LARGE_OBJECTS: [u32; 14] = [715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171];

/// `currval()` and `lastval()`.
const ASK_NUMBER: [u32; 2] = [1575, 2559];

impl Relay {
    /// What makes the client's server fit for the next one, and ends what ties the client to it.
    pub fn undo(&mut self, exchange: &mut Exchange) -> Undo {
        let listens = exchange.session.listens;
        if exchange.session.leaves_nothing() && !self.is_tied() {
            return Undo::Nothing;
        }
        let undo = match exchange.session.is_spent {
            true => Undo::Close,
            false => {
                let session = &exchange.session;
                Undo::of(self.own.as_deref(), &session.doubts, &session.perhaps, listens, &session.shown)
            }
        };
        if let Some(own) = &mut self.own {
            own.unties();
        }
        undo
    }

    /// Another client's server is not to be hit by a timeout of this one's.
    pub(super) fn leaves_no_timeout(&self, exchange: &mut Exchange) {
        if self.tracks && self.own_settings().is_some_and(has_hasty_timeout) {
            doubts(exchange, Doubt::Setting);
        }
    }

    /// The client's session as its statements have made it, of one that has nothing of that yet, too.
    pub(super) fn own_session(&mut self) -> &mut Own {
        let own = self.own.get_or_insert_default();
        own.shares_channels = self.listen == Listen::Shared;
        own
    }

    /// The settings of the client's that no server reports; `None` where it has none.
    pub(super) fn own_settings(&self) -> Option<&ParamSet> {
        self.own.as_deref().map(Own::settings).filter(|settings| !settings.is_empty())
    }

    /// Whether the client must keep its server.
    pub fn is_tied(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_tied())
    }

    /// Why it must.
    pub fn ties(&self) -> impl Iterator<Item = What> {
        self.own.iter().flat_map(|own| own.ties())
    }

    /// Whether a text has to wait because what is owed may change what it says: a backslash escapes or does not, a byte
    /// beyond ASCII is a half or a whole. The server reports its settings with ReadyForQuery: behind what has no Sync yet
    /// nothing is known by waiting.
    #[inline]
    pub(super) fn is_unsure(&self, exchange: &Exchange, text: &[u8]) -> bool {
        exchange.pipeline.owes_ready()
            && self.may_read_otherwise(exchange)
            && (self.tracks || self.own_names)
            && !says_always_the_same(until_nul(text))
    }

    /// What was set in the transaction is undone if that fails.
    fn may_read_otherwise(&self, exchange: &Exchange) -> bool {
        exchange.pipeline.may_set() || (!exchange.before.is_empty() && exchange.pipeline.owes_ready())
    }

    /// By what a text is read that is sent now.
    pub(super) fn dialect_now(&self, exchange: &Exchange) -> Dialect {
        let encoding = if self.may_read_otherwise(exchange) { Encoding::Unsure } else { self.dialect.encoding };
        Dialect { encoding, ..self.dialect }
    }

    /// What the statements of a Query do to the session; `cut` says that more of it is to come.
    pub(super) fn reads(&self, exchange: &mut Exchange, text: &[u8], cut: bool) -> Option<Box<Running>> {
        if !(self.tracks || self.own_names) {
            return None;
        }
        exchange.defining |= cut;
        let dialect = self.dialect_now(exchange);
        let statements = match cut {
            true => [unclear_deeds()].into(),
            false if self.tracks => self.functions.read(exchange, text, dialect)?,
            false => read(text, dialect)?,
        };
        Some(Box::new(Running::new(statements)))
    }

    /// The same of the statement of a Parse.
    pub(super) fn reads_statement(&self, exchange: &mut Exchange, text: &[u8], cut: bool) -> Option<Arc<Deeds>> {
        if !(self.tracks || self.own_names) {
            return None;
        }
        exchange.defining |= cut;
        let dialect = self.dialect_now(exchange);
        match cut {
            true => Some(Arc::new(unclear_deeds())),
            false if self.tracks => self.functions.read_one(exchange, text, dialect),
            false => statement_deeds(until_nul(text), dialect),
        }
    }

    /// A FunctionCall: only those of large objects are known to leave nothing behind.
    pub(super) fn function_call(&mut self, server: &mut Attached<'_>, frame: &[u8], steps: &mut Steps) -> Take {
        let oid = frame.get(HEADER..HEADER + 4).and_then(|oid| oid.try_into().ok()).map_or(0, u32::from_be_bytes);
        let mut deeds = Deeds::new();
        if self.tracks && !LARGE_OBJECTS.contains(&oid) {
            deeds.push(Deed::Unclear(Doubt::Code));
            server.exchange.may_define = true;
        }
        if ASK_NUMBER.contains(&oid) {
            deeds.push(Deed::AsksNumber);
        }
        let said = Said::One(first_word(b"select"));
        server.exchange.asks(|in_block| said.allows_cancel(in_block));
        if !self.begin_query(server, self.own_names && said.allows_prefix(), steps) {
            return Take::Stop(Stop::Hold);
        }
        let first = server.exchange.begins_transaction();
        if !self.before_code(server, Some(&deeds), steps) || (first && settles_apart(server, false, steps)) {
            return Take::Stop(Stop::Hold);
        }
        server.exchange.pipeline.push(Owed::Function);
        Take::Forward
    }

    /// PostgreSQL runs code when it reads and plans a statement, too: what that leaves is there whether or not anything is
    /// executed. Returns whether it may go on now.
    #[must_use]
    pub(super) fn before_code(&mut self, server: &mut Attached<'_>, deeds: Option<&Deeds>, steps: &mut Steps) -> bool {
        let Some(deeds) = deeds.filter(|_| self.tracks) else { return true };
        self.before_deeds(server, deeds.iter(), steps)
    }

    /// Before what the client sends and does this. Returns whether it may go on now.
    #[must_use]
    pub(super) fn before_deeds<'a>(
        &mut self,
        server: &mut Attached<'_>,
        deeds: impl Iterator<Item = &'a Deed> + Clone,
        steps: &mut Steps,
    ) -> bool {
        self.notes(server.exchange, deeds.clone());
        self.before_names(server, deeds.clone(), steps) && self.before_numbers(server, deeds, steps)
    }

    /// What the client sends does this: texts may mean another thing from now on, to itself, and when its transaction is over
    /// to all.
    fn notes<'a>(&mut self, exchange: &mut Exchange, deeds: impl Iterator<Item = &'a Deed> + Clone) {
        if !self.tracks {
            return;
        }
        exchange.notes_definitions(deeds.clone());
        for deed in deeds {
            match deed {
                Deed::Unclear(doubt @ (Doubt::Code | Doubt::Text | Doubt::Unread)) => self.wonders(exchange, *doubt),
                Deed::MayHold(_) | Deed::MaySet(_) => exchange.session.perhaps.does(deed),
                Deed::Holds(What::Temporary, _) => self.redefines(exchange, Redefines::ForItself),
                Deed::MayBeTemporary | Deed::Defines => self.redefines(exchange, Redefines::ForAll),
                _ => {}
            }
        }
    }

    /// The statement with this definition, shared with whoever else has it.
    pub(super) fn intern(&self, definition: &[u8]) -> Arc<Statement> {
        self.table.intern(definition, self.reading())
    }

    fn reading(&self) -> Reading<'_> {
        let definitions = self.functions.definitions();
        Reading { params: &self.params, own: self.own_settings(), dialect: self.dialect, definitions }
    }

    /// The same, where it will be read in the transaction under way.
    pub(super) fn intern_here(&self, exchange: &Exchange, definition: &[u8]) -> Arc<Statement> {
        let apart = self.reads_apart(exchange);
        if apart { self.table.unshared(definition, self.dialect_now(exchange)) } else { self.intern(definition) }
    }

    /// Whether texts may mean something now that they mean to nobody else with the client's settings: by what is owed, by
    /// settings of the transaction, by what it has defined, or by temporary tables.
    fn reads_apart(&self, exchange: &Exchange) -> bool {
        let session = &exchange.session;
        let apart = || {
            session.reads_apart
                || !session.doubts.is_empty()
                || session.perhaps.leaves_something()
                || session.redefines != Redefines::Nothing
                || exchange.defining
                || (self.is_tied() && self.ties().any(|what| what == What::Temporary))
        };
        exchange.pipeline.may_set() || (self.tracks && apart())
    }

    /// A statement that a server lacks is read anew, by the client's settings of now: it must not be taken for what it
    /// was by others.
    pub(super) fn read_anew(&mut self, exchange: &Exchange, name: &[u8], statement: Arc<Statement>) -> Arc<Statement> {
        let shared = !statement.is_unshared();
        if !shared || (self.reading().fits(&statement) && !self.reads_apart(exchange)) {
            return statement;
        }
        let anew = self.intern_here(exchange, statement.definition());
        self.names.insert(name.into(), Arc::clone(&anew));
        anew
    }

    /// Whether the values of a Bind tell what this statement does.
    pub(super) fn reads_values(&self, exchange: &Exchange, statement: &[u8]) -> bool {
        let deeds = match (statement, self.own_names) {
            (b"", _) => exchange.unnamed_does.deeds(),
            (_, false) => exchange.parsed.deeds(),
            (name, true) => self.names.get(name).and_then(|statement| statement.deeds()),
        };
        self.tracks && deeds.is_some_and(depends_on_values)
    }

    /// A statement has come to its end well, with this tag.
    pub(super) fn done(&mut self, server: &mut Attached<'_>, tag: &[u8]) {
        self.defines(server.exchange, tag);
        if !self.tracks {
            return;
        }
        server.exchange.session.numbers.done(tag);
        let partial = match server.exchange.pipeline.front_mut() {
            Some(Owed::Query { deeds: Some(running), .. }) => {
                let deeds = running.statements.get_mut(running.done).map(std::mem::take).unwrap_or_default();
                running.done += 1;
                self.does(server, &deeds);
                deeds.iter().any(is_partial)
            }
            _ => self.executed(server).is_some_and(|deeds| deeds.iter().any(is_partial)),
        };
        self.sessions(server.exchange, |session| match tag {
            // Outside of a block, where alone it runs, DISCARD ALL is committed at once, whatever follows it.
            b"COMMIT\0" | b"PREPARE TRANSACTION\0" | b"DISCARD ALL\0" => session.commits(),
            b"ROLLBACK\0" if !partial => session.rolls_back(),
            _ => {}
        });
    }

    /// A portal has given some of its rows: what it does it has done by then.
    pub(super) fn suspended(&mut self, server: &mut Attached<'_>, tag: u8) {
        if tag == backend::PORTAL_SUSPENDED && self.tracks {
            self.executed(server);
        }
    }

    /// The Execute at the front, if one is, has done what it does. Returns that.
    fn executed(&mut self, server: &mut Attached<'_>) -> Option<Arc<Deeds>> {
        let Some(Owed::Execute { deeds: Some(deeds), .. }) = server.exchange.pipeline.front() else { return None };
        let deeds = Arc::clone(deeds);
        self.does(server, &deeds);
        Some(deeds)
    }

    /// The client's session, and the one of its server: the same happens to both.
    pub(super) fn sessions(&mut self, exchange: &mut Exchange, change: impl Fn(&mut Own)) {
        self.own.as_deref_mut().into_iter().chain(exchange.session.there.as_deref_mut()).for_each(change);
    }

    /// The server is ready, outside of a transaction block or in one. Where it has reset what the client is to have, that
    /// is set anew before the client's next message.
    #[inline]
    pub(super) fn session_ready(&mut self, server: &mut Attached<'_>, idle: bool, steps: &mut Steps) {
        let exchange = &mut *server.exchange;
        self.defined(exchange, idle);
        if idle {
            self.keeps_for_numbers(exchange);
        }
        if self.own.is_none() && exchange.session.there.is_none() {
            return;
        }
        self.sessions(exchange, |session| session.ready(idle));
        if exchange.pipeline.is_empty() {
            self.restore(server, false, steps);
            let exchange = &mut *server.exchange;
            let differs =
                exchange.session.there.as_deref().is_some_and(|there| Some(there.settings()) != self.own_settings());
            exchange.begun &= exchange.session.restored.is_empty() && !differs;
            exchange.session.restored.clear();
        }
    }

    /// What was reset the client is to have as it asked for it at its login, unless it was set again, or the reset was
    /// undone: then the server has it right, of which not all was believed. Of one that is lost nothing is believed.
    pub(super) fn restore(&mut self, server: &mut Attached<'_>, lost: bool, steps: &mut Steps) {
        let Some(base) = self.base.clone() else { return };
        for name in &server.exchange.session.restored.clone() {
            let resets = self.own.as_deref().is_some_and(|own| own.has_reset(name));
            // What a prefix has to do with it is known already.
            let changes = server.exchange.changes.iter().any(|change| change.name.eq_ignore_ascii_case(name));
            let value = match resets {
                true => base.get(name),
                false if changes || lost => None,
                false => server.params.get(name),
            };
            if !lost && let Some(before) = self.params.get(name) {
                server.exchange.notes_before(name, before.into());
            }
            if value.is_some_and(|value| self.tell(name, value, steps)) || resets {
                *server.matched = None;
            }
        }
        self.own.iter_mut().for_each(|own| own.restored());
    }

    /// The client's settings are about to be, or are, others than those that `connect_query` has made: only a reset, and that
    /// query, make them so for the next one.
    pub(super) fn leaves_settings(&self, exchange: &mut Exchange) {
        if self.has_connect_query {
            doubts(exchange, Doubt::Setting);
        }
    }

    /// Nobody knows what the client leaves on its server.
    fn wonders(&mut self, exchange: &mut Exchange, doubt: Doubt) {
        doubts(exchange, doubt);
        // What only has not been read yet would have all clients keep their servers.
        if self.keeps_unknown && doubt != Doubt::Unread {
            self.own_session().holds(What::Unknown, b"");
        }
    }

    pub(super) fn does(&mut self, server: &mut Attached<'_>, deeds: &[Deed]) {
        for deed in deeds {
            match deed {
                Deed::Unclear(doubt) => self.wonders(server.exchange, *doubt),
                Deed::SetConfig(_) => self.wonders(server.exchange, Doubt::Setting),
                Deed::Local(name) => server.exchange.session.reads_apart |= name.is_empty() || is_read_by(name),
                Deed::Notifies | Deed::Defines | Deed::MayDefine | Deed::Executes(_) => {}
                Deed::AsksNumber | Deed::MayAskNumber | Deed::TakesNumber | Deed::ForgetsNumbers => {
                    server.exchange.session.numbers.does(deed)
                }
                Deed::MayBeTemporary | Deed::MayLet(_) | Deed::MayHold(_) | Deed::MaySet(_) => {
                    server.exchange.session.perhaps.does(deed)
                }
                deed => {
                    // It ends the tie, and is no reason to believe that others may have the server.
                    server.exchange.session.is_spent |= *deed == Deed::DiscardAll && self.ties().any(outlasts_reset);
                    server.exchange.session.numbers.does(deed);
                    if matches!(deed, Deed::Set(..) | Deed::Reset(_) | Deed::ResetAll | Deed::DiscardAll) {
                        self.leaves_settings(server.exchange);
                    }
                    let assigned = server.assigned.as_ref();
                    server.exchange.session.there.get_or_insert_with(|| Box::new(Own::of_server(assigned)));
                    self.own_session();
                    self.channels_moved |= self.claims.is_some();
                    let reported = self.params.clone();
                    self.sessions(server.exchange, |session| session.does(deed, |name| reported.get(name).is_some()));
                    self.resets(server.exchange, deed);
                    if let Deed::Lets(What::Statement, Some(name)) = deed {
                        self.deallocated(server.exchange, name);
                    }
                }
            }
        }
    }

    /// The server has its own defaults again, where the client is to have what it asked for at its login: that is to be
    /// set anew before the client's next message.
    fn resets(&mut self, exchange: &mut Exchange, deed: &Deed) {
        let reset = |name: &str| match deed {
            Deed::Reset(reset) => reset.eq_ignore_ascii_case(name.as_bytes()),
            Deed::ResetAll | Deed::DiscardAll => true,
            _ => false,
        };
        let (Some(base), Some(own)) = (&self.base, &mut self.own) else { return };
        for (name, _) in base.iter().filter(|(name, _)| reset(name)) {
            own.resets(name);
            if !exchange.session.restored.iter().any(|known| **known == *name) {
                exchange.session.restored.push(name.into());
            }
        }
    }

    /// The request at the front has failed, and its transaction with it. What no rollback undoes it may have done before.
    pub(super) fn request_failed(&mut self, server: &mut Attached<'_>) {
        if !self.tracks {
            return self.sessions(server.exchange, Own::fails);
        }
        let front = match server.exchange.pipeline.front() {
            Some(Owed::Query { deeds: Some(running), .. }) => running.current(),
            Some(Owed::Execute { deeds: Some(deeds), .. }) => &deeds[..],
            _ => &[],
        };
        let lasting: SmallVec<[Deed; 1]> = front.iter().filter(|deed| outlasts_failure(deed)).cloned().collect();
        self.does(server, &lasting);
        self.sessions(server.exchange, Own::fails);
    }
}

/// Whether the values of a Bind tell what these do.
pub(super) fn depends_on_values(deeds: &[Deed]) -> bool {
    deeds.iter().any(|deed| matches!(deed, Deed::SetConfig(_)))
}

/// What these do with the values of a Bind.
pub(super) fn resolved(deeds: &[Deed], values: &[Option<&[u8]>]) -> Deeds {
    let with_values = |deed: &Deed| match deed {
        Deed::SetConfig(config) => config.with(values),
        deed => deed.clone(),
    };
    deeds.iter().map(with_values).collect()
}

/// Whether both are surely the same.
pub(super) fn same(one: Option<&ParamSet>, other: Option<&ParamSet>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.same(other),
        _ => false,
    }
}

pub(super) fn unclear_deeds() -> Deeds {
    let mut deeds = Deeds::new();
    deeds.push(Deed::Unclear(Doubt::Text));
    deeds
}

/// What the only statement of a text does to its session by its own words.
pub(super) fn statement_deeds(text: &[u8], dialect: Dialect) -> Option<Arc<Deeds>> {
    read(text, dialect)?.into_vec().into_iter().next().map(Arc::new)
}

/// What the statements of a text do by their own words.
pub(super) fn read(text: &[u8], dialect: Dialect) -> Option<Box<[Deeds]>> {
    deeds::of_text(text, dialect, Some(&Catalog::default()))
}

pub(super) fn doubts(exchange: &mut Exchange, doubt: Doubt) {
    if !exchange.session.doubts.contains(&doubt) {
        exchange.session.doubts.push(doubt);
    }
}

/// A ROLLBACK that does not end the transaction.
fn is_partial(deed: &Deed) -> bool {
    matches!(deed, Deed::RollbackTo(_))
}

/// What a statement may have done although it has failed. A PREPARE has prepared nothing then.
fn outlasts_failure(deed: &Deed) -> bool {
    match deed {
        Deed::Unclear(_) => true,
        Deed::Holds(What::Statement, _) => false,
        Deed::Holds(what, _) => outlasts_rollback(*what),
        _ => false,
    }
}
