//! Files that `docs/ARCHITECTURE.md` marks with `●` do no I/O and know no clock, randomness or runtime.

use std::collections::BTreeSet;

use super::Complaints;
use super::source::{Source, is_name};

/// What a core must not name, and where to get it instead.
const BANNED: &[(&str, &str)] = &[
    ("tokio", "the shell around this core waits; the core only says what to do"),
    ("std::fs", "let the shell read, and take the text as an argument"),
    ("std::io::Read", "take bytes as an argument"),
    ("std::io::Write", "return bytes, or append to a buffer that is passed in"),
    ("std::env", "take the value as an argument"),
    ("std::process", "return what to do, and let the shell do it"),
    ("std::thread", "the shell around this core has the threads"),
    ("std::net::TcpStream", "take bytes as an argument"),
    ("std::net::TcpListener", "take bytes as an argument"),
    ("std::net::UdpSocket", "take bytes as an argument"),
    ("std::net::ToSocketAddrs", "names are resolved in net"),
    ("Instant::now", "take the time as an argument"),
    ("SystemTime::now", "take the time as an argument"),
    ("rand", "take random bytes as an argument"),
    ("SystemRandom", "take random bytes as an argument"),
    ("Mutex", "the shell around this core holds the lock"),
    ("RwLock", "the shell around this core holds the lock"),
];

/// What stands in a marked file all the same, each with its reason.
const ALLOWED: &[(&str, &str)] = &[
    // `Userlist::load`: one of the two functions of config that read files; the rest of the file is a core.
    ("src/config/users.rs", "std::fs"),
];

/// Paths of the marked files, and of marked directories with a `/` at the end.
pub(super) fn of_page(page: &str) -> BTreeSet<String> {
    let mut cores = BTreeSet::new();
    let mut dir = String::new();
    let mut nested = "";
    for line in page.lines() {
        let indent = line.len() - line.trim_start().len();
        let Some(first) = line.split_whitespace().next() else { continue };
        let is_dir = first.ends_with('/');
        // The tree's lines begin with a directory in the first column, or stand below one.
        let mut names = line.trim_start();
        match indent {
            0 if is_dir => (dir, nested) = (format!("src/{first}"), ""),
            12 if is_dir && line[12 + first.len()..].starts_with("  ") => nested = first,
            12 => nested = "",
            20 => (),
            _ => continue,
        }
        if is_dir && (indent == 0 || nested == first) {
            names = &names[first.len()..];
        }
        cores.extend(marked_in(names).into_iter().map(|name| format!("{dir}{nested}{name}")));
    }
    cores
}

/// `a.rs ●`, `a.rs ●, b.rs ●` and `a.rs, b.rs ●`: a mark counts for all names that it is joined to by commas.
fn marked_in(line: &str) -> Vec<String> {
    let mut marked = Vec::new();
    let mut group: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let word = word.trim_end_matches(',');
        match word {
            "●" => marked.append(&mut group),
            _ if word.ends_with(".rs") || word.ends_with('/') => group.push(word.to_owned()),
            _ => group.clear(),
        }
    }
    marked
}

pub(super) fn check(cores: &BTreeSet<String>, source: &Source) -> Complaints {
    if !cores.iter().any(|core| belongs(core, &source.path)) {
        return Complaints::new();
    }
    let mut complaints = Complaints::new();
    for (name, instead) in BANNED {
        if ALLOWED.contains(&(source.path.as_str(), name)) {
            continue;
        }
        for (position, _) in source.product.match_indices(name) {
            if is_whole(&source.product, position, name.len()) {
                complaints.push(format!("{}: `{name}` in a core (●): {instead}", source.place(position)));
            }
        }
    }
    complaints
}

/// A core that outgrew its file goes on in a directory of the same name.
fn belongs(core: &str, path: &str) -> bool {
    let dir = core.strip_suffix(".rs").map_or_else(|| core.to_owned(), |stem| format!("{stem}/"));
    path == core || path.starts_with(&dir)
}

fn is_whole(code: &str, position: usize, length: usize) -> bool {
    let before = code[..position].chars().next_back();
    let after = code[position + length..].chars().next();
    !before.is_some_and(is_name) && !after.is_some_and(is_name)
}

#[test]
fn marks_are_read_from_the_page() {
    let page = "\
src/main.rs               arguments
types/      ids.rs ●      ClientId     lsn.rs ● Lsn, Timeline     size.rs, time.rs ● \"30s\"
telemetry/  events.rs     one function     labels.rs ● closed enums
net/        listen.rs, connect.rs   sockets   tls.rs rustls configs
config/     settings/ ●   the typed tree, one file per section
            toml.rs ●, ini.rs ●   pooler.toml; pgbouncer.ini → the tree
session/    handshake.rs  TLS
            relay/  pipeline.rs ●  what is owed       prepared.rs ● names
                    relay.rs ●     these together    pump.rs the only loop
            notify.rs the shared LISTEN connection     deadlines.rs ● which timeout

some prose with `●` in it, and ids.rs
";
    let expected = [
        "src/config/ini.rs",
        "src/config/settings/",
        "src/config/toml.rs",
        "src/session/deadlines.rs",
        "src/session/relay/pipeline.rs",
        "src/session/relay/prepared.rs",
        "src/session/relay/relay.rs",
        "src/telemetry/labels.rs",
        "src/types/ids.rs",
        "src/types/lsn.rs",
        "src/types/size.rs",
        "src/types/time.rs",
    ];
    assert_eq!(of_page(page), expected.map(str::to_owned).into());
}

#[test]
fn a_core_with_a_clock_or_a_socket_is_found() {
    let cores = ["src/a/core.rs", "src/a/dir/"].map(str::to_owned).into();
    for (path, text, complaints) in [
        ("src/a/core.rs", "fn f() { Instant::now() }", 1),
        ("src/a/core/part.rs", "use tokio::time;", 1),
        ("src/a/dir/x.rs", "use std::fs;", 1),
        ("src/a/core.rs", "fn f(now: Instant, addr: std::net::SocketAddr, random: [u8; 8]) {}", 0),
        ("src/a/core.rs", "// tokio\nconst A: &str = \"tokio\"; struct Operand; use operand::x;", 0),
        ("src/a/core.rs", "#[cfg(test)]\nmod tests { fn f() { Instant::now() } }", 0),
        ("src/a/core/tests.rs", "use tokio::time;", 0),
        ("src/a/shell.rs", "use tokio::time;", 0),
    ] {
        assert_eq!(check(&cores, &Source::new(path, text)).len(), complaints, "{path}: {text}");
    }
}
