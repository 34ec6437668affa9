//! CREATE, DROP and ALTER: of what.

use super::super::keywords::Keyword as K;
use super::kind::{Create, Kind, Object, Temp};
use super::reader::Reader;

/// What stands behind CREATE.
pub(super) fn create(reader: &mut Reader<'_>) -> Option<Kind> {
    reader.eat_all(&[K::Or, K::Replace]);
    if reader.at_any(&[K::Local, K::Global]) {
        reader.bump();
    }
    let temporary = reader.eat(K::Temp) || reader.eat(K::Temporary);
    let temp = if temporary { Temp::Session } else { Temp::No };
    reader.eat(K::Unlogged);
    reader.peek()?.keyword?;
    Some(Kind::Create(Create { object: object(reader), temp, query: false, executes: None }))
}

/// What stands behind DROP.
pub(super) fn drop(reader: &mut Reader<'_>) -> Kind {
    Kind::Drop(object(reader))
}

/// What stands behind ALTER.
pub(super) fn altered(reader: &mut Reader<'_>) -> Object {
    object(reader)
}

/// Takes one word or two; what isn't known is [`Object::Other`].
fn object(reader: &mut Reader<'_>) -> Object {
    // Words before the one that counts: RECURSIVE VIEW, UNIQUE INDEX, FOREIGN TABLE, EVENT TRIGGER, TRUSTED LANGUAGE.
    let before = [K::Recursive, K::Unique, K::Constraint, K::Event, K::Trusted, K::Procedural, K::Foreign];
    while reader.at_any(&before) {
        reader.bump();
    }
    match reader.bump().and_then(|word| word.keyword) {
        Some(K::Table) => Object::Table,
        Some(K::View) => Object::View,
        Some(K::Materialized) => Object::MaterializedView,
        Some(K::Sequence) => Object::Sequence,
        Some(K::Index) => Object::Index,
        Some(K::Function | K::Procedure | K::Routine | K::Aggregate) => Object::Routine,
        Some(K::Schema) => Object::Schema,
        Some(K::Type | K::Domain) => Object::Type,
        Some(K::Trigger | K::Rule | K::Policy) => Object::Trigger,
        Some(K::Database) => Object::Database,
        Some(K::Tablespace) => Object::Tablespace,
        Some(K::Subscription) => Object::Subscription,
        Some(K::Role | K::User | K::Group) => Object::Role,
        Some(K::Extension) => Object::Extension,
        Some(K::System) => Object::System,
        _ => Object::Other,
    }
}
