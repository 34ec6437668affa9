//! Strings and names in quotes.

use std::borrow::Cow;

use super::{Kind, Lexer, Quote};

impl Lexer<'_> {
    /// What `'…'` without a prefix is.
    pub(super) fn plain(&self) -> Quote {
        if self.dialect.standard_conforming_strings { Quote::Plain } else { Quote::Escapes }
    }

    /// The string whose content begins at `at`.
    pub(super) fn string(&self, mut at: usize, quote: Quote) -> (Kind, usize) {
        let escapes = quote == Quote::Escapes;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let found = if escapes { memchr::memchr2(b'\'', b'\\', rest) } else { memchr::memchr(b'\'', rest) };
            let Some(found) = found else { return (Kind::Unterminated, self.text.len()) };
            at += found;
            if self.byte(at) == b'\\' || self.byte(at + 1) == b'\'' {
                at += 2;
            } else if let Some(next) = continued(self.text, at + 1) {
                at = next;
            } else {
                return (Kind::Text(quote), at + 1);
            }
        }
    }

    /// PostgreSQL refuses `U&'…'` where an ordinary string may hold escapes.
    pub(super) fn unicode_string(&self, at: usize) -> (Kind, usize) {
        match self.string(at, Quote::Unicode) {
            (Kind::Text(_), end) if !self.dialect.standard_conforming_strings => (Kind::Stray, end),
            other => other,
        }
    }

    /// `B'…'` or `X'…'`: a doubled quote ends it.
    pub(super) fn bits(&self, mut at: usize) -> (Kind, usize) {
        while let Some(found) = memchr::memchr(b'\'', &self.text[at..]) {
            let end = at + found + 1;
            match continued(self.text, end) {
                Some(next) => at = next,
                None => return (Kind::Bits, end),
            }
        }
        (Kind::Unterminated, self.text.len())
    }

    /// The name whose content begins at `begin`; an empty one is rejected.
    pub(super) fn quoted_name(&self, begin: usize, kind: Kind) -> (Kind, usize) {
        let mut at = begin;
        while let Some(found) = memchr::memchr(b'"', self.text.get(at..).unwrap_or_default()) {
            at += found;
            if self.byte(at + 1) == b'"' {
                at += 2;
            } else {
                return (if at == begin { Kind::Stray } else { kind }, at + 1);
            }
        }
        (Kind::Unterminated, self.text.len())
    }
}

/// Where a string that ended before `at` goes on, behind its next quote: on a later line, with nothing but blanks and
/// `--` comments in between.
pub(super) fn continued(text: &[u8], mut at: usize) -> Option<usize> {
    let mut new_line = false;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => new_line = true,
            b' ' | b'\t' | b'\x0B' | b'\x0C' => {}
            b'-' if text.get(at + 1) == Some(&b'-') => {
                at += memchr::memchr2(b'\n', b'\r', &text[at..])?;
                new_line = true;
            }
            b'\'' if new_line => return Some(at + 1),
            _ => return None,
        }
        at += 1;
    }
}

/// The content of a string constant that is whole: its parts joined, doubled quotes made one. `open` is the position
/// behind its first quote. With `escapes`, what stands behind a backslash is kept as it is.
pub(in crate::sql) fn quoted_parts(text: &[u8], open: usize, escapes: bool) -> Cow<'_, [u8]> {
    let simple = &text[open..text.len() - 1];
    if !simple.contains(&b'\'') {
        return Cow::Borrowed(simple);
    }
    let mut content = Vec::with_capacity(simple.len());
    let mut at = open;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if escapes => {
                content.extend_from_slice(&text[at..text.len().min(at + 2)]);
                at += 2;
            }
            b'\'' if text.get(at + 1) == Some(&b'\'') => {
                content.push(b'\'');
                at += 2;
            }
            b'\'' => match continued(text, at + 1) {
                Some(next) => at = next,
                None => break,
            },
            _ => {
                content.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(content)
}
