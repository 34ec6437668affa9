//! Channel binding: `tls-server-end-point` of RFC 5929, section 4.1.

use std::sync::Arc;

use aws_lc_rs::digest::{self, Algorithm};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, SliceReader, TagNumber};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// The certificate's hash by its signature's own hash function, with SHA-256 in place of MD5 and SHA-1.
/// `None` where the signature has no single one, as Ed25519.
pub(super) fn end_point(certificate: &[u8]) -> Option<Arc<[u8]>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let hash = signature_hash(&parsed.signature_algorithm)?;
    Some(Arc::from(digest::digest(hash, certificate).as_ref()))
}

fn signature_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    if signature.oid == RSASSA_PSS {
        return pss_hash(signature);
    }
    SIGNATURES.iter().find(|(oid, _)| *oid == signature.oid).map(|(_, hash)| *hash)
}

/// The hash of an RSASSA-PSS signature stands in its parameters (RFC 4055, section 3.1); SHA-1 if left out.
fn pss_hash(signature: &AlgorithmIdentifierOwned) -> Option<&'static Algorithm> {
    let parameters = signature.parameters.as_ref()?.to_der().ok()?;
    let mut reader = SliceReader::new(&parameters).ok()?;
    let hash = x509_cert::der::Reader::sequence(&mut reader, |fields| {
        let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(fields, TagNumber::N0)?;
        while !x509_cert::der::Reader::is_finished(fields) {
            x509_cert::der::Reader::tlv_bytes(fields)?; // mask generation, salt length, trailer
        }
        Ok(hash)
    })
    .ok()?;
    let Some(hash) = hash else { return Some(&digest::SHA256) };
    HASHES.iter().find(|(oid, _)| *oid == hash.value.oid).map(|(_, hash)| *hash)
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const RSASSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");

const SIGNATURES: [(ObjectIdentifier, &Algorithm); 11] = [
    (oid("1.2.840.113549.1.1.4"), &digest::SHA256),  // RSA, MD5
    (oid("1.2.840.113549.1.1.5"), &digest::SHA256),  // RSA, SHA-1
    (oid("1.2.840.113549.1.1.14"), &digest::SHA224), // RSA
    (oid("1.2.840.113549.1.1.11"), &digest::SHA256),
    (oid("1.2.840.113549.1.1.12"), &digest::SHA384),
    (oid("1.2.840.113549.1.1.13"), &digest::SHA512),
    (oid("1.2.840.10045.4.1"), &digest::SHA256),   // ECDSA, SHA-1
    (oid("1.2.840.10045.4.3.1"), &digest::SHA224), // ECDSA
    (oid("1.2.840.10045.4.3.2"), &digest::SHA256),
    (oid("1.2.840.10045.4.3.3"), &digest::SHA384),
    (oid("1.2.840.10045.4.3.4"), &digest::SHA512),
];

const HASHES: [(ObjectIdentifier, &Algorithm); 6] = [
    (oid("1.2.840.113549.2.5"), &digest::SHA256), // MD5
    (oid("1.3.14.3.2.26"), &digest::SHA256),      // SHA-1
    (oid("2.16.840.1.101.3.4.2.4"), &digest::SHA224),
    (oid("2.16.840.1.101.3.4.2.1"), &digest::SHA256),
    (oid("2.16.840.1.101.3.4.2.2"), &digest::SHA384),
    (oid("2.16.840.1.101.3.4.2.3"), &digest::SHA512),
];
