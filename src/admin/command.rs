//! Text of the console → [`Command`], by the grammar that PgBouncer has; and who may run what.
//!
//! Grammar: `WORD [ARG] [;]`, or `SET KEY (=|TO) VALUE [;]`. Words are letters, digits and `_` without regard to
//! case, or anything in double quotes; a value may stand in single quotes. One statement per text.

use std::borrow::Cow;

use super::error::CommandError;
use super::table::{Column, Type};
use crate::telemetry::labels::StopMode;
use crate::types::ClientId;

/// What SHOW can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the words after SHOW")]
pub enum Show {
    Clients,
    Config,
    Databases,
    Help,
    Lists,
    Pools,
    Servers,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
}

/// A statement of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing but white space, or a lone semicolon: some drivers' ping.
    Empty,
    /// SHOW, or SELECT, which means the same.
    Show(Show),
    /// SHOW of a parameter that drivers ask every server for.
    Parameter(&'static Parameter),
    /// SET of such a parameter: ignored.
    SetParameter,
    /// Stop giving servers to clients; `None` is all databases.
    Pause(Option<String>),
    /// End a PAUSE or KILL.
    Resume(Option<String>),
    /// Replace all servers as they come free.
    Reconnect(Option<String>),
    /// Drop all clients and servers.
    Kill(Option<String>),
    /// Wait until the servers marked by RECONNECT or RELOAD are gone.
    WaitClose(Option<String>),
    /// Refuse new clients. The name is required, and checked when it runs.
    Disable(Option<String>),
    /// Take new clients again.
    Enable(Option<String>),
    /// Drop one client; `None` where the argument is no number.
    KillClient(Option<ClientId>),
    /// Read the configuration anew.
    Reload,
    /// End the process.
    Shutdown(StopMode),
}

/// A command without its arguments: what rights and metrics go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the commands")]
pub enum Kind {
    Empty,
    Show(Show),
    Parameter,
    SetParameter,
    Pause,
    Resume,
    Reconnect,
    Kill,
    WaitClose,
    Disable,
    Enable,
    KillClient,
    Reload,
    Shutdown,
}

/// Who sits at the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// In `admin_users`.
    Admin,
    /// In `stats_users`.
    Stats,
}

/// A parameter that drivers take every server to have.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The one column of the answer.
    pub column: [Column; 1],
    /// The answer.
    pub value: &'static str,
}

/// Commands and who may run them. What is not listed nobody may run.
const RIGHTS: &[(Kind, &[Role])] = &[
    (Kind::Empty, EVERYONE),
    (Kind::Show(Show::Clients), EVERYONE),
    (Kind::Show(Show::Config), EVERYONE),
    (Kind::Show(Show::Databases), EVERYONE),
    (Kind::Show(Show::Help), EVERYONE),
    (Kind::Show(Show::Lists), EVERYONE),
    (Kind::Show(Show::Pools), EVERYONE),
    (Kind::Show(Show::Servers), EVERYONE),
    (Kind::Show(Show::State), EVERYONE),
    (Kind::Show(Show::Stats), EVERYONE),
    (Kind::Show(Show::StatsAverages), EVERYONE),
    (Kind::Show(Show::StatsTotals), EVERYONE),
    (Kind::Show(Show::Totals), EVERYONE),
    (Kind::Show(Show::Users), EVERYONE),
    (Kind::Show(Show::Version), EVERYONE),
    (Kind::Parameter, EVERYONE),
    (Kind::SetParameter, EVERYONE),
    (Kind::Pause, ADMINS),
    (Kind::Resume, ADMINS),
    (Kind::Reconnect, ADMINS),
    (Kind::Kill, ADMINS),
    (Kind::WaitClose, ADMINS),
    (Kind::Disable, ADMINS),
    (Kind::Enable, ADMINS),
    (Kind::KillClient, ADMINS),
    (Kind::Reload, ADMINS),
    (Kind::Shutdown, ADMINS),
];
const EVERYONE: &[Role] = &[Role::Admin, Role::Stats];
const ADMINS: &[Role] = &[Role::Admin];

/// Words after SHOW and SELECT.
const SHOWS: &[(&str, Show)] = &[
    ("clients", Show::Clients),
    ("config", Show::Config),
    ("databases", Show::Databases),
    ("help", Show::Help),
    ("lists", Show::Lists),
    ("pools", Show::Pools),
    ("servers", Show::Servers),
    ("state", Show::State),
    ("stats", Show::Stats),
    ("stats_averages", Show::StatsAverages),
    ("stats_totals", Show::StatsTotals),
    ("totals", Show::Totals),
    ("users", Show::Users),
    ("version", Show::Version),
];

/// Parameters with the values that PgBouncer answers.
static PARAMETERS: [Parameter; 6] = [
    parameter("client_encoding", "UTF-8"),
    parameter("default_transaction_isolation", "read committed"),
    parameter("standard_conforming_strings", "on"),
    parameter("datestyle", "ISO"),
    parameter("timezone", "GMT"),
    parameter("extra_float_digits", "2"),
];

const fn parameter(name: &'static str, value: &'static str) -> Parameter {
    Parameter { column: [Column { name, kind: Type::Text }], value }
}

impl Kind {
    /// Whether `role` may run it.
    pub fn may(self, role: Role) -> bool {
        RIGHTS.iter().any(|(kind, roles)| *kind == self && roles.contains(&role))
    }

    /// The tag of its CommandComplete, and its label in metrics.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Show(_) | Self::Parameter => "SHOW",
            Self::SetParameter => "SET",
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Reconnect => "RECONNECT",
            Self::Kill => "KILL",
            Self::WaitClose => "WAIT_CLOSE",
            Self::Disable => "DISABLE",
            Self::Enable => "ENABLE",
            Self::KillClient => "KILL_CLIENT",
            Self::Reload => "RELOAD",
            Self::Shutdown => "SHUTDOWN",
        }
    }

    /// What is shown, in lower case; the tag otherwise.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Show(show) => SHOWS.iter().find(|(_, known)| *known == show).map_or("?", |(word, _)| word),
            other => other.tag(),
        }
    }
}

impl Command {
    /// Reads a statement.
    ///
    /// # Errors
    /// [`CommandError::Unknown`] for whatever the grammar or the list of commands does not have.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        Self::read(text).ok_or_else(|| CommandError::unknown(text))
    }

    fn read(text: &str) -> Option<Self> {
        let mut scanner = Scanner { rest: text };
        scanner.white();
        if scanner.at_end() {
            return Some(Self::Empty);
        }
        let verb = scanner.word()?;
        let spaced = scanner.white();
        let argument = if spaced { scanner.word() } else { None };
        if scanner.at_end() {
            return Self::of(&verb.to_ascii_lowercase(), argument.filter(|text| !text.is_empty()));
        }
        (verb.eq_ignore_ascii_case("set") && is_parameter(&argument?) && scanner.assignment())
            .then_some(Self::SetParameter)
    }

    fn of(verb: &str, argument: Option<String>) -> Option<Self> {
        Some(match verb {
            "show" | "select" => return Self::show(&argument?.to_ascii_lowercase()),
            "pause" => Self::Pause(argument),
            "resume" => Self::Resume(argument),
            "reconnect" => Self::Reconnect(argument),
            "kill" => Self::Kill(argument),
            "wait_close" => Self::WaitClose(argument),
            "disable" => Self::Disable(argument),
            "enable" => Self::Enable(argument),
            "kill_client" => Self::KillClient(argument.as_deref().and_then(client_id)),
            "reload" if argument.is_none() => Self::Reload,
            "shutdown" => Self::Shutdown(stop_mode(argument.as_deref())?),
            _ => return None,
        })
    }

    fn show(what: &str) -> Option<Self> {
        let parameter = PARAMETERS.iter().find(|parameter| parameter.column[0].name == what);
        parameter
            .map(Self::Parameter)
            .or_else(|| SHOWS.iter().find(|(word, _)| *word == what).map(|(_, show)| Self::Show(*show)))
    }

    /// The command without its arguments.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Empty => Kind::Empty,
            Self::Show(show) => Kind::Show(*show),
            Self::Parameter(_) => Kind::Parameter,
            Self::SetParameter => Kind::SetParameter,
            Self::Pause(_) => Kind::Pause,
            Self::Resume(_) => Kind::Resume,
            Self::Reconnect(_) => Kind::Reconnect,
            Self::Kill(_) => Kind::Kill,
            Self::WaitClose(_) => Kind::WaitClose,
            Self::Disable(_) => Kind::Disable,
            Self::Enable(_) => Kind::Enable,
            Self::KillClient(_) => Kind::KillClient,
            Self::Reload => Kind::Reload,
            Self::Shutdown(_) => Kind::Shutdown,
        }
    }

    /// What it is about, for the log: a database, a client by its number and as the log calls it, a way to end.
    pub fn argument(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::KillClient(id) => id.map(|id| format!("{} ({id})", id.0).into()),
            Self::Shutdown(mode) => Some(mode.as_str().into()),
            other => other.database().map(Cow::Borrowed),
        }
    }

    /// The database that it names.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Pause(name)
            | Self::Resume(name)
            | Self::Reconnect(name)
            | Self::Kill(name)
            | Self::WaitClose(name)
            | Self::Disable(name)
            | Self::Enable(name) => name.as_deref(),
            _ => None,
        }
    }
}

fn is_parameter(name: &str) -> bool {
    PARAMETERS.iter().any(|parameter| parameter.column[0].name.eq_ignore_ascii_case(name))
}

/// A client's number: as `id` has it, or as `ptr` and `link` do, `0x` and hexadecimal digits.
fn client_id(text: &str) -> Option<ClientId> {
    let text = text.trim();
    let (digits, base) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, base).ok()).flatten().map(ClientId)
}

fn stop_mode(argument: Option<&str>) -> Option<StopMode> {
    match argument.map(str::to_ascii_lowercase).as_deref() {
        None => Some(StopMode::AtOnce),
        Some("wait_for_servers") => Some(StopMode::WaitForServers),
        Some("wait_for_clients") => Some(StopMode::WaitForClients),
        Some(_) => None,
    }
}

/// Reads a statement from left to right.
struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    /// Skips white space; whether there was any.
    fn white(&mut self) -> bool {
        let after = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let skipped = after.len() < self.rest.len();
        self.rest = after;
        skipped
    }

    /// Whether nothing follows but white space and one semicolon. Takes nothing that isn't the end.
    fn at_end(&mut self) -> bool {
        let mut ahead = Scanner { rest: self.rest };
        ahead.white();
        ahead.rest = ahead.rest.strip_prefix(';').unwrap_or(ahead.rest);
        ahead.white();
        ahead.rest.is_empty()
    }

    fn word(&mut self) -> Option<String> {
        if self.rest.starts_with('"') {
            return self.quoted('"');
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// A text between two `quote`s; one inside is doubled.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.rest.strip_prefix(quote)?.chars();
        loop {
            match chars.next()? {
                c if c == quote => match chars.as_str().strip_prefix(quote) {
                    Some(rest) => {
                        text.push(quote);
                        chars = rest.chars();
                    }
                    None => break,
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    /// `= VALUE` or `TO VALUE`, and the end.
    fn assignment(&mut self) -> bool {
        self.white();
        let operator = match self.rest.as_bytes() {
            [b'=', ..] => 1,
            [b't' | b'T', b'o' | b'O', ..] => 2,
            _ => return false,
        };
        self.rest = &self.rest[operator..];
        self.white();
        let value = if self.rest.starts_with('\'') { self.quoted('\'') } else { self.word() };
        value.is_some() && self.at_end()
    }
}

#[cfg(test)]
mod tests;
