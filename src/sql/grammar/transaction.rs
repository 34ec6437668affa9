//! BEGIN, COMMIT and their like, SAVEPOINT, two-phase commit, and modes of transactions.

use super::super::keywords::Keyword as K;
use super::super::lexer::Kind as Token;
use super::kind::{Isolation, Kind, Modes};
use super::reader::Reader;

/// The statement whose first word, `first`, has been taken.
pub(super) fn read(reader: &mut Reader<'_>, first: K) -> Option<Kind> {
    match first {
        K::Begin => {
            noise(reader);
            modes(reader).map(Kind::Begin)
        }
        K::Start if reader.eat(K::Transaction) => modes(reader).map(Kind::Begin),
        K::Commit if reader.eat(K::Prepared) => reader.string().map(|_| Kind::CommitPrepared),
        K::Commit | K::End => {
            noise(reader);
            chain(reader).map(Kind::Commit)
        }
        K::Rollback if reader.eat(K::Prepared) => reader.string().map(|_| Kind::RollbackPrepared),
        K::Rollback => {
            noise(reader);
            if reader.eat(K::To) {
                return savepoint(reader).map(Kind::RollbackTo);
            }
            chain(reader).map(Kind::Rollback)
        }
        K::Abort => {
            noise(reader);
            chain(reader).map(Kind::Rollback)
        }
        K::Savepoint => reader.name().map(Kind::Savepoint),
        K::Release => savepoint(reader).map(Kind::Release),
        K::Prepare
            if reader.at(K::Transaction) && reader.second().is_some_and(|w| matches!(w.kind, Token::Text(_))) =>
        {
            reader.bump();
            reader.string().map(|_| Kind::PrepareTransaction)
        }
        _ => None,
    }
}

/// WORK or TRANSACTION, which say nothing.
fn noise(reader: &mut Reader<'_>) {
    if !reader.eat(K::Work) {
        reader.eat(K::Transaction);
    }
}

fn chain(reader: &mut Reader<'_>) -> Option<bool> {
    if !reader.eat(K::And) {
        return Some(false);
    }
    let chain = !reader.eat(K::No);
    reader.eat(K::Chain).then_some(chain)
}

/// A savepoint's name behind SAVEPOINT, which may be missing, and may be the name.
fn savepoint(reader: &mut Reader<'_>) -> Option<super::Span> {
    if reader.at(K::Savepoint) && reader.second().is_some_and(|word| word.kind != Token::Semicolon) {
        reader.bump();
    }
    reader.name()
}

/// Modes up to the end of the statement, with or without commas in between.
pub(super) fn modes(reader: &mut Reader<'_>) -> Option<Modes> {
    let mut modes = Modes::default();
    while !reader.ends() {
        if reader.eat_all(&[K::Isolation, K::Level]) {
            modes.isolation = Some(level(reader)?);
        } else if reader.eat_all(&[K::Read, K::Only]) {
            modes.read_only = Some(true);
        } else if reader.eat_all(&[K::Read, K::Write]) {
            modes.read_only = Some(false);
        } else if reader.eat_all(&[K::Not, K::Deferrable]) {
            modes.deferrable = Some(false);
        } else if reader.eat(K::Deferrable) {
            modes.deferrable = Some(true);
        } else {
            return None;
        }
        if reader.eat_kind(Token::Comma) && reader.ends() {
            return None;
        }
    }
    Some(modes)
}

fn level(reader: &mut Reader<'_>) -> Option<Isolation> {
    if reader.eat(K::Serializable) {
        Some(Isolation::Serializable)
    } else if reader.eat_all(&[K::Repeatable, K::Read]) {
        Some(Isolation::RepeatableRead)
    } else if reader.eat_all(&[K::Read, K::Committed]) {
        Some(Isolation::ReadCommitted)
    } else if reader.eat_all(&[K::Read, K::Uncommitted]) {
        Some(Isolation::ReadUncommitted)
    } else {
        None
    }
}
