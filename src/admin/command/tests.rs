use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Command {
    Command::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn statements_are_read_without_regard_to_case_space_and_semicolon() {
    let db = |name: &str| Some(name.to_owned());
    for (text, command) in [
        ("SHOW POOLS", Command::Show(Show::Pools)),
        ("show pools;", Command::Show(Show::Pools)),
        (" \t\r\n Show\n pOOls \n;\n ", Command::Show(Show::Pools)),
        ("SELECT pools", Command::Show(Show::Pools)),
        ("show \"pools\"", Command::Show(Show::Pools)),
        ("\"show\" pools", Command::Show(Show::Pools)),
        ("SHOW STATS_AVERAGES", Command::Show(Show::StatsAverages)),
        ("", Command::Empty),
        ("  ;  ", Command::Empty),
        ("PAUSE", Command::Pause(None)),
        ("pause app ;", Command::Pause(db("app"))),
        ("pause \"\"", Command::Pause(None)),
        ("RESUME \"a \"\"b\"\"; c\"", Command::Resume(db("a \"b\"; c"))),
        ("KILL \"Größe\"", Command::Kill(db("Größe"))),
        ("reconnect App", Command::Reconnect(db("App"))),
        ("wait_close", Command::WaitClose(None)),
        ("DISABLE", Command::Disable(None)),
        ("enable app", Command::Enable(db("app"))),
        ("KILL_CLIENT 17", Command::KillClient(Some(ClientId(17)))),
        ("KILL_CLIENT \"17\"", Command::KillClient(Some(ClientId(17)))),
        ("KILL_CLIENT 0xc", Command::KillClient(Some(ClientId(12)))),
        ("KILL_CLIENT 0x1F;", Command::KillClient(Some(ClientId(31)))),
        ("KILL_CLIENT 0x", Command::KillClient(None)),
        ("KILL_CLIENT \"0x+1\"", Command::KillClient(None)),
        ("KILL_CLIENT \"+1\"", Command::KillClient(None)),
        ("KILL_CLIENT x", Command::KillClient(None)),
        ("KILL_CLIENT 99999999999999999999999", Command::KillClient(None)),
        ("KILL_CLIENT", Command::KillClient(None)),
        ("RELOAD;", Command::Reload),
        ("shutdown", Command::Shutdown(StopMode::AtOnce)),
        ("SHUTDOWN wait_for_servers", Command::Shutdown(StopMode::WaitForServers)),
        ("SHUTDOWN WAIT_FOR_CLIENTS;", Command::Shutdown(StopMode::WaitForClients)),
        ("SET client_encoding = 'UTF8'", Command::SetParameter),
        ("set DateStyle to ISO;", Command::SetParameter),
        ("set timezone='it''s'", Command::SetParameter),
        ("set extra_float_digits=3", Command::SetParameter),
    ] {
        assert_eq!(parsed(text), command, "{text:?}");
    }
}

#[test]
fn driver_chatter_gets_the_values_of_a_server() {
    for (text, value) in [
        ("SHOW client_encoding", "UTF-8"),
        ("SHOW DEFAULT_TRANSACTION_ISOLATION;", "read committed"),
        ("select datestyle", "ISO"),
        ("show TimeZone", "GMT"),
    ] {
        let Command::Parameter(parameter) = parsed(text) else { panic!("{text}") };
        assert_eq!(parameter.value, value);
    }
}

#[test]
fn what_pgbouncer_does_not_know_is_refused_with_its_words() {
    for text in [
        "SHOW",
        "SHOW nothing",
        "SHOW POOLS; SHOW STATS",
        "SHOW POOLS;;",
        "SHOW POOLS x",
        "SHOW\"pools\"",
        "SHOW \"pools",
        "SELECT 1",
        "SELECT 1 + 1",
        "BEGIN",
        "COMMIT",
        "RELOAD now",
        "SHUTDOWN now",
        "SHUTDOWN WAIT_FOR_GODOT",
        "SET work_mem = 4",
        "SET client_encoding",
        "SET client_encoding UTF8",
        "SET client_encoding = ",
        "SET client_encoding = 'open",
        "SET client_encoding = a b",
        "-- nothing",
        "größe",
        ";;",
        "\"",
        "''",
    ] {
        let error = Command::parse(text).expect_err(text);
        assert_eq!(error.to_string(), format!("invalid command '{text}', use SHOW HELP;"));
    }
}

#[test]
fn a_long_text_is_echoed_only_in_part() {
    let error = Command::parse(&"ä".repeat(100_000)).expect_err("no command").to_string();
    assert!(error.len() < 1024 && error.ends_with(", use SHOW HELP;"), "{}", error.len());
}

/// One text for every command there is.
const EVERY_COMMAND: [(&str, bool); 27] = [
    (";", true),
    ("SHOW CLIENTS", true),
    ("SHOW CONFIG", true),
    ("SHOW DATABASES", true),
    ("SHOW HELP", true),
    ("SHOW LISTS", true),
    ("SHOW POOLS", true),
    ("SHOW SERVERS", true),
    ("SHOW STATE", true),
    ("SHOW STATS", true),
    ("SHOW STATS_AVERAGES", true),
    ("SHOW STATS_TOTALS", true),
    ("SHOW TOTALS", true),
    ("SHOW USERS", true),
    ("SHOW VERSION", true),
    ("SHOW timezone", true),
    ("SET timezone = 'GMT'", true),
    ("PAUSE", false),
    ("RESUME", false),
    ("RECONNECT", false),
    ("KILL", false),
    ("WAIT_CLOSE", false),
    ("DISABLE app", false),
    ("ENABLE app", false),
    ("KILL_CLIENT 1", false),
    ("RELOAD", false),
    ("SHUTDOWN", false),
];

#[test]
fn stats_users_may_look_and_nothing_else() {
    for (text, stats_may) in EVERY_COMMAND {
        let kind = parsed(text).kind();
        assert!(kind.may(Role::Admin), "{text}");
        assert_eq!(kind.may(Role::Stats), stats_may, "{text}");
    }
}

#[test]
fn every_command_has_exactly_one_line_of_rights() {
    let kinds: Vec<_> = EVERY_COMMAND.iter().map(|(text, _)| parsed(text).kind()).collect();
    assert_eq!(kinds, RIGHTS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
    for (word, show) in SHOWS {
        assert!(kinds.contains(&Kind::Show(*show)), "{word}");
    }
}

#[test]
fn the_page_for_operators_and_the_help_have_every_command() {
    let page = include_str!("../../../docs/console.md");
    for (text, _) in EVERY_COMMAND {
        let kind = parsed(text).kind();
        let word = kind.subject().to_ascii_uppercase();
        assert!(page.contains(&word), "docs/console.md lacks {word}");
        let is_chatter = matches!(kind, Kind::Empty | Kind::Parameter | Kind::SetParameter);
        assert!(is_chatter || crate::admin::show::HELP.contains(&word), "SHOW HELP lacks {word}");
    }
}

/// PgBouncer's grammar as three regular expressions would have it, told by splitting at white space.
fn plainly_readable(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let text = text.strip_suffix(';').unwrap_or(text);
    let words: Vec<_> = text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()).collect();
    words.len() <= 2 && words.iter().all(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        drop(Command::parse(&text));
    }

    #[test]
    fn near_misses_do_not_make_it_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec!["show", "SET", " ", "\n", "\"", "\"\"", "'", "=", "to", ";", "pools", "timezone", "ß", "kill_client", "9"]),
            0..12,
        ),
    ) {
        let text = parts.concat();
        if let Ok(command) = Command::parse(&text) && !text.contains(['"', '\'', '=']) && command.kind() != Kind::SetParameter {
            prop_assert!(plainly_readable(&text), "{text:?} was read as {command:?}");
        }
    }

    #[test]
    fn a_quoted_name_comes_back_whole(name in "[^\u{0}]{1,40}") {
        let text = format!("PAUSE \"{}\"", name.replace('"', "\"\""));
        prop_assert_eq!(Command::parse(&text).expect("readable"), Command::Pause(Some(name)));
    }
}
