use std::time::Duration;

use super::*;
use crate::config::model::{PoolMode, ShownSetting};
use crate::config::toml::parse_str;

/// A world with a few files and one variable.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    match path.to_str() {
        Some("/etc/pg/app.pw") => Ok(b"from file\r\n".to_vec()),
        Some("/etc/pg/empty.pw") => Ok(b"\n".to_vec()),
        Some("/etc/pg/key.pem" | "/etc/pg/cert.pem" | "/etc/pg/ca.pem") => Ok(b"PEM".to_vec()),
        _ => Err("No such file".into()),
    }
}

fn variable(name: &str) -> Option<String> {
    match name {
        "APP_PASSWORD" => Some("from variable".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn try_resolve(text: &str, running: Option<&Config>) -> Result<Resolved, Vec<Complaint>> {
    resolve(parse_str("/etc/pg/pooler.toml", text), running, &Outside { variable: &variable, read: &read })
}

fn config(text: &str) -> Config {
    try_resolve(text, None).expect("a good configuration").config
}

fn complaints(text: &str) -> Vec<String> {
    let shown = |complaint: &Complaint| complaint.to_string().replace("/etc/pg/pooler.toml:", "");
    try_resolve(text, None).err().iter().flatten().map(shown).collect()
}

/// A text, and all that is wrong with it.
const MISTAKES: &[(&str, &[&str])] = &[
    (
        "[pooler]\nclient_tls_sslmode = 'prefer'",
        &[
            "2: client_tls_sslmode = \"prefer\" needs client_tls_cert_file",
            "2: client_tls_sslmode = \"prefer\" needs client_tls_key_file",
        ],
    ),
    (
        "[pooler]\nclient_tls_sslmode = 'verify-ca'\nclient_tls_key_file = 'key.pem'\nclient_tls_cert_file = 'none.pem'",
        &[
            "2: client_tls_sslmode = \"verify-ca\" needs client_tls_ca_file",
            "4: client_tls_cert_file: can't read /etc/pg/none.pem: No such file",
        ],
    ),
    ("[pooler]\nclient_tls_key_file = 'none.pem'", &[]), // unused, as PgBouncer has it
    (
        "[pooler]\nserver_tls_sslmode = 'verify-full'",
        &["2: server_tls_sslmode = \"verify-full\" needs server_tls_ca_file"],
    ),
    ("[pooler]\nserver_tls_key_file = 'key.pem'", &["2: server_tls_key_file needs server_tls_cert_file"]),
    (
        "[pooler]\nserver_tls_key_file = 'key.pem'\nserver_tls_cert_file = 5",
        &["3: server_tls_cert_file: expected a path, not 5"],
    ),
    (
        "[pooler]\nlisten_addr = ''\nunix_socket_dir = ''",
        &["2: nothing to listen on: set listen_addr or unix_socket_dir"],
    ),
    (
        "[pooler]\nunix_socket_dir = ''\n[databases.app]",
        &["3: [databases.app] has no host, and there is no unix_socket_dir to look in"],
    ),
    ("[databases.app]\npassword = 'x'", &["2: [databases.app] has a password, but no user to whom it belongs"]),
    (
        "[databases.app]\nuser = 'u'\npassword = 'x'\npassword_file = 'app.pw'",
        &["4: [databases.app] has a password and a password_file: one is enough"],
    ),
    (
        "[databases.app]\nuser = 'u'\npassword = '${NOBODY}'",
        &["3: password: the environment variable NOBODY is not set"],
    ),
    ("[databases.app]\nuser = 'u'\npassword = '${EMPTY}'", &["3: password: the environment variable EMPTY is not set"]),
    (
        "[databases.app]\nuser = 'u'\npassword_file = 'empty.pw'",
        &["3: password_file: can't use /etc/pg/empty.pw: it holds no password"],
    ),
    (
        "[databases.app]\nuser = 'u'\npassword_file = 'none.pw'",
        &["3: password_file: can't use /etc/pg/none.pw: No such file"],
    ),
    (
        "[pooler]\nserver_tls_key_file = 'key.pem'\nlisten_port = 0\n[databases.app]\npassword = 'x'",
        &[
            "2: server_tls_key_file needs server_tls_cert_file",
            "3: listen_port: expected a whole number from 1 to 65535, not 0",
            "5: [databases.app] has a password, but no user to whom it belongs",
        ],
    ),
];

#[test]
fn what_settings_need_of_each_other_is_checked() {
    for (text, expected) in MISTAKES {
        assert_eq!(&complaints(text), expected, "{text}");
    }
}

#[test]
fn what_is_doubtful_is_warned_of() {
    for (text, expected) in [
        (
            "[pooler]\nauth_file = 'x'",
            vec!["/etc/pg/pooler.toml: no database is configured: add a section [databases.NAME]"],
        ),
        (
            "[databases.a]\n[pooler]",
            vec!["/etc/pg/pooler.toml:2: auth_file is not set: there are no users, and nobody can log in"],
        ),
        (
            "[pooler]\nauth_file = 'x'\n[databases.a]\nmin_pool_size = 30\n[databases.b]\nmin_pool_size = 30\npool_size = 30",
            vec!["/etc/pg/pooler.toml:4: [databases.a] min_pool_size 30 is more than the pool size 25"],
        ),
    ] {
        let resolved = try_resolve(text, None).expect("good enough");
        let warnings: Vec<_> = resolved.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, expected, "{text}");
    }
}

#[test]
fn secrets_come_from_where_the_file_says() {
    for (line, expected) in [
        ("password = 'inline'", &b"inline"[..]),
        ("password = '${APP_PASSWORD}'", b"from variable"),
        ("password_file = 'app.pw'", b"from file"),
        ("password_file = '/etc/pg/app.pw'", b"from file"),
    ] {
        let config = config(&format!("[databases.app]\nuser = 'u'\n{line}"));
        let password = config.databases["app"].forced_password.clone();
        assert_eq!(password.as_ref().map(Secret::expose), Some(expected), "{line}");
    }
}

#[test]
fn databases_get_their_endpoints_names_and_startup_parameters() {
    let config = config(
        "[databases.local]\n[databases.far]\nhost = 'a, ::1'\nport = 5433\ndbname = 'other'\ntimezone = 'UTC'\nclient_encoding = 'UTF8'\n[databases.'*']\nhost = 'a'\n",
    );
    let shown = |name: &str| config.databases[name].endpoints.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown("local"), ["/tmp:5432"]);
    assert_eq!(shown("far"), ["a:5433", "[::1]:5433"]);
    let dbname = |name: &str| config.databases[name].dbname.as_deref();
    assert_eq!((dbname("local"), dbname("far"), dbname("*")), (Some("local"), Some("other"), None));
    let startup = [("client_encoding", "UTF8".to_owned()), ("TimeZone", "UTC".to_owned())];
    assert_eq!(config.databases["far"].startup, startup);
    assert_eq!(config.database("unknown").map(|database| &*database.name), Some("*"));
}

#[test]
fn the_narrowest_scope_counts() {
    let config = config(
        "[pooler]\nquery_wait_timeout = 10\nmax_db_connections = 9\nmax_db_client_connections = 8\nmax_user_client_connections = 7\n\
         [databases.a]\npool_size = 3\nquery_wait_timeout = 0\nmax_db_connections = 0\nserver_lifetime = 5\n\
         [databases.b]\nmax_db_client_connections = 1\n\
         [users.u]\npool_size = 4\npool_mode = 'session'\nquery_wait_timeout = 2\nmax_user_client_connections = 1\n",
    );
    let of = |database: &str, user: &str| config.pool_settings(&config.databases[database], user);
    for (database, user, size, wait, mode, lifetime) in [
        ("a", "u", 4, Some(2), PoolMode::Session, 5),
        ("a", "v", 3, None, PoolMode::Transaction, 5),
        ("b", "u", 4, Some(2), PoolMode::Session, 3600),
        ("b", "v", 25, Some(10), PoolMode::Transaction, 3600),
    ] {
        let settings = of(database, user);
        let found = (settings.pool_size, settings.query_wait_timeout, settings.pool_mode, settings.server_lifetime);
        assert_eq!(
            found,
            (size, wait.map(Duration::from_secs), mode, Duration::from_secs(lifetime)),
            "{database} {user}"
        );
        assert_eq!(settings.max_db_connections, Some(9), "{database} {user}");
    }
    let clients = ["a", "b"].map(|name| config.max_db_client_connections(&config.databases[name]));
    assert_eq!(clients, [Some(8), Some(1)]);
    assert_eq!(["u", "v"].map(|name| config.max_user_client_connections(name)), [Some(1), Some(7)]);
}

#[test]
fn show_config_has_every_setting_in_pgbouncers_units() {
    let config = config(
        "[pooler]\nquery_wait_timeout = '2min'\nadmin_users = ['a', 'b']\nauth_file = 'u.txt'\nlog_stats = false\ntcp_user_timeout = '1s'\n",
    );
    let row = |key: &str| {
        let row = config.shown.iter().find(|row| row.key == key).expect("it is shown");
        (row.value.as_str(), row.default.as_str(), row.changeable)
    };
    for (key, expected) in [
        ("query_wait_timeout", ("120", "120", true)),
        ("server_login_retry", ("1", "1", true)),
        ("admin_users", ("a, b", "", true)),
        ("auth_file", ("/etc/pg/u.txt", "", true)),
        ("log_stats", ("0", "1", true)),
        ("tcp_user_timeout", ("1000", "0", true)),
        ("listen_port", ("6432", "6432", false)),
        ("unix_socket_mode", ("0777", "0777", false)),
        ("client_tls13_ciphers", ("", "", true)),
        ("server_tls_protocols", ("secure", "secure", true)),
        ("server_check_query", ("<empty>", "<empty>", true)),
    ] {
        assert_eq!(row(key), expected, "{key}");
    }
    let keys: Vec<_> = config.shown.iter().map(|row| row.key).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), pooler_settings().len());
    assert!(Config::default().shown.iter().all(|ShownSetting { value, default, .. }| value == default));
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let pooler = Config::default().pooler;
    assert_eq!(pooler.listen_addr, ["127.0.0.1"]);
    assert_eq!((pooler.listen_port, pooler.max_client_conn, pooler.defaults.default_pool_size), (6432, 1000, 25));
    assert_eq!(pooler.unix_socket_dir.as_deref(), Some(Path::new("/tmp")));
    assert_eq!((pooler.defaults.pool_mode, pooler.cancel_on_disconnect), (PoolMode::Transaction, true));
    assert_eq!(pooler.track_extra_parameters, ["IntervalStyle"]);
    assert_eq!(pooler.max_prepared_statements, 200);
    assert_eq!(pooler.server_reset_query, "DISCARD ALL");
}

#[test]
fn a_running_configuration_keeps_what_only_a_restart_changes() {
    let running = config("[pooler]\nlisten_port = 7000\nunix_socket_dir = '/run/a'\n[databases.app]\n");
    let text = "[pooler]\nlisten_port = 7001\nunix_socket_dir = '/run/b'\nmax_client_conn = 5\n[metrics]\nlisten = '127.0.0.1:1'\n[databases.app]\n";
    let resolved = try_resolve(text, Some(&running)).expect("a good configuration");
    assert_eq!(resolved.needs_restart, ["listen_port", "unix_socket_dir", METRICS_LISTEN]);
    let pooler = &resolved.config.pooler;
    assert_eq!((pooler.listen_port, pooler.max_client_conn), (7000, 5));
    assert_eq!(resolved.config.metrics_listen, None);
    assert_eq!(resolved.config.databases["app"], running.databases["app"]);
}
