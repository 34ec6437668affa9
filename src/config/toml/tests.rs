use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::docs::pooler_toml;
use crate::config::model::{AuthType, CheckQuery, LoadBalance, PoolMode};
use crate::config::settings::SECTIONS;
use crate::config::settings::texts::SecretSource;
use crate::types::{ByteSize, Host, Secret};

/// Reads a text, and shows its mistakes as an operator sees them.
fn complaints(text: &str) -> Vec<String> {
    let Findings { mut complaints, .. } = parse_str("pooler.toml", text).findings;
    complaints.sort();
    complaints.iter().map(ToString::to_string).collect()
}

/// A text, and where it is wrong how.
const MISTAKES: &[(&str, &str)] = &[
    (
        "[pooler]\ndefaul_pool_size = 5",
        "2: unknown setting \"defaul_pool_size\" in [pooler]; did you mean \"default_pool_size\"?",
    ),
    (
        "[databases.app]\nmax_user_connections = 5",
        "2: unknown setting \"max_user_connections\" in [databases.app]; it belongs in [pooler] or [users.NAME]",
    ),
    (
        "[databases.app]\nreserve_pol = 5",
        "2: unknown setting \"reserve_pol\" in [databases.app]; did you mean \"reserve_pool\"?",
    ),
    (
        "[pooler]\nauth_query = 'x'",
        "2: PgBouncer's setting auth_query is not supported: users and their secrets stand in auth_file",
    ),
    (
        "[databases.app]\nhost = 'x'\nauth_user = 'x'",
        "3: PgBouncer's setting auth_user is not supported: users and their secrets stand in auth_file",
    ),
    (
        "[pooler]\npeer_id = 1",
        "2: PgBouncer's setting peer_id is not supported: one process uses all cores, see workers",
    ),
    ("[peers.1]", "1: PgBouncer's section [peers] is not supported: one process uses all cores, see workers"),
    ("\nlisten_port = 5", "2: \"listen_port\" stands outside of any section; it belongs in [pooler]"),
    ("whatever = 5", "1: unknown setting \"whatever\", and it stands outside of any section"),
    ("[pgbouncer]", "1: unknown section [pgbouncer]; here it is called [pooler]"),
    ("[database.app]", "1: unknown section [database]; did you mean [databases]?"),
    (
        "[clusters.main]",
        "1: unknown section [clusters]; there are [pooler], [metrics], [databases.NAME] and [users.NAME]",
    ),
    ("pooler = 1", "1: expected a section [pooler], not a value"),
    ("[databases]\napp = 'host=x'", "2: \"app\" in [databases]: expected a section [databases.app], not a value"),
    ("[databases.pgbouncer]", "1: the database name \"pgbouncer\" is reserved for the console"),
    ("[databases.'']", "1: expected a name of 1 to 63 bytes in [databases.NAME]"),
    ("[pooler]\nlisten_port = 65536", "2: listen_port: expected a whole number from 1 to 65535, not 65536"),
    ("[pooler]\ndefault_pool_size = -1", "2: default_pool_size: expected a whole number from 1 to 100000, not -1"),
    (
        "[pooler]\npool_mode = 'transacton'",
        "2: pool_mode: expected session, transaction or statement, not \"transacton\"; did you mean \"transaction\"?",
    ),
    ("[pooler]\nauth_type = 'hba'", "2: auth_type: expected trust, plain, md5 or scram-sha-256, not \"hba\""),
    ("[pooler]\nlog_stats = 2", "2: log_stats: expected true or false (or 1 or 0), not 2"),
    (
        "[pooler]\nquery_timeout = '5 parsecs'",
        "2: query_timeout: expected a duration (seconds, or a number with us, ms, s, min, h or d), not \"5 parsecs\"",
    ),
    (
        "[pooler]\nquery_timeout = '36501d'",
        "2: query_timeout: expected a duration (seconds, or a number with us, ms, s, min, h or d), not \"36501d\"",
    ),
    (
        "[pooler]\nquery_timeout = \"\"\"1\n2\"\"\"",
        "2: query_timeout: expected a duration (seconds, or a number with us, ms, s, min, h or d), not \"1\\n2\"",
    ),
    (
        "[pooler]\nserver_login_retry = 0",
        "2: server_login_retry: expected a duration of at least 10 ms \
             (seconds, or a number with us, ms, s, min, h or d), not 0",
    ),
    (
        "[pooler]\nunix_socket_mode = 777",
        "2: unix_socket_mode: expected an octal mode up to 0777, written \"0777\" or 0o777, not 777",
    ),
    (
        "[pooler]\nunix_socket_mode = 0777 # for all",
        "2: unix_socket_mode: TOML has no numbers that begin with 0; write \"0777\"",
    ),
    (
        "[pooler]\ntrack_extra_parameters = ['IntervalStyle', 'search path']",
        "2: track_extra_parameters: expected a list of texts, or a text that separates them by commas, \
             but \"search path\" is no name of a setting",
    ),
    (
        "[pooler]\nclient_tls_protocols = 'tlsv1.1'",
        "2: client_tls_protocols: expected secure, or a list of tlsv1.2 and tlsv1.3, not \"tlsv1.1\"; older versions are not offered",
    ),
    (
        "[metrics]\nlisten = 'localhost'",
        "2: listen: expected an IP address with a port, such as \"127.0.0.1:9127\" or \"[::]:9127\", or an empty text, not \"localhost\"",
    ),
    (
        "[databases.app]\nhost = ['a', 'b c']",
        "2: host: expected a host name, an IP address, a \"/directory\" of a Unix socket, or a list of these, not \"b c\"",
    ),
    (
        "[databases.app]\nreserve_pool = 1\nreserve_pool_size = 1",
        "2: reserve_pool is given twice: it is another name of reserve_pool_size",
    ),
    (
        "[pooler]\nlisten_port = 1\n[users.a]\npool_size = 1\n[users.b]\npool_size = 2\n# again\npool_size = 2",
        "8: duplicate key pool_size; it is there already, in line 6",
    ),
    (
        "[databases.a]\nhost = 'a'\n[users.a]\n[databases.a] # again\nport = 1",
        "4: duplicate key [databases.a]; it is there already, in line 1",
    ),
    ("[pooler # the pooler\n\nlisten_port = 1\nauth_file = 'x'", "1: unclosed table, expected `]`"),
    ("[pooler]\nlisten_port 1", "2: key with no value, expected `=`"),
];

#[test]
fn every_mistake_has_a_line_and_says_what_to_write() {
    for (text, expected) in MISTAKES {
        assert_eq!(complaints(text), [format!("pooler.toml:{expected}")], "{text}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let text = "[pooler]\nlisten_port = 0\npool_mod = 'x'\n= 3\n[databases.app]\nport = 'x'\n[nobody]\n[users.x]\nhost = 'h'\n";
    let lines: Vec<_> = complaints(text).iter().filter_map(|line| Some(line.split(':').nth(1)?.to_owned())).collect();
    assert_eq!(lines, ["2", "3", "4", "6", "7", "9"]);
}

/// Values of each type; at least one of them is wrong for any setting.
const WRONG: [&str; 3] = ["{ a = 1 }", "1979-05-27", "[[1]]"];

#[test]
fn every_setting_refuses_wrong_types_with_its_place() {
    for section in &SECTIONS {
        let heading = section.name.replace("NAME", "x");
        for setting in (section.settings)() {
            for name in setting.names() {
                for wrong in WRONG {
                    let text = format!("\n[{heading}]\n\n  {name} = {wrong}\n");
                    let found = parse_str("f", &text).findings.complaints;
                    let places: Vec<_> =
                        found.iter().map(|complaint| complaint.place.map(|p| (p.line, p.column))).collect();
                    assert_eq!(places, [Some((4, 3))], "{text} {found:?}");
                    assert!(found[0].text.starts_with(&format!("{name}: expected ")), "{found:?}");
                }
            }
        }
    }
}

#[test]
fn values_may_be_written_in_several_ways() {
    let pooler = |line: &str| {
        let parsed = parse_str("/etc/pg/pooler.toml", &format!("[pooler]\n{line}\n"));
        assert_eq!(parsed.findings.complaints, [], "{line}");
        parsed.tree.pooler
    };
    for line in
        ["query_timeout = 0.5", "query_timeout = '500ms'", "query_timeout = '0.5'", "query_timeout = \"500 ms\""]
    {
        assert_eq!(pooler(line).defaults.query_timeout, Some(Duration::from_millis(500)), "{line}");
    }
    for line in ["query_wait_timeout = 0", "query_wait_timeout = '0s'", "query_wait_timeout = 0.0"] {
        assert_eq!(pooler(line).defaults.query_wait_timeout, None, "{line}");
    }
    for line in ["tcp_user_timeout = 1500", "tcp_user_timeout = '1.5s'"] {
        assert_eq!(pooler(line).tcp.user_timeout, Some(Duration::from_millis(1500)), "{line}");
    }
    for line in ["max_packet_size = 65536", "max_packet_size = '64kB'", "max_packet_size = 0x1_0000"] {
        assert_eq!(pooler(line).max_packet_size, ByteSize(65536), "{line}");
    }
    for line in ["log_stats = false", "log_stats = 0", "log_stats = '0'"] {
        assert!(!pooler(line).log_stats, "{line}");
    }
    for line in ["admin_users = 'a, b'", "admin_users = ['a', 'b']", "admin_users = \"a,,b,\""] {
        assert_eq!(pooler(line).admin_users, ["a", "b"], "{line}");
    }
    for line in ["unix_socket_mode = '0750'", "unix_socket_mode = 0o750", "unix_socket_mode = '750'"] {
        assert_eq!(pooler(line).unix_socket_mode, 0o750, "{line}");
    }
    for (line, expected) in [
        ("server_check_query = ''", CheckQuery::Off),
        ("server_check_query = '<empty>'", CheckQuery::Empty),
        ("server_check_query = 'select 1'", CheckQuery::Text("select 1".into())),
    ] {
        assert_eq!(pooler(line).server_check_query, expected, "{line}");
    }
    for (line, expected) in [
        ("auth_file = 'userlist.txt'", Some("/etc/pg/userlist.txt")),
        ("auth_file = '/srv/userlist.txt'", Some("/srv/userlist.txt")),
        ("auth_file = ''", None),
    ] {
        assert_eq!(pooler(line).auth_file.as_deref(), expected.map(std::path::Path::new), "{line}");
    }
    assert_eq!(pooler("unix_socket_dir = '@pool'").unix_socket_dir.as_deref(), Some("@pool".as_ref()));
    assert_eq!(pooler("pool_mode = 'Session'").defaults.pool_mode, PoolMode::Session);
    assert_eq!(pooler("auth_type = 'md5'").auth_type, AuthType::Md5);
}

#[test]
fn tls_protocols_are_read_as_pgbouncer_reads_them() {
    for (text, tls12, tls13, warnings) in [
        ("secure", true, true, 0),
        ("default", true, true, 0),
        ("all", true, true, 1),
        ("tlsv1.2", true, false, 0),
        ("tlsv1.2:tlsv1.3", true, true, 0),
        ("tlsv1.3, tlsv1.2", true, true, 0),
        ("!tlsv1.2", false, true, 1),
        ("secure,!tlsv1.3", true, false, 0),
        ("tlsv1.1,tlsv1.2", true, false, 1),
    ] {
        let parsed = parse_str("f", &format!("[pooler]\nserver_tls_protocols = '{text}'"));
        let versions = parsed.tree.server_tls.versions;
        assert_eq!((versions.tls12, versions.tls13), (tls12, tls13), "{text}");
        assert_eq!(parsed.findings.warnings.len(), warnings, "{text}");
    }
    let parsed =
        parse_str("f", "[pooler]\nclient_tls13_ciphers = 'tls_aes_256_gcm_sha384:TLS_CHACHA20_POLY1305_SHA256'");
    assert_eq!(parsed.tree.client_tls.tls13_ciphers, ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]);
}

#[test]
fn databases_and_users_have_their_own_settings() {
    let text = r#"
        [databases]
        inline = { host = "::1", port = 5433 }
        [databases."*"]
        host = "/run/postgresql, db.example, [fe80::1%eth0]"
        password = "${APP_PASSWORD}"
        load_balance_hosts = "disable"
        reserve_pool = 7
        query_wait_timeout = 0
        [users.reporting]
        pool_mode = "session"
        query_timeout = "1h"
    "#;
    let Parsed { tree, findings } = parse_str("pooler.toml", text);
    assert_eq!(findings.complaints, []);
    let inline = &tree.databases["inline"];
    assert_eq!((inline.host.clone(), inline.port), (Some(vec![Host::Name("::1".into())]), Some(5433)));
    assert_eq!((inline.query_wait_timeout, inline.pool_size, inline.password.clone()), (None, None, None));
    let any = &tree.databases["*"];
    let hosts: Vec<_> = any.host.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(hosts, ["/run/postgresql", "db.example", "fe80::1%eth0"]);
    assert_eq!(any.password, Some(SecretSource::Variable("APP_PASSWORD".into())));
    assert_eq!(any.load_balance_hosts, Some(LoadBalance::Disable));
    assert_eq!((any.reserve_pool_size, any.query_wait_timeout), (Some(7), Some(None)));
    let user = &tree.users["reporting"];
    assert_eq!((user.pool_mode, user.query_timeout), (Some(PoolMode::Session), Some(Some(Duration::from_secs(3600)))));
}

#[test]
fn only_a_whole_value_is_a_variable() {
    for (text, variable) in [
        ("${A}", Some("A")),
        ("${_a_1}", Some("_a_1")),
        ("${}", None),
        ("${1A}", None),
        ("x${A}", None),
        ("${A}x", None),
        ("$A", None),
    ] {
        let tree = parse_str("f", &format!("[databases.d]\npassword = '{text}'")).tree;
        let expected = match variable {
            Some(name) => SecretSource::Variable(name.into()),
            None => SecretSource::Inline(Secret::new(text)),
        };
        assert_eq!(tree.databases["d"].password, Some(expected), "{text}");
    }
}

#[test]
fn no_complaint_tells_a_secret() {
    for line in [
        "password = hunter2",
        "password = 'hunter2",
        "password = ['hunter2']",
        "password = { value = 'hunter2' }",
        "password = 'hunter2' 'hunter2'",
        "password = \"hunter2\\q\"",
        "password = 'x'\npassword = 'hunter2'",
        "password = \"hunter2\\u0000\"",
    ] {
        let parsed = parse_str("f", &format!("[databases.d]\n{line}\n"));
        let said = format!("{:?}", parsed.findings.complaints);
        assert!(!parsed.findings.complaints.is_empty() && !said.contains("hunter2"), "{line}: {said}");
    }
}

#[test]
fn odd_texts_are_read_without_a_panic() {
    let deep = "[".repeat(10_000) + &"a.".repeat(10_000);
    let tables = format!("x = {}", "{a=".repeat(10_000));
    for text in [
        "",
        "\0",
        "\u{feff}[pooler]",
        "[",
        "[[pooler]]",
        "[[databases.x]]",
        "=",
        "\"",
        "[databases.\"\\u0000\"]",
        &deep,
        &tables,
    ] {
        parse_str("", text);
        parse_str("/", text);
    }
}

/// One way to spoil a text.
#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let index = any::<prop::sample::Index>;
        let pieces = prop::sample::select(vec![
            "\"",
            "'",
            "'''",
            "[",
            "]",
            "[[",
            "{",
            "}",
            "=",
            ".",
            ",",
            "\n",
            "#",
            "\\",
            "\\u12",
            "0x",
            "-",
            "1e999",
            "\0",
            "é",
            "[databases.app]",
            "[users.\"*\"]",
            "password = ",
            "inf",
            "true",
            "1979-05-27T07:32:00Z",
        ]);
        prop_oneof![
            (index(), 1..40usize).prop_map(|(at, length)| Self::Cut(at, length)),
            (index(), pieces.prop_map(str::to_owned)).prop_map(|(at, piece)| Self::Insert(at, piece)),
            (index(), ".{0,8}").prop_map(|(at, piece)| Self::Insert(at, piece)),
            (index(), index(), 1..80usize).prop_map(|(from, to, length)| Self::Copy(from, to, length)),
        ]
    }

    fn apply(&self, text: &mut Vec<char>) {
        let end = text.len() + 1;
        match self {
            Self::Cut(at, length) => {
                let at = at.index(end);
                text.drain(at..(at + length).min(text.len()));
            }
            Self::Insert(at, piece) => {
                let at = at.index(end);
                text.splice(at..at, piece.chars());
            }
            Self::Copy(from, to, length) => {
                let from = from.index(end);
                let piece = text[from..(from + length).min(text.len())].to_vec();
                let to = to.index(end);
                text.splice(to..to, piece);
            }
        }
    }
}

#[test]
fn a_key_of_very_many_parts_is_a_mistake_without_a_place() {
    let mistakes = complaints(&format!("{}x = 1", "x.".repeat(100)));
    assert_eq!(mistakes.first().map(String::as_str), Some("pooler.toml: a key has too many parts: recursion limit"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_file_never_panics_and_complaints_lie_within_it(damages in prop::collection::vec(Damage::any(), 1..12)) {
        // Without comments, so that most damage hits what is read.
        let whole: String =
            pooler_toml().lines().map(|line| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n").filter(|line| line.contains(['=', '['])).collect();
        let mut text: Vec<char> = whole.chars().collect();
        for damage in &damages {
            damage.apply(&mut text);
        }
        let text: String = text.into_iter().collect();
        let lines = u32::try_from(text.matches('\n').count() + 1).unwrap_or(u32::MAX);
        for complaint in parse_str("pooler.toml", &text).findings.complaints {
            let place = complaint.place.expect("every mistake has a place");
            prop_assert!(place.line >= 1 && place.line <= lines && place.column >= 1, "{complaint}");
            prop_assert!(!complaint.text.contains('\n'), "{complaint}");
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,200}") {
        parse_str("pooler.toml", &text);
        parse_str("pooler.toml", &format!("[pooler]\n{text}"));
    }
}
