//! Which floor uses which crates of others: `docs/ARCHITECTURE.md` says so in its table of floors.

use std::collections::{BTreeMap, BTreeSet};

use super::Complaints;
use super::source::{Source, is_name};

/// Names as in `Cargo.toml`, by floor. What every floor may use is in all of them.
pub(super) type Given = BTreeMap<String, BTreeSet<String>>;

/// The line of the page with what every floor may use.
const FOR_ALL: &str = "Building blocks that every floor may use: ";

/// The package's dependencies, those of its tests left out.
pub(super) fn of_manifest(manifest: &str) -> BTreeSet<String> {
    let table = manifest.split("\n[").find_map(|table| table.strip_prefix("dependencies]")).unwrap_or_default();
    let name = |line: &str| line.split_once(" = ").filter(|_| !line.starts_with('#')).map(|(name, _)| name.to_owned());
    table.lines().filter_map(name).collect()
}

/// Rows such as `| pool | cluster, server, below | `tokio` | never holds a lock |`.
pub(super) fn of_page(page: &str, all: &BTreeSet<String>) -> Given {
    let for_all = page.lines().find_map(|line| line.strip_prefix(FOR_ALL)).unwrap_or_default();
    let for_all = quoted(for_all.split(". ").next().unwrap_or_default(), all);
    let rows = page.lines().skip_while(|line| !line.starts_with("| Floor | Imports |")).skip(2);
    let mut given = Given::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, floors, _, crates, ..] = cells[..] else { continue };
        let crates: BTreeSet<_> = quoted(crates, all).union(&for_all).cloned().collect();
        given.extend(floors.split(", ").map(|floor| (floor.to_owned(), crates.clone())));
    }
    given
}

/// The dependencies among the words in backticks.
fn quoted(text: &str, all: &BTreeSet<String>) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).filter(|word| all.contains(*word)).map(str::to_owned).collect()
}

pub(super) fn check(given: &Given, all: &BTreeSet<String>, source: &Source) -> Complaints {
    let floor = match source.path.strip_prefix("src/").and_then(|path| path.split_once('/')) {
        Some((floor, _)) => floor,
        None => "app",
    };
    let Some(given) = given.get(floor) else {
        return vec![format!("{}: the table of floors in docs/ARCHITECTURE.md has no row for {floor}", source.path)];
    };
    let complain = |name: &String| {
        let position = first_use(&source.product, &in_code(name))?;
        Some(format!(
            "{}: {floor} uses `{name}`, which docs/ARCHITECTURE.md does not give it: have a floor that has it do the \
             work, or change the table there",
            source.place(position)
        ))
    };
    all.difference(given).filter_map(complain).collect()
}

/// How code names a dependency.
fn in_code(name: &str) -> String {
    match name {
        "md-5" => "md5".to_owned(),
        other => other.replace('-', "_"),
    }
}

/// Where a path or a macro begins with this name at the root.
fn first_use(code: &str, name: &str) -> Option<usize> {
    let begins = |position: usize| {
        let before = code[..position].strip_suffix("::").unwrap_or(&code[..position]);
        !before.chars().next_back().is_some_and(|c| is_name(c) || c == ':')
    };
    let mut found = code.match_indices(name).filter(|(position, _)| begins(*position));
    found.find(|(position, _)| code[position + name.len()..].starts_with("::")).map(|(position, _)| position)
}

#[test]
fn crates_are_read_from_the_manifest_and_the_page() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\n# I/O\ntokio = \"1\"\nmd-5 = \"0.10\"\nbytes = \"1\"\n\n[dev-dependencies]\nproptest = \"1\"\n";
    let all = of_manifest(manifest);
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), ["bytes", "md-5", "tokio"]);
    let page = "\
| Floor | Imports | Crates of others | Invariant |
| --- | --- | --- | --- |
| wire | types | `md-5` | never `tokio` |
| a, b | `tokio`-free | | nothing |

Building blocks that every floor may use: `bytes`. `tokio` is none.
";
    let given = of_page(page, &all);
    let of = |floor: &str| given[floor].iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!((of("wire"), of("a"), of("b")), ("bytes md-5".into(), "bytes".into(), "bytes".into()));
    for (code, fine) in [
        ("use md5::Md5;", true),
        ("use tokio::net::TcpStream;", false),
        ("use ::tokio::net::TcpStream;", false),
        ("fn f() { tokio::spawn(async {}) }", false),
        ("use super::tokio::x; use crate::tokio::y; tokio_like::z()", true),
        ("// tokio::spawn\n#[cfg(test)]\nmod tests { use tokio::time; }", true),
    ] {
        assert_eq!(check(&given, &all, &Source::new("src/wire/frame.rs", code)).is_empty(), fine, "{code}");
    }
    assert_eq!(check(&given, &all, &Source::new("src/none/frame.rs", "")).len(), 1, "a floor without a row");
}
