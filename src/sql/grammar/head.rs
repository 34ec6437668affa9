//! The beginning of a statement: which it is. Each function takes its own words; where a statement is short and matters,
//! it is read to its end.

use super::super::keywords::Keyword as K;
use super::super::lexer::Kind as Token;
use super::kind::{Copy, CopyPlace, Discard, Kind};
use super::reader::Reader;
use super::{objects, settings, transaction};

/// How much of a statement its head covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Exact,
    /// What follows is of no account for the kind.
    Head,
}

use Extent::{Exact, Head};

/// What the statement that begins here is.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<(Kind, Extent)> {
    if reader.at_kind(Token::Open) {
        return opens_query(reader).then_some((Kind::Query, Head));
    }
    let first = reader.peek()?.keyword?;
    if let Some(kind) = data(reader, first) {
        return Some((kind, Head));
    }
    reader.bump();
    let exact = transaction::read(reader, first).or_else(|| settings::read(reader, first)).or_else(|| {
        Some(match first {
            K::Close if reader.eat(K::All) => Kind::CloseAll,
            K::Close => Kind::Close(reader.name()?),
            K::Listen => Kind::Listen(reader.name()?),
            K::Unlisten if star(reader) => Kind::UnlistenAll,
            K::Unlisten => Kind::Unlisten(reader.name()?),
            K::Notify => Kind::Notify(reader.name()?, reader.eat_kind(Token::Comma).then(|| reader.string()).flatten()),
            K::Discard => discard(reader)?,
            K::Deallocate => deallocate(reader)?,
            K::Load => reader.string().map(|_| Kind::Load)?,
            K::Do => code(reader)?,
            K::Fetch | K::Move => cursor(reader, first)?,
            K::Checkpoint => Kind::Checkpoint,
            _ => return None,
        })
    });
    exact.map(|kind| (kind, Exact)).or_else(|| longer(reader, first).map(|kind| (kind, Head)))
}

/// SELECT, INSERT and their like; takes nothing.
fn data(reader: &Reader<'_>, first: K) -> Option<Kind> {
    match first {
        K::Select | K::Values | K::Table => Some(Kind::Query),
        K::Insert => Some(Kind::Insert),
        K::Update => Some(Kind::Update),
        K::Delete => Some(Kind::Delete),
        K::Merge => Some(Kind::Merge),
        K::With => behind_with(reader.clone()),
        _ => None,
    }
}

/// A statement in brackets can only be a query.
fn opens_query(reader: &Reader<'_>) -> bool {
    let mut ahead = reader.clone();
    while ahead.eat_kind(Token::Open) {}
    ahead.at_any(&[K::Select, K::Values, K::Table, K::With])
}

/// What follows a WITH clause. Its last CTE ends with a bracket, or with a SEARCH or CYCLE clause.
fn behind_with(mut reader: Reader<'_>) -> Option<Kind> {
    reader.bump();
    reader.eat(K::Recursive);
    loop {
        reader.name()?;
        if reader.at_kind(Token::Open) && !reader.skip_parens() {
            return None;
        }
        if !reader.eat(K::As) {
            return None;
        }
        reader.eat(K::Not);
        reader.eat(K::Materialized);
        if !reader.skip_parens() {
            return None;
        }
        search_and_cycle(&mut reader);
        if !reader.eat_kind(Token::Comma) {
            break;
        }
    }
    if opens_query(&reader) {
        return Some(Kind::Query);
    }
    let first = reader.peek()?.keyword.filter(|keyword| *keyword != K::With)?;
    data(&reader, first)
}

/// `SEARCH … SET column` and `CYCLE … USING column`.
fn search_and_cycle(reader: &mut Reader<'_>) {
    for (clause, last) in [(K::Search, K::Set), (K::Cycle, K::Using)] {
        if reader.eat(clause) {
            while !reader.ends() && !reader.eat(last) {
                reader.bump();
            }
            reader.name();
        }
    }
}

fn star(reader: &mut Reader<'_>) -> bool {
    let found = reader.peek().is_some_and(|word| reader.source.raw(word.span()) == b"*");
    if found {
        reader.bump();
    }
    found
}

fn discard(reader: &mut Reader<'_>) -> Option<Kind> {
    let what = match reader.bump()?.keyword? {
        K::All => Discard::All,
        K::Temp | K::Temporary => Discard::Temp,
        K::Plans => Discard::Plans,
        K::Sequences => Discard::Sequences,
        _ => return None,
    };
    Some(Kind::Discard(what))
}

fn deallocate(reader: &mut Reader<'_>) -> Option<Kind> {
    // PREPARE is also a name; then nothing follows it.
    if reader.at(K::Prepare) && reader.second().is_some_and(|word| word.kind != Token::Semicolon) {
        reader.bump();
    }
    if reader.eat(K::All) {
        return Some(Kind::DeallocateAll);
    }
    reader.name().map(Kind::Deallocate)
}

/// DO: the code, LANGUAGE before or behind it.
fn code(reader: &mut Reader<'_>) -> Option<Kind> {
    let mut language = None;
    let mut body = None;
    while !reader.ends() {
        if reader.eat(K::Language) {
            language = Some(reader.string().or_else(|| reader.name())?);
        } else {
            body = Some(reader.string()?);
        }
    }
    body.map(|body| Kind::Do { body, language })
}

/// FETCH and MOVE: the cursor's name is the last word.
fn cursor(reader: &mut Reader<'_>, first: K) -> Option<Kind> {
    let mut name = None;
    while !reader.ends() {
        let word = reader.bump()?;
        name = word.is_name().then(|| word.span());
    }
    let name = name?;
    Some(if first == K::Fetch { Kind::Fetch(name) } else { Kind::Move(name) })
}

/// Statements whose head says enough.
fn longer(reader: &mut Reader<'_>, first: K) -> Option<Kind> {
    Some(match first {
        K::Prepare => prepare(reader)?,
        K::Execute => Kind::Execute(reader.name()?),
        K::Declare => declare(reader)?,
        K::Lock => Kind::Lock,
        K::Copy => copy(reader)?,
        K::Call => Kind::Call,
        K::Explain => explain(reader)?,
        K::Create => objects::create(reader)?,
        K::Drop => objects::drop(reader),
        K::Alter => Kind::Alter(objects::altered(reader)),
        K::Truncate => Kind::Truncate,
        K::Grant | K::Revoke | K::Comment | K::Security | K::Reassign | K::Import => Kind::OtherDdl,
        K::Refresh => Kind::Refresh,
        K::Vacuum => Kind::Vacuum,
        K::Analyze | K::Analyse => Kind::Analyze,
        K::Cluster => Kind::Cluster,
        K::Reindex => Kind::Reindex,
        _ => return None,
    })
}

fn prepare(reader: &mut Reader<'_>) -> Option<Kind> {
    let name = reader.name()?;
    if reader.at_kind(Token::Open) && !reader.skip_parens() {
        return None;
    }
    if !reader.eat(K::As) || reader.ends() {
        return None;
    }
    let mut body = reader.peek()?.span();
    // Nothing that can be prepared has semicolons in it.
    while !reader.ends() {
        body = body.to(reader.bump()?.span());
    }
    Some(Kind::Prepare { name, body })
}

fn declare(reader: &mut Reader<'_>) -> Option<Kind> {
    let name = reader.name()?;
    let mut hold = false;
    loop {
        match reader.bump()?.keyword? {
            K::Binary | K::Insensitive | K::Asensitive | K::Scroll | K::No => {}
            K::Cursor => break,
            _ => return None,
        }
    }
    if reader.at_any(&[K::With, K::Without]) {
        hold = reader.at(K::With);
        reader.bump();
        if !reader.eat(K::Hold) {
            return None;
        }
    }
    reader.eat(K::For).then_some(Kind::Declare { name, hold })
}

fn copy(reader: &mut Reader<'_>) -> Option<Kind> {
    if reader.at_kind(Token::Open) {
        if !reader.skip_parens() {
            return None;
        }
    } else {
        reader.eat(K::Binary);
        reader.dotted()?;
        if reader.at_kind(Token::Open) && !reader.skip_parens() {
            return None;
        }
    }
    let from = match reader.bump()?.keyword? {
        K::From => true,
        K::To => false,
        _ => return None,
    };
    let place = if reader.eat(K::Program) {
        CopyPlace::Program
    } else if reader.at_any(&[K::Stdin, K::Stdout]) {
        CopyPlace::Client
    } else {
        reader.string().map(|_| CopyPlace::File)?
    };
    Some(Kind::Copy(Copy { from, place }))
}

fn explain(reader: &mut Reader<'_>) -> Option<Kind> {
    let mut analyze = false;
    if reader.at_kind(Token::Open) && !opens_query(reader) {
        analyze = explain_options(reader)?;
    } else {
        analyze |= reader.eat(K::Analyze) || reader.eat(K::Analyse);
        reader.eat(K::Verbose);
    }
    if reader.at(K::Explain) {
        return None;
    }
    let (inner, _) = read(reader)?;
    Some(Kind::Explain { analyze, inner: Box::new(inner) })
}

/// The options in brackets, and whether ANALYZE is one that is on: the last one counts, as in PostgreSQL.
fn explain_options(reader: &mut Reader<'_>) -> Option<bool> {
    reader.bump();
    let mut analyze = false;
    loop {
        let option = reader.bump()?;
        let off = reader.peek().is_some_and(|word| {
            let raw = reader.source.raw(word.span());
            let raw = raw.strip_prefix(b"'").and_then(|raw| raw.strip_suffix(b"'")).unwrap_or(raw);
            raw == b"0" || [&b"off"[..], b"false"].iter().any(|off| raw.eq_ignore_ascii_case(off))
        });
        let quoted = reader.source.raw(option.span()) == b"\"analyze\"";
        if option.is(K::Analyze) || option.is(K::Analyse) || quoted {
            analyze = !off;
        } else if option.kind == Token::UnicodeName {
            // May be the same option; whatever else it may be, it then runs.
            analyze = true;
        }
        while !reader.at_kind(Token::Comma) && !reader.at_kind(Token::Close) {
            reader.bump()?;
        }
        if reader.bump()?.kind == Token::Close {
            return Some(analyze);
        }
    }
}
