use super::*;

fn string(text: &str, dialect: Dialect) -> Option<String> {
    let source = Source::new(text.as_bytes(), dialect);
    source.string(Span::new(0, text.len())).map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn strings_are_read_as_postgresql_reads_them() {
    let utf8 = Dialect::default();
    for (text, value) in [
        ("''", Some("")),
        ("'a''b'", Some("a'b")),
        (r"'a\n'", Some(r"a\n")),
        ("'a'\n  'b''' -- c\n 'd'", Some("ab'd")),
        ("'a'\n -- c\n'b'", Some("ab")),
        (r"E'a\n\t\'\\\q''x'", Some("a\n\t'\\q'x")),
        (r"E'\101\x42\u0043\U00000044'", Some("ABCD")),
        (r"e'\303\244\xC3\xA4\u00e4'", Some("äää")),
        (r"E'\ud83d\ude00'", Some("😀")),
        (r"E'\ud83d'", None),
        (r"E'\ud83dx'", None),
        (r"E'\ude00'", None),
        (r"E'\u12'", None),
        (r"E'\000'", None),
        (r"E'\x'", Some("x")),
        ("E'a'\n'\\n'", Some("a\n")),
        (r"U&'d\0061t\+000061'", Some("data")),
        (r"U&'a\\b'", Some(r"a\b")),
        (r"U&'d!0061!!' UESCAPE '!'", Some("da!")),
        (r"U&'d\0061' UESCAPE 'a'", None),
        (r"U&'\d83d\de00'", Some("😀")),
        (r"U&'\d83d!'", None),
        (r"U&'\00'", None),
        ("$$a'b\\$$", Some("a'b\\")),
        ("$x$a$$b$x$", Some("a$$b")),
        ("$$$$", Some("")),
        ("a", None),
        ("1", None),
        ("B'1'", None),
        ("", None),
    ] {
        assert_eq!(string(text, utf8).as_deref(), value, "{text}");
    }
    let old = Dialect { standard_conforming_strings: false, ..utf8 };
    assert_eq!(string(r"'a\'b'", old).as_deref(), Some("a'b"));
    let latin = Dialect { encoding: Encoding::AsciiSafe, ..utf8 };
    assert_eq!(string(r"E'\u0061'", latin).as_deref(), Some("a"));
    assert_eq!(string(r"E'\u00e4'", latin), None);
}

#[test]
fn names_are_read_as_postgresql_stores_them() {
    let long = "x".repeat(70);
    let accents = "ä".repeat(40);
    for (text, parts) in [
        ("a", vec!["a"]),
        ("Pg_Catalog . \"Set\"\"Config\" /* c */", vec!["pg_catalog", "Set\"Config"]),
        (r#"u&"set\005fconfig""#, vec!["set_config"]),
        (r#"a.U&"x!0061" uescape '!'.b"#, vec!["a", "xa", "b"]),
        ("ÄB", vec!["Äb"]),
        (&long, vec![&long[..63]]),
        (&accents, vec![&accents[..62]]),
    ] {
        let source = Source::new(text.as_bytes(), Dialect::default());
        let (found, whole) = source.parts(Span::new(0, text.len()));
        let found: Vec<_> = found.iter().map(|part| String::from_utf8_lossy(part)).collect();
        assert!(whole, "{text}");
        assert_eq!(found, parts, "{text}");
        let last = source.last_part(Span::new(0, text.len())).expect("readable");
        assert_eq!(String::from_utf8_lossy(&last), *parts.last().expect("one"), "{text}");
    }
    let source = Source::new(br#"U&"\d800""#, Dialect::default());
    assert_eq!(source.last_part(Span::new(0, 9)), None);
}
