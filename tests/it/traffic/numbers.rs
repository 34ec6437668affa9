//! `lastval()` and `currval()` answer for the numbers of their own client only.

use std::time::Duration;

use super::{app, direct, one_server, rows, shown, trusting, waiting};
use crate::support::pooler::Pooler;
use crate::support::raw::{Raw, bind, execute, extended, message, parse, parse_with_types, query, sync, target};
use crate::support::{Database, wait_until};

fn with_sequences(label: &str) -> (Database, Pooler) {
    let (database, pooler) = one_server(label);
    database.sql("CREATE SEQUENCE s; CREATE SEQUENCE u; CREATE TABLE t (id serial, x int); CREATE TABLE plain (x int); \
        GRANT ALL ON ALL TABLES IN SCHEMA public TO public; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO public; ALTER TABLE plain OWNER TO app");
    (database, pooler)
}

/// What the client reads, errors and values of rows in full.
fn asks(client: &mut Raw, request: &[u8]) -> String {
    client.send(request);
    let answer = client.until(b'Z');
    let texts = answer.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned());
    shown(&answer) + &texts.collect::<String>()
}

/// How many clients keep a server.
fn pins(pooler: &Pooler) -> usize {
    let mut console = Raw::trusted(pooler.port(), "admin", "pgbouncer");
    rows(&mut console, "SHOW CLIENTS").iter().filter(|row| row.last().is_some_and(|pins| !pins.is_empty())).count()
}

fn prepared(text: &str) -> Vec<u8> {
    [parse("", "SELECT 1"), parse("p", text), bind("", "p", &[]), execute("", 0), target(b'C', b'S', "p"), sync()]
        .concat()
}

fn bound_first(text: &str) -> Vec<u8> {
    // Its portal has no name, and must outlive what is done before the second one.
    [
        parse("", "SELECT 'mine'"),
        bind("", "", &[]),
        parse("q", text),
        bind("r", "q", &[]),
        execute("", 0),
        execute("r", 0),
    ]
    .concat()
}

#[test]
fn nobody_reads_the_number_of_another_client() {
    type Request = fn(&str) -> Vec<u8>;
    let forms: [(&str, Request); 5] = [
        ("simple", query),
        ("extended", |text| [extended(text), sync()].concat()),
        ("prepared", prepared),
        ("in a block", |text| [extended("BEGIN"), extended(text), extended("ROLLBACK"), sync()].concat()),
        ("with a portal", |text| [bound_first(text), sync()].concat()),
    ];
    for (at, (form, request)) in forms.iter().enumerate() {
        // Nobody has asked before on a new pooler: that is the hardest case.
        let (_database, pooler) = with_sequences(&format!("numbers_{at}"));
        for question in ["SELECT lastval()", "SELECT 1, pg_catalog.currval ('s')", "SELECT \"lastval\"() FROM s"] {
            let (mut one, mut two) = (app(&pooler), app(&pooler));
            asks(&mut one, &query("INSERT INTO plain VALUES (1); SELECT setval('s', 4711), nextval('s')"));
            let answer = asks(&mut two, &request(question));
            assert!(!answer.contains("4712"), "{form}: {answer}");
            assert!(answer.contains("55000") && answer.contains("use RETURNING"), "{form}: {answer}");
            assert!(!form.contains("portal") || answer.contains("mine"), "{answer}");
        }
        let mut one = app(&pooler);
        asks(&mut one, &query("SELECT nextval('s')"));
        let answer = asks(&mut app(&pooler), &query("DO $$ BEGIN RAISE NOTICE 'it is %', lastval(); END $$"));
        assert!(answer.contains("55000"), "{answer}");
    }
}

#[test]
fn nor_in_one_text_with_the_end_of_a_failed_block() {
    let (_database, pooler) = with_sequences("numbers_failed");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
    asks(&mut two, &query("BEGIN"));
    asks(&mut two, &query("SELECT 1/0"));
    let answer = asks(&mut two, &query("ROLLBACK; SELECT lastval()"));
    assert!(!answer.contains("4712"), "{answer}");
    assert!(answer.contains("25P02") && answer.contains("ROLLBACK by itself") && answer.ends_with('E'), "{answer}");
    asks(&mut two, &query("ROLLBACK"));
    assert!(asks(&mut two, &query("SELECT nextval('s'); SELECT lastval()")).contains("4713"));
}

#[test]
fn a_client_reads_its_own_number_while_it_has_the_server() {
    let (_database, pooler) = with_sequences("numbers_own");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let number = |answer: &str, expected: &str| assert!(answer.contains(expected), "{answer}");
    for round in 0..3 {
        asks(&mut two, &query("SELECT setval('u', 4711), setval('s', 5000), nextval('u')"));
        asks(&mut one, &query("BEGIN"));
        asks(&mut one, &query("INSERT INTO t (x) VALUES (1)"));
        number(&asks(&mut one, &query("SELECT 'id ' || currval('t_id_seq')")), &format!("id {}", 2 * round + 1));
        number(&asks(&mut one, &query("SELECT 'id ' || lastval()")), &format!("id {}", 2 * round + 1));
        if round > 0 {
            // Somebody has asked here before: what others had was discarded when the transaction began.
            number(&asks(&mut one, &query("SELECT currval('u')")), "55000");
        }
        asks(&mut one, &query("ROLLBACK"));
        let text = "INSERT INTO t (x) VALUES (1); SELECT 'id ' || lastval()";
        number(&asks(&mut one, &query(text)), &format!("id {}", 2 * round + 2));
        // As long as nobody else has the server.
        number(&asks(&mut one, &query("SELECT 'id ' || lastval()")), &format!("id {}", 2 * round + 2));
    }
    asks(&mut one, &query("DISCARD SEQUENCES"));
    number(&asks(&mut one, &query("SELECT lastval()")), "55000");
    asks(&mut one, &query("SELECT nextval('s')"));
    asks(&mut one, &query("DISCARD ALL"));
    number(&asks(&mut one, &query("SELECT currval('s')")), "55000");
}

#[test]
fn who_asks_keeps_its_server_until_it_has_asked() {
    let (_database, pooler) = with_sequences("numbers_kept");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    let inserts = query("INSERT INTO t (x) VALUES (1)");
    // Nobody knows yet that it asks.
    asks(&mut one, &inserts);
    asks(&mut two, &query("SELECT nextval('u')"));
    assert!(asks(&mut one, &query("SELECT lastval()")).contains("55000"));
    // On a machine that stands still for a second it may come too late.
    wait_until("it to have its number although another waits", Duration::from_secs(30), || {
        asks(&mut one, &inserts);
        two.send(&query("SELECT nextval('u')"));
        wait_until("the other to wait, or to be served", Duration::from_secs(30), || {
            waiting(&pooler) == 1 || pins(&pooler) == 0
        });
        let answer = asks(&mut one, &query("SELECT 'id ' || currval('t_id_seq')"));
        two.until(b'Z');
        answer.contains("id ")
    });
    for goes_on in ["SELECT 1", "ROLLBACK", "BEGIN; SELECT lastval(); COMMIT"] {
        asks(&mut one, &inserts);
        asks(&mut one, &query(goes_on));
        asks(&mut two, &query("SELECT nextval('u')"));
    }
    // Nobody waits for ever for a client that does not ask.
    asks(&mut one, &inserts);
    asks(&mut two, &query("SELECT nextval('u')"));
    assert!(asks(&mut one, &query("SELECT lastval()")).contains("55000"));
}

#[test]
fn what_is_discarded_is_no_part_of_what_the_client_reads() {
    let (database, pooler) = with_sequences("numbers_unseen");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut one, &query("SELECT lastval()"));
    for request in [
        query("SELECT 1"),
        query("BEGIN; INSERT INTO plain VALUES (1); ROLLBACK"),
        [extended("SELECT 1"), extended("SELECT 1/0"), extended("SELECT 2"), sync()].concat(),
        prepared("SELECT 7"),
    ] {
        asks(&mut two, &query("SELECT nextval('s')"));
        let answer = asks(&mut one, &request);
        assert!(!answer.contains("DISCARD"), "{answer}");
        let expected = asks(&mut direct(&database), &request);
        assert_eq!(answer, expected);
    }
    asks(&mut two, &query("SELECT nextval('s')"));
    assert_eq!(asks(&mut one, &query("VACUUM plain")), "CZVACUUM\0I");
}

/// A FunctionCall without arguments, whose result is text.
fn call(oid: u32) -> Vec<u8> {
    message(b'F', &[&oid.to_be_bytes()[..], &[0; 6]].concat())
}

/// What asks without naming `lastval()` or `currval()`.
const UNSEEN: &str = "
    CREATE FUNCTION asks() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RETURN pg_catalog.lastval(); END$$;
    CREATE FUNCTION asks_too() RETURNS bigint LANGUAGE sql AS 'SELECT asks()';
    CREATE FUNCTION pretends() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$BEGIN
        RAISE NOTICE 'it is %', currval('s'); RETURN 1; END$$;
    CREATE FUNCTION dynamic(text) RETURNS bigint LANGUAGE plpgsql AS $$DECLARE n bigint;
        BEGIN EXECUTE $1 INTO n; RETURN n; END$$;
    CREATE VIEW shows AS SELECT lastval() AS n;
    CREATE VIEW shows_too AS SELECT n FROM shows;
    CREATE TABLE with_default (x int, n bigint DEFAULT lastval());
    CREATE FUNCTION fills() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.n := asks(); RETURN new; END$$;
    CREATE TABLE with_trigger (x int, n bigint);
    CREATE TRIGGER t BEFORE INSERT ON with_trigger FOR EACH ROW EXECUTE FUNCTION fills();
    CREATE FUNCTION is_so(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        RAISE NOTICE 'it is %', lastval(); RETURN true; END$$;
    CREATE DOMAIN curious AS text CHECK (is_so(value));
    GRANT ALL ON ALL TABLES IN SCHEMA public TO public; GRANT CREATE ON SCHEMA public TO public;";

#[test]
fn nor_by_what_does_not_name_the_question() {
    let (database, pooler) = with_sequences("numbers_unseen_asked");
    drop(pooler);
    database.sql(UNSEEN);
    let oid = database.sql("SELECT 'curious'::regtype::oid").parse().expect("a number");
    let both = |text: &str| [query(text), [extended(text), sync()].concat()];
    let mut requests: Vec<Vec<u8>> = [
        "SELECT asks()",
        "SELECT asks_too()",
        "SELECT * FROM shows",
        "SELECT * FROM shows_too",
        "INSERT INTO with_default (x) VALUES (1) RETURNING n",
        "INSERT INTO with_trigger (x) VALUES (1) RETURNING n",
        "SELECT dynamic('SELECT last' || 'val()')",
        "COPY (SELECT n FROM shows) TO STDOUT",
        "DO $$BEGIN RAISE NOTICE 'it is %', asks(); END$$",
        "BEGIN; DECLARE c CURSOR FOR SELECT n FROM shows; FETCH c; COMMIT",
        "BEGIN; CREATE VIEW v AS SELECT lastval(); SELECT * FROM v; ROLLBACK",
    ]
    .iter()
    .flat_map(|text| if text.starts_with("BEGIN") { vec![query(text)] } else { both(text).into() })
    .collect();
    requests.push(call(2559));
    requests.push(query("EXPLAIN SELECT pretends()"));
    requests.push([parse("", "SELECT pretends()"), bind("", "", &[]), sync()].concat());
    requests.push([parse_with_types("", "SELECT $1", &[oid]), bind("", "", &[b"x"]), sync()].concat());
    requests.push([parse("", "SELECT '{x}'::curious[]"), sync()].concat());
    for request in &requests {
        let said = String::from_utf8_lossy(request);
        // Nobody has asked before.
        let pooler = trusting(&database, 1).start();
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        asks(&mut two, &query("SELECT 1"));
        asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
        let answer = asks(&mut two, request);
        assert!(!answer.contains("4712"), "{said}: {answer}");
    }
    // Nor where it has written before it asks, but for the first time.
    for asked in ["SELECT n FROM shows", "SELECT dynamic('SELECT lastval()')"] {
        let pooler = trusting(&database, 1).start();
        let (mut one, mut two) = (app(&pooler), app(&pooler));
        let mut seen = 0;
        for _ in 0..3 {
            asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
            asks(&mut two, &query("BEGIN"));
            asks(&mut two, &query("INSERT INTO plain VALUES (1)"));
            seen += usize::from(asks(&mut two, &query(asked)).contains("4712"));
            asks(&mut two, &query("ROLLBACK"));
        }
        assert!(seen <= 1, "{asked} has seen another's number {seen} times");
    }
}

#[test]
fn code_that_asks_reads_its_own_clients_number() {
    let (database, pooler) = with_sequences("numbers_code");
    drop(pooler);
    database.sql(UNSEEN);
    let pooler = trusting(&database, 1).start();
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    for round in 1..4 {
        asks(&mut two, &query("SELECT setval('u', 4711), nextval('u')"));
        asks(&mut one, &query("BEGIN"));
        asks(&mut one, &query("INSERT INTO t (x) VALUES (1)"));
        let number = [vec![round.to_string()]];
        assert_eq!(rows(&mut one, "SELECT n FROM shows"), number);
        assert_eq!(rows(&mut one, "INSERT INTO with_default (x) VALUES (1) RETURNING n"), number);
        asks(&mut one, &query("COMMIT"));
        assert_eq!(pins(&pooler), 0, "for that nobody keeps a server");
    }
}

#[test]
fn a_question_waits_for_what_was_asked_before_it() {
    let (_database, pooler) = with_sequences("numbers_pipelined");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut two, &query("SELECT 1"));
    let all = |client: &mut Raw, requests: &[Vec<u8>]| {
        client.send(&requests.concat());
        requests.iter().map(|_| shown(&client.until(b'Z'))).collect::<Vec<_>>()
    };
    asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
    // Our own statement would fail in its place.
    let failing = all(&mut two, &[query("BEGIN"), query("SELECT 1/0"), query("ROLLBACK; SELECT lastval()")]);
    assert!(failing[2].contains("25P02"), "{failing:?}");
    let answers = all(&mut two, &["ROLLBACK", "SELECT lastval()"].map(query));
    assert!(answers[0] == "CZ" && answers[1].contains("55000"), "{answers:?}");
    let text = ["BEGIN", "INSERT INTO t (x) VALUES (1)", "SELECT 'id ' || lastval()", "COMMIT"].map(query);
    let (_database, pooler) = with_sequences("numbers_pipelined_own");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut two, &query("SELECT 1"));
    asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
    assert!(all(&mut two, &text)[2].starts_with("TDC"), "it has its own number");
    // Nor is a text that is too long to be read one that does not ask.
    let (_database, pooler) = with_sequences("numbers_long");
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    asks(&mut two, &query("SELECT 1"));
    asks(&mut one, &query("SELECT setval('s', 4711), nextval('s')"));
    let long = format!("SELECT lastval() -- {}", "x".repeat(300_000));
    assert!(!asks(&mut two, &query(&long)).contains("4712"));
}
