use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Instant, SystemTime};

use tokio::net::UnixStream;

use super::*;
use crate::server::ServerShared;
use crate::server::server::BackendKey;
use crate::server::statements::{StatementId, Statements};
use crate::types::{Endpoint, Host, ServerId};
use crate::wire::params::ParamSet;

fn pair() -> (Server, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let server = Server {
        matched: None,
        assigned: None,
        numbers: crate::server::NumbersOf::Nobody,
        stream: Stream::Unix(ours),
        params: ParamSet::default(),
        statements: Statements::new(4),
        key: BackendKey { pid: 1, secret: Arc::from([0; 4]) },
        endpoint: Arc::new(Endpoint { host: Host::Name("db".into()), port: 1 }),
        catalog: None,
        surprises: 0,
        generation: 0,
        connected_at: Instant::now(),
        shared: Arc::new(ServerShared {
            id: ServerId(1),
            connected_at: SystemTime::now(),
            remote_pid: 1,
            addr: (String::new(), 0),
            local_addr: (String::new(), 0),
            tls: "".into(),
            requested_at_us: AtomicU64::new(0),
            link: AtomicU64::new(0),
            prepared: AtomicU32::new(1),
        }),
    };
    (server, theirs)
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![tag];
    frame.extend((body.len() as u32 + 4).to_be_bytes());
    frame.extend(body);
    frame
}

/// Answers the query with `reply`, and hangs up if there is none.
async fn ask(reply: &[Vec<u8>]) -> (Server, Result<(), SimpleError>) {
    let (mut server, mut peer) = pair();
    server.statements.insert(StatementId(1));
    let reply = reply.concat();
    let peer = tokio::spawn(async move {
        let mut query = [0; 14];
        peer.read_exact(&mut query).await.expect("a query");
        assert_eq!(&query, b"Q\0\0\0\rSELECT 1\0");
        peer.write_all(&reply).await.expect("it reads");
        if reply.is_empty() { None } else { Some(peer) }
    });
    let result = run(&mut server, "SELECT 1", Some(Duration::from_secs(5))).await;
    let _peer = peer.await.expect("no panic");
    (server, result)
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_to_its_end_and_nothing_else_is_taken_for_one() {
    let ready = frame(b'Z', b"I");
    let huge = frame(b'D', &vec![0; 3 * KEPT_MAX as usize]);
    for (reply, expected) in [
        (vec![frame(b'I', b""), ready.clone()], "ok"),
        (vec![frame(b'T', b"\0\0"), huge, frame(b'C', b"SELECT 1\0"), ready.clone()], "ok"),
        (vec![frame(b'N', b"SNOTICE\0\0"), frame(b'C', b"DISCARD ALL\0"), ready.clone()], "ok"),
        (vec![frame(b'E', b"C42601\0Mbad\0\0"), ready.clone()], "bad (42601)"),
        (vec![frame(b'C', b"BEGIN\0"), frame(b'Z', b"T")], "unexpected answer: a transaction was left open"),
        (vec![frame(b'G', b"\0\0\0")], "unexpected answer: a COPY"),
        (vec![frame(b'1', b"")], "unexpected answer: a message that does not belong there"),
        (vec![vec![b'C', 0, 0, 0, 3]], "unexpected answer: a message of impossible length"),
        (vec![frame(b'C', b"SELECT 1\0")], "no answer in time"),
        (vec![], "early eof"),
    ] {
        let (_, result) = ask(&reply).await;
        let text = result.map_or_else(|error| error.to_string(), |()| "ok".into());
        assert_eq!(text, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_changes_is_noted() {
    let (server, result) =
        ask(&[frame(b'S', b"TimeZone\0UTC\0"), frame(b'C', b"DISCARD ALL\0"), frame(b'Z', b"I")]).await;
    assert!(result.is_ok());
    assert_eq!(server.params.get("TimeZone"), Some(&b"UTC"[..]));
    assert!(server.statements.is_empty());
    assert_eq!(server.shared.prepared.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_server_at_rest_is_alive_while_it_is_silent_or_says_what_it_may() {
    for (said, alive) in [
        (vec![], true),
        (frame(b'S', b"TimeZone\0UTC\0"), true),
        ([frame(b'N', b"\0"), frame(b'A', b"\0\0\0\0a\0b\0")].concat(), true),
        (frame(b'E', b"SFATAL\0C57P01\0\0"), false),
        (frame(b'Z', b"I"), false),
        (b"S\0\0\0\x20Half".to_vec(), false),
        (b"S\0\0\0\0".to_vec(), false),
        (b"S".to_vec(), false),
    ] {
        let (mut server, mut peer) = pair();
        peer.write_all(&said).await.expect("it reads");
        // Lets the runtime notice.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(is_alive(&mut server), alive, "{said:?}");
        if alive {
            drop(peer);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(!is_alive(&mut server), "it hung up");
        }
    }
}
