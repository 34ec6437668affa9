//! What the statements of a text do, and how many of them have come to their end.

use super::namespace::is_of_names;
use crate::sql::deeds::{Deed, Deeds};

/// The statements of a text, on their way to their ends.
#[derive(Debug)]
pub struct Running {
    pub(super) statements: Box<[Deeds]>,
    pub(super) done: usize,
    /// One of them takes a name or gives one back.
    names: bool,
}

impl Running {
    pub(super) fn new(statements: Box<[Deeds]>) -> Self {
        let names = statements.iter().flatten().any(is_of_names);
        Self { statements, done: 0, names }
    }

    /// Whether there is more than one.
    pub(super) fn is_several(&self) -> bool {
        self.statements.len() > 1
    }

    /// Whether one of them takes the name of a prepared statement or gives one back, be it done or not.
    pub(super) fn names(&self) -> bool {
        self.names
    }

    /// What those do that are not done yet.
    pub(super) fn deeds(&self) -> impl Iterator<Item = &Deed> + Clone {
        self.statements.iter().flatten()
    }

    pub(super) fn current(&self) -> &[Deed] {
        self.statements.get(self.done).map_or(&[], |deeds| deeds)
    }
}
