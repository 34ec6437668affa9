//! What is under way on a notification connection: one question at a time, and whatever the server notifies of.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::hub::{FIRST_PAUSE, Hub, Lost};
use crate::pool::{CloseReason, Standing};
use crate::server::{Server, simple};
use crate::wire::error::{ErrorFields, ErrorReply, SqlState};
use crate::wire::frame::{self, HEADER};
use crate::wire::tag::{backend, frontend};

/// A connection that nobody needs any more is kept for so long.
const LINGER: Duration = Duration::from_secs(5);
/// A server that is silent is asked something as often: it may be gone, and what is notified meanwhile is lost.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// And it must answer by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// One read takes at least this much, in bytes.
const READ: usize = 16 * 1024;
/// No message that it has a reason to send is longer.
const MESSAGE_MAX: usize = 1 << 20;

/// Its settings: nothing may end it, and it speaks as its clients do.
pub(super) async fn prepare(server: &mut Server, encoding: &[u8]) -> Result<(), Lost> {
    // A client has said it, and nobody has looked at it yet. No encoding's name has anything else in it.
    let in_names = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let encoding: String = encoding.iter().filter(in_names).map(|byte| char::from(*byte)).collect();
    let text = format!(
        "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', \
         'lock_timeout', 'transaction_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout'); \
         SET client_encoding = '{encoding}'; SET application_name = 'pglifeguard: LISTEN'"
    );
    simple::run(server, &text, Some(ANSWER_WITHIN)).await.map_err(|error| Lost::Broken(error.to_string()))
}

/// What is under way on a connection.
pub(super) struct Line<'a> {
    hub: &'a Hub,
    server: &'a mut Server,
    input: BytesMut,
    /// What was asked: when, and what the answer means to the speakers.
    asked: Option<(Instant, u64)>,
    /// The server's error for that.
    error: Option<ErrorReply>,
    heard_at: Instant,
    deserted_since: Option<Instant>,
}

impl<'a> Line<'a> {
    pub(super) fn new(hub: &'a Hub, server: &'a mut Server) -> Self {
        let heard_at = Instant::now();
        Self { hub, server, input: BytesMut::new(), asked: None, error: None, heard_at, deserted_since: None }
    }

    pub(super) async fn run(
        mut self,
        generation: u64,
        changes: &mut watch::Receiver<()>,
        pause: &mut Duration,
    ) -> Result<(), Lost> {
        loop {
            match self.hub.pool().standing() {
                Standing::Open { generation: present } if present == generation => {}
                Standing::Open { .. } => return Err(Lost::Closed(CloseReason::Obsolete)),
                Standing::Paused => return Err(Lost::Closed(CloseReason::PauseMode)),
                Standing::Ended => return Err(Lost::Closed(CloseReason::DatabaseRemoved)),
                Standing::ShuttingDown => return Err(Lost::Closed(CloseReason::ShuttingDown)),
            }
            let now = Instant::now();
            let expires = self.hub.give_up(now, None);
            self.ask(now).await?;
            let Some(due) = self.due(now)? else { return Ok(()) };
            let until = expires.map_or(due, |expires| expires.min(due));
            tokio::select! {
                read = self.server.stream.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    self.heard_at = Instant::now();
                    self.hear(pause)?;
                }
                _ = changes.changed() => {}
                () = self.hub.woken() => {}
                () = sleep_until(until.into()) => {}
            }
        }
    }

    /// Asks for what there is to ask for, one thing at a time.
    async fn ask(&mut self, now: Instant) -> Result<(), Lost> {
        if self.asked.is_some() {
            return Ok(());
        }
        let silent = now.saturating_duration_since(self.heard_at) >= ASK_EVERY;
        let Some((text, asks)) = self.hub.question(silent) else { return Ok(()) };
        let length = u32::try_from(text.len() + 5).unwrap_or(u32::MAX);
        let query = [&[frontend::QUERY], &length.to_be_bytes()[..], &text, b"\0"].concat();
        let stream = &mut self.server.stream;
        let written = async {
            stream.write_all(&query).await?;
            stream.flush().await
        };
        timeout(ANSWER_WITHIN, written).await.map_err(|_| Lost::Broken("the server reads nothing".into()))??;
        self.asked = Some((now, asks));
        Ok(())
    }

    /// When to look again; `None`: nobody has needed the connection for long enough.
    fn due(&mut self, now: Instant) -> Result<Option<Instant>, Lost> {
        if let Some((at, _)) = self.asked {
            let due = at + ANSWER_WITHIN;
            return if now >= due { Err(Lost::Broken("no answer in time".into())) } else { Ok(Some(due)) };
        }
        if !self.hub.is_idle() {
            self.deserted_since = None;
            return Ok(Some(self.heard_at + ASK_EVERY));
        }
        let closes = *self.deserted_since.get_or_insert(now) + LINGER;
        Ok((now < closes).then_some(closes))
    }

    /// Takes what has come.
    fn hear(&mut self, pause: &mut Duration) -> Result<(), Lost> {
        let broken = |error: frame::FrameError| Lost::Broken(format!("unexpected message: {error}"));
        while let Some(header) = frame::header(&self.input, MESSAGE_MAX).map_err(broken)? {
            if self.input.len() < header.total {
                break;
            }
            let message = self.input.split_to(header.total);
            match header.tag {
                backend::NOTIFICATION => self.hub.notify(&message)?,
                backend::ERROR => self.error = Some(error(&message[HEADER..])?),
                backend::READY => {
                    let Some((_, asked)) = self.asked.take() else {
                        return Err(Lost::Broken("an answer that nobody asked for".into()));
                    };
                    match self.error.take() {
                        Some(reply) => self.hub.refused(&reply)?,
                        None => {
                            *pause = FIRST_PAUSE;
                            self.hub.answered(asked);
                        }
                    }
                }
                _ => {}
            }
        }
        self.input.reserve(READ);
        Ok(())
    }
}

/// The server's error, for the clients; its last one is what the connection broke of.
fn error(body: &[u8]) -> Result<ErrorReply, Lost> {
    let fields = ErrorFields::parse(body);
    let reply = fields.reply(ErrorReply::error(SqlState::INTERNAL, "(no message)"));
    match fields.severity {
        Some(b"FATAL" | b"PANIC") => Err(Lost::Broken(reply.message.into_owned())),
        _ => Ok(reply),
    }
}
