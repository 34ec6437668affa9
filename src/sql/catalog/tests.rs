use super::*;

/// A line is a function: name, language, body. `!` in front: it is volatile; `name@extension`.
fn functions(lines: &str) -> Vec<Function> {
    let function = |(at, line): (usize, &str)| {
        let mut words = line.trim().splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (name, language, body) = (next(), next(), next());
        let volatile = name.starts_with('!');
        let name = name.trim_start_matches('!');
        let (name, extension) = name.split_once('@').unwrap_or((name, ""));
        Function {
            oid: at.to_string().into(),
            name: name.as_bytes().into(),
            language: language.into(),
            volatile,
            extension: (!extension.is_empty()).then(|| extension.into()),
            body: Some(body.as_bytes().into()),
            ..Function::default()
        }
    };
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate().map(function).collect()
}

fn dangerous(catalog: &Catalog) -> String {
    let mut names: Vec<_> = catalog
        .functions
        .iter()
        .map(|(name, danger)| {
            let name = String::from_utf8_lossy(name);
            let kind = |kind, sign| if danger.has(kind) { sign } else { "" };
            let unless = if danger.has(Danger::TOUCHES) { "" } else { "-" };
            let others = [
                (Danger::DEFINES, "+"),
                (Danger::RUNS_TEXT, "?"),
                (Danger::ASKS, "#"),
                (Danger::LASTS, "!"),
                (Danger::LOCKS, "&"),
                (Danger::MAKES, "~"),
            ];
            let settings = catalog.settings(*danger).map(|name| format!("={}", String::from_utf8_lossy(name)));
            let others = others.map(|(danger, sign)| kind(danger, sign)).concat();
            format!("{name}{unless}{others}{}", settings.collect::<String>())
        })
        .collect();
    names.sort();
    names.join(" ")
}

#[test]
fn functions_are_dangerous_by_what_they_are_and_by_whom_they_name() {
    for (lines, names) in [
        ("f plpgsql begin return 1; end", ""),
        ("f plpgsql begin perform set_config('a.b', 'x', false); end", "f-=a.b"),
        ("f plpgsql begin drop table if exists t; end", "f-~"),
        ("f sql select set_config('a.b', 'x', false)", "f-=a.b"),
        ("f sql set a.b = 1", "f-=a.b"),
        ("f plpgsql begin execute 'select 1'; end", "f"),
        ("f plpgsql begin execute x; end \n g sql select f()", "f? g?"),
        ("f plpgsql begin return query execute 'select ' || x using y; end", "f"),
        ("f plpgsql begin execute pg_catalog.format ( 'INSERT INTO %I.log VALUES (1);', x); end", "f"),
        ("f plpgsql begin execute format('%s', x); end", "f?"),
        ("f plpgsql begin execute ('sel' || 'ect 1'); end", "f?"),
        ("f plpgsql begin execute 'select 1; ' || x; end", "f?"),
        ("f plpgsql begin execute 'create ' || x; end", "f?"),
        ("f plpgsql begin execute 'create temp table ' || x; end", "f"),
        ("f plpgsql begin execute 'create type ' || x; end", "f+"),
        ("f plpgsql begin execute $q$ do 'begin end' $q$; end", "f?"),
        ("f plpgsql begin execute 'select g()'; end \n g plpgsql begin execute x; end", "f? g?"),
        ("f plpgsql begin execute $q$ select lastval() $q$; end \n g sql select f()", "f# g#"),
        ("f sql select pg_catalog.currval('s') \n g sql select f() \n h sql select 'lastval'", "f-# g-#"),
        ("f plpgsql begin call g(); end \n g plpgsql begin null; end", ""),
        ("f plpgsql begin call g(); end \n g plpgsql begin commit; set a.b = 1; end", "f=a.b g=a.b"),
        ("f sql select g() \n g sql select h() \n h sql select pg_advisory_lock(1) \n i sql select j()", "f-& g-& h-&"),
        ("f sql select \"G\"() \n g sql select 1 \n G sql select setseed(1)", "G f"),
        ("f sql select \"g\"() \n g sql select setseed(1)", "f g"),
        ("f sql select 1 \n f sql select setseed(1) \n g sql select f(1)", "f g"),
        ("f plpgsql begin raise 'set_config'; end -- set_config", ""),
        ("!f c x", "f"),
        ("f c x", ""),
        ("!f@hstore c x", ""),
        ("!f@dblink c x", "f"),
        ("f sql select query_to_xml(x, true, true, '') \n g sql select f()", "f? g?"),
        ("!set_limit@pg_trgm c x", "set_limit"),
        ("crosstab@tablefunc c x", "crosstab?"),
        ("!hll_set_defaults@hll c x \n !hll_add@hll c x", "hll_set_defaults"),
        ("standardize_address@address_standardizer c x", "standardize_address?"),
        ("!check_foreign_key@refint c x", "check_foreign_key"),
        ("f internal set_config_by_name \n g internal textcat", "f?"),
        ("f plpgsql begin perform pg_backup_start(1); end \n g sql select f() \n h sql select setseed(1)", "f! g! h"),
        (r"f plpgsql begin x := 'a\' || '; set work_mem = 1; --'; end", "f-=work_mem"),
        (r"f plpgsql begin x := 'a\b' || '; set work_mem = 1; --'; end", ""),
        ("f plpython3u return 1", ""),
        ("f plpython3u plpy.execute('set a.b = 1')", "f?"),
        ("f pljava a.b.c", "f?"),
        ("f plpgsql begin insert into t (created_at) values (now()); end", ""),
        ("f plpgsql begin create view v as select 1; end", "f-+~"),
        ("f plpgsql begin create sequence s; end", "f-~"),
        ("f sql select 1 as n into t", "f-~"),
        ("f sql insert into t values (1); with a as (values (1)) merge into t using a on true", ""),
        ("f plpgsql begin select 1 into n; end", ""),
        ("f sql do 'begin end'", "f"),
        ("f plpgsql begin create temp table t (n int); end", "f-~"),
        ("f plpgsql begin execute format('create or replace function %I', x); end \n g sql select f()", "f+ g+"),
    ] {
        assert_eq!(dangerous(&Catalog::of(functions(lines))), names, "{lines}");
    }
}

#[test]
fn what_code_sets_is_told_by_name() {
    for (lines, names) in [
        ("f plpgsql begin perform set_config ( 'A.B', x || (y)::text, z); end", "f-=a.b"),
        ("f plpgsql begin perform set_config('a.b', 'x', true), set_config('c.d', 'x', false); end", "f-=c.d"),
        ("f plpgsql begin perform set_config('a.' || x, 'x', false); end", "f"),
        ("f plpgsql begin perform set_config(x, 'a.b', false); end", "f"),
        ("f plpgsql begin perform set_config('a b', 'x', false); end", "f"),
        ("f plpgsql begin perform set_config('a.1b', 'x', false); end", "f"),
        ("f plpgsql begin set plpgsql.check_asserts = off; end", "f"),
        ("f plpgsql begin perform set_config('sort_mem', '1', false); end", "f-=work_mem"),
        ("f plpgsql begin perform set_config('session_authorization', x, false); end", "f"),
        ("f plpgsql begin set session \"A\".b to 1; reset c.d; set role none; end", "f-=a.b=c.d=role"),
        ("f plpgsql begin set local a.b = 1; set transaction read only; update t set c = 1; end", ""),
        ("f plpgsql begin reset all; end \n g sql set session authorization x \n h sql set time zone 'UTC'", "f g h"),
        (
            "f sql select set_config('a.b', $1, false) \n g sql select f() \n h sql set c.d = 1; select g()",
            "f-=a.b g-=a.b h-=a.b=c.d",
        ),
    ] {
        assert_eq!(dangerous(&Catalog::of(functions(lines))), names, "{lines}");
    }
}

#[test]
fn who_names_a_relation_with_code_behind_it_is_dangerous() {
    let mut draft = Draft::new(functions(
        "f plpgsql begin insert into t values (1); end \n g sql select f() \n h sql select 1 \n i sql select setseed(1)",
    ));
    let touching = |draft: &Draft| draft.dangerous().map(|(oid, _)| oid.to_owned()).collect::<Vec<_>>();
    let t = |danger| (Reached::Relation((*b"t").into()), danger);
    assert_eq!(touching(&draft), ["3"]);
    assert!(draft.reaches(vec![t(Danger::TOUCHES)]));
    assert_eq!(touching(&draft), ["0", "1", "3"]);
    let nothing_new = [t(Danger::TOUCHES), (Reached::Ddl, Danger::TOUCHES), (Reached::Type(20_000), Danger::ASKS)];
    assert!(!draft.reaches(nothing_new.into()));
    assert!(draft.reaches(vec![t(Danger::DEFINES)]), "in another way, too");
    let catalog = draft.finish();
    let named = [catalog.named(b"t"), catalog.named(b"f"), catalog.named("\u{e4}".as_bytes())];
    assert_eq!(
        named,
        [Danger::ANYTHING, Danger::default(), Danger::default()],
        "what is unseen is found out afterwards"
    );
    assert_eq!([catalog.function(b"f"), catalog.function(b"h")], [Danger::ANYTHING, Danger::default()]);
    assert_eq!(catalog.function(b"domain_in"), Danger::ANYTHING, "it may be told of any type");
    assert_eq!([catalog.any_ddl(), catalog.anything()], [Danger::TOUCHES, Danger::default()]);
    assert_eq!([catalog.of_type(20_000), catalog.of_type(23)], [Danger::ASKS, Danger::default()]);
    assert!(!catalog.is_quiet());
}

#[test]
fn a_trusted_function_is_clean_whatever_it_names() {
    let mut draft = Draft::trusting([Name::from(*b"f")].into());
    let lines = "f plpgsql begin execute x; end \n f sql select h() \n g sql select f() \n h sql select setseed(1)";
    functions(lines).into_iter().for_each(|function| draft.add(function));
    draft.close();
    draft.reaches(vec![(Reached::Function((*b"f").into()), Danger::TOUCHES)]);
    let catalog = draft.finish();
    assert_eq!([b"f", b"g", b"h"].map(|name| catalog.function(name).is_none()), [true, true, false]);
}

#[test]
fn a_name_beyond_ascii_may_be_any_such() {
    let catalog = Catalog::of(functions("s\u{e4}tze sql select setseed(1)"));
    assert_eq!([catalog.function(b"\xe4"), catalog.function(b"f")], [Danger::ANYTHING, Danger::default()]);
}

#[test]
fn lists_are_sorted_to_be_searched() {
    assert!(is_harmless(b"array_agg") && is_harmless(b"version") && is_harmless(b"now") && !is_harmless(b"f"));
}

#[test]
fn code_with_ddl_in_it_runs_event_triggers() {
    let mut draft = Draft::new(functions(
        "f plpgsql begin comment on table t is 'x'; end \n g sql select f() \n h plpgsql begin raise 'comment'; end",
    ));
    draft.reaches(vec![(Reached::Ddl, Danger::TOUCHES)]);
    let catalog = draft.finish();
    assert_eq!([b"f", b"g", b"h"].map(|name| catalog.function(name).has(Danger::TOUCHES)), [true, true, false]);
    assert_eq!([&b"grant"[..], b"granted"].map(|word| catalog.in_code(word).is_none()), [false, true]);
}
