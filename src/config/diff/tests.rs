use std::path::Path;

use super::*;
use crate::config::model::TlsFiles;
use crate::config::resolve::{Outside, resolve};
use crate::config::toml::parse_str;

fn config(text: &str) -> Config {
    let outside = Outside { variable: &|_| None, read: &|_| Ok(b"PEM".to_vec()) };
    resolve(parse_str("pooler.toml", text), None, &outside).expect("a good configuration").config
}

fn with_users(text: &str, users: &str) -> Config {
    Config { userlist: Arc::new(Userlist::parse(Path::new("u"), users.as_bytes()).0), ..config(text) }
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[test]
fn the_same_configuration_changes_nothing() {
    let text =
        "[pooler]\nserver_tls_ca_file = 'ca'\n[databases.a]\nuser = 'u'\npassword = 'p'\n[users.u]\npool_size = 1";
    assert!(changes(&with_users(text, "\"a\" \"b\""), &with_users(text, "\"a\" \"b\"")).is_empty());
}

#[test]
fn settings_are_in_force_or_wait_for_a_restart() {
    let new = "[pooler]\nlisten_port = 1\nworkers = 2\nquery_timeout = 5\n[metrics]\nlisten = '127.0.0.1:1'";
    let found = changes(&config(""), &config(new));
    let expected = Changes {
        settings: vec!["query_timeout"],
        needs_restart: vec!["listen_port", "workers", METRICS_LISTEN],
        ..Changes::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn servers_are_reconnected_when_they_are_elsewhere_or_log_in_otherwise() {
    let old = "[databases.a]\nhost = 'h'\nuser = 'u'\npassword = 'p'\n";
    for (line, reconnects) in [
        ("host = 'h'\nuser = 'u'\npassword = 'p'\nport = 5432", false),
        ("host = 'h'\nuser = 'u'\npassword = 'p'\npool_size = 1\nconnect_query = 'select 1'", false),
        ("host = 'h2'\nuser = 'u'\npassword = 'p'", true),
        ("host = ['h', 'h2']\nuser = 'u'\npassword = 'p'", true),
        ("host = 'h'\nuser = 'u2'\npassword = 'p'", true),
        ("host = 'h'\nuser = 'u'\npassword = 'p2'", true),
        ("host = 'h'", true),
        ("host = 'h'\nuser = 'u'\npassword = 'p'\nport = 1", true),
        ("host = 'h'\nuser = 'u'\npassword = 'p'\ndbname = 'b'", true),
        ("host = 'h'\nuser = 'u'\npassword = 'p'\ntimezone = 'UTC'", true),
    ] {
        let found = changes(&config(old), &config(&format!("[databases.a]\n{line}")));
        let servers_changed = if reconnects { names(&["a"]) } else { Vec::new() };
        assert_eq!(found, Changes { servers_changed, ..Changes::default() }, "{line}");
    }
}

#[test]
fn databases_come_and_go() {
    let found = changes(&config("[databases.a]\n[databases.b]"), &config("[databases.b]\n[databases.c]"));
    let expected = Changes { databases_added: names(&["c"]), databases_removed: names(&["a"]), ..Changes::default() };
    assert_eq!(found, expected);
}

#[test]
fn tls_changes_with_its_settings_and_with_its_files() {
    let base = config("");
    for (text, files, client_tls, server_tls) in [
        ("", TlsFiles::default(), false, false),
        ("", TlsFiles { client: 1, ..TlsFiles::default() }, true, false),
        ("", TlsFiles { server: 1, ..TlsFiles::default() }, false, true),
    ] {
        let old = Config { tls_files: TlsFiles::default(), ..config("") };
        let new = Config { tls_files: files, ..config(text) };
        let found = changes(&old, &new);
        assert_eq!((found.client_tls, found.server_tls), (client_tls, server_tls), "{files:?}");
    }
    let found = changes(&base, &config("[pooler]\nserver_tls_sslmode = 'require'"));
    assert_eq!((found.client_tls, found.server_tls, found.settings), (false, true, vec!["server_tls_sslmode"]));
}

#[test]
fn users_change_with_their_secret_and_with_their_settings() {
    let old = with_users("[users.limits]\npool_size = 1", "\"same\" \"1\"\n\"gone\" \"1\"\n\"secret\" \"1\"\n");
    let new = with_users("[users.limits]\npool_size = 2", "\"same\" \"1\"\n\"new\" \"1\"\n\"secret\" \"2\"\n");
    let expected = Changes { users_changed: names(&["gone", "limits", "new", "secret"]), ..Changes::default() };
    assert_eq!(changes(&old, &new), expected);
}
