//! The exchange in which a client proves who it is. Pure: random bytes come from the caller, time doesn't matter.
//!
//! Who the client says it is was fixed by its startup packet, and nothing in here changes that. While an exchange
//! runs, its next message is the only one accepted. A stranger, an unknown database and a wrong password look the
//! same until it is over.

use std::sync::Arc;

use bytes::BytesMut;

use crate::config::model::AuthType;
use crate::config::users::StoredSecret;
use crate::pool::{Credential, stored_credential};
use crate::types::Secret;
use crate::wire::error::{ClientError, ErrorReply, SqlState};
use crate::wire::md5::Md5Secret;
use crate::wire::message::{backend, read};
use crate::wire::scram::server::{AwaitFinal, AwaitFirst, mechanisms};
use crate::wire::scram::{Nonce, SHA_256_PLUS, ScramError, ScramKeys, ScramVerifier, salt_for, same_secret};
use crate::wire::tag::frontend;

/// A message of the exchange may not be longer, its length field included: more is refused unread.
pub const MESSAGE_MAX: usize = 10_000;

/// What an exchange needs to know.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is configured for this client.
    pub method: AuthType,
    /// The name in the startup packet.
    pub user: &'a str,
    /// What is stored of this user; `None`: nobody is known by that name.
    pub secret: Option<&'a StoredSecret>,
    /// For SCRAM with a plain secret: what [`plain_verifier`] gave for it, kept by the caller. Without it the costly
    /// derivation happens here.
    pub verifier: Option<&'a ScramVerifier>,
    /// What speaks against this login besides its password: an unknown or disabled database, a full one. Told once
    /// the password was right, so that it tells strangers nothing.
    pub refusal: Option<ErrorReply>,
    /// What -PLUS binds to, where the connection has it ([`crate::net::Stream::server_end_point`]).
    pub end_point: Option<Arc<[u8]>>,
    /// How strangers are kept busy.
    pub strangers: Strangers<'a>,
    /// Fresh from a cryptographic source for each login.
    pub random: Random,
}

/// How those are asked who don't exist: like those who do.
#[derive(Debug, Clone, Copy)]
pub struct Strangers<'a> {
    /// Random bytes, the same as long as this process lives: a stranger's salt comes from them.
    pub process_secret: &'a [u8],
    /// `scram_iterations`.
    pub iterations: u32,
    /// How many of the known users have SCRAM secrets, so that `auth_type = md5` asks them by SCRAM, and how many users
    /// there are.
    pub scram_users: (usize, usize),
}

impl Strangers<'_> {
    /// Whether a stranger passes for a user with a SCRAM secret: each name always does or never does, and as many do as
    /// among the known.
    fn has_scram(&self, user: &str) -> bool {
        let (scram, all) = self.scram_users;
        // No name begins with a zero byte: it is another number than the salt.
        let [a, b, c, d, ..] = salt_for(self.process_secret, &format!("\0{user}"));
        let lot = u32::from_be_bytes([a, b, c, d]) as usize;
        lot.checked_rem(all).is_some_and(|lot| lot < scram)
    }
}

/// Random bytes for one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Random {
    /// For SCRAM.
    pub nonce: [u8; 18],
    /// For md5.
    pub salt: [u8; 4],
}

/// What SCRAM checks a user against whose plain password is stored. Costs `iterations` rounds of PBKDF2
/// (0.6 ms for 4,096), so keep it for as long as the password stays.
pub fn plain_verifier(password: &Secret, user: &str, strangers: Strangers<'_>) -> ScramVerifier {
    ScramVerifier::from_password(password.expose(), &salt_for(strangers.process_secret, user), strangers.iterations)
}

/// Whether users with such a secret can log in by `method`; if not, they are treated as strangers. An empty secret is none, as
/// an empty password is in PostgreSQL.
pub fn can_serve(method: AuthType, secret: &StoredSecret) -> bool {
    match secret {
        StoredSecret::Plain(password) => method == AuthType::Trust || !password.expose().is_empty(),
        StoredSecret::Md5(_) => method != AuthType::ScramSha256,
        StoredSecret::Scram(_) => true,
    }
}

/// Where a login stands.
#[derive(Debug)]
pub enum Step {
    /// The client's next message goes to [`Exchange::step`].
    Wait(Exchange),
    /// The client is who it says. AuthenticationOk is still to be sent.
    Authenticated(Proof),
}

/// What a successful login teaches: with it the same user can be logged in to PostgreSQL.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// By SCRAM: the client's keys.
    pub keys: Option<ScramKeys>,
    /// By `plain`: the password itself.
    pub password: Option<Secret>,
}

impl Proof {
    /// With what to log in to PostgreSQL as the same user: what serves most methods goes first.
    pub fn credential(self, stored: Option<&StoredSecret>) -> Credential {
        match (self.password, stored, self.keys) {
            (Some(password), ..) => Credential::Plain(password),
            (None, Some(StoredSecret::Plain(_)), _) | (None, _, None) => stored_credential(stored),
            (None, _, Some(keys)) => Credential::ScramKeys(keys),
        }
    }
}

/// Begins. Appends what asks the client to prove itself.
///
/// # Errors
/// Only `trust`, which asks nothing, refuses at once.
pub fn start(mut request: Request<'_>, out: &mut BytesMut) -> Result<Step, Refusal> {
    request.secret = request.secret.filter(|secret| can_serve(request.method, secret));
    let state = match (request.method, request.secret) {
        (AuthType::Trust, None) => return Err(Refusal::Trust),
        (AuthType::Trust, Some(_)) => {
            return Exchange::finish(request.refusal, Proof::default()).map(Step::Authenticated);
        }
        (AuthType::Plain, secret) => ask_password(&request, secret, out),
        (AuthType::Md5, Some(StoredSecret::Scram(_))) | (AuthType::ScramSha256, _) => ask_scram(&request, out),
        (AuthType::Md5, None) if request.strangers.has_scram(request.user) => ask_scram(&request, out),
        (AuthType::Md5, secret) => ask_md5(&request, secret, out),
    };
    Ok(Step::Wait(Exchange { state, refusal: request.refusal }))
}

fn ask_password(request: &Request<'_>, secret: Option<&StoredSecret>, out: &mut BytesMut) -> State {
    backend::authentication_cleartext(out);
    // A stranger's password is compared for as long as anybody's.
    let stranger = secret.is_none();
    let secret = secret.cloned().unwrap_or_else(|| mock_secret(request));
    State::Password { secret, stranger, user: request.user.into() }
}

fn mock_secret(request: &Request<'_>) -> StoredSecret {
    if request.strangers.has_scram(request.user) {
        StoredSecret::Scram(mock_verifier(request))
    } else {
        StoredSecret::Plain(Secret::new(request.strangers.process_secret))
    }
}

fn ask_md5(request: &Request<'_>, secret: Option<&StoredSecret>, out: &mut BytesMut) -> State {
    let salt = request.random.salt;
    backend::authentication_md5(out, salt);
    let secret = match secret {
        Some(StoredSecret::Plain(password)) => {
            Some(Md5Secret::from_password(password.expose(), request.user.as_bytes()))
        }
        Some(StoredSecret::Md5(secret)) => Md5Secret::parse(secret.expose()),
        Some(StoredSecret::Scram(_)) | None => None,
    };
    let stranger = secret.is_none();
    let secret =
        secret.unwrap_or_else(|| Md5Secret::from_password(request.strangers.process_secret, request.user.as_bytes()));
    State::Md5 { secret, stranger, salt }
}

fn ask_scram(request: &Request<'_>, out: &mut BytesMut) -> State {
    let end_point = request.end_point.clone();
    backend::authentication_sasl(out, mechanisms(end_point.is_some()));
    let plus = end_point.is_some();
    let server = match (request.secret, request.verifier) {
        (Some(StoredSecret::Scram(verifier)), _) => AwaitFirst::new(verifier.clone(), end_point),
        (Some(StoredSecret::Plain(_)), Some(verifier)) => AwaitFirst::new(verifier.clone(), end_point),
        (Some(StoredSecret::Plain(password)), None) => {
            AwaitFirst::new(plain_verifier(password, request.user, request.strangers), end_point)
        }
        (Some(StoredSecret::Md5(_)) | None, _) => AwaitFirst::mock(mock_verifier(request), end_point),
    };
    State::Mechanism { server, nonce: Nonce::from_random(request.random.nonce), plus_offered: plus }
}

fn mock_verifier(request: &Request<'_>) -> ScramVerifier {
    ScramVerifier::mock(request.strangers.process_secret, request.user, request.strangers.iterations)
}

/// An exchange that awaits the client's next message.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    refusal: Option<ErrorReply>,
}

#[derive(Debug)]
enum State {
    /// PasswordMessage with the password itself.
    Password { secret: StoredSecret, stranger: bool, user: Box<str> },
    /// PasswordMessage with the answer to `salt`.
    Md5 { secret: Md5Secret, stranger: bool, salt: [u8; 4] },
    /// SASLInitialResponse.
    Mechanism { server: AwaitFirst, nonce: Nonce, plus_offered: bool },
    /// SASLResponse with the client's first word, which did not come along with the mechanism.
    First { server: AwaitFirst, nonce: Nonce, plus: bool },
    /// SASLResponse with the proof.
    Final(AwaitFinal),
}

impl Exchange {
    /// Takes the client's next message; appends what answers it, short of AuthenticationOk.
    ///
    /// # Errors
    /// The login is over. What was appended before is to be dropped.
    pub fn step(self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<Step, Refusal> {
        if tag != frontend::PASSWORD {
            return Err(Refusal::Unexpected { tag });
        }
        let refusal = self.refusal;
        let wait = |state, refusal| Ok(Step::Wait(Self { state, refusal }));
        let proof = match self.state {
            State::Password { secret, stranger, user } => check_password(&secret, stranger, &user, body)?,
            State::Md5 { secret, stranger, salt } => {
                let right = secret.verify(salt, read_password(body)?);
                if right && !stranger { Proof::default() } else { return Err(Refusal::Password) }
            }
            State::Mechanism { server, nonce, plus_offered } => {
                return wait(choose_mechanism(server, nonce, plus_offered, body, out)?, refusal);
            }
            State::First { server, nonce, plus } => return wait(first(server, &nonce, plus, body, out)?, refusal),
            State::Final(server) => {
                let (keys, message) = server.finish(body)?;
                backend::authentication_sasl_final(out, message.as_bytes());
                Proof { keys: Some(keys), password: None }
            }
        };
        Self::finish(refusal, proof).map(Step::Authenticated)
    }

    /// The password was right. Is anything else wrong?
    fn finish(refusal: Option<ErrorReply>, proof: Proof) -> Result<Proof, Refusal> {
        refusal.map_or(Ok(proof), |reply| Err(Refusal::Other(Box::new(reply))))
    }
}

fn check_password(secret: &StoredSecret, stranger: bool, user: &str, body: &[u8]) -> Result<Proof, Refusal> {
    let given = Secret::new(read_password(body)?);
    let right = match secret {
        StoredSecret::Plain(password) => same_secret(password.expose(), given.expose()),
        StoredSecret::Md5(stored) => Md5Secret::parse(stored.expose())
            .is_some_and(|stored| stored.matches_password(given.expose(), user.as_bytes())),
        StoredSecret::Scram(verifier) => verifier.matches_password(given.expose()),
    };
    if right && !stranger { Ok(Proof { keys: None, password: Some(given) }) } else { Err(Refusal::Password) }
}

fn read_password(body: &[u8]) -> Result<&[u8], Refusal> {
    match read::password(body) {
        Some(b"") => Err(Refusal::EmptyPassword),
        Some(password) => Ok(password),
        None => Err(Refusal::Malformed("invalid password packet size")),
    }
}

fn choose_mechanism(
    server: AwaitFirst,
    nonce: Nonce,
    plus_offered: bool,
    body: &[u8],
    out: &mut BytesMut,
) -> Result<State, Refusal> {
    let (mechanism, data) =
        read::sasl_initial_response(body).ok_or(Refusal::Malformed("invalid SASLInitialResponse message"))?;
    let offered = mechanisms(plus_offered).iter().any(|name| name.as_bytes() == mechanism);
    let plus = mechanism == SHA_256_PLUS.as_bytes();
    match data {
        _ if !offered => Err(Refusal::Mechanism),
        Some(message) => first(server, &nonce, plus, message, out),
        None => {
            backend::authentication_sasl_continue(out, b"");
            Ok(State::First { server, nonce, plus })
        }
    }
}

fn first(server: AwaitFirst, nonce: &Nonce, plus: bool, message: &[u8], out: &mut BytesMut) -> Result<State, Refusal> {
    let (server, answer) = server.answer(plus, message, nonce)?;
    backend::authentication_sasl_continue(out, answer.as_bytes());
    Ok(State::Final(server))
}

/// Why a client was not let in. All end its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong password, or nobody of that name.
    Password,
    /// `trust`, but nobody of that name.
    Trust,
    /// An empty password is a mistake of the client's program.
    EmptyPassword,
    /// A mechanism that wasn't offered.
    Mechanism,
    /// The exchange by SCRAM failed: [`ScramError::Proof`] for a wrong password and nobody, else a mistake.
    Scram(ScramError),
    /// Not the message that the exchange awaits.
    Unexpected {
        /// Its first byte.
        tag: u8,
    },
    /// A message that can't be read.
    Malformed(&'static str),
    /// The password was right, but this speaks against the login.
    Other(Box<ErrorReply>),
}

impl From<ScramError> for Refusal {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}

impl ClientError for Refusal {
    fn reply(&self) -> ErrorReply {
        let password = |message: &'static str| ErrorReply::fatal(SqlState::INVALID_PASSWORD, message);
        let violation = |message: String| ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, message);
        match self {
            Self::Password => password("password authentication failed"),
            Self::EmptyPassword => password("empty password returned by client"),
            Self::Trust => ErrorReply::fatal(SqlState::INVALID_AUTHORIZATION, "\"trust\" authentication failed"),
            Self::Mechanism => violation("client selected an invalid SASL authentication mechanism".into()),
            Self::Scram(error) => error.reply(),
            Self::Unexpected { tag } => {
                violation(format!("expected password response, got message type \"{}\"", tag.escape_ascii()))
            }
            Self::Malformed(what) => violation((*what).into()),
            Self::Other(reply) => (**reply).clone(),
        }
    }
}

#[cfg(test)]
mod tests;
