//! Unnamed statements that come again and again: prepared once on each server, and nobody can tell.

use std::time::Duration;

use super::{app, direct, rows, shown, trusting, values};
use crate::support::Database;
use crate::support::raw::{Message, Raw, bind, execute, message, parse, query, sync, target};
use crate::support::wait::wait_until;

/// As drivers send a statement without a name.
fn batch(sql: &str, parameters: &[&str]) -> Vec<u8> {
    let parameters: Vec<&[u8]> = parameters.iter().map(|value| value.as_bytes()).collect();
    [parse("", sql), bind("", "", &parameters), target(b'D', b'P', ""), execute("", 0), sync()].concat()
}

fn asks(client: &mut Raw, bytes: &[u8]) -> Vec<Message> {
    client.send(bytes);
    client.until(b'Z')
}

fn said(client: &mut Raw, bytes: &[u8]) -> String {
    shown(&asks(client, bytes))
}

/// The first row of the answer.
fn row(client: &mut Raw, sql: &str, parameters: &[&str]) -> Vec<String> {
    let answer = asks(client, &batch(sql, parameters));
    answer.iter().find(|message| message.tag == b'D').map(values).unwrap_or_else(|| vec![shown(&answer)])
}

/// What of ours the server has prepared, from the client's side.
fn prepared(client: &mut Raw) -> Vec<String> {
    let all = "SELECT statement FROM pg_prepared_statements WHERE NOT from_sql ORDER BY statement";
    rows(client, all).concat()
}

fn items(label: &str) -> Database {
    let database = Database::create(label);
    database.sql(
        "CREATE TABLE item (id int, name text); INSERT INTO item VALUES (1, 'one'), (2, 'two'); \
        GRANT ALL ON item TO PUBLIC; GRANT ALL ON SCHEMA public TO app",
    );
    database
}

const BY_ID: &str = "SELECT name FROM item WHERE id = $1";

#[test]
fn it_is_prepared_the_second_time_and_answers_as_ever() {
    let database = items("recurring");
    let pooler = trusting(&database, 1).start();
    let (mut one, mut two, mut own) = (app(&pooler), app(&pooler), direct(&database));
    for round in 0..4 {
        for client in [&mut one, &mut two] {
            for id in ["1", "2", "3"] {
                let answer = asks(client, &batch(BY_ID, &[id]));
                let expected = asks(&mut own, &batch(BY_ID, &[id]));
                let bytes = |answer: &[Message]| answer.iter().map(|it| it.body.clone()).collect::<Vec<_>>();
                assert_eq!((shown(&answer), bytes(&answer)), (shown(&expected), bytes(&expected)), "{round}");
            }
        }
        assert_eq!(prepared(&mut app(&pooler)), [BY_ID]);
    }
    // The unnamed statement is the client's for as long as on a connection of its own.
    let again = [bind("", "", &[b"2"]), execute("", 0), sync()].concat();
    assert_eq!([said(&mut one, &again), said(&mut own, &again)], ["2DCZ", "2DCZ"]);
    assert_eq!(said(&mut one, &[parse("", "SELECT 1"), sync()].concat()), "1Z");
    assert_eq!(said(&mut one, &[bind("", "", &[]), execute("", 0), sync()].concat()), "2DCZ");
}

#[test]
fn what_may_say_something_else_tomorrow_or_is_no_batch_goes_as_it_is() {
    let database = items("recurring_not");
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    let named = [parse("", BY_ID), bind("p", "", &[b"1"]), execute("p", 0), sync()].concat();
    let two = [batch(BY_ID, &["1"]), batch(BY_ID, &["2"])].concat();
    for _ in 0..4 {
        assert_eq!(row(&mut client, "SELECT 'today'::date = current_date", &[]), ["t"]);
        assert_eq!(said(&mut client, &named), "12DCZ");
        client.send(&two);
        assert_eq!([(); 2].map(|()| shown(&client.until(b'Z'))), ["12TDCZ", "12TDCZ"]);
        assert_eq!(said(&mut client, &batch("SET work_mem = 4096", &[])), "12nCZ");
        said(&mut client, &query("BEGIN"));
        assert_eq!(row(&mut client, BY_ID, &["1"]), ["one"]);
        said(&mut client, &query("COMMIT"));
    }
    assert_eq!(prepared(&mut client), [""; 0]);
    drop(pooler);
    let pooler = trusting(&database, 1).set("cache_unnamed_statements", "false").start();
    let mut client = app(&pooler);
    (0..4).for_each(|_| assert_eq!(row(&mut client, BY_ID, &["1"]), ["one"]));
    assert_eq!(prepared(&mut client), [""; 0]);
}

#[test]
fn definitions_may_change_past_the_pooler() {
    let database = items("recurring_altered");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut own) = (app(&pooler), direct(&database));
    let all = "SELECT * FROM item WHERE id = $1";
    for (change, id) in [
        ("", "1"),
        ("ALTER TABLE item ALTER id TYPE bigint; INSERT INTO item VALUES (3000000000, NULL)", "3000000000"),
        ("ALTER TABLE item ADD more text DEFAULT 'x'", "1"),
        ("ALTER TABLE item DROP name", "1"),
        ("ALTER TABLE item RENAME id TO key", "1"),
        ("ALTER TABLE item RENAME key TO id", "1"),
        (
            "DROP TABLE item; CREATE TABLE item (id text, other text); GRANT ALL ON item TO PUBLIC; \
            INSERT INTO item VALUES ('1', 'new')",
            "1",
        ),
        ("REVOKE ALL ON item FROM PUBLIC", "1"),
        ("GRANT ALL ON item TO PUBLIC", "1"),
        ("DROP TABLE item", "1"),
    ] {
        if !change.is_empty() {
            database.sql(change);
        }
        for _ in 0..3 {
            let (mine, its) = (said(&mut client, &batch(all, &[id])), said(&mut own, &batch(all, &[id])));
            assert_eq!(mine, its, "{change}");
            assert_eq!(row(&mut client, all, &[id]), row(&mut own, all, &[id]), "{change}");
        }
        assert_eq!(row(&mut client, "SELECT count(*)", &[]), ["1"], "{change}");
    }
}

#[test]
fn a_mistake_in_a_value_is_told_once_and_costs_nothing_else() {
    let database = items("recurring_mistakes");
    let pooler = trusting(&database, 1).start();
    let (mut client, mut own) = (app(&pooler), direct(&database));
    for (sql, value) in [(BY_ID, "x"), (BY_ID, "99999999999"), ("SELECT $1::int / 0", "1"), ("SELECT nothing($1)", "1")]
    {
        for _ in 0..4 {
            let answers = [said(&mut client, &batch(sql, &[value])), said(&mut own, &batch(sql, &[value]))];
            assert_eq!(answers[0], answers[1], "{sql} {value}");
            assert_eq!(row(&mut client, BY_ID, &["1"]), ["one"]);
        }
    }
    // Too many values, too few, and a request that the server can't read.
    let few = [parse("", BY_ID), bind("", "", &[]), execute("", 0), sync()].concat();
    let many = [parse("", BY_ID), bind("", "", &[b"1", b"2"]), execute("", 0), sync()].concat();
    let broken = [parse("", BY_ID), message(b'B', b"\0\0\0\0\0\x01"), execute("", 0), sync()].concat();
    for bytes in [few, many, broken] {
        for _ in 0..3 {
            assert_eq!(said(&mut client, &bytes), said(&mut own, &bytes));
            assert_eq!(row(&mut client, BY_ID, &["1"]), ["one"]);
        }
    }
}

#[test]
fn a_new_table_that_hides_the_old_one_is_read() {
    let database = items("recurring_hidden");
    let pooler = trusting(&database, 1).start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    said(&mut one, &query("CREATE SCHEMA early"));
    let path = query("SET search_path = early, public");
    for client in [&mut one, &mut two] {
        said(client, &path);
    }
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["one"]));
    said(&mut one, &query("BEGIN"));
    said(&mut one, &query("CREATE TABLE early.item AS SELECT 1 AS id, 'hides' AS name"));
    said(&mut one, &query("COMMIT"));
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["hides"]));
    said(&mut one, &[parse("", "DROP TABLE early.item"), bind("", "", &[]), execute("", 0), sync()].concat());
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["one"]));
    // What only this client has hides it for nobody else.
    said(&mut one, &query("CREATE TEMP TABLE item AS SELECT 1 AS id, 'mine' AS name"));
    (0..3).for_each(|_| assert_eq!(row(&mut one, BY_ID, &["1"]), ["mine"]));
    said(&mut one, &query("DISCARD ALL"));
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["one"]));
}

#[test]
fn what_is_computed_beforehand_is_computed_by_the_clients_own_settings() {
    let database = items("recurring_settings");
    // Its author has said IMMUTABLE, wrongly: on a connection of one's own that goes well.
    database.sql(
        "CREATE FUNCTION tenant() RETURNS text LANGUAGE sql IMMUTABLE AS \
        $$SELECT current_setting('app.tenant')$$; \
        CREATE FUNCTION zone() RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT current_setting('TimeZone')$$; \
        CREATE FUNCTION lives_in(text) RETURNS text LANGUAGE sql AS $$SELECT set_config('TimeZone', $1, false)$$",
    );
    let pooler = trusting(&database, 1).start();
    let mut clients = [("x", "Asia/Tokyo"), ("y", "Asia/Tehran")].map(|(tenant, zone)| {
        let mut client = app(&pooler);
        said(&mut client, &query(&format!("SELECT lives_in('{zone}')")));
        (client, tenant, zone)
    });
    // Before the first of them the server is given the client's settings, and it is not prepared.
    for (client, _, zone) in &mut clients {
        for _ in 0..8 {
            assert_eq!(row(client, "SELECT zone()", &[]), [*zone]);
        }
    }
    for (client, tenant, _) in &mut clients {
        said(client, &query(&format!("SET TimeZone = 'UTC'; SET app.tenant = '{tenant}'")));
    }
    for (client, tenant, _) in &mut clients {
        for _ in 0..8 {
            assert_eq!(row(client, "SELECT tenant() WHERE $1 = 1", &["1"]), [*tenant]);
        }
    }
}

#[test]
fn a_table_that_is_made_behind_another_request_hides_the_old_one_too() {
    let database = items("recurring_pipelined");
    let path = format!("ALTER DATABASE {} SET search_path = early, public", database.name);
    database.sql(&format!("CREATE SCHEMA early; GRANT ALL ON SCHEMA early TO PUBLIC; {path}"));
    database.sql("CREATE TABLE gate AS SELECT 1; GRANT ALL ON gate TO PUBLIC");
    let pooler = trusting(&database, 2).start();
    let (mut one, mut two, mut three) = (app(&pooler), app(&pooler), app(&pooler));
    let mut own = direct(&database);
    own.query("BEGIN");
    own.query("LOCK gate");
    let create = "CREATE TABLE early.item AS SELECT 1 AS id, 'hides'::text AS name FROM gate";
    one.send(&[query("SELECT 1"), query(create)].concat());
    one.until(b'Z');
    somebody_waits(&database);
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["one"]));
    assert_eq!(said(&mut two, &[parse("n", BY_ID), sync()].concat()), "1Z");
    own.query("COMMIT");
    one.until(b'Z');
    (0..3).for_each(|_| assert_eq!(row(&mut two, BY_ID, &["1"]), ["hides"]));
    said(&mut three, &[parse("n", BY_ID), sync()].concat());
    let bound = asks(&mut three, &[bind("", "n", &[b"1"]), execute("", 0), sync()].concat());
    assert_eq!(values(&bound[1]), ["hides"]);
}

/// PostgreSQL keeps the types of parameters that it has found for a statement, and what rows its role may see, for as long
/// as the statement is prepared.
#[test]
fn what_changes_past_the_pooler_is_noticed_soon() {
    let database = items("recurring_aged");
    database.sql(
        "CREATE TABLE at (moment date); GRANT ALL ON at TO PUBLIC; ALTER TABLE item ENABLE ROW LEVEL SECURITY; \
        CREATE ROLE recurring_seer; GRANT recurring_seer TO app; CREATE POLICY p ON item TO recurring_seer USING (true)",
    );
    let pooler = trusting(&database, 1).start();
    let mut client = app(&pooler);
    let insert = batch("INSERT INTO at VALUES ($1)", &["2026-11-28 12:34:56"]);
    (0..3).for_each(|_| assert_eq!(said(&mut client, &insert), "12nCZ"));
    (0..3).for_each(|_| assert_eq!(row(&mut client, BY_ID, &["1"]), ["one"]));
    database.sql("ALTER TABLE at ALTER moment TYPE timestamp");
    database.sql("REVOKE recurring_seer FROM app");
    let limit = Duration::from_secs(30);
    wait_until("the new type of a parameter", limit, || {
        assert_eq!(said(&mut client, &insert), "12nCZ");
        rows(&mut client, "SELECT max(moment) FROM at").concat() == ["2026-11-28 12:34:56"]
    });
    wait_until("the role to be gone", limit, || row(&mut client, BY_ID, &["1"]) == ["12TCZ"]);
    // Nothing of it stays behind.
    let ours = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql AND statement NOT LIKE '%pg_prepared%'";
    assert_eq!(rows(&mut client, ours).concat(), ["2"]);
    database.sql("DROP POLICY p ON item; DROP ROLE recurring_seer");
}

/// Until some backend of this database waits for a lock.
fn somebody_waits(database: &Database) {
    let mut own = direct(database);
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database \
        WHERE datname = current_database())";
    wait_until("a backend to wait for the lock", Duration::from_secs(30), || rows(&mut own, waiting).concat() == ["1"]);
}

/// A migration through the pooler, for which a statement that recurs waits: its table, and what functions there are.
#[test]
fn a_migration_costs_nobody_an_answer() {
    for sql in ["SELECT * FROM item WHERE id = $1", "UPDATE item SET name = name || '!' WHERE id = $1 RETURNING *"] {
        let sql = &sql.replace("'!'", "name");
        let database = items("recurring_migrated");
        database.sql("ALTER TABLE item OWNER TO app");
        let pooler = trusting(&database, 2).start();
        let (mut client, mut other, mut migrates) = (app(&pooler), app(&pooler), app(&pooler));
        // On both servers, where others were before.
        for _ in 0..2 {
            (0..3).for_each(|_| assert_eq!(said(&mut client, &batch(sql, &["2"])), "12TDCZ"));
            said(&mut other, &query("BEGIN"));
            (0..3).for_each(|_| assert_eq!(said(&mut client, &batch(sql, &["2"])), "12TDCZ"));
            said(&mut migrates, &query("BEGIN"));
            said(&mut other, &query("COMMIT"));
            said(&mut migrates, &query("COMMIT"));
        }
        said(&mut other, &query("BEGIN"));
        said(&mut migrates, &query("BEGIN"));
        said(&mut other, &query("COMMIT"));
        said(&mut migrates, &query("ALTER TABLE item ADD more text DEFAULT 'x'"));
        said(&mut migrates, &query("CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"));
        client.send(&batch(sql, &["1"]));
        somebody_waits(&database);
        client.send(&batch("SELECT 7", &[]));
        said(&mut migrates, &query("COMMIT"));
        let name = if sql.starts_with("SELECT") { "one" } else { "oneone" };
        let answers = [(); 2].map(|()| {
            let answer = client.until(b'Z');
            answer.iter().find(|message| message.tag == b'D').map(values).unwrap_or_else(|| vec![shown(&answer)])
        });
        assert_eq!(answers, [vec!["1".to_owned(), name.to_owned(), "x".to_owned()], vec!["7".to_owned()]], "{sql}");
        let stored = rows(&mut direct(&database), "SELECT name FROM item WHERE id = 1");
        assert_eq!(stored.concat(), [name], "it was carried out once");
    }
}
