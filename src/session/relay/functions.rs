//! What is known of the functions of a client's database, where its statements are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwapOption, Guard};

use super::ending::until_nul;
use super::exchange::{Block, Exchange, Redefined};
use super::machine::Relay;
use super::portals::Does;
use super::prepared::Statement;
use super::words::first_word;
use crate::session::catalogs::DatabaseCatalog;
use crate::sql::Dialect;
use crate::sql::catalog::Catalog;
use crate::sql::deeds::{self, Deed, Deeds, Doubt};
use crate::wire::frame;

/// The catalog of a database, as all its sessions see it.
#[derive(Debug, Default)]
pub struct Current {
    /// Nothing there touches its caller's session: who has read this needs to look at nothing else.
    quiet: AtomicBool,
    /// Empty while nothing is known.
    catalog: ArcSwapOption<Catalog>,
    /// What was known last: what it tells is asked for, though it may not be all.
    last: ArcSwapOption<Catalog>,
    /// Grows after what is known has turned out not to hold: what was judged before may be judged wrong.
    generation: AtomicU64,
    /// Grows after it was changed past us: what was called before that may have left anything.
    surprises: AtomicU64,
    /// Another one after whatever may give a text another meaning: DDL, rights. That of no other catalog.
    definitions: AtomicU64,
    /// Where the next one comes from.
    numbers: Arc<AtomicU64>,
    nothing: Catalog,
}

impl Current {
    /// Nothing is known yet. `numbers` is common to all catalogs.
    pub fn new(numbers: Arc<AtomicU64>) -> Self {
        let current = Self { numbers, ..Self::default() };
        current.redefined();
        current
    }

    /// What texts mean may be another thing from now on.
    pub fn redefined(&self) {
        let next = self.numbers.fetch_add(1, Ordering::AcqRel) + 1;
        self.definitions.fetch_max(next, Ordering::AcqRel);
    }

    /// By which definitions a text is read now.
    #[inline]
    pub fn definitions(&self) -> u64 {
        self.definitions.load(Ordering::Acquire)
    }

    /// This is known from now on; `changed` says that something else held until now.
    pub fn know(&self, catalog: Arc<Catalog>, changed: bool) {
        let quiet = catalog.is_nothing();
        if !quiet {
            self.quiet.store(false, Ordering::Release);
        }
        self.last.store(Some(Arc::clone(&catalog)));
        self.catalog.store(Some(catalog));
        self.quiet.store(quiet, Ordering::Release);
        self.surprises.fetch_add(changed.into(), Ordering::AcqRel);
        self.generation.fetch_add(changed.into(), Ordering::AcqRel);
    }

    /// Nothing is known any more. Returns the generation that was until now.
    pub fn forget(&self) -> u64 {
        self.quiet.store(false, Ordering::Release);
        self.catalog.store(None);
        self.generation.fetch_add(1, Ordering::AcqRel)
    }

    /// Whoever finds the same later was right in what he has read of it between.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How often it was changed past us.
    #[inline]
    pub fn surprises(&self) -> u64 {
        self.surprises.load(Ordering::Acquire)
    }

    fn load(&self) -> Known<'_> {
        if self.quiet.load(Ordering::Acquire) {
            return Known::Quiet(&self.nothing);
        }
        Known::Loaded(self.catalog.load())
    }
}

enum Known<'a> {
    Quiet(&'a Catalog),
    Loaded(Guard<Option<Arc<Catalog>>>),
}

impl Known<'_> {
    fn catalog(&self) -> Option<&Catalog> {
        match self {
            Self::Quiet(nothing) => Some(nothing),
            Self::Loaded(catalog) => catalog.as_deref(),
        }
    }
}

/// What a relay has to do with it.
#[derive(Debug, Default)]
pub struct Functions {
    /// The catalog of its server's database. Without one nothing is known.
    pub catalog: Option<Arc<DatabaseCatalog>>,
}

impl Functions {
    /// What there is to know, unless this client may be about to change it.
    fn known(&self, exchange: &Exchange) -> Known<'_> {
        match &self.catalog {
            Some(catalog) if !(exchange.defining || exchange.may_define) => catalog.current.load(),
            _ => Known::Loaded(Guard::from_inner(None)),
        }
    }

    /// What each statement of a text does, for one that is sent now.
    pub(super) fn read(&self, exchange: &mut Exchange, text: &[u8], dialect: Dialect) -> Option<Box<[Deeds]>> {
        let by = |catalog: Option<&Catalog>| deeds::of_text(text, dialect, catalog);
        let known = self.known(exchange);
        let deeds = by(known.catalog());
        let deeds = if known.catalog().is_some() { deeds } else { self.with_last(deeds, by) }?;
        drop(known);
        exchange.notes_definitions(deeds.iter().flatten());
        Some(deeds)
    }

    /// What the only statement of a definition does: of a text and the types of its parameters.
    pub(super) fn read_one(&self, exchange: &mut Exchange, definition: &[u8], dialect: Dialect) -> Option<Arc<Deeds>> {
        let text = until_nul(definition);
        let by = |catalog: Option<&Catalog>| {
            let deeds = deeds::of_text(text, dialect, catalog);
            let deeds = deeds.and_then(|deeds| deeds.into_vec().into_iter().next());
            deeds::with_types(deeds, frame::parse_types(definition), catalog).map(|deeds| [deeds].into())
        };
        let known = self.known(exchange);
        let deeds: Option<Box<[Deeds]>> = match &known {
            Known::Quiet(quiet) => deeds::of_text(text, dialect, Some(quiet)),
            Known::Loaded(_) => by(known.catalog()),
        };
        let deeds = if known.catalog().is_some() { deeds } else { self.with_last(deeds, by) };
        drop(known);
        let deeds = deeds?.into_vec().into_iter().next()?;
        exchange.notes_definitions(deeds.iter());
        Some(Arc::new(deeds))
    }

    /// What is left to doubt counts as what was known last says, too, whether or not that still holds: the server can be asked.
    fn with_last(
        &self,
        deeds: Option<Box<[Deeds]>>,
        by: impl Fn(Option<&Catalog>) -> Option<Box<[Deeds]>>,
    ) -> Option<Box<[Deeds]>> {
        let mut deeds = deeds?;
        if let Some(last) = self.catalog.as_ref().and_then(|catalog| catalog.current.last.load_full()) {
            for (deeds, more) in deeds.iter_mut().zip(by(Some(&last)).unwrap_or_default()) {
                let holds = |deed: &Deed| {
                    matches!(deed, Deed::MaySet(_) | Deed::MayHold(_) | Deed::Unclear(Doubt::Code | Doubt::Text))
                };
                let asked = more.into_iter().filter(holds);
                asked.for_each(|deed| {
                    if !deeds.contains(&deed) {
                        deeds.push(deed)
                    }
                });
            }
        }
        Some(deeds)
    }

    /// By which definitions a text is read now.
    #[inline]
    pub(super) fn definitions(&self) -> u64 {
        self.catalog.as_ref().map_or(0, |catalog| catalog.current.definitions())
    }

    /// By which generation and which definitions a text is read now.
    #[inline]
    pub(super) fn numbers(&self) -> [u64; 2] {
        let current = self.catalog.as_ref().map(|catalog| &catalog.current);
        current.map_or([0; 2], |current| [current.generation(), current.definitions()])
    }

    /// What texts mean in its database may be another thing from now on.
    pub(super) fn redefined(&self) {
        self.catalog.iter().for_each(|catalog| catalog.current.redefined());
    }

    /// Whether anything is known.
    pub(super) fn are_known(&self, exchange: &Exchange) -> bool {
        self.known(exchange).catalog().is_some()
    }
}

impl Exchange {
    /// The client sends statements that do this.
    pub(super) fn notes_definitions<'a>(&mut self, deeds: impl Iterator<Item = &'a Deed>) {
        for deed in deeds {
            self.defining |= *deed == Deed::Defines;
            self.may_define |= *deed == Deed::MayDefine;
        }
    }

    /// Its transaction is over, or given up: what it may have changed for others by now.
    pub fn takes_redefined(&mut self) -> Redefined {
        let pending = match (self.defining, self.may_define) {
            (true, _) => Redefined::Surely,
            (false, true) => Redefined::Perhaps,
            (false, false) => Redefined::No,
        };
        let noted = std::mem::take(&mut self.redefined);
        if noted == Redefined::No { pending } else { noted }
    }

    /// Whether what the client has sent may commit before the server is heard.
    pub(super) fn may_commit_now(&self) -> bool {
        self.block != Block::Inside || self.pipeline.iter().any(|owed| owed.ending().is_some())
    }
}

impl Relay {
    /// What a statement does that is bound now.
    pub(super) fn does_now(&self, exchange: &mut Exchange, statement: &Statement) -> Does {
        let does = statement.does();
        if !self.tracks || (does.deeds.is_none() && matches!(self.functions.known(exchange), Known::Quiet(_))) {
            return does;
        }
        Does { deeds: self.functions.read_one(exchange, statement.definition(), statement.dialect()), ..does }
    }

    /// The server is ready: what the client has changed in the catalog, others may see.
    #[inline]
    pub(super) fn defined(&self, exchange: &mut Exchange, idle: bool) {
        if (exchange.defining || exchange.may_define) && idle {
            exchange.redefined = exchange.takes_redefined();
            let more = !exchange.pipeline.is_empty();
            exchange.defining &= more;
            exchange.may_define &= more;
        }
    }

    /// A command has come to its end. Where statements are not read, its tag tells that it is DDL.
    pub(super) fn defines(&self, exchange: &mut Exchange, tag: &[u8]) {
        if !self.tracks {
            exchange.defining |= may_define(tag);
            let whom = first_word(tag).redefines(b"");
            exchange.session.redefines = exchange.session.redefines.max(whom);
        }
        if exchange.defining && tag == b"COMMIT\0" {
            exchange.redefined = Redefined::Surely;
        }
    }
}

/// Whether a command with this tag makes what functions are reached by. A table may be temporary, and mostly has no code.
fn may_define(tag: &[u8]) -> bool {
    let Some(object) = tag.strip_prefix(b"CREATE ").or_else(|| tag.strip_prefix(b"ALTER ")) else { return false };
    let harmless: [&[u8]; 5] = [b"TABLE", b"INDEX", b"SEQUENCE", b"ROLE", b"DATABASE"];
    !harmless.iter().any(|harmless| object.starts_with(harmless))
}
