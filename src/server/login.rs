//! Logging in to PostgreSQL, as the client side: from the startup packet to the first ReadyForQuery.
//! Pure. A backend is untrusted input as well: what it sends is bounded, and what it may send next is a state.

use std::sync::Arc;

use bytes::BytesMut;

use super::server::BackendKey;
use crate::types::Secret;
use crate::wire::error::{ClientError, ErrorFields, ErrorReply, SqlState};
use crate::wire::md5::Md5Secret;
use crate::wire::message::read::{self, Authentication};
use crate::wire::message::{TxStatus, frontend};
use crate::wire::params::ParamSet;
use crate::wire::scram::client::{AwaitFinal, AwaitFirst, Mechanism, ScramCredential};
use crate::wire::scram::{Nonce, ScramError, ScramKeys};
use crate::wire::startup::Version;
use crate::wire::tag::backend;

/// No message of a login is longer, its length field included.
pub const MESSAGE_MAX: usize = 65_536;

/// What clients are told of a server that hangs up.
pub(super) const CLOSED: &str = "server closed the connection during login";

/// A server reports about fifteen parameters; more than this is no PostgreSQL.
const PARAMS_MAX: usize = 256;

/// With what we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: the server trusts us, or knows our certificate.
    None,
    /// The password: serves every method.
    Plain(Secret),
    /// Serves the md5 method.
    Md5(Md5Secret),
    /// Serve SCRAM where the server stores the same secret.
    ScramKeys(ScramKeys),
}

/// What a login needs to know.
#[derive(Debug)]
pub struct LoginRequest<'a> {
    /// The user's name on the server.
    pub user: &'a str,
    /// The database's name on the server.
    pub database: &'a str,
    /// Further parameters of the startup packet, in order.
    pub params: &'a [(&'a str, &'a str)],
    /// How to prove who we are.
    pub credential: Credential,
    /// What SCRAM-SHA-256-PLUS binds to, where the connection has it.
    pub end_point: Option<Arc<[u8]>>,
    /// Fresh from a cryptographic source for each login.
    pub nonce: [u8; 18],
}

/// What a login gave.
#[derive(Debug)]
pub struct LoggedIn {
    /// What the server reported.
    pub params: ParamSet,
    /// For cancel requests; its secret is empty where the server gave none.
    pub key: BackendKey,
}

/// Where a login stands.
#[derive(Debug)]
pub enum Step {
    /// The server's next message goes to [`Login::step`].
    Wait(Login),
    /// ReadyForQuery came.
    Done(LoggedIn),
}

/// A login that awaits the server's next message.
#[derive(Debug)]
pub struct Login {
    state: State,
    params: ParamSet,
    key: Option<BackendKey>,
}

#[derive(Debug)]
enum State {
    /// Nothing was proved yet.
    Request { credential: Credential, user: Box<str>, end_point: Option<Arc<[u8]>>, nonce: Nonce },
    /// Our mechanism and first word went out.
    SaslContinue(AwaitFirst),
    /// Our proof went out.
    SaslFinal(AwaitFinal),
    /// Nothing is left to prove; the server may still say no.
    Verdict,
    /// AuthenticationOk came.
    Ready,
}

impl Login {
    /// Begins; appends the startup packet. Protocol 3.0 is asked for: it is what every server and every pooler before
    /// one understands, and the longer cancel keys of 3.2 protect nothing between us and the server.
    pub fn start(request: LoginRequest<'_>, out: &mut BytesMut) -> Self {
        let identity = [("user", request.user), ("database", request.database)];
        let params = identity.iter().chain(request.params).map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        frontend::startup(out, Version::V3_0, params);
        let state = State::Request {
            credential: request.credential,
            user: request.user.into(),
            end_point: request.end_point,
            nonce: Nonce::from_random(request.nonce),
        };
        Self { state, params: ParamSet::default(), key: None }
    }

    /// Takes the server's next message, whole; appends what answers it.
    ///
    /// # Errors
    /// The login is over; the connection is to be closed.
    pub fn step(mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<Step, LoginFailure> {
        match (tag, &self.state) {
            (backend::ERROR, _) => return Err(LoginFailure::Refused(Box::new(refusal(body)))),
            (backend::NOTICE, _) => {}
            (backend::NEGOTIATE, State::Request { .. }) => accept_version(body)?,
            (backend::AUTHENTICATION, _) => self.state = self.state.authentication(body, out)?,
            (backend::PARAMETER_STATUS, State::Ready) => self.note_param(body)?,
            (backend::BACKEND_KEY_DATA, State::Ready) => self.key = Some(read_key(body)?),
            (backend::READY, State::Ready) => return self.finish(body).map(Step::Done),
            _ => return Err(LoginFailure::Protocol("unexpected message during login")),
        }
        Ok(Step::Wait(self))
    }

    fn note_param(&mut self, body: &[u8]) -> Result<(), LoginFailure> {
        let (name, value) = read::parameter_status(body).ok_or(LoginFailure::Protocol("malformed ParameterStatus"))?;
        if self.params.get(name).is_none() && self.params.iter().count() == PARAMS_MAX {
            return Err(LoginFailure::Protocol("too many parameters"));
        }
        self.params.set(name, value);
        Ok(())
    }

    fn finish(self, body: &[u8]) -> Result<LoggedIn, LoginFailure> {
        match read::ready_for_query(body) {
            Some(TxStatus::Idle) => {
                let key = self.key.unwrap_or_else(|| BackendKey { pid: 0, secret: Arc::from([]) });
                Ok(LoggedIn { params: self.params, key })
            }
            _ => Err(LoginFailure::Protocol("malformed ReadyForQuery")),
        }
    }
}

impl State {
    /// One authentication message: what it asks of us, and where that leads.
    fn authentication(self, body: &[u8], out: &mut BytesMut) -> Result<Self, LoginFailure> {
        let message = read::authentication(body).ok_or(LoginFailure::Protocol("malformed authentication request"))?;
        match (self, message) {
            // Within SCRAM, a server that says yes before it has proved itself is not believed.
            (Self::Request { .. } | Self::Verdict, Authentication::Ok) => Ok(Self::Ready),
            (Self::Request { credential, .. }, Authentication::Cleartext) => answer_cleartext(credential, out),
            (Self::Request { credential, user, .. }, Authentication::Md5(salt)) => {
                answer_md5(credential, &user, salt, out)
            }
            (Self::Request { credential, end_point, nonce, .. }, Authentication::Sasl(offered)) => {
                begin_sasl(credential, &offered, end_point, nonce, out)
            }
            (Self::Request { .. }, Authentication::Other(code)) => Err(LoginFailure::Unsupported(method_name(code))),
            (Self::SaslContinue(scram), Authentication::SaslContinue(data)) => {
                let (scram, message) = scram.answer(data)?;
                frontend::sasl_response(out, message.as_bytes());
                Ok(Self::SaslFinal(scram))
            }
            (Self::SaslFinal(scram), Authentication::SaslFinal(data)) => {
                scram.finish(data)?;
                Ok(Self::Verdict)
            }
            _ => Err(LoginFailure::Protocol("unexpected authentication request")),
        }
    }
}

fn answer_cleartext(credential: Credential, out: &mut BytesMut) -> Result<State, LoginFailure> {
    let Credential::Plain(password) = credential else { return Err(LoginFailure::WrongPasswordType) };
    send_password(&password, out)
}

fn answer_md5(credential: Credential, user: &str, salt: [u8; 4], out: &mut BytesMut) -> Result<State, LoginFailure> {
    let secret = match credential {
        Credential::Plain(password) => Md5Secret::from_password(password.expose(), user.as_bytes()),
        Credential::Md5(secret) => secret,
        Credential::ScramKeys(_) | Credential::None => return Err(LoginFailure::WrongPasswordType),
    };
    send_password(&secret.answer(salt), out)
}

/// A NUL would end the password early, and let a shorter one in its place.
fn send_password(password: &Secret, out: &mut BytesMut) -> Result<State, LoginFailure> {
    if password.expose().contains(&0) {
        return Err(LoginFailure::WrongPasswordType);
    }
    frontend::password(out, password.expose());
    Ok(State::Verdict)
}

fn begin_sasl(
    credential: Credential,
    offered: &[&[u8]],
    end_point: Option<Arc<[u8]>>,
    nonce: Nonce,
    out: &mut BytesMut,
) -> Result<State, LoginFailure> {
    let mechanism = Mechanism::choose(offered, end_point)
        .ok_or(LoginFailure::Unsupported("a SASL mechanism other than SCRAM-SHA-256"))?;
    let credential = match credential {
        Credential::Plain(password) => ScramCredential::Password(password),
        Credential::ScramKeys(keys) => ScramCredential::Keys(keys),
        Credential::Md5(_) | Credential::None => return Err(LoginFailure::WrongPasswordType),
    };
    let name = mechanism.name();
    let (scram, message) = AwaitFirst::new(credential, mechanism, nonce);
    frontend::sasl_initial_response(out, name, message.as_bytes());
    Ok(State::SaslContinue(scram))
}

/// We ask for 3.0 without options, so there is nothing to negotiate; who says "3.0" all the same does no harm.
fn accept_version(body: &[u8]) -> Result<(), LoginFailure> {
    match read::negotiate_protocol_version(body) {
        Some((version, options)) if matches!(version, 0 | 0x0003_0000) && options.is_empty() => Ok(()),
        Some(_) => Err(LoginFailure::Protocol("server wants another protocol version than 3.0")),
        None => Err(LoginFailure::Protocol("malformed NegotiateProtocolVersion")),
    }
}

fn read_key(body: &[u8]) -> Result<BackendKey, LoginFailure> {
    let (pid, secret) = read::backend_key_data(body).ok_or(LoginFailure::Protocol("malformed BackendKeyData"))?;
    Ok(BackendKey { pid, secret: secret.into() })
}

/// The server's own words. Each field may be missing.
fn refusal(body: &[u8]) -> ErrorReply {
    ErrorFields::parse(body).reply(ErrorReply::fatal(SqlState::CONNECTION_FAILURE, "server refused the login"))
}

fn method_name(code: u32) -> &'static str {
    match code {
        2 => "Kerberos V5",
        6 => "SCM credentials",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "an authentication method that is not known here",
    }
}

/// Why a connection could not be made or logged in. Nothing of a client's was sent, so all may be tried again;
/// whether that helps, [`LoginFailure::is_temporary`] guesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFailure {
    /// No connection, or none with the TLS that is wanted.
    Unreachable {
        /// PgBouncer's words, for clients: `connect failed`, `server DNS lookup failed`, …
        reason: &'static str,
        /// What exactly happened, for the log.
        detail: String,
    },
    /// The server said no, in these words.
    Refused(Box<ErrorReply>),
    /// The server asks for a proof that what we have can't give.
    WrongPasswordType,
    /// The server asks for a method that isn't there.
    Unsupported(&'static str),
    /// SCRAM failed: the server doesn't know the user's secret, or breaks the rules.
    Scram(ScramError),
    /// It was connected to, and did not finish the login in time.
    TimedOut(String),
    /// What `connect_query` does can't be.
    ConnectQuery(&'static str),
    /// Not the protocol, or not as it was expected.
    Protocol(&'static str),
    /// The server hung up, or the network failed.
    Closed,
}

impl LoginFailure {
    /// The SQLSTATE that the server gave.
    pub fn code(&self) -> Option<SqlState> {
        match self {
            Self::Refused(reply) => Some(reply.code),
            _ => None,
        }
    }

    /// Whether it may pass by itself, so that waiting clients wait on: the server is starting up or shutting down, or
    /// can't be reached. Of one that is full the pool tells them, as PgBouncer does, and has only logins wait.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) | Self::Closed => true,
            Self::Refused(reply) => reply.code == SqlState::CANNOT_CONNECT_NOW,
            Self::WrongPasswordType
            | Self::Unsupported(_)
            | Self::Scram(_)
            | Self::ConnectQuery(_)
            | Self::Protocol(_) => false,
        }
    }

    /// One line for clients, as it appears behind `server login has been failing, cached error:`.
    pub fn reason(&self) -> String {
        match self {
            Self::Unreachable { reason, .. } => (*reason).to_owned(),
            other => other.reply().message.into_owned(),
        }
    }
}

impl From<ScramError> for LoginFailure {
    fn from(error: ScramError) -> Self {
        match error {
            ScramError::OtherKeys => Self::WrongPasswordType,
            error => Self::Scram(error),
        }
    }
}

impl std::fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { detail, .. } | Self::TimedOut(detail) => f.write_str(detail),
            Self::Scram(ScramError::Malformed(place)) => write!(f, "server sent a malformed {place}"),
            Self::Scram(error) => write!(f, "{} ({error:?})", self.reply().message),
            Self::Protocol(what) => write!(f, "server does not speak the protocol: {what}"),
            other => f.write_str(&other.reply().message),
        }
    }
}

impl std::error::Error for LoginFailure {}

impl ClientError for LoginFailure {
    fn reply(&self) -> ErrorReply {
        let failure = |message: String| ErrorReply::fatal(SqlState::CONNECTION_FAILURE, message);
        match self {
            Self::Unreachable { reason, .. } => failure((*reason).to_owned()),
            Self::Refused(reply) => (**reply).clone(),
            Self::WrongPasswordType => {
                ErrorReply::fatal(SqlState::INVALID_PASSWORD, "server login failed: wrong password type").hint(
                    "The server asks for a proof that can't be made from what is stored: \
                 put the user's password, or the very SCRAM secret that the server stores, into auth_file.",
                )
            }
            Self::Unsupported(method) => failure(format!("server login failed: server asks for {method}")),
            Self::Scram(ScramError::ServerSignature) => {
                failure("server login failed: server could not prove that it knows the user's secret".into())
            }
            Self::Scram(_) => failure("server login failed: SASL authentication failed".into()),
            Self::TimedOut(_) => failure("connect timeout".into()),
            Self::ConnectQuery(what) => failure((*what).to_owned()),
            Self::Protocol(what) => failure("unknown pkt from server".into())
                .detail((*what).to_owned())
                .hint("What listens there does not speak PostgreSQL's protocol: check host and port of the database."),
            Self::Closed => failure(CLOSED.into()),
        }
    }
}

#[cfg(test)]
mod tests;
