//! Certificates that rustls does not take but OpenSSL does: those of X.509 version 1, and those that name their
//! server in the subject only. `openssl x509 -req`, which PostgreSQL's manual shows, made both for decades.

use std::net::IpAddr;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use rustls_pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// A peer's certificate, and what a parser makes of it that knows old ones.
pub(super) struct Peer<'a> {
    pub(super) der: &'a CertificateDer<'a>,
    /// `None`: not even this parser can read it. rustls has the word then.
    parsed: Option<Certificate>,
}

impl<'a> Peer<'a> {
    pub(super) fn new(der: &'a CertificateDer<'a>) -> Self {
        Self { der, parsed: Certificate::from_der(der).ok() }
    }

    /// The certificate, if rustls would not take it for its age.
    pub(super) fn version_1(&self) -> Option<&Certificate> {
        self.parsed.as_ref().filter(|certificate| certificate.tbs_certificate.version == Version::V1)
    }

    /// Whether the subject is all that names the server.
    pub(super) fn has_common_name_only(&self) -> bool {
        self.parsed.as_ref().is_some_and(|certificate| extension(certificate, SUBJECT_ALT_NAME).is_none())
    }

    pub(super) fn verify_time(&self, now: UnixTime) -> Result<(), Error> {
        verify_time(self.parsed.as_ref().ok_or(CertificateError::BadEncoding)?, now)
    }

    /// Whether a common name is `name`, or a wildcard in place of its first label.
    pub(super) fn common_name_matches(&self, name: &ServerName<'_>) -> bool {
        let subjects = self.parsed.iter().flat_map(|certificate| &certificate.tbs_certificate.subject.0);
        subjects
            .flat_map(|part| part.0.iter())
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok())
            .any(|common| match name {
                ServerName::DnsName(name) => dns_name_matches(common, name.as_ref()),
                ServerName::IpAddress(address) => {
                    common.parse::<IpAddr>().is_ok_and(|common| common == IpAddr::from(*address))
                }
                _ => false,
            })
    }
}

/// The public key of a certificate, as DER; `None` if it can't be read.
pub(super) fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Certificate::from_der(certificate).ok()?.tbs_certificate.subject_public_key_info.to_der().ok()
}

/// Whether one of `authorities` itself signed the certificate.
pub(super) fn verify_issuer(
    certificate: &Certificate,
    authorities: &[CertificateDer<'_>],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<(), Error> {
    verify_time(certificate, now)?;
    let signed = certificate.tbs_certificate.to_der().map_err(|_| CertificateError::BadEncoding)?;
    let signature = certificate.signature.raw_bytes();
    let algorithm = identifier(&certificate.signature_algorithm)?;
    let algorithms: Vec<_> =
        algorithms.iter().copied().filter(|a| a.signature_alg_id().as_ref() == algorithm).collect();
    for authority in authorities {
        let Ok(authority) = Certificate::from_der(authority) else { continue };
        let named = authority.tbs_certificate.subject == certificate.tbs_certificate.issuer;
        let key = &authority.tbs_certificate.subject_public_key_info;
        if named && is_authority(&authority) && verify_signature(key, &algorithms, &signed, signature).is_ok() {
            return verify_time(&authority, now);
        }
    }
    Err(CertificateError::UnknownIssuer.into())
}

/// As `rustls::crypto::verify_tls12_signature`.
pub(super) fn verify_tls12(
    certificate: &Certificate,
    message: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let known = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, algorithms) = known.ok_or(CertificateError::BadSignature)?;
    verify_signature(&certificate.tbs_certificate.subject_public_key_info, algorithms, message, signed.signature())?;
    Ok(HandshakeSignatureValid::assertion())
}

/// As `rustls::crypto::verify_tls13_signature`.
pub(super) fn verify_tls13(
    certificate: &Certificate,
    message: &[u8],
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = certificate.tbs_certificate.subject_public_key_info.to_der();
    let key = SubjectPublicKeyInfoDer::from(key.map_err(|_| CertificateError::BadEncoding)?);
    verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}

fn verify_signature(
    key: &SubjectPublicKeyInfoOwned,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let kind = identifier(&key.algorithm)?;
    let fits = algorithms.iter().find(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
    let bits = key.subject_public_key.raw_bytes();
    let valid = fits.is_some_and(|algorithm| algorithm.verify_signature(bits, message, signature).is_ok());
    if valid { Ok(()) } else { Err(CertificateError::BadSignature.into()) }
}

/// What `rustls_pki_types::AlgorithmIdentifier` holds: the sequence without its header.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> Result<Vec<u8>, Error> {
    let bad = |_| CertificateError::BadEncoding;
    let der = algorithm.to_der().map_err(bad)?;
    Ok(AnyRef::from_der(&der).map_err(bad)?.value().to_vec())
}

fn is_authority(certificate: &Certificate) -> bool {
    if certificate.tbs_certificate.version == Version::V1 {
        return true; // it has no way to say so; it stands in the CA file
    }
    extension(certificate, BASIC_CONSTRAINTS)
        .and_then(|value| BasicConstraints::from_der(value).ok())
        .is_some_and(|constraints| constraints.ca)
}

fn verify_time(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &certificate.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> Option<&[u8]> {
    let mut extensions = certificate.tbs_certificate.extensions.iter().flatten();
    extensions.find(|extension| extension.extn_id == oid).map(|extension| extension.extn_value.as_bytes())
}

fn dns_name_matches(pattern: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.');
    if let Some(parent) = pattern.strip_prefix("*.") {
        return parent.contains('.') && name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent));
    }
    pattern.eq_ignore_ascii_case(name)
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
