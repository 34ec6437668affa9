use proptest::prelude::*;

use super::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).expect("short");
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

fn started(minor: u32, body: &[u8]) -> Result<Startup, StartupError> {
    match parse(&packet((3 << 16) | minor, body))? {
        Initial::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn parameters_keep_their_order_and_of_two_users_the_last_counts() {
    let startup = started(0, b"user\0mallory\0b\0one\0user\0alice\0a\0two\0b\0three\0database\0\0_pq_.x\0y\0\0")
        .expect("well-formed");
    assert_eq!(startup.user.as_deref(), Some("alice"));
    assert_eq!(startup.database, None, "empty counts as missing");
    assert_eq!(startup.params, pairs(&[("b", "one"), ("a", "two"), ("b", "three")]));
    assert_eq!(startup.protocol_options, ["_pq_.x"]);
    assert_eq!(startup.identity(), Ok(("alice", "alice")));
}

#[test]
fn a_layout_that_does_not_end_with_the_packet_is_refused() {
    for body in [&b""[..], b"user\0alice\0", b"user\0alice", b"user\0", b"user", b"user\0alice\0\0x", b"\0\0", b"a\0\0"]
    {
        assert_eq!(started(0, body), Err(StartupError::NoTerminator), "{body:?}");
    }
    assert!(started(0, b"\0").is_ok());
}

#[test]
fn requests_before_the_startup_message_have_exact_lengths() {
    assert_eq!(parse(&packet(SSL_REQUEST, b"")), Ok(Initial::Ssl));
    assert_eq!(parse(&packet(GSSENC_REQUEST, b"")), Ok(Initial::Gss));
    for wrong in [packet(SSL_REQUEST, b"x"), packet(GSSENC_REQUEST, b"x"), vec![], vec![0, 0, 0, 8, 4, 210, 22]] {
        assert!(matches!(parse(&wrong), Err(StartupError::BadHeader(_))), "{wrong:?}");
    }
    for (secret, ok) in [(0, false), (3, false), (4, true), (32, true), (256, true), (257, false)] {
        let body = [&7u32.to_be_bytes()[..], &vec![9; secret]].concat();
        let expected = CancelKey { pid: 7, secret: vec![9; secret].into() };
        assert_eq!(parse(&packet(CANCEL_REQUEST, &body)).ok(), ok.then_some(Initial::Cancel(expected)), "{secret}");
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_they_are_waited_for() {
    for (length, ok) in [(0, false), (7, false), (8, true), (10_000, true), (10_001, false), (u32::MAX, false)] {
        assert_eq!(packet_len(length.to_be_bytes()).is_ok(), ok, "{length}");
    }
    assert_eq!(
        packet_len(*b"GET ").expect_err("HTTP").reply().message,
        "bad packet header: '47455420'",
        "a browser is told what it sent"
    );
}

#[test]
fn other_protocols_are_named() {
    for (code, message) in [
        (2 << 16, "old V2 protocol not supported"),
        (4 << 16, "unsupported frontend protocol 4.0: server supports 3.0 to 3.2"),
        (7, "unsupported frontend protocol 0.7: server supports 3.0 to 3.2"),
    ] {
        assert_eq!(parse(&packet(code, b"\0")).expect_err("refused").reply().message, message);
    }
}

#[test]
fn the_newest_version_that_both_know_is_spoken() {
    for (minor, body, expected) in [
        (0, &b"\0"[..], (Version::V3_0, false)),
        (1, b"\0", (Version::V3_0, true)),
        (2, b"\0", (Version::V3_2, false)),
        (3, b"\0", (Version::V3_2, true)),
        (9999, b"\0", (Version::V3_2, true)),
        (0, b"_pq_.a\0b\0\0", (Version::V3_0, true)),
        (2, b"_pq_.a\0b\0\0", (Version::V3_2, true)),
    ] {
        assert_eq!(started(minor, body).expect("well-formed").negotiate(), expected, "3.{minor} {body:?}");
    }
}

#[test]
fn names_are_bounded_and_a_user_is_needed() {
    let named = |user: usize, database: usize| {
        let body = [b"user\0", &*vec![b'u'; user], b"\0database\0", &*vec![b'd'; database], b"\0\0"].concat();
        started(0, &body).expect("well-formed").identity().map(|_| ())
    };
    assert_eq!(named(127, 127), Ok(()));
    assert_eq!(named(128, 1), Err(StartupError::NameTooLong("username")));
    assert_eq!(named(1, 128), Err(StartupError::NameTooLong("database name")));
    assert_eq!(named(0, 1), Err(StartupError::NoUser));
}

#[test]
fn only_the_application_name_may_be_in_another_encoding() {
    let startup = started(0, b"application_name\0caf\xe9\0\0").expect("replaced");
    assert_eq!(startup.params, pairs(&[("application_name", "caf?")]));
    assert_eq!(started(0, b"user\0caf\xe9\0\0"), Err(StartupError::NotUtf8));
    assert_eq!(started(0, b"caf\xe9\0x\0\0"), Err(StartupError::NotUtf8));
}

#[test]
fn options_split_as_postgresql_splits_them() {
    for (text, settings) in [
        ("", Some(&[][..])),
        ("  \t ", Some(&[])),
        ("-c a=b", Some(&[("a", "b")])),
        ("-ca=b --c-d=e=f", Some(&[("a", "b"), ("c_d", "e=f")])),
        (r"-c search_path=a,\ b\\c  -c x=", Some(&[("search_path", r"a, b\c"), ("x", "")])),
        (r"-c a=b\", Some(&[("a", "b")])),
        ("-c=", None),
        ("-c", None),
        ("-c a", None),
        ("--", None),
        ("--=", None),
        ("-d 5", None),
        ("a=b", None),
        (r"\", None),
    ] {
        assert_eq!(parse_options(text).ok(), settings.map(pairs), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), minor in 0u32..4) {
        let _ = parse(&bytes);
        let _ = parse(&packet((3 << 16) | minor, &bytes));
        let _ = parse(&packet(CANCEL_REQUEST, &bytes));
        let _ = parse_options(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn what_is_written_as_options_reads_back(list in prop::collection::vec(("[a-z_.]{1,8}", "[ -~]{0,12}"), 0..5)) {
        let escape = |value: &str| value.replace('\\', r"\\").replace(' ', r"\ ");
        let text: String = list.iter().map(|(name, value)| format!("-c {name}={} ", escape(value))).collect();
        prop_assert_eq!(parse_options(&text).expect("well-formed"), list);
    }
}
