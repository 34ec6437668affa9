//! The source's own rules, those that neither the compiler nor clippy knows: floors, cores without I/O, lengths,
//! banned calls. Each rule lives in a file below `tidy/`, with tests that it can fail.

mod cores;
mod crates;
mod floors;
mod shape;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// What a rule found wrong: where, and what to do instead.
type Complaints = Vec<String>;

#[test]
fn floors_use_only_floors_below_them() {
    settle(sources(&["src"]).iter().flat_map(floors::check).collect());
}

#[test]
fn the_floors_are_those_of_the_architecture_page() {
    assert_eq!(floors::of_page(&architecture()), floors::table());
}

#[test]
fn floors_use_only_the_crates_that_the_architecture_page_gives_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the package has it");
    let (page, all) = (architecture(), crates::of_manifest(&manifest));
    let given = crates::of_page(&page, &all);
    settle(sources(&["src"]).iter().flat_map(|source| crates::check(&given, &all, source)).collect());
}

#[test]
fn cores_do_no_io_and_know_no_clock() {
    let cores = cores::of_page(&architecture());
    assert!(cores.len() > 40, "the marks of docs/ARCHITECTURE.md were not read: {cores:?}");
    settle(sources(&["src"]).iter().flat_map(|source| cores::check(&cores, source)).collect());
}

#[test]
fn functions_and_files_are_short() {
    settle(
        sources(&["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"])
            .iter()
            .flat_map(shape::lengths)
            .collect(),
    );
}

#[test]
fn nothing_calls_what_is_banned() {
    settle(
        sources(&["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"])
            .iter()
            .flat_map(shape::banned_calls)
            .collect(),
    );
}

/// Fails with all complaints at once.
#[track_caller]
fn settle(complaints: Complaints) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Every Rust file below these directories of the project.
fn sources(dirs: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in dirs {
        collect(&root.join(dir), &mut files);
    }
    files.sort();
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(root).expect("found below it").to_string_lossy().replace('\\', "/");
        Source::new(&path, &fs::read_to_string(file).expect("UTF-8"))
    };
    files.iter().map(read).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn architecture() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).expect("the page is there")
}
