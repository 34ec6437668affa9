//! A connection: plain or TLS, TCP or Unix.

use tokio::net::{TcpStream, UnixStream};

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP without TLS.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}
