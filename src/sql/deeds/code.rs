//! Code in PL/pgSQL and other languages, read word by word: whether it may touch the session that runs it.

use super::super::lexer::Kind as Token;
use super::super::source::{Dialect, Source, Span};
use super::call;

/// Whether something in `body` may change what belongs to the session. Words in strings and comments don't count; dynamic
/// SQL does, whatever it runs.
pub(super) fn touches_session(body: &[u8], dialect: Dialect) -> bool {
    let source = Source::new(body, dialect);
    let all = Span::new(0, body.len());
    let mut before = Before::Statement;
    let mut words = source.tokens(all).peekable();
    while let Some(token) = words.next() {
        let raw = &body[token.start..token.end];
        let word = match token.kind {
            Token::Opaque | Token::Unterminated | Token::Stray | Token::UnicodeName => return true,
            Token::Word => raw.to_ascii_lowercase(),
            Token::QuotedName => raw[1..raw.len() - 1].to_ascii_lowercase(),
            Token::Semicolon => {
                before = Before::Statement;
                continue;
            }
            _ => {
                before = Before::Other;
                continue;
            }
        };
        let next = words.peek().map(|next| body[next.start..next.end].to_ascii_lowercase());
        let next = next.as_deref().unwrap_or_default();
        if anywhere(&word) || (before == Before::Statement && begins(&word, next)) {
            return true;
        }
        before = if opens(&word) { Before::Statement } else { Before::Other };
    }
    false
}

/// Whether something in `body` may ask for a number of a sequence that the session has.
pub(super) fn asks_number(body: &[u8], dialect: Dialect) -> bool {
    let mut words = Source::new(body, dialect).tokens(Span::new(0, body.len()));
    words.any(|token| match token.kind {
        Token::Word | Token::QuotedName => {
            let word = body[token.start..token.end].trim_ascii().to_ascii_lowercase();
            matches!(&*word, b"lastval" | b"currval" | b"\"lastval\"" | b"\"currval\"")
        }
        _ => false,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A statement may begin here.
    Statement,
    Other,
}

/// Words behind which a statement may begin.
fn opens(word: &[u8]) -> bool {
    matches!(word, b"begin" | b"then" | b"else" | b"loop" | b"atomic" | b"as")
}

/// Words that may do it wherever they stand.
fn anywhere(word: &[u8]) -> bool {
    matches!(
        word,
        b"execute"
            | b"discard"
            | b"listen"
            | b"unlisten"
            | b"deallocate"
            | b"prepare"
            | b"temp"
            | b"temporary"
            | b"hold"
            | b"call"
            | b"commit"
            | b"rollback"
            | b"pg_settings"
    ) || word.starts_with(b"pg_temp")
        || call::matters(word)
}

/// Words that do it where they begin a statement.
fn begins(word: &[u8], next: &[u8]) -> bool {
    match word {
        b"set" => !matches!(next, b"local" | b"transaction" | b"constraints"),
        b"reset" | b"load" => true,
        _ => false,
    }
}
