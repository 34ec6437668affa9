//! Servers: connections to PostgreSQL.

use std::fmt::Display;

use tracing::warn;

/// A server answered `connect_query` with an error. The connection is used all the same.
pub fn connect_query_failed(server: &dyn Display, endpoint: &dyn Display, message: Option<&[u8]>) {
    let message = String::from_utf8_lossy(message.unwrap_or(b"no message"));
    warn!(%server, %endpoint, "connect_query failed: {message}");
}
