use proptest::prelude::*;

use super::*;

const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn parse(text: &[u8]) -> (Userlist, Vec<String>) {
    let (list, complaints) = Userlist::parse(Path::new("users.txt"), text);
    (list, complaints.iter().map(ToString::to_string).collect())
}

fn plain(secret: &str) -> StoredSecret {
    StoredSecret::Plain(Secret::new(secret))
}

#[test]
fn lines_are_read_as_pgbouncer_reads_them() {
    for (text, users) in [
        ("", vec![]),
        ("\n\n  \n; \"a\" \"b\"\n", vec![]),
        ("\"a\" \"b\"", vec![("a", "b")]),
        ("\u{feff}\"a\" \"b\"", vec![("a", "b")]),
        ("  \"a\"\t\"b\"\r\n", vec![("a", "b")]),
        ("\"a\"\"b\"", vec![]), // one quoted text: a"b
        ("\"a\" \"b\" \"rest\" of line", vec![("a", "b")]),
        ("\"a\" and \"b\"", vec![("a", "b")]),
        ("\"a\" \"\"", vec![("a", "")]),
        ("\"\" \"x\"", vec![("", "x")]),
        ("\"say \"\"hi\"\"\" \"\"\"q\"\"\"", vec![("say \"hi\"", "\"q\"")]),
        ("\"a\" \"1\"\n\"a\" \"2\"", vec![("a", "2")]),
        ("\"é b;c\" \"d\\n\"", vec![("é b;c", "d\\n")]),
    ] {
        let (list, _) = parse(text.as_bytes());
        let expected: Vec<_> = users.into_iter().map(|(user, secret)| (user, plain(secret))).collect();
        let found: Vec<_> = list.iter().map(|(user, secret)| (user, secret.clone())).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn broken_syntax_keeps_the_users_before_it() {
    for broken in ["a b", "\"b", "\"b\"", "\"b\" c", "\"b\" \"c", "# comment", "\"\"\"", "\"b\" \"\"\""] {
        let (list, complaints) = parse(format!("\"a\" \"1\"\n{broken}\n\"z\" \"2\"\n").as_bytes());
        let users: Vec<_> = list.iter().map(|(user, _)| user).collect();
        assert_eq!(users, ["a"], "{broken}");
        let expected =
            "users.txt:2: broken user list: expected \"user\" \"secret\"; this line and what follows it is not read";
        assert_eq!(complaints, [expected], "{broken}");
    }
    let long = format!("\"{}\" \"x\"", "u".repeat(128));
    assert!(parse(long.as_bytes()).1[0].contains("longer than 127 bytes"));
    assert!(parse(b"\"\xff\" \"x\"").1[0].contains("not UTF-8"));
}

#[test]
fn secrets_are_told_apart() {
    let md5 = "md55d41402abc4b2a76b9719d911017c592";
    assert_eq!(StoredSecret::of(md5.as_bytes()), StoredSecret::Md5(Secret::new(md5)));
    let StoredSecret::Scram(verifier) = StoredSecret::of(SCRAM.as_bytes()) else { panic!("a SCRAM secret") };
    assert_eq!((verifier.iterations(), verifier.salt().len()), (4096, 16));
    for password in
        ["", "md5", "md5x", "md55D41402ABC4B2A76B9719D911017C592", "scram-sha-256$1:a$b:c", "SCRAM-SHA-256$0"]
    {
        assert_eq!(StoredSecret::of(password.as_bytes()), plain(password), "{password}");
    }
}

#[test]
fn a_broken_scram_secret_is_remarked_upon_without_being_shown() {
    let (list, complaints) = parse(b"\"a\" \"SCRAM-SHA-256$4096:hunter2\"\n");
    assert_eq!(list.len(), 1);
    assert!(complaints.len() == 1 && !complaints[0].contains("hunter2"), "{complaints:?}");
    assert!(complaints[0].starts_with("users.txt:1: the secret of \"a\" is no SCRAM-SHA-256 secret"), "{complaints:?}");
}

#[test]
fn a_list_never_prints_secrets() {
    let (list, _) = parse(format!("\"a\" \"hunter2\"\n\"b\" \"{SCRAM}\"\n").as_bytes());
    assert_eq!(format!("{list:?}"), "Userlist { users: {\"a\": Plain(…), \"b\": Scram(…)}, scram: 1 }");
}

proptest! {
    #[test]
    fn what_pgbouncer_would_write_is_read_back(users in prop::collection::btree_map("[^\\n\\r\\x00]{0,20}", "[^\\n]{0,20}", 0..8)) {
        let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let text: String = users.iter().map(|(user, secret)| format!("{} {}\n", quote(user), quote(secret))).collect();
        let (list, complaints) = parse(text.as_bytes());
        let expected: Vec<_> = users.iter().map(|(user, secret)| (user.as_str(), StoredSecret::of(secret.as_bytes()))).collect();
        let found: Vec<_> = list.iter().map(|(user, secret)| (user, secret.clone())).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(complaints, Vec::<String>::new());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\n'), Just(b';'), any::<u8>()], 0..200)) {
        parse(&bytes);
    }
}

#[test]
fn a_user_who_is_there_twice_is_told_up_to_a_number() {
    let (_, doubts) = parse(b"\"a\" \"1\"\n\"b\" \"1\"\n\"a\" \"2\"\n");
    assert_eq!(doubts, ["users.txt:3: \"a\" is in it already: this line counts, the earlier one does not"]);
    assert_eq!(parse("\"a\" \"1\"\n".repeat(1000).as_bytes()).1.len(), DOUBTS_MAX);
}
