//! The relay in dialogues: what a client sends, what reaches the server, what the server says, what the client reads,
//! and whether the server is given back. `tests/dialogue/*.txt` holds them with what came of them; `UPDATE=1` writes
//! that anew, for a person to read as a diff.
//!
//! `> …` the client sends, `< …` its server says (`dialogue/notation.rs` has the words), `: …` is an order:
//! `client b` and `server 2` turn to others, `has`, `knows` are about settings, `session` and `prepared 1` about the
//! pool, `refused` and `leaves` say what becomes of the client. Indented is what comes of it.

#[path = "relay_support/messages.rs"]
mod messages;
#[path = "dialogue/notation.rs"]
mod notation;
#[path = "dialogue/stage.rs"]
mod stage;

use std::path::{Path, PathBuf};
use std::{env, fs};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogue");
    let entries = fs::read_dir(directory).expect("it is there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "txt")).collect();
    files.sort();
    files
}

/// A comment over a dialogue is its name.
fn dialogues(text: &str) -> Vec<(Vec<&str>, Vec<&str>)> {
    let blocks = text.split("\n\n").map(str::trim_end).filter(|block| !block.is_empty());
    blocks
        .map(|block| block.lines().filter(|line| !line.starts_with("    ")).partition(|it| it.starts_with('#')))
        .collect()
}

fn played(text: &str, pieces: (usize, usize)) -> Vec<String> {
    let block = |(names, lines): (Vec<&str>, Vec<&str>)| {
        let names = names.into_iter().map(str::to_owned);
        names.chain(stage::play(&lines, pieces)).collect::<Vec<_>>().join("\n")
    };
    dialogues(text).into_iter().map(block).collect()
}

#[test]
fn every_dialogue_goes_as_it_is_written() {
    let mut count = 0;
    for path in files() {
        let text = fs::read_to_string(&path).expect("readable");
        let blocks = played(&text, WHOLE);
        count += blocks.len();
        let unheard = blocks.iter().find(|block| block.contains("nobody hears"));
        assert!(unheard.is_none(), "{}: a server too many:\n{}", path.display(), unheard.map_or("", |block| block));
        let now = blocks.join("\n\n") + "\n";
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, now).expect("writable");
            continue;
        }
        let written = text.split("\n\n").map(str::trim_end).filter(|block| !block.is_empty());
        for (written, now) in written.zip(&blocks) {
            assert!(written == now, "{}:\n{written}\n\nis now\n\n{now}\n(UPDATE=1 writes it so)", path.display());
        }
        assert_eq!(text, now, "{}", path.display());
    }
    assert!(count >= 60, "only {count} dialogues");
}

const WHOLE: (usize, usize) = (usize::MAX, usize::MAX);
const TOO_MUCH: [&str; 2] = ["the server is lost", "N(late)"];

/// What one side is told in all of a dialogue.
fn told<'a>(block: &'a str, side: &'a str) -> Vec<&'a str> {
    block.lines().filter_map(|line| line.trim_start().strip_prefix(side)).flat_map(|words| words.split(' ')).collect()
}

#[test]
fn it_makes_no_difference_in_what_pieces_messages_come() {
    for path in files() {
        let text = fs::read_to_string(&path).expect("readable");
        for sizes in [(1, usize::MAX), (7, usize::MAX), (usize::MAX, 1), (usize::MAX, 7)] {
            // Before half a Query settings go alone: the servers of these dialogues do not expect that.
            if sizes.0 < usize::MAX && path.ends_with("settings.txt") {
                continue;
            }
            for (whole, pieces) in played(&text, WHOLE).iter().zip(played(&text, sizes)) {
                // How much of what a server says too much is heard depends on when it comes.
                if TOO_MUCH.iter().any(|it| whole.contains(it)) {
                    continue;
                }
                for side in ["client: ", "server: "] {
                    assert_eq!(told(whole, side), told(&pieces, side), "pieces of {sizes:?} bytes: {pieces}");
                }
            }
        }
    }
}
