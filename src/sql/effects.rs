//! What a statement does by its own words.
//!
//! The model: a statement *says* things (its kind, these effects) and *runs* things (its calls, and what hangs on the
//! names in it). Its words tell the first. The second needs the catalog, and nothing here guesses at it: functions by
//! [`Call`](super::Call); and by name, views, triggers, rules, defaults, domains, policies of the relations named,
//! operators and casts, functions that are written as an attribute (`t.f`) or without brackets (`CURRENT_SCHEMA`, which
//! are PostgreSQL's own). All relations, and all functions written as an attribute, are among the names of the
//! statement; operators and casts are not. Code that is not in the text at all has the effect
//! [`Effects::ELSEWHERE`].

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of effects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effects(u16);

macro_rules! effects {
    ($($(#[$doc:meta])+ $name:ident = $bit:literal;)+) => {
        impl Effects {
            $($(#[$doc])+ pub const $name: Self = Self(1 << $bit);)+

            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name))),+];
        }
    };
}

effects! {
    /// Not understood for sure: take it for a statement that may do anything. Its other effects are those seen.
    UNSURE = 0;
    /// Writes rows, or what else is no read: INSERT anywhere in it, SELECT INTO, COPY FROM, every DDL, NOTIFY.
    WRITES = 1;
    /// Locks rows or relations beyond what a read does: FOR UPDATE, FOR SHARE, LOCK.
    LOCKS = 2;
    /// Changes the catalog. In a failed or rolled back transaction it doesn't.
    DDL = 3;
    /// Begins a transaction block.
    BEGINS = 4;
    /// Ends the transaction block, with AND CHAIN to begin another.
    ENDS = 5;
    /// Refuses to run within a transaction block, or behind other statements of one implicit transaction.
    NO_BLOCK = 6;
    /// May refuse a transaction block, or be something else in one: a procedure that commits, DO, CLUSTER.
    MAYBE_NO_BLOCK = 7;
    /// Changes or depends on state that belongs to the session: settings, prepared statements, cursors, channels,
    /// temporary objects, loaded libraries. The kind says which.
    SESSION = 8;
    /// Makes or names a temporary object.
    TEMPORARY = 9;
    /// Runs code that is not in this text: EXECUTE, CALL, FETCH.
    ELSEWHERE = 10;
    /// Runs code that stands in the text as a string: DO.
    CODE = 11;
    /// Cancelling it when nobody waits for it any more costs nothing but the statement.
    CANCELLABLE = 12;
}

impl Effects {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` are among these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some of `other` are among these.
    pub fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These if `condition` holds.
    pub(super) fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Self::ALL.iter().filter(|(effect, _)| self.has(*effect)).map(|(_, name)| name)).finish()
    }
}
