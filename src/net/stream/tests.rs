use std::future::poll_fn;
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::testing::tcp_pair;

fn unix_pair() -> (Stream, Stream) {
    let (one, other) = UnixStream::pair().expect("pair");
    (Stream::Unix(one), Stream::Unix(other))
}

#[test]
fn an_idle_client_is_small() {
    // mio keeps one word more per socket to check its use in debug builds.
    let most = if cfg!(debug_assertions) { 48 } else { 40 };
    assert!(size_of::<Stream>() <= most, "{} bytes", size_of::<Stream>());
}

#[tokio::test]
async fn a_probe_tells_silence_from_news_and_from_the_end() {
    for (mut near, mut far) in [tcp_pair().await, unix_pair()] {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(near.poll_probe(&mut cx), Poll::Pending);
        far.write_all(b"news").await.expect("write");
        for _ in 0..2 {
            assert_eq!(poll_fn(|cx| near.poll_probe(cx)).await, Probe::Readable);
        }
        // A read that fills its buffer leaves the runtime in the belief that there is more.
        let mut four = [0; 4];
        assert_eq!(poll_fn(|cx| near.poll_read(cx, &mut four)).await.expect("read"), 4);
        assert_eq!(&four, b"news");
        assert_eq!(near.poll_probe(&mut cx), Poll::Pending);
        drop(far);
        assert_eq!(poll_fn(|cx| near.poll_probe(cx)).await, Probe::Closed);
        assert_eq!(poll_fn(|cx| near.poll_read(cx, &mut four)).await.expect("read"), 0);
    }
}

#[tokio::test]
async fn a_reset_is_an_end_to_a_probe() {
    let (mut near, far) = tcp_pair().await;
    near.write_all(b"never read").await.expect("write");
    let Stream::Tcp(far) = far else { panic!("not TCP") };
    far.readable().await.expect("readable");
    drop(far);
    assert_eq!(poll_fn(|cx| near.poll_probe(cx)).await, Probe::Closed);
}

#[tokio::test]
async fn slices_arrive_in_order() {
    for (mut near, mut far) in [tcp_pair().await, unix_pair()] {
        for slices in [&[&b"one"[..]][..], &[b"two", b"", b"three"], &[]] {
            let views: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            let whole = slices.concat();
            assert_eq!(poll_fn(|cx| near.poll_write_vectored(cx, &views)).await.expect("write"), whole.len());
            let mut got = vec![0; whole.len()];
            far.read_exact(&mut got).await.expect("read");
            assert_eq!(got, whole);
        }
        assert!(!near.wants_flush());
        poll_fn(|cx| near.poll_flush(cx)).await.expect("flush");
        poll_fn(|cx| near.poll_shutdown(cx)).await.expect("shutdown");
        assert_eq!(far.read(&mut [0; 1]).await.expect("read"), 0);
    }
}

#[tokio::test]
async fn both_ends_have_addresses() {
    let (near, far) = tcp_pair().await;
    assert_eq!(near.peer().expect("peer"), far.local().expect("local"));
    let local = near.local().expect("local");
    assert_eq!((local.host().as_str(), local.pid()), ("127.0.0.1", 0));
    assert_eq!(local.to_string(), format!("127.0.0.1:{}", local.port().expect("port")));
    assert_eq!((near.is_tls(), &*near.tls_name()), (false, ""));

    let (near, _far) = unix_pair();
    let peer = near.peer().expect("peer");
    assert_eq!(peer, near.local().expect("local"), "we talk to ourselves");
    assert_eq!((peer.host().as_str(), peer.port(), peer.pid()), ("unix", None, std::process::id()));
    assert_eq!(peer.to_string(), format!("unix({})", std::process::id()));
}
