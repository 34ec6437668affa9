//! What can be wrong with TLS: with what was configured, and with a handshake.

use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, Error};

/// Why no TLS could be set up from the settings. Names the setting, and the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A setting lacks that the others need.
    #[error("{setting} must be set: {why}")]
    Missing {
        /// The setting.
        setting: &'static str,
        /// What needs it.
        why: &'static str,
    },
    /// The file can't be read.
    #[error("{setting}: cannot read \"{}\": {cause}", path.display())]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: io::Error,
    },
    /// The file can be read, but not used.
    #[error("{setting}: \"{}\": {why}", path.display())]
    Unusable {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate are not a pair.
    #[error(
        "{setting}: the private key in \"{}\" does not belong to the certificate in \"{}\"",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's setting.
        setting: &'static str,
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A cipher suite that isn't there.
    #[error("{setting}: there is no TLS 1.3 cipher suite \"{name}\"; there are {known}")]
    UnknownCipher {
        /// The setting.
        setting: &'static str,
        /// What was written.
        name: String,
        /// What may be written.
        known: String,
    },
    /// All protocol versions are turned off.
    #[error("{setting} leaves no protocol version: TLS 1.2 and TLS 1.3 are there")]
    NoVersion {
        /// The setting.
        setting: &'static str,
    },
    /// rustls refuses the combination.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] Error),
}

impl TlsError {
    /// The setting that is wrong, where it is one.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Missing { setting, .. }
            | Self::Unreadable { setting, .. }
            | Self::Unusable { setting, .. }
            | Self::Mismatch { setting, .. }
            | Self::UnknownCipher { setting, .. }
            | Self::NoVersion { setting } => Some(setting),
            Self::Library(_) => None,
        }
    }
}

/// Why a connection did not come to speak TLS. The connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// TLS is spoken over TCP only, and once.
    #[error("TLS is possible on plain TCP connections only")]
    NotTcp,
    /// A name that no certificate can be checked against.
    #[error("\"{0}\" is not a name that a certificate can be checked against")]
    BadName(String),
    /// The peer spoke TLS without asking first, and did not say that it wants PostgreSQL inside.
    #[error("a direct TLS connection must ask for the protocol \"postgresql\" (ALPN)")]
    NoAlpn,
    /// The peer hung up, or the network failed.
    #[error("TLS handshake failed: {0}")]
    Io(io::Error),
    /// One side did not like what the other said.
    #[error("TLS handshake failed: {}", explain(.0))]
    Tls(Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => Self::Tls(tls.clone()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Io(io::Error::new(error.kind(), "the peer closed the connection"))
            }
            None => Self::Io(error),
        }
    }
}

/// What TLS has to say of an error of a connection that speaks it. With TLS 1.3 a server refuses our certificate only when
/// for us the handshake is over. `None`: it is the network's.
pub fn tls_cause(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Error>().map(explain)
}

/// rustls' words, except where an operator would not see what to do.
fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the peer's certificate is not signed by any authority in the CA file".into()
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "the peer's certificate is signed by another key than the authority of that name has in the CA file".into()
        }
        Error::NoCertificatesPresented => "the peer has no certificate, but must show one".into(),
        Error::AlertReceived(AlertDescription::UnknownCA) => {
            "the peer does not know the authority that signed our certificate".into()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => "the peer wants a certificate of us".into(),
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the peer says that our certificate has expired".into()
        }
        Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            "the peer says that our certificate has been revoked".into()
        }
        other => other.to_string(),
    }
}
