//! TLS towards clients: we are the TLS server.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{Connection, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;

use super::ALPN;
use super::end_point::end_point;
use super::error::{HandshakeError, TlsError};
use super::files::Inputs;
use super::stream::TlsStream;
use crate::net::options::{ClientTls, SslMode};
use crate::net::stream::Stream;

/// How clients' TLS connections are accepted.
pub struct AcceptTls {
    config: Arc<ServerConfig>,
    mode: SslMode,
    end_point: Option<Arc<[u8]>>,
    pub(super) fingerprint: [u8; 32],
}

impl AcceptTls {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn build(settings: &ClientTls) -> Result<Self, TlsError> {
        Self::from_inputs(&Inputs::of_clients(settings)?)
    }

    pub(super) fn from_inputs(inputs: &Inputs) -> Result<Self, TlsError> {
        let provider = inputs.provider()?;
        let identity = inputs.required_identity(&provider)?;
        let end_point = end_point(&identity.cert[0]);
        let verifier = if inputs.mode.verifies() {
            WebPkiClientVerifier::builder_with_provider(inputs.authorities()?.roots, provider.clone())
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?
        } else {
            Arc::new(NoClientAuth)
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&inputs.versions()?)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = inputs.orders_ciphers();
        // Resumed sessions are kept by the client, sealed with a key that lives as long as this.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), mode: inputs.mode, end_point, fingerprint: inputs.fingerprint() })
    }

    /// What clients may and must do.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// Shakes hands with a client that asked for TLS and was told yes. Nothing that the client sent before
    /// may have been read beyond its question. Has no deadline of its own.
    ///
    /// # Errors
    /// The client's fault, or the network's; the connection is closed.
    pub async fn accept(&self, stream: Stream) -> Result<Stream, HandshakeError> {
        self.handshake(stream, &[]).await.map(|(stream, _)| stream)
    }

    /// Shakes hands with a client that began with TLS instead of asking. `first` is what was read of it already.
    ///
    /// # Errors
    /// As [`Self::accept`]; also if the client does not ask for PostgreSQL by ALPN.
    pub async fn accept_direct(&self, stream: Stream, first: &[u8]) -> Result<Stream, HandshakeError> {
        match self.handshake(stream, first).await? {
            (stream, true) => Ok(stream),
            (_, false) => Err(HandshakeError::NoAlpn),
        }
    }

    async fn handshake(&self, stream: Stream, first: &[u8]) -> Result<(Stream, bool), HandshakeError> {
        let Stream::Tcp(socket) = stream else { return Err(HandshakeError::NotTcp) };
        let mut fed = Ok(());
        let acceptor = TlsAcceptor::from(self.config.clone());
        let accepted = acceptor.accept_with(socket, |session| fed = feed(session, first));
        fed?;
        let (socket, session) = Box::pin(accepted).await?.into_inner();
        let alpn = session.alpn_protocol() == Some(ALPN);
        let tls = TlsStream::new(socket, Connection::Server(session), self.end_point.clone());
        Ok((Stream::Tls(Box::new(tls)), alpn))
    }
}

impl fmt::Debug for AcceptTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptTls").field("mode", &self.mode).finish_non_exhaustive()
    }
}

fn feed(session: &mut ServerConnection, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        session.read_tls(&mut bytes)?;
        session.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    }
    Ok(())
}
