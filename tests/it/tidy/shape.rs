//! Lengths of functions and files, and calls that have no place here.

use super::Complaints;
use super::source::{Source, end_of_block, is_name, line};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

pub(super) fn lengths(source: &Source) -> Complaints {
    let mut complaints = Complaints::new();
    if source.lines > FILE_LINES_MAX {
        complaints.push(format!(
            "{}: {} lines, at most {FILE_LINES_MAX}: split it by idea; long unit tests go to NAME/tests.rs",
            source.path, source.lines
        ));
    }
    for (position, name, lines) in functions(&source.code) {
        if lines > FUNCTION_LINES_MAX {
            complaints.push(format!(
                "{}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: look for the second idea in it",
                source.place(position)
            ));
        }
    }
    complaints
}

/// Position, name and number of lines of every function that has a body.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for (position, _) in code.match_indices("fn ") {
        let name_at = position + "fn ".len();
        let name = &code[name_at..][..code[name_at..].find(|c| !is_name(c)).unwrap_or(0)];
        if name.is_empty() || code[..position].chars().next_back().is_some_and(is_name) {
            continue;
        }
        if let Some(open) = body(code, name_at) {
            let last = end_of_block(code, open).saturating_sub(1);
            found.push((position, name, line(code, last) - line(code, position) + 1));
        }
    }
    found
}

/// Where the body begins; `None` for a declaration. A `;` within brackets is an array's.
fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(from + at),
            ';' if depth == 0 => return None,
            _ => (),
        }
    }
    None
}

/// What is banned in the product, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "return an error, or use expect(\"why it cannot fail\") where the lines above prove it"),
    (".unwrap_err()", "match on the result"),
];

/// Banned in the product outside `app`, the only floor that talks to a terminal.
const BANNED_BELOW_APP: &[(&str, &str)] = &[
    ("println!", "an event of telemetry::events logs and counts"),
    ("print!", "an event of telemetry::events logs and counts"),
    ("eprintln!", "an event of telemetry::events logs and counts"),
    ("eprint!", "an event of telemetry::events logs and counts"),
    ("process::exit", "return an error; only app ends the program"),
];

/// Banned everywhere, in tests as well.
const BANNED_EVERYWHERE: &[(&str, &str)] = &[
    ("todo!", "write it, or leave the feature out"),
    ("unimplemented!", "write it, or return an error that says what is not supported"),
    ("dbg!", "remove it; what is worth seeing is an event"),
];

pub(super) fn banned_calls(source: &Source) -> Complaints {
    let mut complaints = named(source, &source.code, BANNED_EVERYWHERE);
    complaints.extend(named(source, &source.product, BANNED));
    if !source.path.starts_with("src/app/") {
        complaints.extend(named(source, &source.product, BANNED_BELOW_APP));
    }
    complaints
}

fn named(source: &Source, code: &str, banned: &[(&str, &str)]) -> Complaints {
    let mut complaints = Complaints::new();
    for (call, instead) in banned {
        for (position, _) in code.match_indices(call) {
            // `eprintln!` contains `println!`.
            let goes_before = call.starts_with(is_name) && code[..position].chars().next_back().is_some_and(is_name);
            if !goes_before {
                complaints.push(format!("{}: `{call}`: {instead}", source.place(position)));
            }
        }
    }
    complaints
}

#[test]
fn lengths_of_functions_are_counted() {
    let code =
        "trait T {\n    fn a(x: [u8; 4]);\n}\nfn b(f: fn(u8) -> [u8; 4]) -> u8 {\n    if x {\n    }\n}\nfn c() {}";
    let found: Vec<_> = functions(code).into_iter().map(|(_, name, lines)| (name, lines)).collect();
    assert_eq!(found, [("b", 4), ("c", 1)]);
}

#[test]
fn what_is_too_long_is_found() {
    let function = |lines: usize| format!("fn long() {{\n{}}}\n", "    f();\n".repeat(lines - 2));
    for (text, complaints) in [
        (function(FUNCTION_LINES_MAX), 0),
        (function(FUNCTION_LINES_MAX + 1), 1),
        ("\n".repeat(FILE_LINES_MAX), 0),
        ("\n".repeat(FILE_LINES_MAX + 1), 1),
    ] {
        assert_eq!(lengths(&Source::new("src/a/b.rs", &text)).len(), complaints);
    }
}

#[test]
fn banned_calls_are_found_where_they_are_banned() {
    for (path, text, complaints) in [
        ("src/a/b.rs", "x.unwrap();", 1),
        ("src/a/b.rs", "x.unwrap_or(1); x.expect(\"a reason\"); // x.unwrap()", 0),
        ("src/a/b.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }", 0),
        ("src/a/b.rs", "#[cfg(test)]\nmod tests { fn f() { todo!() } }", 1),
        ("src/a/b.rs", "eprintln!(\"x\");", 1),
        ("src/app/b.rs", "println!(\"x\");", 0),
        ("tests/it/b.rs", "println!(\"x\"); dbg!(x);", 1),
        ("benches/b.rs", "unimplemented!()", 1),
    ] {
        assert_eq!(banned_calls(&Source::new(path, text)).len(), complaints, "{path}: {text}");
    }
}
