//! A connection: plain or TLS, TCP or Unix. Reads and writes are polls, so that one task can drive two
//! connections at once; a read is one `recv`, and none where the runtime knows that nothing came.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;
use super::tls::TlsStream;

/// A connected socket. Small: an idle client is little more than this.
#[derive(Debug)]
pub enum Stream {
    /// TCP without TLS.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP, as either side of it.
    Tls(Box<TlsStream>),
}

/// What [`Stream::poll_probe`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The peer said something that nobody has read yet.
    Readable,
    /// The peer hung up, or the connection broke.
    Closed,
}

impl Stream {
    /// Reads what is there into `buf`, which must not be empty; 0 is the end of the stream.
    /// A TLS peer that vanishes without a goodbye is an end as well: the protocol above has its own.
    ///
    /// # Errors
    /// The socket's; `InvalidData` for what is not TLS.
    #[inline(always)] // It is called in two places, for which the rest of it is a tenth.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => poll_receive(&*socket, cx, buf),
            Self::Unix(socket) => poll_receive(&*socket, cx, buf),
            Self::Tls(tls) => tls.poll_read(cx, buf),
        }
    }

    /// Writes as much of `slices` as goes; the number says how much was taken.
    ///
    /// Through TLS, bytes that were taken may still wait in here as ciphertext. Whoever writes must, before it
    /// waits for anything else, see [`Self::wants_flush`] and poll [`Self::poll_flush`] until it is ready.
    /// A write that finds such ciphertext tries to send it first, and takes nothing while it can't.
    ///
    /// # Errors
    /// The socket's.
    #[inline(always)]
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => poll_send(&*socket, cx, slices),
            Self::Unix(socket) => poll_send(&*socket, cx, slices),
            Self::Tls(tls) => tls.poll_write_vectored(cx, slices),
        }
    }

    /// Whether bytes that were taken have not reached the socket yet. Never without TLS.
    pub fn wants_flush(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(tls) => tls.wants_flush(),
        }
    }

    /// Ready when every byte that was taken is with the kernel; at once without TLS.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Sends what is left and says that no more will come.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
        }
    }

    /// Whether an idle peer said something or hung up, without taking what it said. `Pending` is silence: no
    /// system call is made for it, and the task is woken when that changes. (For a look in passing, poll with
    /// `Waker::noop()`.) `Pending` is also what a task gets that has used up its turn with the runtime.
    pub fn poll_probe(&mut self, cx: &mut Context<'_>) -> Poll<Probe> {
        let found = match self {
            Self::Tcp(socket) => poll_peek(
                cx,
                |cx| socket.poll_read_ready(cx),
                || socket.try_io(Interest::READABLE, || peek(SockRef::from(&*socket))),
            ),
            Self::Unix(socket) => poll_peek(
                cx,
                |cx| socket.poll_read_ready(cx),
                || socket.try_io(Interest::READABLE, || peek(SockRef::from(&*socket))),
            ),
            Self::Tls(tls) => tls.poll_peek(cx),
        };
        // Whatever the error was, nothing more can be had from this peer.
        found.map(|found| if found.unwrap_or(false) { Probe::Readable } else { Probe::Closed })
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Version, cipher and key exchange, as `TLSv1.3/TLS_AES_256_GCM_SHA384/X25519MLKEM768`; empty without TLS.
    pub fn tls_name(&self) -> Arc<str> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => Arc::from(""),
            Self::Tls(tls) => tls.name().into(),
        }
    }

    /// What SCRAM-SHA-256-PLUS binds to (RFC 5929, `tls-server-end-point`): a hash of the TLS server's
    /// certificate, which is ours where we accepted and the peer's where we connected. `None` without TLS, and
    /// where the certificate's signature has no hash of its own (Ed25519): -PLUS must not be offered then.
    pub fn server_end_point(&self) -> Option<Arc<[u8]>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(tls) => tls.server_end_point(),
        }
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// The socket's, when the peer is gone already.
    pub fn peer(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().map(Address::Tcp),
            Self::Tls(tls) => tls.socket().peer_addr().map(Address::Tcp),
            Self::Unix(socket) => {
                let peer = socket.peer_cred()?;
                let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
                Ok(Address::Unix { uid: peer.uid(), pid })
            }
        }
    }

    /// Who we are at this end.
    ///
    /// # Errors
    /// The socket's.
    pub fn local(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::Tcp),
            Self::Tls(tls) => tls.socket().local_addr().map(Address::Tcp),
            Self::Unix(_) => Ok(Address::Unix { uid: rustix::process::getuid().as_raw(), pid: std::process::id() }),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => {
                let read = ready!(tls.poll_read(cx, buf.initialize_unfilled()))?;
                buf.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(self.get_mut(), cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(self.get_mut(), cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// What reading and writing takes of a socket that the runtime watches.
pub(super) trait Socket: AsFd {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_io(&self, interest: Interest, call: impl FnOnce() -> io::Result<()>) -> io::Result<()>;
}

macro_rules! impl_socket {
    ($($socket:ty),*) => {$(
        impl Socket for $socket {
            #[inline]
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Self::poll_read_ready(self, cx)
            }

            #[inline]
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Self::poll_write_ready(self, cx)
            }

            #[inline]
            fn try_io(&self, interest: Interest, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
                Self::try_io(self, interest, call)
            }
        }
    )*};
}

impl_socket!(TcpStream, UnixStream);

/// One `recv`. A short one tells the runtime that the socket is empty, so the next costs no EAGAIN.
/// The runtime is asked to wake the task only where there is nothing to do: asking it first is half the work of a read.
/// So it does not count either what the task has done in its turn; whoever reads in a loop does that.
#[inline]
pub(super) fn poll_receive<S: Socket>(socket: &S, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        let room = buf.len();
        let received = attempt(socket, Interest::READABLE, || {
            let (received, _) = rustix::net::recv(socket, &mut *buf, RecvFlags::empty())?;
            Ok((received, received > 0 && received < room))
        });
        if let Some(received) = received.transpose() {
            return Poll::Ready(received);
        }
        ready!(socket.poll_read_ready(cx))?;
    }
}

/// One `send`, or one `sendmsg`. Only a short one tells the runtime that the socket is full.
#[inline]
pub(super) fn poll_send<S: Socket>(
    socket: &S,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        let sent = attempt(socket, Interest::WRITABLE, || match slices {
            [one] => {
                let sent = rustix::net::send(socket, one, SendFlags::NOSIGNAL)?;
                Ok((sent, sent > 0 && sent < one.len()))
            }
            many => {
                let nothing = &mut SendAncillaryBuffer::default();
                Ok((rustix::net::sendmsg(socket, many, nothing, SendFlags::NOSIGNAL)?, false))
            }
        });
        if let Some(sent) = sent.transpose() {
            return Poll::Ready(sent);
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}

/// One system call, by the kernel's own interface: the C library's makes every call a place where a thread can be
/// cancelled, which costs. `call` returns how many bytes it moved, and whether that shows that the next would block:
/// the runtime is told so as if it had. `None`: it would have blocked, and the runtime knows now.
#[inline]
fn attempt<S: Socket>(
    socket: &S,
    interest: Interest,
    call: impl FnOnce() -> rustix::io::Result<(usize, bool)>,
) -> io::Result<Option<usize>> {
    let mut moved = None;
    let tried = socket.try_io(interest, || {
        let (bytes, drained) = call()?;
        moved = Some(bytes);
        if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match tried {
        Err(error) if moved.is_none() && error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(moved),
    }
}

/// Whether something is there (`true`) or the end was reached.
fn poll_peek(
    cx: &mut Context<'_>,
    mut poll_ready: impl FnMut(&mut Context<'_>) -> Poll<io::Result<()>>,
    mut try_peek: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<bool>> {
    loop {
        ready!(poll_ready(cx))?;
        match try_peek() {
            // Readiness was left over from a read that filled its buffer. It is cleared now.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            found => return Poll::Ready(found.map(|bytes| bytes > 0)),
        }
    }
}

fn peek(socket: SockRef<'_>) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

#[cfg(test)]
mod tests;
