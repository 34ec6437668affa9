//! What looks like the call of a function, and its arguments as far as they are constants or parameters.

use super::super::lexer::{Kind, Lexer};
use super::super::source::{Source, Span, TEXT_MAX};

/// A name with a bracket behind it: a function, aggregate or procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// With its schema, if it is qualified; `Source::parts` reads it.
    pub name: Span,
    /// Where its opening bracket is.
    pub open: u32,
    /// It may be something else, such as a list of columns or a clause of the grammar: if the catalog has no function
    /// of that name, it is. It is among the names, too.
    pub doubtful: bool,
}

/// An argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A string constant; `Source::string` reads it.
    Text(Span),
    /// A number as written, its sign included.
    Number(Span),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL.
    Null,
    /// `$n`.
    Param(u16),
    /// An expression, a named argument, or what can't be told from one.
    Other,
}

impl Call {
    /// The arguments in order. A constant or parameter may be cast to one simple type: `'a'::text`, `$1::pg_catalog.int4`.
    pub fn arguments(self, source: Source<'_>) -> Vec<Argument> {
        let begin = self.open as usize + 1;
        let Some(rest) = source.text.get(begin..).filter(|_| begin < TEXT_MAX) else { return Vec::new() };
        let mut arguments = Vec::new();
        let mut parts = Vec::new();
        let mut depth = 0_usize;
        let counts = |kind| !matches!(kind, Kind::Blank | Kind::Comment);
        for mut token in Lexer::new(rest, source.dialect).filter(|token| counts(token.kind)) {
            (token.start, token.end) = (token.start + begin, token.end + begin);
            match token.kind {
                Kind::Open | Kind::OpenBracket => depth += 1,
                Kind::Close if depth == 0 => break,
                Kind::Close | Kind::CloseBracket => depth = depth.saturating_sub(1),
                Kind::Comma if depth == 0 => {
                    arguments.push(argument(&parts, source));
                    parts.clear();
                    continue;
                }
                _ => {}
            }
            // More than these is an expression anyway.
            if parts.len() < 8 {
                parts.push((token.kind, Span::new(token.start, token.end)));
            }
        }
        if !(parts.is_empty() && arguments.is_empty()) {
            arguments.push(argument(&parts, source));
        }
        arguments
    }
}

fn argument(parts: &[(Kind, Span)], source: Source<'_>) -> Argument {
    let (value, cast) = match parts {
        [(Kind::Operator, sign), (Kind::Integer | Kind::Decimal, number), cast @ ..]
            if matches!(source.raw(*sign), b"-" | b"+") =>
        {
            (Argument::Number(sign.to(*number)), cast)
        }
        [(kind, span), cast @ ..] => (constant(*kind, *span, source), cast),
        [] => return Argument::Other,
    };
    let plain = matches!(
        cast,
        [] | [(Kind::Cast, _), (Kind::Word | Kind::QuotedName, _)]
            | [(Kind::Cast, _), (Kind::Word, _), (Kind::Dot, _), (Kind::Word | Kind::QuotedName, _)]
    );
    if plain { value } else { Argument::Other }
}

fn constant(kind: Kind, span: Span, source: Source<'_>) -> Argument {
    let raw = source.raw(span);
    match kind {
        Kind::Text(_) => Argument::Text(span),
        Kind::Integer | Kind::Decimal => Argument::Number(span),
        Kind::Param => {
            let number = raw[1..]
                .iter()
                .try_fold(0_u16, |number, digit| number.checked_mul(10)?.checked_add(u16::from(digit - b'0')));
            number.map_or(Argument::Other, Argument::Param)
        }
        Kind::Word if raw.eq_ignore_ascii_case(b"true") => Argument::Bool(true),
        Kind::Word if raw.eq_ignore_ascii_case(b"false") => Argument::Bool(false),
        Kind::Word if raw.eq_ignore_ascii_case(b"null") => Argument::Null,
        _ => Argument::Other,
    }
}
