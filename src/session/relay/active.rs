//! A client's server, for as long as it is lent, and what is under way with it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use smallvec::SmallVec;

use super::exchange::{Exchange, Notifies};
use super::machine::Attached;
use super::steps::Out;
use crate::net::Stream;
use crate::pool::stats::Tally;
use crate::pool::{Lease, Pool};
use crate::server::Server;
use crate::session::cancel::OnTheirWay;
use crate::session::catalogs::Changing;

/// So many bytes in several pieces are joined: copying them costs less than `writev` does beyond `send`.
const JOINED_MAX: usize = 4096;
/// More pieces than this are joined before they are written.
const SLICES: usize = 64;
/// How often the pool is told, in microseconds, what was done in a transaction that is long.
const COUNTED_EVERY_US: u64 = 100_000;
/// A larger buffer for a server's incomplete frames is given back to the allocator.
const HELD_KEPT: usize = 64 * 1024;

/// A lent server and what is under way with it.
#[derive(Debug)]
pub struct Active {
    /// The server. Dropping it closes it.
    pub lease: Lease,
    /// The rest: workers keep these boxes for the next client.
    pub work: Box<Work>,
}

/// What is under way with a lent server.
#[derive(Debug, Default)]
pub struct Work {
    /// What is owed.
    pub exchange: Exchange,
    /// An incomplete frame of the server's.
    pub held: BytesMut,
    /// What the server's socket has not taken yet.
    pub to_server: BytesMut,
    /// For the pool's statistics.
    pub tally: Tally,
    /// When the transaction under way was asked for, in microseconds of the sessions' clock.
    pub xact_since: Option<u64>,
    /// When what was done in the transaction under way was last counted, by the same.
    pub counted_at: u64,
    /// When the request under way was asked for, by the same.
    pub query_since: Option<u64>,
    /// By which generation of the catalog what the client sends is read.
    pub catalog_seen: u64,
    /// The client is about to change that.
    pub changing: Option<Changing>,
    /// Cancel requests on their way to the server.
    pub cancels: OnTheirWay,
    /// The server has said good-bye by a FATAL error, which the client has read.
    pub told: bool,
    /// Its socket takes no more. What it has said before is read still; then it is lost.
    pub unwritable: bool,
}

impl Work {
    /// Ready for the next client.
    pub fn reset(&mut self) {
        self.exchange.reset();
        self.held.clear();
        if self.held.capacity() > HELD_KEPT {
            self.held = BytesMut::new();
        }
        self.to_server.clear();
        self.xact_since = None;
        self.counted_at = 0;
        self.query_since = None;
        self.catalog_seen = 0;
        self.changing = None;
        self.cancels = OnTheirWay::default();
        self.told = false;
        self.unwritable = false;
    }
}

impl Work {
    /// A request was asked for, and a transaction with it unless one is open.
    pub fn begins(&mut self, at: u64) {
        self.query_since = Some(at);
        self.tally.queries += 1;
        if self.xact_since.is_none() {
            self.xact_since = Some(at);
            self.tally.xacts += 1;
        }
    }

    /// The request under way, if there is one, is over.
    pub fn query_ends(&mut self, now: u64) {
        if let Some(since) = self.query_since.take() {
            self.tally.query_done(now.saturating_sub(since));
        }
    }

    /// The transaction under way, if there is one, is over.
    pub fn xact_ends(&mut self, now: u64) {
        if let Some(since) = self.xact_since.take() {
            self.tally.xact_done(now.saturating_sub(since));
        }
        self.take_counts();
    }

    /// A request is over and its transaction is not: now and then the pool is told what was done so far.
    pub fn xact_goes_on(&mut self, now: u64, pool: &Pool) {
        let since = self.xact_since.unwrap_or(now).max(self.counted_at);
        if now.saturating_sub(since) < COUNTED_EVERY_US {
            return;
        }
        self.counted_at = now;
        self.take_counts();
        // The transaction itself counts when it is over, and its time with it.
        let open = std::mem::take(&mut self.tally.xacts);
        pool.tally(&mut self.tally);
        self.tally.xacts = open;
    }

    fn take_counts(&mut self) {
        let counts = std::mem::take(&mut self.exchange.counts);
        self.tally.client_parses += counts.client_parses;
        self.tally.server_parses += counts.server_parses;
        self.tally.binds += counts.binds;
    }
}

impl Active {
    /// What the relay reads and changes.
    pub fn attached(&mut self) -> Attached<'_> {
        let Server { params, matched, assigned, statements, .. } = &mut *self.lease;
        Attached { exchange: &mut self.work.exchange, params, matched, assigned, statements }
    }

    /// Whether bytes wait for the server's socket.
    pub fn wants_write(&self) -> bool {
        !self.work.unwritable && (!self.work.to_server.is_empty() || self.lease.stream.wants_flush())
    }

    /// Writes what the relay wants written. That the server has hung up shows when reading.
    #[inline]
    pub fn write(&mut self, cx: &mut Context<'_>, out: &Out, input: &[u8]) {
        if !self.work.unwritable {
            let written = write_out(&mut self.lease.stream, cx, out, input, &mut self.work.to_server);
            self.work.unwritable |= written.is_err();
        }
    }

    /// Writes what waits, as far as it goes.
    pub fn drain(&mut self, cx: &mut Context<'_>) {
        let drained = drain(&mut self.lease.stream, cx, &mut self.work.to_server);
        self.work.unwritable |= drained.is_err();
    }

    /// Whether the client waits to notify on this server.
    pub fn waits_to_notify(&self) -> bool {
        self.work.exchange.session.notifies == Notifies::Asked
    }

    /// Whether the server may go to someone else.
    pub fn settled(&self) -> bool {
        self.work.exchange.settled()
            && !self.waits_to_notify()
            && !self.work.unwritable
            && self.work.held.is_empty()
            && !self.wants_write()
    }
}

/// Writes at once what the socket takes; the rest is copied to `pending`.
///
/// # Errors
/// The socket's.
#[inline]
pub fn write_out(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    out: &Out,
    input: &[u8],
    pending: &mut BytesMut,
) -> io::Result<()> {
    if out.is_empty() { Ok(()) } else { write_some(stream, cx, out, input, pending) }
}

fn write_some(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    out: &Out,
    input: &[u8],
    pending: &mut BytesMut,
) -> io::Result<()> {
    if !pending.is_empty() {
        out.slices(input).for_each(|slice| pending.extend_from_slice(slice));
        return drain(stream, cx, pending);
    }
    if let Some(whole) = out.single(input) {
        return write_whole(stream, cx, whole, pending);
    }
    write_parts(stream, cx, out, input, pending)
}

/// Its own function for the sake of the room that it takes on the stack.
#[inline(never)]
fn write_parts(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    out: &Out,
    input: &[u8],
    pending: &mut BytesMut,
) -> io::Result<()> {
    if out.size() <= JOINED_MAX {
        let mut joined: SmallVec<[u8; JOINED_MAX]> = SmallVec::new();
        out.slices(input).for_each(|slice| joined.extend_from_slice(slice));
        return write_slices(stream, cx, &[IoSlice::new(&joined)], pending);
    }
    let slices: SmallVec<[IoSlice<'_>; 8]> = out.slices(input).map(IoSlice::new).collect();
    if slices.len() > SLICES {
        slices.iter().for_each(|slice| pending.extend_from_slice(slice));
        return drain(stream, cx, pending);
    }
    write_slices(stream, cx, &slices, pending)
}

fn write_whole(stream: &mut Stream, cx: &mut Context<'_>, whole: &[u8], pending: &mut BytesMut) -> io::Result<()> {
    let written = match stream.poll_write_vectored(cx, &[IoSlice::new(whole)]) {
        Poll::Ready(size) => size?,
        Poll::Pending => 0,
    };
    if written == whole.len() && !stream.wants_flush() {
        return Ok(());
    }
    pending.extend_from_slice(&whole[written..]);
    drain(stream, cx, pending)
}

fn write_slices(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
    pending: &mut BytesMut,
) -> io::Result<()> {
    let mut written = match stream.poll_write_vectored(cx, slices) {
        Poll::Ready(size) => size?,
        Poll::Pending => 0,
    };
    for slice in slices {
        let skipped = written.min(slice.len());
        written -= skipped;
        pending.extend_from_slice(&slice[skipped..]);
    }
    if pending.is_empty() && !stream.wants_flush() { Ok(()) } else { drain(stream, cx, pending) }
}

/// Writes what waits until the socket takes no more; then the task is woken when it does.
///
/// # Errors
/// The socket's.
pub fn drain(stream: &mut Stream, cx: &mut Context<'_>, pending: &mut BytesMut) -> io::Result<()> {
    match poll_drain(stream, cx, pending) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

fn poll_drain(stream: &mut Stream, cx: &mut Context<'_>, pending: &mut BytesMut) -> Poll<io::Result<()>> {
    while !pending.is_empty() {
        let size = ready!(stream.poll_write_vectored(cx, &[IoSlice::new(pending)]))?;
        if size == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        pending.advance(size);
    }
    *pending = BytesMut::new();
    stream.poll_flush(cx)
}
