use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::net::address::Address;
use crate::net::dns::DnsTtl;

fn connector() -> Connector {
    let ttl = DnsTtl { found: Duration::from_secs(15), failed: Duration::from_secs(15) };
    Connector {
        dns: Dns::new(ttl),
        tcp: TcpOptions { keepidle: Some(Duration::from_secs(77)), ..TcpOptions::default() },
    }
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint { host: Host::Name(host.into()), port }
}

/// A port on loopback where nobody listens.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    listener.local_addr().expect("address").port()
}

#[tokio::test]
async fn a_name_is_tried_by_all_its_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    // `localhost` may be ::1 as well, where nobody listens; whichever comes first.
    for (host, turn) in [("127.0.0.1", 0), ("localhost", 0), ("localhost", 1), ("localhost", usize::MAX)] {
        let connected = connector().connect(&endpoint(host, address.port()), turn, None).await;
        let stream = connected.expect(host);
        assert_eq!(stream.peer().expect("peer"), Address::Tcp(address));
        let Stream::Tcp(socket) = &stream else { panic!("not TCP") };
        assert!(socket.nodelay().expect("nodelay"));
        let socket = SockRef::from(socket);
        assert!(socket.keepalive().expect("keepalive"));
        assert_eq!(socket.tcp_keepalive_time().expect("time"), Duration::from_secs(77));
    }
}

#[tokio::test]
async fn a_unix_socket_is_found_by_its_directory() {
    let dir = tempfile::tempdir().expect("directory");
    let host = || Host::UnixDir(Arc::from(dir.path()));
    let _listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).expect("bind");
    let stream = connector().connect(&Endpoint { host: host(), port: 5432 }, 0, None).await.expect("connect");
    assert!(matches!(stream, Stream::Unix(_)));
    let error = connector().connect(&Endpoint { host: host(), port: 5433 }, 0, None).await.expect_err("nobody");
    let words = error.to_string();
    assert!(words.contains("unix socket") && words.contains(".s.PGSQL.5433") && words.contains("No such"), "{words}");
    assert_eq!(error.reason(), "connect failed");
}

#[tokio::test]
async fn failures_say_what_where_and_what_to_look_at() {
    let refused = connector().connect(&endpoint("127.0.0.1", free_port().await), 0, None).await.expect_err("refused");
    assert!(matches!(refused.cause, ConnectCause::Refused));
    assert_eq!(refused.address, None, "it is in the endpoint already");
    assert!(refused.to_string().contains("could not connect to 127.0.0.1:"), "{refused}");
    assert!(refused.to_string().contains("connection refused"), "{refused}");

    let named = connector().connect(&endpoint("localhost", free_port().await), 0, None).await.expect_err("refused");
    assert!(named.address.is_some_and(|address| address.is_loopback()), "{named}");

    let unknown = connector().connect(&endpoint("no-such-host.invalid", 5432), 0, None).await.expect_err("unknown");
    assert!(matches!(unknown.cause, ConnectCause::Dns(_)));
    assert_eq!(unknown.reason(), "server DNS lookup failed");
    assert!(unknown.to_string().contains("no-such-host.invalid"), "{unknown}");
}

#[tokio::test]
async fn a_deadline_ends_a_connection_attempt() {
    // The backlog of one is full, so that further connections are not answered.
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind("127.0.0.1:0".parse().expect("address")).expect("bind");
    let listener = socket.listen(1).expect("listen");
    let port = listener.local_addr().expect("address").port();
    let mut open = Vec::new();
    let error = loop {
        let deadline = Instant::now() + Duration::from_millis(200);
        match connector().connect(&endpoint("127.0.0.1", port), 0, Some(deadline)).await {
            Ok(stream) => open.push(stream),
            Err(error) => break error,
        }
        assert!(open.len() < 100);
    };
    assert!(matches!(error.cause, ConnectCause::TimedOut), "{error}");
    assert_eq!(error.reason(), "connect timeout");
}

#[test]
fn what_is_left_of_the_time_is_divided() {
    let now = Instant::now();
    for (left, seconds) in [(1, 12), (2, 6), (3, 4), (4, 3)] {
        assert_eq!(share(now, now + Duration::from_secs(12), left), now + Duration::from_secs(seconds));
    }
    assert_eq!(share(now + Duration::from_secs(1), now, 2), now + Duration::from_secs(1), "too late is now");
}
