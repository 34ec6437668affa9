//! psql: what it prints through the pooler is what it prints without.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{directly_and_pooled, two_servers};
use crate::support::programs::{finish, psql, run};
use crate::support::{Database, wait_until};

/// Errors do not end the script, and are compared as well.
fn run_script(dsn: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/drivers/psql.sql");
    let mut command = psql(dsn);
    command.args(["-a", "-v", "ON_ERROR_STOP=0", "-v", "VERBOSITY=verbose", "-f"]).arg(script);
    let (success, stdout, stderr) = finish(&mut command);
    assert!(success, "{stdout}{stderr}");
    format!("{stdout}{stderr}")
}

#[test]
fn a_long_script_prints_the_same_through_the_pooler() {
    let direct = Database::create("psql_direct");
    let expected = run_script(&direct.direct_dsn());
    assert!(expected.contains("the end is reached"), "{expected}");

    let pooled = Database::create("psql_pooled");
    let pooler = two_servers(&pooled).start();
    assert_eq!(run_script(&pooler.app_dsn("app")), expected);
}

#[test]
fn scripts_run_side_by_side_over_two_servers() {
    let direct = Database::create("psql_alone");
    let expected = run_script(&direct.direct_dsn());

    // Their tables have the same names, so each has a database, and so a pool, of its own: the servers' total is shared.
    let databases: Vec<_> = (0..4).map(|n| Database::create(&format!("psql_side_{n}"))).collect();
    let mut config = two_servers(&direct);
    for database in &databases {
        config = config.database(&database.name, database);
    }
    let pooler = config.set("max_node_connections", "3").set("server_idle_timeout", "1").start();
    thread::scope(|scope| {
        for database in &databases {
            let dsn = pooler.app_dsn(&database.name);
            let expected = &expected;
            scope.spawn(move || assert_eq!(run_script(&dsn), *expected));
        }
    });
}

#[test]
fn ctrl_c_in_psql_cancels_the_query() {
    directly_and_pooled("psql_cancel", |dsn, database| {
        let mut command = psql(dsn);
        command.args(["-c", "SELECT pg_sleep(60)"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("psql is installed");
        let sleeping = "SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'";
        wait_until("the query to run", LIMIT, || database.sql(sleeping) == "1");
        kill_process(Pid::from_child(&child), Signal::INT).expect("our own child");
        let output = child.wait_with_output().expect("our own child");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("canceling statement due to user request"), "{stderr}");
        assert_eq!(database.sql(sleeping), "0");
    });
}

#[test]
fn psql_reads_the_console() {
    let database = Database::create("psql_console");
    let pooler = two_servers(&database).start();
    run(psql(&pooler.app_dsn("app")).args(["-c", "SELECT 1"]));
    let pools = run(psql(&pooler.console_dsn()).args(["-At", "-c", "SHOW POOLS"]));
    assert!(pools.lines().any(|row| row.starts_with("app|app|")), "{pools}");
}

const LIMIT: Duration = Duration::from_secs(20);
