//! Connecting and logging in to real PostgreSQL: every password method, every sslmode, cancel requests.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use pglifeguard::app::demo::{Cluster, ClusterOptions, Login, LoginMethod, TlsFiles, Watch};
use pglifeguard::net::dns::DnsTtl;
use pglifeguard::net::{ConnectTls, Connector, Dns, ServerTls, SslMode, TcpOptions, TlsVersions};
use pglifeguard::server::Server;
use pglifeguard::server::cancel::{self, CancelTarget};
use pglifeguard::server::connect::{ConnectTarget, connect};
use pglifeguard::server::login::{Credential, LoginFailure};
use pglifeguard::server::server::BackendKey;
use pglifeguard::types::{Endpoint, Host, Secret, ServerId};
use pglifeguard::wire::md5::Md5Secret;
use pglifeguard::wire::message::frontend;
use pglifeguard::wire::scram::{ScramKeys, ScramVerifier};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// A server with TLS, one user for each way in, and a certificate for `localhost` that signed itself.
struct Fixture {
    cluster: Cluster,
    cert: PathBuf,
    other_cert: PathBuf,
    _dir: TempDir,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let dir = TempDir::new().expect("a directory");
        let (cert, key) = self_signed(&dir, "server");
        let (other_cert, _) = self_signed(&dir, "other");
        let options = ClusterOptions {
            logins: vec![
                Login::new("by_scram", "secret", LoginMethod::Scram),
                Login::new("by_md5", "secret", LoginMethod::Md5),
                Login::new("by_password", "secret", LoginMethod::Password),
                Login::new("by_trust", "secret", LoginMethod::Trust),
                Login::new("only_tls", "secret", LoginMethod::Scram).over_tls_only(),
                Login::new("only_plain", "secret", LoginMethod::Scram),
            ],
            tls: Some(TlsFiles { cert: cert.clone(), key, client_ca: None }),
            databases: Vec::new(),
            hba: vec!["hostssl all only_plain 127.0.0.1/32 reject".into()],
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&options, &Watch::QUIET).unwrap_or_else(|error| panic!("no PostgreSQL: {error}"));
        Fixture { cluster, cert, other_cert, _dir: dir }
    })
}

fn self_signed(dir: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let files = [("crt", params.self_signed(&key).expect("signed").pem()), ("key", key.serialize_pem())];
    let [cert, key] = files.map(|(kind, text)| {
        let path = dir.path().join(format!("{name}.{kind}"));
        std::fs::write(&path, text).expect("a file of our own");
        path
    });
    (cert, key)
}

/// What a login is tried with.
struct Attempt<'a> {
    host: Host,
    user: &'a str,
    database: &'a str,
    credential: Credential,
    tls: Option<ConnectTls>,
}

impl<'a> Attempt<'a> {
    fn new(user: &'a str, credential: Credential) -> Self {
        Self { host: Host::Name("localhost".into()), user, database: "postgres", credential, tls: None }
    }

    fn tls(user: &'a str, mode: SslMode, ca: Option<&PathBuf>) -> Self {
        let settings = ServerTls {
            sslmode: mode,
            key_file: None,
            cert_file: None,
            ca_file: ca.cloned(),
            versions: TlsVersions::default(),
            tls13_ciphers: Vec::new(),
        };
        let tls = Some(ConnectTls::build(&settings).expect("right settings"));
        Self { tls, ..Self::new(user, plain("secret")) }
    }

    async fn run(&self) -> Result<Server, LoginFailure> {
        let port = fixture().cluster.primary().port();
        connect(&ConnectTarget {
            connector: &connector(),
            endpoint: &Arc::new(Endpoint { host: self.host.clone(), port }),
            turn: 0,
            tls: self.tls.as_ref(),
            deadline: Some(Instant::now() + LIMIT),
            user: self.user,
            database: self.database,
            params: &[("application_name", "tried")],
            credential: &self.credential,
            connect_query: Some("SET TimeZone = 'Antarctica/Troll'"),
            max_prepared_statements: 0,
            id: ServerId(1),
            generation: 0,
        })
        .await
    }
}

fn connector() -> Connector {
    Connector { dns: Dns::new(DnsTtl { found: LIMIT, failed: LIMIT }), tcp: TcpOptions::default() }
}

fn plain(password: &str) -> Credential {
    Credential::Plain(Secret::new(password))
}

fn md5(password: &str) -> Credential {
    Credential::Md5(Md5Secret::from_password(password.as_bytes(), b"by_md5"))
}

/// The keys that a client with this password proves to have, if the server's secret is as it says.
fn keys(password: &str, salt: &[u8]) -> Credential {
    Credential::ScramKeys(ScramKeys::from_password(password.as_bytes(), salt, 4096))
}

/// What came of it: `ok`, or what clients are told.
fn told(result: Result<Server, LoginFailure>) -> String {
    result.map_or_else(|failure| failure.reason(), |_| "ok".to_owned())
}

#[tokio::test]
async fn every_method_takes_the_credentials_that_serve_it() {
    let stored =
        fixture().cluster.primary().sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'by_scram'");
    let stored = stored.expect("a superuser may read it");
    let verifier = ScramVerifier::parse(stored.trim()).expect("PostgreSQL's form");
    assert!(verifier.matches_password(b"secret"), "derived as PostgreSQL derives");
    let wrong = |user| format!("password authentication failed for user \"{user}\"");
    let mismatch = "server login failed: wrong password type".to_owned();
    let ok = "ok".to_owned();
    for (user, credential, expected) in [
        ("by_trust", Credential::None, ok.clone()),
        ("by_password", plain("secret"), ok.clone()),
        ("by_password", plain("wrong"), wrong("by_password")),
        ("by_password", Credential::None, mismatch.clone()),
        ("by_md5", plain("secret"), ok.clone()),
        ("by_md5", md5("secret"), ok.clone()),
        ("by_md5", md5("wrong"), wrong("by_md5")),
        ("by_scram", plain("secret"), ok.clone()),
        ("by_scram", plain("wrong"), wrong("by_scram")),
        ("by_scram", keys("secret", verifier.salt()), ok),
        ("by_scram", keys("wrong", verifier.salt()), wrong("by_scram")),
        ("by_scram", keys("secret", b"another salt"), mismatch.clone()),
        ("by_scram", md5("secret"), mismatch),
        ("nobody", plain("secret"), wrong("nobody")),
    ] {
        assert_eq!(told(Attempt::new(user, credential.clone()).run().await), expected, "{user} {credential:?}");
    }
    let nowhere = Attempt { database: "nowhere", ..Attempt::new("by_trust", Credential::None) }.run().await;
    assert_eq!(nowhere.expect_err("unknown").code().map(|code| code.0), Some(*b"3D000"));
}

#[tokio::test]
async fn a_login_brings_parameters_and_the_cancel_key() {
    let server = Attempt::new("by_scram", plain("secret")).run().await.expect("logged in");
    let param = |name: &str| server.params.get(name).unwrap_or(b"").escape_ascii().to_string();
    assert_eq!((param("application_name").as_str(), param("is_superuser").as_str()), ("tried", "off"));
    assert_eq!(param("TimeZone"), "Antarctica/Troll", "connect_query ran");
    assert!(param("server_version").starts_with("1"));
    assert_eq!((server.key.secret.len(), server.shared.remote_pid), (4, server.key.pid));
    assert_eq!(server.shared.addr, ("127.0.0.1".to_owned(), fixture().cluster.primary().port()));
}

#[tokio::test]
async fn sslmodes_do_what_libpq_does() {
    let Fixture { cert, other_cert, .. } = fixture();
    for (mode, ca, user, expected) in [
        (SslMode::Allow, None, "by_scram", "plain"),
        (SslMode::Allow, None, "only_tls", "tls"),
        (SslMode::Allow, None, "only_plain", "plain"),
        (SslMode::Prefer, None, "by_scram", "tls"),
        (SslMode::Prefer, None, "only_tls", "tls"),
        (SslMode::Prefer, None, "only_plain", "plain"),
        (SslMode::Require, None, "by_scram", "tls"),
        (SslMode::Require, None, "only_plain", "pg_hba.conf rejects"),
        (SslMode::VerifyCa, Some(cert), "by_scram", "tls"),
        (SslMode::VerifyCa, Some(other_cert), "by_scram", "TLS handshake failed"),
        (SslMode::VerifyFull, Some(cert), "by_scram", "tls"),
        (SslMode::VerifyFull, Some(other_cert), "by_scram", "TLS handshake failed"),
    ] {
        let result = Attempt::tls(user, mode, ca).run().await;
        let seen = match &result {
            Ok(server) if server.shared.tls.is_empty() => "plain".to_owned(),
            Ok(server) => server.shared.tls.get(..3).unwrap_or_default().to_lowercase(),
            Err(failure) => failure.reason(),
        };
        assert!(seen.starts_with(expected), "{mode:?} {user}: {seen}");
    }
    assert!(told(Attempt::new("only_tls", plain("secret")).run().await).starts_with("pg_hba.conf rejects"));
    let by_address = Host::Name("127.0.0.1".into());
    let attempt = Attempt { host: by_address, ..Attempt::tls("by_scram", SslMode::VerifyFull, Some(cert)) };
    assert_eq!(told(attempt.run().await), "TLS handshake failed", "the certificate is for localhost");
}

#[tokio::test]
async fn a_unix_socket_never_has_tls() {
    let dir = Host::UnixDir(fixture().cluster.primary().socket_dir().into());
    let server = Attempt { host: dir, ..Attempt::tls("by_scram", SslMode::VerifyFull, Some(&fixture().cert)) };
    let server = server.run().await.expect("trusted");
    assert_eq!((server.shared.addr.0.as_str(), &*server.shared.tls), ("unix", ""));
    assert_eq!(server.shared.addr.1, fixture().cluster.primary().port());
}

#[tokio::test]
async fn a_cancel_request_ends_the_query_that_its_key_names() {
    for (mode, key_fits, ended_by) in
        [(SslMode::Disable, true, "57014"), (SslMode::Require, true, "57014"), (SslMode::Disable, false, "00000")]
    {
        let attempt = Attempt::tls("only_tls", mode, None);
        let attempt = if mode == SslMode::Disable { Attempt::new("by_scram", plain("secret")) } else { attempt };
        let mut server = attempt.run().await.expect("logged in");
        let sleep = if key_fits { "SELECT pg_sleep(60)" } else { "SELECT pg_sleep(0.3)" };
        let mut query = BytesMut::new();
        frontend::query(&mut query, sleep);
        server.stream.write_all(&query).await.expect("written");
        server.stream.flush().await.expect("written");
        let pid = server.key.pid;
        let sleeps = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
        fixture().cluster.primary().wait_for(&sleeps, "PgSleep", &Watch::QUIET).expect("begins");
        let secret = if key_fits { server.key.secret.clone() } else { Arc::from(*b"none") };
        let target = CancelTarget {
            connector: &connector(),
            endpoint: &server.endpoint,
            server: &server.shared,
            key: &BackendKey { pid, secret },
            tls: attempt.tls.as_ref(),
        };
        cancel::send(&target, LIMIT).await.expect("PostgreSQL closes, whatever the key");
        assert_eq!(sqlstate_up_to_ready(&mut server).await, ended_by, "{mode:?}");
    }
}

/// Reads up to ReadyForQuery.
async fn sqlstate_up_to_ready(server: &mut Server) -> String {
    let mut sqlstate = "00000".to_owned();
    loop {
        let mut head = [0; 5];
        timeout(LIMIT, server.stream.read_exact(&mut head)).await.expect("answers").expect("goes on");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        server.stream.read_exact(&mut body).await.expect("goes on");
        match head[0] {
            b'Z' => return sqlstate,
            b'E' => {
                let fields = pglifeguard::wire::error::ErrorFields::parse(&body);
                sqlstate = fields.code.expect("PostgreSQL has one").as_str().to_owned();
            }
            _ => {}
        }
    }
}

/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(20);
