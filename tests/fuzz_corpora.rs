//! The fuzz targets on their corpora, and on what a few seconds of random changes make of them. What a fuzzer found
//! stays in its corpus. `FUZZ_ROUNDS` changes each input so many times.

#[expect(unreachable_pub, reason = "a crate of its own for the fuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use targets::random::Random;
use targets::{Run, TARGETS};

/// Every input of a target's corpus, in order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&dir).expect("every target has a corpus").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn every_corpus_passes() {
    for (target, run) in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() > 5, "{target}: the corpus is missing");
        for (path, input) in inputs {
            assert!(catch_unwind(|| run(&input)).is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn random_changes_of_the_corpora_pass() {
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    for (target, run) in TARGETS {
        let inputs = corpus(target);
        let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
        for round in 0..rounds {
            for (path, input) in &inputs {
                let mut changed = input.clone();
                let other = &inputs[random.below(inputs.len())].1;
                (0..=random.below(4)).for_each(|_| change(&mut changed, other, &mut random));
                check(run, &changed, &format!("round {round} of {}", path.display()));
            }
        }
    }
}

fn check(run: Run, input: &[u8], name: &str) {
    assert!(catch_unwind(|| run(input)).is_ok(), "{name}: add to its corpus: {}", input.escape_ascii());
}

/// One change, as fuzzers make them.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() + 1 - at);
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = b"\0\x01\x04\x7f\x80\xff\"'\\,=;"[random.below(12)],
        2 => input.insert(at, u8::try_from(random.below(256)).expect("a byte")),
        3 => drop(input.drain(at..end.min(at + 16))),
        4 => input.truncate(at),
        5 => {
            let again = input[at..end.min(at + 64)].to_vec();
            drop(input.splice(at..at, again));
        }
        6 => {
            let from = random.below(other.len() + 1);
            let to = other.len().min(from + random.below(64));
            drop(input.splice(at..end.min(at + 64), other[from..to].iter().copied()));
        }
        _ if at + 4 <= input.len() => {
            let length = u32::try_from(random.below(300)).expect("small");
            input[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        _ => {}
    }
}
