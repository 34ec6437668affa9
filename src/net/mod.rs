//! Sockets, TLS, DNS. Does not know what a frame is.

pub mod access;
pub mod address;
pub mod connect;
pub mod dns;
pub mod limits;
pub mod listen;
pub mod options;
pub mod stream;
pub mod tls;

#[cfg(test)]
mod testing;

pub use address::Address;
pub use connect::{ConnectCause, ConnectError, Connector};
pub use dns::Dns;
pub use listen::{Accepted, ListenError, Listener};
pub use options::{ClientTls, ServerTls, SslMode, TcpOptions, TlsVersions};
pub use stream::{Probe, Stream};
pub use tls::{AcceptTls, ConnectTls, HandshakeError, TlsError, TlsSlot, tls_cause};
