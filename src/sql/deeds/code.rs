//! Code in PL/pgSQL and other languages, read word by word: whether it may touch the session that runs it.

use super::super::catalog::Danger;
use super::super::lexer::{Kind as Token, Token as Lexeme};
use super::super::source::{Dialect, Source, Span};
use super::call;

/// What `body` may do to the session, and to the catalog. Words in strings and comments don't touch the session; dynamic
/// SQL does, whatever it runs. `named` says what each word may do as the name of something.
pub(in super::super) fn judge_body(body: &[u8], dialect: Dialect, named: &mut dyn FnMut(&[u8]) -> Danger) -> Danger {
    let source = Source::new(body, dialect);
    let all = Span::new(0, body.len());
    let mut danger = Danger { touches: false, defines: defines(body) };
    let mut before = Before::Statement;
    let mut words = source.tokens(all).peekable();
    while let Some(token) = words.next() {
        let raw = &body[token.start..token.end];
        let word = match token.kind {
            Token::Opaque | Token::Unterminated | Token::Stray | Token::UnicodeName => {
                danger = danger.or(Danger::TOUCHES);
                continue;
            }
            Token::Word => raw[..raw.len().min(NAME_MAX)].to_ascii_lowercase(),
            Token::QuotedName => {
                let Some(name) = source.last_part(Span::new(token.start, token.end)) else { continue };
                danger = danger.or(named(&name));
                raw[1..raw.len() - 1].to_ascii_lowercase()
            }
            Token::Semicolon => {
                before = Before::Statement;
                continue;
            }
            _ => {
                before = Before::Other;
                continue;
            }
        };
        if token.kind == Token::Word {
            danger = danger.or(named(&word));
        }
        let next = words.peek().map(|next| body[next.start..next.end].to_ascii_lowercase());
        let next = next.as_deref().unwrap_or_default();
        let is_local = word == b"set_config" && sets_locally(words.clone(), body);
        if (anywhere(&word) && !is_local) || (before == Before::Statement && begins(&word, next)) {
            danger = danger.or(Danger::TOUCHES);
        }
        before = if opens(&word) { Before::Statement } else { Before::Other };
    }
    danger
}

/// PostgreSQL cuts longer names.
pub(super) const NAME_MAX: usize = 63;

/// Whether these are the arguments of a `set_config()` that holds until the end of the transaction: the third is `true`.
fn sets_locally(words: impl Iterator<Item = Lexeme>, body: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut commas = 0;
    let mut third = Vec::new();
    for token in words {
        match token.kind {
            Token::Open => depth += 1,
            // It is named here and not called.
            _ if depth == 0 => return false,
            Token::Close if depth == 1 => return third.eq_ignore_ascii_case(b"true"),
            Token::Close => depth -= 1,
            Token::Comma if depth == 1 => commas += 1,
            _ if commas == 2 => third.extend_from_slice(&body[token.start..token.end]),
            _ => {}
        }
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

/// Whether there is CREATE or ALTER in it, in strings too, of what functions are reached by.
fn defines(body: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    memchr::memchr2_iter(b'e', b'E', body).any(|at| {
        let begin = body[..at].iter().rposition(|byte| !is_part(byte)).map_or(0, |at| at + 1);
        let end = body[at..].iter().position(|byte| !is_part(byte)).map_or(body.len(), |length| at + length);
        let word = &body[begin..end];
        let rest = body[end..].trim_ascii_start();
        let next = &rest[..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        let changes = word.eq_ignore_ascii_case(b"create") || word.eq_ignore_ascii_case(b"alter");
        changes && !next.is_empty() && !HARMLESS.iter().any(|object| object.eq_ignore_ascii_case(next))
    })
}

/// Behind CREATE and ALTER: what no function is reached by, and what another session can't reach.
const HARMLESS: [&[u8]; 10] =
    [b"temp", b"temporary", b"local", b"global", b"role", b"user", b"database", b"sequence", b"tablespace", b"system"];

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
