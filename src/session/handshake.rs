//! From the first byte to the startup packet: TLS, GSS, cancel requests. Before a client has proved anything
//! it costs a bounded buffer and a bounded time.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::auth::MESSAGE_MAX;
use super::context::Context;
use crate::net::tls::HandshakeError;
use crate::net::{Address, Stream};
use crate::telemetry::labels::LoginRefusal;
use crate::wire::error::{ClientError, ErrorReply, SqlState};
use crate::wire::frame;
use crate::wire::startup::{self, Initial, PACKET_MAX};
use crate::wire::tag::frontend;

/// A connection that has not logged in yet.
#[derive(Debug)]
pub struct Incoming {
    /// `None` while TLS takes it over, and after that failed.
    pub stream: Option<Stream>,
    /// What was read and is not used yet.
    pub held: BytesMut,
    /// Who it is.
    pub peer: Address,
    /// Which user and database it asked for, once it has.
    pub wants: Option<(Box<str>, Box<str>)>,
    /// `client_login_timeout` from when it was accepted.
    pub deadline: Option<Instant>,
}

/// Why a connection ended before it was logged in.
#[derive(Debug)]
pub struct Refused {
    /// For the count.
    pub why: LoginRefusal,
    /// What the client reads; `None`: nothing.
    pub reply: Option<ErrorReply>,
    /// For the log, where the client can't be told.
    pub cause: Option<String>,
}

impl Refused {
    /// With an error for the client.
    pub fn with(why: LoginRefusal, reply: ErrorReply) -> Self {
        Self { why, reply: Some(reply), cause: None }
    }

    /// Without a word.
    pub fn silent(why: LoginRefusal) -> Self {
        Self { why, reply: None, cause: None }
    }

    fn tls(error: &HandshakeError) -> Self {
        Self { cause: Some(error.to_string()), ..Self::silent(LoginRefusal::TlsFailed) }
    }

    fn violation(text: &'static str) -> Self {
        Self::with(LoginRefusal::Startup, ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, text))
    }
}

impl Incoming {
    /// Reads up to the startup packet or cancel request, answering what comes before.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub async fn first_packet(&mut self, context: &Context) -> Result<Initial, Refused> {
        let (mut asked_gss, mut asked_tls) = (false, false);
        loop {
            match self.packet(context).await? {
                Initial::Ssl if asked_tls => return Err(Refused::violation("client asked for SSL twice")),
                Initial::Ssl => {
                    asked_tls = true;
                    self.start_tls(context).await?;
                }
                Initial::Gss if asked_gss => return Err(Refused::violation("client asked for GSS encryption twice")),
                Initial::Gss => {
                    asked_gss = true;
                    self.nothing_behind("received unencrypted data after GSS encryption request")?;
                    self.send(b"N").await?;
                }
                other => return Ok(other),
            }
        }
    }

    async fn packet(&mut self, context: &Context) -> Result<Initial, Refused> {
        let startup_error = |error: startup::StartupError| Refused::with(LoginRefusal::Startup, error.reply());
        loop {
            if self.held.first().is_some_and(|first| startup::is_direct_tls(*first))
                && matches!(self.stream, Some(Stream::Tcp(_)))
                && let Some(tls) = context.tls.load()
                && let Some(stream) = self.stream.take()
            {
                let first = self.held.split();
                let accepted = self.within(tls.accept_direct(stream, &first)).await?;
                self.stream = Some(accepted.map_err(|error| Refused::tls(&error))?);
                continue;
            }
            if let Some(head) = self.held.first_chunk::<4>() {
                let length = startup::packet_len(*head).map_err(startup_error)?;
                if self.held.len() >= length {
                    let packet = self.held.split_to(length);
                    return startup::parse(&packet).map_err(startup_error);
                }
            }
            self.read(PACKET_MAX).await?;
        }
    }

    async fn start_tls(&mut self, context: &Context) -> Result<(), Refused> {
        if self.stream.as_ref().is_some_and(Stream::is_tls) {
            return Err(Refused::violation("SSL request on a connection that has TLS"));
        }
        self.nothing_behind("received unencrypted data after SSL request")?;
        let Some(tls) = context.tls.load().filter(|_| matches!(self.stream, Some(Stream::Tcp(_)))) else {
            return self.send(b"N").await;
        };
        self.send(b"S").await?;
        let Some(stream) = self.stream.take() else { return Err(Refused::silent(LoginRefusal::TlsFailed)) };
        let accepted = self.within(tls.accept(stream)).await?;
        self.stream = Some(accepted.map_err(|error| Refused::tls(&error))?);
        Ok(())
    }

    /// Whatever stands behind a request for encryption was not encrypted, and may be anybody's.
    fn nothing_behind(&self, text: &'static str) -> Result<(), Refused> {
        if self.held.is_empty() { Ok(()) } else { Err(Refused::violation(text)) }
    }

    /// Reads one message of the login. One that is no answer to a request for a password, such as another startup packet,
    /// is given back by its type alone: what would be its length may be anything.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub async fn message(&mut self) -> Result<(u8, BytesMut), Refused> {
        loop {
            if let Some(tag) = self.held.first().copied().filter(|tag| *tag != frontend::PASSWORD) {
                return Ok((tag, BytesMut::new()));
            }
            let header = frame::header(&self.held, MESSAGE_MAX)
                .map_err(|error| Refused::with(LoginRefusal::Startup, error.reply()))?;
            if let Some(header) = header.filter(|header| self.held.len() >= header.total) {
                let mut message = self.held.split_to(header.total);
                let body = message.split_off(frame::HEADER);
                return Ok((header.tag, body));
            }
            self.read(MESSAGE_MAX + 1).await?;
        }
    }

    /// Reads something more, while no more than `max` bytes are held.
    async fn read(&mut self, max: usize) -> Result<(), Refused> {
        let room = max.saturating_sub(self.held.len()).max(1);
        self.held.reserve(room.min(1024));
        let deadline = self.deadline;
        let Some(stream) = &mut self.stream else { return Err(Refused::silent(LoginRefusal::ClientLeft)) };
        match within(deadline, stream.read_buf(&mut self.held)).await? {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Refused::silent(LoginRefusal::ClientLeft)),
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// The client is gone, or did not read in time.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let deadline = self.deadline;
        let Some(stream) = &mut self.stream else { return Err(Refused::silent(LoginRefusal::ClientLeft)) };
        let sent: io::Result<()> = within(deadline, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
        .await?;
        sent.map_err(|_| Refused::silent(LoginRefusal::ClientLeft))
    }

    /// Waits no longer than the login may take.
    ///
    /// # Errors
    /// It took longer.
    pub async fn within<F: Future>(&self, waited: F) -> Result<F::Output, Refused> {
        within(self.deadline, waited).await
    }
}

async fn within<F: Future>(deadline: Option<Instant>, waited: F) -> Result<F::Output, Refused> {
    let Some(deadline) = deadline else { return Ok(waited.await) };
    timeout_at(deadline, waited).await.map_err(|_| {
        let text = "client_login_timeout";
        Refused::with(LoginRefusal::Timeout, ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, text))
    })
}
