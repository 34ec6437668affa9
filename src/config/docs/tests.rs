use std::path::Path;
use std::{env, fs};

use super::*;
use crate::config::toml::parse_str;

/// Compares a generated text with its file, or writes the file when `UPDATE` is set.
fn assert_fresh(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, expected).expect("the file can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is stale: run `UPDATE=1 cargo test --lib config::docs`");
}

#[test]
fn the_generated_files_are_fresh() {
    assert_fresh("pooler.toml", &pooler_toml());
    assert_fresh("docs/settings.md", &reference_page());
}

#[test]
fn the_shipped_file_has_no_mistake_and_sets_what_is_in_force() {
    let parsed = parse_str("pooler.toml", &pooler_toml());
    assert_eq!(parsed.findings.complaints, []);
    let set = parsed.findings.places.keys().filter(|(_, key)| !key.is_empty()).count();
    assert_eq!(set, LIVE.len());
}

#[test]
fn every_commented_default_may_be_uncommented() {
    let setting = |line: &str| {
        let (key, value) = line.strip_prefix("# ")?.split_once(" = ")?;
        let bare = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        bare.then(|| format!("{key} = {value}"))
    };
    let uncommented: Vec<String> = pooler_toml()
        .lines()
        .map(|line| match line {
            "# [users.app]" => "[users.app]".to_owned(),
            line => setting(line).unwrap_or_else(|| line.to_owned()),
        })
        .collect();
    let parsed = parse_str("pooler.toml", &uncommented.join("\n"));
    assert_eq!(parsed.findings.complaints, []);
    let set = parsed.findings.places.keys().filter(|(_, key)| !key.is_empty()).count();
    let declared: usize = SECTIONS.iter().map(|section| (section.settings)().len()).sum();
    assert_eq!(set, declared);
    let defaults = parse_str("pooler.toml", "").tree;
    // What is in force in the shipped file besides defaults.
    let mut tree = parsed.tree;
    tree.pooler.auth_file = None;
    tree.pooler.admin_users = Vec::new();
    assert_eq!(tree.pooler, defaults.pooler);
    assert_eq!((tree.client_tls, tree.server_tls), (defaults.client_tls, defaults.server_tls));
}

#[test]
fn every_topic_has_its_place_in_the_order() {
    for setting in (SECTIONS[0].settings)() {
        assert!(ORDER.contains(&setting.topic), "{}", setting.topic);
    }
}

#[test]
fn what_overrides_a_setting_is_of_its_kind() {
    let globals = (SECTIONS[0].settings)();
    for setting in SECTIONS.iter().flat_map(|section| (section.settings)()) {
        let Declared::Overrides(key) = setting.value else { continue };
        let global = globals.iter().find(|global| global.key == key).expect("the global setting exists");
        assert_eq!((setting.legal)(), (global.legal)(), "{}", setting.key);
    }
}

#[test]
fn names_are_declared_once_per_section_and_lines_fit() {
    for section in &SECTIONS {
        let mut names: Vec<_> = (section.settings)().into_iter().flat_map(Setting::names).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "[{}]", section.name);
    }
    for line in pooler_toml().lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}
