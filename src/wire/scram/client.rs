//! Our side when we log in to PostgreSQL.

use std::sync::Arc;

use base64::Engine as _;

use super::{
    BASE64, Binding, ITERATIONS_MAX, Nonce, SHA_256, SHA_256_PLUS, ScramError, ScramKeys, attribute, auth_message,
    hmac_of, is_printable, same_secret, sha_256, xor,
};
use crate::types::Secret;

/// With what we prove who we are.
#[derive(Debug, Clone)]
pub enum ScramCredential {
    /// The password: the keys are derived for whatever salt the server has.
    Password(Secret),
    /// Keys of an earlier login: they fit one salt and number of iterations.
    Keys(ScramKeys),
}

impl ScramCredential {
    fn keys(self, salt: &[u8], iterations: u32) -> Result<ScramKeys, ScramError> {
        match self {
            Self::Password(password) => Ok(ScramKeys::from_password(password.expose(), salt, iterations)),
            Self::Keys(keys) if keys.fit(salt, iterations) => Ok(keys),
            Self::Keys(_) => Err(ScramError::OtherKeys),
        }
    }
}

/// The mechanism chosen of those that a server offers.
#[derive(Debug)]
pub struct Mechanism(Binding);

impl Mechanism {
    /// Takes -PLUS where the connection has an end point (TLS, and a certificate that has one) and the server offers
    /// it. `None`: the server offers none of ours.
    pub fn choose(offered: &[&[u8]], end_point: Option<Arc<[u8]>>) -> Option<Self> {
        let offers = |mechanism: &str| offered.contains(&mechanism.as_bytes());
        match (end_point, offers(SHA_256_PLUS), offers(SHA_256)) {
            (Some(hash), true, _) => Some(Self(Binding::EndPoint(hash))),
            (Some(_), false, true) => Some(Self(Binding::NotOffered)),
            (None, _, true) => Some(Self(Binding::Unsupported)),
            (_, _, false) => None,
        }
    }

    /// As SASLInitialResponse names it.
    pub fn name(&self) -> &'static str {
        if matches!(self.0, Binding::EndPoint(_)) { SHA_256_PLUS } else { SHA_256 }
    }
}

/// Awaits server-first-message.
#[derive(Debug)]
pub struct AwaitFirst {
    credential: ScramCredential,
    binding: Binding,
    nonce: Nonce,
    first_bare: String,
}

impl AwaitFirst {
    /// Begins; gives client-first-message. The user's name is left empty: PostgreSQL takes the startup packet's.
    pub fn new(credential: ScramCredential, mechanism: Mechanism, nonce: Nonce) -> (Self, String) {
        Self::begin(credential, mechanism.0, nonce, "")
    }

    pub(super) fn begin(credential: ScramCredential, binding: Binding, nonce: Nonce, user: &str) -> (Self, String) {
        let first_bare = format!("n={user},r={}", nonce.0);
        let message = format!("{}{first_bare}", binding.header());
        (Self { credential, binding, nonce, first_bare }, message)
    }

    /// Takes server-first-message; gives client-final-message. Derives keys if a password is all we have.
    ///
    /// # Errors
    /// The server's message breaks the rules, asks too much, or isn't for the keys at hand.
    pub fn answer(self, message: &[u8]) -> Result<(AwaitFinal, String), ScramError> {
        let ServerFirst { nonce, salt, iterations } = ServerFirst::read(message, &self.nonce)?;
        let keys = self.credential.keys(&salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", self.binding.attribute());
        let signed = auth_message(self.first_bare.as_bytes(), message, without_proof.as_bytes());
        let stored_key = sha_256(&*keys.client_key);
        let proof = BASE64.encode(*xor(&keys.client_key, &hmac_of(&*stored_key, &[&signed])));
        Ok((AwaitFinal { keys, signed }, format!("{without_proof},p={proof}")))
    }
}

struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> ServerFirst<'a> {
    fn read(message: &'a [u8], ours: &Nonce) -> Result<Self, ScramError> {
        const PLACE: &str = "server-first-message";
        let mut rest = message;
        let nonce = attribute(&mut rest, b'r', PLACE)?;
        let salt = attribute(&mut rest, b's', PLACE)?;
        let iterations = attribute(&mut rest, b'i', PLACE)?;
        if !rest.is_empty() || !is_printable(nonce) {
            return Err(ScramError::Malformed(PLACE));
        }
        let nonce = str::from_utf8(nonce)
            .ok()
            .filter(|nonce| nonce.len() > ours.0.len() && nonce.starts_with(&ours.0))
            .ok_or(ScramError::Nonce)?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty()).ok_or(ScramError::Malformed("salt"))?;
        let iterations: u32 = str::from_utf8(iterations)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(ScramError::Malformed("iteration count"))?;
        match iterations {
            1..=ITERATIONS_MAX => Ok(Self { nonce, salt, iterations }),
            _ => Err(ScramError::Iterations(iterations)),
        }
    }
}

/// Awaits server-final-message.
#[derive(Debug)]
pub struct AwaitFinal {
    keys: ScramKeys,
    signed: Vec<u8>,
}

impl AwaitFinal {
    /// Takes server-final-message: does the server know who we are? Gives the keys, for later logins.
    ///
    /// # Errors
    /// [`ScramError::ServerSignature`] when it only pretends, [`ScramError::Server`] when it says no.
    pub fn finish(self, message: &[u8]) -> Result<ScramKeys, ScramError> {
        const PLACE: &str = "server-final-message";
        if let Some(reason) = message.strip_prefix(b"e=") {
            return Err(ScramError::Server(String::from_utf8_lossy(reason).into_owned()));
        }
        let mut rest = message;
        let signature = attribute(&mut rest, b'v', PLACE)?;
        let signature =
            BASE64.decode(signature).ok().filter(|_| rest.is_empty()).ok_or(ScramError::Malformed(PLACE))?;
        let expected = hmac_of(&*self.keys.server_key, &[&self.signed]);
        if same_secret(&*expected, &signature) { Ok(self.keys) } else { Err(ScramError::ServerSignature) }
    }
}
