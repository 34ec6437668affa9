//! What a statement does to the session that runs it, once it has come to its end well: by its own words, by
//! PostgreSQL's own functions that it calls, by the code that it carries (DO). What can't be told is said so.

mod call;
mod code;
mod glance;
mod reach;

use smallvec::SmallVec;

pub use self::call::{Given, SetConfig};
pub(super) use self::call::{READERS, is_own_setter};
pub(super) use self::code::{judge_body, makes_table};
pub use self::glance::may_do;
pub use self::reach::with_types;
use super::catalog::{Catalog, Danger};
use super::effects::Effects;
use super::grammar::{Create, Discard, Isolation, Kind, Modes, Script, Setting, SettingName, Statement, Temp, Value};
use super::source::{Dialect, Source, Span};

/// A name as PostgreSQL stores it.
pub type Name = Box<[u8]>;

/// One thing that a statement does to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A setting has this value from now on.
    Set(Name, Box<[u8]>),
    /// A setting has another value until the transaction ends; the name is empty where it can't be read.
    Local(Name),
    /// A setting has its default again.
    Reset(Name),
    /// All have, but for role and session authorization.
    ResetAll,
    /// `set_config()`, of which a Bind gives the values.
    SetConfig(SetConfig),
    /// SAVEPOINT.
    Savepoint(Name),
    /// RELEASE.
    Release(Name),
    /// ROLLBACK TO.
    RollbackTo(Name),
    /// DISCARD ALL.
    DiscardAll,
    /// Leaves something behind that no other server has; the name is empty where it has none.
    Holds(What, Name),
    /// That is gone again; without a name, all of its kind.
    Lets(What, Option<Name>),
    /// Perhaps it is gone: only the server knows.
    MayLet(What),
    /// Perhaps something of this kind is there, or gone: only the server knows.
    MayHold(What),
    /// Perhaps a setting has another value: only the server knows.
    MaySet(Name),
    /// Perhaps what it makes is temporary: only the server knows.
    MayBeTemporary,
    /// EXECUTE: it runs what has this name.
    Executes(Name),
    /// `nextval()` or `setval()`: the session has a number of a sequence.
    TakesNumber,
    /// `lastval()` or `currval()`: it asks which number it has.
    AsksNumber,
    /// Code that it reaches may ask that.
    MayAskNumber,
    /// DISCARD SEQUENCES: it has none any more.
    ForgetsNumbers,
    /// NOTIFY: leaves nothing behind, but others hear of it.
    Notifies,
    /// Nobody knows what it leaves.
    Unclear(Doubt),
    /// What is known of the database's functions may not hold any more.
    Defines,
    /// The same, if a text that nobody knows is such.
    MayDefine,
}

/// What only the server has that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Objects in the temporary schema.
    Temporary,
    /// A cursor WITH HOLD.
    Cursor,
    /// A statement of SQL's PREPARE.
    Statement,
    /// A channel that is listened to.
    Channel,
    /// An advisory lock of the session.
    Lock,
    /// A loaded library.
    Library,
    /// The seed of `random()`.
    Seed,
    /// A connection to another server.
    Connection,
    /// What replication and backups keep in a session: an origin, a temporary slot, a backup that was begun.
    Replication,
    /// Whatever code left that nobody knows.
    Unknown,
    /// Numbers of sequences that the client has taken and mostly asks for next.
    Number,
}

/// Why nobody knows what a statement leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// A setting is set whose name, value or fate the text does not tell.
    Setting,
    /// Code runs that may do anything: a procedure, dynamic SQL.
    Code,
    /// The catalog that would tell what code does was not read yet, or is about to change.
    Unread,
    /// The statement is not understood.
    Text,
}

/// What a statement does, in order.
pub type Deeds = SmallVec<[Deed; 1]>;

/// What each statement of a text does; `None` where none does anything, which mostly is seen at a glance. Without a catalog
/// nothing is known of code that is not in the text.
pub fn of_text(text: &[u8], dialect: Dialect, catalog: Option<&Catalog>) -> Option<Box<[Deeds]>> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let may_do = may_do(text, catalog);
    may_do.then(|| of_script(&Script::of(text, dialect), Source::new(text, dialect), catalog))?
}

/// The same of a text that was read.
pub fn of_script(script: &Script, source: Source<'_>, catalog: Option<&Catalog>) -> Option<Box<[Deeds]>> {
    if script.broken && !script.statements.iter().any(|statement| statement.kind == Kind::Unknown) {
        // No server runs any of it.
        return None;
    }
    let mut known = catalog;
    let next = |statement: &Statement| {
        let deeds = of(statement, source, known);
        known = known.filter(|_| !deeds.iter().any(|deed| matches!(deed, Deed::Defines | Deed::MayDefine)));
        deeds
    };
    let deeds: Box<[Deeds]> = script.statements.iter().map(next).collect();
    deeds.iter().any(|deeds| !deeds.is_empty()).then_some(deeds)
}

/// What a statement does.
pub fn of(statement: &Statement, source: Source<'_>, catalog: Option<&Catalog>) -> Deeds {
    let mut deeds = Deeds::new();
    if statement.effects.has(Effects::UNSURE) {
        deeds.extend([Deed::Unclear(Doubt::Text), Deed::MayDefine]);
        return deeds;
    }
    of_kind(&statement.kind, source, catalog, &mut deeds);
    if let Some(span) = executed(&statement.kind) {
        let name = source.last_part(span).map(|name| Deed::Executes(Name::from(&*name)));
        deeds.push(name.unwrap_or(Deed::Unclear(Doubt::Text)));
    }
    let names_settings = |span: &Span| source.last_part(*span).is_none_or(|name| *name == *b"pg_settings");
    if statement.effects.has(Effects::WRITES) && statement.names.iter().any(names_settings) {
        // Its rule calls set_config(), for whoever updates it, or a view that is made of it here.
        deeds.push(Deed::Unclear(Doubt::Setting));
    }
    call::calls(statement, source, &mut deeds);
    reach::reaches(statement, source, catalog, &mut deeds);
    deeds
}

/// The statement that EXPLAIN is for; others are their own.
fn explained(kind: &Kind) -> &Kind {
    if let Kind::Explain { inner, .. } = kind { inner } else { kind }
}

/// The prepared statement that is run, or explained, by name.
fn executed(kind: &Kind) -> Option<Span> {
    match explained(kind) {
        Kind::Execute(name) => Some(*name),
        Kind::Create(create) => create.executes,
        _ => None,
    }
}

/// What SQL's PREPARE takes.
fn is_planned(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Query | Kind::SelectInto(_) | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge | Kind::Unknown
    )
}

fn nameless(what: What) -> Deed {
    Deed::Holds(what, Name::default())
}

fn of_kind(kind: &Kind, source: Source<'_>, catalog: Option<&Catalog>, deeds: &mut Deeds) {
    let name = |span: &Span| source.last_part(*span).map(|name| Name::from(&*name));
    let named = |span: &Span, deed: &dyn Fn(Name) -> Deed| name(span).map_or(Deed::Unclear(Doubt::Text), deed);
    let deed = match kind {
        Kind::Set(setting) => return set(*setting, source, deeds),
        Kind::SetCharacteristics(modes) => return characteristics(*modes, deeds),
        Kind::Reset(setting) => match canonical(*setting, source) {
            Some(name) => Deed::Reset(name),
            None => Deed::Unclear(Doubt::Setting),
        },
        Kind::ResetAll => Deed::ResetAll,
        Kind::Savepoint(span) => named(span, &Deed::Savepoint),
        Kind::Release(span) => named(span, &Deed::Release),
        Kind::RollbackTo(span) => named(span, &Deed::RollbackTo),
        Kind::Discard(Discard::All) => Deed::DiscardAll,
        Kind::Discard(Discard::Sequences) => Deed::ForgetsNumbers,
        Kind::Discard(Discard::Temp) => Deed::Lets(What::Temporary, None),
        Kind::Prepare { name: span, body } => {
            deeds.push(named(span, &|name| Deed::Holds(What::Statement, name)));
            // It runs whenever it is executed. What can't be prepared, as another PREPARE, no server takes.
            let inner = Source::new(source.raw(*body), source.dialect);
            let script = Script::of(inner.text, inner.dialect);
            if !script.statements.iter().all(|statement| is_planned(&statement.kind)) {
                return deeds.push(Deed::Unclear(Doubt::Text));
            }
            let runs = of_script(&script, inner, catalog).unwrap_or_default();
            let of_numbers = |deed: &&Deed| matches!(deed, Deed::TakesNumber | Deed::AsksNumber | Deed::MayAskNumber);
            deeds.extend(runs.iter().flatten().filter(of_numbers).cloned());
            if runs.iter().flatten().any(|deed| !matches!(deed, Deed::Local(_) | Deed::Notifies) && !of_numbers(&deed))
            {
                deeds.push(Deed::Unclear(Doubt::Code));
            }
            return;
        }
        Kind::Deallocate(span) => named(span, &|name| Deed::Lets(What::Statement, Some(name))),
        Kind::DeallocateAll => Deed::Lets(What::Statement, None),
        Kind::Declare { name: span, hold: true } => named(span, &|name| Deed::Holds(What::Cursor, name)),
        Kind::Close(span) => named(span, &|name| Deed::Lets(What::Cursor, Some(name))),
        Kind::CloseAll => Deed::Lets(What::Cursor, None),
        Kind::Listen(span) => named(span, &|name| Deed::Holds(What::Channel, name)),
        Kind::Unlisten(span) => named(span, &|name| Deed::Lets(What::Channel, Some(name))),
        Kind::UnlistenAll => Deed::Lets(What::Channel, None),
        Kind::Notify(..) => Deed::Notifies,
        Kind::Load => nameless(What::Library),
        Kind::SelectInto(true) | Kind::Create(Create { temp: Temp::Session, .. }) => nameless(What::Temporary),
        // It is temporary where the first schema of the search_path that there is is pg_temp. IMPORT FOREIGN SCHEMA
        // makes tables, too.
        Kind::SelectInto(false) | Kind::OtherDdl => Deed::MayBeTemporary,
        Kind::Create(Create { object, temp: Temp::No, .. }) if object.is_in_schema() => Deed::MayBeTemporary,
        Kind::Drop(_) => Deed::MayLet(What::Temporary),
        Kind::Do { body, language } => return code(*body, *language, source, catalog, deeds),
        Kind::Explain { analyze: true, inner } => return of_kind(inner, source, catalog, deeds),
        Kind::Unknown => {
            deeds.push(Deed::MayDefine);
            Deed::Unclear(Doubt::Text)
        }
        _ => return,
    };
    deeds.push(deed);
}

/// DO.
fn code(body: Span, language: Option<Span>, source: Source<'_>, catalog: Option<&Catalog>, deeds: &mut Deeds) {
    let plpgsql = language.is_none_or(|language| {
        let name = source.string(language).or_else(|| source.last_part(language));
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"plpgsql"))
    });
    let body = source.string(body).filter(|_| plpgsql);
    let mut named = |name: &[u8]| catalog.map_or(Danger::TOUCHES, |catalog| catalog.in_code(name));
    let mut set = Vec::<Name>::new();
    let mut sets = |name: &[u8]| {
        let known = set.iter().any(|known| **known == *name);
        if !known && set.len() < MAY_SET_MAX {
            set.push(name.into());
        }
        Danger::TOUCHES.when(!known && set.len() >= MAY_SET_MAX)
    };
    let danger = body.as_ref().map_or(Danger::ANYTHING, |body| judge_body(body, source.dialect, &mut named, &mut sets));
    deeds.extend(set.into_iter().map(Deed::MaySet));
    touches(danger, catalog, &mut |deed| deeds.push(deed));
    if danger.has(Danger::ASKS) {
        deeds.push(Deed::AsksNumber);
    }
    // What it is that is run then may be DDL: code for once often is.
    let dynamic = |body: &[u8]| memchr::memchr2_iter(b'x', b'X', body).any(|at| executes(body, at));
    if danger.has(Danger::DEFINES) || (danger.has(Danger::RUNS_TEXT) && body.as_deref().is_none_or(dynamic)) {
        deeds.push(Deed::Defines);
    } else if danger.has(Danger::RUNS_TEXT) {
        deeds.push(Deed::MayDefine);
    }
}

/// What is left by code that is so dangerous, beyond what it does with numbers and definitions.
fn touches(danger: Danger, catalog: Option<&Catalog>, add: &mut dyn FnMut(Deed)) {
    if danger.has(Danger::LASTS) {
        add(nameless(What::Replication));
    }
    if danger.has(Danger::TOUCHES) {
        add(Deed::Unclear(if catalog.is_some() { Doubt::Code } else { Doubt::Unread }));
    }
    for (kind, what) in [(Danger::LOCKS, What::Lock), (Danger::MAKES, What::Temporary)] {
        if danger.has(kind) {
            add(Deed::MayHold(what));
        }
    }
    let settings = catalog.into_iter().flat_map(|catalog| catalog.settings(danger));
    settings.for_each(|name| add(Deed::MaySet(name.clone())));
}

/// So many settings the code of one DO is believed to set.
const MAY_SET_MAX: usize = 32;

/// Whether each part of a setting's name can be written as an identifier, and is not cut then.
fn is_whole(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'.').all(|part| (1..=code::NAME_MAX).contains(&part.len()))
}

/// What it means that a setting of this name may have been set; `None`: nothing that outlasts its transaction.
fn may_set(name: &[u8]) -> Option<Deed> {
    let name = today(name);
    // In our question the name is to stand as it is.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.$".contains(byte);
    let (dot, begins) = (|byte: &u8| *byte == b'.', |part: &[u8]| part[0].is_ascii_alphabetic() || part[0] == b'_');
    Some(match name {
        // A role may be lost with it.
        b"session_authorization" | b"seed" => Deed::Unclear(Doubt::Setting),
        // Nor may everybody see these.
        b"dynamic_library_path" | b"session_preload_libraries" => Deed::Unclear(Doubt::Setting),
        name if OF_TRANSACTION.contains(&name) => return None,
        // PostgreSQL's own extension has no settings but its own, which not everybody may set.
        name if name.starts_with(b"plpgsql.") => Deed::Unclear(Doubt::Setting),
        name if name.iter().all(plain) && is_whole(name) && name.split(dot).all(begins) => Deed::MaySet(name.into()),
        _ => Deed::Unclear(Doubt::Setting),
    })
}

/// Whether there is `execute` around this x.
fn executes(body: &[u8], x: usize) -> bool {
    x > 0 && body.get(x - 1..x + 6).is_some_and(|word| word.eq_ignore_ascii_case(b"execute"))
}

/// The setting's name as it is kept.
fn canonical(setting: SettingName, source: Source<'_>) -> Option<Name> {
    setting.name(source).map(|name| today(&name).into())
}

/// PostgreSQL still knows some by older names.
fn today(name: &[u8]) -> &[u8] {
    match name {
        b"sort_mem" => b"work_mem",
        b"vacuum_mem" => b"maintenance_work_mem",
        name => name,
    }
}

fn set(setting: Setting, source: Source<'_>, deeds: &mut Deeds) {
    let name = canonical(setting.name, source);
    if setting.local {
        return deeds.push(Deed::Local(name.unwrap_or_default()));
    }
    match name.as_deref() {
        Some(b"seed") => return deeds.push(nameless(What::Seed)),
        Some(name) if OF_TRANSACTION.contains(&name) => return,
        _ => {}
    }
    let deed = name.and_then(|name| match setting.value {
        Value::Default => Some(Deed::Reset(name)),
        Value::Current => None,
        Value::Interval(span) => Some(Deed::Set(name, source.raw(span).into())),
        Value::List(_) => {
            let value = flat(&name, setting.value, source)?;
            Some(Deed::Set(name, value))
        }
    });
    deeds.push(deed.unwrap_or(Deed::Unclear(Doubt::Setting)));
}

/// Settings that begin anew with each transaction.
const OF_TRANSACTION: [&[u8]; 3] = [b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable"];

/// Settings that are lists of names: each of them is quoted where it must be.
const LISTS_OF_NAMES: [&[u8]; 6] = [
    b"search_path",
    b"temp_tablespaces",
    b"local_preload_libraries",
    b"session_preload_libraries",
    b"shared_preload_libraries",
    b"unix_socket_directories",
];

/// The value as one string, as PostgreSQL makes it of a SET's items (`flatten_set_variable_args`).
fn flat(name: &[u8], value: Value, source: Source<'_>) -> Option<Box<[u8]>> {
    let items = value.items(source)?;
    let names = LISTS_OF_NAMES.contains(&name);
    let mut flat = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            flat.extend_from_slice(b", ");
        }
        if names { quote(&item.value, &mut flat) } else { flat.extend_from_slice(&item.value) }
    }
    Some(flat.into())
}

/// A name in double quotes; those that need none are spared.
fn quote(name: &[u8], out: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    if name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(plain) {
        return out.extend_from_slice(name);
    }
    push_quoted(name, out);
}

/// A name in double quotes. In no encoding of PostgreSQL's clients is a quote a part of another character.
pub fn push_quoted(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in name {
        out.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
    }
    out.push(b'"');
}

fn characteristics(modes: Modes, deeds: &mut Deeds) {
    let mut set = |name: &str, value: &str| deeds.push(Deed::Set(name.as_bytes().into(), value.as_bytes().into()));
    if let Some(isolation) = modes.isolation {
        let level = match isolation {
            Isolation::Serializable => "serializable",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::ReadCommitted => "read committed",
            Isolation::ReadUncommitted => "read uncommitted",
        };
        set("default_transaction_isolation", level);
    }
    let on_off = |on| if on { "on" } else { "off" };
    if let Some(read_only) = modes.read_only {
        set("default_transaction_read_only", on_off(read_only));
    }
    if let Some(deferrable) = modes.deferrable {
        set("default_transaction_deferrable", on_off(deferrable));
    }
}

#[cfg(test)]
mod tests;
