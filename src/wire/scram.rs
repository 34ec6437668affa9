//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 5929), both sides, as PostgreSQL speaks them.
//! Pure: nonces and salts come from the caller. Every state is consumed by the one message that it awaits.

pub mod client;
pub mod server;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::error::{ClientError, ErrorReply, SqlState};

/// The mechanism without channel binding.
pub const SHA_256: &str = "SCRAM-SHA-256";

/// The mechanism bound to the TLS connection by its server certificate.
pub const SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// A server may ask for so many iterations, not more: each costs 0.15 µs on the thread that logs in, and a server is
/// untrusted until it has proved itself. PostgreSQL's default is 4,096; a million still takes under 0.2 s.
pub const ITERATIONS_MAX: u32 = 1_000_000;

type Key = Zeroizing<[u8; 32]>;

/// What is stored to check a client: opens no server by itself, but lets its holder pose as one.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl ScramVerifier {
    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, as `pg_authid.rolpassword` has it.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: salt.into(),
            stored_key: decode_key(stored_key.as_bytes())?,
            server_key: decode_key(server_key.as_bytes())?,
        })
    }

    /// What would be stored for `password`. Costs `iterations` rounds of PBKDF2 (0.6 ms for 4,096): keep the result.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        ScramKeys::from_password(password, salt, iterations).verifier()
    }

    /// A stranger's: looks like any other in the exchange, and no password fits it.
    /// The salt is the same each time that this process is asked for this user.
    pub fn mock(process_secret: &[u8], user: &str, iterations: u32) -> Self {
        let unknown = Zeroizing::new([0; 32]);
        Self {
            iterations: at_least_one(iterations),
            salt: salt_for(process_secret, user).into(),
            stored_key: unknown.clone(),
            server_key: unknown,
        }
    }

    /// Rounds of PBKDF2.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// The salt, decoded.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether this was made from `password`. As costly as [`ScramVerifier::from_password`].
    pub fn matches_password(&self, password: &[u8]) -> bool {
        let made = Self::from_password(password, &self.salt, self.iterations.get());
        same_secret(&*made.stored_key, &*self.stored_key)
    }
}

/// As `pg_authid.rolpassword` has it. Not `Debug`: that one never prints it.
impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&*self.salt, &*self.stored_key, &*self.server_key].map(|part| BASE64.encode(part));
        write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramVerifier({} iterations, …)", self.iterations)
    }
}

/// What a client proves to have. Learnt from a client's login, it opens the same user's account on a server that
/// stores the same secret (same salt and iterations): pass-through, without ever knowing the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    client_key: Key,
    server_key: Key,
}

impl ScramKeys {
    /// Derives the keys. Costs `iterations` rounds of PBKDF2.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = at_least_one(iterations);
        let mut salted: Key = Zeroizing::new([0; 32]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &prepare(password), &mut *salted);
        Self {
            iterations,
            salt: salt.into(),
            client_key: hmac_of(&*salted, &[b"Client Key"]),
            server_key: hmac_of(&*salted, &[b"Server Key"]),
        }
    }

    /// What a server stores of them.
    pub fn verifier(&self) -> ScramVerifier {
        ScramVerifier {
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: sha_256(&*self.client_key),
            server_key: self.server_key.clone(),
        }
    }

    /// Rounds of PBKDF2 that they were derived with.
    pub fn iterations(&self) -> u32 {
        self.iterations.get()
    }

    /// The salt that they were derived with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether they answer a server that asks with this salt and number of iterations.
    pub fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        *self.salt == *salt && self.iterations.get() == iterations
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramKeys({} iterations, …)", self.iterations)
    }
}

/// A user's salt where none is stored: for strangers, and for users whose plain password is known. Made from a secret
/// of this process, so that it is the same at each attempt and tells nobody which of the two a user is.
pub fn salt_for(process_secret: &[u8], user: &str) -> [u8; 16] {
    let mac = hmac_of(process_secret, &[user.as_bytes()]);
    let mut salt = [0; 16];
    salt.copy_from_slice(&mac[..16]);
    salt
}

/// Whether two secrets are the same. Takes the same time wherever they differ.
pub fn same_secret(left: &[u8], right: &[u8]) -> bool {
    verify_slices_are_equal(left, right).is_ok()
}

/// One side's part of the nonce: printable, without commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// From 18 bytes of a cryptographic random source (as many as PostgreSQL takes). Use each once.
    pub fn from_random(bytes: [u8; 18]) -> Self {
        Self(BASE64.encode(bytes))
    }
}

/// What the exchange is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Binding {
    /// `n`: the client can't, or doesn't want to.
    Unsupported,
    /// `y`: the client could, but was not offered it.
    NotOffered,
    /// `p=tls-server-end-point`: hash of the server's certificate.
    EndPoint(Arc<[u8]>),
}

impl Binding {
    /// The GS2 header that opens the client's first message.
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => END_POINT_HEADER,
        }
    }

    /// Attribute `c` of the client's last message: header and binding data.
    fn attribute(&self) -> String {
        let data = if let Self::EndPoint(hash) = self { hash.as_ref() } else { &[] };
        BASE64.encode([self.header().as_bytes(), data].concat())
    }
}

/// What went wrong in an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// The peer's message is none; says where.
    Malformed(&'static str),
    /// The client wants a binding other than `tls-server-end-point`.
    UnknownBinding,
    /// The client thinks that we can't bind to TLS, though we offered it: somebody took the offer away.
    Downgrade,
    /// The client saw another certificate than ours: somebody sits in between.
    BindingMismatch,
    /// The client wants to act as somebody else.
    AuthorizationIdentity,
    /// The peer demands an extension (`m=`).
    Extension,
    /// The nonce isn't the one agreed on.
    Nonce,
    /// Wrong password, or nobody's.
    Proof,
    /// The server asks for no or too many iterations.
    Iterations(u32),
    /// Keys were passed through, and the server has another salt or number of iterations.
    OtherKeys,
    /// The server doesn't know the password's verifier: it isn't the one that it pretends to be.
    ServerSignature,
    /// The server ended the exchange with this attribute `e`.
    Server(String),
}

impl ClientError for ScramError {
    /// What a client is told, in PostgreSQL's words.
    fn reply(&self) -> ErrorReply {
        let violation = |message: &'static str| ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, message);
        match self {
            Self::Malformed(place) => violation("malformed SCRAM message").detail(*place),
            Self::UnknownBinding => violation("unsupported SCRAM channel-binding type"),
            Self::Downgrade => {
                ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding negotiation error").detail(
                    "The client supports SCRAM channel binding but thinks the server does not. \
                     However, this server does support channel binding.",
                )
            }
            Self::BindingMismatch => {
                ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
            }
            Self::AuthorizationIdentity => ErrorReply::fatal(
                SqlState::NOT_SUPPORTED,
                "client uses authorization identity, but it is not supported",
            ),
            Self::Extension => {
                ErrorReply::fatal(SqlState::NOT_SUPPORTED, "client requires an unsupported SCRAM extension")
            }
            Self::Nonce => violation("invalid SCRAM response").detail("Nonce does not match."),
            Self::Proof | Self::Iterations(_) | Self::OtherKeys | Self::ServerSignature | Self::Server(_) => {
                ErrorReply::fatal(SqlState::INVALID_PASSWORD, "SASL authentication failed")
            }
        }
    }
}

/// The next attribute, whichever it is.
fn any_attribute<'a>(rest: &mut &'a [u8], place: &'static str) -> Result<(u8, &'a [u8]), ScramError> {
    let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
    let (attribute, after) = rest.split_at(end);
    *rest = after.get(1..).unwrap_or_default();
    match attribute {
        [name, b'=', value @ ..] if name.is_ascii_alphabetic() => Ok((*name, value)),
        _ => Err(ScramError::Malformed(place)),
    }
}

/// The next attribute, which must be this one.
fn attribute<'a>(rest: &mut &'a [u8], name: u8, place: &'static str) -> Result<&'a [u8], ScramError> {
    match any_attribute(rest, place)? {
        (found, value) if found == name => Ok(value),
        (b'm', _) => Err(ScramError::Extension),
        _ => Err(ScramError::Malformed(place)),
    }
}

/// PostgreSQL's rule for nonces. A comma can't be in an attribute.
fn is_printable(nonce: &[u8]) -> bool {
    !nonce.is_empty() && nonce.iter().all(u8::is_ascii_graphic)
}

/// What both sides sign.
fn auth_message(first_bare: &[u8], server_first: &[u8], final_without_proof: &[u8]) -> Vec<u8> {
    [first_bare, server_first, final_without_proof].join(&b',')
}

/// SASLprep; what it refuses is used as it is, as PostgreSQL does (RFC 7677 would have it refused).
fn prepare(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = str::from_utf8(password)
        .ok()
        .filter(|text| !text.is_ascii())
        .and_then(|text| stringprep::saslprep(text).ok())
        .filter(|text| !text.is_empty())
        .map(|text| text.into_owned().into_bytes());
    Zeroizing::new(prepared.unwrap_or_else(|| password.to_vec()))
}

fn at_least_one(iterations: u32) -> NonZeroU32 {
    NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN)
}

fn decode_key(text: &[u8]) -> Option<Key> {
    BASE64.decode(text).ok().map(Zeroizing::new)?.as_slice().try_into().ok().map(Zeroizing::new)
}

fn hmac_of(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    first_32(context.sign().as_ref())
}

fn sha_256(data: &[u8]) -> Key {
    first_32(digest::digest(&digest::SHA256, data).as_ref())
}

fn first_32(bytes: &[u8]) -> Key {
    Zeroizing::new(bytes.try_into().expect("SHA-256 has 32 bytes"))
}

fn xor(left: &[u8; 32], right: &[u8; 32]) -> Key {
    Zeroizing::new(std::array::from_fn(|at| left[at] ^ right[at]))
}

const END_POINT_HEADER: &str = "p=tls-server-end-point,,";

#[cfg(test)]
mod tests;
