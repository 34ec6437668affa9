//! Names and values of settings, read.

use std::borrow::Cow;

use super::super::lexer::Kind;
use super::super::source::{Source, Span};
use super::kind::{SettingName, Value};

/// One item of a setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// What it is: a string's content, a word as PostgreSQL folds it, a number with its sign.
    pub value: Cow<'a, [u8]>,
    /// Whether it was written as a string.
    pub quoted: bool,
}

impl SettingName {
    /// The name as pg_settings has it, in small letters; `None` if it can't be read.
    pub fn name(self, source: Source<'_>) -> Option<Cow<'_, [u8]>> {
        Some(Cow::Borrowed(match self {
            Self::Plain(span) => return plain(source, span),
            Self::TimeZone => b"timezone",
            Self::ClientEncoding => b"client_encoding",
            Self::SearchPath => b"search_path",
            Self::Role => b"role",
            Self::SessionAuthorization => b"session_authorization",
            Self::XmlOption => b"xmloption",
            Self::TransactionIsolation => b"transaction_isolation",
        }))
    }
}

/// Names of settings know no case, in quotes neither.
fn plain(source: Source<'_>, span: Span) -> Option<Cow<'_, [u8]>> {
    let (parts, whole) = source.parts(span);
    let name = if let [only] = &parts[..] { only.clone() } else { Cow::Owned(parts.join(&b'.')) };
    let lower = |name: Cow<'_, [u8]>| name.iter().any(u8::is_ascii_uppercase).then(|| name.to_ascii_lowercase());
    whole.then(|| lower(name.clone()).map_or(name, Cow::Owned))
}

impl Value {
    /// The items of a list; `None` for the other forms, and for a string that can't be read.
    pub fn items(self, source: Source<'_>) -> Option<Vec<Item<'_>>> {
        let Self::List(list) = self else { return None };
        let mut items = Vec::with_capacity(1);
        let mut sign = None;
        let mut tokens = source.tokens(list).peekable();
        while let Some(token) = tokens.next() {
            let mut span = Span::new(token.start, token.end);
            // A UESCAPE clause belongs to what stands before it.
            if matches!(token.kind, Kind::UnicodeName | Kind::Text(super::lexer::Quote::Unicode)) {
                while let Some(clause) = tokens.next_if(|token| token.kind != Kind::Comma) {
                    span.end = Span::new(clause.start, clause.end).end;
                }
            }
            let span = Span { start: list.start + span.start, end: list.start + span.end };
            let value = match token.kind {
                Kind::Comma => continue,
                Kind::Operator => {
                    sign = Some(source.raw(span));
                    continue;
                }
                Kind::Text(_) => source.string(span)?,
                Kind::Integer | Kind::Decimal => {
                    let number = number(source.raw(span));
                    if sign == Some(b"-") { Cow::Owned([b"-", &*number].concat()) } else { number }
                }
                _ => source.last_part(span)?,
            };
            items.push(Item { value, quoted: matches!(token.kind, Kind::Text(_)) });
            sign = None;
        }
        Some(items)
    }
}

/// A number as PostgreSQL keeps it: what fits into an `int` is one, all else stays as it is written.
fn number(raw: &[u8]) -> Cow<'_, [u8]> {
    let text = str::from_utf8(raw).unwrap_or_default().replace('_', "");
    let read = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => i32::from_str_radix(&text[2..], 16),
        [b'0', b'o' | b'O', ..] => i32::from_str_radix(&text[2..], 8),
        [b'0', b'b' | b'B', ..] => i32::from_str_radix(&text[2..], 2),
        _ => text.parse(),
    };
    read.map_or(Cow::Borrowed(raw), |number| number.to_string().into_bytes().into())
}
