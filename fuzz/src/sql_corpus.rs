//! PostgreSQL's regression scripts (`src/test/regress/sql/*.sql` of its source) through the oracle, statement by
//! statement and in threes: `sql_corpus FILE…` prints what differs, and how much was compared. With the variable
//! `ROUNDS`, each statement is also compared so many times with some of its tokens changed.

mod oracle;

use std::collections::BTreeMap;
use std::fs;

use oracle::judge;
use pglifeguard_fuzz::random::Random;

#[derive(Default)]
struct Tally {
    texts: usize,
    scanned: usize,
    parsed: usize,
    unsure: usize,
    looked_for: usize,
    complaints: BTreeMap<&'static str, usize>,
}

fn main() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
    let mut tally = Tally::default();
    for path in std::env::args().skip(1) {
        let script = fs::read(&path).expect("readable");
        let script = String::from_utf8_lossy(&script);
        let statements = statements(&script);
        for text in &statements {
            tally.add(&path, text);
            for _ in 0..rounds {
                let other = &statements[random.below(statements.len())];
                tally.add(&path, &changed(text, other, &mut random));
            }
        }
        for three in statements.chunks(3).filter(|three| three.len() > 1) {
            // Only what parses by itself: one that doesn't would hide the others.
            let whole: Vec<_> =
                three.iter().filter(|text| pg_query::parse(text, 0).is_ok()).map(String::as_str).collect();
            tally.add(&path, &whole.join("\n;"));
        }
    }
    println!(
        "{} texts, {} scanned, {} statements parsed, {} of them unsure, {} calls and relations; complaints: {:?}",
        tally.texts, tally.scanned, tally.parsed, tally.unsure, tally.looked_for, tally.complaints
    );
    std::process::exit(i32::from(!tally.complaints.is_empty()));
}

impl Tally {
    fn add(&mut self, path: &str, text: &str) {
        let verdict = judge(text);
        self.texts += 1;
        self.scanned += usize::from(verdict.scans);
        self.parsed += verdict.statements.unwrap_or(0);
        self.unsure += verdict.unsure;
        self.looked_for += verdict.looked_for;
        if verdict.unsure > 0 {
            println!("{path}: unsure\n    {}", text.trim().replace('\n', "\n    "));
        }
        for (sort, complaint) in verdict.complaints {
            *self.complaints.entry(sort).or_default() += 1;
            println!("{path}: {sort}: {complaint}\n    {}", text.trim().replace('\n', "\n    "));
        }
    }
}

/// The text with a few tokens removed, doubled, or replaced by those of another or by ones that are hard to read.
fn changed(text: &str, other: &str, random: &mut Random) -> String {
    let mut tokens = pieces(text);
    let others = pieces(other);
    for _ in 0..=random.below(3) {
        let at = random.below(tokens.len() + 1);
        match random.below(5) {
            0 if at < tokens.len() => drop(tokens.remove(at)),
            1 if at < tokens.len() => tokens.insert(at, tokens[at]),
            2 if at < tokens.len() && !others.is_empty() => tokens[at] = others[random.below(others.len())],
            3 if !others.is_empty() => tokens.insert(at, others[random.below(others.len())]),
            _ => tokens.insert(at, HARD[random.below(HARD.len())]),
        }
    }
    tokens.concat()
}

const HARD: &[&str] = &[
    " ",
    "\n",
    ";",
    "(",
    ")",
    " insert ",
    " into ",
    " update ",
    " delete ",
    " end ",
    " begin ",
    " atomic ",
    " as ",
    " for ",
    " set ",
    " local ",
    " session ",
    " with ",
    " select ",
    " over (a) ",
    " join (",
    " left(a, 1) ",
    " values ",
    " temp ",
    " by ",
    "'a'\n'b'",
    " U&'d!0061' UESCAPE '!' ",
    " U&\"f\"(1) ",
    "$$a$$",
    " E'\\'' ",
    "--\n",
    "/* a */",
    "+",
    "-",
    "@-",
    "1",
    ".5",
    "\"into\"",
    "::int",
    " all ",
    ".",
    ",",
    "=",
    " to ",
    " name ",
    " pg_temp.t ",
    " distinct on (a) ",
    " return ",
    " declare ",
    " cursor ",
];

/// The text's tokens, each with the blanks before it.
fn pieces(text: &str) -> Vec<&str> {
    let Ok(scan) = pg_query::scan(text) else { return vec![text] };
    let ends: Vec<_> = scan.tokens.iter().filter_map(|token| usize::try_from(token.end).ok()).collect();
    let mut from = 0;
    let piece = |end: usize| text.get(std::mem::replace(&mut from, end)..end).unwrap_or_default();
    ends.into_iter().map(piece).collect()
}

/// The statements of a script for psql, without its own commands and without data for COPY.
fn statements(script: &str) -> Vec<String> {
    let mut text = String::new();
    let mut data = false;
    for line in script.lines() {
        if data {
            data = line != "\\.";
            continue;
        }
        if line.trim_start().starts_with('\\') {
            continue;
        }
        let (sql, command) = line.split_once(" \\g").map_or((line, false), |(sql, _)| (sql, true));
        text += &sql.replace("\\;", ";");
        text += if command { ";\n" } else { "\n" };
        let lower = line.to_lowercase();
        data = lower.starts_with("copy ") && lower.contains("from stdin") && lower.trim_end().ends_with(';');
    }
    let pieces = pg_query::split_with_scanner(&text).unwrap_or_default();
    pieces.into_iter().map(str::to_owned).collect()
}
