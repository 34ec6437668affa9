//! A table per kind of statement. A statement is written in short: its kind with what it says, then its effects.

mod calls;
mod split;

use super::*;
use crate::sql::Source;

const UTF8: Dialect = Dialect { standard_conforming_strings: true, encoding: super::super::source::Encoding::Utf8 };

fn only(text: &str) -> Statement {
    let script = Script::of(text.as_bytes(), UTF8);
    assert_eq!(script.statements.len(), 1, "{text}");
    script.statements[0].clone()
}

/// The kind, spans replaced by what stands there.
fn said(text: &str) -> String {
    kind_of(&only(text).kind, Source::new(text.as_bytes(), UTF8))
}

fn kind_of(kind: &Kind, source: Source<'_>) -> String {
    let name = |span: Span| String::from_utf8_lossy(&source.last_part(span).unwrap_or_default()).into_owned();
    let text = |span: Span| String::from_utf8_lossy(&source.string(span).unwrap_or_default()).into_owned();
    match kind {
        Kind::RollbackTo(span) => format!("RollbackTo {}", name(*span)),
        Kind::Savepoint(span) => format!("Savepoint {}", name(*span)),
        Kind::Release(span) => format!("Release {}", name(*span)),
        Kind::Set(set) => setting(*set, source),
        Kind::Reset(which) => format!("Reset {}", setting_name(*which, source)),
        Kind::Show(which) => format!("Show {}", setting_name(*which, source)),
        Kind::Prepare { name: of, body } => {
            format!("Prepare {}: {}", name(*of), String::from_utf8_lossy(source.raw(*body)))
        }
        Kind::Execute(span) => format!("Execute {}", name(*span)),
        Kind::Deallocate(span) => format!("Deallocate {}", name(*span)),
        Kind::Declare { name: of, hold } => format!("Declare {} hold={hold}", name(*of)),
        Kind::Close(span) => format!("Close {}", name(*span)),
        Kind::Fetch(span) => format!("Fetch {}", name(*span)),
        Kind::Move(span) => format!("Move {}", name(*span)),
        Kind::Listen(span) => format!("Listen {}", name(*span)),
        Kind::Unlisten(span) => format!("Unlisten {}", name(*span)),
        Kind::Notify(channel, payload) => format!("Notify {} {:?}", name(*channel), payload.map(text)),
        Kind::Do { body, language } => {
            let language = language.map(|span| source.string(span).or_else(|| source.last_part(span)));
            let language = language.flatten().map(|name| String::from_utf8_lossy(&name).into_owned());
            format!("Do {} {language:?}", text(*body))
        }
        Kind::Explain { analyze, inner } => format!("Explain {analyze} {}", kind_of(inner, source)),
        other => format!("{other:?}"),
    }
}

fn setting(set: Setting, source: Source<'_>) -> String {
    let value = match set.value {
        Value::Interval(span) => format!("<{}>", String::from_utf8_lossy(source.raw(span))),
        Value::List(_) => {
            let items = set.value.items(source).expect("readable");
            let quote = |item: &Item<'_>| if item.quoted { "'" } else { "" };
            let show = |item: &Item<'_>| format!("{0}{1}{0}", quote(item), String::from_utf8_lossy(&item.value));
            items.iter().map(show).collect::<Vec<_>>().join("|")
        }
        other => format!("{other:?}"),
    };
    let local = if set.local { "local " } else { "" };
    format!("Set {local}{} {value}", setting_name(set.name, source))
}

fn setting_name(name: SettingName, source: Source<'_>) -> String {
    String::from_utf8_lossy(&name.name(source).expect("readable")).into_owned()
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    for (text, kind) in rows {
        assert_eq!(said(text), *kind, "{text}");
        let understood = !only(text).effects.has(Effects::UNSURE);
        assert_eq!(understood, *kind != "Unknown", "{text}");
    }
}

#[test]
fn transactions() {
    let plain = "Modes { isolation: None, read_only: None, deferrable: None }";
    let begin = format!("Begin({plain})");
    let full = "Begin(Modes { isolation: Some(Serializable), read_only: Some(true), deferrable: Some(false) })";
    check(&[
        ("begin", &begin),
        ("BEGIN work", &begin),
        ("start transaction", &begin),
        ("begin transaction isolation level serializable, read only not deferrable", full),
        (
            "start transaction isolation level repeatable read",
            "Begin(Modes { isolation: Some(RepeatableRead), read_only: None, deferrable: None })",
        ),
        ("begin read write", "Begin(Modes { isolation: None, read_only: Some(false), deferrable: None })"),
        ("commit", "Commit(false)"),
        ("end work and no chain", "Commit(false)"),
        ("commit and chain", "Commit(true)"),
        ("commit prepared 'x'", "CommitPrepared"),
        ("rollback", "Rollback(false)"),
        ("abort transaction and chain", "Rollback(true)"),
        ("rollback to a", "RollbackTo a"),
        ("rollback work to savepoint \"B\"", "RollbackTo B"),
        ("rollback to savepoint", "RollbackTo savepoint"),
        ("rollback prepared 'x'", "RollbackPrepared"),
        ("savepoint SP", "Savepoint sp"),
        ("release sp", "Release sp"),
        ("release savepoint sp", "Release sp"),
        ("prepare transaction 'x'", "PrepareTransaction"),
        (
            "set transaction read only",
            &format!("SetTransaction({}, false)", plain.replace("read_only: None", "read_only: Some(true)")),
        ),
        ("set local transaction snapshot 'x'", &format!("SetTransaction({plain}, true)")),
        (
            "set session characteristics as transaction deferrable",
            &format!("SetCharacteristics({})", plain.replace("deferrable: None", "deferrable: Some(true)")),
        ),
        ("set constraints all deferred", "SetConstraints"),
        ("set constraints a, b.c immediate", "SetConstraints"),
    ]);
}

#[test]
fn settings() {
    check(&[
        ("set work_mem = '4MB'", "Set work_mem '4MB'"),
        ("SET Work_Mem TO 4096", "Set work_mem 4096"),
        ("set session search_path = a, \"B\", 'c d', pg_temp", "Set search_path a|B|'c d'|pg_temp"),
        ("set local app.tenant to 'x''y'", "Set local app.tenant 'x'y'"),
        ("set \"App\".Tenant.id = 1", "Set app.tenant.id 1"),
        ("set x = -1.5, +2, off, true, on", "Set x -1.5|2|off|true|on"),
        ("set x = E'a\\n', U&'d!0061' uescape '!', $$b$$", "Set x 'a\n'|'da'|'b'"),
        ("set x = default", "Set x Default"),
        ("set x from current", "Set x Current"),
        ("set seed = 0.5", "Set seed 0.5"),
        ("set time zone 'UTC'", "Set timezone 'UTC'"),
        ("set local time zone -8", "Set local timezone -8"),
        ("set time zone local", "Set timezone Default"),
        ("set time zone default", "Set timezone Default"),
        ("set time zone Europe", "Set timezone europe"),
        ("set time zone interval '-08:00' hour to minute", "Set timezone <interval '-08:00' hour to minute>"),
        ("set session time zone interval(3) '1'", "Set timezone <interval(3) '1'>"),
        ("set timezone to 'UTC'", "Set timezone 'UTC'"),
        ("set time = 1", "Set time 1"),
        ("set schema 'x'", "Set search_path 'x'"),
        ("set names", "Set client_encoding Default"),
        ("set names 'latin1'", "Set client_encoding 'latin1'"),
        ("set names default", "Set client_encoding Default"),
        ("set role Admin", "Set role admin"),
        ("set local role 'Admin'", "Set local role 'Admin'"),
        ("set session role none", "Set role none"),
        ("set role to x", "Set role x"),
        ("set session authorization \"X\"", "Set session_authorization X"),
        ("set local session authorization 'x'", "Set local session_authorization 'x'"),
        ("set session session authorization default", "Set session_authorization Default"),
        ("set xml option document", "Set xmloption document"),
        ("set session.x = 1", "Set session.x 1"),
        ("set local = 1", "Set local 1"),
        ("reset all", "ResetAll"),
        ("reset a.B", "Reset a.b"),
        ("reset role", "Reset role"),
        ("reset session authorization", "Reset session_authorization"),
        ("reset time zone", "Reset timezone"),
        ("reset transaction isolation level", "Reset transaction_isolation"),
        ("show all", "ShowAll"),
        ("show transaction isolation level", "Show transaction_isolation"),
        ("show Search_Path", "Show search_path"),
        ("show time zone", "Show timezone"),
    ]);
}

#[test]
fn what_belongs_to_a_session() {
    check(&[
        ("prepare P as select 1", "Prepare p: select 1"),
        ("prepare p(int, text) as insert into t values ($1, $2)", "Prepare p: insert into t values ($1, $2)"),
        ("execute p", "Execute p"),
        ("execute \"P\"(1, now())", "Execute P"),
        ("deallocate p", "Deallocate p"),
        ("deallocate prepare p", "Deallocate p"),
        ("deallocate prepare", "Deallocate prepare"),
        ("deallocate all", "DeallocateAll"),
        ("deallocate prepare all", "DeallocateAll"),
        ("declare c cursor for select 1", "Declare c hold=false"),
        ("declare c binary no scroll insensitive cursor with hold for select 1", "Declare c hold=true"),
        ("declare c cursor without hold for values (1)", "Declare c hold=false"),
        ("close c", "Close c"),
        ("close all", "CloseAll"),
        ("fetch c", "Fetch c"),
        ("fetch forward 10 from c", "Fetch c"),
        ("fetch next in \"C\"", "Fetch C"),
        ("fetch all c", "Fetch c"),
        ("move absolute -1 in c", "Move c"),
        ("listen Ch", "Listen ch"),
        ("unlisten \"Ch\"", "Unlisten Ch"),
        ("unlisten *", "UnlistenAll"),
        ("notify ch", "Notify ch None"),
        ("notify ch, 'x''y'", "Notify ch Some(\"x'y\")"),
        ("discard all", "Discard(All)"),
        ("discard temporary", "Discard(Temp)"),
        ("discard temp", "Discard(Temp)"),
        ("discard plans", "Discard(Plans)"),
        ("discard sequences", "Discard(Sequences)"),
        ("load 'auto_explain'", "Load"),
        ("do $$begin end$$", "Do begin end None"),
        ("do language \"plpgsql\" 'x'", "Do x Some(\"plpgsql\")"),
        ("do 'x' language 'plperl'", "Do x Some(\"plperl\")"),
    ]);
}

#[test]
fn data() {
    let copy = |from: bool, place: &str| format!("Copy(Copy {{ from: {from}, place: {place} }})");
    check(&[
        ("select 1", "Query"),
        ("((select 1) union select 2)", "Query"),
        ("values (1)", "Query"),
        ("table t", "Query"),
        ("(table t)", "Query"),
        ("insert into t values (1)", "Insert"),
        ("update t set a = 1", "Update"),
        ("delete from t", "Delete"),
        ("merge into t using s on true when matched then delete", "Merge"),
        ("with a as (select 1) select * from a", "Query"),
        ("with a as (select 1) (select * from a)", "Query"),
        (
            "with recursive a(n) as not materialized (select (1)), insert as materialized (select 2) insert into t table a",
            "Insert",
        ),
        ("with a as (select 1) search depth first by x, y set z delete from t", "Delete"),
        ("with a as (select 1) cycle x set y to 1 default 0 using z, b as (select 2) update t set a = 1", "Update"),
        ("with a as (select 1) merge into t using a on true when matched then do nothing", "Merge"),
        ("select 1 into t", "SelectInto(false)"),
        ("select 1 into temp t", "SelectInto(true)"),
        ("select 1 into local temporary table t", "SelectInto(true)"),
        ("select 1 into pg_temp.t", "SelectInto(true)"),
        ("(select f(1) insert into t)", "SelectInto(false)"),
        ("select insert into temp t from x", "SelectInto(true)"),
        ("select 1 as into", "Query"),
        ("select t.into from t", "Query"),
        ("copy t from stdin", &copy(true, "Client")),
        ("copy a.t (b, c) to stdout with (format csv)", &copy(false, "Client")),
        ("copy binary t from 'f'", &copy(true, "File")),
        ("copy (select ')') to program 'x'", &copy(false, "Program")),
        ("call p(1)", "Call"),
        ("lock t", "Lock"),
        ("explain select 1", "Explain false Query"),
        ("explain analyze verbose insert into t values (1)", "Explain true Insert"),
        ("explain (analyze, buffers) select 1 into temp t", "Explain true SelectInto(true)"),
        ("explain (\"analyze\", \"into\") select 1", "Explain true Query"),
        ("explain (U&\"\\0061nalyze\") select 1", "Explain true Query"),
        ("explain (\"into\" verbose) select 1", "Explain false Query"),
        ("explain (analyze off) select 1", "Explain false Query"),
        ("explain (analyze 0, costs off) execute p", "Explain false Execute p"),
        ("explain (analyze 'false', analyze true) delete from t", "Explain true Delete"),
        ("explain (verbose, format json) (select 1)", "Explain false Query"),
        ("explain (select 1)", "Explain false Query"),
        ("explain verbose with a as (select 1) update t set x = 1", "Explain false Update"),
    ]);
}

#[test]
fn objects() {
    let create = |object: &str, temp: &str, query: bool| {
        format!("Create(Create {{ object: {object}, temp: {temp}, query: {query}, executes: None }})")
    };
    check(&[
        ("create table t (a int)", &create("Table", "No", false)),
        ("create unlogged table if not exists t (a int)", &create("Table", "No", false)),
        ("create temp table t (a int)", &create("Table", "Session", false)),
        ("create local temporary table t (a int) on commit drop", &create("Table", "Transaction", false)),
        ("create global temp table t (a int) on commit delete rows", &create("Table", "Session", false)),
        ("create table pg_temp.t (a int)", &create("Table", "Session", false)),
        ("create table \"pg_temp\".t (a int) on commit drop", &create("Table", "Transaction", false)),
        ("create temp table t as select 1", &create("Table", "Session", true)),
        ("create temp table t on commit drop as with a as (select 1) table a", &create("Table", "Transaction", true)),
        (
            "create table t as execute p(1)",
            "Create(Create { object: Table, temp: No, query: true, executes: Some(Span { start: 26, end: 27 }) })",
        ),
        ("create or replace temp view v as select 1", &create("View", "Session", false)),
        ("create temporary recursive view v (n) as select 1", &create("View", "Session", false)),
        ("create temp sequence s", &create("Sequence", "Session", false)),
        ("create function pg_temp.f() returns int language sql as 'select 1'", &create("Routine", "Session", false)),
        ("create unique index concurrently i on t (a)", &create("Index", "No", false)),
        ("create materialized view v as select 1", &create("MaterializedView", "No", false)),
        ("create role r", &create("Role", "No", false)),
        ("create event trigger e on ddl_command_end execute function f()", &create("Trigger", "No", false)),
        ("create text search configuration c (copy = english)", &create("Other", "No", false)),
        ("drop table a, b cascade", "Drop(Table)"),
        ("drop database d", "Drop(Database)"),
        ("drop owned by r", "Drop(Other)"),
        ("alter table t add column b int", "Alter(Table)"),
        ("alter system set work_mem = 1", "Alter(System)"),
        ("alter user u set work_mem = 1", "Alter(Role)"),
        ("truncate t", "Truncate"),
        ("grant select on t to r", "OtherDdl"),
        ("comment on table t is 'x'", "OtherDdl"),
        ("refresh materialized view v", "Refresh"),
        ("vacuum full t", "Vacuum"),
        ("analyze t", "Analyze"),
        ("cluster", "Cluster"),
        ("reindex table concurrently t", "Reindex"),
        ("checkpoint", "Checkpoint"),
    ]);
}

#[test]
fn what_is_not_understood_is_unknown() {
    for text in [
        "foo",
        "1",
        "\"select\" 1",
        "(insert into t values (1))",
        "with a as (select 1)",
        "with a as select 1 select 2",
        "set",
        "set x",
        "set x =",
        "set transaction",
        "set x = (1)",
        "set x = a b",
        "reset",
        "begin foo",
        "begin read only,",
        "commit now",
        "rollback to",
        "prepare p",
        "declare c for select 1",
        "listen",
        "notify a, b",
        "discard everything",
        "deallocate",
        "do",
        "do 1",
        "fetch",
        "copy t",
        "copy t from",
        "explain explain select 1",
        "explain foo",
        "create",
        "create foo",
        "set constraints a",
        "release a b",
        "commit prepared x",
        "unlisten a b",
        "load x",
    ] {
        let statement = only(text);
        assert!(statement.effects.has(Effects::UNSURE), "{text}: {statement:?}");
    }
}

#[test]
fn effects() {
    use Effects as E;
    let ddl = E::WRITES | E::DDL;
    for (text, effects) in [
        ("select 1", E::CANCELLABLE),
        ("select 1 for update", E::LOCKS | E::CANCELLABLE),
        ("select * from (select 1 from t for no key update) x", E::LOCKS | E::CANCELLABLE),
        ("with a as (insert into t values (1) returning *) select * from a", E::WRITES | E::CANCELLABLE),
        ("with a as (with b as (select 1) delete from t) select 1", E::WRITES | E::CANCELLABLE),
        ("with a as not materialized (update only t set a = 1) select 1", E::WRITES | E::CANCELLABLE),
        ("select insert, delete, update from t", E::CANCELLABLE),
        ("select (update), (delete) from t", E::CANCELLABLE),
        ("select 1 into temp t", ddl | E::SESSION | E::TEMPORARY | E::CANCELLABLE),
        ("select * from pg_temp.t", E::TEMPORARY | E::CANCELLABLE),
        ("explain delete from t", E::CANCELLABLE),
        ("explain with a as (delete from t) select 1", E::CANCELLABLE),
        ("explain analyze delete from t", E::WRITES | E::CANCELLABLE),
        ("explain analyze with a as (delete from t) select 1", E::WRITES | E::CANCELLABLE),
        ("insert into t values (1)", E::WRITES | E::CANCELLABLE),
        ("commit", E::ENDS),
        ("rollback and chain", E::ENDS | E::BEGINS),
        ("commit prepared 'x'", E::NO_BLOCK | E::WRITES),
        ("copy t to stdout", E::CANCELLABLE),
        ("copy t to 'f'", E::CANCELLABLE | E::WRITES),
        ("copy (delete from t returning *) to stdout", E::CANCELLABLE | E::WRITES),
        ("copy t from stdin", E::CANCELLABLE | E::WRITES),
        ("vacuum", E::NO_BLOCK | E::WRITES),
        ("create index concurrently i on t (a)", ddl | E::NO_BLOCK),
        ("create index i on t (a)", ddl),
        ("drop index concurrently i", ddl | E::NO_BLOCK),
        ("create database d", ddl | E::NO_BLOCK),
        ("alter database d set work_mem = 1", ddl),
        ("alter database d set tablespace x", ddl | E::NO_BLOCK),
        ("alter table t detach partition p concurrently", ddl | E::NO_BLOCK),
        ("alter system reset all", ddl | E::NO_BLOCK),
        ("create tablespace x location ''", ddl | E::NO_BLOCK),
        ("create subscription s connection '' publication p", ddl | E::MAYBE_NO_BLOCK),
        ("cluster t", ddl | E::MAYBE_NO_BLOCK),
        ("reindex table concurrently t", ddl | E::MAYBE_NO_BLOCK | E::NO_BLOCK),
        ("discard all", E::SESSION | E::NO_BLOCK),
        ("discard plans", E::SESSION),
        ("create temp table t (a int) on commit drop", ddl | E::SESSION | E::TEMPORARY),
        ("do 'x'", E::CODE | E::WRITES | E::MAYBE_NO_BLOCK | E::CANCELLABLE),
        ("call p()", E::ELSEWHERE | E::WRITES | E::MAYBE_NO_BLOCK | E::CANCELLABLE),
        ("execute p", E::SESSION | E::ELSEWHERE | E::CANCELLABLE),
        ("prepare p as delete from t", E::SESSION),
        ("set a = 1", E::SESSION),
        ("notify a", E::WRITES),
        ("frobnicate", E::UNSURE),
        ("select 1INTO t", ddl | E::UNSURE | E::CANCELLABLE),
    ] {
        assert_eq!(only(text).effects, effects, "{text}");
    }
}
