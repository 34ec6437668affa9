//! Random statements of clients that share servers, against each client on a connection of its own: the answers are the
//! same, and when the clients are gone the servers are as good as new.

use super::{app, shown, trusting, values};
use crate::support::random::Random;
use crate::support::raw::{Message, Raw, extended, query, sync};
use crate::support::{Database, PoolerConfig};

const SETTINGS: [&str; 16] = [
    "SET work_mem = '5MB'",
    "SET work_mem TO 6144",
    "SET app.a = 'x'",
    "SET app.a TO 'it''s', more",
    "SET SESSION app.b = on",
    "SET LOCAL work_mem = '7MB'",
    "SET search_path = app, \"A b\", public",
    "SELECT set_config('app.a', 'y', false)",
    "SELECT set_config('app.b', 'z', true)",
    "SELECT set_config('work_mem', '8MB', 'off')",
    "RESET work_mem",
    "RESET ALL",
    "SET work_mem TO DEFAULT",
    "SET work_mem = 'nonsense'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TIME ZONE 'Asia/Tokyo'",
];

const TRANSACTIONS: [&str; 13] = [
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT s",
    "SAVEPOINT t",
    "ROLLBACK TO s",
    "ROLLBACK TO SAVEPOINT t",
    "RELEASE s",
    "SELECT 1/0",
    "COMMIT AND CHAIN",
];

const THINGS: [&str; 23] = [
    "CREATE TEMP TABLE t (n int)",
    "INSERT INTO t VALUES (1)",
    "SELECT count(*) FROM t",
    "DISCARD TEMP",
    "PREPARE p AS SELECT 7",
    "PREPARE q (int) AS SELECT $1",
    "EXECUTE p",
    "EXECUTE q (3)",
    "DEALLOCATE p",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 5",
    "FETCH c",
    "CLOSE c",
    "CLOSE ALL",
    "LISTEN a",
    "UNLISTEN a",
    "UNLISTEN *",
    "SELECT pg_advisory_lock_shared(4)",
    "SELECT pg_advisory_unlock_all()",
    "DISCARD ALL",
    "DROP TABLE t",
    "SELECT pg_advisory_unlock_shared(4)",
    "DROP TABLE IF EXISTS t",
];

const MADE: &str = "
    CREATE FUNCTION sets_a(value text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
        RETURN set_config('app.a', value, false); END$$;
    CREATE FUNCTION sets_memory() RETURNS void LANGUAGE sql AS $$SET work_mem = '10MB'$$;
    CREATE FUNCTION locks() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock_shared(5); END$$;
    CREATE FUNCTION unlocks() RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_unlock_all(); END$$;
    CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE IF NOT EXISTS t (n int); END$$;
    CREATE FUNCTION drops() RETURNS void LANGUAGE plpgsql AS $$BEGIN DROP TABLE IF EXISTS pg_temp.t; END$$;
    CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$BEGIN
        PERFORM locks(), sets_a('f'), makes(); RAISE 'no'; END$$;
    CREATE FUNCTION triggered() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM sets_a('t'); RETURN new; END$$;
    CREATE TABLE triggers (n int);
    CREATE TRIGGER t BEFORE INSERT ON triggers FOR EACH ROW EXECUTE FUNCTION triggered();
    CREATE PROCEDURE proceeds() LANGUAGE plpgsql AS $$BEGIN PERFORM sets_a('p'), locks(); END$$;
    GRANT ALL ON triggers TO PUBLIC";

const CODE: [&str; 14] = [
    "SELECT sets_a('f')",
    "SELECT sets_memory()",
    "SELECT sets_a(n::text) FROM generate_series(1, 2) n",
    "SELECT set_config('app.a', 'g' || n, false) FROM generate_series(1, 2) n",
    "DO $$BEGIN PERFORM set_config('app.b', 'd', false); END$$",
    "DO $$BEGIN RESET app.a; SET work_mem = '11MB'; END$$",
    "DO $$BEGIN RESET work_mem; END$$",
    "SELECT locks()",
    "SELECT unlocks()",
    "SELECT makes()",
    "SELECT drops()",
    "SELECT fails()",
    "INSERT INTO triggers VALUES (1)",
    "CALL proceeds()",
];

/// What these leave nobody can know.
const DYNAMIC: [&str; 4] = [
    "DO $$BEGIN EXECUTE 'SET app.a = ''e'''; END$$",
    "DO $$BEGIN EXECUTE 'CREATE TEMP TABLE IF NOT EXISTS t (n int)'; EXECUTE 'SET work_mem = ''12MB'''; END$$",
    "DO $$BEGIN EXECUTE 'SELECT pg_advisory_lock_shared(6)'; END$$",
    "SELECT set_config('app.' || 'b', 'h', false)",
];

/// What a session is like. Once a setting of an extension was set, PostgreSQL does not forget its name.
const PROBE: &str = "SELECT current_setting('work_mem'), nullif(current_setting('app.a', true), ''), \
    nullif(current_setting('app.b', true), ''), current_setting('search_path'), \
    current_setting('default_transaction_isolation'), current_setting('TimeZone'), current_user, \
    (SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE from_sql), \
    (SELECT string_agg(name, ',' ORDER BY name) FROM pg_cursors WHERE is_holdable), \
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r')";

/// What it listens to, where its own server listens for it.
const CHANNELS: &str = "SELECT string_agg(channel, ',' ORDER BY channel) FROM pg_listening_channels() channel";

fn statement(random: &mut Random, code: &[&'static str]) -> &'static str {
    match random.below(12) {
        10.. => random.of(code),
        0..4 => random.of(&SETTINGS),
        4..7 => random.of(&TRANSACTIONS),
        _ => random.of(&THINGS),
    }
}

fn request(random: &mut Random, code: &[&'static str]) -> (String, Vec<u8>) {
    let first = statement(random, code);
    if random.chance(25) {
        // Several statements with an end of a transaction among them are told apart by the server only.
        let text = format!("{first}; {}; SELECT 2", statement(random, code));
        let bytes = query(&text);
        return (text, bytes);
    }
    let extended_bytes = || [extended(first), sync()].concat();
    let bytes = if random.chance(40) { extended_bytes() } else { query(first) };
    (first.to_owned(), bytes)
}

/// An answer in words: rows and errors, without what a server reports of itself, and without notices.
fn answer(client: &mut Raw, bytes: &[u8]) -> String {
    client.send(bytes);
    let counts = |message: &&Message| !matches!(message.tag, b'S' | b'N' | b'A' | b't' | b'T');
    let said = |message: &Message| match message.tag {
        b'D' => format!("{:?}", values(message)),
        b'Z' | b'C' => format!("{}{}", char::from(message.tag), String::from_utf8_lossy(&message.body)),
        _ => shown(std::slice::from_ref(message)),
    };
    client.until(b'Z').iter().filter(counts).map(said).collect()
}

/// How often a client that is in no transaction hears of what was notified before: that comes in the order of the commits.
fn hears(client: &mut Raw, database: &Database) -> usize {
    let of = |message: &Message, channel: &[u8]| message.tag == b'A' && message.body[4..].starts_with(channel);
    client.send(&query("LISTEN witness"));
    let mut heard = client.until(b'Z');
    super::direct(database).query("NOTIFY witness");
    while !heard.iter().any(|message| of(message, b"witness\0")) {
        heard.extend(client.until(b'A'));
    }
    heard.iter().filter(|message| of(message, b"a\0")).count()
}

fn run(seed: u64, pooler_port: u16, database: &Database, fresh: &str, probes: &[&'static str], code: &[&'static str]) {
    let mut random = Random::new(seed);
    let name = &database.name;
    let mut pairs: Vec<_> = (0..2)
        .map(|_| (Raw::trusted(pooler_port, "app", "app"), Raw::trusted(database.port(), "by_trust", name)))
        .collect();
    let mut told = Vec::new();
    for _ in 0..40 {
        let at = usize::from(random.chance(50));
        let (pooled, own) = &mut pairs[at];
        let (text, bytes) = if random.chance(30) {
            let probe = random.of(probes);
            (probe.to_owned(), query(probe))
        } else {
            request(&mut random, code)
        };
        let [seen, expected] = [pooled, own].map(|client| answer(client, &bytes));
        told.push(format!("{at}: {text}\n   {seen}"));
        let expected = expected.replace("by_trust", "app");
        assert_eq!(seen, expected, "seed {seed}:\n{}", told.join("\n"));
    }
    for (pooled, own) in &mut pairs {
        [pooled, own].into_iter().for_each(|client| drop(answer(client, &query("ROLLBACK"))));
    }
    super::direct(database).query("NOTIFY a");
    for (pooled, own) in &mut pairs {
        assert_eq!(hears(pooled, database), hears(own, database), "seed {seed}:\n{}", told.join("\n"));
        answer(own, &query("UNLISTEN *"));
        answer(pooled, &query("UNLISTEN *"));
    }
    pairs.into_iter().for_each(|(mut pooled, _)| pooled.cut());
    for _ in 0..2 {
        let mut next = Raw::trusted(pooler_port, "app", "app");
        assert_eq!(answer(&mut next, &query(PROBE)), fresh, "seed {seed}, afterwards:\n{}", told.join("\n"));
    }
}

#[test]
fn clients_that_share_servers_are_as_if_each_had_its_own() {
    as_if_each_had_its_own(&[("listen", "shared")], &[PROBE], &CODE);
}

#[test]
fn clients_that_listen_on_their_servers_are_as_if_each_had_its_own() {
    as_if_each_had_its_own(&[("listen", "pin")], &[PROBE, CHANNELS], &CODE);
}

#[test]
fn clients_of_whose_code_nothing_is_known_are_as_if_each_had_its_own() {
    as_if_each_had_its_own(&[("unknown", "pin")], &[PROBE], &[&CODE[..], &DYNAMIC].concat());
}

fn as_if_each_had_its_own(settings: &[(&str, &str)], probes: &[&'static str], code: &[&'static str]) {
    let database = Database::create("session_model");
    database.sql(MADE);
    let config = trusting(&database, 2).set("server_round_robin", "true");
    let set = |config: PoolerConfig, (name, value): &(&str, &str)| config.set(name, &format!("\"{value}\""));
    let pooler = settings.iter().fold(config, set).start();
    let fresh = answer(&mut app(&pooler), &query(PROBE));
    let (mut one, mut two) = (app(&pooler), app(&pooler));
    one.query("BEGIN");
    two.query("SELECT 1");
    drop((one, two));
    let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = env("SESSION_MODEL_SEED").unwrap_or(1);
    for seed in first..first + env("SESSION_MODEL_RUNS").unwrap_or(60) {
        run(seed, pooler.port(), &database, &fresh, probes, code);
    }
}
