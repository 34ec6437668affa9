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
            format!("{name}{}{}", if danger.touches { "" } else { "-" }, if danger.defines { "+" } else { "" })
        })
        .collect();
    names.sort();
    names.join(" ")
}

#[test]
fn functions_are_dangerous_by_what_they_are_and_by_whom_they_name() {
    for (lines, names) in [
        ("f plpgsql begin return 1; end", ""),
        ("f plpgsql begin perform set_config('a.b', 'x', false); end", "f"),
        ("f sql select set_config('a.b', 'x', false)", "f"),
        ("f sql set a.b = 1", "f"),
        ("f plpgsql begin execute 'select 1'; end", "f"),
        ("f plpgsql begin call g(); end \n g plpgsql begin null; end", ""),
        ("f plpgsql begin call g(); end \n g plpgsql begin commit; set a.b = 1; end", "f g"),
        ("f sql select g() \n g sql select h() \n h sql select pg_advisory_lock(1) \n i sql select j()", "f g h"),
        ("f sql select \"G\"() \n g sql select 1 \n G sql select setseed(1)", "G f"),
        ("f sql select \"g\"() \n g sql select setseed(1)", "f g"),
        ("f sql select 1 \n f sql select setseed(1) \n g sql select f(1)", "f g"),
        ("f plpgsql begin raise 'set_config'; end -- set_config", ""),
        ("!f c x", "f"),
        ("f c x", ""),
        ("!f@hstore c x", ""),
        ("!f@dblink c x", "f"),
        ("!set_limit@pg_trgm c x", "set_limit"),
        ("crosstab@tablefunc c x", "crosstab"),
        ("f plpython3u return 1", ""),
        ("f plpython3u plpy.execute('set a.b = 1')", "f+"),
        ("f pljava a.b.c", "f+"),
        ("f plpgsql begin insert into t (created_at) values (now()); end", ""),
        ("f plpgsql begin create view v as select 1; end", "f-+"),
        ("f plpgsql begin create temp table t (n int); end", "f"),
        ("f plpgsql begin execute format('create or replace function %I', x); end \n g sql select f()", "f+ g+"),
    ] {
        assert_eq!(dangerous(&Catalog::of(functions(lines))), names, "{lines}");
    }
}

#[test]
fn who_names_a_relation_with_code_behind_it_is_dangerous() {
    let mut draft = Draft::new(functions(
        "f plpgsql begin insert into t values (1); end \n g sql select f() \n h sql select 1 \n i sql select setseed(1)",
    ));
    assert_eq!(draft.touching().collect::<Vec<_>>(), ["3"]);
    assert!(draft.reaches(vec![Reached::Relation((*b"t").into())]));
    assert_eq!(draft.touching().collect::<Vec<_>>(), ["0", "1", "3"]);
    assert!(!draft.reaches(vec![Reached::Relation((*b"t").into()), Reached::Ddl]));
    let catalog = draft.finish();
    assert!(catalog.named(b"t").touches && !catalog.named(b"f").touches && !catalog.named("\u{e4}".as_bytes()).touches);
    assert_eq!([catalog.function(b"f").touches, catalog.function(b"h").touches], [true, false]);
    assert_eq!([catalog.fears_ddl(), catalog.fears_anything(), catalog.is_quiet()], [true, false, false]);
}

#[test]
fn a_trusted_function_is_clean_whatever_it_names() {
    let mut draft = Draft::trusting([Name::from(*b"f")].into());
    let lines = "f plpgsql begin execute x; end \n f sql select h() \n g sql select f() \n h sql select setseed(1)";
    functions(lines).into_iter().for_each(|function| draft.add(function));
    draft.close();
    draft.reaches(vec![Reached::Function((*b"f").into())]);
    let catalog = draft.finish();
    assert_eq!([b"f", b"g", b"h"].map(|name| catalog.function(name).touches), [false, false, true]);
}

#[test]
fn a_name_beyond_ascii_may_be_any_such() {
    let catalog = Catalog::of(functions("s\u{e4}tze sql select setseed(1)"));
    assert!(catalog.function(b"\xe4").touches && !catalog.function(b"f").touches);
}

#[test]
fn lists_are_sorted_to_be_searched() {
    assert!(is_harmless(b"array_agg") && is_harmless(b"version") && is_harmless(b"now") && !is_harmless(b"f"));
}
