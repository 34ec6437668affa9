//! SET, RESET and SHOW in all their forms.

use super::super::keywords::Keyword as K;
use super::super::lexer::Kind as Token;
use super::super::source::Span;
use super::kind::{Kind, Setting, SettingName, Value};
use super::reader::Reader;
use super::transaction;

/// The statement whose first word, `first`, has been taken.
pub(super) fn read(reader: &mut Reader<'_>, first: K) -> Option<Kind> {
    match first {
        K::Set => set(reader),
        K::Reset if reader.eat(K::All) => Some(Kind::ResetAll),
        K::Reset => named(reader).map(Kind::Reset),
        K::Show if reader.eat(K::All) => Some(Kind::ShowAll),
        K::Show => named(reader).map(Kind::Show),
        _ => None,
    }
}

fn set(reader: &mut Reader<'_>) -> Option<Kind> {
    if reader.at(K::Constraints) && !is_assigned(reader) {
        return constraints(reader);
    }
    let mut local = false;
    // LOCAL and SESSION are also names; then TO, = or a dot follows them.
    if reader.at_any(&[K::Local, K::Session]) && !is_assigned(reader) {
        local = reader.at(K::Local);
        let authorization = reader.at(K::Session)
            && reader.second().is_some_and(|word| word.is(K::Authorization) || word.is(K::Characteristics));
        if !authorization {
            reader.bump();
        }
    }
    if !is_assigned(reader) {
        if reader.eat_all(&[K::Session, K::Characteristics, K::As, K::Transaction]) {
            return some_modes(reader).map(Kind::SetCharacteristics);
        }
        if reader.eat(K::Transaction) {
            if reader.eat(K::Snapshot) {
                return reader.string().map(|_| Kind::SetTransaction(super::Modes::default(), true));
            }
            return some_modes(reader).map(|modes| Kind::SetTransaction(modes, false));
        }
        if let Some((name, value)) = special(reader) {
            return Some(Kind::Set(Setting { name, local, value: value? }));
        }
    }
    let name = reader.dotted().map(SettingName::Plain)?;
    if reader.eat_all(&[K::From, K::Current]) {
        return Some(Kind::Set(Setting { name, local, value: Value::Current }));
    }
    let equals = reader.peek().is_some_and(|word| reader.source.raw(word.span()) == b"=");
    if !(equals || reader.at(K::To)) {
        return None;
    }
    reader.bump();
    let value = list(reader)?;
    Some(Kind::Set(Setting { name, local, value }))
}

/// Whether the next word is the name in an ordinary assignment.
fn is_assigned(reader: &Reader<'_>) -> bool {
    reader
        .second()
        .is_some_and(|word| word.is(K::To) || word.kind == Token::Dot || reader.source.raw(word.span()) == b"=")
}

fn some_modes(reader: &mut Reader<'_>) -> Option<super::Modes> {
    if reader.ends() { None } else { transaction::modes(reader) }
}

/// Forms with syntax of their own. The value is `None` if it isn't understood.
fn special(reader: &mut Reader<'_>) -> Option<(SettingName, Option<Value>)> {
    let default = |reader: &mut Reader<'_>| reader.eat(K::Default).then_some(Value::Default);
    let text = |reader: &mut Reader<'_>| reader.string().map(Value::List);
    let role = |reader: &mut Reader<'_>| text(reader).or_else(|| word(reader));
    if reader.eat_all(&[K::Time, K::Zone]) {
        return Some((SettingName::TimeZone, time_zone(reader)));
    }
    if reader.eat(K::Schema) {
        return Some((SettingName::SearchPath, text(reader)));
    }
    if reader.eat(K::Names) {
        let value = if reader.ends() { Some(Value::Default) } else { text(reader).or_else(|| default(reader)) };
        return Some((SettingName::ClientEncoding, value));
    }
    if reader.eat(K::Role) {
        return Some((SettingName::Role, role(reader)));
    }
    if reader.eat_all(&[K::Session, K::Authorization]) {
        return Some((SettingName::SessionAuthorization, default(reader).or_else(|| role(reader))));
    }
    if reader.eat_all(&[K::Xml, K::Option]) {
        let value = reader.at_any(&[K::Document, K::Content]).then(|| word(reader)).flatten();
        return Some((SettingName::XmlOption, value));
    }
    None
}

/// A word that is not reserved.
fn word(reader: &mut Reader<'_>) -> Option<Value> {
    use super::super::keywords::Class;
    let next = reader.peek()?;
    let reserved = next.keyword.is_some_and(|keyword| keyword.class() == Class::Reserved);
    (next.is_label() && !reserved).then(|| reader.bump())?.map(|word| Value::List(word.span()))
}

fn time_zone(reader: &mut Reader<'_>) -> Option<Value> {
    if reader.eat(K::Default) || reader.eat(K::Local) {
        return Some(Value::Default);
    }
    if reader.at(K::Interval) {
        let mut span = reader.peek()?.span();
        while !reader.ends() {
            span = span.to(reader.bump()?.span());
        }
        return Some(Value::Interval(span));
    }
    item(reader).map(Value::List)
}

/// DEFAULT, or items with commas in between.
fn list(reader: &mut Reader<'_>) -> Option<Value> {
    if reader.eat(K::Default) {
        return Some(Value::Default);
    }
    let mut span = item(reader)?;
    while reader.eat_kind(Token::Comma) {
        span = span.to(item(reader)?);
    }
    Some(Value::List(span))
}

/// A string, a number with or without a sign, or a word.
fn item(reader: &mut Reader<'_>) -> Option<Span> {
    if let Some(text) = reader.string() {
        return Some(text);
    }
    let first = reader.peek()?;
    if first.kind == Token::Operator && matches!(reader.source.raw(first.span()), b"-" | b"+") {
        reader.bump();
        let number = reader.peek().filter(|word| matches!(word.kind, Token::Integer | Token::Decimal))?;
        reader.bump();
        return Some(first.span().to(number.span()));
    }
    if matches!(first.kind, Token::Integer | Token::Decimal) {
        return reader.bump().map(|word| word.span());
    }
    // TRUE, FALSE and ON are the reserved words that may stand here.
    if reader.at_any(&[K::True, K::False, K::On]) {
        return reader.bump().map(|word| word.span());
    }
    match word(reader)? {
        Value::List(span) => Some(span),
        _ => None,
    }
}

/// The setting of a RESET or SHOW.
fn named(reader: &mut Reader<'_>) -> Option<SettingName> {
    if reader.eat_all(&[K::Time, K::Zone]) {
        Some(SettingName::TimeZone)
    } else if reader.eat_all(&[K::Session, K::Authorization]) {
        Some(SettingName::SessionAuthorization)
    } else if reader.eat_all(&[K::Transaction, K::Isolation, K::Level]) {
        Some(SettingName::TransactionIsolation)
    } else {
        reader.dotted().map(SettingName::Plain)
    }
}

fn constraints(reader: &mut Reader<'_>) -> Option<Kind> {
    reader.bump();
    if !reader.eat(K::All) {
        reader.dotted()?;
        while reader.eat_kind(Token::Comma) {
            reader.dotted()?;
        }
    }
    (reader.eat(K::Deferred) || reader.eat(K::Immediate)).then_some(Kind::SetConstraints)
}
