use super::*;
use crate::sql::Dialect;
use crate::sql::catalog::{Danger, Draft, Function, Reached};

/// What the only statement of a text does, as a person writes it.
fn does(text: &str) -> String {
    does_by(text, Some(&Catalog::default()))
}

fn does_by(text: &str, catalog: Option<&Catalog>) -> String {
    let source = Source::new(text.as_bytes(), Dialect::default());
    let script = Script::of(text.as_bytes(), source.dialect);
    let deeds = of_script(&script, source, catalog).unwrap_or_default();
    let all = deeds.iter().map(|deeds| deeds.iter().map(show).collect::<Vec<_>>().join(" "));
    all.collect::<Vec<_>>().join("; ")
}

fn show(deed: &Deed) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match deed {
        Deed::Set(name, value) => format!("{}={}", text(name), text(value)),
        Deed::Reset(name) => format!("reset {}", text(name)),
        Deed::Local(name) => format!("local {}", text(name)),
        Deed::ResetAll => "reset all".into(),
        Deed::SetConfig(config) => {
            let given = |given: &Given| match given {
                Given::Constant(value) => text(value),
                Given::Param(number) => format!("${number}"),
            };
            let value = config.value.as_ref().map_or_else(|| "NULL".into(), given);
            format!("config({},{value},{})", given(&config.name), given(&config.local))
        }
        Deed::Savepoint(name) => format!("savepoint {}", text(name)),
        Deed::Release(name) => format!("release {}", text(name)),
        Deed::RollbackTo(name) => format!("to {}", text(name)),
        Deed::DiscardAll => "discard".into(),
        Deed::Holds(what, name) => format!("+{what:?}({})", text(name)),
        Deed::Lets(what, name) => format!("-{what:?}({})", name.as_ref().map_or_else(|| "*".into(), |name| text(name))),
        Deed::MayLet(what) => format!("?{what:?}"),
        Deed::MayHold(what) => format!("+{what:?}?"),
        Deed::MaySet(name) => format!("{}?", text(name)),
        Deed::MayBeTemporary => "temporary?".into(),
        Deed::Executes(name) => format!("executes {}", text(name)),
        Deed::TakesNumber => "takes".into(),
        Deed::AsksNumber => "asks".into(),
        Deed::MayAskNumber => "may ask".into(),
        Deed::ForgetsNumbers => "forgets".into(),
        Deed::Notifies => "notifies".into(),
        Deed::Unclear(doubt) => format!("unclear {doubt:?}"),
        Deed::Defines => "defines".into(),
        Deed::MayDefine => "may define".into(),
    }
}

#[test]
fn settings_are_read_in_all_their_forms() {
    for (text, does_) in [
        ("set work_mem = '64MB'", "work_mem=64MB"),
        ("SET SESSION Work_Mem TO 64", "work_mem=64"),
        ("set local work_mem = 1", "local work_mem"),
        ("set x.y to on", "x.y=on"),
        ("set \"App\".tenant = 'A b'", "app.tenant=A b"),
        ("set geqo to default", "reset geqo"),
        ("reset geqo", "reset geqo"),
        ("reset all", "reset all"),
        ("set search_path to a, \"B c\", '$user', public", "search_path=a, \"B c\", \"$user\", public"),
        ("set search_path = ''", "search_path=\"\""),
        ("set datestyle to iso, dmy", "datestyle=iso, dmy"),
        ("set schema 'x'", "search_path=x"),
        ("set role bob", "role=bob"),
        ("set role none", "role=none"),
        ("reset role", "reset role"),
        ("set session authorization default", "reset session_authorization"),
        ("set session authorization 'al'", "session_authorization=al"),
        ("set time zone 'UTC'", "timezone=UTC"),
        ("set seed to -0.5", "+Seed()"),
        ("set x to -0.5", "x=-0.5"),
        ("set transaction_isolation to serializable", ""),
        ("set sort_mem = 5", "work_mem=5"),
        ("set x from current", "unclear Setting"),
        (
            "set session characteristics as transaction isolation level serializable, read only",
            "default_transaction_isolation=serializable default_transaction_read_only=on",
        ),
        ("set transaction read only", ""),
        ("set geqo = off; set geqo = on", "geqo=off; geqo=on"),
    ] {
        assert_eq!(does(text), does_, "{text}");
    }
}

#[test]
fn set_config_is_believed_where_it_surely_runs_once() {
    for (text, does_) in [
        ("select set_config('App.tenant', '5', false)", "app.tenant=5"),
        ("select pg_catalog.set_config('search_path', '', false);", "search_path="),
        ("select set_config('a.b', 'x', true)", "local a.b"),
        ("select set_config('A.b', $1, true)", "local a.b"),
        ("select set_config($1, 'x', true)", "local "),
        ("select set_config('a.b', 'x', 'no')", "a.b=x"),
        ("select set_config('a.b', null, false)", "reset a.b"),
        ("select set_config('a.b', 'x', false) as a, set_config('a.c', 'y', false) b", "a.b=x a.c=y"),
        ("select set_config($1, $2, false)", "config($1,$2,f)"),
        ("select set_config('a.b', $1::text, $2)", "config(a.b,$1,$2)"),
        ("select set_config('a.b', 'x', false) from t", "a.b?"),
        ("select set_config('a.b', 'x', false) where false", "a.b?"),
        ("select set_config('a.b', x, $1) from t", "a.b?"),
        ("select set_config('a ''b', x, false)", "unclear Setting"),
        ("select set_config('session_authorization', x, false)", "unclear Setting"),
        ("select set_config(x, 'a.b', false)", "unclear Setting"),
        ("select set_config('a.b', 'x' || y, false)", "a.b?"),
        ("select coalesce(set_config('a.b', 'x', false), 'y')", "a.b?"),
        ("select set_config('a.b', 'x', false) || 'y'", "a.b?"),
        ("select set_config('a.b', 'x', false) limit 0", "a.b?"),
        ("insert into t select set_config('a.b', 'x', false)", "a.b?"),
        ("select \"set_config\"('a.b', 'x', false)", "a.b=x"),
        ("select U&\"set\\005fconfig\"('a.b', 'x', false)", "a.b?"),
        ("select U&\"set!005fconfig\" uescape '!' ('a.b', 'x', false)", "a.b?"),
        ("select U&\"set!005fconfig\" uescape $$!$$('a.b', 'x', false)", "unclear Text"),
        ("select U&\"set!005fconfig\" uescape E'!' ('a.b', 'x', false)", "unclear Text"),
        ("select set_config('a.b', 'x', false), generate_series(1, 0)", "a.b?"),
        ("explain select set_config('a.b', 'x', false)", ""),
        ("explain analyze select set_config('a.b', 'x', false)", "a.b?"),
        ("select set_config('a.b', set_config('a.c', 'x', false), false)", "a.b? a.c?"),
        ("select set_config('a.b', 'x', /* ) */ false -- (\n)", "a.b=x"),
    ] {
        assert_eq!(does(text), does_, "{text}");
    }
}

#[test]
fn what_runs_something_prepared_is_told() {
    for (text, does_) in [
        ("explain execute p(lastval())", "executes p asks"),
        ("create temp table t as execute p(7)", "+Temporary() executes p defines"),
        ("explain analyze create table t (a) as execute \"P\"", "temporary? executes P"),
        ("create table t as select 1 as execute", "temporary?"),
        ("commit prepared 'x'", "defines"),
        ("rollback prepared $$x$$", ""),
        ("explain execute p(set_config('a.b', 'x', false))", "executes p a.b?"),
    ] {
        assert_eq!(does(text), does_, "{text}");
    }
}

#[test]
fn what_only_one_server_has_is_told() {
    for (text, does_) in [
        ("create temp table t (n int)", "+Temporary()"),
        ("create temporary view v as select 1", "+Temporary()"),
        ("create table pg_temp.t (n int)", "+Temporary()"),
        ("create temp table t (n int) on commit drop", ""),
        ("select 1 into temp t", "+Temporary()"),
        ("select 1 into t", "temporary?"),
        ("create table t (n int)", "temporary?"),
        ("create index i on t (n)", ""),
        ("create schema s", "defines"),
        ("create function f() returns int language sql as 'select 1'", "temporary? defines"),
        ("explain analyze create table pg_temp.t as select 1", "+Temporary()"),
        ("explain analyze create table t as select 1", "temporary?"),
        ("explain create table t as select 1", ""),
        ("import foreign schema s from server r into pg_temp", "temporary? defines"),
        ("set search_path = app, pg_temp", "search_path=app, pg_temp"),
        ("explain analyze select 1 into temp t", "+Temporary()"),
        ("create temp table t as select 1", "+Temporary()"),
        ("drop table t", "?Temporary"),
        ("discard temp", "-Temporary(*)"),
        ("discard all", "discard"),
        ("discard plans", ""),
        ("declare c cursor with hold for select 1", "+Cursor(c)"),
        ("declare c cursor for select 1", ""),
        ("close C", "-Cursor(c)"),
        ("close all", "-Cursor(*)"),
        ("prepare p as select 1", "+Statement(p)"),
        ("prepare p as select set_config('a.b', 'x', false)", "+Statement(p) unclear Code"),
        ("deallocate prepare p", "-Statement(p)"),
        ("deallocate all", "-Statement(*)"),
        ("listen \"A\"", "+Channel(A)"),
        ("unlisten a", "-Channel(a)"),
        ("unlisten *", "-Channel(*)"),
        ("load 'auto_explain'", "+Library()"),
        ("notify c, 'x'", "notifies"),
        ("select pg_notify('c', n) from t", "notifies"),
        ("prepare p as select pg_notify('c', '')", "+Statement(p)"),
        ("do $$begin perform pg_notify('c', ''); end$$", ""),
        ("select setseed(0.5)", "+Seed()"),
        ("select nextval('s'), setval('s', 7)", "takes takes"),
        ("select LASTVAL()", "asks"),
        ("insert into t values (pg_catalog.currval ('s'))", "asks"),
        ("select now(), lower('nextval'), count(*) from t", ""),
        ("explain select lastval()", ""),
        ("prepare p as select lastval()", "+Statement(p) asks"),
        ("do $$ begin perform currval('s'); end $$", "asks"),
        ("do $$ begin insert into t values (1); end $$", ""),
        ("discard sequences", "forgets"),
        ("select pg_try_advisory_lock(1)", "+Lock()"),
        ("select pg_advisory_xact_lock(1)", ""),
        ("select pg_advisory_unlock(1)", "?Lock"),
        ("select pg_advisory_unlock_all()", "?Lock"),
        ("select dblink_connect('a', 'b')", "+Connection()"),
        ("select pg_replication_origin_session_setup('o')", "+Replication()"),
        ("select pg_create_logical_replication_slot('s', 'pgoutput', temporary => true)", "+Replication()"),
        ("select pg_copy_physical_replication_slot('s', 't', true)", "+Replication()"),
        ("select pg_backup_start('b')", "+Replication()"),
        ("select pg_drop_replication_slot('s'), pg_replication_origin_create('o'), pg_backup_stop()", ""),
        ("select pg_import_system_collations('pg_temp_3')", "temporary?"),
        ("do 'begin perform pg_start_backup(1); end'", "+Replication() unclear Code"),
        ("savepoint a; release savepoint a; rollback to A", "savepoint a; release a; to a"),
    ] {
        assert_eq!(does(text), does_, "{text}");
    }
}

#[test]
fn code_is_clean_only_if_nothing_in_it_touches_the_session() {
    for (code, clean) in [
        ("begin update t set n = 1; end", true),
        ("begin perform 1; if x then set local a.b = 1; end if; end", true),
        ("begin set a.b = 1; end", false),
        ("begin if x then set a.b = 1; end if; end", false),
        ("begin execute 'select 1'; end", false),
        ("begin raise notice 'execute this'; -- set x = 1\n end", true),
        ("begin perform set_config('a.b', 'x', true); end", true),
        ("begin perform pg_catalog.set_config('a.b', coalesce(x, (y)), TRUE), f(1); end", true),
        ("begin perform set_config('a.b', 'x', x, true); end", false),
        ("begin perform set_config('a.b', 'x', not true); end", false),
        ("begin perform set_config('a.b', f(1, 2, true), false); end", false),
        ("begin perform set_config('a.b', 'x', true), set_config('a.b', 'x', false); end", false),
        ("begin perform set_config('a.b', 'x'", false),
        ("create operator a (function = set_config)", false),
        ("begin create temp table t (n int); end", false),
        ("begin perform pg_advisory_lock(1); end", false),
        ("begin perform pg_advisory_xact_lock(1); end", true),
        ("begin perform pg_temp.f(); end", false),
        ("begin reset all; end", false),
        ("begin perform 'open; end", false),
        ("begin create table t (n int); end", false),
        ("begin import foreign schema s from server r into t; end", false),
        ("begin select 1 into n; insert into t values (1) on conflict do nothing; end", true),
        ("begin if x then do 'begin end'; end if; end", false),
    ] {
        let text = format!("do $body$ {code} $body$");
        assert_eq!(does(&text).is_empty(), clean, "{code}");
    }
    assert_eq!(does("call p()"), "unclear Code defines");
    assert_eq!(does("select query_to_xml('select 1', true, true, '')"), "may define unclear Code");
    assert_eq!(does("explain select table_to_xml('t', true, true, '')"), "may define unclear Code");
    assert_eq!(does("frobnicate"), "unclear Text may define");
    assert_eq!(does("select 'open"), "", "no server runs it");
}

#[test]
fn the_common_statements_do_nothing() {
    for text in [
        "select 1",
        "select count(*), f(x) from t where a in (1, 2)",
        "insert into t (a, b) values (1, 'x') returning id",
        "update t set a = 1 where b = 2",
        "delete from t",
        "begin",
        "commit",
        "rollback",
        "copy t from stdin",
        "show all",
    ] {
        assert_eq!(does(text), "", "{text}");
        let glanced = !["rollback", "show all"].contains(&text);
        assert_eq!(may_do(text.as_bytes(), Some(&Catalog::default())), !glanced, "{text}");
    }
}

#[test]
fn a_glance_misses_nothing() {
    for text in [
        "set a.b = 1",
        "select 1; set a.b = 1",
        "select set_config('a.b', 'x', false)",
        "select pg_catalog . SET_config ('a.b', 'x', false)",
        "select set_config\n\t('a.b', 'x', false)",
        "select set_config\x0b('a.b', 'x', false)",
        "select set_config/**/('a.b', 'x', false)",
        "select set_config -- x\n('a.b', 'x', false)",
        "select \"set_config\"('a.b', 'x', false)",
        "select U&\"set\\005fconfig\"('a.b', 'x', false)",
        "select U&\"set!005fconfig\" uescape '!' ('a.b', 'x', false)",
        "select u&\"set!005fconfig\" UESCAPE $$!$$('a.b', 'x', false)",
        "with a as (select 1) update pg_settings set setting = 1",
        "with a as (select 1) update U&\"pg_setting\\0073\" set setting = 1",
        "insert into t values (1, pg_advisory_lock(1))",
        "select * INTO Temp t from u",
        "select * INTO t from u",
        "update U&\"pg_setting\\0073\" set setting = 1",
        "with a as (select 1) select * into pg_temp.t from a",
        "explain analyze select 1 into temp t",
        "/* x */ set a.b = 1",
        "(select setseed(1))",
        "select pg_start_backup ('x')",
        "values (pg_replication_origin_session_setup('o'))",
        "select pg_create_physical_replication_slot('s', false, true)",
        "select pg_import_system_collations(pg_my_temp_schema())",
        "copy (select setseed(1)) to stdout",
        "rollback to s",
        "notify c",
        "insert into t select Pg_Notify ('c', '')",
        "",
    ] {
        assert!(text.is_empty() || may_do(text.as_bytes(), Some(&Catalog::default())), "{text}");
    }
    for text in ["select 1;", "select count (*) from items ;  ", "INSERT into t(a) values ('set_config')"] {
        assert!(!may_do(text.as_bytes(), Some(&Catalog::default())), "{text}");
    }
}

/// Of a database with some functions, and code behind the relation `t`.
fn some_catalog() -> Catalog {
    let functions = [
        "g sql select setseed(1)",
        "h plpgsql begin create view v as select 1; end",
        "s plpgsql begin set a.b = 1; perform set_config('c.d', x, false), pg_advisory_unlock(1); end",
        "p plpgsql -",
    ];
    let function = |line: &&str| {
        let mut words = line.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default();
        Function {
            oid: "1".into(),
            name: next().as_bytes().into(),
            language: next().into(),
            body: Some(next().as_bytes().into()),
            procedure: line.starts_with('p'),
            ..Function::default()
        }
    };
    let mut draft = Draft::new(functions.iter().map(function).collect());
    draft.reaches(vec![(Reached::Relation((*b"t").into()), Danger::TOUCHES)]);
    draft.finish()
}

#[test]
fn what_functions_do_is_told_by_the_catalog() {
    let catalog = some_catalog();
    for (text, unknown, known) in [
        ("select 1", "", ""),
        ("begin", "", ""),
        ("set a.b = 1", "a.b=1", "a.b=1"),
        ("select now(), count(1)", "", ""),
        ("select f()", "unclear Unread may define", ""),
        ("select G ()", "unclear Unread may define", "unclear Code"),
        ("select x.\"g\"()", "unclear Unread may define", "unclear Code"),
        ("select g from u", "unclear Unread may define", ""),
        ("explain select g()", "unclear Unread may define", "unclear Code"),
        ("insert into x.T values (1)", "unclear Unread may define", "unclear Code"),
        ("insert into u values (1)", "unclear Unread may define", ""),
        ("declare c cursor for select g()", "unclear Unread may define", "unclear Code"),
        ("copy t from stdin", "unclear Unread may define", "unclear Code"),
        ("prepare s as select g()", "+Statement(s) unclear Code", "+Statement(s) unclear Code"),
        ("execute s", "executes s unclear Unread may define", "executes s unclear Code may define"),
        ("call p()", "unclear Unread may define", ""),
        ("call q()", "unclear Unread may define", "unclear Code defines"),
        ("do 'begin perform g(); end'", "unclear Unread may define", "unclear Code"),
        ("do 'begin call p(); end'", "unclear Unread may define", ""),
        ("do 'begin execute x; end'", "unclear Unread defines", "unclear Code defines"),
        ("do language plperl 'x'", "unclear Unread defines", "unclear Code defines"),
        ("select h()", "unclear Unread may define", "+Temporary? defines"),
        ("select s()", "unclear Unread may define", "+Lock? a.b? c.d?"),
        ("do 'begin perform s(); set e.f = 1; end'", "e.f? unclear Unread may define", "e.f? +Lock? a.b? c.d?"),
        ("do 'begin set e.f = 1; drop table w; end'", "e.f? unclear Unread +Temporary? may define", "e.f? +Temporary?"),
        (
            "create function f() returns int language sql as 'select 1'",
            "temporary? unclear Unread defines",
            "temporary? unclear Code defines",
        ),
        ("create table u (n int)", "temporary? unclear Unread defines", "temporary?"),
        ("create table u (n int default g())", "temporary? unclear Unread defines", "temporary? unclear Code defines"),
        ("create temp table u (n int)", "+Temporary() unclear Unread defines", "+Temporary()"),
        (
            "create view v as select setseed(1)",
            "temporary? +Seed() unclear Unread defines",
            "temporary? +Seed() defines",
        ),
        ("create extension e", "temporary? unclear Unread defines", "temporary? unclear Code defines"),
        ("analyze", "unclear Unread may define", "unclear Code"),
        ("drop table t", "?Temporary unclear Unread may define", "?Temporary unclear Code"),
        (
            "create schema s; select f()",
            "unclear Unread defines; unclear Unread may define",
            "defines; unclear Unread may define",
        ),
    ] {
        for (catalog, does_) in [(None, unknown), (Some(&catalog), known)] {
            assert_eq!(does_by(text, catalog), does_, "{text}");
            assert!(does_.is_empty() || may_do(text.as_bytes(), catalog), "{text}");
        }
    }
    let quiet = Catalog::of(Vec::new());
    assert!(!may_do(b"select f(1) from t", Some(&quiet)) && may_do(b"select f(1) from t", Some(&catalog)));
}

#[test]
fn parameters_are_read_by_the_code_of_their_types() {
    let mut draft = Draft::new(Vec::new());
    draft.reaches(vec![(Reached::Type(20_000), Danger::TOUCHES), (Reached::Type(20_001), Danger::ASKS)]);
    let catalog = draft.finish();
    for (types, unknown, known) in [
        (&[0, 25, 2249][..], "", ""),
        (&[25, 19_999], "unclear Unread may define", ""),
        (&[20_000], "unclear Unread may define", "unclear Code"),
        (&[20_000, 20_001], "unclear Unread may define", "unclear Code may ask"),
    ] {
        for (catalog, does_) in [(None, unknown), (Some(&catalog), known)] {
            let deeds = with_types(None, types.iter().copied(), catalog).unwrap_or_default();
            assert_eq!(deeds.iter().map(show).collect::<Vec<_>>().join(" "), does_, "{types:?}");
        }
    }
    let others =
        with_types(Some(Deeds::from_elem(Deed::Local(Name::default()), 1)), [20_000].into_iter(), Some(&catalog));
    assert_eq!(others.map(|deeds| deeds.len()), Some(2));
}

#[test]
fn whoever_writes_pg_settings_sets_one() {
    for (text, does_) in [
        ("update pg_settings set setting = 1", "unclear Setting"),
        ("with a as (select 1) update pg_settings set setting = 1", "unclear Setting"),
        ("explain analyze update pg_settings set setting = 1", "unclear Setting"),
        ("explain update pg_settings set setting = 1", ""),
        ("update U&\"pg!005fsettings\" uescape '!' set setting = 1", "unclear Setting"),
        ("create temp view v as table pg_settings", "+Temporary() unclear Setting defines"),
        ("select * from pg_settings", ""),
    ] {
        assert_eq!(does(text), does_, "{text}");
        assert!(does_.is_empty() || may_do(text.as_bytes(), Some(&Catalog::default())), "{text}");
    }
}

/// A stack far smaller than a worker's; and what took longer with the square of the length would take minutes.
#[test]
fn no_text_is_too_deep_nor_too_dear() {
    let nested = |before: &str, within: &str, behind: &str| {
        let times = 256 * 1024 / (before.len() + behind.len());
        [before.repeat(times), within.into(), behind.repeat(times)].concat()
    };
    let texts = [
        ("set_config", format!("select {}", nested("set_config('a',", "'x'", ",false)"))),
        ("calls", format!("select {}", nested("f(", "1", ")"))),
        ("brackets", format!("select {}", nested("(", "1", ")"))),
        ("queries", format!("select {}", nested("(select ", "1", ")"))),
        ("with", nested("with a as (", "select 1", ") select 1")),
        ("case", format!("select {}", nested("case when true then ", "1", " end"))),
        ("explain", nested("explain ", "select 1", "")),
        ("explain options", nested("explain (a) ", "select 1", "")),
        ("prepare", nested("prepare a as ", "select f()", "")),
        ("comments", format!("{} select 1", nested("/*", "", "*/"))),
        ("arrays", format!("select {}", nested("array[", "1", "]"))),
        ("bodies", format!("create function f() returns int {}", nested("begin atomic ", "select 1;", " end"))),
        ("schemas", nested("create schema a ", "", "")),
        ("cursors", nested("declare c cursor for ", "select 1", "")),
        ("copies", nested("copy (", "select 1", ") to stdout")),
        ("code", format!("do $$begin {} end$$", nested("if f(", "", ") then set a.b = 1; end if;"))),
        ("dynamic", format!("do $$begin {} end$$", nested("execute ", "'select 1';", ""))),
        ("strings", format!("select {}", nested("'", "x", "'"))),
        ("not", format!("select {}", nested("not ", "true", ""))),
        ("letters", format!("do $$ {} $$", nested("e", "", ""))),
        ("settings in code", format!("do $$begin perform {}; end$$", nested("set_config('a',", "'x'", ",false)"))),
        ("dots", format!("select {}", nested("a.", "a", ""))),
        ("words", format!("select {}", nested("a ", "", ""))),
        ("blanks", format!("select {}", nested(" ", "f()", ""))),
        ("lines", format!("select {}", nested("_", "f()", ""))),
        ("statements", nested("set a.b = 1;", "", "")),
        ("numbers", format!("select {}", nested("nextval(", "1", ")"))),
        ("locks", format!("select {}", nested("pg_advisory_lock(", "1", ")"))),
        ("names", nested("prepare a as select 1;", "", "")),
        ("lists", format!("set a.b = {}", nested("x,", "x", ""))),
        ("quotes", format!("select \"{}\"", nested("\"\"", "", ""))),
        ("escapes", format!("select E'{}'", nested("\\'", "", ""))),
        ("unicode", format!("select U&'{}' uescape '!'", nested("!0041", "", ""))),
        ("dollars", format!("select {}", nested("$a$ $b", "", "$"))),
        ("unclosed", format!("select {}", nested("$a$", "", "$b$"))),
        ("operators", format!("select 1 {} 1", nested("+-/ *", "", ""))),
        ("minus", format!("select {} 1", nested("-+", "", ""))),
    ];
    for (what, text) in texts {
        let read = move || {
            let body = Function {
                name: (*b"f").into(),
                language: "sql".into(),
                body: Some(text.as_bytes().into()),
                ..<_>::default()
            };
            let catalog = Catalog::of(vec![body]);
            for catalog in [None, Some(&Catalog::default()), Some(&catalog)] {
                of_text(text.as_bytes(), Dialect::default(), catalog);
            }
        };
        let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(read).expect("a thread");
        assert!(thread.join().is_ok(), "{what}");
    }
}
