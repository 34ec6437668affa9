use super::*;

/// Calls, a `?` behind those that may be none; then the other names.
fn names(text: &str) -> (String, String) {
    let statement = only(text);
    let source = Source::new(text.as_bytes(), UTF8);
    let read = |span: Span| {
        let parts = source.parts(span).0;
        parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>().join(".")
    };
    let mark = |call: &Call| if call.doubtful { "?" } else { "" };
    let calls: Vec<_> = statement.calls.iter().map(|call| read(call.name) + mark(call)).collect();
    (calls.join(" "), statement.names.iter().map(|name| read(*name)).collect::<Vec<_>>().join(" "))
}

#[test]
fn calls_and_names_are_found() {
    for (text, calls, others) in [
        ("select f(1), s.G (2), \"H\"(f(3)) from t", "f s.g H f", "t"),
        ("select a.b, c from s.t as x where y in (1) and exists (select 1)", "", "a.b c s.t x y exists"),
        ("insert into s.t (a, b) values (f(1))", "f", "s.t a b values"),
        ("select * from f(1) as t(a, b) join lateral g(2) h on true", "f g", "t a b h"),
        ("select * from f(1) t(a)", "f t?", "t a"),
        ("select sum(a) over (partition by (b) order by (c)) from t", "sum over?", "a over partition by b by c t"),
        ("select distinct on (a) over(b)", "over?", "a over b"),
        ("select 1 from a join (select 2) b on f(1)", "join? f", "a join b"),
        ("select left('a', 1), overlay('a' placing 'b' from 1), substring('a')", "left overlay substring", ""),
        (
            "select coalesce(a), extract(year from b), cast(c as numeric(3)), 1::varchar(2), 1::s.t(3)",
            "",
            "coalesce a extract year b c numeric varchar s.t",
        ),
        (
            "insert into t values (1) on conflict (a) do update set (b) = row(f(2))",
            "conflict? set? f",
            "t values conflict a update set b row",
        ),
        ("select pg_catalog.lower(a.into) from public.user", "pg_catalog.lower", "a.into public.user"),
        ("select (f(1)).g, x[h(2)]", "f h", "g x"),
        (r#"select U&"s!0065t" uescape '!' (1)"#, "set", ""),
        ("call s.p(1)", "s.p", ""),
        ("with a as materialized (select f(1)) select * from a", "f", "a materialized a"),
        ("select json_object(1), current_schema, current_user, now()", "json_object now", ""),
    ] {
        assert_eq!(names(text), (calls.to_owned(), others.to_owned()), "{text}");
    }
}

#[test]
fn arguments_are_constants_parameters_or_other() {
    let text = "select set_config('a.b', $1, false), f(), g(-1.5, 'x'::text, $2::pg_catalog.int4, null, TRUE, a, 1 + 1, 'a' || 'b', (1), x => 1, $70000), h((1, 2)[1], E'\\n')";
    let statement = only(text);
    let source = Source::new(text.as_bytes(), UTF8);
    let shown: Vec<Vec<String>> = statement.calls.iter().map(|call| show(&call.arguments(source), source)).collect();
    assert_eq!(
        shown,
        [
            vec!["'a.b'", "$1", "false"],
            vec![],
            vec!["-1.5", "'x'", "$2", "null", "true", "?", "?", "?", "?", "?", "?"],
            vec!["?", "'\n'"],
        ]
    );
}

fn show(arguments: &[Argument], source: Source<'_>) -> Vec<String> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    arguments
        .iter()
        .map(|argument| match argument {
            Argument::Text(span) => format!("'{}'", lossy(&source.string(*span).expect("readable"))),
            Argument::Number(span) => lossy(source.raw(*span)),
            Argument::Bool(value) => value.to_string(),
            Argument::Null => "null".to_owned(),
            Argument::Param(number) => format!("${number}"),
            Argument::Other => "?".to_owned(),
        })
        .collect()
}
