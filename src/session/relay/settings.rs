//! Reported settings that follow the client: what must be set on a server before the client's message,
//! and what the server's reports mean for the client.

use std::time::Duration;

use bytes::BytesMut;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::own::{AUTHORIZATION, ROLE, says_who};
use super::prepared::put_frame;
use crate::types::time::parse_duration_in;
use crate::wire::params::ParamSet;
use crate::wire::tag::frontend;

/// One setting that the client has and the server lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Box<str>,
    /// What the client has.
    pub wanted: Box<[u8]>,
    /// What the server had, for the case that the transaction which carries the change is rolled back.
    pub before: Box<[u8]>,
}

/// The settings sent before a client's message, in its transaction.
pub type Changes = SmallVec<[Change; 2]>;

/// What a server with `server`'s settings lacks to serve a client with `client`'s.
/// A setting that the server does not report can't be compared and is left alone.
pub fn differences(client: &ParamSet, server: &ParamSet) -> Changes {
    client
        .iter()
        .filter_map(|(name, wanted)| {
            let has = server.get(name)?;
            (!equal(name, wanted, has)).then(|| Change { name: name.into(), wanted: wanted.into(), before: has.into() })
        })
        .collect()
}

/// A setting that no server reports, and what it is to be; `None`: the server's own default.
pub type Assignment = (Box<str>, Option<Box<[u8]>>);

/// What turns a server that has these of them into one that has the others. Not every role may set everything: what another
/// client became is undone before, and what this one became it becomes in the order in which it has said so.
pub fn assignments(client: Option<&ParamSet>, server: Option<&ParamSet>) -> SmallVec<[Assignment; 2]> {
    let (of_client, of_server) = (Values::of(client), Values::of(server));
    let plain = |set: Option<&'_ ParamSet>| -> Vec<Box<str>> {
        let names = set.iter().flat_map(|set| set.iter()).map(|(name, _)| name);
        names.filter(|name| !says_who(name)).map(Box::from).collect()
    };
    let mut all = SmallVec::new();
    let (is, was) = (of_client.who(), of_server.who());
    if is != was && was.iter().any(Option::is_some) {
        // It resets the role, too.
        all.extend([(AUTHORIZATION.into(), None), (ROLE.into(), None)]);
    }
    let gone = plain(server).into_iter().filter(|name| of_client.get(name).is_none());
    all.extend(gone.map(|name| (name, None)));
    let wanted = client.into_iter().flat_map(ParamSet::iter).map(|(name, value)| (name, Some(Box::from(value))));
    let lacks = |name: &str, value: &Option<Box<[u8]>>| match says_who(name) {
        true => is != was,
        false => value.as_deref() != of_server.get(name),
    };
    all.extend(wanted.filter(|(name, value)| lacks(name, value)).map(|(name, value)| (name.into(), value)));
    all
}

/// The values of a set by their names, also of one that has thousands.
enum Values<'a> {
    Few(Option<&'a ParamSet>),
    Many(HashMap<&'a str, &'a [u8], foldhash::fast::RandomState>),
}

impl<'a> Values<'a> {
    fn of(set: Option<&'a ParamSet>) -> Self {
        match set {
            Some(many) if many.len() > FEW => Self::Many(many.iter().collect()),
            few => Self::Few(few),
        }
    }

    /// As whom the session acts.
    fn who(&self) -> [Option<&'a [u8]>; 2] {
        [AUTHORIZATION, ROLE].map(|name| self.get(name))
    }

    /// Names are in small letters.
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        match self {
            Self::Few(few) => few.and_then(|few| few.get(name)),
            Self::Many(many) => many.get(name).copied(),
        }
    }
}

/// So many are looked through faster than they are put in order.
const FEW: usize = 32;

/// Whether some of them may have been set because of the role which the session has, so that others may not reset them one
/// by one. (RESET ALL everybody may.)
pub fn takes_a_role(settings: &ParamSet) -> bool {
    let role = [AUTHORIZATION, ROLE].iter().any(|name| settings.get(name).is_some());
    let anybodys =
        |name: &str| ANYBODYS.contains(&name) || name.contains('.') || name.starts_with("default_transaction_");
    role && !settings.iter().all(|(name, _)| anybodys(name))
}

/// Whether a timeout of the client's is so short that it would hit what another client's server does before that is set
/// otherwise: our own RESET, or a moment's rest.
pub fn has_hasty_timeout(settings: &ParamSet) -> bool {
    let shorter = |name: &str, limit_ms: u64| {
        let text = settings.get(name).map(String::from_utf8_lossy);
        // What is written in another way may be short.
        let time = text.map(|text| parse_duration_in(&text, "ms").unwrap_or(Duration::from_nanos(1)));
        time.is_some_and(|time| !time.is_zero() && time <= Duration::from_millis(limit_ms))
    };
    shorter("statement_timeout", 50) || shorter("transaction_timeout", 50) || shorter("idle_session_timeout", 1000)
}

/// The settings that are mostly set, of those that every role may.
const ANYBODYS: [&str; 16] = [
    AUTHORIZATION,
    ROLE,
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "plan_cache_mode",
    "row_security",
    "search_path",
    "statement_timeout",
    "synchronous_commit",
    "work_mem",
];

/// Appends Parse, Bind and Execute, without Sync, of what assigns a setting, under this name for the statement.
pub fn write_assignment(statement: &[u8], (name, value): &Assignment, out: &mut BytesMut) {
    let Some(value) = value else {
        let name = name.split('.').map(quoted).collect::<Vec<_>>().join(".");
        return write_statement(statement, format!("RESET {name}").as_bytes(), &[], out);
    };
    write_statement(statement, SET_CONFIG, &[name.as_bytes(), value], out);
}

/// No row comes of it. As parameters, bytes beyond ASCII are safe in every encoding, and lists are what they are.
const SET_CONFIG: &[u8] = b"SELECT WHERE pg_catalog.set_config($1, $2, false) IS NULL";

/// A name as SQL has it, in quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Appends Parse, Bind and Execute, without Sync, of this text, by a portal without a name.
fn write_statement(statement: &[u8], text: &[u8], params: &[&[u8]], out: &mut BytesMut) {
    write_named(statement, b"", text, params, out);
}

/// The same by this portal.
pub(super) fn write_named(statement: &[u8], portal: &[u8], text: &[u8], params: &[&[u8]], out: &mut BytesMut) {
    put_frame(out, frontend::PARSE, &[statement, b"\0", text, b"\0\0\0"]);
    let count = u16::try_from(params.len()).unwrap_or_default().to_be_bytes();
    let mut bind = [portal, b"\0", statement, b"\0\0\0", &count].concat();
    for param in params {
        // They were part of a message.
        bind.extend_from_slice(&u32::try_from(param.len()).unwrap_or_default().to_be_bytes());
        bind.extend_from_slice(param);
    }
    bind.extend_from_slice(&[0, 0]);
    put_frame(out, frontend::BIND, &[&bind]);
    put_frame(out, frontend::EXECUTE, &[portal, &[0; 5]]);
}

/// Values compare without case, as PgBouncer does it, but names are what they are.
fn equal(name: &str, a: &[u8], b: &[u8]) -> bool {
    a == b || (name != "application_name" && !is_search_path(name) && a.eq_ignore_ascii_case(b))
}

/// PostgreSQL reports it since version 18.
fn is_search_path(name: &str) -> bool {
    name.eq_ignore_ascii_case("search_path")
}

/// Appends Parse, Bind and Execute, without Sync, of `SET name TO value`, under this name for the statement.
pub fn write_set(statement: &[u8], name: &str, value: &[u8], out: &mut BytesMut) {
    if is_search_path(name) && !value.is_ascii() {
        return write_statement(statement, SET_CONFIG, &[name.as_bytes(), value], out);
    }
    let mut text = format!("SET \"{name}\" TO ").into_bytes();
    if is_search_path(name) {
        push_list(value, &mut text);
    } else {
        push_literal(value, &mut text);
    }
    write_statement(statement, &text, &[], out);
}

/// `E'…'` means the same whatever standard_conforming_strings says. Bytes beyond ASCII become `?`:
/// no setting that is tracked may hold them, and under some encodings they could end the literal.
fn push_literal(value: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"E'");
    for &byte in value {
        match byte {
            b'\'' | b'\\' => text.extend_from_slice(&[byte, byte]),
            0x80.. => text.push(b'?'),
            _ => text.push(byte),
        }
    }
    text.push(b'\'');
}

/// A list of names, each as a literal of its own; as one literal it would be one name.
fn push_list(value: &[u8], text: &mut Vec<u8>) {
    let names = split_names(value);
    if names.is_empty() {
        return text.extend_from_slice(b"''");
    }
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            text.extend_from_slice(b", ");
        }
        push_literal(name, text);
    }
}

/// Splits at commas outside of double quotes; folds what is not quoted, as PostgreSQL does.
fn split_names(value: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut rest = value.iter().copied().peekable();
    while rest.peek().is_some() {
        let mut name = Vec::new();
        let mut quoted = false;
        let mut inside = false;
        while let Some(byte) = rest.next() {
            match byte {
                b'"' if inside && rest.peek() == Some(&b'"') => name.extend(rest.next()),
                b'"' => {
                    inside = !inside;
                    quoted = true;
                }
                b',' if !inside => break,
                _ if inside => name.push(byte),
                _ if byte.is_ascii_whitespace() => {}
                _ => name.push(byte.to_ascii_lowercase()),
            }
        }
        if quoted || !name.is_empty() {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_text(name: &str, value: &str) -> String {
        let mut out = BytesMut::new();
        write_set(b"", name, value.as_bytes(), &mut out);
        let body = &out[6..];
        String::from_utf8_lossy(&body[..body.iter().position(|&b| b == 0).expect("terminated")]).into_owned()
    }

    #[test]
    fn a_value_cannot_leave_its_literal() {
        for (name, value, text) in [
            ("DateStyle", "ISO, MDY", r#"SET "DateStyle" TO E'ISO, MDY'"#),
            (
                "application_name",
                r"a'; drop table x; --\'",
                r#"SET "application_name" TO E'a''; drop table x; --\\'''"#,
            ),
            ("application_name", "Zürich", r#"SET "application_name" TO E'Z??rich'"#),
            (
                "search_path",
                r#""$user", public, "A ""b"", c""#,
                r#"SET "search_path" TO E'$user', E'public', E'A "b", c'"#,
            ),
            ("search_path", "", r#"SET "search_path" TO ''"#),
            ("search_path", "x'y", r#"SET "search_path" TO E'x''y'"#),
            ("search_path", "\"Z\u{fc}rich\"", "SELECT WHERE pg_catalog.set_config($1, $2, false) IS NULL"),
        ] {
            assert_eq!(set_text(name, value), text);
        }
    }

    #[test]
    fn timeouts_that_would_hit_others_are_told() {
        for (name, value, hasty) in [
            ("statement_timeout", "1ms", true),
            ("statement_timeout", "3", true),
            ("statement_timeout", " 500 us ", true),
            ("statement_timeout", "0", false),
            ("statement_timeout", "30s", false),
            ("statement_timeout", "1min", false),
            ("statement_timeout", "1e1", true),
            ("transaction_timeout", "0.01s", true),
            ("idle_session_timeout", "1s", true),
            ("idle_session_timeout", "2s", false),
            ("lock_timeout", "1ms", false),
        ] {
            let mut settings = ParamSet::default();
            settings.set(name, value.as_bytes());
            assert_eq!(has_hasty_timeout(&settings), hasty, "{name} {value}");
        }
    }

    #[test]
    fn only_what_differs_and_is_reported_is_sent() {
        let set = |pairs: &[(&str, &str)]| {
            let mut set = ParamSet::default();
            for (name, value) in pairs {
                set.set(name, value.as_bytes());
            }
            set
        };
        let client = set(&[
            ("client_encoding", "utf8"),
            ("application_name", "App"),
            ("TimeZone", "UTC"),
            ("x", "1"),
            ("search_path", "\"App\""),
        ]);
        let server = set(&[
            ("client_encoding", "UTF8"),
            ("application_name", "app"),
            ("TimeZone", "Europe/Berlin"),
            ("search_path", "\"app\""),
        ]);
        let names: Vec<_> = differences(&client, &server).into_iter().map(|change| change.name).collect();
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["application_name", "TimeZone", "search_path"]
        );
    }
}
