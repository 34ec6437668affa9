//! Our side when a client logs in to us.

use std::sync::Arc;

use base64::Engine as _;

use super::{
    BASE64, Binding, Nonce, SHA_256, SHA_256_PLUS, ScramError, ScramKeys, ScramVerifier, any_attribute, attribute,
    auth_message, decode_key, hmac_of, is_printable, same_secret, sha_256, xor,
};

/// Mechanisms to offer, the preferred one first. Binding needs TLS and a certificate that has an end point.
pub fn mechanisms(has_end_point: bool) -> &'static [&'static str] {
    if has_end_point { &[SHA_256_PLUS, SHA_256] } else { &[SHA_256] }
}

/// Awaits client-first-message.
#[derive(Debug)]
pub struct AwaitFirst {
    verifier: ScramVerifier,
    doomed: bool,
    end_point: Option<Arc<[u8]>>,
}

impl AwaitFirst {
    /// For a user with a verifier. `end_point` is there when -PLUS was offered.
    pub fn new(verifier: ScramVerifier, end_point: Option<Arc<[u8]>>) -> Self {
        Self { verifier, doomed: false, end_point }
    }

    /// For a stranger: goes through the same messages and fails at the end, whatever the proof.
    pub fn mock(verifier: ScramVerifier, end_point: Option<Arc<[u8]>>) -> Self {
        Self { verifier, doomed: true, end_point }
    }

    /// Takes client-first-message; gives server-first-message. `plus`: the client chose -PLUS.
    ///
    /// # Errors
    /// The client's message breaks the rules; never for an unknown user.
    pub fn answer(self, plus: bool, message: &[u8], nonce: &Nonce) -> Result<(AwaitFinal, String), ScramError> {
        if message.contains(&0) {
            return Err(ScramError::Malformed("Message length does not match input length."));
        }
        let (binding, bare) = self.read_header(plus, message)?;
        let client_nonce = read_bare(bare)?;
        let nonce = format!("{client_nonce}{}", nonce.0);
        let salt = BASE64.encode(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let next = AwaitFinal {
            verifier: self.verifier,
            doomed: self.doomed,
            binding,
            nonce,
            first_bare: bare.to_vec(),
            server_first: server_first.clone(),
        };
        Ok((next, server_first))
    }

    /// The GS2 header: what the client thinks of channel binding. Returns what follows it, too.
    fn read_header<'a>(&self, plus: bool, message: &'a [u8]) -> Result<(Binding, &'a [u8]), ScramError> {
        let bound = self.end_point.as_ref().filter(|_| plus);
        let (binding, rest) = match (message, bound) {
            ([b'n' | b'y', ..], Some(_)) => return Err(ScramError::Malformed("Channel binding data is missing.")),
            ([b'y', ..], None) if self.end_point.is_some() => return Err(ScramError::Downgrade),
            ([b'n', b',', rest @ ..], None) => (Binding::Unsupported, rest),
            ([b'y', b',', rest @ ..], None) => (Binding::NotOffered, rest),
            ([b'p', ..], None) => return Err(ScramError::Malformed("Channel binding data is not expected.")),
            ([b'p', ..], Some(end_point)) => {
                let mut rest = message;
                if attribute(&mut rest, b'p', "channel-binding type")? != b"tls-server-end-point" {
                    return Err(ScramError::UnknownBinding);
                }
                (Binding::EndPoint(end_point.clone()), rest)
            }
            _ => return Err(ScramError::Malformed("Unexpected channel-binding flag.")),
        };
        match rest {
            [b'a', ..] => Err(ScramError::AuthorizationIdentity),
            [b',', bare @ ..] => Ok((binding, bare)),
            _ => Err(ScramError::Malformed("Unexpected attribute in client-first-message.")),
        }
    }
}

/// client-first-message-bare: the user's name is ignored (the startup packet's counts), extensions too.
fn read_bare(bare: &[u8]) -> Result<&str, ScramError> {
    const PLACE: &str = "Unexpected attribute in client-first-message.";
    let mut rest = bare;
    attribute(&mut rest, b'n', PLACE)?;
    let nonce = attribute(&mut rest, b'r', PLACE)?;
    while !rest.is_empty() {
        any_attribute(&mut rest, PLACE)?;
    }
    str::from_utf8(nonce)
        .ok()
        .filter(|nonce| is_printable(nonce.as_bytes()))
        .ok_or(ScramError::Malformed("Non-printable characters in SCRAM nonce."))
}

/// Awaits client-final-message.
#[derive(Debug)]
pub struct AwaitFinal {
    verifier: ScramVerifier,
    doomed: bool,
    binding: Binding,
    nonce: String,
    first_bare: Vec<u8>,
    server_first: String,
}

impl AwaitFinal {
    /// Takes client-final-message; gives the keys that the client proved to have, and server-final-message.
    ///
    /// # Errors
    /// [`ScramError::Proof`] for a wrong password and for strangers; others where the message breaks the rules.
    pub fn finish(self, message: &[u8]) -> Result<(ScramKeys, String), ScramError> {
        let (without_proof, proof) = self.read(message)?;
        let signed = auth_message(&self.first_bare, self.server_first.as_bytes(), without_proof);
        let verifier = self.verifier;
        let client_key = xor(&proof, &hmac_of(&*verifier.stored_key, &[&signed]));
        let proved = same_secret(&*sha_256(&*client_key), &*verifier.stored_key);
        if !proved || self.doomed {
            return Err(ScramError::Proof);
        }
        let signature = BASE64.encode(*hmac_of(&*verifier.server_key, &[&signed]));
        let ScramVerifier { iterations, salt, server_key, .. } = verifier;
        Ok((ScramKeys { iterations, salt, client_key, server_key }, format!("v={signature}")))
    }

    /// Checks binding and nonce; gives client-final-message-without-proof, and the proof.
    fn read<'a>(&self, message: &'a [u8]) -> Result<(&'a [u8], super::Key), ScramError> {
        const PLACE: &str = "Unexpected attribute in client-final-message.";
        let mut rest = message;
        let channel = attribute(&mut rest, b'c', PLACE)?;
        if channel != self.binding.attribute().as_bytes() {
            return Err(match self.binding {
                Binding::EndPoint(_) => ScramError::BindingMismatch,
                _ => ScramError::Malformed("Unexpected channel-binding attribute in client-final-message."),
            });
        }
        let nonce = attribute(&mut rest, b'r', PLACE)?;
        let (before_proof, proof) = loop {
            let before = message.len() - rest.len();
            if let (b'p', proof) = any_attribute(&mut rest, PLACE)? {
                break (before, proof);
            }
        };
        let proof = decode_key(proof).ok_or(ScramError::Malformed("Malformed proof in client-final-message."))?;
        if !rest.is_empty() || message.ends_with(b",") {
            return Err(ScramError::Malformed("Garbage found at the end of client-final-message."));
        }
        if nonce != self.nonce.as_bytes() {
            return Err(ScramError::Nonce);
        }
        let without_proof = message.get(..before_proof.saturating_sub(1)).unwrap_or_default();
        Ok((without_proof, proof))
    }
}
