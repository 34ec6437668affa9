//! Against a scripted server on loopback: what a real one never does. What it does do is tested with PostgreSQL.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::net::dns::DnsTtl;
use crate::net::{Dns, ServerTls, TcpOptions, TlsVersions};
use crate::wire::error::{ClientError, ErrorReply};
use crate::wire::message::backend as say;

const STARTUP: &[u8] = b"\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0";

fn tls(sslmode: SslMode) -> ConnectTls {
    ConnectTls::build(&ServerTls {
        sslmode,
        key_file: None,
        cert_file: None,
        ca_file: None,
        versions: TlsVersions::default(),
        tls13_ciphers: Vec::new(),
    })
    .expect("needs no files")
}

fn connector() -> Connector {
    let second = Duration::from_secs(1);
    Connector { dns: Dns::new(DnsTtl { found: second, failed: second }), tcp: TcpOptions::default() }
}

fn target<'a>(connector: &'a Connector, endpoint: &'a Arc<Endpoint>) -> ConnectTarget<'a> {
    ConnectTarget {
        connector,
        endpoint,
        turn: 0,
        tls: None,
        deadline: Some(Instant::now() + Duration::from_secs(20)),
        user: "u",
        database: "d",
        params: &[],
        credential: &Credential::None,
        connect_query: None,
        max_prepared_statements: 5,
        id: ServerId(3),
        generation: 4,
    }
}

/// Connects to a server that plays one of the scripts at each connection. Gives what `look` saw of the logged-in
/// server, which is closed then, and what each connection received.
async fn connect_to<T>(
    scripts: Vec<Vec<Play>>,
    mode: SslMode,
    connect_query: Option<&str>,
    look: impl FnOnce(Server) -> T,
) -> (Result<T, LoginFailure>, Vec<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let peer = tokio::spawn(async move {
        let mut received = Vec::new();
        for script in scripts {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut seen = Vec::new();
            for play in script {
                play.perform(&mut socket, &mut seen).await;
            }
            received.push(seen);
        }
        received
    });
    let (connector, tls) = (connector(), tls(mode));
    let endpoint = Arc::new(Endpoint { host: Host::Name("127.0.0.1".into()), port });
    let target = ConnectTarget { connect_query, tls: Some(&tls), ..target(&connector, &endpoint) };
    let result = connect(&target).await.map(look);
    let received = timeout_at(Instant::now() + Duration::from_secs(20), peer).await;
    (result, received.expect("as many connections as scripts").expect("no panic"))
}

/// One thing that the scripted server does.
enum Play {
    /// Reads so many bytes.
    Read(usize),
    /// Writes.
    Say(Vec<u8>),
    /// Reads until the other side is gone.
    Stay,
}

impl Play {
    async fn perform(self, socket: &mut TcpStream, seen: &mut Vec<u8>) {
        match self {
            Self::Read(length) => {
                let mut bytes = vec![0; length];
                socket.read_exact(&mut bytes).await.expect("the other side speaks");
                seen.extend_from_slice(&bytes);
            }
            Self::Say(bytes) => socket.write_all(&bytes).await.expect("the other side listens"),
            Self::Stay => {
                let _ = socket.read_to_end(seen).await;
            }
        }
    }
}

fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out);
    out.to_vec()
}

fn welcome() -> Vec<u8> {
    bytes(|out| {
        say::authentication_ok(out);
        say::parameter_status(out, "TimeZone", b"UTC");
        say::backend_key_data(out, 77, b"1234");
        say::ready_for_query(out, TxStatus::Idle);
    })
}

fn refusal(code: SqlState) -> Vec<u8> {
    bytes(|out| ErrorReply::fatal(code, "no").encode(out))
}

fn plain(answer: Vec<u8>) -> Vec<Play> {
    vec![Play::Read(STARTUP.len()), Play::Say(answer), Play::Stay]
}

/// A server that answers SSLRequest so, and goes on so.
fn asked(answer: &[u8], mut then: Vec<Play>) -> Vec<Play> {
    let mut script = vec![Play::Read(8), Play::Say(answer.to_vec())];
    script.append(&mut then);
    script
}

#[tokio::test]
async fn a_login_fills_the_server() {
    let after = bytes(|out| {
        say::parameter_status(out, "TimeZone", b"CET");
        ErrorReply::notice("reloaded").encode(out);
    });
    let look = |server: Server| {
        assert_eq!(server.params.get("TimeZone"), Some(&b"CET"[..]), "what comes right after the login counts too");
        assert_eq!((server.key.pid, &*server.key.secret, server.generation), (77, &b"1234"[..], 4));
        assert_eq!((server.shared.id, server.shared.remote_pid), (ServerId(3), 77));
        assert_eq!((server.shared.addr.0.as_str(), server.shared.addr.1), ("127.0.0.1", server.endpoint.port));
        assert!(server.shared.local_addr.1 > 0 && server.shared.tls.is_empty());
    };
    let script = plain([welcome(), after].concat());
    let (result, received) = connect_to(vec![script], SslMode::Disable, None, look).await;
    assert_eq!((result, received), (Ok(()), vec![STARTUP.to_vec()]));
}

#[tokio::test]
async fn what_is_no_postgresql_is_left_with_a_reason() {
    let protocol = |what| LoginFailure::Protocol(what);
    let length = || protocol("impossible length of a message during login");
    for (answer, expected) in [
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), length()),
        (b"R\0\0\0\x03".to_vec(), length()),
        (b"R\xff\xff\xff\xff".to_vec(), length()),
        (b"R\0\x01\0\x01".to_vec(), length()),
        (b"\0\0\0\0\x04".to_vec(), protocol("unexpected message during login")),
        ([welcome(), b"D\0\0\0\x04".to_vec()].concat(), protocol("unexpected message after login")),
        (
            refusal(SqlState::CANNOT_CONNECT_NOW),
            LoginFailure::Refused(Box::new(ErrorReply::fatal(SqlState::CANNOT_CONNECT_NOW, "no"))),
        ),
    ] {
        let (result, _) = connect_to(vec![plain(answer.clone())], SslMode::Disable, None, drop).await;
        assert_eq!(result.err(), Some(expected), "{}", answer.escape_ascii());
    }
    let (result, _) = connect_to(vec![vec![Play::Read(STARTUP.len())]], SslMode::Disable, None, drop).await;
    assert_eq!(result.err(), Some(LoginFailure::Closed));
}

#[tokio::test]
async fn an_answer_to_the_tls_request_is_one_byte_and_nothing_behind_it() {
    for (answer, reason, detail) in [
        (&b"N"[..], "server refused SSL", "the server has no TLS, which server_tls_sslmode demands"),
        (b"E\0\0\0\x10SFATAL\0\0", "connect failed", "answered SSLRequest with an error"),
        (b"HTTP/1.1 400 Bad Request", "unknown pkt from server", "none of PostgreSQL's"),
        (b"Sand an injected answer", "unknown pkt from server", "received unencrypted data after SSL response"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "unknown pkt from server", "received unencrypted data after SSL response"),
    ] {
        let (result, received) = connect_to(vec![asked(answer, vec![Play::Stay])], SslMode::Require, None, drop).await;
        let failure = result.expect_err("refused");
        assert_eq!(failure.reason(), reason);
        assert!(failure.to_string().contains(detail), "{failure}");
        assert_eq!(received, [b"\0\0\0\x08\x04\xd2\x16\x2f"], "nothing was said to it");
    }
}

#[tokio::test]
async fn each_sslmode_tries_what_libpq_tries() {
    let no_line = || refusal(SqlState::INVALID_AUTHORIZATION);
    let wrong = || refusal(SqlState::INVALID_PASSWORD);
    let hang_up = || asked(b"S", vec![Play::Read(1)]);
    for (mode, scripts, expected) in [
        (SslMode::Disable, vec![plain(welcome())], "ok"),
        (SslMode::Disable, vec![plain(no_line())], "no"),
        (SslMode::Allow, vec![plain(welcome())], "ok"),
        (SslMode::Allow, vec![plain(wrong())], "no"), // TLS would not make the password right
        (SslMode::Allow, vec![plain(no_line()), asked(b"N", vec![Play::Stay])], "no"), // the server's own words
        (SslMode::Allow, vec![plain(no_line()), hang_up()], "no"),
        (SslMode::Prefer, vec![asked(b"N", plain(welcome()))], "ok"),
        (SslMode::Prefer, vec![asked(b"N", plain(no_line()))], "no"), // plain was tried already
        (SslMode::Prefer, vec![hang_up(), plain(welcome())], "ok"),
        (SslMode::Prefer, vec![hang_up(), plain(wrong())], "no"),
        (SslMode::Require, vec![asked(b"N", vec![Play::Stay])], "server refused SSL"),
        (SslMode::Require, vec![hang_up()], "TLS handshake failed"),
    ] {
        let connections = scripts.len();
        let (result, received) = connect_to(scripts, mode, None, drop).await;
        let said = result.map_or_else(|failure| failure.reason(), |()| "ok".into());
        assert_eq!((said.as_str(), received.len()), (expected, connections), "{mode:?}");
    }
}

#[tokio::test]
async fn connect_query_may_fail_but_must_leave_the_server_idle() {
    let done = |status| {
        bytes(|out| {
            say::parameter_status(out, "TimeZone", b"CET");
            say::command_complete(out, "SET");
            say::ready_for_query(out, status);
        })
    };
    let failed = bytes(|out| {
        ErrorReply::error(SqlState::UNDEFINED_OBJECT, "no such thing").encode(out);
        say::ready_for_query(out, TxStatus::Idle);
    });
    let open = LoginFailure::ConnectQuery("connect_query leaves a transaction open");
    let copy = LoginFailure::ConnectQuery("connect_query begins a COPY");
    for (answer, expected) in [
        (done(TxStatus::Idle), Ok("CET")),
        (failed, Ok("UTC")),
        (done(TxStatus::InTransaction), Err(open)),
        (b"G\0\0\0\x07\0\0\0".to_vec(), Err(copy)),
    ] {
        let query = b"Q\0\0\0\x08SET\0";
        let script = vec![
            Play::Read(STARTUP.len()),
            Play::Say(welcome()),
            Play::Read(query.len()),
            Play::Say(answer),
            Play::Stay,
        ];
        let look = |server: Server| server.params.get("TimeZone").map(|zone| zone.escape_ascii().to_string());
        let (zone, received) = connect_to(vec![script], SslMode::Disable, Some("SET"), look).await;
        assert_eq!(zone, expected.map(|zone: &str| Some(zone.to_owned())));
        assert_eq!(received, [[STARTUP, query].concat()]);
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let connector = connector();
    let endpoint = Arc::new(Endpoint { host: Host::Name("127.0.0.1".into()), port });
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let failure = connect(&ConnectTarget { deadline, ..target(&connector, &endpoint) }).await.expect_err("gives up");
    assert_eq!(failure.reason(), "connect timeout");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let connector = connector();
    let endpoint = Arc::new(Endpoint { host: Host::Name("127.0.0.1".into()), port });
    let target = target(&connector, &endpoint);
    let failure = connect(&target).await.expect_err("nobody there");
    assert_eq!((failure.reason().as_str(), failure.is_temporary()), ("connect failed", true));
    assert_eq!(failure.reply().code, SqlState::CONNECTION_FAILURE);
}
