//! The first words of statements: enough to know whether settings may travel in their transaction,
//! and whether they may be cancelled when their client is gone. Comments are skipped as PostgreSQL does.

use smallvec::SmallVec;

use super::ending::{Ending, exit, prepares_transaction};
use crate::sql::{Dialect, Script};

/// What a statement may do that matters to those sent behind it, by its first word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that does.
    #[default]
    Plain,
    /// Drops all prepared statements.
    Forgets,
    /// Copies in, and reads past Syncs.
    Copies,
    /// Begins a transaction block.
    Begins,
    /// Ends the transaction, or a part of it, and may undo that.
    Ends(Ending),
    /// It may be any of these.
    Any,
}

impl Effect {
    /// Whether it may end the transaction.
    pub fn may_end(self) -> bool {
        match self {
            Self::Ends(ending) => ending != Ending::ToSavepoint,
            Self::Any => true,
            _ => false,
        }
    }
}

/// Whom definitions may have changed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Redefines {
    /// None have.
    #[default]
    Nothing,
    /// For who has done it: they are temporary.
    ForItself,
    /// For all.
    ForAll,
}

/// The first word of `text` in lower case, up to 16 bytes; empty when it does not begin with a letter.
pub fn first_word(text: &[u8]) -> FirstWord {
    word_at(text, skip_blank(text, 0))
}

fn word_at(text: &[u8], start: usize) -> FirstWord {
    let mut word = FirstWord { bytes: [0; 16], len: 0, traits: Traits::NONE };
    for (to, &byte) in word.bytes.iter_mut().zip(&text[start..]) {
        // Of all bytes only letters become small letters by this.
        let small = byte | 0x20;
        if !small.is_ascii_lowercase() {
            break;
        }
        *to = small;
        word.len += 1;
    }
    word.traits = Traits::of(word.as_bytes());
    word
}

/// A short lower-case word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstWord {
    bytes: [u8; 16],
    len: u8,
    traits: Traits,
}

/// What is known of a statement by its first word, as bits: asked for several times, looked up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Traits(u8);

impl Traits {
    const NONE: Self = Self(0);
    /// It may run in a transaction that our settings have begun.
    const PREFIX: Self = Self(1);
    /// A cancel costs nothing but its transaction, outside of a block.
    const CANCEL: Self = Self(1 << 1);
    /// It may end a transaction block.
    const ENDS: Self = Self(1 << 2);
    /// It has an effect on what is sent behind it, or may have.
    const EFFECT: Self = Self(1 << 3);

    fn of(word: &[u8]) -> Self {
        match word {
            b"select" | b"insert" | b"update" | b"delete" | b"merge" | b"with" | b"values" | b"table" | b"show"
            | b"declare" | b"fetch" | b"explain" | b"lock" => Self(Self::PREFIX.0 | Self::CANCEL.0),
            b"copy" => Self(Self::PREFIX.0 | Self::CANCEL.0 | Self::EFFECT.0),
            b"execute" | b"savepoint" | b"release" | b"set" | b"reset" => Self::CANCEL,
            b"begin" | b"start" => Self(Self::CANCEL.0 | Self::EFFECT.0),
            b"commit" | b"end" | b"rollback" | b"abort" | b"prepare" => Self(Self::ENDS.0 | Self::EFFECT.0),
            b"deallocate" | b"discard" => Self::EFFECT,
            _ => Self::NONE,
        }
    }
}

impl FirstWord {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    #[inline]
    fn is(&self, of: Traits) -> bool {
        self.traits.0 & of.0 != 0
    }

    /// Whether the statement may run in a transaction that our settings have begun.
    /// VACUUM, CREATE DATABASE and their like may not; what is not known to be harmless isn't taken for it.
    /// Nor may what begins a block: the ROLLBACK that ends it would undo them for what stands behind it in one text.
    #[inline]
    pub fn allows_prefix(&self) -> bool {
        self.is(Traits::PREFIX)
    }

    /// The same in the extended protocol, where a COPY may read past a Sync.
    pub fn joins_prefix(&self) -> bool {
        self.allows_prefix() && self.as_bytes() != b"copy"
    }

    /// Whether it is a statement that is planned, and does nothing else.
    pub(super) fn is_planned(&self) -> bool {
        matches!(self.as_bytes(), b"select" | b"insert" | b"update" | b"delete" | b"merge" | b"with" | b"values")
    }

    /// Whether the statement, of which this is the first word and `text` all that is here, may change definitions.
    pub(super) fn redefines(&self, text: &[u8]) -> Redefines {
        let known: [&[u8]; 8] = [b"create", b"alter", b"drop", b"do", b"call", b"import", b"grant", b"revoke"];
        if self.traits != Traits::NONE || !known.contains(&self.as_bytes()) {
            return Redefines::Nothing;
        }
        let start = skip_blank(text, 0);
        let second = text.get(start + usize::from(self.len)..).map(first_word);
        let temporary: [&[u8]; 4] = [b"temp", b"temporary", b"local", b"global"];
        let own = self.as_bytes() == b"create" && second.is_some_and(|word| temporary.contains(&word.as_bytes()));
        if own { Redefines::ForItself } else { Redefines::ForAll }
    }

    /// Whether a failed transaction block accepts it: what ends the block, and nothing at all.
    pub fn leaves_failed(&self) -> bool {
        matches!(self.as_bytes(), b"commit" | b"end" | b"rollback" | b"abort" | b"")
    }

    /// Whether it may end a transaction block.
    #[inline]
    pub(super) fn may_end(&self) -> bool {
        self.is(Traits::ENDS)
    }

    /// Whether it begins a transaction block.
    pub(super) fn begins(&self) -> bool {
        matches!(self.as_bytes(), b"begin" | b"start")
    }

    /// What the statement, of which this is the first word and `text` all that is here, may do to others.
    /// `cut` says that more text was to come.
    #[inline]
    pub fn effect(&self, text: &[u8], cut: bool) -> Effect {
        if !cut && !self.is(Traits::EFFECT) {
            return Effect::Plain;
        }
        let word = self.as_bytes();
        let may_be = |it: &&[u8]| *it == word || (cut && it.starts_with(word));
        if [&b"deallocate"[..], b"discard"].iter().any(may_be) {
            Effect::Forgets
        } else if may_be(&&b"copy"[..]) {
            Effect::Copies
        } else if self.begins() {
            Effect::Begins
        } else if word == b"prepare" && !prepares_transaction(text) {
            // It takes a name.
            Effect::Forgets
        } else if self.may_end() {
            Effect::Ends(if cut { Ending::Unclear } else { exit(text).into() })
        } else {
            Effect::Plain
        }
    }

    /// Whether a cancel costs nothing but the transaction that it is in: never a COMMIT, which may be through already, nor
    /// a utility that leaves half of its work, nor a procedure, which may commit as it goes. None of these but COMMIT can
    /// run in a transaction block.
    #[inline]
    pub fn allows_cancel(&self, in_block: bool) -> bool {
        if in_block { !self.may_end() } else { self.is(Traits::CANCEL) }
    }
}

/// What the text of a simple Query says, by the first words of its statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// One statement, or none.
    One(FirstWord),
    /// Several, or one that holds a semicolon.
    Several(SmallVec<[FirstWord; 4]>),
    /// What can't be told: more is to come of it, it is long, or it is not understood. How it begins, unless it is that.
    Unclear(Option<FirstWord>),
}

impl Said {
    /// Of what begins with `text`; `cut` says that more is to come.
    pub fn of(text: &[u8], cut: bool, dialect: Dialect) -> Self {
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        let first = skip_blank(text, 0);
        // Whatever the first semicolon is part of: with nothing behind it there is one statement only.
        let semicolon = memchr::memchr(b';', &text[first..]).map(|at| first + at);
        match semicolon {
            _ if cut => Self::Unclear(Some(word_at(text, first))),
            None => Self::One(word_at(text, first)),
            Some(at) if at + 1 == text.len() || skip_blank(text, at) == text.len() => Self::One(word_at(text, first)),
            Some(_) if text.len() > SEVERAL_MAX => Self::Unclear(Some(word_at(text, first))),
            Some(_) => Self::several(text, dialect),
        }
    }

    fn several(text: &[u8], dialect: Dialect) -> Self {
        let script = Script::of(text, dialect);
        if script.broken {
            return Self::Unclear(None);
        }
        let words = script.statements.iter().map(|statement| first_word(&text[statement.span.start as usize..]));
        Self::Several(words.collect())
    }

    /// The first word, where there is one statement at most.
    pub fn word(&self) -> Option<FirstWord> {
        if let Self::One(word) = self { Some(*word) } else { None }
    }

    /// As [`FirstWord::redefines`].
    pub(super) fn redefines(&self, text: &[u8]) -> Redefines {
        match self {
            Self::One(word) => word.redefines(text),
            Self::Several(words) => words.iter().map(|word| word.redefines(b"")).max().unwrap_or_default(),
            Self::Unclear(_) => Redefines::ForAll,
        }
    }

    /// As [`FirstWord::allows_prefix`]. A ROLLBACK further on would undo our settings for what stands behind it.
    pub fn allows_prefix(&self) -> bool {
        matches!(self, Self::One(word) if word.allows_prefix())
    }

    /// As [`FirstWord::allows_cancel`]. Several are a transaction block of their own, and each must allow it. Where the others
    /// are not known the first must: behind it no utility runs that leaves half of its work, and if one is a COMMIT nobody
    /// has been told that it was carried out.
    pub fn allows_cancel(&self, in_block: bool) -> bool {
        match self {
            Self::One(word) => word.allows_cancel(in_block),
            Self::Several(words) => words.iter().all(|word| word.allows_cancel(in_block || words.len() > 1)),
            Self::Unclear(word) => word.is_some_and(|word| word.allows_cancel(in_block)),
        }
    }

    /// Whether behind the first statement there is one that ends a transaction block, or may be.
    pub fn ends_later(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Several(words) => words.iter().skip(1).any(FirstWord::may_end),
            Self::Unclear(_) => true,
        }
    }
}

/// Several statements in more bytes than this are not told apart: it would take milliseconds.
pub(super) const SEVERAL_MAX: usize = 16 * 1024;

/// The position behind blanks, comments and empty statements that begin at `at`.
#[inline]
pub(super) fn skip_blank(text: &[u8], at: usize) -> usize {
    // Mostly there are none.
    if text.get(at).is_some_and(u8::is_ascii_alphabetic) { at } else { skip_some(text, at) }
}

fn skip_some(text: &[u8], mut at: usize) -> usize {
    loop {
        at = skip_space(text, at);
        if text.get(at) != Some(&b';') {
            return at;
        }
        at += 1;
    }
}

/// The position behind blanks and comments that begin at `at`.
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    loop {
        match &text[at..] {
            [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c', ..] => at += 1,
            [b'-', b'-', rest @ ..] => match memchr::memchr2(b'\n', b'\r', rest) {
                Some(end) => at += 2 + end,
                None => return text.len(),
            },
            [b'/', b'*', ..] => at = comment_end(text, at),
            _ => return at,
        }
    }
}

/// The position behind the comment, which may hold others, that begins at `at`.
fn comment_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match &text[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            [_, ..] => at += 1,
            [] => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &[u8], cut: bool) -> Said {
        Said::of(text, cut, Dialect::default())
    }

    #[test]
    fn blanks_and_nested_comments_are_skipped() {
        for (text, word) in [
            ("SELECT 1", "select"),
            ("  -- vacuum\n/* a /* b */ c */ ;; Vacuum x", "vacuum"),
            ("", ""),
            ("/* open", ""),
            ("-- only", ""),
            ("(select 1)", ""),
            ("abcdefghijklmnopqrstuvw", "abcdefghijklmnop"),
        ] {
            assert_eq!(first_word(text.as_bytes()).as_bytes(), word.as_bytes(), "{text}");
        }
        assert!(!first_word(b"/* select */ vacuum").allows_prefix());
        for (text, cut, effect) in [
            ("Discard all", false, Effect::Forgets),
            ("de", false, Effect::Plain),
            ("de", true, Effect::Forgets),
            ("declare", true, Effect::Plain),
            ("cop", true, Effect::Copies),
            ("copy t from stdin", false, Effect::Copies),
            ("", true, Effect::Forgets),
            ("", false, Effect::Plain),
            ("rollback", false, Effect::Ends(Ending::RollsBack)),
            ("commit", false, Effect::Ends(Ending::Commits)),
            ("commit", true, Effect::Ends(Ending::Unclear)),
            ("prepare x as select 1", false, Effect::Forgets),
            ("prepare transaction 'x'", false, Effect::Ends(Ending::Unclear)),
        ] {
            assert_eq!(first_word(text.as_bytes()).effect(text.as_bytes(), cut), effect, "{text}");
        }
    }

    #[test]
    fn a_cancel_is_allowed_where_it_costs_no_more_than_the_transaction() {
        for (text, alone, in_block) in [
            ("SELECT 1\0", true, true),
            ("insert into t values (1);  -- that's all\n", true, true),
            ("BEGIN", true, true),
            ("commit", false, false),
            ("END", false, false),
            ("prepare transaction 'a'", false, false),
            ("VACUUM t", false, true),
            ("create table t (n int)", false, true),
            ("create index concurrently on t (n)", false, true),
            ("CALL p()", false, true),
            ("DO 'begin null; end'", false, true),
            ("(select 1)", false, true),
            ("", false, true),
            // Several are a block of their own.
            ("begin; create table t (n int); select 1\0", true, true),
            ("select 1; commit; select 2", false, false),
            ("insert into t values (1); -- ;\n/* ; */ commit", false, false),
            (";; vacuum t ;;", false, true),
            // What is quoted is no statement.
            ("select ';commit'; select 'it''s; commit'", true, true),
            ("select \"a;commit\"", true, true),
            ("select $$;commit$$, $a$ $$; commit; $a$ ; select 1", true, true),
            ("select $1; select a$b$; commit; select c$b$", false, false),
            ("select $1::text || $1;", true, true),
            ("select 1 /* ; commit */; select 2", true, true),
            ("select 'a\\'; commit; --'", false, false),
            ("select e'a\\'; commit; --'; select 2", true, true),
            ("select 1; create function f() begin atomic; select 1; end", true, true),
            // What is not understood.
            ("select 'open; commit", false, false),
            ("select $a$ open; commit", false, false),
            ("select \"open; commit", false, false),
        ] {
            let seen = [false, true].map(|in_block| said(text.as_bytes(), false).allows_cancel(in_block));
            assert_eq!(seen, [alone, in_block], "{text}");
        }
        for (text, alone, in_block) in [
            ("insert into t values ('; commit", true, true),
            ("vacuum t, ", false, true),
            ("/* a comment", false, true),
        ] {
            let seen = [false, true].map(|in_block| said(text.as_bytes(), true).allows_cancel(in_block));
            assert_eq!(seen, [alone, in_block], "{text}: more is to come");
        }
    }

    #[test]
    fn an_end_behind_other_statements_is_seen() {
        for (text, ends) in [
            ("insert into t values (1)", false),
            ("insert into t values (1);", false),
            ("insert into t values (1); select 1", false),
            ("insert into t values (1); /* x */ COMMIT", true),
            ("select 1;;end\0", true),
            ("select 1; prepare transaction 'x'", true),
            ("select ';'", false),
            ("select 'a; commit'; select 2", false),
            ("select 1; -- ; commit", false),
            ("select 'a; commit", true),
        ] {
            assert_eq!(said(text.as_bytes(), false).ends_later(), ends, "{text}");
            assert!(said(text.as_bytes(), true).ends_later(), "{text}: more is to come");
        }
    }

    #[test]
    fn statements_of_any_bytes_end_somewhere() {
        let pieces: [&[u8]; 12] =
            [b"'", b"\"", b"$", b"$a$", b"--", b"\n", b"/*", b"*/", b";", b"\\", b"commit", b"\xff"];
        for all in 0..pieces.len().pow(4) {
            let text: Vec<u8> =
                (0..4).flat_map(|n| pieces[all / pieces.len().pow(n) % pieces.len()]).copied().collect();
            said(&text, false);
        }
    }
}
