//! What only the end of a session takes away: its client keeps the server, which is closed then, and nobody else sees it.

use std::time::Duration;

use super::{app, direct, rows, shown, trusting};
use crate::support::pooler::Pooler;
use crate::support::raw::{Raw, message, query};
use crate::support::{Database, wait_until};

fn asks(client: &mut Raw, text: &str) -> String {
    client.send(&query(text));
    let answer = shown(&client.until(b'Z'));
    assert!(!answer.contains('['), "{text}: {answer}");
    answer
}

fn pid(client: &mut Raw) -> String {
    rows(client, "SELECT pg_backend_pid()").concat().concat()
}

/// As a user who may replicate.
fn by_trust(pooler: &Pooler) -> Raw {
    Raw::trusted(pooler.port(), "by_trust", "app")
}

/// A database where `by_trust` may do all that replication does, and `app` may connect to itself.
fn database(label: &str) -> (Database, String) {
    let database = Database::create(label);
    let (origin, port, name) = (format!("{label}_origin"), database.port(), &database.name);
    database.sql(&format!(
        "LOCK pg_authid; ALTER ROLE by_trust REPLICATION;
        GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup(text), pg_backup_start(text, bool) TO by_trust;
        GRANT ALL ON SCHEMA public TO by_trust;
        SELECT pg_replication_origin_create('{origin}') WHERE '{origin}' NOT IN (SELECT roname FROM pg_replication_origin);
        CREATE EXTENSION dblink;
        CREATE FUNCTION connection() RETURNS text LANGUAGE sql
            AS $$SELECT 'host=127.0.0.1 port={port} user=app password=app dbname={name}'$$;
        CREATE FUNCTION connects(name text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
            EXECUTE 'SELECT dblink_connect($1, connection())' USING name; RETURN name; END$$;
        CREATE FUNCTION connects() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN dblink_connect(connection()); END$$;
        CREATE FUNCTION seeds() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM setseed(0.5); END$$;
        CREATE FUNCTION slots() RETURNS void LANGUAGE plpgsql AS $$BEGIN
            EXECUTE 'SELECT pg_create_physical_replication_slot(''{label}_e'', false, true)'; END$$;
        CREATE FUNCTION follows() RETURNS void LANGUAGE plpgsql AS $$BEGIN
            PERFORM pg_replication_origin_session_setup('{origin}'); END$$;
        CREATE FUNCTION calls_it() RETURNS void LANGUAGE sql AS $$SELECT follows()$$"
    ));
    (database, origin)
}

#[test]
fn a_server_with_what_nothing_undoes_is_its_clients_alone_and_then_closed() {
    let (database, origin) = database("lasting_ties");
    let pooler = trusting(&database, 2).user("by_trust", "trust-secret").set("server_round_robin", "true").start();
    let mut two = by_trust(&pooler);
    let setup = format!("SELECT pg_replication_origin_session_setup('{origin}')");
    for text in [
        &*setup,
        "SELECT follows()",
        "SELECT calls_it()",
        "DO $$BEGIN PERFORM follows(); END$$",
        "SELECT pg_create_physical_replication_slot('lasting_a', false, true)",
        "SELECT pg_create_physical_replication_slot('lasting_b', temporary => true)",
        "SELECT pg_backup_start('lasting', true)",
        "SELECT setseed(0.5)",
        "SELECT dblink_connect('c', connection())",
    ] {
        for end in ["", "DISCARD ALL"] {
            let mut one = by_trust(&pooler);
            asks(&mut one, text);
            let mine = if end.is_empty() { pid(&mut one) } else { String::new() };
            for _ in 0..3 {
                assert_ne!(pid(&mut two), mine, "{text}");
            }
            let mine = pid(&mut one);
            if end.is_empty() {
                one.cut()
            } else {
                drop(asks(&mut one, end))
            }
            let running = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {mine}");
            wait_until("it to be closed", Duration::from_secs(20), || {
                rows(&mut direct(&database), &running).concat() == ["0"]
            });
        }
    }
    drop(pooler);
    database.sql(&format!("SELECT pg_replication_origin_drop('{origin}')"));
}

#[test]
fn of_code_that_may_have_done_it_it_is_undone_where_it_can_be() {
    let (database, origin) = database("lasting_code");
    let pooler = trusting(&database, 1).user("by_trust", "trust-secret").start();
    let mut two = app(&pooler);
    for text in ["SELECT connects('c')", "SELECT connects(a) FROM unnest('{c,d}'::text[]) a", "SELECT connects()"] {
        for _ in 0..2 {
            asks(&mut app(&pooler), text);
            let seen = rows(
                &mut two,
                "SELECT dblink_get_connections() IS NULL, (SELECT count(*) FROM pg_stat_activity \
                WHERE query LIKE 'SELECT dblink%')",
            )
            .concat();
            assert_eq!(seen[0], "t", "{text}");
            let unnamed = query("SELECT dblink_exec('SELECT 1')");
            two.send(&unnamed);
            assert!(shown(&two.until(b'Z')).contains("08003"), "{text}: there is no connection");
        }
    }
    let mut past = direct(&database);
    asks(&mut past, "SELECT setseed(0.5)");
    let seeded = rows(&mut past, "SELECT random()");
    asks(&mut app(&pooler), "SELECT seeds()");
    assert_ne!(rows(&mut two, "SELECT random()"), seeded);
    drop(pooler);
    let pooler = trusting(&database, 1).user("by_trust", "trust-secret").start();
    asks(&mut by_trust(&pooler), "SELECT slots()");
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND active_pid = pg_backend_pid()";
    assert_eq!(rows(&mut by_trust(&pooler), slots).concat(), ["0"]);
    drop(pooler);
    database.sql(&format!("SELECT pg_replication_origin_drop('{origin}')"));
}

#[test]
fn a_function_call_of_the_protocol_leaves_no_seed() {
    let database = Database::create("lasting_call");
    let pooler = trusting(&database, 1).start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let mut past = direct(&database);
    asks(&mut past, "SELECT setseed(0.5)");
    let seeded = rows(&mut past, "SELECT random()");
    let setseed = 1599_u32.to_be_bytes();
    let arguments = [&setseed[..], b"\0\x01\0\x01\0\x01\0\0\0\x08", &0.5_f64.to_be_bytes(), b"\0\x01"].concat();
    one.send(&message(b'F', &arguments));
    assert_eq!(shown(&one.until(b'Z')), "VZ");
    assert_ne!(rows(&mut two, "SELECT random()"), seeded);
}
