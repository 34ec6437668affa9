//! What is counted of replies that are owed.

use super::pipeline::{Effect, How, Owed, Parses};

/// How many of the entries are of a kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ready: usize,
    pub(super) doubtful: usize,
    pub(super) changes: usize,
    pub(super) forgets: usize,
    pub(super) unnamed: usize,
    pub(super) answers: usize,
    pub(super) sets: usize,
}

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, kinds: Kinds) {
        self.ready += kinds.count(Kinds::READY);
        if kinds.any(Kinds::RARE) {
            self.doubtful += kinds.count(Kinds::DOUBTFUL);
            self.changes += kinds.count(Kinds::CHANGES);
            self.forgets += kinds.count(Kinds::FORGETS);
            self.unnamed += kinds.count(Kinds::UNNAMED);
            self.answers += kinds.count(Kinds::ANSWER);
            self.sets += kinds.count(Kinds::SETS);
        }
    }

    pub(super) fn remove(&mut self, kinds: Kinds) {
        self.ready -= kinds.count(Kinds::READY);
        self.doubtful -= kinds.count(Kinds::DOUBTFUL);
        self.changes -= kinds.count(Kinds::CHANGES);
        self.forgets -= kinds.count(Kinds::FORGETS);
        self.unnamed -= kinds.count(Kinds::UNNAMED);
        self.answers -= kinds.count(Kinds::ANSWER);
        self.sets -= kinds.count(Kinds::SETS);
    }
}

/// What of an entry is counted, and what it is to others, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    const NONE: Self = Self(0);
    /// Its answer ends with ReadyForQuery.
    pub(super) const READY: Self = Self(1);
    /// A Sync that may have been read past.
    pub(super) const DOUBTFUL: Self = Self(1 << 1);
    /// Its outcome changes which statements there are, or what the client's names mean; or, for a COPY, when
    /// answers of ours are due.
    pub(super) const CHANGES: Self = Self(1 << 2);
    /// It may drop all statements.
    pub(super) const FORGETS: Self = Self(1 << 3);
    /// With it the server's unnamed statement becomes the client's.
    pub(super) const UNNAMED: Self = Self(1 << 4);
    /// The server does not answer it.
    pub(super) const ANSWER: Self = Self(1 << 5);
    /// What is decided before it stays open for what is sent behind it. After an error all up to Sync has one fate.
    /// What a DISCARD ALL does is open behind a Query, too. Not counted.
    pub(super) const SEALS: Self = Self(1 << 6);
    /// It may change by what constants in later texts are read, as the end of a transaction does that undoes a SET LOCAL.
    pub(super) const SETS: Self = Self(1 << 7);
    /// What is counted beside READY.
    pub(super) const RARE: Self = Self(!(Self::READY.0 | Self::SEALS.0));

    #[inline]
    fn by(how: How) -> Self {
        if how == How::Answer { Self::ANSWER } else { Self::NONE }
    }

    fn sets(sets: bool) -> Self {
        if sets { Self::SETS } else { Self::NONE }
    }

    #[inline]
    fn of(effect: Effect) -> Self {
        match effect {
            Effect::Plain | Effect::Begins => Self::NONE,
            Effect::Ends(_) => Self::SETS,
            Effect::Copies => Self::CHANGES,
            Effect::Forgets | Effect::Any => Self::CHANGES.and(Self::FORGETS).and(Self::SETS),
        }
    }

    #[inline]
    pub(super) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    #[inline]
    pub(super) fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    #[inline]
    pub(super) fn count(self, kind: Self) -> usize {
        usize::from(self.any(kind))
    }
}

impl Owed {
    /// What of it is counted, and what it is to what is sent behind it: looked at once when it comes, and once when it
    /// goes. Most have nothing.
    #[inline]
    pub(super) fn kinds(&self) -> Kinds {
        match self {
            Self::Query { effect: Effect::Plain | Effect::Begins, deeds: None, .. } | Self::Inquiry => Kinds::READY,
            // It may be set_config().
            Self::Function => Kinds::READY.and(Kinds::SETS),
            Self::Query { effect: Effect::Forgets, .. } => {
                Kinds::READY.and(Kinds::of(Effect::Forgets)).and(Kinds::SEALS)
            }
            // Of several statements any may take a name or give one back.
            Self::Query { deeds: Some(running), .. } if running.names() => {
                Kinds::READY.and(Kinds::of(Effect::Forgets)).and(Kinds::SEALS)
            }
            Self::Query { effect, deeds, .. } => Kinds::READY.and(Kinds::of(*effect)).and(Kinds::sets(deeds.is_some())),
            Self::Execute { effect: Effect::Plain | Effect::Begins, deeds: None, .. } => Kinds::NONE,
            Self::Execute { effect, deeds, .. } => Kinds::of(*effect).and(Kinds::sets(deeds.is_some())),
            Self::Sync(_) => Kinds::READY.and(Kinds::SEALS),
            Self::DoubtfulSync => Kinds::DOUBTFUL,
            Self::Parse { how, what: Parses::AsSaid { takes_unnamed: true } } => Kinds::by(*how).and(Kinds::UNNAMED),
            Self::Parse { how, .. } | Self::Close { how, what: None } => Kinds::by(*how),
            Self::Prepare { how, .. } | Self::Close { how, .. } => Kinds::by(*how).and(Kinds::CHANGES),
            Self::CopyEnd => Kinds::ANSWER,
            Self::Bind(_) | Self::Describe | Self::Poison(_) => Kinds::NONE,
        }
    }
}
