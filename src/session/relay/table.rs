//! The statements that clients have prepared: the same text with the same parameter types is one for all of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::prepared::{Hasher, Statement};
use crate::server::statements::StatementId;

/// All statements that some client has, by definition.
#[derive(Debug, Default)]
pub struct Table {
    next: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_definition: HashMap<Arc<[u8]>, Weak<Statement>, Hasher>,
    /// Entries to hold before those that nobody has any more are swept out.
    sweep_at: usize,
}

impl Table {
    /// The statement with this definition (text, NUL, parameter types).
    pub fn intern(&self, definition: &[u8]) -> Arc<Statement> {
        let mut known = self.known.lock();
        if let Some(statement) = known.by_definition.get(definition).and_then(Weak::upgrade) {
            return statement;
        }
        let id = StatementId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let definition: Arc<[u8]> = definition.into();
        let statement = Arc::new(Statement::new(id, Arc::clone(&definition)));
        known.by_definition.insert(definition, Arc::downgrade(&statement));
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
        let first = table.intern(b"select 1\0\0\0");
        assert!(Arc::ptr_eq(&first, &table.intern(b"select 1\0\0\0")));
        assert_ne!(first.id, table.intern(b"select 2\0\0\0").id);
        assert_eq!(first.word(), first_word(b"select"));
        let old = first.id;
        drop(first);
        assert_ne!(table.intern(b"select 1\0\0\0").id, old);
    }

    #[test]
    fn definitions_that_nobody_has_are_swept_out() {
        let table = Table::default();
        for n in 0..5000 {
            table.intern(format!("select {n}\0\0\0").as_bytes());
        }
        assert!(table.known.lock().by_definition.len() <= 1025);
    }
}
