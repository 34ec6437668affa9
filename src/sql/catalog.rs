//! What a database's functions may do to the session of their caller, and by which relations they are reached unseen.
//! Names are judged over all schemas and overloads, and the worst counts: no `search_path` matters.

mod judge;

use hashbrown::{HashMap, HashSet};

use super::deeds::{Name, READERS};
pub use judge::{Draft, Function};

type Hasher = foldhash::fast::RandomState;

/// What something may do when it runs: kinds of things, and which settings of a catalog's list it may set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Danger(u64);

impl Danger {
    /// It may leave in the session what nobody can name.
    pub const TOUCHES: Self = Self(1);
    /// It may change the catalog: make functions, or what reaches them.
    pub const DEFINES: Self = Self(2);
    /// It runs a text that nobody knows, which may do that.
    pub const RUNS_TEXT: Self = Self(4);
    /// It may ask for a number of a sequence that the session has.
    pub const ASKS: Self = Self(8);
    /// It may leave what only the end of the session takes away.
    pub const LASTS: Self = Self(16);
    /// It may take advisory locks of the session, or release them.
    pub const LOCKS: Self = Self(32);
    /// It may make or drop what is in the temporary schema.
    pub const MAKES: Self = Self(64);
    /// Nobody knows what it does.
    pub const ANYTHING: Self = Self::TOUCHES.or(Self::RUNS_TEXT);

    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Whether all of `other` is in it.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// It, if `condition` holds.
    #[must_use]
    pub fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::default() }
    }

    /// Each kind of it by itself, as a number.
    pub(super) fn kinds(self) -> impl Iterator<Item = u64> {
        (0..u64::BITS).map(|bit| 1 << bit).filter(move |kind| self.0 & kind != 0)
    }

    /// The kind of this number.
    pub(super) fn of_kind(kind: u64) -> Self {
        Self(kind)
    }

    /// It may set the setting at this place of a catalog's list; `None`: there are too many.
    fn setting(at: usize) -> Option<Self> {
        (at < SETTINGS_MAX).then(|| Self(1 << (FIRST_SETTING + at)))
    }

    /// The same of what is reached unseen. That it defines something is rare there, and is found out afterwards.
    fn unseen(self) -> Self {
        if self.has(Self::DEFINES) { Self(self.0 & !Self::DEFINES.0).or(Self::RUNS_TEXT) } else { self }
    }
}

/// The bits of [`Danger`] from this one on are settings.
const FIRST_SETTING: usize = 8;
/// So many have one; kinds are signed numbers to servers.
const SETTINGS_MAX: usize = 48;

/// What is known of a database. By default nothing in it is dangerous, and it has no procedures.
#[derive(Debug, Default)]
pub struct Catalog {
    functions: HashMap<Name, Danger, Hasher>,
    /// Relations and types by which dangerous code is reached, and functions that are written as columns.
    relations: HashMap<Name, Danger, Hasher>,
    /// The same of types by their numbers, which parameters have.
    types: HashMap<u32, Danger, Hasher>,
    /// What [`READERS`] may do.
    readers: Danger,
    procedures: HashSet<Name, Hasher>,
    /// What code sets by name, to be asked for.
    settings: Vec<Name>,
    /// What any statement may do: an operator, a cast.
    anything: Danger,
    /// What any DDL may do: an event trigger.
    any_ddl: Danger,
    /// Some dangerous name is not all ASCII. Clients write those in encodings of their own: each may be it.
    foreign: bool,
}

/// What of a catalog is reached by dependencies, as the server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// A relation or type of this name.
    Relation(Name),
    /// A type of this number.
    Type(u32),
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
        self.functions.is_empty() && self.relations.is_empty() && self.anything.is_none() && self.any_ddl.is_none()
    }

    /// Whether all is as in a catalog without anything.
    pub fn is_nothing(&self) -> bool {
        self.is_quiet() && self.procedures.is_empty()
    }

    /// Whether a statement that calls nothing may be dangerous.
    #[inline]
    pub fn has_relations(&self) -> bool {
        !(self.anything.is_none() && self.relations.is_empty())
    }

    /// What a call of a function of this name may do.
    pub fn function(&self, name: &[u8]) -> Danger {
        if self.functions.is_empty() && self.readers.is_none() {
            return Danger::default();
        }
        if self.foreign && !name.is_ascii() {
            return Danger::ANYTHING;
        }
        let reads = self.readers.when(READERS.contains(&name));
        self.functions.get(name).copied().unwrap_or_default().or(reads)
    }

    /// What naming this may do, wherever it stands.
    pub fn named(&self, name: &[u8]) -> Danger {
        let known = self.relations.get(name).copied().unwrap_or_default();
        known.or(Danger::TOUCHES.when(self.foreign && !name.is_ascii()))
    }

    /// What a word may do that stands in code: as the name of anything, or because DDL begins with it.
    pub fn in_code(&self, word: &[u8]) -> Danger {
        let reads = self.readers.when(judge::UPKEEP.contains(&word));
        self.function(word).or(self.named(word)).or(reads).or(if judge::DDL.contains(&word) {
            self.any_ddl
        } else {
            Danger::default()
        })
    }

    /// What reading a value of the type with this number may do.
    pub fn of_type(&self, oid: u32) -> Danger {
        self.types.get(&oid).copied().unwrap_or_default()
    }

    /// Whether there is a procedure of this name.
    pub fn has_procedure(&self, name: &[u8]) -> bool {
        self.procedures.contains(name)
    }

    /// The settings that something so dangerous may set.
    pub fn settings(&self, danger: Danger) -> impl Iterator<Item = &Name> {
        let sets = move |at: usize| Danger::setting(at).is_some_and(|setting| danger.has(setting));
        self.settings.iter().enumerate().filter(move |(at, _)| sets(*at)).map(|(_, name)| name)
    }

    /// What any statement may do.
    pub fn anything(&self) -> Danger {
        self.anything
    }

    /// What any DDL may do.
    pub fn any_ddl(&self) -> Danger {
        self.any_ddl
    }

    /// How many functions, and how many relations, are dangerous.
    pub fn counts(&self) -> (usize, usize) {
        (self.functions.len(), self.relations.len())
    }
}

/// Numbers from this one on are not PostgreSQL's own.
pub(super) const FIRST_NUMBER: u32 = 16_384;

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
