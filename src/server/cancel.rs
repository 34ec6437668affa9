//! One CancelRequest: a connection of its own, to the very address that the server connection has.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::encrypt::{Answer, EncryptError, encrypt};
use super::server::{BackendKey, ServerShared};
use crate::net::{ConnectError, ConnectTls, Connector, Stream};
use crate::types::{Endpoint, Host};
use crate::wire::message::frontend;

/// Which server's query is to be cancelled.
#[derive(Debug)]
pub struct CancelTarget<'a> {
    /// Makes the connection.
    pub connector: &'a Connector,
    /// As configured: the name that TLS verifies.
    pub endpoint: &'a Endpoint,
    /// The server connection.
    pub server: &'a ServerShared,
    /// What its BackendKeyData said.
    pub key: &'a BackendKey,
    /// Used where the server connection used it.
    pub tls: Option<&'a ConnectTls>,
}

/// Why a cancel request may not have arrived. The query goes on; a request that did arrive may still take effect.
#[derive(Debug, thiserror::Error)]
pub enum CancelFailure {
    /// The server gave no key at login.
    #[error("the server gave no key for cancel requests")]
    NoKey,
    /// No connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// No TLS.
    #[error("{0}")]
    Encrypt(String),
    /// The connection broke before the request was written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server did not close in time.
    #[error("no answer in time")]
    TimedOut,
}

/// Sends the request and waits for the server to close: from then on the signal has been sent, and can't hit
/// a later query of somebody else's.
///
/// # Errors
/// See [`CancelFailure`]; `TimedOut` when it takes longer than `limit`.
pub async fn send(target: &CancelTarget<'_>, limit: Duration) -> Result<(), CancelFailure> {
    if target.key.secret.is_empty() {
        return Err(CancelFailure::NoKey);
    }
    let deadline = Instant::now() + limit;
    timeout_at(deadline, deliver(target, deadline)).await.unwrap_or(Err(CancelFailure::TimedOut))
}

async fn deliver(target: &CancelTarget<'_>, deadline: Instant) -> Result<(), CancelFailure> {
    let mut stream = open(target, deadline).await?;
    let mut request = BytesMut::new();
    frontend::cancel_request(&mut request, target.key.pid, &target.key.secret);
    stream.write_all(&request).await?;
    stream.flush().await?;
    // A cancel request is never answered. An error while waiting is a close as well.
    let mut ignored = [0; 64];
    while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    Ok(())
}

async fn open(target: &CancelTarget<'_>, deadline: Instant) -> Result<Stream, CancelFailure> {
    // A name may have several addresses, and the query runs at one of them.
    let endpoint = match (&target.endpoint.host, target.server.addr.0.as_str()) {
        (Host::UnixDir(_), _) | (Host::Name(_), "") => target.endpoint.clone(),
        (Host::Name(_), address) => Endpoint { host: Host::Name(address.into()), port: target.endpoint.port },
    };
    let stream = target.connector.connect(&endpoint, 0, Some(deadline)).await?;
    let (Some(tls), Host::Name(name)) = (target.tls, &target.endpoint.host) else { return Ok(stream) };
    if target.server.tls.is_empty() {
        return Ok(stream);
    }
    match encrypt(stream, tls, name).await {
        Ok(Answer::Encrypted(stream)) => Ok(stream),
        // The key must not cross the wire in the clear where the session did not.
        Ok(Answer::Refused(_)) => Err(CancelFailure::Encrypt("server refused SSL".into())),
        Err(EncryptError::Io(error)) => Err(error.into()),
        Err(error) => Err(CancelFailure::Encrypt(error.to_string())),
    }
}
