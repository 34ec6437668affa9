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
    /// The statement with this definition (text, NUL, parameter types), for a client with these settings.
    pub fn intern(&self, definition: &[u8], settings: &ParamSet, dialect: Dialect) -> Arc<Statement> {
        let mut key: SmallVec<[u8; 512]> = SmallVec::from_slice(definition);
        for name in READ_BY {
            key.push(0);
            key.extend_from_slice(settings.get(name).unwrap_or_default());
        }
        let mut known = self.known.lock();
        if let Some(statement) = known.by_definition.get(&key[..]).and_then(Weak::upgrade) {
            return statement;
        }
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let statement = Arc::new(Statement::new(id, definition.into(), dialect));
        known.by_definition.insert(key.into_vec().into(), Arc::downgrade(&statement));
        if known.by_definition.len() > known.sweep_at {
            known.by_definition.retain(|_, statement| statement.strong_count() > 0);
            known.sweep_at = 1024.max(known.by_definition.len() * 2);
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::first_word;
    use super::*;

    #[test]
    fn one_definition_is_one_statement_while_someone_has_it() {
        let table = Table::default();
        let mut settings = ParamSet::default();
        let first = table.intern(b"select 1\0\0\0", &settings, Dialect::default());
        assert!(Arc::ptr_eq(&first, &table.intern(b"select 1\0\0\0", &settings, Dialect::default())));
        assert_ne!(first.id, table.intern(b"select 2\0\0\0", &settings, Dialect::default()).id);
        settings.set("application_name", b"x");
        assert!(Arc::ptr_eq(&first, &table.intern(b"select 1\0\0\0", &settings, Dialect::default())));
        settings.set("DateStyle", b"ISO, DMY");
        assert_ne!(first.id, table.intern(b"select 1\0\0\0", &settings, Dialect::default()).id);
        let settings = ParamSet::default();
        assert_eq!(first.word(), first_word(b"select"));
        let old = first.id;
        drop(first);
        assert_ne!(table.intern(b"select 1\0\0\0", &settings, Dialect::default()).id, old);
    }

    #[test]
    fn definitions_that_nobody_has_are_swept_out() {
        let table = Table::default();
        for n in 0..5000 {
            table.intern(format!("select {n}\0\0\0").as_bytes(), &ParamSet::default(), Dialect::default());
        }
        assert!(table.known.lock().by_definition.len() <= 1025);
    }
}
