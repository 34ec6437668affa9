//! Whether a server is who we take it for, as the modes of `server_tls_sslmode` have it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::files::Authorities;
use super::legacy::{self, Peer};

/// Whose certificates are good.
#[derive(Debug)]
pub(super) enum Trust {
    /// Everyone's.
    Anyone,
    /// Those that an authority signed.
    Authority(Authorities),
    /// Those that an authority signed for the name that was asked for.
    AuthorityAndName(Authorities),
}

/// Checks certificates by [`Trust`]. That the server has the key to its certificate is checked always, or
/// channel binding would bind to a certificate that anyone can show.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { trust, algorithms }
    }

    fn verify_chain(
        &self,
        authorities: &Authorities,
        peer: &Peer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // The usual self-signed certificate: its copy is the CA file.
        if authorities.certificates.iter().any(|known| known.as_ref() == peer.der.as_ref()) {
            return peer.verify_time(now);
        }
        if let Some(old) = peer.version_1() {
            return legacy::verify_issuer(old, &authorities.certificates, self.algorithms.all, now);
        }
        let parsed = ParsedCertificate::try_from(peer.der)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &authorities.roots, intermediates, now, self.algorithms.all)
    }

    fn verify_name(peer: &Peer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
        if !peer.has_common_name_only() {
            return verify_server_name(&ParsedCertificate::try_from(peer.der)?, name);
        }
        // As libpq and PgBouncer do: certificates made by PostgreSQL's manual have nothing but a common name.
        if peer.common_name_matches(name) { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anyone => {}
            Trust::Authority(authorities) => {
                self.verify_chain(authorities, &Peer::new(end_entity), intermediates, now)?;
            }
            Trust::AuthorityAndName(authorities) => {
                let peer = Peer::new(end_entity);
                self.verify_chain(authorities, &peer, intermediates, now)?;
                Self::verify_name(&peer, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Some(old) = Peer::new(cert).version_1() {
            return legacy::verify_tls12(old, message, signed, &self.algorithms);
        }
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if let Some(old) = Peer::new(cert).version_1() {
            return legacy::verify_tls13(old, message, signed, &self.algorithms);
        }
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
