//! `pooler.toml` and `userlist.txt`: whatever the text, mistakes have their places within it, and what is accepted can
//! be used.

use std::path::Path;

use pglifeguard::config::complaint::Complaint;
use pglifeguard::config::resolve::{Outside, resolve};
use pglifeguard::config::toml::parse_str;
use pglifeguard::config::users::{StoredSecret, Userlist};
use pglifeguard::config::{Config, changes};
use pglifeguard::wire::scram::ScramVerifier;

/// A file.
pub fn run(data: &[u8]) {
    userlist(data);
    if let Ok(text) = str::from_utf8(data) {
        pooler_toml(text);
    }
}

fn pooler_toml(text: &str) {
    let lines = text.split('\n').count();
    let parsed = parse_str("pooler.toml", text);
    parsed.findings.complaints.iter().for_each(|complaint| lies_within(complaint, lines));
    let broken = !parsed.findings.complaints.is_empty();
    let config = match resolve(parsed, None, &OUTSIDE) {
        Ok(resolved) => resolved.config,
        Err(complaints) => {
            assert!(!complaints.is_empty());
            complaints.iter().for_each(|complaint| drop(complaint.to_string()));
            return;
        }
    };
    assert!(!broken, "accepted in spite of complaints");
    use_it(&config);
    // The same text again changes nothing.
    let again = resolve(parse_str("pooler.toml", text), Some(&config), &OUTSIDE).expect("it was accepted before");
    assert_eq!(again.needs_restart, Vec::<&str>::new());
    let changes = changes(&config, &again.config);
    assert!(changes.is_empty(), "{changes:?}");
}

const OUTSIDE: Outside<'static> = Outside {
    variable: &|name| name.starts_with('P').then(|| name.to_owned()),
    read: &|path| if path.as_os_str().len() % 2 == 0 { Ok(b"secret\n".to_vec()) } else { Err("no such file".into()) },
};

fn use_it(config: &Config) {
    for (name, database) in &config.databases {
        assert!(!name.is_empty() && name.len() <= 63 && !name.contains('\0'));
        let users = config.users.keys().map(|user| &**user).chain(["somebody"]);
        users.for_each(|user| assert!(config.pool_settings(database, user).pool_mode.as_str().len() > 3));
    }
    assert!(config.shown.iter().all(|setting| !setting.key.is_empty()));
}

fn userlist(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').count();
    let (list, complaints) = Userlist::parse(Path::new("userlist.txt"), data);
    complaints.iter().for_each(|complaint| lies_within(complaint, lines));
    assert!(list.len() <= lines);
    for (user, secret) in list.iter() {
        assert!(user.len() <= 127);
        assert_eq!(list.get(user), Some(secret));
        if let StoredSecret::Scram(verifier) = secret {
            assert_eq!(ScramVerifier::parse(&verifier.to_string()).as_ref(), Some(verifier));
        }
    }
}

fn lies_within(complaint: &Complaint, lines: usize) {
    match complaint.place {
        Some(place) => assert!((1..=lines).contains(&(place.line as usize)) && place.column >= 1, "{complaint}"),
        None => assert!(complaint.text.starts_with("a key has too many parts: "), "{complaint}"),
    }
    assert!(!complaint.text.contains('\n'), "{complaint:?}");
}
