//! Real drivers and programs, several connections of each over a pool of two servers.
//!
//! Each check runs against PostgreSQL itself first: if that fails, the check is wrong, not the pooler.

mod deadpool;
mod pgbench;
mod psql;
mod sequences;
mod tokio_postgres;

use crate::support::programs::{node, python, run};
use crate::support::{Database, PoolerConfig};

/// Gives `check` a DSN past the pooler and one through it, each with a fresh database.
fn directly_and_pooled(label: &str, check: impl Fn(&str, &Database)) {
    let direct = Database::create(&format!("{label}_direct"));
    check(&direct.direct_dsn(), &direct);

    let pooled = Database::create(&format!("{label}_pooled"));
    let pooler = two_servers(&pooled).start();
    check(&pooler.app_dsn("app"), &pooled);
}

/// Gives `check` a DSN through a pooler with a single server, and a fresh database.
fn shared_by_all(label: &str, check: impl Fn(&str)) {
    let database = Database::create(&format!("{label}_shared"));
    let pooler = two_servers(&database).set("default_pool_size", "1").start();
    check(&pooler.app_dsn("app"));
}

/// Fewer servers than clients, so that clients meet each other's servers all the time.
fn two_servers(database: &Database) -> PoolerConfig {
    PoolerConfig::new().database("app", database).set("default_pool_size", "2")
}

#[test]
fn psycopg_3_works() {
    directly_and_pooled("psycopg", |dsn, _| assert_eq!(run(&mut python("psycopg3.py", dsn)), "psycopg 3: ok\n"));
}

#[test]
fn asyncpg_works() {
    directly_and_pooled("asyncpg", |dsn, _| assert_eq!(run(&mut python("asyncpg_client.py", dsn)), "asyncpg: ok\n"));
}

#[test]
fn sqlalchemy_works() {
    let ok = "SQLAlchemy: ok\n";
    directly_and_pooled("sqlalchemy", |dsn, _| assert_eq!(run(&mut python("sqlalchemy_orm.py", dsn)), ok));
    shared_by_all("sqlalchemy", |dsn| assert_eq!(run(&mut python("sqlalchemy_orm.py", dsn)), ok));
}

#[test]
fn django_works() {
    directly_and_pooled("django", |dsn, _| assert_eq!(run(&mut python("django_orm.py", dsn)), "Django: ok\n"));
    shared_by_all("django", |dsn| assert_eq!(run(&mut python("django_orm.py", dsn)), "Django: ok\n"));
}

#[test]
fn node_postgres_works() {
    let ok = "node-postgres: ok\n";
    directly_and_pooled("node_postgres", |dsn, _| assert_eq!(run(&mut node("node_postgres.mjs", dsn)), ok));
}

#[test]
fn drivers_listen_while_others_have_the_only_server() {
    let check = |dsn: &str| {
        assert_eq!(run(&mut python("listening.py", dsn)), "listening: ok\n");
        assert_eq!(run(&mut node("listening.mjs", dsn)), "listening: ok\n");
    };
    check(&Database::create("listening_direct").direct_dsn());
    let pooled = Database::create("listening_pooled");
    let pooler = two_servers(&pooled).set("default_pool_size", "1").start();
    check(&pooler.app_dsn("app"));
}
