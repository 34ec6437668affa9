//! Code in PL/pgSQL and other languages, read word by word: whether it may touch the session that runs it.

use super::super::catalog::Danger;
use super::super::lexer::{Kind as Token, Token as Lexeme};
use super::super::source::{Dialect, Source, Span};
use super::{Deed, Doubt, call, may_set};

/// What `body` may do to the session, and to the catalog. Words in strings and comments don't touch the session; dynamic
/// SQL does, whatever it runs; it may define something unless its text begins as one that does not. `named` says what each
/// word may do as the name of something, `sets` what it means that a setting of this name may be set.
pub(in super::super) fn judge_body(
    body: &[u8],
    dialect: Dialect,
    named: &mut dyn FnMut(&[u8]) -> Danger,
    sets: &mut dyn FnMut(&[u8]) -> Danger,
) -> Danger {
    let source = Source::new(body, dialect);
    let all = Span::new(0, body.len());
    let mut danger = Danger::DEFINES.when(defines(body));
    let mut before = Before::Statement;
    let mut words = source.tokens(all);
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
        let mut set = |deed: Option<Deed>| match deed {
            None => Danger::default(),
            Some(Deed::MaySet(name)) => sets(&name),
            Some(_) => Danger::TOUCHES,
        };
        danger = danger.or(match &*word {
            b"set_config" => set(set_by_call(words.clone(), source)),
            b"set" | b"reset" if before == Before::Statement => set(set_by_word(words.clone(), source)),
            word => anywhere(word).or(Danger::TOUCHES.when(before == Before::Statement && begins(word))),
        });
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

/// A setting is set of which nobody knows which.
const UNKNOWN: Option<Deed> = Some(Deed::Unclear(Doubt::Setting));

/// What a `set_config()` with these arguments sets: nothing that lasts, if the third is `true`.
fn set_by_call(words: impl Iterator<Item = Lexeme>, source: Source<'_>) -> Option<Deed> {
    let mut depth = 0_usize;
    let mut commas = 0;
    let (mut first, mut third) = (Vec::new(), Vec::new());
    for token in words.take(ARGUMENTS_MAX) {
        match token.kind {
            Token::Open => depth += 1,
            // It is named here and not called.
            _ if depth == 0 => return UNKNOWN,
            Token::Close if depth == 1 && third.eq_ignore_ascii_case(b"true") => return None,
            Token::Close if depth == 1 => break,
            Token::Close => depth -= 1,
            Token::Comma if depth == 1 => commas += 1,
            _ if commas == 0 => first.push(token),
            _ if commas == 2 => third.extend_from_slice(&source.text[token.start..token.end]),
            _ => {}
        }
    }
    match first[..] {
        [Lexeme { kind: Token::Text(_), start, end, .. }] => {
            let name = source.string(Span::new(start, end));
            name.map_or(UNKNOWN, |name| may_set(&name.to_ascii_lowercase()))
        }
        _ => UNKNOWN,
    }
}

/// What is set by what stands behind SET or RESET.
fn set_by_word(words: impl Iterator<Item = Lexeme> + Clone, source: Source<'_>) -> Option<Deed> {
    let mut words = words.peekable();
    let text = |token: &Lexeme| source.text[token.start..token.end].to_ascii_lowercase();
    let Some(first) = words.peek().map(text) else { return UNKNOWN };
    let mut behind = words.clone().skip(1);
    // It is the front of a name then.
    let dotted = behind.next().is_some_and(|token| token.kind == Token::Dot);
    match Some(&*first).filter(|_| !dotted) {
        Some(b"local" | b"transaction" | b"constraints") => return None,
        // These are not the names of settings.
        Some(b"all" | b"characteristics" | b"names" | b"schema" | b"time" | b"xml") => return UNKNOWN,
        Some(b"session") => _ = words.next(),
        Some(_) | None => {}
    }
    let mut name = Vec::new();
    while let Some(part) = words.next_if(|token| matches!(token.kind, Token::Word | Token::QuotedName)) {
        let Some(part) = source.last_part(Span::new(part.start, part.end)) else { return UNKNOWN };
        name.extend_from_slice(&part.to_ascii_lowercase());
        if words.next_if(|token| token.kind == Token::Dot).is_none() {
            break;
        }
        name.push(b'.');
    }
    // SET SESSION AUTHORIZATION and its like.
    let whole = words.peek().is_none_or(|next| {
        matches!(next.kind, Token::Semicolon | Token::Operator) || matches!(&*text(next), b"to" | b"from")
    });
    if whole || *name == *b"role" { may_set(&name) } else { UNKNOWN }
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

/// What a word may do wherever it stands.
fn anywhere(word: &[u8]) -> Danger {
    match word {
        b"execute" | b"discard" | b"listen" | b"unlisten" | b"deallocate" | b"prepare" | b"hold" | b"commit"
        | b"rollback" | b"pg_settings" => Danger::TOUCHES,
        // What it is in is the search_path's business.
        b"temp" | b"temporary" | b"create" | b"drop" => Danger::MAKES,
        word if word.starts_with(b"pg_temp") => Danger::MAKES,
        word => call::danger(word),
    }
}

/// Whether it touches the session where it begins a statement. What IMPORT imports may be temporary as well; and code within
/// code is in a string.
fn begins(word: &[u8]) -> bool {
    matches!(word, b"load" | b"import" | b"do")
}
