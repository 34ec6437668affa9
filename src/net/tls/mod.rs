//! TLS with rustls on both sides: towards clients we are the TLS server ([`AcceptTls`]), towards PostgreSQL the
//! TLS client ([`ConnectTls`]). What was built is immutable; a [`TlsSlot`] holds the one in use and replaces it
//! by another that could be built, never by one that couldn't.

mod accept;
mod connect;
mod end_point;
mod error;
mod files;
mod inspect;
mod legacy;
mod names;
mod period;
mod slot;
mod stream;
mod verify;

pub use accept::AcceptTls;
pub use connect::ConnectTls;
pub use error::{HandshakeError, TlsError, tls_cause};
pub use inspect::{Inspection, inspect_clients, inspect_servers};
pub use slot::{Prepared, Reloaded, TlsSlot};
pub use stream::TlsStream;

/// What clients and servers call the protocol inside (ALPN), since PostgreSQL 17.
const ALPN: &[u8] = b"postgresql";

#[cfg(test)]
mod tests;
