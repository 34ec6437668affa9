//! What a statement does by code that is not in its text: by functions that it calls, and by those that hang on the
//! relations that it names. The catalog tells; while none is known, whatever has a name may do anything.

use super::super::catalog::{Catalog, Danger, FIRST_NUMBER, is_harmless};
use super::super::effects::Effects;
use super::super::grammar::{Create, Kind, Object, Statement};
use super::super::source::Source;
use super::{Deed, Deeds, What, executed, explained, touches};

/// Adds what a statement may do by the code that it reaches.
pub(super) fn reaches(statement: &Statement, source: Source<'_>, catalog: Option<&Catalog>, deeds: &mut Deeds) {
    let kind = explained(&statement.kind);
    let danger = match catalog {
        _ if !runs(kind) => Danger::default(),
        None => unknown(statement, source),
        Some(catalog) => by_names(statement, source, catalog),
    };
    // Of what is made here the text tells by the same names.
    let of_text =
        |deed: &Deed| matches!(deed, Deed::Holds(What::Temporary, _) | Deed::MayBeTemporary | Deed::TakesNumber);
    let has_code = !danger.is_none() || !deeds.iter().all(of_text);
    add(danger.or(Danger::DEFINES.when(defines(statement, has_code))), catalog, deeds);
}

/// Adds what a Parse with parameters of these types may do beyond its text: their values are read when it is bound.
pub fn with_types(deeds: Option<Deeds>, types: impl Iterator<Item = u32>, catalog: Option<&Catalog>) -> Option<Deeds> {
    let of_type = |oid| match catalog {
        Some(catalog) => catalog.of_type(oid),
        None => Danger::ANYTHING.when(oid >= FIRST_NUMBER),
    };
    let danger = types.map(of_type).fold(Danger::default(), Danger::or);
    if danger.is_none() {
        return deeds;
    }
    let mut deeds = deeds.unwrap_or_default();
    add(danger, catalog, &mut deeds);
    Some(deeds)
}

fn add(danger: Danger, catalog: Option<&Catalog>, deeds: &mut Deeds) {
    let mut add = |deed| {
        let known = deed == Deed::MayDefine && deeds.contains(&Deed::Defines);
        if !known && !deeds.contains(&deed) {
            deeds.push(deed);
        }
    };
    touches(danger, catalog, &mut add);
    let others =
        [(Danger::ASKS, Deed::MayAskNumber), (Danger::DEFINES, Deed::Defines), (Danger::RUNS_TEXT, Deed::MayDefine)];
    others.into_iter().filter(|(kind, _)| danger.has(*kind)).for_each(|(_, deed)| add(deed));
}

/// Whether a statement of this kind runs code beyond its own, or has it run while it is planned.
fn runs(kind: &Kind) -> bool {
    let reads_or_writes = matches!(
        kind,
        Kind::Query | Kind::SelectInto(_) | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Copy(_)
    );
    let code = matches!(kind, Kind::Declare { .. } | Kind::Execute(_) | Kind::Do { .. } | Kind::Call);
    let ddl = matches!(kind, Kind::Create(_) | Kind::Drop(_) | Kind::Alter(_) | Kind::OtherDdl | Kind::Truncate);
    let upkeep = matches!(kind, Kind::Refresh | Kind::Vacuum | Kind::Analyze | Kind::Cluster | Kind::Reindex);
    reads_or_writes || code || ddl || upkeep
}

/// Whether it runs scripts of extensions: these may do anything.
fn runs_script(kind: &Kind) -> bool {
    matches!(kind, Kind::Create(Create { object: Object::Extension, .. }) | Kind::Alter(Object::Extension))
}

fn unknown(statement: &Statement, source: Source<'_>) -> Danger {
    let code = matches!(explained(&statement.kind), Kind::Call | Kind::Execute(_) | Kind::Do { .. });
    let upkeep = matches!(statement.kind, Kind::Vacuum | Kind::Analyze | Kind::Cluster | Kind::Reindex);
    let ddl = statement.effects.has(Effects::DDL) || upkeep;
    let calls =
        || statement.calls.iter().any(|call| !source.last_part(call.name).is_some_and(|name| is_harmless(&name)));
    Danger::ANYTHING.when(code || ddl || !statement.names.is_empty() || calls())
}

fn by_names(statement: &Statement, source: Source<'_>, catalog: &Catalog) -> Danger {
    let last = |span| source.last_part(span);
    let unknown_procedure = statement.kind == Kind::Call
        && !statement.calls.first().and_then(|call| last(call.name)).is_some_and(|name| catalog.has_procedure(&name));
    let mut danger = Danger::TOUCHES.or(Danger::DEFINES).when(unknown_procedure);
    danger = danger.or(Danger::TOUCHES.when(runs_script(&statement.kind)));
    if catalog.is_quiet() {
        return danger;
    }
    danger = danger.or(catalog.anything());
    if statement.effects.has(Effects::DDL) {
        danger = danger.or(catalog.any_ddl());
    }
    let kind = explained(&statement.kind);
    // What is prepared was judged when it was, by what was known then.
    danger = danger.or(Danger::ANYTHING.when(executed(kind).is_some()));
    danger = danger.or(Danger::TOUCHES.when(catalog.has_relations() && names_little(kind, statement, source)));
    for call in &statement.calls {
        let by_name = |name: &[u8]| catalog.function(name).or(catalog.named(name));
        danger = danger.or(last(call.name).map_or(Danger::ANYTHING, |name| by_name(&name)));
    }
    if catalog.has_relations() {
        for span in &statement.names {
            danger = danger.or(last(*span).map_or(Danger::TOUCHES, |name| catalog.named(&name)));
        }
    }
    danger
}

/// Whether it may run code that hangs on what it does not name: on all tables, on those that refer to one, on an index. The
/// body of a function in SQL is read when it is made.
fn names_little(kind: &Kind, statement: &Statement, source: Source<'_>) -> bool {
    match kind {
        Kind::Vacuum | Kind::Analyze | Kind::Cluster | Kind::Reindex => true,
        Kind::Truncate => memchr::memmem::find(&source.raw(statement.span).to_ascii_lowercase(), b"cascade").is_some(),
        Kind::Create(Create { object, .. }) => *object == Object::Routine,
        // CASCADE goes to the tables of that type.
        Kind::Alter(object) => *object == Object::Type,
        _ => false,
    }
}

/// Whether the catalog may be another once this is committed, so that there is more in it that is dangerous: what is
/// dropped does not matter. A table or view is only as dangerous as what its text names.
fn defines(statement: &Statement, has_code: bool) -> bool {
    let object = match &statement.kind {
        Kind::Create(Create { object, .. }) | Kind::Alter(object) => *object,
        Kind::OtherDdl | Kind::CommitPrepared => return true,
        _ => return false,
    };
    match object {
        Object::Database | Object::Tablespace | Object::Subscription | Object::Role | Object::System => false,
        Object::Sequence => false,
        Object::Table | Object::View | Object::MaterializedView | Object::Index => has_code,
        Object::Routine | Object::Schema | Object::Type | Object::Trigger | Object::Extension | Object::Other => true,
    }
}
