use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::net::stream::Probe;

/// Bytes that tell where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect()
}

/// Writes as the contract says: all of it taken, then flushed.
async fn write_all(stream: &mut Stream, mut slices: Vec<&[u8]>) {
    while !slices.is_empty() {
        let views: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut taken = poll_fn(|cx| stream.poll_write_vectored(cx, &views)).await.expect("write");
        assert!(taken > 0);
        while taken > 0 {
            let first = slices[0].len().min(taken);
            slices[0] = &slices[0][first..];
            taken -= first;
            if slices[0].is_empty() {
                slices.remove(0);
            }
        }
    }
    poll_fn(|cx| stream.poll_flush(cx)).await.expect("flush");
    assert!(!stream.wants_flush());
}

#[tokio::test]
async fn large_writes_arrive_whole_at_a_reader_that_is_slow() {
    let sent = pattern(3 << 20);
    for (cuts, room) in [(1, 65536), (7, 65536), (300, 5000), (20_000, 4096), (100, 100), (3, 1)] {
        let sent = &sent[..if room < 4096 { 1 << 17 } else { sent.len() }];
        let (mut accepted, mut connected) = tls_pair().await;
        let (full, is_full) = oneshot::channel();
        let writing = async {
            let slices: Vec<&[u8]> = sent.chunks(sent.len().div_ceil(cuts)).collect();
            let mut full = Some(full);
            let mut write = Box::pin(write_all(&mut accepted, slices));
            poll_fn(|cx| {
                let polled = write.as_mut().poll(cx);
                // Blocked, or done: either way the reader may begin.
                full.take().map(|full| full.send(()));
                polled
            })
            .await;
        };
        let reading = async {
            is_full.await.expect("writer");
            let mut got = Vec::new();
            let mut room = vec![0; room];
            while got.len() < sent.len() {
                let read = poll_fn(|cx| connected.poll_read(cx, &mut room)).await.expect("read");
                assert!(read > 0);
                got.extend_from_slice(&room[..read]);
            }
            got
        };
        let ((), got) = tokio::join!(writing, reading);
        assert!(got == sent, "{cuts} slices, room for {}", room);
    }
}

#[tokio::test]
async fn one_read_takes_what_one_receive_brings() {
    let (mut accepted, mut connected) = tls_pair().await;
    let sent = pattern(40_000);
    write_all(&mut accepted, sent.chunks(13).collect()).await;
    let Stream::Tls(tls) = &connected else { panic!("not TLS") };
    // 40,000 bytes in three records, and all of it is in the kernel before we look.
    let mut there = vec![0; 65536];
    while tls.socket().peek(&mut there).await.expect("peek") < 40_000 {
        tokio::task::yield_now().await;
    }
    let mut got = vec![0; 65536];
    let read = poll_fn(|cx| connected.poll_read(cx, &mut got)).await.expect("read");
    assert_eq!(read, 40_000);
    assert!(got[..read] == sent);
}

#[tokio::test]
async fn ciphertext_that_could_not_go_is_owned_up_to() {
    let (mut accepted, mut connected) = tls_pair().await;
    let chunk = pattern(65536);
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(written) = accepted.poll_write_vectored(&mut cx, &[IoSlice::new(&chunk)]) {
        taken += written.expect("write");
        tokio::task::yield_now().await;
    }
    assert!(accepted.wants_flush());
    assert!(accepted.poll_flush(&mut cx).is_pending());
    let reading = async {
        let mut got = vec![0; taken];
        connected.read_exact(&mut got).await.expect("read");
        got
    };
    let (flushed, got) = tokio::join!(poll_fn(|cx| accepted.poll_flush(cx)), reading);
    flushed.expect("flush");
    assert!(!accepted.wants_flush());
    assert!(got.chunks(65536).all(|got| chunk.starts_with(got)));
}

#[tokio::test]
async fn the_end_is_an_end_with_and_without_goodbye() {
    for polite in [true, false] {
        for room in [10, 65536] {
            let (mut accepted, mut connected) = tls_pair().await;
            // Closing with something unread (the session tickets) would be a reset.
            write_all(&mut accepted, vec![b"hello"]).await;
            connected.read_exact(&mut [0; 5]).await.expect("read");
            write_all(&mut connected, vec![b"last words"]).await;
            if polite {
                poll_fn(|cx| connected.poll_shutdown(cx)).await.expect("shutdown");
            }
            drop(connected);
            let mut got = vec![0; room];
            for expected in [10, 0, 0] {
                let read = poll_fn(|cx| accepted.poll_read(cx, &mut got)).await.expect("read");
                assert_eq!(read, expected, "polite: {polite}, room for {room}");
            }
            assert_eq!(poll_fn(|cx| accepted.poll_probe(cx)).await, Probe::Closed);
        }
    }
}

#[tokio::test]
async fn after_a_shutdown_the_other_direction_still_works() {
    let (mut accepted, mut connected) = tls_pair().await;
    connected.shutdown().await.expect("shutdown");
    assert_eq!(accepted.read(&mut [0; 10]).await.expect("read"), 0);
    write_all(&mut accepted, vec![b"answer"]).await;
    let mut got = [0; 6];
    connected.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"answer");
}

#[tokio::test]
async fn what_came_before_a_broken_record_is_handed_out_first() {
    let (mut accepted, mut connected) = tls_pair().await;
    write_all(&mut connected, vec![b"good"]).await;
    let Stream::Tls(tls) = &connected else { panic!("not TLS") };
    let garbage = b"\x17\x03\x03\x00\x20 this is no record of this session at all.";
    assert_eq!(tls.socket().try_write(garbage).expect("write"), garbage.len());
    let Stream::Tls(tls) = &accepted else { panic!("not TLS") };
    let mut there = vec![0; 1000];
    while tls.socket().peek(&mut there).await.expect("peek") < garbage.len() + 4 {
        tokio::task::yield_now().await;
    }
    let mut got = vec![0; 65536];
    let read = poll_fn(|cx| accepted.poll_read(cx, &mut got)).await.expect("read");
    assert_eq!(&got[..read], b"good");
    for _ in 0..2 {
        let error = poll_fn(|cx| accepted.poll_read(cx, &mut got)).await.expect_err("read garbage");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
    assert_eq!(poll_fn(|cx| accepted.poll_probe(cx)).await, Probe::Closed);
}

#[tokio::test]
async fn session_tickets_are_no_news() {
    let (mut accepted, mut connected) = tls_pair().await;
    let mut cx = Context::from_waker(Waker::noop());
    // The tickets came behind the handshake; they are all that there is.
    let Stream::Tls(tls) = &connected else { panic!("not TLS") };
    tls.socket().readable().await.expect("tickets");
    assert_eq!(connected.poll_probe(&mut cx), Poll::Pending);
    write_all(&mut accepted, vec![b"news"]).await;
    for _ in 0..2 {
        assert_eq!(poll_fn(|cx| connected.poll_probe(cx)).await, Probe::Readable);
    }
    let mut got = [0; 4];
    connected.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"news");
    assert_eq!(connected.poll_probe(&mut cx), Poll::Pending);
}
