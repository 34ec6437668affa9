//! Keys and certificates on disk. Each file is read once: what is compared with the earlier state is what is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::TlsError;
use super::{legacy, names, period};
use crate::net::options::{ClientTls, ServerTls, SslMode, TlsVersions};

/// Everything that one side's TLS is built from.
pub(super) struct Inputs {
    settings: &'static Names,
    pub(super) mode: SslMode,
    versions: TlsVersions,
    ciphers: Vec<String>,
    key: Option<PemFile>,
    certificate: Option<PemFile>,
    authorities: Option<PemFile>,
}

/// Who may sign the peer's certificate.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
    /// As they stand in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

impl Inputs {
    pub(super) fn of_clients(tls: &ClientTls) -> Result<Self, TlsError> {
        let files = [&tls.key_file, &tls.cert_file, &tls.ca_file];
        Self::read(&CLIENT, tls.sslmode, tls.versions, &tls.tls13_ciphers, files)
    }

    pub(super) fn of_servers(tls: &ServerTls) -> Result<Self, TlsError> {
        let files = [&tls.key_file, &tls.cert_file, &tls.ca_file];
        Self::read(&SERVER, tls.sslmode, tls.versions, &tls.tls13_ciphers, files)
    }

    fn read(
        settings: &'static Names,
        mode: SslMode,
        versions: TlsVersions,
        ciphers: &[String],
        [key, certificate, authorities]: [&Option<PathBuf>; 3],
    ) -> Result<Self, TlsError> {
        Ok(Self {
            settings,
            mode,
            versions,
            ciphers: ciphers.to_vec(),
            key: PemFile::read(settings.key, key.as_deref())?,
            certificate: PemFile::read(settings.certificate, certificate.as_deref())?,
            authorities: PemFile::read(settings.authorities, authorities.as_deref())?,
        })
    }

    /// Equal if and only if settings, file names and contents are.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut field = |bytes: &[u8]| {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        };
        field(self.mode.as_str().as_bytes());
        field(&[u8::from(self.versions.tls12), u8::from(self.versions.tls13)]);
        field(self.ciphers.join(":").as_bytes());
        for file in [&self.key, &self.certificate, &self.authorities] {
            field(&[u8::from(file.is_some())]);
            if let Some(file) = file {
                field(file.path.as_os_str().as_encoded_bytes());
                field(&file.bytes);
            }
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Our key and certificate chain, which must be a pair. Expired ones are for the peer to refuse.
    pub(super) fn identity(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, TlsError> {
        let missing = |setting, why| Err(TlsError::Missing { setting, why });
        let (key_file, certificate_file) = match (&self.key, &self.certificate) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return missing(self.settings.key, "there is a certificate, but no key for it"),
            (Some(_), None) => return missing(self.settings.certificate, "there is a key, but no certificate for it"),
            (Some(key), Some(certificate)) => (key, certificate),
        };
        let key = provider
            .key_provider
            .load_private_key(key_file.private_key()?)
            .map_err(|e| key_file.unusable(format!("the private key cannot be used: {e}")))?;
        let identity = CertifiedKey::new(certificate_file.certificates()?, key);
        let is_pair = match identity.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => true,
            Err(Error::InconsistentKeys(_)) => false,
            Err(e) => {
                let certified = legacy::public_key(&identity.cert[0]);
                let certified = certified.ok_or_else(|| certificate_file.unusable(damaged(&e)))?;
                identity.key.public_key().is_none_or(|ours| *ours == *certified)
            }
        };
        if is_pair {
            return Ok(Some(identity));
        }
        let (key, certificate) = (key_file.path.clone(), certificate_file.path.clone());
        Err(TlsError::Mismatch { setting: self.settings.key, key, certificate })
    }

    /// What the peers will not like at this time, by the setting: certificates whose time is over or has not come.
    /// Of authorities a bundle may have some that are of no use any more, as long as there are others; those that can't be
    /// read are told, since no time will make them good.
    pub(super) fn remarks(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let read = |file: &Option<PemFile>| {
            let file = file.as_ref()?;
            Some((file.setting, file.path.display().to_string(), file.certificates().ok()?))
        };
        let mut remarks = Vec::new();
        if let Some((setting, path, chain)) = read(&self.certificate)
            && let Some(why) = chain.first().and_then(|own| period::out_of_time(own, now))
        {
            remarks.push((setting, format!("{setting}: the certificate in \"{path}\" {why}")));
        }
        if let Some((setting, path, authorities)) = read(&self.authorities).filter(|_| self.mode.verifies()) {
            let of = authorities.len();
            let (readable, unreadable): (Vec<_>, Vec<_>) =
                (1..).zip(&authorities).map(|(n, one)| (n, one, unusable(one))).partition(|(_, _, why)| why.is_none());
            let whys: Option<Vec<_>> = readable.iter().map(|(_, one, _)| period::out_of_time(one, now)).collect();
            if let Some(why) = whys.and_then(|whys| whys.into_iter().next()) {
                remarks.push((setting, format!("{setting}: every authority in \"{path}\" is out of date: one {why}")));
            }
            for (n, _, why) in unreadable.into_iter().filter(|_| !readable.is_empty()) {
                let why = why.unwrap_or_default();
                let text =
                    format!("{setting}: certificate {n} of {of} in \"{path}\" cannot be read and is left out: {why}");
                remarks.push((setting, text));
            }
        }
        remarks
    }

    /// As [`Self::identity`], where we can't do without.
    pub(super) fn required_identity(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let why = "clients can have TLS only if we have a key and a certificate";
        self.identity(provider)?.ok_or(TlsError::Missing { setting: self.settings.key, why })
    }

    /// Whom a verifying mode trusts.
    pub(super) fn authorities(&self) -> Result<Authorities, TlsError> {
        let why = "verify-ca and verify-full check certificates against it";
        let file = self.authorities.as_ref();
        let file = file.ok_or(TlsError::Missing { setting: self.settings.authorities, why })?;
        let certificates = file.certificates()?;
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if usable == 0 {
            return Err(file.unusable("none of its certificates can be read".into()));
        }
        Ok(Authorities { roots: Arc::new(roots), certificates })
    }

    /// The cryptography, narrowed to the suites that the settings allow.
    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if !self.ciphers.is_empty() {
            let mut suites = Vec::new();
            for name in &self.ciphers {
                suites.push(names::tls13_suite(name).ok_or_else(|| TlsError::UnknownCipher {
                    setting: self.settings.ciphers,
                    name: name.clone(),
                    known: names::TLS13.map(|(name, _)| name).join(", "),
                })?);
            }
            suites.extend(provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none()));
            provider.cipher_suites = suites;
        }
        Ok(Arc::new(provider))
    }

    /// Whether the operator put the ciphers in an order.
    pub(super) fn orders_ciphers(&self) -> bool {
        !self.ciphers.is_empty()
    }

    pub(super) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let mut versions = Vec::new();
        if self.versions.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if self.versions.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        if versions.is_empty() {
            return Err(TlsError::NoVersion { setting: self.settings.versions });
        }
        Ok(versions)
    }
}

/// Why a certificate can't be an authority.
fn unusable(certificate: &CertificateDer<'static>) -> Option<String> {
    RootCertStore::empty().add(certificate.clone()).err().map(|error| error.to_string())
}

/// The settings' names on one side.
struct Names {
    key: &'static str,
    certificate: &'static str,
    authorities: &'static str,
    versions: &'static str,
    ciphers: &'static str,
}

const CLIENT: Names = Names {
    key: "client_tls_key_file",
    certificate: "client_tls_cert_file",
    authorities: "client_tls_ca_file",
    versions: "client_tls_protocols",
    ciphers: "client_tls13_ciphers",
};

const SERVER: Names = Names {
    key: "server_tls_key_file",
    certificate: "server_tls_cert_file",
    authorities: "server_tls_ca_file",
    versions: "server_tls_protocols",
    ciphers: "server_tls13_ciphers",
};

/// A file that was read, and the setting that names it.
struct PemFile {
    setting: &'static str,
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

impl PemFile {
    fn read(setting: &'static str, path: Option<&Path>) -> Result<Option<Self>, TlsError> {
        let Some(path) = path else { return Ok(None) };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(Self { setting, path: path.to_owned(), bytes: Zeroizing::new(bytes) })),
            Err(cause) => Err(TlsError::Unreadable { setting, path: path.to_owned(), cause }),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let encrypted = self.bytes.windows(9).any(|window| window == b"ENCRYPTED");
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|e| {
            self.unusable(match e {
                _ if encrypted => "its private key has a passphrase; write it without one".into(),
                pem::Error::NoItemsFound => "there is no private key in it (-----BEGIN PRIVATE KEY-----)".into(),
                other => broken(&other),
            })
        })
    }

    /// At least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|e| self.unusable(broken(&e)))?;
        if found.is_empty() {
            return Err(self.unusable("there is no certificate in it (-----BEGIN CERTIFICATE-----)".into()));
        }
        Ok(found)
    }

    fn unusable(&self, why: String) -> TlsError {
        TlsError::Unusable { setting: self.setting, path: self.path.clone(), why }
    }
}

/// What is wrong with the form of the file. Its lines may be a key's, and are not repeated.
fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let of = String::from_utf8_lossy(end_marker);
            damaged(&format_args!("the line -----END {}----- is missing", of.escape_debug()))
        }
        pem::Error::IllegalSectionStart { .. } => {
            damaged(&"a line that starts with -----BEGIN does not end with -----")
        }
        other => damaged(other),
    }
}

fn damaged(cause: &dyn std::fmt::Display) -> String {
    format!("it is damaged: {cause}")
}
