//! TLS over a connected socket, once the handshake is done. rustls does the records; this moves the bytes.
//!
//! Not `tokio_rustls::TlsStream`, because that receives 4 KiB at a time: a result of 64 KiB would cost 16
//! system calls instead of one.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::names;
use crate::net::stream::{poll_receive, poll_send};

/// A TLS connection after its handshake.
pub struct TlsStream {
    socket: TcpStream,
    session: Connection,
    end_point: Option<Arc<[u8]>>,
    /// Records could not be read. What came before them has been handed out.
    broken: bool,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, session: Connection, end_point: Option<Arc<[u8]>>) -> Self {
        Self { socket, session, end_point, broken: false }
    }

    /// The socket below. Reading or writing it breaks the connection.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Version, cipher and key exchange.
    pub fn name(&self) -> String {
        names::connection(&self.session)
    }

    /// See [`Stream::server_end_point`](crate::net::Stream::server_end_point).
    pub fn server_end_point(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }

    #[cfg(test)]
    pub(super) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.session.handshake_kind()
    }

    pub(in crate::net) fn wants_flush(&self) -> bool {
        self.session.wants_write()
    }

    pub(in crate::net) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            if let Some(read) = self.take_plaintext(out)? {
                return Poll::Ready(Ok(read));
            }
            if out.len() < SMALL_READ {
                ready!(self.poll_receive_small(cx))?;
            } else {
                let read = ready!(self.poll_receive_into(cx, out))?;
                if read > 0 {
                    return Poll::Ready(Ok(read));
                }
            }
        }
    }

    /// Whether plaintext is there (`true`) or the end was reached. Other records, such as session tickets, are
    /// dealt with on the way.
    pub(in crate::net) fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            match self.session.reader().into_first_chunk() {
                Ok(chunk) => return Poll::Ready(Ok(!chunk.is_empty())),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
            self.still_sound()?;
            ready!(self.poll_receive_small(cx))?;
        }
    }

    pub(in crate::net) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // So that never more than one write's worth waits in here.
        ready!(self.poll_flush(cx))?;
        // Many slices become as few records as they fit in, up to 64 KiB at a time.
        let taken = match slices {
            [one] => self.session.writer().write(one)?,
            many => self.session.writer().write_vectored(many)?,
        };
        match self.poll_flush(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    pub(in crate::net) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::net) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify(); // only once, however often it is called
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// What is decrypted already. `Some(0)` is the end, `None` nothing yet.
    fn take_plaintext(&mut self, out: &mut [u8]) -> io::Result<Option<usize>> {
        match self.session.reader().read(out) {
            Ok(read) => Ok(Some(read)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.still_sound()?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Receives up to 4 KiB, for callers with little room.
    fn poll_receive_small(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session.read_tls(&mut Socket { socket: &mut self.socket, cx }) {
            Ok(_) => Poll::Ready(self.process(cx)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// Receives ciphertext into `out` by one `recv` and turns it into plaintext there.
    ///
    /// Plaintext is shorter than its record, so it follows behind what rustls has taken already, and is never
    /// written past that. Only the end of a record whose beginning came earlier can be longer than what this
    /// call received; rustls keeps that, which is at most one record, its limit.
    fn poll_receive_into(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let received = ready!(poll_receive(&self.socket, cx, out))?;
        let (mut fed, mut plain) = (0, 0);
        loop {
            let taken = self.session.read_tls(&mut &out[fed..received])?;
            fed += taken;
            if let Err(e) = self.process(cx) {
                plain += self.drain(&mut out[plain..fed]);
                return Poll::Ready(if plain > 0 { Ok(plain) } else { Err(e) });
            }
            plain += self.drain(&mut out[plain..fed]);
            // Nothing taken: the end of the stream, or bytes behind the peer's goodbye.
            if taken == 0 || fed == received {
                plain += self.drain(&mut out[plain..]);
                return Poll::Ready(Ok(plain));
            }
        }
    }

    fn drain(&mut self, out: &mut [u8]) -> usize {
        // An end or an error is seen again by the next read.
        self.session.reader().read(out).unwrap_or(0)
    }

    fn process(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let idle = !self.session.wants_write();
        let processed = self.session.process_new_packets();
        if idle && self.session.wants_write() {
            // An alert or the answer to a key update. What doesn't go now goes with the next write.
            let _ = self.poll_flush(cx);
        }
        self.broken = processed.is_err();
        processed.map(drop).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    fn still_sound(&mut self) -> io::Result<()> {
        if !self.broken {
            return Ok(());
        }
        // rustls repeats the error that it gave.
        self.session.process_new_packets().map(drop).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).field("name", &self.name()).finish_non_exhaustive()
    }
}

/// The socket as rustls wants it: blocking calls that say `WouldBlock`.
struct Socket<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for Socket<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        blocking(poll_receive(&*self.socket, self.cx, buf))
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        blocking(poll_send(&*self.socket, self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocking(result: Poll<io::Result<usize>>) -> io::Result<usize> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Below this much room, ciphertext is received in rustls' own steps of 4 KiB.
const SMALL_READ: usize = 4096;
