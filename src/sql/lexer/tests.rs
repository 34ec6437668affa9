use proptest::prelude::*;

use super::*;

/// Tokens in short: a letter for the kind, the text in brackets where it isn't clear. Blanks are left out.
fn short(text: &str, dialect: Dialect) -> String {
    let mut all = String::new();
    let mut tiled = 0;
    for token in Lexer::new(text.as_bytes(), dialect) {
        assert_eq!(token.start, tiled, "{text}");
        tiled = token.end;
        let letter = match token.kind {
            Kind::Blank => continue,
            Kind::Comment => "c",
            Kind::Word => "w",
            Kind::QuotedName => "q",
            Kind::UnicodeName => "u",
            Kind::Text(Quote::Plain) => "s",
            Kind::Text(Quote::Escapes) => "e",
            Kind::Text(Quote::Unicode) => "S",
            Kind::Text(Quote::Dollar) => "d",
            Kind::Bits => "b",
            Kind::Integer => "i",
            Kind::Decimal => "f",
            Kind::Param => "p",
            Kind::Operator => "o",
            Kind::Stray => "STRAY",
            Kind::Unterminated => "OPEN",
            Kind::Opaque => "OPAQUE",
            _ => "",
        };
        all += &format!("{letter}[{}] ", &text[token.start..token.end]);
    }
    assert_eq!(tiled, text.len(), "{text}");
    all.trim_end().to_owned()
}

fn check(rows: &[(&str, &str)], dialect: Dialect) {
    for (text, tokens) in rows {
        assert_eq!(short(text, dialect), *tokens, "{text}");
    }
}

const OLD: Dialect = Dialect { standard_conforming_strings: false, encoding: Encoding::Utf8 };

#[test]
fn words_and_names() {
    check(
        &[
            ("select A_1$b$ from _x", "w[select] w[A_1$b$] w[from] w[_x]"),
            ("größe ß", "w[größe] w[ß]"),
            (r#""a""b" "x y""#, r#"q["a""b"] q["x y"]"#),
            (r#"u&"d\0061" U&"x" u & u&v"#, r#"u[u&"d\0061"] u[U&"x"] w[u] o[&] w[u] o[&] w[v]"#),
            (r#""""#, r#"STRAY[""]"#),
            (r#"a"b"#, r#"w[a] OPEN["b]"#),
            (r#""a"""#, r#"OPEN["a""]"#),
            ("a\0b", "w[a] STRAY[\0] w[b]"),
            ("{a\\}", "STRAY[{] w[a] STRAY[\\] STRAY[}]"),
        ],
        Dialect::default(),
    );
}

#[test]
fn strings() {
    check(
        &[
            ("'a''b' ''", "s['a''b'] s['']"),
            (r"'\' 'x'", r"s['\'] s['x']"),
            (r"E'\'' e'\\' E'a''b'", r"e[E'\''] e[e'\\'] e[E'a''b']"),
            ("'a'\n'b'", "s['a'\n'b']"),
            ("'a' 'b'", "s['a'] s['b']"),
            ("'a' -- c\n  -- d\n 'b' 'c'", "s['a' -- c\n  -- d\n 'b'] s['c']"),
            ("'a' /* c */\n'b'", "s['a'] c[/* c */] s['b']"),
            ("'a'\n-- c", "s['a'] c[-- c]"),
            ("E'a'\n'\\''", "e[E'a'\n'\\'']"),
            ("b'01' X'1F' B'1'\n'0' b'1''0'", "b[b'01'] b[X'1F'] b[B'1'\n'0'] b[b'1'] s['0']"),
            ("n'a' N 'a'", "w[n] s['a'] w[N] s['a']"),
            (r"u&'\0061' U&'a''\'", r"S[u&'\0061'] S[U&'a''\']"),
            ("U&'a'\n'b' uescape '!'", "S[U&'a'\n'b'] w[uescape] s['!']"),
            ("ab'c'", "w[ab] s['c']"),
            ("'a", "OPEN['a]"),
            (r"E'a\'", r"OPEN[E'a\']"),
            (r"E'a\", r"OPEN[E'a\]"),
            ("'a''", "OPEN['a'']"),
            ("x'1", "OPEN[x'1]"),
        ],
        Dialect::default(),
    );
}

#[test]
fn strings_where_backslashes_escape() {
    check(
        &[
            (r"'\'' ''", r"e['\''] e['']"),
            (r"n'\''", r"w[n] e['\'']"),
            (r"u&'a' U&'\'' ", r"STRAY[u&'a'] OPEN[U&'\'' ]"),
            (r#"u&"a""#, r#"u[u&"a"]"#),
            (r"$$\$$", r"d[$$\$$]"),
        ],
        OLD,
    );
}

#[test]
fn dollar_quotes_and_parameters() {
    check(
        &[
            ("$$a'b$$ $x$ $$ $y$ $x$", "d[$$a'b$$] d[$x$ $$ $y$ $x$]"),
            ("$a$ $$a$", "d[$a$ $$a$]"),
            ("$ä1$x$ä1$", "d[$ä1$x$ä1$]"),
            ("a$$b$$", "w[a$$b$$]"),
            ("$1 $23,$1$$ $$", "p[$1] p[$23] [,] p[$1] d[$$ $$]"),
            ("$1a $1$a$x$a$", "p[$1] w[a] p[$1] d[$a$x$a$]"),
            ("$a$ $A$", "OPEN[$a$ $A$]"),
            ("$a b $", "STRAY[$] w[a] w[b] STRAY[$]"),
        ],
        Dialect::default(),
    );
}

#[test]
fn numbers() {
    check(
        &[
            ("1 1.5 .5 5. 1e5 1.e-5 .5E+1", "i[1] f[1.5] f[.5] f[5.] f[1e5] f[1.e-5] f[.5E+1]"),
            ("0x1F 0O17 0b01 0x_1f 1_000 1_0.0_1e1_0", "i[0x1F] i[0O17] i[0b01] i[0x_1f] i[1_000] f[1_0.0_1e1_0]"),
            ("1..10 1...5", "i[1] [..] i[10] i[1] [..] f[.5]"),
            ("1e 1e+ 1.5e-x", "i[1] w[e] i[1] w[e] o[+] f[1.5] w[e] o[-] w[x]"),
            ("1INTO 0x 0xg 0b2 1_ 1__0", "i[1] w[INTO] i[0] w[x] i[0] w[xg] i[0] w[b2] i[1] w[_] i[1] w[__0]"),
            ("1.2.3 a.1", "f[1.2] f[.3] w[a] f[.1]"),
            ("1_.5", "i[1] w[_] f[.5]"),
        ],
        Dialect::default(),
    );
}

#[test]
fn operators_and_comments() {
    check(
        &[
            (
                "a<-b a+-b a@-b a*-+b",
                "w[a] o[<] o[-] w[b] w[a] o[+] o[-] w[b] w[a] o[@-] w[b] w[a] o[*] o[-] o[+] w[b]",
            ),
            ("a-@-+b ?- *-", "w[a] o[-@-+] w[b] o[?-] o[*] o[-]"),
            ("+++ @+++", "o[+] o[+] o[+] o[@+++]"),
            ("1+--2\n3", "i[1] o[+] c[--2] i[3]"),
            ("a@/*b*/c", "w[a] o[@] c[/*b*/] w[c]"),
            (
                "a=>b c:=d e::f g:h =>= <> != >=",
                "w[a] [=>] w[b] w[c] [:=] w[d] w[e] [::] w[f] w[g] [:] w[h] o[=>=] o[<>] o[!=] o[>=]",
            ),
            ("/* a /* b */ c */ x", "c[/* a /* b */ c */] w[x]"),
            ("/**/ /*/ */ /*/**/*/ /***/", "c[/**/] c[/*/ */] c[/*/**/*/] c[/***/]"),
            ("/* /* */", "OPEN[/* /* */]"),
            ("/*/", "OPEN[/*/]"),
            ("--a\r--b\nc", "c[--a] c[--b] w[c]"),
            ("(a[1],b);", "[(] w[a] [[] i[1] []] [,] w[b] [)] [;]"),
        ],
        Dialect::default(),
    );
}

#[test]
fn texts_that_may_hide_quotes_are_opaque() {
    let sjis = Dialect { encoding: Encoding::Hiding, ..Dialect::default() };
    assert_eq!(short("select 'ascii'", sjis), "w[select] s['ascii']");
    assert_eq!(short("select 'ä'", sjis), "OPAQUE[select 'ä']");
    for (name, encoding) in [
        ("UTF8", Encoding::Utf8),
        ("utf-8", Encoding::Utf8),
        ("Unicode", Encoding::Utf8),
        ("LATIN1", Encoding::AsciiSafe),
        ("iso_8859-15", Encoding::AsciiSafe),
        ("WIN1252", Encoding::AsciiSafe),
        ("EUC_JP", Encoding::AsciiSafe),
        ("SQL_ASCII", Encoding::AsciiSafe),
        ("SJIS", Encoding::Hiding),
        ("SHIFT_JIS_2004", Encoding::Hiding),
        ("WIN936", Encoding::Hiding),
        ("BIG5", Encoding::Hiding),
        ("GB18030", Encoding::Hiding),
        ("UHC", Encoding::Hiding),
        ("JOHAB", Encoding::Hiding),
        ("latin", Encoding::Hiding),
        ("", Encoding::Hiding),
        ("something that nobody has heard of", Encoding::Hiding),
    ] {
        assert_eq!(Encoding::of(name.as_bytes()), encoding, "{name}");
    }
}

#[test]
fn the_time_is_linear() {
    // Each of these takes minutes if a token looks further than it reaches.
    for unit in ["+", "-+", "+-*", "'a' ", "'a'\n", "$a", "a$", "/*", "*/", "\"", "E'\\", "1e", "1_", "$$a$a$", "U&'"] {
        let text = unit.repeat(400_000 / unit.len());
        assert!(Lexer::new(text.as_bytes(), Dialect::default()).last().is_some_and(|last| last.end == text.len()));
    }
}

/// Pieces that tokens are made of.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "'", "''", "\"", "E'", "U&'", "u&\"", "B'", "x'", "n'", "\\", "$", "$$", "$a$", "$1", "--", "/*", "*/",
            "\n", "\r", " ", ";", "(", ")", ".", "..", ":", "::", ":=", "=>", "+", "-", "@", "*", "1", "0x", "_", "e",
            "1.5", "a", "ä", "select", "uescape", "begin", "atomic", "end", "into", ",", "[", "]", "\0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..3),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn tokens_tile_any_bytes(text in pieces(), standard in any::<bool>()) {
        let dialect = Dialect { standard_conforming_strings: standard, encoding: Encoding::AsciiSafe };
        let mut tiled = 0;
        for token in Lexer::new(&text, dialect) {
            prop_assert_eq!(token.start, tiled);
            prop_assert!(token.end > token.start);
            tiled = token.end;
        }
        prop_assert_eq!(tiled, text.len());
    }

    #[test]
    fn any_bytes_are_a_script(text in pieces(), standard in any::<bool>()) {
        use crate::sql::{Script, Source};
        let dialect = Dialect { standard_conforming_strings: standard, encoding: Encoding::Utf8 };
        let source = Source::new(&text, dialect);
        let mut behind = 0;
        for statement in Script::of(&text, dialect).statements {
            prop_assert!(statement.span.start >= behind && !statement.span.is_empty());
            behind = statement.span.end;
            for call in &statement.calls {
                prop_assert!(source.text[call.open as usize] == b'(');
                call.arguments(source);
                source.parts(call.name);
            }
            for name in &statement.names {
                prop_assert!(!source.raw(*name).is_empty());
                source.parts(*name);
            }
        }
        prop_assert!(behind as usize <= text.len());
    }
}
