//! Reads the text of `pooler.toml` into the tree of settings. Every mistake is noted with its place, none ends the
//! reading, and no text can make it panic.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::complaint::{Lines, nearest};
use super::settings::entries::{MAX_DATABASE_NAME, MAX_USER_NAME};
use super::settings::section::{Findings, Raw, Section};
use super::settings::{Tree, homes_of};

/// What a file says, and what is wrong with it.
#[derive(Debug)]
pub struct Parsed {
    /// The settings; wrong ones have their default.
    pub tree: Tree,
    /// Mistakes, warnings, and where the settings stand.
    pub findings: Findings,
}

/// Reads `text`, the contents of the file that is called `file_name` in complaints, to which paths are relative.
pub fn parse_str(file_name: &str, text: &str) -> Parsed {
    let lines = Lines::new(text);
    let mut findings = Findings::new(file_name);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut broken_lines = BTreeSet::new();
    for error in &errors {
        let place = error.span().map(|span| lines.place(span.start));
        broken_lines.extend(place.map(|place| place.line));
        let zeros = place.and_then(|place| lines.text(place.line)).and_then(leading_zeros);
        let twice = || place.filter(|_| error.message() == "duplicate key").and_then(|place| again(&lines, place.line));
        let text = zeros.or_else(twice).unwrap_or_else(|| one_line(error.message()));
        // Only the parser's refusal of a key of very many dotted parts has no place.
        findings.complain(place, if place.is_some() { text } else { format!("a key has too many parts: {text}") });
    }
    let mut reader = Reader { lines: &lines, broken: !errors.is_empty(), findings };
    let tree = reader.tree(document.get_ref());
    let mut findings = reader.findings;
    // What was guessed of a line with broken syntax gives rise to complaints that mean nothing.
    let mut kept = BTreeSet::new();
    findings.complaints.retain(|complaint| {
        complaint.place.is_none_or(|place| !broken_lines.contains(&place.line) || kept.insert(place.line))
    });
    Parsed { tree, findings }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// What to write instead of a number that TOML doesn't have, such as a mode of files in octal.
fn leading_zeros(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next()?.trim();
    let digits = value.len() > 1 && value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| format!("{}: TOML has no numbers that begin with 0; write \"{value}\"", key.trim().escape_debug()))
}

/// What is there for the second time in this line, and where it was first.
fn again(lines: &Lines<'_>, line: u32) -> Option<String> {
    let heading = |text: &str| text.trim_start().starts_with('[');
    let name = |text: &str| {
        let end = if heading(text) { text.find(']').map(|at| at + 1) } else { text.find('=') };
        Some(text[..end?].split_whitespace().collect::<String>())
    };
    let second = lines.text(line)?;
    let (of_headings, sought) = (heading(second), name(second)?);
    let before = (1..line).rev().map_while(|line| Some((line, lines.text(line)?)));
    // Keys of other sections are others.
    let near = before.take_while(|(_, text)| of_headings || !heading(text));
    let first = near.filter(|(_, text)| heading(text) == of_headings && name(text).as_deref() == Some(&sought)).last();
    let first = first.map(|(line, _)| format!("; it is there already, in line {line}")).unwrap_or_default();
    Some(format!("duplicate key {}{first}", sought.escape_debug()))
}

struct Reader<'a> {
    lines: &'a Lines<'a>,
    /// The syntax is broken somewhere.
    broken: bool,
    findings: Findings,
}

type Key<'a> = Spanned<Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn tree(&mut self, document: &DeTable<'_>) -> Tree {
        for (key, value) in document {
            self.check_heading(key, value);
        }
        let (pooler, client_tls, server_tls) = Tree::take_pooler(self.section(document, "pooler"));
        let metrics = Tree::take_metrics(self.section(document, "metrics"));
        let databases = self.named(document, "databases", Tree::take_database);
        let users = self.named(document, "users", Tree::take_user);
        Tree { pooler, client_tls, server_tls, metrics, databases, users }
    }

    /// Complains of what is no section.
    fn check_heading(&mut self, key: &Key<'_>, value: &Value<'_>) {
        let place = Some(self.lines.place(key.span().start));
        let name: &str = key.get_ref();
        let text = match (SECTION_NAMES.contains(&name), value.get_ref().is_table()) {
            (true, true) => return,
            // The parser takes what follows a heading that is not closed for a part of it.
            (false, true) if self.broken && !self.is_heading(key) => return,
            (true, false) => format!("expected a section [{name}], not a value"),
            (false, true) if name == "pgbouncer" => "unknown section [pgbouncer]; here it is called [pooler]".into(),
            (false, true) if name == "peers" => {
                "PgBouncer's section [peers] is not supported: one process uses all cores, see workers".into()
            }
            (false, true) => match nearest(name, SECTION_NAMES) {
                Some(near) => format!("unknown section [{}]; did you mean [{near}]?", name.escape_debug()),
                None => format!("unknown section [{}]; there are {}", name.escape_debug(), HEADINGS),
            },
            (false, false) => match homes_of(name).as_slice() {
                [] => format!("unknown setting {name:?}, and it stands outside of any section"),
                homes => format!("{name:?} stands outside of any section; it belongs in {}", homes.join(" or ")),
            },
        };
        self.findings.complain(place, text);
    }

    /// Whether a key stands in a line that begins a section.
    fn is_heading(&self, key: &Key<'_>) -> bool {
        let line = self.lines.text(self.lines.place(key.span().start).line);
        line.is_some_and(|line| line.trim_start().starts_with('['))
    }

    /// The section called `name`; without settings when the document doesn't have it.
    fn section<'s, 'd>(&'s mut self, document: &'s DeTable<'d>, name: &'static str) -> Section<'s> {
        let found = document.iter().find(|(key, _)| key.get_ref() == name);
        match found.and_then(|(key, value)| Some((key, value.get_ref().as_table()?))) {
            Some((key, table)) => self.filled(name.to_owned(), key, table),
            None => Section::new(name, None, &mut self.findings),
        }
    }

    fn filled<'s>(&'s mut self, name: String, key: &Key<'_>, table: &'s DeTable<'_>) -> Section<'s> {
        let lines = self.lines;
        let mut section = Section::new(name, Some(lines.place(key.span().start)), &mut self.findings);
        for (key, value) in table {
            section.insert(key.get_ref().as_ref(), lines.place(key.span().start), raw(value.get_ref()));
        }
        section
    }

    /// The sections below `[group.NAME]`.
    fn named<T>(
        &mut self,
        document: &DeTable<'_>,
        group: &'static str,
        take: fn(Section<'_>) -> T,
    ) -> BTreeMap<String, T> {
        let mut entries = BTreeMap::new();
        let found = document.iter().find(|(key, _)| key.get_ref() == group);
        let Some(table) = found.and_then(|(_, value)| value.get_ref().as_table()) else { return entries };
        for (key, value) in table {
            let name: &str = key.get_ref();
            let place = Some(self.lines.place(key.span().start));
            if let Some(why) = refuse_name(group, name) {
                self.findings.complain(place, why);
            }
            match value.get_ref().as_table() {
                Some(table) => {
                    let section = self.filled(heading(group, name), key, table);
                    entries.insert(name.to_owned(), take(section));
                }
                None => self.findings.complain(
                    place,
                    format!("{name:?} in [{group}]: expected a section [{}], not a value", heading(group, name)),
                ),
            }
        }
        entries
    }
}

/// How the section of a database or user is headed, and named in [`Findings::places`].
pub fn heading(group: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { format!("{group}.{name}") } else { format!("{group}.{name:?}") }
}

/// Why nothing can have this name.
fn refuse_name(group: &str, name: &str) -> Option<String> {
    let longest = if group == "databases" { MAX_DATABASE_NAME } else { MAX_USER_NAME };
    if group == "databases" && name == "pgbouncer" {
        return Some("the database name \"pgbouncer\" is reserved for the console".into());
    }
    let legal = (1..=longest).contains(&name.len()) && !name.contains('\0');
    (!legal).then(|| format!("expected a name of 1 to {longest} bytes in [{group}.NAME]"))
}

fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(Cow::Borrowed(text)),
        DeValue::Integer(number) => Raw::Number(Cow::Borrowed(number.as_str()), number.radix()),
        DeValue::Float(number) => Raw::Number(Cow::Borrowed(number.as_str()), 10),
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

const SECTION_NAMES: [&str; 4] = ["pooler", "metrics", "databases", "users"];
const HEADINGS: &str = "[pooler], [metrics], [databases.NAME] and [users.NAME]";

#[cfg(test)]
mod tests;
