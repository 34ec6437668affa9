use tempfile::TempDir;

use super::*;
use crate::config::resolve::METRICS_LISTEN;

/// A directory with files.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("written");
    }
    dir
}

/// A key and a certificate for it.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    (made.signing_key.serialize_pem(), made.cert.pem())
}

/// A reload, or all that is wrong with it.
fn reload(path: &Path, running: &Config) -> Result<Reloaded, Vec<Complaint>> {
    let reloaded = super::reload(path, running)?;
    let Loaded { refused, mistakes, .. } = &reloaded.loaded;
    let wrong: Vec<_> = refused.iter().chain(mistakes).cloned().collect();
    if wrong.is_empty() { Ok(reloaded) } else { Err(wrong) }
}

const BASE: &str = "[pooler]\nauth_file = 'users.txt'\n[databases.app]\nhost = 'h'\n";

#[test]
fn files_are_found_beside_the_configuration() {
    let dir = dir(&[("pooler.toml", BASE), ("users.txt", "\"a\" \"b\"\nbroken\n")]);
    let loaded = load(&dir.path().join("pooler.toml")).expect("a good configuration");
    assert_eq!(loaded.config.userlist.len(), 1);
    assert!(loaded.mistakes.len() == 1 && loaded.mistakes[0].file.ends_with("users.txt"), "{:?}", loaded.mistakes);
}

#[test]
fn a_user_list_that_went_wrong_locks_nobody_out() {
    let dir = dir(&[("pooler.toml", BASE), ("users.txt", "\"a\" \"b\"\n\"c\" \"d\"\n")]);
    let path = dir.path().join("pooler.toml");
    let running = load(&path).expect("a good configuration").config;
    fs::write(dir.path().join("users.txt"), "\"a\" \"b\"\nc\n").expect("written");
    let complaints = reload(&path, &running).expect_err("a broken line");
    assert!(complaints.len() == 1 && complaints[0].place.is_some(), "{complaints:?}");
    fs::remove_file(dir.path().join("users.txt")).expect("removed");
    let complaints = reload(&path, &running).expect_err("no user list");
    assert!(complaints.len() == 1 && complaints[0].text.starts_with("auth_file: can't read "), "{complaints:?}");
}

#[test]
fn a_start_survives_a_missing_user_list_and_not_a_missing_configuration() {
    let dir = dir(&[("pooler.toml", BASE)]);
    let loaded = load(&dir.path().join("pooler.toml")).expect("a good configuration");
    assert!(loaded.config.userlist.is_empty());
    let shown = loaded.mistakes[0].to_string();
    assert!(shown.contains("pooler.toml:") && shown.contains(": auth_file: can't read "), "{shown}");
    let complaints = load(&dir.path().join("none.toml")).expect_err("there is no such file");
    assert!(complaints.len() == 1 && complaints[0].place.is_none(), "{complaints:?}");
}

#[test]
fn what_is_not_utf8_is_located() {
    let dir = dir(&[]);
    let path = dir.path().join("pooler.toml");
    fs::write(&path, b"[pooler]\n# \xff\n").expect("written");
    let complaints = load(&path).expect_err("not UTF-8");
    assert_eq!(complaints[0].place.map(|place| (place.line, place.column)), Some((2, 3)));
}

#[test]
fn a_reload_tells_what_changed_and_a_wrong_one_changes_nothing() {
    let dir = dir(&[("pooler.toml", BASE), ("users.txt", "\"a\" \"b\"\n")]);
    let path = dir.path().join("pooler.toml");
    let running = load(&path).expect("a good configuration").config;
    assert!(reload(&path, &running).expect("a good configuration").changes.is_empty());

    let new =
        "[pooler]\nauth_file = 'users.txt'\nlisten_port = 1\nquery_timeout = 1\n[metrics]\nlisten = '127.0.0.1:1'\n";
    fs::write(&path, new).expect("written");
    fs::write(dir.path().join("users.txt"), "\"a\" \"c\"\n").expect("written");
    let reloaded = reload(&path, &running).expect("a good configuration");
    let expected = Changes {
        settings: vec!["query_timeout"],
        needs_restart: vec!["listen_port", METRICS_LISTEN],
        databases_removed: vec!["app".into()],
        users_changed: vec!["a".into()],
        ..Changes::default()
    };
    assert_eq!(reloaded.changes, expected);
    assert_eq!(reloaded.loaded.config.pooler.listen_port, 6432);

    fs::write(&path, "[pooler]\nlisten_prt = 1\n").expect("written");
    assert_eq!(reload(&path, &running).expect_err("an unknown setting").len(), 1);
    fs::write(&path, "[pooler]\nlisten_prt = 1\nauth_file = 'users.txt'\n").expect("written");
    fs::write(dir.path().join("users.txt"), "a\n").expect("written");
    assert_eq!(reload(&path, &running).expect_err("an unknown setting and a broken line").len(), 2);
}

#[test]
fn new_contents_of_a_tls_file_are_noticed() {
    let text = "[pooler]\nclient_tls_sslmode = 'require'\nclient_tls_key_file = 'k'\nclient_tls_cert_file = 'c'\nserver_tls_ca_file = 'ca'\n";
    let [(key, certificate), (other_key, other)] = [pair(), pair()];
    let dir = dir(&[("pooler.toml", text), ("k", &key), ("c", &certificate), ("ca", &certificate)]);
    let path = dir.path().join("pooler.toml");
    let running = load(&path).expect("a good configuration").config;
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).expect("written");
    let changed = || {
        let changes = reload(&path, &running).expect("a good configuration").changes;
        (changes.client_tls, changes.server_tls)
    };
    write("c", &format!("{certificate}{other}"));
    assert_eq!(changed(), (true, false), "the chain");
    write("c", &other);
    let complaint = reload(&path, &running).expect_err("the key is of another pair").remove(0);
    assert!(complaint.to_string().contains("pooler.toml:3: client_tls_key_file: the private key in"), "{complaint}");
    write("k", &other_key);
    assert_eq!(changed(), (true, false), "the pair");
    write("k", &key);
    write("c", &certificate);
    write("ca", &other);
    assert_eq!(changed(), (false, true), "the authority");
    fs::remove_file(dir.path().join("ca")).expect("removed");
    assert_eq!(reload(&path, &running).expect_err("a file is missing").len(), 1);
}
