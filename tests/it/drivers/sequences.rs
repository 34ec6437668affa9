//! What drivers that are not run here send, message by message: pgx, PDO, JDBC, libpq's pipelines. Two clients over one
//! server, and over two from which each gets either: both read what they would read from PostgreSQL itself.

use std::thread;

use crate::support::raw::{
    FLUSH, Message, Raw, bind, execute, extended, message, parse, parse_with_types, query, sync, target,
};
use crate::support::{Database, PoolerConfig};

const SETUP: &str = "
    CREATE TABLE items (who text, n int, body text, PRIMARY KEY (who, n));
    CREATE SEQUENCE numbers;
    INSERT INTO items SELECT 'all', n, repeat('x', n) FROM generate_series(1, 5) n;
    GRANT ALL ON items, numbers TO PUBLIC";

const INT: u32 = 23;
const TEXT: u32 = 25;

/// One write of a driver, which is answered up to so many ReadyForQuery.
type Request = (Vec<u8>, usize);

fn synced(messages: &[Vec<u8>]) -> Request {
    ([messages.concat(), sync()].concat(), 1)
}

fn simple(sql: &str) -> Request {
    (query(sql), 1)
}

fn described(name: &str) -> Vec<u8> {
    target(b'D', b'S', name)
}

/// Bind, Describe and Execute of what is prepared.
fn run(statement: &str, values: &[&[u8]]) -> Vec<u8> {
    [bind("", statement, values), target(b'D', b'P', ""), execute("", 0)].concat()
}

fn run_unnamed(sql: &str, values: &[&[u8]]) -> Vec<u8> {
    [parse("", sql), run("", values)].concat()
}

/// pgx 5: a statement cache by name, batches, simple transactions, COPY, `Ping`.
fn pgx(me: &str) -> Vec<Request> {
    let (select, insert) = ("stmtcache_7f2a", "stmtcache_91bc");
    let me = me.as_bytes();
    let copied = [message(b'd', &[me, b"\t40\tcopied\n"].concat()), message(b'c', b"")].concat();
    vec![
        simple("-- ping"),
        synced(&[parse(select, "select n, body from items where who = $1 and n <= $2 order by n"), described(select)]),
        synced(&[run(select, &[b"all", b"2"])]),
        simple("begin"),
        synced(&[parse(insert, "insert into items values ($1, $2, $3)"), described(insert)]),
        synced(&[run(insert, &[me, b"1", b"one"])]),
        synced(&[run(insert, &[me, b"1", b"again"])]),
        synced(&[run(select, &[b"all", b"2"])]),
        simple("rollback"),
        synced(&[run(insert, &[me, b"1", b"one"]), run(insert, &[me, b"2", b"two"]), run(select, &[b"all", b"1"])]),
        // A batch of which the second fails takes the first with it.
        synced(&[run(insert, &[me, b"3", b"three"]), run(insert, &[me, b"1", b"again"]), run(select, &[b"all", b"1"])]),
        synced(&[parse("stmtcache_c1", "select count(*) from items where who = $1"), described("stmtcache_c1")]),
        synced(&[run("stmtcache_c1", &[me])]),
        synced(&[target(b'C', b'S', "stmtcache_c1")]),
        synced(&[run("stmtcache_c1", &[me])]),
        synced(&[run_unnamed("select $1::int + 1", &[b"41"])]),
        ([query("copy items from stdin"), copied].concat(), 1),
        simple("select set_config('app.tenant', 'pgx', false)"),
        synced(&[run_unnamed("select current_setting('app.tenant')", &[])]),
        synced(&[run(select, &[b"all", b"3"])]),
        simple(";"),
    ]
}

/// PDO over libpq: PQprepare, PQexecPrepared, DEALLOCATE in SQL, cursors, `lastInsertId()`.
fn pdo(me: &str) -> Vec<Request> {
    let prepare = |name: &str, sql: &str, types: &[u32]| synced(&[parse_with_types(name, sql, types)]);
    let me = me.as_bytes();
    let (first, second) = ("pdo_stmt_00000001", "pdo_stmt_00000002");
    vec![
        simple("SET NAMES 'UTF8'"),
        prepare(first, "SELECT body FROM items WHERE who = $1 AND n = $2", &[0, 0]),
        synced(&[run(first, &[b"all", b"3"])]),
        synced(&[run(first, &[b"all", b"4"])]),
        simple("BEGIN"),
        prepare(second, "INSERT INTO items VALUES ($1, $2 + 0 * nextval('numbers'), 'pdo')", &[TEXT, INT]),
        synced(&[run(second, &[me, b"7"])]),
        simple("SELECT LASTVAL() > 0"),
        simple("SAVEPOINT sp"),
        synced(&[run(second, &[me, b"7"])]),
        simple("ROLLBACK TO SAVEPOINT sp"),
        synced(&[run(second, &[me, b"8"])]),
        simple("COMMIT"),
        simple("DEALLOCATE pdo_stmt_00000001"),
        synced(&[run(first, &[b"all", b"3"])]),
        simple("DEALLOCATE pdo_stmt_00000001"),
        prepare(first, "SELECT count(*) FROM items WHERE who = $1", &[0]),
        synced(&[run(first, &[me])]),
        simple(
            "DECLARE pdo_crsr_00000003 SCROLL CURSOR WITH HOLD FOR SELECT n FROM items WHERE who = 'all' ORDER BY n",
        ),
        simple("FETCH NEXT FROM pdo_crsr_00000003"),
        simple("FETCH LAST FROM pdo_crsr_00000003"),
        simple("CLOSE pdo_crsr_00000003"),
        simple("DEALLOCATE pdo_stmt_00000002"),
        simple("DEALLOCATE pdo_stmt_00000001"),
    ]
}

/// JDBC: BEGIN in the same write, named from the fifth time on, portals with a fetch size, COMMIT prepared, too.
fn jdbc(me: &str) -> Vec<Request> {
    let me = me.as_bytes();
    let begin = extended("BEGIN");
    let select = "SELECT n FROM items WHERE who = $1 ORDER BY n";
    let fetch = |portal: &str, values: &[&[u8]]| {
        [bind(portal, "S_1", values), target(b'D', b'P', portal), execute(portal, 2)].concat()
    };
    vec![
        synced(&[extended("SET extra_float_digits = 3")]),
        synced(&[extended("SET application_name = 'PostgreSQL JDBC Driver'")]),
        synced(&[begin.clone(), run_unnamed(select, &[b"all"])]),
        synced(&[run_unnamed(select, &[b"all"])]),
        synced(&[parse("S_2", "COMMIT"), bind("", "S_2", &[]), execute("", 1)]),
        synced(&[begin.clone(), parse_with_types("S_1", select, &[TEXT]), fetch("C_1", &[b"all"])]),
        synced(&[execute("C_1", 2)]),
        synced(&[fetch("C_2", &[b"nobody"])]),
        synced(&[execute("C_1", 2), target(b'C', b'P', "C_1")]),
        synced(&[bind("", "S_2", &[]), execute("", 1)]),
        synced(&[begin.clone(), parse("S_3", "INSERT INTO items VALUES ($1, $2, NULL)"), run("S_3", &[me, b"20"])]),
        synced(&[run("S_3", &[me, b"21"]), run("S_3", &[me, b"22"])]),
        synced(&[run("S_3", &[me, b"no number"])]),
        synced(&[bind("", "S_2", &[]), execute("", 1)]),
        synced(&[parse("S_4", "ROLLBACK"), bind("", "S_4", &[]), execute("", 1)]),
        synced(&[begin, run("S_3", &[me, b"20"]), bind("", "S_2", &[]), execute("", 1)]),
        synced(&[target(b'C', b'S', "S_1"), run_unnamed("SHOW extra_float_digits", &[])]),
        synced(&[run_unnamed("SELECT count(*) FROM items WHERE who = $1", &[me])]),
    ]
}

/// libpq in pipeline mode: Flush where it wants answers, several Syncs in one write.
fn pipeline(me: &str) -> Vec<Request> {
    let me = me.as_bytes();
    let insert = |n: &[u8]| run("ins", &[me, n]);
    let prepare = [parse("ins", "INSERT INTO items VALUES ($1, $2, 'p') RETURNING n"), described("ins")].concat();
    let all = [prepare, sync(), insert(b"30"), FLUSH.to_vec(), insert(b"31"), sync()].concat();
    let failing = [insert(b"32"), insert(b"31"), insert(b"33"), sync(), insert(b"34"), sync()].concat();
    let block = [extended("BEGIN"), insert(b"35"), extended("SAVEPOINT a"), sync(), insert(b"35"), sync()].concat();
    vec![
        (all, 2),
        (failing, 2),
        (block, 2),
        synced(&[extended("ROLLBACK TO a"), insert(b"36"), extended("COMMIT")]),
        synced(&[target(b'C', b'S', "ins"), run_unnamed("SELECT count(*), max(n) FROM items WHERE who = $1", &[me])]),
    ]
}

/// What a client of this name sends.
type Script = fn(&str) -> Vec<Request>;

const DRIVERS: [(&str, Script); 4] = [("pgx", pgx), ("pdo", pdo), ("jdbc", jdbc), ("pipeline", pipeline)];

/// All that a driver looks at. Errors are told by PostgreSQL with places in its own source, which don't count.
fn answer(client: &mut Raw, (bytes, readies): &Request) -> Vec<(char, String)> {
    client.send(bytes);
    let said = |message: Message| {
        let text =
            if message.tag == b'E' { message.text() } else { format!("{:?}", String::from_utf8_lossy(&message.body)) };
        (char::from(message.tag), text)
    };
    let all = (0..*readies).flat_map(|_| client.until(b'Z'));
    // Tables have other numbers in another database; what a server reports of itself comes when it likes.
    let counts = |message: &Message| !matches!(message.tag, b'S' | b'N' | b'T');
    all.filter(counts).map(said).collect()
}

#[test]
fn drivers_read_what_postgresql_says() {
    let direct = Database::create("sequences_direct");
    let pooled = Database::create("sequences_pooled");
    [&direct, &pooled].into_iter().for_each(|database| drop(database.sql(SETUP)));
    let mut model = Vec::new();
    for (name, script) in DRIVERS {
        for who in ["one", "two"] {
            let mut client = Raw::trusted(direct.port(), "by_trust", &direct.name);
            let answers: Vec<_> =
                script(&format!("{name} {who}")).iter().map(|request| answer(&mut client, request)).collect();
            model.push(answers);
        }
    }
    for servers in [1, 1, 2, 2, 3] {
        pooled.sql("DELETE FROM items WHERE who <> 'all'");
        let config = PoolerConfig::new().database("app", &pooled).set("auth_type", "\"trust\"");
        let config = config.set("default_pool_size", &servers.to_string()).set("server_round_robin", "true");
        let pooler = config.start();
        for (at, (name, script)) in DRIVERS.iter().enumerate() {
            thread::scope(|scope| {
                for (who, model) in ["one", "two"].into_iter().zip(&model[2 * at..]) {
                    let mut client = Raw::trusted(pooler.port(), "app", "app");
                    scope.spawn(move || {
                        for (step, (request, expected)) in
                            script(&format!("{name} {who}")).iter().zip(model).enumerate()
                        {
                            let seen = answer(&mut client, request);
                            assert_eq!(seen, *expected, "{name} {who}, step {step}, {servers} servers");
                        }
                    });
                }
            });
        }
    }
}
