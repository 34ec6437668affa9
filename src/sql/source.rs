//! A text with what must be known to read it, and the values of the names and strings in it.

use std::borrow::Cow;

use super::lexer::quoted_parts;
use super::lexer::{Kind, Lexer, Quote, Token};
use super::unescape::{self, Escape};
use crate::wire::params::ParamSet;

/// What changes how a text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// The setting of this name, as the server reported it last: whether backslashes in `'…'` are themselves.
    pub standard_conforming_strings: bool,
    /// What `client_encoding` makes of bytes.
    pub encoding: Encoding,
}

impl Dialect {
    /// Of a client that knows these settings.
    pub fn told(params: &ParamSet) -> Self {
        Self {
            standard_conforming_strings: params.get("standard_conforming_strings") != Some(b"off"),
            encoding: params.get("client_encoding").map_or(Encoding::Hiding, Encoding::of),
        }
    }
}

impl Default for Dialect {
    fn default() -> Self {
        Self { standard_conforming_strings: true, encoding: Encoding::Utf8 }
    }
}

/// Client encodings as far as a lexer of bytes sees them. PostgreSQL converts a text before it reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF8.
    Utf8,
    /// Every byte below 0x80 is that character: LATINn, WINn, KOI8, ISO_8859_n, EUC_xx, SQL_ASCII, MULE_INTERNAL.
    AsciiSafe,
    /// A quote or backslash may be the second half of a character (SJIS, BIG5, GBK, GB18030, UHC, JOHAB), or the
    /// encoding isn't known here: a text that is not all ASCII is [`Kind::Opaque`].
    Hiding,
    /// Which one it is, and what a backslash in `'…'` is, is not known: a text that may say something else by that is
    /// [`Kind::Opaque`].
    Unsure,
}

/// Whether a text says the same by whatever settings it is read.
pub fn says_always_the_same(text: &[u8]) -> bool {
    text.is_ascii() && memchr::memchr(b'\\', text).is_none()
}

impl Encoding {
    /// Of a value of `client_encoding`, in any spelling that PostgreSQL takes.
    pub fn of(name: &[u8]) -> Self {
        let mut clean = [0_u8; 24];
        let mut length = 0;
        for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            let Some(place) = clean.get_mut(length) else { return Self::Hiding };
            *place = byte.to_ascii_lowercase();
            length += 1;
        }
        let clean = &clean[..length];
        let one_of = |families: &[&[u8]]| {
            families.iter().any(|family| {
                clean.strip_prefix(*family).is_some_and(|rest| rest.iter().all(u8::is_ascii_digit) && !rest.is_empty())
            })
        };
        match clean {
            b"utf8" | b"unicode" => Self::Utf8,
            b"sqlascii" | b"muleinternal" | b"koi8" | b"koi8r" | b"koi8u" | b"abc" | b"tcvn" | b"tcvn5712"
            | b"vscii" | b"alt" | b"euccn" | b"eucjp" | b"eucjis2004" | b"euckr" | b"euctw" => Self::AsciiSafe,
            b"win932" | b"win936" | b"win949" | b"win950" | b"windows932" | b"windows936" | b"windows949"
            | b"windows950" => Self::Hiding,
            _ if one_of(&[b"latin", b"iso8859", b"win", b"windows"]) => Self::AsciiSafe,
            _ => Self::Hiding,
        }
    }
}

/// A part of a text, by the positions of its first byte and of the one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// Where it begins.
    pub start: u32,
    /// The position behind it.
    pub end: u32,
}

/// Texts longer than this many bytes aren't read: PostgreSQL doesn't take them either.
pub const TEXT_MAX: usize = 1 << 30;

impl Span {
    /// Positions in a text of at most [`TEXT_MAX`] bytes.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end) }
    }

    /// From the beginning of one to the end of the other.
    pub(super) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// A text and how to read it: what spans are turned into values with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// As the client sent it, without the NUL at its end.
    pub text: &'a [u8],
    /// How to read it.
    pub dialect: Dialect,
}

impl<'a> Source<'a> {
    /// A text and how to read it.
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, dialect }
    }

    /// The bytes of a part; empty if it isn't one of this text.
    pub fn raw(self, span: Span) -> &'a [u8] {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// The tokens of a part, without blanks and comments; their positions count from its beginning.
    pub fn tokens(self, span: Span) -> impl Iterator<Item = Token> + Clone + use<'a> {
        Lexer::new(self.raw(span), self.dialect).filter(|token| !matches!(token.kind, Kind::Blank | Kind::Comment))
    }

    /// The parts of a name with dots in it, as PostgreSQL stores them: unquoted ones in lower case, escapes resolved,
    /// cut after 63 bytes. Only ASCII is folded, as PostgreSQL does in multi-byte encodings; in single-byte ones it may
    /// fold other letters too. A part that can't be read is left out, and the second value is false.
    pub fn parts(self, name: Span) -> (Vec<Cow<'a, [u8]>>, bool) {
        let mut parts = Vec::with_capacity(2);
        let mut whole = true;
        let raw = self.raw(name);
        let mut tokens = self.tokens(name).peekable();
        while let Some(token) = tokens.next() {
            let part = &raw[token.start..token.end];
            match token.kind {
                Kind::Word => parts.push(clip(folded(part))),
                Kind::QuotedName => parts.push(clip(unescape::doubled(&part[1..part.len() - 1], b'"'))),
                Kind::UnicodeName => {
                    let mut escape = Some(b'\\');
                    if tokens.peek().is_some_and(|next| is_uescape(*next, raw)) {
                        tokens.next();
                        escape = tokens.next().and_then(|token| escape_of(token, raw));
                    }
                    let content = unescape::doubled(&part[3..part.len() - 1], b'"');
                    match escape.and_then(|escape| self.unicode(&content, escape)) {
                        Some(name) => parts.push(clip(Cow::Owned(name))),
                        None => whole = false,
                    }
                }
                Kind::Dot => {}
                _ => whole = false,
            }
        }
        (parts, whole)
    }

    /// The last part of a name, see [`Source::parts`]: of `pg_catalog.set_config` it is `set_config`.
    pub fn last_part(self, name: Span) -> Option<Cow<'a, [u8]>> {
        let raw = self.raw(name);
        if raw.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') && raw.len() < NAME_MAX {
            return Some(folded(raw));
        }
        let (mut parts, whole) = self.parts(name);
        parts.pop().filter(|_| whole)
    }

    /// The value of a string constant. `None` for what PostgreSQL rejects, and for characters beyond ASCII that are
    /// written as escapes in an encoding that isn't UTF8.
    pub fn string(self, literal: Span) -> Option<Cow<'a, [u8]>> {
        let raw = self.raw(literal);
        let mut tokens = self.tokens(literal);
        let token = tokens.next()?;
        let Kind::Text(quote) = token.kind else { return None };
        let text = &raw[token.start..token.end];
        match quote {
            Quote::Dollar => {
                let tag = memchr::memchr(b'$', &text[1..])? + 2;
                Some(Cow::Borrowed(&text[tag..text.len() - tag]))
            }
            Quote::Plain => Some(quoted_parts(text, 1, false)),
            Quote::Escapes => {
                let open = usize::from(text[0] != b'\'') + 1;
                let content = quoted_parts(text, open, true);
                self.resolve(content)
            }
            Quote::Unicode => {
                let escape = match tokens.next() {
                    Some(next) if is_uescape(next, raw) => escape_of(tokens.next()?, raw)?,
                    _ => b'\\',
                };
                self.unicode(&quoted_parts(text, 3, false), escape).map(Cow::Owned)
            }
        }
    }

    fn resolve(self, content: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        if content.contains(&b'\\') {
            unescape::backslashes(&content, self.escapes()).map(Cow::Owned)
        } else {
            Some(content)
        }
    }

    fn unicode(self, content: &[u8], escape: u8) -> Option<Vec<u8>> {
        unescape::unicode(content, escape, self.escapes())
    }

    fn escapes(self) -> Escape {
        if self.dialect.encoding == Encoding::Utf8 { Escape::Any } else { Escape::OnlyAscii }
    }
}

/// PostgreSQL cuts names that have as many bytes, one less remains (`NAMEDATALEN`).
const NAME_MAX: usize = 64;

/// Cuts what is too long for a name, between two characters of UTF-8.
fn clip(name: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if name.len() < NAME_MAX {
        return name;
    }
    let mut end = NAME_MAX - 1;
    while end > 0 && name[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(&name[..end]),
        Cow::Owned(mut name) => {
            name.truncate(end);
            Cow::Owned(name)
        }
    }
}

fn folded(word: &[u8]) -> Cow<'_, [u8]> {
    if word.iter().any(u8::is_ascii_uppercase) { Cow::Owned(word.to_ascii_lowercase()) } else { Cow::Borrowed(word) }
}

pub(super) fn is_uescape(token: Token, text: &[u8]) -> bool {
    token.kind == Kind::Word && text[token.start..token.end].eq_ignore_ascii_case(b"uescape")
}

/// The character that a UESCAPE clause names.
fn escape_of(token: Token, text: &[u8]) -> Option<u8> {
    let [b'\'', escape, b'\''] = text[token.start..token.end] else { return None };
    let refused = escape.is_ascii_hexdigit() || escape.is_ascii_whitespace() || matches!(escape, b'+' | b'\'' | b'"');
    (!refused && escape.is_ascii()).then_some(escape)
}

#[cfg(test)]
mod tests;
