//! Code in PL/pgSQL and other languages, read word by word: whether it may touch the session that runs it.

use super::super::catalog::Danger;
use super::super::lexer::{Kind as Token, Token as Lexeme};
use super::super::source::{Dialect, Source, Span};
use super::call;

/// What `body` may do to the session, and to the catalog. Words in strings and comments don't touch the session; dynamic
/// SQL does, whatever it runs; it may define something unless its text begins as one that does not. `named` says what each
/// word may do as the name of something.
pub(in super::super) fn judge_body(body: &[u8], dialect: Dialect, named: &mut dyn FnMut(&[u8]) -> Danger) -> Danger {
    let source = Source::new(body, dialect);
    let all = Span::new(0, body.len());
    let mut danger = Danger::DEFINES.when(defines(body));
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
            danger = danger.or(Danger::TOUCHES).or(Danger::LASTS.when(call::replicates(&word)));
        }
        if call::asks(&word) {
            danger = danger.or(Danger::ASKS);
        }
        if call::runs_text(&word) {
            danger = danger.or(Danger::RUNS_TEXT);
        }
        if word == b"execute" {
            danger = danger.or(executed(source, words.clone(), named));
        }
        before = if opens(&word) { Before::Statement } else { Before::Other };
    }
    danger
}

/// Whether a query in this body of a function in SQL may make a table: INTO, but not the one of INSERT or MERGE.
pub(in super::super) fn makes_table(body: &[u8], dialect: Dialect) -> bool {
    let words = Source::new(body, dialect).tokens(Span::new(0, body.len()));
    let mut before = Vec::new();
    words.filter(|token| token.kind == Token::Word).any(|token| {
        let word = body[token.start..token.end].to_ascii_lowercase();
        let makes = word == b"into" && !matches!(&*before, b"insert" | b"merge");
        before = word;
        makes
    })
}

/// PostgreSQL cuts longer names.
pub(super) const NAME_MAX: usize = 63;

/// Longer arguments, in words and signs, are not read: they may be there again and again.
const ARGUMENTS_MAX: usize = 200;

/// Whether these are the arguments of a `set_config()` that holds until the end of the transaction: the third is `true`.
fn sets_locally(words: impl Iterator<Item = Lexeme>, body: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut commas = 0;
    let mut third = Vec::new();
    for token in words.take(ARGUMENTS_MAX) {
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

/// What the text may do to the catalog that stands behind EXECUTE, as far as it is there: `'INSERT INTO ' || …`,
/// `format('…', …)`.
fn executed(source: Source<'_>, words: impl Iterator<Item = Lexeme>, named: &mut dyn FnMut(&[u8]) -> Danger) -> Danger {
    let span = |token: &Lexeme| Span::new(token.start, token.end);
    let formats = |token: &Lexeme| {
        let functions: [&[u8]; 5] = [b"format", b"concat", b"concat_ws", b"pg_catalog", b"trim"];
        functions.iter().any(|name| name.eq_ignore_ascii_case(source.raw(span(token))))
    };
    let opens = |token: &Lexeme| match token.kind {
        Token::Open | Token::Dot => true,
        Token::Word => formats(token),
        _ => false,
    };
    let mut words = words.skip_while(opens);
    let (first, next) = (words.next(), words.next());
    if first.is_some_and(|token| source.raw(span(&token)).eq_ignore_ascii_case(b"on")) {
        // It grants that.
        return Danger::default();
    }
    let text = first.filter(|token| matches!(token.kind, Token::Text(_))).and_then(|token| source.string(span(&token)));
    let Some(text) = text else { return Danger::RUNS_TEXT };
    let inner = Source::new(&text, source.dialect);
    let all = inner.tokens(Span::new(0, text.len()));
    let mut words = all.clone().filter(|token| token.kind == Token::Word);
    let goes_on = next.is_some_and(|next| next.kind == Token::Operator);
    let word = |token: Option<Lexeme>| token.map(|token| text[token.start..token.end].to_ascii_lowercase());
    let (verb, object) = (word(words.next()).unwrap_or_default(), word(words.next()));
    // Of a second one it is not all here.
    let behind = |token: &Lexeme| goes_on || token.end < text.trim_ascii_end().len();
    let several = all.clone().any(|token| token.kind == Token::Semicolon && behind(&token));
    let known = !several && (changes_rows(&verb) || (object.is_some() && matches!(&*verb, b"create" | b"alter")));
    let names = all.filter_map(|token| inner.last_part(span(&token)));
    let by_name = |name: &[u8]| Danger::ASKS.when(call::asks(name));
    let by_names = names.fold(Danger::default(), |danger, name| danger.or(named(&name)).or(by_name(&name)));
    // What it touches counts for EXECUTE itself.
    let defines = by_names.has(Danger::DEFINES) || by_names.has(Danger::RUNS_TEXT);
    Danger::RUNS_TEXT.when(!known || defines).or(Danger::ASKS.when(by_names.has(Danger::ASKS)))
}

/// Words with which statements begin that change nothing by which functions are reached. (Of what is created the words
/// behind tell, and what is dropped does not matter.)
fn changes_rows(verb: &[u8]) -> bool {
    let verbs: [&[u8]; 32] = [
        b"analyze",
        b"close",
        b"cluster",
        b"comment",
        b"copy",
        b"deallocate",
        b"declare",
        b"delete",
        b"discard",
        b"drop",
        b"explain",
        b"fetch",
        b"grant",
        b"insert",
        b"listen",
        b"lock",
        b"merge",
        b"move",
        b"notify",
        b"refresh",
        b"reindex",
        b"reset",
        b"revoke",
        b"select",
        b"set",
        b"show",
        b"table",
        b"truncate",
        b"unlisten",
        b"update",
        b"values",
        b"with",
    ];
    verbs.binary_search(&verb).is_ok()
}

/// Whether there is CREATE or ALTER in it, in strings too, of what functions are reached by.
fn defines(body: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    memchr::memchr2_iter(b'e', b'E', body).any(|at| {
        // Neither word is longer than this.
        let (front, behind) = (&body[at.saturating_sub(8)..at], &body[at..body.len().min(at + 8)]);
        let before = front.iter().rev().take_while(|byte| is_part(byte)).count();
        let end = at + behind.iter().take_while(|byte| is_part(byte)).count();
        let word = &body[at - before..end];
        if !(word.eq_ignore_ascii_case(b"create") || word.eq_ignore_ascii_case(b"alter")) {
            return false;
        }
        let rest = body[end..].trim_ascii_start();
        let next = &rest[..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        !next.is_empty() && !HARMLESS.iter().any(|object| object.eq_ignore_ascii_case(next))
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
            // What it is in is the search_path's business.
            | b"create"
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
        // What it imports may be temporary as well; and code within code is in a string.
        b"reset" | b"load" | b"import" | b"do" => true,
        _ => false,
    }
}
