//! From a plain connection to TLS, as PostgreSQL does it: ask, read one byte, shake hands.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::{ConnectTls, HandshakeError, Probe, Stream};
use crate::wire::message::frontend;

/// What a server answered to SSLRequest.
#[derive(Debug)]
pub(super) enum Answer {
    /// TLS is spoken now.
    Encrypted(Stream),
    /// It has no TLS; the connection is as it was.
    Refused(Stream),
}

/// Why there is no answer that can be used. The connection is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncryptError {
    /// The network's.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// An error. Its text would come from who knows whom, so it isn't read (CVE-2024-10977).
    #[error("the server answered SSLRequest with an error")]
    Failed,
    /// Nothing that PostgreSQL would say.
    #[error("the answer to SSLRequest is none of PostgreSQL's")]
    Foreign,
    /// Somebody spoke before TLS did, who may have meant to be heard behind it (CVE-2021-23222).
    #[error("received unencrypted data after SSL response")]
    Injected,
    /// The handshake failed.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

/// Asks for TLS and shakes hands with the server at `host`. Has no deadline of its own.
pub(super) async fn encrypt(mut stream: Stream, tls: &ConnectTls, host: &str) -> Result<Answer, EncryptError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    // One byte and no more: what follows it belongs to the handshake.
    match stream.read_u8().await? {
        b'S' if has_more(&mut stream) => Err(EncryptError::Injected),
        b'S' => Ok(Answer::Encrypted(Box::pin(tls.connect(stream, host)).await?)),
        b'N' => Ok(Answer::Refused(stream)),
        b'E' => Err(EncryptError::Failed),
        _ => Err(EncryptError::Foreign),
    }
}

/// A server that agreed to TLS is silent until we begin. (What comes later than this look fails the handshake.)
fn has_more(stream: &mut Stream) -> bool {
    matches!(stream.poll_probe(&mut Context::from_waker(Waker::noop())), Poll::Ready(Probe::Readable))
}
