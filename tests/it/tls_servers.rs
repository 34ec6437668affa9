//! TLS with servers: a real PostgreSQL with `ssl = on`, every mode, client certificates, cancel requests, reloads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use pglifeguard::app::demo::{Cluster, ClusterOptions, Login, LoginMethod, TlsFiles, Watch};
use rustix::process::Signal;

use crate::support::pki::{Pair, Pki};
use crate::support::pooler::Pooler;
use crate::support::programs::{finish, psql};
use crate::support::raw::{CANCEL_REQUEST, Message, Raw, V3_0, packet, query, startup};
use crate::support::{PoolerConfig, wait_until};

/// A server that has TLS, and users who need it, must not use it, or prove themselves by it.
struct Fixture {
    cluster: Cluster,
    pki: Pki,
    client: Pair,
    expired: Pair,
    others: Pki,
    stranger: Pair,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let pki = Pki::new();
        let server = pki.issue("localhost");
        let options = ClusterOptions {
            logins: vec![
                Login::new("app", "app", LoginMethod::Scram),
                Login::new("only_tls", "app", LoginMethod::Scram).over_tls_only(),
                Login::new("only_plain", "app", LoginMethod::Scram),
                Login::new("by_cert", "app", LoginMethod::Scram),
            ],
            tls: Some(TlsFiles { cert: server.cert, key: server.key, client_ca: Some(pki.ca().to_owned()) }),
            databases: Vec::new(),
            hba: vec![
                "hostssl all only_plain 127.0.0.1/32 reject".into(),
                "hostssl all by_cert 127.0.0.1/32 cert".into(),
                "host all by_cert 127.0.0.1/32 reject".into(),
            ],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&options, &Watch::QUIET).unwrap_or_else(|error| panic!("no PostgreSQL: {error}"));
        let (client, expired, others) = (pki.issue("by_cert"), pki.issue_expired("by_cert"), Pki::new());
        let stranger = others.issue("by_cert");
        Fixture { cluster, pki, client, expired, others, stranger }
    })
}

/// Everybody's password is `app`, towards us too.
fn config(host: &str, port: u16, mode: &str) -> PoolerConfig {
    let entry = format!("host = \"{host}\"\nport = {port}\ndbname = \"postgres\"\n");
    let config = PoolerConfig::new().section("databases.app", &entry).set("server_tls_sslmode", &format!("\"{mode}\""));
    ["only_tls", "only_plain", "by_cert"].into_iter().fold(config, |config, user| config.user(user, "app"))
}

/// How PostgreSQL says that its connection with the pooler is encrypted; or what the client was told.
fn encrypted(pooler: &Pooler, user: &str) -> String {
    let sql = "SELECT CASE WHEN ssl THEN version ELSE 'plain' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let (success, stdout, stderr) = finish(psql(&pooler.dsn(user, "app", "app")).args(["-Atc", sql]));
    if success { stdout.trim().to_owned() } else { stderr }
}

#[test]
fn every_sslmode_gets_what_libpq_would() {
    let Fixture { cluster, pki, client, expired, others, stranger } = fixture();
    let port = cluster.primary().port();
    let with = |pair: Option<&Pair>, pki: Option<&Pki>| {
        let mut settings = Vec::new();
        settings.extend(pair.map(|pair| ("server_tls_cert_file", &pair.cert)));
        settings.extend(pair.map(|pair| ("server_tls_key_file", &pair.key)));
        let mut settings: Vec<_> = settings.into_iter().map(|(key, path)| (key, path.display().to_string())).collect();
        settings.extend(pki.map(|pki| ("server_tls_ca_file", pki.ca().display().to_string())));
        settings
    };
    let handshake = "TLS handshake failed";
    let (unknown, late) = ("does not know the authority that signed our certificate", "our certificate has expired");
    for (mode, host, files, user, expected) in [
        ("disable", "localhost", with(None, None), "app", "plain"),
        ("disable", "localhost", with(None, None), "only_tls", "pg_hba.conf rejects"),
        ("allow", "localhost", with(None, None), "app", "plain"),
        ("allow", "localhost", with(None, None), "only_tls", "TLSv1.3"),
        ("prefer", "localhost", with(None, None), "app", "TLSv1.3"),
        ("prefer", "localhost", with(None, None), "only_plain", "plain"),
        ("require", "localhost", with(None, None), "app", "TLSv1.3"),
        ("require", "localhost", with(None, None), "only_plain", "pg_hba.conf rejects"),
        ("require", "localhost", with(None, None), "by_cert", "connection requires a valid client certificate"),
        ("require", "localhost", with(Some(client), None), "by_cert", "TLSv1.3"),
        ("require", "localhost", with(Some(stranger), None), "by_cert", unknown),
        ("require", "localhost", with(Some(expired), None), "by_cert", late),
        ("verify-ca", "127.0.0.1", with(None, Some(pki)), "app", "TLSv1.3"),
        ("verify-ca", "localhost", with(None, Some(others)), "app", handshake),
        ("verify-full", "localhost", with(Some(client), Some(pki)), "by_cert", "TLSv1.3"),
        ("verify-full", "127.0.0.1", with(None, Some(pki)), "app", handshake),
    ] {
        let config = config(host, port, mode).set("query_wait_timeout", "3").set("client_login_timeout", "20");
        let config = files.iter().fold(config, |config, (key, path)| config.set(key, &format!("\"{path}\"")));
        let pooler = config.start();
        let seen = encrypted(&pooler, user);
        assert!(seen.contains(expected), "server_tls_sslmode={mode} {user}@{host}: {seen}\n{}", pooler.log());
        let told = [unknown, late].contains(&expected);
        assert!(!told || pooler.log().contains(expected), "{}", pooler.log());
    }
}

/// Passes connections on to a server, and remembers what each one began with.
struct Wiretap {
    port: u16,
    beginnings: Arc<Mutex<Vec<[u8; 8]>>>,
}

impl Wiretap {
    fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let beginnings = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&beginnings);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                thread::spawn(move || pass_on(client, server, &noted));
            }
        });
        Self { port, beginnings }
    }

    fn beginnings(&self) -> Vec<[u8; 8]> {
        self.beginnings.lock().expect("no panic").clone()
    }
}

fn pass_on(mut client: TcpStream, server: u16, noted: &Mutex<Vec<[u8; 8]>>) {
    let mut beginning = [0; 8];
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { return };
    if client.read_exact(&mut beginning).and_then(|()| server.write_all(&beginning)).is_err() {
        return;
    }
    noted.lock().expect("no panic").push(beginning);
    let (Ok(mut from_server), Ok(mut to_client)) = (server.try_clone(), client.try_clone()) else { return };
    let back = thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        to_client.shutdown(std::net::Shutdown::Both)
    });
    let _ = std::io::copy(&mut client, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Both);
    drop(back.join());
}

#[test]
fn a_cancel_request_goes_through_tls_where_the_connection_does() {
    let tap = Wiretap::to(fixture().cluster.primary().port());
    let pooler = config("localhost", tap.port, "require").set("auth_type", "\"trust\"").start();
    let mut client = Raw::tcp(pooler.port());
    client.send(&startup(V3_0, &[("user", "only_tls"), ("database", "app")]));
    let answer = client.until(b'Z');
    let key = answer.iter().find(|message| message.tag == b'K').expect("a key").body.clone();
    client.send(&query("SELECT pg_sleep(61)"));
    let runs = "SELECT wait_event FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)'";
    fixture().cluster.primary().wait_for(runs, "PgSleep", &Watch::QUIET).expect("it runs");
    let mut request = Raw::tcp(pooler.port());
    request.send(&packet(CANCEL_REQUEST, &key));
    assert_eq!(request.rest(), [""; 0]);
    let answer: Vec<String> = client.until(b'Z').iter().map(Message::text).collect();
    assert!(answer.contains(&"57014 canceling statement due to user request".to_owned()), "{answer:?}");
    let ssl_request = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    assert_eq!(tap.beginnings(), [ssl_request; 2], "the server connection, and the cancel request");
}

#[test]
fn a_reload_renews_servers_only_if_their_tls_changed() {
    let (port, others) = (fixture().cluster.primary().port(), Pki::new());
    let ca = others.ca().with_file_name("trusted.crt");
    std::fs::copy(fixture().pki.ca(), &ca).expect("files of our own");
    let pooler =
        config("localhost", port, "verify-full").set("server_tls_ca_file", &format!("\"{}\"", ca.display())).start();
    let backend = || {
        let (success, stdout, stderr) = finish(psql(&pooler.app_dsn("app")).args(["-Atc", "SELECT pg_backend_pid()"]));
        if success { Ok(stdout) } else { Err(stderr) }
    };
    let reload = |times| {
        pooler.signal(Signal::HUP);
        wait_until("the reload", LIMIT, || pooler.log().matches("configuration reloaded").count() == times);
    };
    let first = backend().expect("trusted");
    reload(1);
    assert_eq!(backend().expect("trusted"), first, "nothing changed");
    // Now it trusts somebody else: the connection that it has is given up, and no new one is made.
    std::fs::copy(others.ca(), &ca).expect("files of our own");
    reload(2);
    let refused = finish(psql(&format!("{}?connect_timeout=5", pooler.app_dsn("app"))).args(["-Atc", "SELECT 1"]));
    assert!(!refused.0, "{refused:?}");
    std::fs::copy(fixture().pki.ca(), &ca).expect("files of our own");
    reload(3);
    assert_ne!(backend().expect("trusted again"), first);
}

const LIMIT: Duration = Duration::from_secs(60);
