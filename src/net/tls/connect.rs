//! TLS towards PostgreSQL: we are the TLS client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, Connection};
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::ALPN;
use super::end_point::end_point;
use super::error::{HandshakeError, TlsError};
use super::files::Inputs;
use super::stream::TlsStream;
use super::verify::{ServerVerifier, Trust};
use crate::net::options::{ServerTls, SslMode};
use crate::net::stream::Stream;

/// How TLS connections to servers are made.
pub struct ConnectTls {
    config: Arc<ClientConfig>,
    mode: SslMode,
    pub(super) fingerprint: [u8; 32],
}

impl ConnectTls {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    /// Names the setting and the file that is wrong.
    pub fn build(settings: &ServerTls) -> Result<Self, TlsError> {
        Self::from_inputs(&Inputs::of_servers(settings)?)
    }

    pub(super) fn from_inputs(inputs: &Inputs) -> Result<Self, TlsError> {
        let provider = inputs.provider()?;
        let identity = inputs.identity(&provider)?;
        let trust = match inputs.mode {
            SslMode::VerifyCa => Trust::Authority(inputs.authorities()?),
            SslMode::VerifyFull => Trust::AuthorityAndName(inputs.authorities()?),
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => Trust::Anyone,
        };
        let verifier = ServerVerifier::new(trust, provider.signature_verification_algorithms);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&inputs.versions()?)?
            .dangerous() // the modes without verification are the operator's choice
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), mode: inputs.mode, fingerprint: inputs.fingerprint() })
    }

    /// What is asked of servers.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// Shakes hands with the server at `host`, a name or an address, which has agreed to TLS. Nothing that it
    /// sent before may have been read beyond its answer. Has no deadline of its own.
    ///
    /// # Errors
    /// The server's fault, or the network's; the connection is closed.
    pub async fn connect(&self, stream: Stream, host: &str) -> Result<Stream, HandshakeError> {
        let Stream::Tcp(socket) = stream else { return Err(HandshakeError::NotTcp) };
        let connector = TlsConnector::from(self.config.clone());
        let connected = Box::pin(connector.connect(self.server_name(host)?, socket)).await?;
        let (socket, session) = connected.into_inner();
        let end_point = session.peer_certificates().and_then(|chain| end_point(chain.first()?));
        Ok(Stream::Tls(Box::new(TlsStream::new(socket, Connection::Client(session), end_point))))
    }

    /// A client of another make: it does not say what it wants to speak.
    #[cfg(test)]
    pub(super) async fn connect_without_alpn(&self, stream: Stream, host: &str) -> Result<Stream, HandshakeError> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.clear();
        let other = Self { config: Arc::new(config), mode: self.mode, fingerprint: self.fingerprint };
        other.connect(stream, host).await
    }

    fn server_name(&self, host: &str) -> Result<ServerName<'static>, HandshakeError> {
        match ServerName::try_from(host.to_owned()) {
            Ok(name) => Ok(name),
            Err(_) if self.mode == SslMode::VerifyFull => Err(HandshakeError::BadName(host.to_owned())),
            // Nobody compares it, and addresses are not sent to the server.
            Err(_) => Ok(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())),
        }
    }
}

impl fmt::Debug for ConnectTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectTls").field("mode", &self.mode).finish_non_exhaustive()
    }
}
