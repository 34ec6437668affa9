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

/// Reported settings by which constants in a text are read.
const READ_BY: [&str; 5] = ["client_encoding", "DateStyle", "IntervalStyle", "standard_conforming_strings", "TimeZone"];

/// The same of settings that nobody reports.
const OWN_READ_BY: [&str; 5] = ["array_nulls", "backslash_quote", "lc_monetary", "transform_null_equals", "xmloption"];

/// By what a client's texts are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Its reported settings.
    pub params: &'a ParamSet,
    /// Its others.
    pub own: Option<&'a ParamSet>,
    /// What they mean to a lexer.
    pub dialect: Dialect,
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
        key
    }

    /// Whether a statement means the same by it.
    pub fn fits(&self, statement: &Statement) -> bool {
        statement.read_by().is_none_or(|key| *key == *self.key())
    }
}

/// All statements that some client has, by definition and what it is read by.
#[derive(Debug, Default)]
pub struct Table {
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_definition: HashMap<Box<[u8]>, Weak<Statement>, Hasher>,
    /// Entries to hold before those that nobody has any more are swept out.
    sweep_at: usize,
}

impl Table {
    /// The statement with this definition (text, NUL, parameter types), for whoever reads it so.
    pub fn intern(&self, definition: &[u8], reading: Reading<'_>) -> Arc<Statement> {
        let read_by = reading.key();
        let mut key: SmallVec<[u8; 512]> = SmallVec::from_slice(definition);
        key.extend_from_slice(&read_by);
        let mut known = self.known.lock();
        if let Some(statement) = known.by_definition.get(&key[..]).and_then(Weak::upgrade) {
            return statement;
        }
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let statement = Arc::new(Statement::new(id, definition.into(), Some((*read_by).into()), reading.dialect));
        known.by_definition.insert(key.into_vec().into(), Arc::downgrade(&statement));
        if known.by_definition.len() > known.sweep_at {
            known.by_definition.retain(|_, statement| statement.strong_count() > 0);
            known.sweep_at = 1024.max(known.by_definition.len() * 2);
        }
        statement
    }
}

impl Table {
    /// The same for one client alone: by what it will be read is not known.
    pub fn unshared(&self, definition: &[u8], dialect: Dialect) -> Arc<Statement> {
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        Arc::new(Statement::new(id, definition.into(), None, dialect))
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::first_word;
    use super::*;

    fn reading(params: &ParamSet) -> Reading<'_> {
        Reading { params, own: None, dialect: Dialect::default() }
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
    fn definitions_that_nobody_has_are_swept_out() {
        let table = Table::default();
        for n in 0..5000 {
            table.intern(format!("select {n}\0\0\0").as_bytes(), reading(&ParamSet::default()));
        }
        assert!(table.known.lock().by_definition.len() <= 1025);
    }
}
