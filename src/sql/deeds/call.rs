//! PostgreSQL's own functions that do something to the session of their caller.

use super::super::grammar::{Argument, Call, Kind, Statement};
use super::super::lexer::Kind as Token;
use super::super::source::{Source, Span};
use super::{Deed, Deeds, Doubt, Name, What, is_whole, may_set, nameless};
use crate::sql::catalog::Danger;

/// `set_config(name, value, is_local)`, of which some is known when it is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetConfig {
    /// Which setting.
    pub name: Given,
    /// Its value; `None`: NULL, the default.
    pub value: Option<Given>,
    /// Until the end of the transaction only: `None` where the parameter of this number tells.
    pub local: Given,
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// A constant. A boolean is `t` or `f`.
    Constant(Box<[u8]>),
    /// `$n`.
    Param(u16),
}

/// Adds what the calls of a statement do.
pub(super) fn calls(statement: &Statement, source: Source<'_>, deeds: &mut Deeds) {
    if matches!(statement.kind, Kind::Prepare { .. }) {
        return;
    }
    // What is only planned calls nothing that is VOLATILE, but for the arguments of EXECUTE.
    let planned =
        matches!(&statement.kind, Kind::Explain { analyze: false, inner } if !matches!(**inner, Kind::Execute(_)));
    let mut configs = 0;
    for call in &statement.calls {
        // A name that can't be read can be that of any function.
        let Some(name) = source.last_part(call.name) else { return deeds.push(Deed::Unclear(Doubt::Text)) };
        let does = Does::of(&name).filter(|does| !planned || *does == Does::RunsText);
        let deed = match does {
            Some(Does::SetsConfig) => {
                configs += 1;
                if configs > CONFIGS_MAX {
                    return deeds.push(Deed::Unclear(Doubt::Setting));
                }
                set_config(*call, statement, source)
            }
            Some(Does::Holds(what)) => nameless(what),
            // Whether they run, and how often, only the server knows.
            Some(Does::Unlocks) => Deed::MayLet(What::Lock),
            Some(Does::TakesNumber) => Deed::TakesNumber,
            Some(Does::AsksNumber) => Deed::AsksNumber,
            Some(Does::Notifies) => Deed::Notifies,
            Some(Does::Creates) => Deed::MayBeTemporary,
            Some(Does::RunsText) => {
                deeds.push(Deed::MayDefine);
                Deed::Unclear(Doubt::Code)
            }
            None => continue,
        };
        deeds.push(deed);
    }
}

/// Of so many `set_config()` in one statement the arguments are read, for each of which all of it may be.
const CONFIGS_MAX: usize = 32;

/// What a function of PostgreSQL's own does to its caller's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    SetsConfig,
    Holds(What),
    Unlocks,
    TakesNumber,
    AsksNumber,
    Notifies,
    Creates,
    RunsText,
}

impl Does {
    /// By its name, in small letters; `None`: nothing.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"set_config" => Self::SetsConfig,
            b"pg_advisory_lock"
            | b"pg_advisory_lock_shared"
            | b"pg_try_advisory_lock"
            | b"pg_try_advisory_lock_shared" => Self::Holds(What::Lock),
            b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => Self::Unlocks,
            b"setseed" => Self::Holds(What::Seed),
            b"nextval" | b"setval" => Self::TakesNumber,
            b"lastval" | b"currval" => Self::AsksNumber,
            b"pg_notify" => Self::Notifies,
            b"pg_import_system_collations" => Self::Creates,
            name if keeps_replication(name) => Self::Holds(What::Replication),
            name if name.starts_with(b"dblink_connect") => Self::Holds(What::Connection),
            name if runs_text(name) => Self::RunsText,
            _ => return None,
        })
    }
}

/// Functions that run a text which they are given, or read a relation that is named in one.
pub(super) fn runs_text(name: &[u8]) -> bool {
    matches!(name, b"ts_stat" | b"ts_rewrite") || name.windows(7).any(|part| part == b"_to_xml")
}

/// Functions that are told as a value by what they run code: of which type it is what they read, on which index they work.
pub(in super::super) const READERS: [&[u8]; 11] = [
    b"array_in",
    b"brin_summarize_new_values",
    b"brin_summarize_range",
    b"domain_in",
    b"gin_clean_pending_list",
    b"multirange_in",
    b"pg_input_error_info",
    b"pg_input_is_valid",
    b"range_in",
    b"record_in",
    b"satisfies_hash_partition",
];

/// Functions of replication and backup that leave something in the session which only its end takes away for sure.
fn keeps_replication(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"pg_") else { return false };
    matches!(rest, b"replication_origin_session_setup" | b"backup_start" | b"start_backup")
        || (rest.ends_with(b"al_replication_slot") && (rest.starts_with(b"create_") || rest.starts_with(b"copy_")))
}

/// Whether this function of PostgreSQL's in C, by its own name there, does something to the session.
pub(in super::super) fn is_own_setter(symbol: &[u8]) -> bool {
    let under_another: [&[u8]; 4] = [b"set_config_by_name", b"ts_stat1", b"ts_stat2", b"tsquery_rewrite_query"];
    let locks: [&[u8]; 2] = [b"pg_advisory_lock", b"pg_try_advisory_lock"];
    under_another.contains(&symbol) || locks.iter().any(|lock| symbol.starts_with(lock)) || !danger(symbol).is_none()
}

/// What a call of this function, wherever it stands, may do to the session.
pub(super) fn danger(name: &[u8]) -> Danger {
    match Does::of(name) {
        // A number of a sequence matters to those only who ask for it.
        None | Some(Does::TakesNumber | Does::AsksNumber | Does::Notifies) => Danger::default(),
        Some(Does::Holds(What::Lock) | Does::Unlocks) => Danger::LOCKS,
        Some(Does::Creates) => Danger::MAKES,
        Some(Does::Holds(What::Replication)) => Danger::TOUCHES.or(Danger::LASTS),
        Some(Does::SetsConfig | Does::Holds(_) | Does::RunsText) => Danger::TOUCHES,
    }
}

/// Whether it asks for the last.
pub(super) fn asks(name: &[u8]) -> bool {
    Does::of(name) == Some(Does::AsksNumber)
}

fn set_config(call: Call, statement: &Statement, source: Source<'_>) -> Deed {
    let arguments = call.arguments(source);
    let [name, value, local] = &arguments[..] else { return Deed::Unclear(Doubt::Setting) };
    let unclear = || match text(*name, source) {
        Some(Given::Constant(name)) => may_be_set(&name),
        _ => Deed::Unclear(Doubt::Setting),
    };
    let Some(local) = boolean(*local, source) else { return unclear() };
    if local == Given::Constant((*b"t").into()) {
        let name = match text(*name, source) {
            Some(Given::Constant(name)) => name.to_ascii_lowercase().into(),
            _ => Name::default(),
        };
        return Deed::Local(name);
    }
    let (Some(name), Some(value)) = (text(*name, source), value_of(*value, source)) else { return unclear() };
    if !stands_alone(call, statement, source) {
        return unclear();
    }
    let config = SetConfig { name, value, local };
    config.resolved().unwrap_or(Deed::SetConfig(config))
}

impl SetConfig {
    /// What it does with these values of parameters, each in text or in binary form.
    pub fn with(&self, values: &[Option<&[u8]>]) -> Deed {
        let unclear = Deed::Unclear(Doubt::Setting);
        let value = |given: &Given| match given {
            Given::Constant(value) => Some(Some(value.clone())),
            Given::Param(number) => {
                let value = usize::from(*number).checked_sub(1).and_then(|at| values.get(at))?;
                Some(value.map(Box::from))
            }
        };
        let local = match value(&self.local) {
            Some(Some(local)) => match &*local {
                [0] => Some(false),
                [1] => Some(true),
                text => boolean_text(text),
            },
            _ => None,
        };
        let Some(Some(name)) = value(&self.name) else { return unclear };
        let Some(local) = local else { return may_be_set(&name) };
        let set = self.value.as_ref().map_or(Some(None), value);
        if !is_whole(&name) && !local {
            return unclear;
        }
        match (local, set) {
            (true, _) => Deed::Local(name.to_ascii_lowercase().into()),
            (false, Some(None)) => Deed::Reset(name.to_ascii_lowercase().into()),
            (false, Some(Some(value))) => Deed::Set(name.to_ascii_lowercase().into(), value),
            (false, None) => may_be_set(&name),
        }
    }

    /// What it does, if all of it is constant.
    fn resolved(&self) -> Option<Deed> {
        let (Given::Constant(name), Given::Constant(_)) = (&self.name, &self.local) else { return None };
        let name: Name = name.to_ascii_lowercase().into();
        match &self.value {
            _ if !is_whole(&name) => Some(Deed::Unclear(Doubt::Setting)),
            None => Some(Deed::Reset(name)),
            Some(Given::Constant(value)) => Some(Deed::Set(name, value.clone())),
            Some(Given::Param(_)) => None,
        }
    }
}

/// A setting of this name may have another value from now on.
fn may_be_set(name: &[u8]) -> Deed {
    may_set(&name.to_ascii_lowercase()).unwrap_or(Deed::Unclear(Doubt::Setting))
}

fn text(argument: Argument, source: Source<'_>) -> Option<Given> {
    match argument {
        Argument::Text(span) => source.string(span).map(|text| Given::Constant((&*text).into())),
        Argument::Param(number) => Some(Given::Param(number)),
        _ => None,
    }
}

fn value_of(argument: Argument, source: Source<'_>) -> Option<Option<Given>> {
    if argument == Argument::Null { Some(None) } else { text(argument, source).map(Some) }
}

fn boolean(argument: Argument, source: Source<'_>) -> Option<Given> {
    let constant = |is: bool| Some(Given::Constant(if is { *b"t" } else { *b"f" }.into()));
    match argument {
        Argument::Bool(is) => constant(is),
        Argument::Text(span) => constant(boolean_text(&source.string(span)?)?),
        Argument::Param(number) => Some(Given::Param(number)),
        _ => None,
    }
}

/// A boolean as text, as PostgreSQL's `boolin` reads it.
pub(super) fn boolean_text(text: &[u8]) -> Option<bool> {
    let text = text.trim_ascii().to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| text.len() >= least && word.starts_with(&text);
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || text == b"1" {
        Some(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || text == b"0" {
        Some(false)
    } else {
        None
    }
}

/// Whether a query is nothing but calls of this function, each of which runs once:
/// `SELECT set_config(…) [AS a], set_config(…)`. (Another might return no row, and then none of them runs.)
fn stands_alone(call: Call, statement: &Statement, source: Source<'_>) -> bool {
    let same = |call: &Call| source.last_part(call.name).as_deref() == Some(b"set_config");
    if statement.kind != Kind::Query || !statement.calls.iter().all(same) {
        return false;
    }
    let mut outermost = false;
    let raw = source.raw(statement.span);
    let word = |span: Span| raw.get(span.start as usize..span.end as usize).unwrap_or_default();
    let mut tokens = source.tokens(statement.span).map(|token| (token.kind, Span::new(token.start, token.end)));
    if !tokens.next().is_some_and(|(_, span)| word(span).eq_ignore_ascii_case(b"select")) {
        return false;
    }
    let mut depth = 0_usize;
    // Of an item of the list: a call comes first, then perhaps AS and a name.
    let mut item = Item::Name;
    for (kind, span) in tokens {
        item = match (kind, depth, item) {
            (Token::Open, 0, Item::Called) | (Token::Open, 1.., _) => {
                outermost |= depth == 0 && statement.span.start + span.start == call.open;
                depth += 1;
                Item::Within
            }
            (Token::Close, 1, _) => {
                depth = 0;
                Item::Behind
            }
            (Token::Close, 2.., _) => {
                depth -= 1;
                Item::Within
            }
            (_, 1.., _) => Item::Within,
            (Token::Word | Token::QuotedName, 0, Item::Name) => Item::Called,
            (Token::Dot, 0, Item::Called) => Item::Name,
            (Token::Comma, 0, Item::Behind | Item::Alias) => Item::Name,
            (Token::Word, 0, Item::Behind) if word(span).eq_ignore_ascii_case(b"as") => Item::As,
            (Token::Word, 0, Item::Behind) if is_clause(word(span)) => return false,
            (Token::Word | Token::QuotedName, 0, Item::Behind | Item::As) => Item::Alias,
            _ => return false,
        };
    }
    outermost && matches!(item, Item::Behind | Item::Alias)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Name,
    Called,
    Within,
    Behind,
    As,
    Alias,
}

/// Words that go on with a query where the name of an item might stand.
fn is_clause(word: &[u8]) -> bool {
    let clauses: [&[u8]; 17] = [
        b"from",
        b"where",
        b"group",
        b"having",
        b"window",
        b"union",
        b"intersect",
        b"except",
        b"order",
        b"limit",
        b"offset",
        b"fetch",
        b"for",
        b"into",
        b"over",
        b"filter",
        b"within",
    ];
    clauses.iter().any(|clause| clause.eq_ignore_ascii_case(word))
}
