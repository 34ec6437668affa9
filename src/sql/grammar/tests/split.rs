use super::*;

fn split(text: &str) -> (Vec<String>, bool) {
    let script = Script::of(text.as_bytes(), UTF8);
    let source = Source::new(text.as_bytes(), UTF8);
    let pieces =
        script.statements.iter().map(|statement| String::from_utf8_lossy(source.raw(statement.span)).into_owned());
    (pieces.collect(), script.broken)
}

#[test]
fn statements_end_at_semicolons_that_count() {
    let body = "create function f() returns int begin atomic select 1; select case when a then 2 end; end";
    let empty = "create procedure p() language sql begin atomic end";
    let rule = "create rule r as on insert to t do instead (insert into a values (1); delete from b;)";
    let label = "create function f() returns int begin atomic select 1 as end; select atomic end; end";
    for (text, pieces) in [
        ("", vec![]),
        (" ;; -- x\n/* ; */;", vec![]),
        ("select 1", vec!["select 1"]),
        ("/* a */ select ';' ; ; commit -- x", vec!["select ';'", "commit"]),
        ("select $$;$$;select \";\"", vec!["select $$;$$", "select \";\""]),
        (&format!("{body}; commit"), vec![body, "commit"]),
        (&format!("{empty};select 1"), vec![empty, "select 1"]),
        (&format!("{rule}; select 1"), vec![rule, "select 1"]),
        (&format!("{label}; select 1"), vec![label, "select 1"]),
        (
            "create or replace function f(begin atomic) returns int as 'x'; end",
            vec!["create or replace function f(begin atomic) returns int as 'x'", "end"],
        ),
        ("begin; atomic; end", vec!["begin", "atomic", "end"]),
    ] {
        let (found, broken) = split(text);
        assert_eq!(found, pieces, "{text}");
        assert!(!broken, "{text}");
    }
}

#[test]
fn no_head_reaches_behind_its_semicolon() {
    for head in [
        "prepare p as",
        "prepare p(int) as",
        "explain",
        "copy",
        "declare c",
        "set x =",
        "fetch",
        "do",
        "create",
        "drop",
    ] {
        let text = format!("{head}; select 1");
        let script = Script::of(text.as_bytes(), UTF8);
        assert_eq!(script.statements.len(), 2, "{text}");
        let alone = Script::of(head.as_bytes(), UTF8);
        assert_eq!(script.statements[0], alone.statements[0], "{text}");
    }
}

#[test]
fn what_no_server_takes_is_broken() {
    for text in [
        "select 1; select 'a",
        "select (1; select 2",
        "select 1); select 2",
        "select \"\"",
        "select 1 /* x",
        "select {",
        "select $$",
        "create function f() begin atomic select 1; select 2",
    ] {
        let script = Script::of(text.as_bytes(), UTF8);
        assert!(script.broken, "{text}");
        assert!(script.single().is_none(), "{text}");
        assert!(script.statements.iter().any(|statement| statement.effects.has(Effects::UNSURE)), "{text}");
    }
}

#[test]
fn a_body_within_a_body_is_not_trusted() {
    let text = "create function f() returns int begin atomic create function g() begin atomic select 1; end; end";
    assert!(Script::of(text.as_bytes(), UTF8).statements[0].effects.has(Effects::UNSURE));
}

#[test]
fn a_text_that_may_hide_quotes_is_one_unknown_statement() {
    let dialect = Dialect { encoding: crate::sql::Encoding::Hiding, ..UTF8 };
    let script = Script::of("select 'ä'; commit".as_bytes(), dialect);
    assert_eq!(script.statements.len(), 1);
    assert_eq!((script.statements[0].kind.clone(), script.broken), (Kind::Unknown, true));
    assert_eq!(Script::of(b"select 1; commit", dialect).statements.len(), 2);
}
