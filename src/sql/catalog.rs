//! What a database's functions may do to the session of their caller, and by which relations they are reached unseen.
//! Names are judged over all schemas and overloads, and the worst counts: no `search_path` matters.

mod judge;

use hashbrown::{HashMap, HashSet};

use super::deeds::Name;
pub use judge::{Draft, Function};

type Hasher = foldhash::fast::RandomState;

/// What something may do when it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Danger {
    /// It may change what belongs to the session.
    pub touches: bool,
    /// It may make functions, or what reaches them.
    pub defines: bool,
}

impl Danger {
    /// It may leave something in the session.
    pub const TOUCHES: Self = Self { touches: true, defines: false };
    /// It may change the catalog.
    pub const DEFINES: Self = Self { touches: false, defines: true };

    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { touches: self.touches || other.touches, defines: self.defines || other.defines }
    }
}

/// What is known of a database. By default nothing in it is dangerous, and it has no procedures.
#[derive(Debug, Default)]
pub struct Catalog {
    functions: HashMap<Name, Danger, Hasher>,
    /// Relations and types by which code is reached that touches the session, and functions that are written as columns.
    relations: HashSet<Name, Hasher>,
    procedures: HashSet<Name, Hasher>,
    /// Any statement may touch the session: an operator, a cast.
    anything: bool,
    /// Any DDL may: an event trigger.
    any_ddl: bool,
    /// Some dangerous name is not all ASCII. Clients write those in encodings of their own: each may be it.
    foreign: bool,
}

/// What of a catalog is reached by dependencies, as the server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// A relation or type of this name.
    Relation(Name),
    /// A function of this name, by what it has been parsed to.
    Function(Name),
    /// An operator, a cast, or what else has no name where it is used.
    Anything,
    /// An event trigger.
    Ddl,
}

impl Catalog {
    /// Which of these functions are dangerous by what they are and by each other's names.
    pub fn of(functions: Vec<Function>) -> Self {
        Draft::new(functions).finish()
    }

    /// Whether nothing in the database is dangerous.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.functions.is_empty() && self.relations.is_empty() && !self.anything && !self.any_ddl
    }

    /// Whether all is as in a catalog without anything.
    pub fn is_nothing(&self) -> bool {
        self.is_quiet() && self.procedures.is_empty()
    }

    /// Whether a statement that calls nothing may be dangerous.
    #[inline]
    pub fn has_relations(&self) -> bool {
        self.anything || !self.relations.is_empty()
    }

    /// What a call of a function of this name may do.
    pub fn function(&self, name: &[u8]) -> Danger {
        if self.functions.is_empty() {
            return Danger::default();
        }
        if self.foreign && !name.is_ascii() {
            return Danger::TOUCHES.or(Danger::DEFINES);
        }
        self.functions.get(name).copied().unwrap_or_default()
    }

    /// What naming this may do, wherever it stands.
    pub fn named(&self, name: &[u8]) -> Danger {
        let touches = self.relations.contains(name) || (self.foreign && !name.is_ascii());
        Danger { touches, defines: false }
    }

    /// Whether there is a procedure of this name.
    pub fn has_procedure(&self, name: &[u8]) -> bool {
        self.procedures.contains(name)
    }

    /// Whether any statement may touch the session.
    pub fn fears_anything(&self) -> bool {
        self.anything
    }

    /// Whether any DDL may.
    pub fn fears_ddl(&self) -> bool {
        self.any_ddl
    }

    /// How many functions, and how many relations, are dangerous.
    pub fn counts(&self) -> (usize, usize) {
        (self.functions.len(), self.relations.len())
    }
}

/// PostgreSQL's own functions and words of its grammar that can be called before a catalog is known.
pub(super) fn is_harmless(name: &[u8]) -> bool {
    let harmless: [&[u8]; 26] = [
        b"array_agg",
        b"avg",
        b"clock_timestamp",
        b"coalesce",
        b"concat",
        b"count",
        b"current_database",
        b"current_setting",
        b"date_trunc",
        b"generate_series",
        b"greatest",
        b"least",
        b"length",
        b"lower",
        b"max",
        b"min",
        b"now",
        b"nullif",
        b"pg_backend_pid",
        b"pg_is_in_recovery",
        b"pg_sleep",
        b"repeat",
        b"row",
        b"sum",
        b"upper",
        b"version",
    ];
    harmless.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests;
