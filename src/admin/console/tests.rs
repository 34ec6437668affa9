use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::*;
use crate::admin::fake::Fake;

/// A client that writes messages as bytes and reads answers as a line of tags.
struct Peer {
    stream: DuplexStream,
    inbox: BytesMut,
    fake: Arc<Fake>,
    cancelled: Arc<Notify>,
    ctx: Arc<AdminContext>,
    served: JoinHandle<io::Result<()>>,
}

fn console_user(admin: bool) -> ConsoleUser {
    ConsoleUser {
        label: "C-0x1: pgbouncer/op@unix(1)".into(),
        admin,
        key_pid: 42,
        key_secret: Arc::from(&[1u8, 2, 3, 4][..]),
        cancelled: Arc::default(),
        requests: Requests::since(SystemTime::UNIX_EPOCH),
    }
}

impl Peer {
    async fn new(admin: bool, leftover: &[u8]) -> Self {
        Self::through(1 << 20, admin, leftover).await
    }

    /// Over a connection that takes so many bytes at a time.
    async fn through(width: usize, admin: bool, leftover: &[u8]) -> Self {
        let (stream, theirs) = tokio::io::duplex(width);
        let fake = Arc::new(Fake::default());
        let ctx = Arc::new(AdminContext::new(fake.clone(), std::time::Instant::now()));
        let user = console_user(admin);
        let cancelled = user.cancelled.clone();
        let served = tokio::spawn(serve(theirs, BytesMut::from(leftover), user, ctx.clone()));
        Self { stream, inbox: BytesMut::new(), fake, cancelled, ctx, served }
    }

    /// Past the welcome.
    async fn at_ready(admin: bool) -> Self {
        let mut peer = Self::new(admin, b"").await;
        assert_eq!(peer.tags_to('Z').await, "SSSSSSSKZ");
        peer
    }

    async fn send(&mut self, messages: &[(u8, &[u8])]) {
        let mut bytes = BytesMut::new();
        for (tag, body) in messages {
            crate::admin::table::message(&mut bytes, *tag, |out| out.put_slice(body));
        }
        self.stream.write_all(&bytes).await.expect("written");
    }

    async fn query(&mut self, text: &str) {
        self.send(&[(b'Q', format!("{text}\0").as_bytes())]).await;
    }

    /// The next answer; `None` at the end.
    async fn next(&mut self) -> Option<(char, Vec<u8>)> {
        loop {
            if let [tag, a, b, c, d, ..] = *self.inbox {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.inbox.len() > length {
                    self.inbox.advance(5);
                    return Some((tag.into(), self.inbox.split_to(length - 4).to_vec()));
                }
            }
            let read = tokio::time::timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.inbox));
            if read.await.expect("an answer in time").expect("readable") == 0 {
                return None;
            }
        }
    }

    async fn tags_to(&mut self, last: char) -> String {
        let mut tags = String::new();
        while let Some((tag, _)) = self.next().await {
            tags.push(tag);
            if tag == last {
                break;
            }
        }
        tags
    }

    /// The text of the first answer of this kind, zeros as spaces.
    async fn text_of(&mut self, wanted: char) -> String {
        loop {
            let (tag, body) = self.next().await.expect("an answer");
            if tag == wanted {
                return String::from_utf8_lossy(&body).replace('\0', " ");
            }
        }
    }

    fn calls(&self) -> Vec<String> {
        self.fake.calls.lock().clone()
    }
}

#[tokio::test]
async fn the_welcome_reports_a_bouncer_and_the_key() {
    let mut peer = Peer::new(true, b"").await;
    assert_eq!(peer.text_of('S').await, "server_version 1.25.2/bouncer ");
    assert_eq!(peer.text_of('K').await.as_bytes(), [0x20, 0x20, 0x20, 42, 1, 2, 3, 4]);
    assert_eq!(peer.tags_to('Z').await, "Z");
}

#[tokio::test]
async fn what_came_with_the_login_is_answered_first() {
    let mut peer = Peer::new(true, b"Q\0\0\0\x11SHOW VERSION\0").await;
    assert_eq!(peer.tags_to('Z').await, "SSSSSSSKZ");
    assert_eq!(peer.tags_to('Z').await, "TDCZ");
}

#[tokio::test]
async fn queries_are_answered_as_their_kind_demands() {
    let mut peer = Peer::at_ready(true).await;
    for (text, tags) in [
        ("SHOW POOLS;", "TDDCZ"),
        ("select timezone", "TDCZ"),
        ("SHOW HELP", "NCZ"),
        ("SET datestyle = 'ISO'", "NCZ"),
        ("", "IZ"),
        (";", "IZ"),
        ("RESUME", "CZ"),
        ("KILL app", "CZ"),
        ("KILL none", "EZ"),
        ("nonsense", "EZ"),
        ("SHOW STATS", "TDDCZ"),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "CZ"),
    ] {
        peer.query(text).await;
        assert_eq!(peer.tags_to('Z').await, tags, "{text}");
    }
    assert_eq!(peer.calls(), ["resume *", "kill app", "shutdown wait_for_clients"]);
    let console = peer.ctx.totals()["pgbouncer"].0;
    assert_eq!((console[1], console[2], console[11]), (11, 11, 1), "transactions, queries, logins");
}

#[tokio::test]
async fn refusals_have_pgbouncers_words() {
    for (admin, text, words) in [
        (false, "PAUSE", "admin access needed"),
        (false, "PAUSE x y", "invalid command 'PAUSE x y', use SHOW HELP;"),
        (true, "PAUSE pgbouncer", "cannot pause admin db: pgbouncer"),
        (true, "KILL pgbouncer", "cannot kill admin db: pgbouncer"),
        (true, "WAIT_CLOSE pgbouncer", "cannot wait in admin db: pgbouncer"),
        (true, "DISABLE pgbouncer", "cannot disable admin db: pgbouncer"),
        (true, "RESUME pgbouncer", "database pgbouncer is not paused"),
        (true, "RECONNECT none", "no such database: none"),
        (true, "ENABLE", "a database is required"),
        (true, "KILL_CLIENT x", "invalid client pointer supplied"),
        (true, "KILL_CLIENT 18", "client not found"),
    ] {
        let mut peer = Peer::at_ready(admin).await;
        peer.query(text).await;
        let error = peer.text_of('E').await;
        assert_eq!(error.trim_end(), format!("SERROR VERROR C08P01 M{words}"), "{text}");
        assert_eq!(peer.tags_to('Z').await, "Z");
        assert!(peer.calls().is_empty(), "{text}");
    }
}

#[tokio::test]
async fn a_failed_reload_tells_the_complaints() {
    let mut peer = Peer::at_ready(true).await;
    peer.query("RELOAD").await;
    assert_eq!(peer.text_of('C').await, "RELOAD ");
    peer.fake.complaints.lock().push("pooler.toml:3: unknown key".to_owned());
    peer.query("RELOAD").await;
    let error = peer.text_of('E').await;
    assert!(
        error.contains("CF0000 MRELOAD failed, see logs") && error.contains("Dpooler.toml:3: unknown key"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pause_answers_when_it_is_done_and_then_stays() {
    let mut peer = Peer::at_ready(true).await;
    peer.query("PAUSE app").await;
    peer.query("SHOW VERSION").await;
    until(|| peer.calls() == ["pause app"]).await;
    assert!(peer.inbox.is_empty());
    peer.fake.done.notify_one();
    assert_eq!(peer.tags_to('Z').await, "CZ");
    assert_eq!(peer.tags_to('Z').await, "TDCZ", "what came meanwhile is answered after");
    drop(peer.stream);
    peer.served.await.expect("no panic").expect("no error");
    assert_eq!(peer.fake.calls.lock().len(), 1, "not taken back");
}

#[tokio::test]
async fn a_pause_that_others_ended_says_so() {
    let mut peer = Peer::at_ready(true).await;
    *peer.fake.resumed.lock() =
        Some(CommandError::Refused(ErrorReply::error(SqlState::QUERY_CANCELED, "PAUSE was ended by RESUME")));
    peer.query("PAUSE").await;
    until(|| peer.calls() == ["pause *"]).await;
    peer.fake.done.notify_one();
    assert!(peer.text_of('E').await.contains("C57014 MPAUSE was ended by RESUME"));
    assert_eq!(peer.tags_to('Z').await, "Z");
    assert_eq!(peer.calls(), ["pause *"]);
}

#[tokio::test]
async fn a_cancelled_pause_is_taken_back() {
    let mut peer = Peer::at_ready(true).await;
    peer.cancelled.notify_waiters(); // nothing waits: must not hit what comes later
    peer.query("PAUSE").await;
    until(|| peer.calls() == ["pause *"]).await;
    tokio::task::yield_now().await;
    peer.cancelled.notify_waiters();
    assert!(peer.text_of('E').await.contains("C57014"));
    assert_eq!(peer.tags_to('Z').await, "Z");
    assert_eq!(peer.calls(), ["pause *", "give up *"]);
}

#[tokio::test]
async fn a_pause_whose_console_is_gone_is_taken_back() {
    let mut peer = Peer::at_ready(true).await;
    peer.query("PAUSE app").await;
    until(|| peer.calls() == ["pause app"]).await;
    drop(peer.stream);
    peer.served.await.expect("no panic").expect("no error");
    assert_eq!(*peer.fake.calls.lock(), ["pause app", "give up app"]);
    assert_eq!(peer.ctx.consoles(), 0);

    let mut dropped = Peer::at_ready(true).await;
    dropped.query("PAUSE app").await;
    until(|| dropped.calls() == ["pause app"]).await;
    dropped.served.abort();
    until(|| dropped.calls() == ["pause app", "give up app"]).await;
}

#[tokio::test]
async fn shutdown_at_once_says_nothing() {
    let mut peer = Peer::at_ready(true).await;
    peer.query("SHOW VERSION").await;
    peer.query("SHUTDOWN").await;
    assert_eq!(peer.tags_to('Z').await, "TDCZ", "what was asked before is answered");
    until(|| peer.calls() == ["shutdown at_once"]).await;
    peer.query("SHOW VERSION").await;
    assert!(!peer.served.is_finished() && peer.inbox.is_empty());
    drop(peer.stream);
    peer.served.await.expect("no panic").expect("no error");
}

/// There may be nothing to wait for, and then the process ends at once.
#[tokio::test(start_paused = true)]
async fn a_shutdown_is_answered_before_it_is_obeyed() {
    let query: &[(u8, &[u8])] = &[(b'Q', b"SHUTDOWN WAIT_FOR_CLIENTS\0")];
    let parse: (u8, &[u8]) = (b'P', b"\0SHUTDOWN WAIT_FOR_CLIENTS\0\0\0");
    let extended = &[parse, (b'B', b"\0\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
    for (messages, tags) in [(query, "CZ"), (&extended[..], "12CZ")] {
        // Narrower than the answer.
        let mut peer = Peer::through(16, true, b"").await;
        assert_eq!(peer.tags_to('Z').await, "SSSSSSSKZ");
        peer.send(messages).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(peer.calls().is_empty(), "the operator has not read yet");
        assert_eq!(peer.tags_to('Z').await, tags);
        until(|| peer.calls() == ["shutdown wait_for_clients"]).await;
    }
    let mut silent = Peer::through(16, true, b"").await;
    assert_eq!(silent.tags_to('Z').await, "SSSSSSSKZ");
    silent.send(query).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(silent.calls(), ["shutdown wait_for_clients"], "an operator who reads nothing is not waited for");
}

#[tokio::test]
async fn the_extended_protocol_is_answered_in_order() {
    let bind: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
    let all: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
    let one: (u8, &[u8]) = (b'E', b"\0\0\0\0\x01");
    let sync: (u8, &[u8]) = (b'S', b"");
    for (messages, tags) in [
        (vec![(b'P', &b"\0SHOW POOLS\0\0\0"[..]), bind, (b'D', b"P\0"), all, sync], "12TDDCZ"),
        (vec![(b'P', b"\0SHOW POOLS\0\0\0"), (b'D', b"S\0"), sync], "1tTZ"),
        (vec![(b'P', b"\0SHOW POOLS\0\0\0"), bind, one, one, one, sync], "12DsDCCZ"),
        (vec![(b'P', b"\0RESUME\0\0\0"), (b'D', b"S\0"), bind, (b'D', b"P\0"), all, sync], "1tn2nCZ"),
        (vec![(b'P', b"\0RESUME\0\0\0"), bind, all, all, sync], "12CEZ"),
        (vec![(b'P', b"\0\0\0\0"), bind, all, sync], "12IZ"),
        (vec![(b'P', b"\0SHOW HELP\0\0\0"), bind, (b'D', b"P\0"), all, sync], "12nNCZ"),
        (vec![(b'P', b"\0nonsense\0\0\0"), bind, all, (b'Q', b"SHOW POOLS\0"), sync], "EZ"),
        (vec![(b'P', b"\0KILL none\0\0\0"), bind, all, all, sync], "12EZ"),
        (vec![(b'P', b"\0KILL app\0\0\0"), (b'B', b"\0\0\0\0\0\x01\0\0\0\x011\0\0"), sync], "1EZ"),
        (vec![(b'P', b"\0SHOW STATE\0\0\0"), (b'B', b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0"), sync], "1EZ"),
        (vec![(b'P', b"\0SHOW STATE\0\0\0"), (b'B', b"\0\0\0\0\0\0\0\x01\0\x07"), sync], "1EZ"),
        (vec![(b'P', b"a\0SHOW POOLS\0\0\0"), (b'C', b"Sa\0"), (b'B', b"\0a\0\0\0\0\0\0\0"), sync], "13EZ"),
        (vec![(b'P', b"b\0RELOAD\0\0\0"), (b'P', b"b\0RELOAD\0\0\0"), sync], "1EZ"),
        (vec![(b'D', b"Pp\0"), (b'C', b"Pp\0"), sync, (b'C', b"Pp\0"), sync], "EZ3Z"),
    ] {
        let mut peer = Peer::at_ready(true).await;
        peer.send(&messages).await;
        let mut answered = peer.tags_to('Z').await;
        while answered.matches('Z').count() < tags.matches('Z').count() {
            answered += &peer.tags_to('Z').await;
        }
        assert_eq!(answered, tags, "{messages:?}");
    }
}

#[tokio::test]
async fn a_flush_brings_answers_before_sync() {
    let mut peer = Peer::at_ready(false).await;
    peer.send(&[(b'P', b"\0SHOW STATE\0\0\0"), (b'H', b"")]).await;
    assert_eq!(peer.tags_to('1').await, "1");
}

#[tokio::test]
async fn what_breaks_the_protocol_costs_the_connection() {
    for bytes in [&b"Q\xff\xff\xff\xff"[..], b"Q\0\0\0\x05x", b"F\0\0\0\x04", b"\0\0\0\0\x04"] {
        let mut peer = Peer::at_ready(true).await;
        peer.stream.write_all(bytes).await.expect("written");
        assert!(peer.text_of('E').await.starts_with("SFATAL VFATAL C08P01 "), "{bytes:?}");
        assert_eq!(peer.next().await, None);
    }
    let mut peer = Peer::at_ready(true).await;
    peer.send(&[(b'X', b"")]).await;
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn names_are_bounded() {
    let mut peer = Peer::at_ready(true).await;
    for n in 0..65 {
        peer.send(&[(b'P', format!("s{n}\0SHOW STATE\0\0\0").as_bytes()), (b'S', b"")]).await;
        assert_eq!(peer.tags_to('Z').await, if n < 64 { "1Z" } else { "EZ" }, "{n}");
    }
}

#[tokio::test]
async fn a_real_driver_reads_tables_in_text_and_in_binary() {
    let (stream, mut theirs) = tokio::io::duplex(1 << 16);
    let fake = Arc::new(Fake::default());
    let ctx = Arc::new(AdminContext::new(fake.clone(), std::time::Instant::now()));
    let served = tokio::spawn(async move {
        let length = theirs.read_u32().await.expect("a startup packet");
        let mut startup = vec![0; length as usize - 4];
        theirs.read_exact(&mut startup).await.expect("the rest of it");
        theirs.write_all(b"R\0\0\0\x08\0\0\0\0").await.expect("AuthenticationOk");
        serve(theirs, BytesMut::new(), console_user(true), ctx).await
    });
    let (client, connection) =
        tokio_postgres::Config::new().user("op").connect_raw(stream, NoTls).await.expect("connected");
    let driver = tokio::spawn(connection);

    let simple = client.simple_query("SHOW POOLS").await.expect("rows");
    let SimpleQueryMessage::Row(row) = &simple[1] else { panic!("{simple:?}") };
    assert_eq!(
        (row.get("database"), row.get("maxwait"), row.get("maxwait_us")),
        (Some("app"), Some("1"), Some("500000"))
    );

    let rows = client.query("SHOW POOLS", &[]).await.expect("rows");
    assert_eq!((rows[0].get::<_, &str>("user"), rows[0].get::<_, i32>("cl_waiting")), ("alice", 2));
    assert_eq!(rows[0].get::<_, Option<&str>>("load_balance_hosts"), None);

    client.execute("PAUSE none", &[]).await.expect_err("no such database");
    assert_eq!(client.execute("KILL app", &[]).await.expect("done"), 0);
    drop(client);
    driver.await.expect("no panic").expect("no error");
    served.await.expect("no panic").expect("no error");
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition never came true");
}
