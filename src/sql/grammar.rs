//! Statements: where they begin and end, what they are, what they say that matters to others. Conservative: what isn't
//! understood for sure is [`Kind::Unknown`] or has [`Effects::UNSURE`]; no nesting is recursed into; linear time.

mod call;
mod head;
mod judge;
mod kind;
mod objects;
mod reader;
mod settings;
mod transaction;
mod value;
mod walk;

use smallvec::SmallVec;

use super::effects::Effects;
use super::lexer;
use super::source::{Dialect, Source, Span, TEXT_MAX};
pub use call::{Argument, Call};
pub use kind::{Copy, CopyPlace, Create, Discard, Isolation, Kind, Modes, Object, Setting, SettingName, Temp, Value};
use reader::Reader;
pub use value::Item;

/// All that a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// In order, without empty ones.
    pub statements: SmallVec<[Statement; 1]>,
    /// Something in the text no server takes. PostgreSQL reads a text to its end before it runs any of it, so none of
    /// these statements runs; unless it is [`lexer::Kind::Opaque`], which is as broken from here.
    pub broken: bool,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// From its first token to its last, without the semicolon.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
    /// What it does by its own words.
    pub effects: Effects,
    /// What looks like the call of a function, in order. In DDL some are definitions.
    pub calls: SmallVec<[Call; 2]>,
    /// Whatever else may be the name of something: relations, columns, aliases, types, settings, and words that this
    /// grammar doesn't know. Nothing that names a relation is missing.
    pub names: SmallVec<[Span; 4]>,
}

impl Script {
    /// What `text` says. Never fails: what can't be read is one statement of [`Kind::Unknown`].
    pub fn of(text: &[u8], dialect: Dialect) -> Self {
        if text.len() > TEXT_MAX {
            return Self::unreadable(text.len());
        }
        let mut reader = Reader::new(Source::new(text, dialect));
        let mut script = Self { statements: SmallVec::new(), broken: false };
        while let Some(first) = reader.peek() {
            match first.kind {
                lexer::Kind::Semicolon => drop(reader.bump()),
                lexer::Kind::Opaque => return Self::unreadable(text.len()),
                _ => {
                    let (statement, broken) = Statement::read(&mut reader);
                    script.broken |= broken;
                    script.statements.push(statement);
                }
            }
        }
        script
    }

    fn unreadable(length: usize) -> Self {
        let statement = Statement {
            span: Span::new(0, length),
            kind: Kind::Unknown,
            effects: Effects::UNSURE,
            calls: SmallVec::new(),
            names: SmallVec::new(),
        };
        Self { statements: SmallVec::from_iter([statement]), broken: true }
    }

    /// The only statement, if it is the only one and nothing is broken.
    pub fn single(&self) -> Option<&Statement> {
        match &self.statements[..] {
            [statement] if !self.broken => Some(statement),
            _ => None,
        }
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        let spilled = if self.statements.spilled() { self.statements.capacity() * size_of::<Statement>() } else { 0 };
        spilled + self.statements.iter().map(Statement::heap_size).sum::<usize>()
    }
}

impl Statement {
    /// Reads one statement, and whether it is broken.
    fn read(reader: &mut Reader<'_>) -> (Self, bool) {
        let start = reader.peek().map_or(0, |word| word.start);
        let mut ahead = reader.clone();
        let (kind, whole) = match head::read(&mut ahead) {
            Some((kind, head::Extent::Exact)) => (kind, ahead.ends()),
            Some((kind, head::Extent::Head)) => (kind, true),
            None => (Kind::Unknown, false),
        };
        let found = walk::walk(reader, judge::is_routine(&kind));
        let kind = judge::kind(kind, &found.seen);
        let effects = judge::effects(&kind, &found.seen) | Effects::UNSURE.when(!whole);
        let span = Span::new(start, found.end);
        let broken = found.seen.broken;
        (Self { span, kind, effects, calls: found.calls, names: found.names }, broken)
    }

    fn heap_size(&self) -> usize {
        let calls = if self.calls.spilled() { self.calls.capacity() * size_of::<Call>() } else { 0 };
        let names = if self.names.spilled() { self.names.capacity() * size_of::<Span>() } else { 0 };
        let inner = if let Kind::Explain { .. } = self.kind { size_of::<Kind>() } else { 0 };
        calls + names + inner
    }
}

#[cfg(test)]
mod tests;
