//! PostgreSQL's tokens (the manual's chapter "Lexical Structure", and the rules of its scanner in versions 13 to 18).
//! Byte by byte, without copying and in linear time; the tokens tile the text. What PostgreSQL rejects is a token too:
//! [`Kind::Stray`], or [`Kind::Unterminated`] up to the end of the text.

mod operator;
mod quoted;

use super::source::{Dialect, Encoding, says_always_the_same};
use operator::Run;
pub(super) use quoted::quoted_parts;

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub start: usize,
    /// The position behind it; more than `start`.
    pub end: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Spaces and line ends.
    Blank,
    /// `-- …` up to the end of its line, or `/* … */` with what is nested in it.
    Comment,
    /// An unquoted identifier or a keyword. Right behind a number or a parameter PostgreSQL 15 and later reject it.
    Word,
    /// `"…"`.
    QuotedName,
    /// `U&"…"`. A UESCAPE clause may follow as tokens of its own.
    UnicodeName,
    /// A string constant, with all its parts if it is continued on further lines.
    Text(Quote),
    /// `B'…'` or `X'…'`.
    Bits,
    /// Digits only, or a hexadecimal, octal or binary number.
    Integer,
    /// A number with a fraction or an exponent.
    Decimal,
    /// `$1`.
    Param,
    /// An operator of one or more characters, `=` and `*` among them.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// `:`
    Colon,
    /// `::`
    Cast,
    /// `:=`
    Assign,
    /// `=>`
    Arrow,
    /// What PostgreSQL rejects: a byte without a meaning, an empty `""`, `U&'…'` where backslashes are escapes.
    Stray,
    /// A comment, string or name without its end; the rest of the text.
    Unterminated,
    /// The whole text: its encoding hides quotes and backslashes in characters, so only the server can read it.
    Opaque,
}

/// How a string constant is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quote {
    /// `'…'`, backslashes are themselves.
    Plain,
    /// `E'…'`, or `'…'` with `standard_conforming_strings` off: backslashes escape.
    Escapes,
    /// `U&'…'`. A UESCAPE clause may follow as tokens of its own.
    Unicode,
    /// `$tag$…$tag$`.
    Dollar,
}

/// The tokens of a text, in order. Cloning it is cheap: that is how to look ahead.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
    run: Run,
}

impl<'a> Lexer<'a> {
    /// Begins with the first byte of `text`.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, at: 0, dialect, run: Run::default() }
    }

    /// The position of the next token.
    pub fn position(&self) -> usize {
        self.at
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Kind and end of the token that begins with `first`.
    fn scan(&mut self, first: u8) -> (Kind, usize) {
        let at = self.at;
        match CLASSES[usize::from(first)] {
            Class::Letter => self.word(first),
            Class::Space => (Kind::Blank, self.behind(at + 1, |class| class == Class::Space)),
            Class::Digit => self.number(),
            Class::Operator => self.operator(first),
            Class::Quote => self.string(at + 1, self.plain()),
            Class::DoubleQuote => self.quoted_name(at + 1, Kind::QuotedName),
            Class::Dollar => self.dollar(),
            Class::Dot if self.byte(at + 1) == b'.' => (Kind::DotDot, at + 2),
            Class::Dot if self.byte(at + 1).is_ascii_digit() => self.fraction(at),
            Class::Dot => (Kind::Dot, at + 1),
            Class::Colon => match self.byte(at + 1) {
                b':' => (Kind::Cast, at + 2),
                b'=' => (Kind::Assign, at + 2),
                _ => (Kind::Colon, at + 1),
            },
            Class::Single => (single(first), at + 1),
            Class::Other => (Kind::Stray, at + 1),
        }
    }

    /// The first position from `at` whose byte is not of these classes.
    fn behind(&self, at: usize, of: impl Fn(Class) -> bool) -> usize {
        let rest = &self.text[at.min(self.text.len())..];
        at + rest.iter().position(|byte| !of(CLASSES[usize::from(*byte)])).unwrap_or(rest.len())
    }

    fn word(&self, first: u8) -> (Kind, usize) {
        let at = self.at;
        match (first | 0x20, self.byte(at + 1)) {
            (b'e', b'\'') => self.string(at + 2, Quote::Escapes),
            (b'b' | b'x', b'\'') => self.bits(at + 2),
            (b'u', b'&') if self.byte(at + 2) == b'\'' => self.unicode_string(at + 3),
            (b'u', b'&') if self.byte(at + 2) == b'"' => self.quoted_name(at + 3, Kind::UnicodeName),
            _ => {
                let in_word = |class| matches!(class, Class::Letter | Class::Digit | Class::Dollar);
                (Kind::Word, self.behind(at + 1, in_word))
            }
        }
    }

    fn number(&self) -> (Kind, usize) {
        let at = self.at;
        let of_radix: Option<fn(&u8) -> bool> = match self.byte(at + 1) | 0x20 {
            b'x' => Some(u8::is_ascii_hexdigit),
            b'o' => Some(|byte| matches!(byte, b'0'..=b'7')),
            b'b' => Some(|byte| matches!(byte, b'0' | b'1')),
            _ => None,
        };
        if let Some(digit) = of_radix.filter(|_| self.byte(at) == b'0') {
            let end = self.digits(at + 2, true, digit);
            if end > at + 2 {
                return (Kind::Integer, end);
            }
        }
        let end = self.digits(at, false, u8::is_ascii_digit);
        if self.byte(end) == b'.' && self.byte(end + 1) != b'.' {
            return self.fraction(end);
        }
        self.exponent(end).map_or((Kind::Integer, end), |end| (Kind::Decimal, end))
    }

    /// The number whose fraction begins with the dot at `dot`.
    fn fraction(&self, dot: usize) -> (Kind, usize) {
        let end = self.digits(dot + 1, false, u8::is_ascii_digit);
        (Kind::Decimal, self.exponent(end).unwrap_or(end))
    }

    /// The position behind digits, which single underscores may separate; one may lead after `0x`.
    fn digits(&self, mut at: usize, underscore_leads: bool, is_digit: fn(&u8) -> bool) -> usize {
        let mut may_separate = underscore_leads;
        loop {
            if is_digit(&self.byte(at)) {
                at += 1;
                may_separate = true;
            } else if may_separate && self.byte(at) == b'_' && is_digit(&self.byte(at + 1)) {
                at += 2;
            } else {
                return at;
            }
        }
    }

    /// The position behind an exponent that begins at `at`, if one does.
    fn exponent(&self, at: usize) -> Option<usize> {
        if self.byte(at) | 0x20 != b'e' {
            return None;
        }
        let digits = at + 1 + usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
        let end = self.digits(digits, false, u8::is_ascii_digit);
        (end > digits).then_some(end)
    }

    /// `$1`, `$tag$…$tag$`, or a `$` that PostgreSQL rejects.
    fn dollar(&self) -> (Kind, usize) {
        let at = self.at;
        if self.byte(at + 1).is_ascii_digit() {
            return (Kind::Param, self.behind(at + 1, |class| class == Class::Digit));
        }
        let tag_end = self.behind(at + 1, |class| matches!(class, Class::Letter | Class::Digit));
        if self.byte(tag_end) != b'$' {
            return (Kind::Stray, at + 1);
        }
        let tag = &self.text[at..=tag_end];
        let body = tag_end + 1;
        match memchr::memmem::find(&self.text[body..], tag) {
            Some(found) => (Kind::Text(Quote::Dollar), body + found + tag.len()),
            None => (Kind::Unterminated, self.text.len()),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let first = *self.text.get(start)?;
        let hidden = start == 0
            && match self.dialect.encoding {
                Encoding::Hiding => !self.text.is_ascii(),
                Encoding::Unsure => !says_always_the_same(self.text),
                Encoding::Utf8 | Encoding::AsciiSafe => false,
            };
        let (kind, end) = if hidden { (Kind::Opaque, self.text.len()) } else { self.scan(first) };
        self.at = end;
        Some(Token { kind, start, end })
    }
}

fn single(byte: u8) -> Kind {
    match byte {
        b'(' => Kind::Open,
        b')' => Kind::Close,
        b'[' => Kind::OpenBracket,
        b']' => Kind::CloseBracket,
        b',' => Kind::Comma,
        _ => Kind::Semicolon,
    }
}

/// What a token may begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Digit,
    Space,
    Operator,
    Quote,
    DoubleQuote,
    Dollar,
    Dot,
    Colon,
    Single,
    Other,
}

static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
}

const fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xFF => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        // Before version 16 a vertical tab is an error, so it separates nothing there.
        b' ' | b'\t' | b'\n' | b'\r' | b'\x0B' | b'\x0C' => Class::Space,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' => Class::Operator,
        b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
        b'\'' => Class::Quote,
        b'"' => Class::DoubleQuote,
        b'$' => Class::Dollar,
        b'.' => Class::Dot,
        b':' => Class::Colon,
        b'(' | b')' | b'[' | b']' | b',' | b';' => Class::Single,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests;
