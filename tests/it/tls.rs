//! TLS with clients: every sslmode of both sides with libpq, OpenSSL's own client, reloads, what is not encrypted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::pki::{Pair, Pki};
use crate::support::pooler::Pooler;
use crate::support::programs::{finish, psql, run};
use crate::support::raw::{Raw, SSL_REQUEST, V3_0, message, packet, query, startup};
use crate::support::{Database, PoolerConfig, wait_until};

fn with_tls(database: &Database, mode: &str, server: &Pair, ca: Option<&Path>) -> PoolerConfig {
    let config = PoolerConfig::new()
        .database("app", database)
        .set("client_tls_sslmode", &format!("\"{mode}\""))
        .set("client_tls_cert_file", &format!("\"{}\"", server.cert.display()))
        .set("client_tls_key_file", &format!("\"{}\"", server.key.display()));
    match ca {
        Some(ca) => config.set("client_tls_ca_file", &format!("\"{}\"", ca.display())),
        None => config,
    }
}

/// `app` on the pooler by name, so that its certificate can be compared.
fn dsn(pooler: &Pooler, options: &str) -> String {
    format!("host=localhost hostaddr=127.0.0.1 port={} dbname=app user=app password=app {options}", pooler.port())
}

/// `tls`, `plain`, or what psql said.
fn by_psql(pooler: &Pooler, options: &str) -> String {
    let (success, stdout, stderr) = finish(psql(&dsn(pooler, options)).args(["-c", "SELECT 1", "-c", "\\conninfo"]));
    match success {
        true if stdout.contains("SSL connection (protocol: TLSv1.") => "tls".into(),
        true => "plain".into(),
        false => stderr,
    }
}

#[test]
fn every_sslmode_of_libpq_meets_every_mode_of_ours() {
    let (database, pki, others) = (Database::create("sslmodes"), Pki::new(), Pki::new());
    let (server, client, stranger) = (pki.issue("localhost"), pki.issue("app"), others.issue("app"));
    let with = |pair: &Pair| format!("sslcert={} sslkey={}", pair.cert.display(), pair.key.display());
    let trusting = |pki: &Pki, mode: &str| format!("sslmode={mode} sslrootcert={}", pki.ca().display());
    let nobody = "sslcert=/nowhere/c sslkey=/nowhere/k".to_owned();
    let no_tls = "server does not support SSL, but SSL was required";
    let required = "FATAL:  SSL required";
    let full = |pki: &Pki| trusting(pki, "verify-full");
    for (mode, options, expected) in [
        ("disable", "sslmode=disable".to_owned(), "plain"),
        ("disable", "sslmode=prefer".into(), "plain"),
        ("disable", "sslmode=require".into(), no_tls),
        ("allow", "sslmode=disable".into(), "plain"),
        ("allow", "sslmode=allow".into(), "plain"),
        ("allow", "sslmode=prefer".into(), "tls"),
        ("prefer", "sslmode=disable".into(), "plain"),
        ("prefer", "sslmode=prefer".into(), "tls"),
        ("prefer", full(&pki), "tls"),
        ("require", "sslmode=disable".into(), required),
        ("require", "sslmode=allow".into(), "tls"),
        ("require", "sslmode=prefer".into(), "tls"),
        ("require", "sslmode=require".into(), "tls"),
        ("require", trusting(&pki, "verify-ca"), "tls"),
        ("require", full(&pki), "tls"),
        ("require", full(&others), "certificate verify failed"),
        ("require", "sslmode=require channel_binding=require".into(), "tls"),
        ("require", "sslmode=require ssl_max_protocol_version=TLSv1.2 channel_binding=require".into(), "tls"),
        ("verify-ca", "sslmode=disable".into(), required),
        ("verify-ca", format!("{} {nobody}", full(&pki)), "certificate required"),
        ("verify-ca", format!("{} {}", full(&pki), with(&stranger)), "SSL error: tlsv1 alert"),
        ("verify-ca", format!("{} {}", full(&pki), with(&client)), "tls"),
        ("verify-full", format!("{} {nobody}", full(&pki)), "certificate required"),
        ("verify-full", format!("{} {}", full(&pki), with(&client)), "tls"),
    ] {
        let ca = mode.starts_with("verify").then(|| pki.ca());
        let pooler = with_tls(&database, mode, &server, ca).start();
        let seen = by_psql(&pooler, &options);
        assert!(seen.contains(expected), "client_tls_sslmode={mode} {options}: {seen}\n{}", pooler.log());
    }
}

#[test]
fn show_clients_says_how_a_client_is_encrypted() {
    let (database, pki) = (Database::create("show_tls"), Pki::new());
    let pooler = with_tls(&database, "require", &pki.issue("localhost"), None).start();
    let console = dsn(&pooler, "sslmode=require")
        .replace("dbname=app user=app password=app", "dbname=pgbouncer user=admin password=admin");
    let shown = run(psql(&console).args(["-Atc", "SHOW CLIENTS"]));
    assert!(shown.contains("|TLSv1.3/TLS_AES_"), "{shown}");
}

/// What `openssl s_client` says, with `input` behind its handshake.
fn s_client(pooler: &Pooler, pki: &Pki, options: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", pooler.port()), "-CAfile"]);
    command.arg(pki.ca()).args(["-verify_return_error", "-verify_hostname", "localhost", "-brief"]).args(options);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl is there");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input);
    // The pooler hangs up after its answer; s_client would wait for more of its input.
    let output = child.wait_with_output().expect("its own child");
    drop(stdin);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn openssl_speaks_with_us_after_a_request_and_at_once() {
    let (database, pki) = (Database::create("openssl"), Pki::new());
    let pooler = with_tls(&database, "require", &pki.issue("localhost"), None).start();
    // A stranger's question, answered through TLS; then the connection ends.
    let refused = startup(V3_0, &[("user", "app"), ("database", "app"), ("replication", "true")]);
    let answer = "replication connections are not supported";
    for options in [&["-starttls", "postgres"][..], &["-starttls", "postgres", "-tls1_2"], &["-alpn", "postgresql"]] {
        let seen = s_client(&pooler, &pki, options, &refused);
        assert!(seen.contains("Verification: OK") && seen.contains(answer), "{options:?}: {seen}");
    }
    for options in [&[][..], &["-alpn", "http/1.1"]] {
        let seen = s_client(&pooler, &pki, options, &refused);
        assert!(!seen.contains(answer), "TLS at once without PostgreSQL's name in it: {seen}");
    }
    // TLS within TLS is not served, nor is a second request.
    for (inner, answer) in [
        (packet(SSL_REQUEST, b""), "client asked for SSL twice"),
        (b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), "bad packet header: '16030102'"),
    ] {
        let seen = s_client(&pooler, &pki, &["-starttls", "postgres"], &inner);
        assert!(seen.contains(answer), "{answer}: {seen}");
    }
    // The pooler is as well as before.
    assert_eq!(by_psql(&pooler, "sslmode=require"), "tls");
}

#[test]
fn what_stands_unencrypted_behind_the_request_ends_the_connection() {
    let (database, pki) = (Database::create("injected"), Pki::new());
    let pooler = with_tls(&database, "allow", &pki.issue("localhost"), None).start();
    let request = packet(SSL_REQUEST, b"");
    for behind in [startup(V3_0, &[("user", "app"), ("database", "app")]), query("SELECT 1"), message(b'X', b"")] {
        let mut client = Raw::tcp(pooler.port());
        client.send(&[&request[..], &behind].concat());
        assert_eq!(client.rest(), ["08P01 received unencrypted data after SSL request"]);
    }
    // Where the request was answered already, it is no handshake.
    let mut client = Raw::tcp(pooler.port());
    client.send(&request);
    assert_eq!(client.bytes(1), b"S");
    client.send(&startup(V3_0, &[("user", "app"), ("database", "app")]));
    let alert = client.bytes(16);
    assert!(alert.is_empty() || alert[0] == 0x15, "nothing but an alert: {alert:?}");
    assert_eq!(by_psql(&pooler, "sslmode=require"), "tls");
}

/// A psql that stays connected, and is asked now and then.
struct Lasting {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Lasting {
    fn open(dsn: &str) -> Self {
        let mut command = psql(dsn);
        let command = command.arg("-qAt").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("psql is there");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, answers }
    }

    /// What is to answer by one line.
    fn ask(&mut self, sql: &str) -> String {
        writeln!(self.process.stdin.as_mut().expect("piped"), "{sql};").expect("it lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
fn a_new_certificate_is_shown_after_sighup_and_a_broken_one_is_not_while_nobody_is_dropped() {
    let (database, old, new) = (Database::create("renewed"), Pki::new(), Pki::new());
    let server = old.issue("localhost");
    let pooler = with_tls(&database, "require", &server, None).start();
    let trusting = |pki: &Pki| format!("sslmode=verify-full sslrootcert={}", pki.ca().display());
    let mut lasting = Lasting::open(&dsn(&pooler, &trusting(&old)));
    assert_eq!(lasting.ask("BEGIN; SELECT 1"), "1");

    new.issue("localhost").replace(&server);
    let reloads = |pooler: &Pooler, line: &str, times: usize| {
        wait_until(line, LIMIT, || pooler.log().matches(line).count() == times);
    };
    pooler.signal(Signal::HUP);
    reloads(&pooler, "configuration reloaded", 1);
    assert_eq!(by_psql(&pooler, &trusting(&new)), "tls");
    assert!(by_psql(&pooler, &trusting(&old)).contains("certificate verify failed"));

    for (file, text, complaint) in [
        (&server.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "it is damaged"),
        (&server.cert, "", "there is no certificate in it"),
        (&server.key, "", "there is no private key in it"),
    ] {
        let good = fs::read(file).expect("a file of our own");
        let before = pooler.log().matches(complaint).count();
        fs::write(file, text).expect("a file of our own");
        pooler.signal(Signal::HUP);
        wait_until(complaint, LIMIT, || pooler.log().matches(complaint).count() > before);
        assert!(pooler.log().contains("reload failed"), "{}", pooler.log());
        assert_eq!(by_psql(&pooler, &trusting(&new)), "tls", "the old one stays");
        fs::write(file, good).expect("a file of our own");
    }
    // A key of another pair.
    let other = new.issue("other");
    fs::copy(&other.key, &server.key).expect("a file of our own");
    pooler.signal(Signal::HUP);
    wait_until("the mismatch", LIMIT, || pooler.log().contains("does not belong to"));
    assert_eq!(by_psql(&pooler, &trusting(&new)), "tls", "the old one stays");
    // Whoever was there all the time is still in its transaction.
    assert_eq!(lasting.ask("SELECT 2"), "2");
    assert_eq!(lasting.ask("COMMIT; SELECT 3"), "3");
}

#[test]
fn a_result_of_many_megabytes_goes_through_tls_at_constant_memory_at_the_clients_pace() {
    let (database, pki) = (Database::create("large"), Pki::new());
    let pooler = with_tls(&database, "require", &pki.issue("localhost"), None).start();
    assert_eq!(by_psql(&pooler, "sslmode=require"), "tls");
    let before = resident(&pooler);
    let copy = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT";
    let mut slow = psql(&dsn(&pooler, "sslmode=require"));
    let mut slow = slow.args(["-c", copy]).stdout(Stdio::piped()).spawn().expect("psql is there");
    // Nobody reads, so in the end PostgreSQL itself has to wait.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'COPY%'";
    wait_until("PostgreSQL to wait for the client", LIMIT, || database.sql(waits) == "1");
    assert!(resident(&pooler) < before + CONSTANT, "{} KiB, {before} before", resident(&pooler));
    let mut stdout = slow.stdout.take().expect("piped");
    let read = std::io::copy(&mut stdout, &mut std::io::sink()).expect("it reads to the end");
    assert!(slow.wait().expect("its own child").success());
    assert_eq!(read, 200_000 * 1001);
    assert!(resident(&pooler) < before + CONSTANT, "{} KiB, {before} before", resident(&pooler));
    // The same way back.
    run(psql(&dsn(&pooler, "sslmode=require")).args(["-c", "CREATE TABLE t (x text)"]));
    let sent = format!("\\copy t from program 'yes {} | head -n 100000'", "y".repeat(1000));
    run(psql(&dsn(&pooler, "sslmode=require")).args(["-c", &sent]));
    assert_eq!(database.sql("SELECT count(*), sum(length(x)) FROM t"), "100000|100000000");
    assert!(resident(&pooler) < before + CONSTANT, "{} KiB, {before} before", resident(&pooler));
}

/// The most memory that the pooler has had, in KiB.
fn resident(pooler: &Pooler) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pooler.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What the allocator may keep of a few buffers, in KiB; far less than what passes through.
const CONSTANT: u64 = 64 * 1024;
const LIMIT: Duration = Duration::from_secs(60);
