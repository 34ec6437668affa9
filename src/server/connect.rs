//! A new server connection: socket, TLS as `server_tls_sslmode` has it, login, `connect_query`.
//! The shell around [`super::login`]; decides nothing but which way of encryption is tried next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::encrypt::{Answer, EncryptError, encrypt};
use super::login::{CLOSED, Credential, LoggedIn, Login, LoginFailure, LoginRequest, MESSAGE_MAX, Step};
use super::server::{Server, ServerShared};
use super::statements::Statements;
use crate::net::{Address, ConnectTls, Connector, SslMode, Stream, tls_cause};
use crate::telemetry::events;
use crate::types::{Endpoint, Host, ServerId};
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::message::{TxStatus, frontend, read};
use crate::wire::params::ParamSet;
use crate::wire::tag::backend;

/// Where to connect to, as whom, and what the server will be.
#[derive(Debug)]
pub struct ConnectTarget<'a> {
    /// Makes the connection.
    pub connector: &'a Connector,
    /// Where to.
    pub endpoint: &'a Arc<Endpoint>,
    /// With which of a name's addresses to begin ([`Connector::connect`]).
    pub turn: usize,
    /// How TLS is made; `None`: never. Not used on Unix sockets.
    pub tls: Option<&'a ConnectTls>,
    /// When to give up; `None`: never.
    pub deadline: Option<Instant>,
    /// The user's name on the server.
    pub user: &'a str,
    /// The database's name on the server.
    pub database: &'a str,
    /// Further parameters of the startup packet.
    pub params: &'a [(&'a str, &'a str)],
    /// How to prove who we are.
    pub credential: &'a Credential,
    /// Run once after the login.
    pub connect_query: Option<&'a str>,
    /// How many statements the server may have prepared.
    pub max_prepared_statements: u32,
    /// The number that the server gets.
    pub id: ServerId,
    /// To be written into [`Server::generation`].
    pub generation: u64,
}

/// Connects and logs in. An error of `connect_query` is logged and otherwise ignored, as in PgBouncer; one that
/// leaves a transaction open or begins a COPY costs the connection.
///
/// # Errors
/// See [`LoginFailure`]; the connection is closed.
pub async fn connect(target: &ConnectTarget<'_>) -> Result<Server, LoginFailure> {
    let work = Box::pin(async {
        let (mut connection, logged_in) = open(target).await?;
        let LoggedIn { mut params, key } = logged_in;
        if let Some(sql) = target.connect_query {
            connection.run(sql, target, &mut params).await?;
        }
        connection.settle(&mut params).await?;
        Ok(finish(target, connection.stream, params, key))
    });
    match target.deadline {
        Some(deadline) => timeout_at(deadline, work).await.unwrap_or_else(|_| Err(timed_out(target))),
        None => work.await,
    }
}

fn timed_out(target: &ConnectTarget<'_>) -> LoginFailure {
    LoginFailure::TimedOut(format!("{} did not finish the login in time", target.endpoint))
}

fn unreachable(reason: &'static str, detail: String) -> LoginFailure {
    LoginFailure::Unreachable { reason, detail }
}

/// A way to try: with or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// TLS, or plain where the server has none.
    TlsIfOffered,
    Tls,
}

/// What libpq tries, in order. The second only when the first failed for want of the other.
fn ways(mode: SslMode) -> &'static [Way] {
    match mode {
        SslMode::Disable => &[Way::Plain],
        SslMode::Allow => &[Way::Plain, Way::Tls],
        SslMode::Prefer => &[Way::TlsIfOffered, Way::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Tls],
    }
}

/// A failed way, and whether another may do.
struct Failed {
    failure: LoginFailure,
    other_may_do: bool,
}

impl From<LoginFailure> for Failed {
    fn from(failure: LoginFailure) -> Self {
        Self { failure, other_may_do: false }
    }
}

async fn open(target: &ConnectTarget<'_>) -> Result<(Connection, LoggedIn), LoginFailure> {
    let tls = target.tls.filter(|_| matches!(target.endpoint.host, Host::Name(_)));
    let mut first: Option<LoginFailure> = None;
    for way in ways(tls.map_or(SslMode::Disable, ConnectTls::mode)) {
        match attempt(target, tls, *way).await {
            Ok(opened) => return Ok(opened),
            Err(Failed { failure, other_may_do: true }) if first.is_none() => first = Some(failure),
            // What the server itself said first tells more than that the other way isn't there.
            Err(Failed { failure: LoginFailure::Unreachable { .. }, .. })
                if matches!(first, Some(LoginFailure::Refused(_))) => {}
            Err(Failed { failure, .. }) => return Err(failure),
        }
    }
    Err(first.unwrap_or(LoginFailure::Closed))
}

async fn attempt(
    target: &ConnectTarget<'_>,
    tls: Option<&ConnectTls>,
    way: Way,
) -> Result<(Connection, LoggedIn), Failed> {
    let connected = target.connector.connect(target.endpoint, target.turn, target.deadline).await;
    let stream = connected.map_err(|error| unreachable(error.reason(), error.to_string()))?;
    let stream = match (way, tls, &target.endpoint.host) {
        (Way::TlsIfOffered | Way::Tls, Some(tls), Host::Name(host)) => secured(target, stream, tls, host, way).await?,
        _ => stream,
    };
    let encrypted = stream.is_tls();
    let mut connection =
        Connection { stream, input: BytesMut::new(), output: BytesMut::new(), endpoint: target.endpoint.clone() };
    match connection.log_in(target).await {
        Ok(logged_in) => Ok((connection, logged_in)),
        Err(failure) => {
            // pg_hba.conf has no line for this user with (or without) TLS.
            let unwelcome = failure.code() == Some(SqlState::INVALID_AUTHORIZATION);
            Err(Failed { failure, other_may_do: unwelcome && (way == Way::Plain || encrypted) })
        }
    }
}

async fn secured(
    target: &ConnectTarget<'_>,
    stream: Stream,
    tls: &ConnectTls,
    host: &str,
    way: Way,
) -> Result<Stream, Failed> {
    let failed = |reason, detail: String| unreachable(reason, format!("{}: {detail}", target.endpoint));
    match encrypt(stream, tls, host).await {
        Ok(Answer::Encrypted(stream)) => Ok(stream),
        Ok(Answer::Refused(stream)) if way == Way::TlsIfOffered => Ok(stream),
        Ok(Answer::Refused(_)) => {
            Err(failed("server refused SSL", "the server has no TLS, which server_tls_sslmode demands".into()).into())
        }
        Err(EncryptError::Io(_)) => Err(LoginFailure::Closed.into()),
        Err(error @ EncryptError::Handshake(_)) => {
            Err(Failed { failure: failed("TLS handshake failed", error.to_string()), other_may_do: true })
        }
        Err(EncryptError::Foreign) => {
            Err(LoginFailure::Protocol("its answer to SSLRequest is none of PostgreSQL's").into())
        }
        // It speaks first, as SSH does, or somebody speaks in its place: not what PostgreSQL does either way.
        Err(EncryptError::Injected) => {
            Err(LoginFailure::Protocol("received unencrypted data after SSL response").into())
        }
        Err(error @ EncryptError::Failed) => Err(failed("connect failed", error.to_string()).into()),
    }
}

/// A socket with what was read of it and not looked at yet.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    /// Where it leads to.
    endpoint: Arc<Endpoint>,
}

impl Connection {
    async fn log_in(&mut self, target: &ConnectTarget<'_>) -> Result<LoggedIn, LoginFailure> {
        let request = LoginRequest {
            user: target.user,
            database: target.database,
            params: target.params,
            credential: target.credential.clone(),
            end_point: self.stream.server_end_point(),
            nonce: nonce()?,
        };
        let mut login = Login::start(request, &mut self.output);
        loop {
            self.send().await?;
            let frame = self.receive().await?;
            match login.step(frame[0], &frame[5..], &mut self.output)? {
                Step::Wait(next) => login = next,
                Step::Done(logged_in) => return Ok(logged_in),
            }
        }
    }

    async fn run(&mut self, sql: &str, target: &ConnectTarget<'_>, params: &mut ParamSet) -> Result<(), LoginFailure> {
        frontend::query(&mut self.output, sql);
        self.send().await?;
        loop {
            let frame = self.receive().await?;
            let body = &frame[5..];
            match frame[0] {
                backend::READY if read::ready_for_query(body) == Some(TxStatus::Idle) => return Ok(()),
                backend::READY => return Err(LoginFailure::ConnectQuery("connect_query leaves a transaction open")),
                backend::COPY_IN | backend::COPY_BOTH => {
                    return Err(LoginFailure::ConnectQuery("connect_query begins a COPY"));
                }
                backend::ERROR => {
                    let message = ErrorFields::parse(body).message;
                    events::server::connect_query_failed(&target.id, target.endpoint, message);
                }
                tag => note(tag, body, params),
            }
        }
    }

    /// Takes what the server said unasked after ReadyForQuery, so that nothing is left over in here.
    async fn settle(&mut self, params: &mut ParamSet) -> Result<(), LoginFailure> {
        while !self.input.is_empty() {
            let frame = self.receive().await?;
            match frame[0] {
                backend::ERROR => return Err(LoginFailure::Closed),
                tag @ (backend::NOTICE | backend::NOTIFICATION | backend::PARAMETER_STATUS) => {
                    note(tag, &frame[5..], params);
                }
                _ => return Err(LoginFailure::Protocol("unexpected message after login")),
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), LoginFailure> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = match self.stream.write_all_buf(&mut self.output).await {
            Ok(()) => self.stream.flush().await,
            failed => failed,
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) => {
                // What the server said before it hung up is still to be read.
                let said = self.stream.read_buf(&mut self.input).await;
                Err(self.lost(&said.err().unwrap_or(error)))
            }
        }
    }

    fn lost(&self, error: &std::io::Error) -> LoginFailure {
        match tls_cause(error) {
            Some(why) => unreachable(CLOSED, format!("{}: {why}", self.endpoint)),
            None => LoginFailure::Closed,
        }
    }

    /// The next whole frame: tag, length, body. Never empty, never shorter than its header.
    async fn receive(&mut self) -> Result<BytesMut, LoginFailure> {
        loop {
            if let Some(length) = frame_len(&self.input)?
                && self.input.len() >= length
            {
                return Ok(self.input.split_to(length));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(LoginFailure::Closed),
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
    }
}

/// The length of the frame that `input` begins with, tag included; `None` when that isn't there yet.
fn frame_len(input: &[u8]) -> Result<Option<usize>, LoginFailure> {
    let Some(([_tag, length @ ..], _)) = input.split_first_chunk::<5>() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*length)) {
        Ok(length @ 4..=MESSAGE_MAX) => Ok(Some(length + 1)),
        _ => Err(LoginFailure::Protocol("impossible length of a message during login")),
    }
}

fn note(tag: u8, body: &[u8], params: &mut ParamSet) {
    if tag == backend::PARAMETER_STATUS
        && let Some((name, value)) = read::parameter_status(body)
    {
        params.set(name, value);
    }
}

fn nonce() -> Result<[u8; 18], LoginFailure> {
    let mut nonce = [0; 18];
    match aws_lc_rs::rand::fill(&mut nonce) {
        Ok(()) => Ok(nonce),
        Err(_) => Err(unreachable("connect failed", "the system gives no random bytes".into())),
    }
}

fn finish(target: &ConnectTarget<'_>, stream: Stream, params: ParamSet, key: super::server::BackendKey) -> Server {
    let shared = ServerShared {
        id: target.id,
        connected_at: SystemTime::now(),
        remote_pid: key.pid,
        addr: shown(stream.peer(), target.endpoint.port),
        local_addr: shown(stream.local(), target.endpoint.port),
        tls: stream.tls_name(),
        requested_at_us: AtomicU64::new(0),
        link: AtomicU64::new(0),
        prepared: AtomicU32::new(0),
    };
    Server {
        matched: None,
        assigned: None,
        numbers: super::NumbersOf::Nobody,
        stream,
        params,
        statements: Statements::new(target.max_prepared_statements),
        key,
        endpoint: target.endpoint.clone(),
        catalog: None,
        surprises: 0,
        generation: target.generation,
        connected_at: std::time::Instant::now(),
        shared: Arc::new(shared),
    }
}

/// As SHOW SERVERS has it: sockets have the port of their file's name.
fn shown(address: std::io::Result<Address>, socket_port: u16) -> (String, u16) {
    match address {
        Ok(address) => (address.host(), address.port().unwrap_or(socket_port)),
        Err(_) => (String::new(), 0),
    }
}

#[cfg(test)]
mod tests;
