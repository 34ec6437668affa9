//! pgbench in every protocol mode. Its balances must still agree in the end.

use std::fs;

use super::directly_and_pooled;
use crate::support::Database;
use crate::support::programs::{pgbench, run};

#[test]
fn pgbench_keeps_its_books_in_every_mode() {
    directly_and_pooled("pgbench", |dsn, database| {
        run(&mut pgbench(&["-i", "-q", "-s", "1"], dsn));
        for mode in ["simple", "extended", "prepared"] {
            transact(dsn, &["-M", mode]);
            transact(dsn, &["-M", mode, "-S"]);
        }
        books_agree(database, 3 * CLIENTS * TRANSACTIONS);
    });
}

#[test]
fn pgbench_connects_for_every_transaction() {
    directly_and_pooled("pgbench_reconnect", |dsn, database| {
        run(&mut pgbench(&["-i", "-q", "-s", "1"], dsn));
        run(&mut pgbench(&["-n", "-C", "-c", "4", "-j", "4", "-t", "25"], dsn));
        books_agree(database, 100);
    });
}

#[test]
fn pgbench_sends_pipelines() {
    let script = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(script.path(), PIPELINE).expect("a file of our own");
    directly_and_pooled("pgbench_pipeline", |dsn, database| {
        run(&mut pgbench(&["-i", "-q", "-s", "1"], dsn));
        for mode in ["extended", "prepared"] {
            transact(dsn, &["-M", mode, "-f", script.path().to_str().expect("UTF-8")]);
        }
        books_agree(database, 2 * CLIENTS * TRANSACTIONS);
    });
}

fn transact(dsn: &str, arguments: &[&str]) {
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
    // A thread each: pgbench prepares while it blocks its thread, and a thread that waits for a server would keep its
    // other clients, which hold the servers, from ever going on.
    let common = ["-n", "-c", &clients, "-j", &clients, "-t", &transactions];
    let output = run(&mut pgbench(&[&common, arguments].concat(), dsn));
    let done = format!("number of transactions actually processed: {0}/{0}", CLIENTS * TRANSACTIONS);
    assert!(output.contains(&done), "{output}");
}

/// Every transaction moved one sum in all three tables and noted it.
fn books_agree(database: &Database, transactions: u32) {
    let books = database.sql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),
                (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
                (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),
                (SELECT count(*) FROM pgbench_history)",
    );
    assert_eq!(books, format!("t|t|t|{transactions}"));
}

const CLIENTS: u32 = 8;
const TRANSACTIONS: u32 = 100;

/// pgbench's own transaction, all of it under way at once.
const PIPELINE: &str = r"
\set aid random(1, 100000)
\set tid random(1, 10)
\set delta random(-5000, 5000)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, 1, :aid, :delta, now());
COMMIT;
\endpipeline
";
