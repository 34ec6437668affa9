//! A quick look at a text: most statements can do nothing to their session, and are not read further for that.

use super::super::catalog::Catalog;
use super::call::Does;
use super::code::NAME_MAX;

/// Whether a text may do something to its session. Says so of many that don't; never says no of one that does.
pub fn may_do(text: &[u8], catalog: Option<&Catalog>) -> bool {
    let text = text.trim_ascii();
    let Some((word, begins)) = first_word(text) else { return !text.is_empty() };
    // What stands in a comment would have to be told from what does not.
    let comments =
        memchr::memchr2_iter(b'-', b'/', text).any(|at| matches!(&text[at..], [b'-', b'-', ..] | [b'/', b'*', ..]));
    let several = memchr::memchr(b';', text).is_some_and(|at| at + 1 < text.len());
    // COMMIT PREPARED 'x'
    let of_two_phases = begins == Begins::Transaction && memchr::memchr2(b'\'', b'$', &text[word..]).is_some();
    let reaches = begins != Begins::Transaction && catalog.is_none_or(Catalog::has_relations);
    let settings = matches!(begins, Begins::With | Begins::Writes) && names_settings(text);
    let queries = matches!(begins, Begins::Query | Begins::With);
    comments
        || of_two_phases
        || several
        || reaches
        || settings
        || has_other_writing(text)
        || (queries && may_make_table(&text[word..]))
        || may_call(text, catalog)
}

/// What a text begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Query,
    /// It may write, too.
    With,
    Writes,
    Transaction,
}

/// Where the first word ends, and what it begins; `None`: what it begins is to be read.
fn first_word(text: &[u8]) -> Option<(usize, Begins)> {
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let mut word = [0_u8; 8];
    let word = word.get_mut(..end)?;
    word.copy_from_slice(&text[..end]);
    word.make_ascii_lowercase();
    match &*word {
        b"with" => Some((end, Begins::With)),
        b"select" | b"values" | b"table" => Some((end, Begins::Query)),
        b"insert" | b"update" | b"delete" | b"merge" | b"fetch" | b"copy" | b"lock" => Some((end, Begins::Writes)),
        b"begin" | b"start" | b"commit" | b"end" => Some((end, Begins::Transaction)),
        _ => None,
    }
}

/// INTO in any case: a query makes a table so, be it a temporary one.
fn may_make_table(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'o', b'O', text)
        .any(|at| at >= 3 && text.get(at - 3..=at).is_some_and(|part| part.eq_ignore_ascii_case(b"into")))
}

/// `_settings` of pg_settings, which can be written.
fn names_settings(text: &[u8]) -> bool {
    memchr::memchr_iter(b'_', text)
        .any(|at| text.get(at + 1..at + 9).is_some_and(|part| part.eq_ignore_ascii_case(b"settings")))
}

/// `U&"…"`: a name of which not a letter need stand in the text, and behind which UESCAPE may come before its bracket.
fn has_other_writing(text: &[u8]) -> bool {
    memchr::memchr_iter(b'&', text).any(|at| text.get(at + 1) == Some(&b'"'))
}

/// A name that matters or notifies, with a bracket behind it.
fn may_call(text: &[u8], catalog: Option<&Catalog>) -> bool {
    let quiet = catalog.is_some_and(Catalog::is_quiet);
    memchr::memchr_iter(b'(', text).any(|open| {
        let blanks = text[..open].iter().rev().take_while(|byte| matches!(byte, b'\t'..=b'\r' | b' ')).count();
        let before = &text[..open - blanks];
        let begin = before.iter().rposition(|byte| !is_part(*byte)).map_or(0, |at| at + 1);
        let name = &before[begin..];
        let Some(first) = name.first() else { return before.last() == Some(&b'"') };
        let own = b"spdqctnl".contains(&first.to_ascii_lowercase());
        if !own && quiet {
            return false;
        }
        // PostgreSQL cuts longer ones.
        let mut small = [0_u8; NAME_MAX];
        let Some(small) = small.get_mut(..name.len()) else { return true };
        small.copy_from_slice(name);
        small.make_ascii_lowercase();
        (own && Does::of(small).is_some()) || catalog.is_some_and(|catalog| !catalog.function(small).is_none())
    })
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}
