//! Kinds of settings whose values are texts: names, paths, lists, choices, hosts, secrets.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kinds::{Form, Kind, unexpected};
use super::section::{Context, Raw};
use crate::config::complaint::nearest;
use crate::config::model::CheckQuery;
use crate::types::{Host, Secret};

pub(super) fn text(raw: &Raw<'_>) -> Option<String> {
    match raw {
        Raw::Text(text) if !text.contains('\0') => Some(text.clone().into_owned()),
        _ => None,
    }
}

/// Any text; the protocol can't carry a zero byte.
#[derive(Debug)]
pub struct Text;

impl Kind for Text {
    type Value = String;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<String, String> {
        text(raw).ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &String) -> String {
        value.clone()
    }
    fn legal() -> String {
        "a text".into()
    }
}

/// A text that is not empty, of at most `MAX` bytes.
#[derive(Debug)]
pub struct Name<const MAX: usize>;

impl<const MAX: usize> Kind for Name<MAX> {
    type Value = String;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<String, String> {
        text(raw).filter(|name| (1..=MAX).contains(&name.len())).ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &String) -> String {
        value.clone()
    }
    fn legal() -> String {
        format!("a text of 1 to {MAX} bytes")
    }
}

/// A text of which the empty one means that there is none.
#[derive(Debug)]
pub struct OptionalText;

impl Kind for OptionalText {
    type Value = Option<String>;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<Option<String>, String> {
        let text = text(raw).ok_or_else(|| unexpected::<Self>(raw))?;
        Ok((!text.is_empty()).then_some(text))
    }
    fn show(value: &Option<String>) -> String {
        value.clone().unwrap_or_default()
    }
    fn legal() -> String {
        Text::legal()
    }
}

/// A path; relative ones start at the configuration file. The empty one means that there is none.
#[derive(Debug)]
pub struct FilePath;

impl Kind for FilePath {
    type Value = Option<PathBuf>;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Option<PathBuf>, String> {
        let path = text(raw).ok_or_else(|| unexpected::<Self>(raw))?;
        // `@` begins the name of an abstract socket, which is no file.
        Ok(match path.as_str() {
            "" => None,
            abstract_name if abstract_name.starts_with('@') => Some(abstract_name.into()),
            path => Some(context.base.join(path)),
        })
    }
    fn show(value: &Option<PathBuf>) -> String {
        value.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }
    fn legal() -> String {
        "a path".into()
    }
}

/// Texts: an array, or one text that separates them by commas.
#[derive(Debug)]
pub struct List;

impl Kind for List {
    type Value = Vec<String>;
    const FORM: Form = Form::List;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<Vec<String>, String> {
        match raw {
            Raw::Text(line) => {
                Ok(line.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            Raw::List(items) => items
                .iter()
                .map(|item| {
                    text(item)
                        .filter(|text| !text.trim().is_empty())
                        .ok_or_else(|| format!("expected {}, but it has {item} in it", Self::legal()))
                })
                .collect(),
            _ => Err(unexpected::<Self>(raw)),
        }
    }
    fn show(value: &Vec<String>) -> String {
        value.join(", ")
    }
    fn legal() -> String {
        "a list of texts, or a text that separates them by commas".into()
    }
}

/// Names of PostgreSQL's settings.
#[derive(Debug)]
pub struct Names;

impl Kind for Names {
    type Value = Vec<String>;
    const FORM: Form = Form::List;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Vec<String>, String> {
        let names = List::read(raw, context)?;
        match names.iter().find(|name| !is_setting_name(name)) {
            Some(other) => Err(format!("expected {}, but {other:?} is no name of a setting", Self::legal())),
            None => Ok(names),
        }
    }
    fn show(value: &Vec<String>) -> String {
        List::show(value)
    }
    fn legal() -> String {
        List::legal()
    }
}

/// Whether a setting of PostgreSQL may have this name.
pub fn is_setting_name(name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    name.split('.').all(|part_of| !part_of.is_empty() && part_of.chars().all(part))
}

/// Values with names.
pub trait Choices: Copy + Debug + PartialEq + 'static {
    /// Every value by its name, in the order in which they are listed to people.
    const ALL: &'static [(&'static str, Self)];

    /// The name of a value, as it is written and shown.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// One of a few names.
#[derive(Debug)]
pub struct Choice<T>(PhantomData<T>);

impl<T: Choices> Kind for Choice<T> {
    type Value = T;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<T, String> {
        let Raw::Text(text) = raw else { return Err(unexpected::<Self>(raw)) };
        let found = T::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let near = nearest(text.trim(), T::ALL.iter().map(|(name, _)| *name));
            let hint = near.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
            unexpected::<Self>(raw) + &hint
        })
    }
    fn show(value: &T) -> String {
        value.name().into()
    }
    fn legal() -> String {
        let names: Vec<_> = T::ALL.iter().map(|(name, _)| *name).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

/// Permissions of a socket: `"0777"` or `0o777`. A bare decimal number is refused, it would not mean what it says.
#[derive(Debug)]
pub struct SocketMode;

impl Kind for SocketMode {
    type Value = u32;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<u32, String> {
        match raw {
            Raw::Number(digits, 8) => u32::from_str_radix(digits, 8).ok(),
            Raw::Text(text) => u32::from_str_radix(text.trim().trim_start_matches("0o"), 8).ok(),
            _ => None,
        }
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &u32) -> String {
        format!("{value:04o}")
    }
    fn legal() -> String {
        "an octal mode up to 0777, written \"0777\" or 0o777".into()
    }
}

/// PgBouncer's `server_check_query`: `<empty>` is a query without text, an empty setting no query.
#[derive(Debug)]
pub struct CheckText;

impl Kind for CheckText {
    type Value = CheckQuery;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<CheckQuery, String> {
        Ok(match text(raw).ok_or_else(|| unexpected::<Self>(raw))? {
            off if off.is_empty() => CheckQuery::Off,
            empty if empty == "<empty>" => CheckQuery::Empty,
            query => CheckQuery::Text(query),
        })
    }
    fn show(value: &CheckQuery) -> String {
        match value {
            CheckQuery::Off => String::new(),
            CheckQuery::Empty => "<empty>".into(),
            CheckQuery::Text(query) => query.clone(),
        }
    }
    fn legal() -> String {
        "a query, <empty> or an empty text".into()
    }
}

/// Where the metrics listener listens; empty: nowhere.
#[derive(Debug)]
pub struct ListenAddress;

impl Kind for ListenAddress {
    type Value = Option<SocketAddr>;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<Option<SocketAddr>, String> {
        let text = text(raw).ok_or_else(|| unexpected::<Self>(raw))?;
        match text.trim() {
            "" => Ok(None),
            address => address.parse().map(Some).map_err(|_| unexpected::<Self>(raw)),
        }
    }
    fn show(value: &Option<SocketAddr>) -> String {
        value.map_or_else(String::new, |address| address.to_string())
    }
    fn legal() -> String {
        "an IP address with a port, such as \"127.0.0.1:9127\" or \"[::]:9127\", or an empty text".into()
    }
}

/// Hosts of a database: names, addresses, socket directories.
#[derive(Debug)]
pub struct Hosts;

impl Kind for Hosts {
    type Value = Vec<Host>;
    const FORM: Form = Form::List;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Vec<Host>, String> {
        let names = List::read(raw, context).map_err(|_| unexpected::<Self>(raw))?;
        if names.is_empty() {
            return Err(unexpected::<Self>(raw));
        }
        names.iter().map(|name| host(name).ok_or_else(|| unexpected::<Self>(&Raw::Text(name.into())))).collect()
    }
    fn show(value: &Vec<Host>) -> String {
        value.iter().map(Host::to_string).collect::<Vec<_>>().join(",")
    }
    fn legal() -> String {
        "a host name, an IP address, a \"/directory\" of a Unix socket, or a list of these".into()
    }
}

fn host(name: &str) -> Option<Host> {
    let name = name.trim();
    if name.starts_with(['/', '@']) {
        return Some(Host::UnixDir(Arc::from(Path::new(name))));
    }
    // `[::1]` is how addresses are written beside a port.
    let name = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    let legal = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
    (!name.is_empty() && name.chars().all(legal)).then(|| Host::Name(name.into()))
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// It stands in the file.
    Inline(Secret),
    /// It is the value of this environment variable.
    Variable(String),
}

/// A secret: inline, or `"${VARIABLE}"`. A complaint never shows it.
#[derive(Debug)]
pub struct SecretText;

impl Kind for SecretText {
    type Value = SecretSource;
    const FORM: Form = Form::Text;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<SecretSource, String> {
        let text = text(raw).filter(|text| !text.is_empty()).ok_or_else(|| format!("expected {}", Self::legal()))?;
        Ok(match variable(&text) {
            Some(variable) => SecretSource::Variable(variable.to_owned()),
            None => SecretSource::Inline(Secret::new(text)),
        })
    }
    fn show(_: &SecretSource) -> String {
        "********".into()
    }
    fn legal() -> String {
        "a text that is not empty, or \"${VARIABLE}\"".into()
    }
}

fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix("${")?.strip_suffix('}')?;
    let legal = |(i, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
    (!name.is_empty() && name.chars().enumerate().all(legal)).then_some(name)
}
