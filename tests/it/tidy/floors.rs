//! Which floor uses which: every path that leads through the crate's root is read.

use std::collections::BTreeMap;

use super::Complaints;
use super::source::{Source, is_name};

/// Floors by number. Those that share one don't use each other, but everybody uses `types` and `telemetry`.
const FLOORS: &[(u32, &[&str])] = &[
    (11, &["app"]),
    (10, &["agent", "coordinator"]),
    (9, &["admin"]),
    (8, &["session"]),
    (7, &["routing"]),
    (6, &["pool", "sql"]),
    (5, &["cluster"]),
    (4, &["server"]),
    (3, &["config"]),
    (2, &["net"]),
    (1, &["wire"]),
    (0, &["telemetry", "types"]),
];

/// Floor by name.
pub(super) fn table() -> BTreeMap<String, u32> {
    let pairs = FLOORS.iter().flat_map(|(number, names)| names.iter().map(|name| ((*name).to_owned(), *number)));
    pairs.collect()
}

/// The same as `docs/ARCHITECTURE.md` has it: lines such as ` 6 pool         servers at rest`.
pub(super) fn of_page(page: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in page.lines() {
        let Some((number, rest)) = line.trim_start().split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        // "name  what it is;  name: what that is"
        let first = rest.split("  ").next().unwrap_or_default().split(", ");
        let further = rest.split(";  ").skip(1).filter_map(|part| part.split_once(':')).map(|(name, _)| name);
        floors.extend(first.chain(further).map(|name| (name.to_owned(), number)));
    }
    floors
}

pub(super) fn check(source: &Source) -> Complaints {
    let Some(own) = floor_of(&source.path) else { return Complaints::new() };
    let complain = |(position, used): (usize, String)| {
        let problem = problem(own, &used)?;
        Some(format!("{}: {problem}", source.place(position)))
    };
    uses(&source.path, &source.code).into_iter().filter_map(complain).collect()
}

/// `None` for `lib.rs`, which names all floors; `main.rs` stands on the highest.
fn floor_of(path: &str) -> Option<&str> {
    match path.strip_prefix("src/")?.split_once('/') {
        Some((floor, _)) => Some(floor),
        None if path == "src/main.rs" => Some("app"),
        None => None,
    }
}

fn problem(own: &str, used: &str) -> Option<String> {
    let floors = table();
    let Some(own_number) = floors.get(own) else {
        return Some(format!("`{own}` is no floor: put it into docs/ARCHITECTURE.md and this test, or below a floor"));
    };
    let Some(number) = floors.get(used) else {
        return Some(format!("`crate::{used}` is no floor: name the module that defines it"));
    };
    let for_all = used == "types" || (used == "telemetry" && own != "types");
    if own == used || number < own_number || for_all {
        return None;
    }
    Some(format!(
        "{own} (floor {own_number}) uses {used} (floor {number}): a floor uses only those below it. Move what both \
         need to a lower floor, or hand it in from above as a value (news travels upward as data)"
    ))
}

/// Position and name of every module or item that is reached through the crate's root.
fn uses(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // One entry for each open brace: whether it is a module's.
    let mut braces: Vec<bool> = Vec::new();
    let mut opens_module = false;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        if !is_name(c) {
            match c {
                '{' => braces.push(std::mem::take(&mut opens_module)),
                '}' => drop(braces.pop()),
                ';' => opens_module = false,
                _ => (),
            }
            at += c.len_utf8();
            continue;
        }
        let word = word(&code[at..]);
        let depth = depth(path) + braces.iter().filter(|module| **module).count();
        opens_module |= word == "mod";
        let tail = match word {
            "crate" | "pglifeguard" => code[at + word.len()..].strip_prefix("::"),
            "super" => behind_supers(&code[at..], depth),
            _ => None,
        };
        if let Some(tail) = tail {
            found.extend(heads(tail).into_iter().map(|name| (at, name)));
        }
        // All of `super::super::` was looked at together.
        at += if word == "super" { super_chain(&code[at..]).1 } else { word.len() };
    }
    found
}

/// How many modules the file is below the root: 1 for `src/wire/mod.rs`, 2 for `src/wire/frame.rs`.
fn depth(path: &str) -> usize {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" || path == "main" { 0 } else { path.split('/').count() }
}

/// What stands behind a chain of `super::` that leads to the root.
fn behind_supers(code: &str, depth: usize) -> Option<&str> {
    let (count, length) = super_chain(code);
    (count == depth).then(|| &code[length..])
}

/// How many `super::` stand at the beginning, and how long they are.
fn super_chain(code: &str) -> (usize, usize) {
    let rest = code.trim_start_matches("super::");
    let length = code.len() - rest.len();
    if length == 0 { (0, "super".len()) } else { (length / "super::".len(), length) }
}

/// First names of a path or of a group of paths. Macros live at the root whatever their floor, so they don't count.
fn heads(tail: &str) -> Vec<String> {
    let Some(group) = tail.strip_prefix('{') else {
        let name = word(tail);
        let is_macro = tail[name.len()..].starts_with('!');
        return if name.is_empty() || is_macro { Vec::new() } else { vec![name.to_owned()] };
    };
    let mut names = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && is_name(c) => {
                names.push(word(&group[at..]).to_owned());
                begins = false;
            }
            _ => (),
        }
    }
    names.retain(|name| name != "self");
    names
}

fn word(code: &str) -> &str {
    &code[..code.find(|c| !is_name(c)).unwrap_or(code.len())]
}

#[test]
fn every_way_through_the_root_is_seen() {
    for (path, code, expected) in [
        ("src/wire/frame.rs", "use crate::types::Lsn;", "types"),
        ("src/wire/frame.rs", "use crate::{types::{Lsn, Size}, net, server::x::{self}};", "types net server"),
        ("src/wire/frame.rs", "fn f(x: &crate::pool::Pool) { crate::events!(x) }", "pool"),
        ("src/wire/frame.rs", "pub(crate) struct X; pub(in crate::wire) struct Y;", "wire"),
        ("src/wire/frame.rs", "use super::super::net::Stream; use super::tag::Tag;", "net"),
        ("src/wire/mod.rs", "use super::net; mod a { use super::super::pool; use super::b; }", "net pool"),
        ("src/session/relay/pump.rs", "use super::super::super::admin; use super::super::session;", "admin"),
        ("src/main.rs", "fn main() { pglifeguard::app::cli::main() }", "app"),
        ("src/wire/frame.rs", "use std::net::TcpStream; let supercrate = 1;", ""),
    ] {
        let names: Vec<_> = uses(path, code).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names.join(" "), expected, "{path}: {code}");
    }
}

#[test]
fn a_floor_may_use_those_below_it_and_no_other() {
    for (own, used, fine) in [
        ("wire", "types", true),
        ("wire", "wire", true),
        ("wire", "net", false),
        ("pool", "server", true),
        ("server", "pool", false),
        ("sql", "pool", false),
        ("pool", "sql", false),
        ("coordinator", "agent", false),
        ("telemetry", "types", true),
        ("types", "telemetry", false),
        ("net", "telemetry", true),
        ("app", "admin", true),
        ("wire", "Lsn", false),
        ("util", "types", false),
    ] {
        assert_eq!(problem(own, used).is_none(), fine, "{own} uses {used}");
    }
    let source = Source::new("src/wire/frame.rs", "\n// use crate::admin;\nuse crate::pool::Pool;");
    let complaints = check(&source);
    assert!(complaints.len() == 1 && complaints[0].starts_with("src/wire/frame.rs:3: wire"), "{complaints:?}");
}
