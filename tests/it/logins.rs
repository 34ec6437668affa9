//! Who gets in: every method on both sides with real drivers, and what strangers can tell from the exchange.

use bytes::BytesMut;
use pglifeguard::types::Secret;
use pglifeguard::wire::md5::Md5Secret;
use pglifeguard::wire::message::frontend;
use pglifeguard::wire::scram::client::{AwaitFirst, Mechanism, ScramCredential};
use pglifeguard::wire::scram::{Nonce, ScramVerifier};
use tokio::runtime::Builder;
use tokio_postgres::NoTls;

use crate::support::pooler::Pooler;
use crate::support::programs::{finish, node, psql, python, run};
use crate::support::raw::{Message, Raw, V3_0, message, startup};
use crate::support::{Database, PoolerConfig};

/// `md5…`, as `pg_authid` has it.
fn md5(database: &Database, user: &str, password: &str) -> String {
    database.sql(&format!("SELECT 'md5' || md5('{password}{user}')"))
}

fn scram(password: &str) -> String {
    ScramVerifier::from_password(password.as_bytes(), b"sixteen bytes of", 4096).to_string()
}

/// What each driver makes of a login with each DSN: `driver answer`, in the order of the DSNs.
fn by_every_driver(dsns: &[String]) -> Vec<String> {
    let mut seen = Vec::new();
    let (first, rest) = dsns.split_first().expect("at least one");
    seen.extend(run(python("log_in.py", first).args(rest)).lines().map(str::to_owned));
    seen.extend(run(node("log_in.mjs", first).args(rest)).lines().map(|line| format!("node-postgres {line}")));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for dsn in dsns {
        let (success, stdout, stderr) = finish(psql(dsn).args(["-Atc", "SELECT current_user"]));
        let refusal = stderr.trim().rsplit("FATAL:  ").next().unwrap_or_default().to_owned();
        seen.push(format!("psql {}", if success { stdout.trim().to_owned() } else { refusal }));
        seen.push(format!("tokio-postgres {}", runtime.block_on(by_tokio_postgres(dsn))));
    }
    seen
}

async fn by_tokio_postgres(dsn: &str) -> String {
    match tokio_postgres::connect(dsn, NoTls).await {
        Ok((client, connection)) => {
            let connection = tokio::spawn(connection);
            let row = client.query_one("SELECT current_user::text", &[]).await.expect("logged in");
            drop(client);
            connection.await.expect("no panic").expect("a clean end");
            row.get(0)
        }
        Err(error) => error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned()),
    }
}

#[track_caller]
fn all_say(seen: &[String], answer: &str) {
    for line in seen {
        let (driver, said) = line.split_once(' ').expect("two words");
        assert_eq!(said, answer, "{driver} in {seen:#?}");
    }
}

#[test]
fn every_driver_logs_in_by_every_method_with_every_secret_that_serves_it() {
    let database = Database::create("methods");
    let secrets = [("plain", "app".to_owned()), ("md5", md5(&database, "app", "app")), ("scram", scram("app"))];
    let forced = format!(
        "host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\nuser = \"app\"\npassword = \"app\"\n",
        database.port(),
        database.name
    );
    for (method, serving) in [
        ("trust", &["plain", "md5", "scram"][..]),
        ("plain", &["plain", "md5", "scram"]),
        ("md5", &["plain", "md5", "scram"]),
        ("scram-sha-256", &["plain", "scram"]),
    ] {
        for (kind, secret) in &secrets {
            let pooler = PoolerConfig::new()
                .set("auth_type", &format!("\"{method}\""))
                .user("app", secret)
                .section("databases.app", &forced)
                .start();
            let wrong = match method {
                "md5" if *kind == "scram" => "SASL authentication failed",
                "scram-sha-256" => "SASL authentication failed",
                _ => "password authentication failed",
            };
            let expected = if serving.contains(kind) { "app" } else { wrong };
            all_say(&by_every_driver(&[pooler.app_dsn("app")]), expected);
            if method != "trust" {
                all_say(&by_every_driver(&[pooler.dsn("app", "not%20it", "app")]), wrong);
            }
        }
    }
}

#[test]
fn servers_are_logged_in_to_by_every_method_with_every_secret_that_serves_it() {
    let database = Database::create("servers");
    let stored = database.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    let mismatch = "server login failed: wrong password type";
    let refused = "password authentication failed for user";
    for (user, password, secret, expected) in [
        ("by_trust", "trust-secret", "trust-secret".to_owned(), "by_trust"),
        ("by_password", "plain-secret", "plain-secret".to_owned(), "by_password"),
        ("by_md5", "md5-secret", "md5-secret".to_owned(), "by_md5"),
        ("by_md5", "md5-secret", md5(&database, "by_md5", "md5-secret"), "by_md5"),
        ("app", "app", "app".to_owned(), "app"),
        // Pass-through: the very secret that the server stores, and no password anywhere.
        ("app", "app", stored, "app"),
        ("app", "app", scram("app"), mismatch),
        ("by_md5", "md5-secret", scram("md5-secret"), mismatch),
        ("by_md5", "another", "another".to_owned(), refused),
    ] {
        let pooler =
            PoolerConfig::new().set("auth_type", "\"md5\"").database("app", &database).user(user, &secret).start();
        let (success, stdout, stderr) =
            finish(psql(&pooler.dsn(user, password, "app")).args(["-Atc", "SELECT current_user"]));
        let seen = if success { stdout } else { stderr };
        assert!(seen.contains(expected), "{user} with {secret}: {seen}");
        assert!(!pooler.log().contains(password) || password == "app" || password == "another", "{}", pooler.log());
    }
}

#[test]
fn a_forced_user_serves_everybody_who_is_known() {
    let database = Database::create("forced");
    let entry = format!(
        "host = \"127.0.0.1\"\nport = {}\ndbname = \"{}\"\nuser = \"by_md5\"\npassword = \"md5-secret\"\n",
        database.port(),
        database.name
    );
    let pooler =
        PoolerConfig::new().section("databases.app", &entry).user("alice", "a").user("bob", &scram("b")).start();
    all_say(&by_every_driver(&[pooler.dsn("alice", "a", "app"), pooler.dsn("bob", "b", "app")]), "by_md5");
    all_say(&by_every_driver(&[pooler.dsn("bob", "a", "app")]), "SASL authentication failed");
}

/// A login attempt by the byte: everything the pooler said, with what is random in it made the same.
fn transcript(pooler: &Pooler, user: &str, database: &str, password: &str) -> Vec<(u8, String)> {
    let mut client = Raw::tcp(pooler.port());
    client.send(&startup(V3_0, &[("user", user), ("database", database)]));
    let mut said = Vec::new();
    let mut scram = None;
    let mut finish = None;
    while let Some(Message { tag, body }) = client.message() {
        let mut answer = BytesMut::new();
        let kind = if tag == b'R' { u32::from_be_bytes(body[..4].try_into().expect("four bytes")) } else { 0 };
        match (tag, kind) {
            (b'R', 3) => frontend::password(&mut answer, password.as_bytes()),
            (b'R', 5) => {
                let salt = body[4..8].try_into().expect("four bytes");
                let secret = Md5Secret::from_password(password.as_bytes(), user.as_bytes());
                frontend::password(&mut answer, secret.answer(salt).expose());
            }
            (b'R', 10) => {
                let mechanism = Mechanism::choose(&[b"SCRAM-SHA-256"], None).expect("offered");
                let (next, first) = AwaitFirst::new(
                    ScramCredential::Password(Secret::new(password)),
                    mechanism,
                    Nonce::from_random([7; 18]),
                );
                scram = Some(next);
                frontend::sasl_initial_response(&mut answer, "SCRAM-SHA-256", first.as_bytes());
            }
            (b'R', 11) => {
                let (next, last) = scram.take().expect("begun").answer(&body[4..]).expect("well-formed");
                finish = Some(next);
                frontend::sasl_response(&mut answer, last.as_bytes());
            }
            _ => {}
        }
        said.push((tag, shown(kind, &body)));
        client.send(&answer);
        if tag == b'Z' {
            break;
        }
    }
    drop(finish);
    said
}

/// Salts and nonces differ from time to time or from user to user; that they are as long must not.
fn shown(kind: u32, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    match kind {
        5 => format!("md5 with {} bytes", body.len()),
        11 => {
            let parts = text[4..].split(',').map(|part| match part.split_at(2) {
                ("i=", iterations) => format!("i={iterations}"),
                (name, value) => format!("{name}{}", value.len()),
            });
            parts.collect::<Vec<_>>().join(",")
        }
        _ => text,
    }
}

#[test]
fn a_stranger_an_unknown_database_and_a_wrong_password_look_the_same() {
    let database = Database::create("strangers");
    for (method, secret) in [
        ("plain", "app".to_owned()),
        ("md5", "app".to_owned()),
        ("md5", md5(&database, "app", "app")),
        ("md5", scram("app")),
        ("scram-sha-256", "app".to_owned()),
        ("scram-sha-256", scram("app")),
        // This one can't log in, so it is nobody.
        ("scram-sha-256", md5(&database, "app", "app")),
    ] {
        let pooler = PoolerConfig::new()
            .set("auth_type", &format!("\"{method}\""))
            .database("app", &database)
            .user("app", &secret)
            // Where users are of several kinds, so are strangers.
            .user("admin", &secret)
            .start();
        let wrong = transcript(&pooler, "app", "app", "wrong");
        let last = wrong.last().expect("an answer");
        assert!(last.1.contains("authentication failed"), "{method}: {last:?}");
        for (user, database, what) in [
            ("nobody", "app", "an unknown user"),
            ("app", "nowhere", "an unknown database"),
            ("nobody", "nowhere", "both"),
            ("nobody", "pgbouncer", "nobody in the console"),
            ("app", "pgbouncer", "who may not use the console"),
        ] {
            assert_eq!(transcript(&pooler, user, database, "wrong"), wrong, "{method}: {what}");
        }
        if method == "scram-sha-256" && secret.starts_with("md5") {
            continue;
        }
        for (database, text) in [("nowhere", "no such database: nowhere"), ("pgbouncer", "not allowed")] {
            let right = transcript(&pooler, "app", database, "app");
            assert!(right.last().is_some_and(|last| last.1.contains(text)), "{method}: {right:?}");
        }
    }
}

#[test]
fn a_stranger_is_asked_with_the_same_salt_each_time() {
    let database = Database::create("salts");
    let pooler = PoolerConfig::new().database("app", &database).start();
    let salt = |user: &str| {
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", user), ("database", "app")]));
        client.message().expect("asked");
        let mut answer = BytesMut::new();
        frontend::sasl_initial_response(&mut answer, "SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnop");
        client.send(&answer);
        let first = String::from_utf8_lossy(&client.message().expect("answered").body).into_owned();
        first.split(',').find(|part| part.starts_with("s=")).expect("a salt").to_owned()
    };
    for user in ["nobody", "app", "nobody else"] {
        assert_eq!(salt(user), salt(user), "{user}");
    }
    assert_ne!(salt("nobody"), salt("nobody else"));
}

#[test]
fn trust_lets_in_who_is_known_and_an_empty_password_is_no_password() {
    let database = Database::create("trust");
    let config = PoolerConfig::new().database("app", &database);
    let pooler = config.clone().set("auth_type", "\"trust\"").start();
    let refused = transcript(&pooler, "nobody", "app", "");
    assert!(refused[0].1.contains("\"trust\" authentication failed"), "{refused:?}");
    for method in ["plain", "md5"] {
        let pooler = config.clone().set("auth_type", &format!("\"{method}\"")).user("empty", "").start();
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", "empty"), ("database", "app")]));
        client.message().expect("asked");
        client.send(&message(b'p', b"\0"));
        assert_eq!(client.rest(), ["28P01 empty password returned by client"]);
    }
}

#[test]
fn a_login_under_way_over_a_reload_is_held_to_the_new_configuration() {
    let database = Database::create("logins_reload");
    let base = |password: &str| {
        PoolerConfig::new().set("auth_type", "\"plain\"").user("other", password).database("app", &database)
    };
    let old = base("x");
    let pooler = old.start();
    let begin = |user: &str, database: &str| {
        let mut client = Raw::tcp(pooler.port());
        client.send(&startup(V3_0, &[("user", user), ("database", database)]));
        assert_eq!(client.message().map(|message| message.tag), Some(b'R'), "a password is asked for");
        client
    };
    let mut console = begin("admin", "pgbouncer");
    console.send(&message(b'p', b"admin\0"));
    console.until(b'Z');
    let _another = begin("app", "app");
    for (change, refusal) in [
        (base("new"), "28000 the configuration has changed during the login"),
        (PoolerConfig::new().set("auth_type", "\"plain\"").user("other", "x"), "3D000 no such database: app"),
        (
            PoolerConfig::new().set("auth_type", "\"plain\"").database("app", &database),
            "28000 the configuration has changed during the login",
        ),
        (old.clone().set("max_client_conn", "1"), "53300 no more connections allowed (max_client_conn)"),
        (old.clone().set("auth_type", "\"md5\""), "28000 the configuration has changed during the login"),
    ] {
        let mut client = begin("other", "app");
        pooler.reconfigure(&change);
        assert_eq!(console.query("RELOAD"), [""; 0]);
        client.send(&message(b'p', b"x\0"));
        let answer: Vec<String> = client.rest();
        assert_eq!(answer, [refusal]);
        pooler.reconfigure(&old);
        console.query("RELOAD");
    }
    let mut client = begin("app", "app");
    console.query("DISABLE app");
    client.send(&message(b'p', b"app\0"));
    assert_eq!(client.rest(), ["57P03 database \"app\" is disabled"]);
}
