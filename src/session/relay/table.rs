//! The statements that clients have prepared: the same text with the same parameter types is one for all of them, as
//! long as they read it alike: constants become values when a statement is parsed, by the settings of that moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::prepared::{Hasher, Statement};
use crate::server::statements::StatementId;
use crate::sql::Dialect;
use crate::wire::params::ParamSet;

/// Reported settings by which constants and names in a text are read: what is parsed once stays so, types of parameters
/// too.
const READ_BY: [&str; 6] =
    ["client_encoding", "DateStyle", "IntervalStyle", "search_path", "standard_conforming_strings", "TimeZone"];

/// The same of settings that nobody reports.
const OWN_READ_BY: [&str; 11] = [
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "extra_float_digits",
    "lc_monetary",
    "role",
    "search_path",
    "session_authorization",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmloption",
];

/// Whether texts are read by this setting, whose name is in small letters.
pub(super) fn is_read_by(name: &[u8]) -> bool {
    READ_BY.iter().chain(&OWN_READ_BY).any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// By what a client's texts are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Its reported settings.
    pub params: &'a ParamSet,
    /// Its others.
    pub own: Option<&'a ParamSet>,
    /// What they mean to a lexer.
    pub dialect: Dialect,
    /// The definitions of the database, by number.
    pub definitions: u64,
}

impl Reading<'_> {
    /// What of the settings constants in a text are read by.
    fn key(&self) -> SmallVec<[u8; 128]> {
        let mut key = SmallVec::new();
        let reported = READ_BY.iter().map(|name| self.params.get(name));
        let others = OWN_READ_BY.iter().map(|name| self.own.and_then(|own| own.get(name)));
        for value in reported.chain(others) {
            key.push(0);
            key.extend_from_slice(value.unwrap_or_default());
        }
        key.extend_from_slice(&self.definitions.to_be_bytes());
        key
    }

    /// Whether a statement means the same by it.
    pub fn fits(&self, statement: &Statement) -> bool {
        statement.place().read_by().is_none_or(|key| *key == *self.key())
    }
}

/// All statements that some client has, by definition and what it is read by.
#[derive(Debug, Default)]
pub struct Table {
    next: AtomicU64,
    known: Arc<Mutex<Known>>,
}

/// No statement may be dropped while this is locked: that locks it.
type Known = HashMap<Arc<[u8]>, Weak<Statement>, Hasher>;

/// A statement's place in the table, which it leaves when nobody has it any more.
#[derive(Debug)]
pub(super) struct Place {
    /// The definition, and what it is read by.
    key: Arc<[u8]>,
    /// So many bytes of that are the definition.
    definition: usize,
    /// `None`: it is one client's alone, and not found.
    known: Option<Arc<Mutex<Known>>>,
}

impl Place {
    /// Text, NUL and parameter types.
    pub(super) fn definition(&self) -> &[u8] {
        &self.key[..self.definition]
    }

    /// Whether it is found by nobody.
    pub(super) fn is_unshared(&self) -> bool {
        self.known.is_none()
    }

    /// The settings by which constants in it were read; `None`: those of the one client that has it.
    fn read_by(&self) -> Option<&[u8]> {
        self.known.as_ref().map(|_| &self.key[self.definition..])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(mut known) = self.known.as_ref().map(|known| known.lock()) else { return };
        // Another client may have prepared the same since nobody had it: then this is the place of another statement.
        if known.get(&self.key).is_some_and(|statement| statement.strong_count() == 0) {
            known.remove(&self.key);
        }
    }
}

impl Table {
    /// The statement with this definition (text, NUL, parameter types), for whoever reads it so.
    pub fn intern(&self, definition: &[u8], reading: Reading<'_>) -> Arc<Statement> {
        let mut key: SmallVec<[u8; 512]> = SmallVec::from_slice(definition);
        key.extend_from_slice(&reading.key());
        let known = self.known.lock().get(&key[..]).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let known = Some(Arc::clone(&self.known));
            let place = Place { key: key[..].into(), definition: definition.len(), known };
            let statement = self.made(place, reading.dialect);
            self.enter(&statement).unwrap_or(statement)
        })
    }

    /// The same for one client alone: by what it will be read is not known.
    pub fn unshared(&self, definition: &[u8], dialect: Dialect) -> Arc<Statement> {
        self.made(Place { key: definition.into(), definition: definition.len(), known: None }, dialect)
    }

    /// Definitions may have changed: whoever comes next has texts read by the new ones. Who has a statement keeps it.
    pub fn forget(&self) {
        let old = std::mem::take(&mut *self.known.lock());
        drop(old);
    }

    fn made(&self, place: Place, dialect: Dialect) -> Arc<Statement> {
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        Arc::new(Statement::new(id, place, dialect))
    }

    /// Gives a statement its place. Another client may have prepared the same meanwhile: returns that one then.
    fn enter(&self, statement: &Arc<Statement>) -> Option<Arc<Statement>> {
        let key = &statement.place().key;
        let mut known = self.known.lock();
        let earlier = known.get(key).and_then(Weak::upgrade);
        if earlier.is_none() {
            // The key of one that nobody has any more would stay beside this one's.
            known.remove(key);
            known.insert(Arc::clone(key), Arc::downgrade(statement));
        }
        earlier
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::super::words::first_word;
    use super::*;

    fn reading(params: &ParamSet) -> Reading<'_> {
        Reading { params, own: None, dialect: Dialect::default(), definitions: 0 }
    }

    fn intern(table: &Table, definition: &str) -> Arc<Statement> {
        table.intern(definition.as_bytes(), reading(&ParamSet::default()))
    }

    fn bytes(table: &Table) -> usize {
        table.known.lock().keys().map(|key| key.len()).sum()
    }

    #[test]
    fn one_definition_is_one_statement_while_someone_has_it() {
        let table = Table::default();
        let mut settings = ParamSet::default();
        let first = table.intern(b"select 1\0\0\0", reading(&settings));
        assert!(Arc::ptr_eq(&first, &table.intern(b"select 1\0\0\0", reading(&settings))));
        assert_ne!(first.id, table.intern(b"select 2\0\0\0", reading(&settings)).id);
        settings.set("application_name", b"x");
        assert!(Arc::ptr_eq(&first, &table.intern(b"select 1\0\0\0", reading(&settings))));
        settings.set("DateStyle", b"ISO, DMY");
        assert_ne!(first.id, table.intern(b"select 1\0\0\0", reading(&settings)).id);
        let mut own = ParamSet::default();
        own.set("array_nulls", b"off");
        let other = table.intern(b"select 1\0\0\0", Reading { own: Some(&own), ..reading(&settings) });
        assert!(!reading(&settings).fits(&other) && other.id != first.id);
        let settings = ParamSet::default();
        assert!(reading(&settings).fits(&first));
        assert_eq!(first.word(), first_word(b"select"));
        let old = first.id;
        drop(first);
        assert_ne!(table.intern(b"select 1\0\0\0", reading(&settings)).id, old);
    }

    #[test]
    fn a_definition_goes_with_the_last_who_has_it() {
        let table = Table::default();
        let text = format!("select '{}'\0\0\0", "x".repeat(100_000));
        let kept = intern(&table, "select 1\0\0\0");
        let few = bytes(&table);
        for _ in 0..3 {
            let (one, other) = (intern(&table, &text), intern(&table, &text));
            drop(one);
            assert!(bytes(&table) > text.len());
            assert_eq!(Arc::strong_count(&other.place().key), 2, "the table and the statement share the bytes");
            drop((other, table.unshared(text.as_bytes(), Dialect::default())));
            assert_eq!(bytes(&table), few);
        }
        assert!(Arc::ptr_eq(&kept, &intern(&table, "select 1\0\0\0")));
    }

    #[test]
    fn a_statement_stays_in_its_place_whoever_drops_the_one_before_it() {
        let table = Table::default();
        let together = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..5_000 {
                        let mine = intern(&table, "select 1\0\0\0");
                        assert!(Arc::ptr_eq(&mine, &intern(&table, "select 1\0\0\0")));
                    }
                });
            }
        });
        assert_eq!(bytes(&table), 0);
    }
}
