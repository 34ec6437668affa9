//! Serves one client of the console: reads requests, runs commands, writes answers. The session has done the login
//! up to AuthenticationOk.
//!
//! Nothing here has a deadline but a SHUTDOWN's answer: a console may idle for ever, as operators leave psql open, and a
//! PAUSE takes as long as the transactions before it.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use self::request::{BODY_BYTES_MAX, Malformed, Request};
use self::talk::{Asker, Step, Talk};
use super::act::{self, AdminContext, Answer, Ending, Started, Wait};
use super::command::{Command, Role};
use super::error::CommandError;
use crate::session::registry::Requests;
use crate::session::session::LAST_WORDS;
use crate::telemetry::events;
use crate::telemetry::labels::StopMode;
use crate::wire::error::{ClientError, ErrorReply, SqlState};

mod request;
mod talk;

/// Who logged in, and how a CancelRequest reaches them.
#[derive(Debug, Clone)]
pub struct ConsoleUser {
    /// For the log: number, user, address.
    pub label: Arc<str>,
    /// In `admin_users`; otherwise in `stats_users`.
    pub admin: bool,
    /// For BackendKeyData.
    pub key_pid: u32,
    /// For BackendKeyData.
    pub key_secret: Arc<[u8]>,
    /// `notify_waiters` on it cancels the command that waits, if one does.
    pub cancelled: Arc<Notify>,
    /// Notes the time of each request.
    pub requests: Requests,
}

impl ConsoleUser {
    fn role(&self) -> Role {
        if self.admin { Role::Admin } else { Role::Stats }
    }
}

/// Answers are sent at the latest when so many bytes are due.
const OUTBOX_BYTES: usize = 64 * 1024;

/// Serves until the client leaves or breaks the protocol. `leftover` is what was read beyond the login.
///
/// Dropping it is fine at any time: a PAUSE under way is taken back.
///
/// # Errors
/// When the socket fails.
pub async fn serve<S>(stream: S, leftover: BytesMut, who: ConsoleUser, ctx: Arc<AdminContext>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _present = ctx.enter();
    events::admin::console_opened(&who.label, who.admin);
    let mut outbox = BytesMut::new();
    talk::welcome(who.key_pid, &who.key_secret, &mut outbox);
    let label = who.label.clone();
    let talk = Talk::new(who.role());
    let mut console = Console { stream, inbox: leftover, outbox, talk, who, ctx, ending: None };
    let ended = console.run().await;
    events::admin::console_closed(&label);
    ended
}

struct Console<S> {
    stream: S,
    inbox: BytesMut,
    outbox: BytesMut,
    talk: Talk,
    who: ConsoleUser,
    ctx: Arc<AdminContext>,
    /// A SHUTDOWN that is answered, and obeyed when the answer is written.
    ending: Option<Ending>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Console<S> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let next = match request::take(&mut self.inbox) {
                Ok(Some(request)) => self.on(request).await?,
                Ok(None) => {
                    self.send_and_obey().await?;
                    self.read().await?
                }
                Err(malformed) => {
                    self.complain(&malformed);
                    Next::Stop
                }
            };
            if next == Next::Stop {
                return self.send().await;
            }
        }
    }

    async fn on(&mut self, request: Request) -> io::Result<Next> {
        self.who.requests.note(SystemTime::now());
        match self.talk.on(request, &mut self.outbox) {
            Ok(Step::Next) => {}
            Ok(Step::End) => return Ok(Next::Stop),
            Ok(Step::Run(asker, command)) => return self.carry_out(asker, command).await,
            Ok(Step::Refuse(error)) => {
                let reply = error.reply();
                tell(&self.who.label, &reply);
                self.talk.answered(Asker::Query, Err(&reply), &mut self.outbox);
            }
            Err(error) => {
                tell(&self.who.label, &error);
                self.talk.failed(&error, &mut self.outbox);
            }
        }
        self.send_if_much().await?;
        Ok(Next::Go)
    }

    async fn carry_out(&mut self, asker: Asker, command: Command) -> io::Result<Next> {
        self.ctx.count_statement();
        // From here on a cancel request is for this command, even before it waits.
        let cancelled = self.who.cancelled.clone();
        let cancelled = pin!(cancelled.notified());
        let result = match act::start(&self.ctx, &self.who.label, self.who.role(), &command) {
            Started::Ended(result) => result,
            Started::Waiting(wait) => match self.wait(wait, cancelled).await? {
                Some(result) => result,
                None => return Ok(Next::Stop),
            },
            Started::Ending(ending) => {
                let silent = ending.mode == StopMode::AtOnce;
                self.ending = Some(ending);
                let result = Ok(Answer::Done(command.kind()));
                if silent {
                    self.note(&command, &result);
                    return self.fall_silent().await;
                }
                result
            }
        };
        self.note(&command, &result);
        match result {
            Ok(answer) => self.talk.answered(asker, Ok(answer), &mut self.outbox),
            Err(error) => {
                let reply = error.reply();
                events::session::error_counted(reply.code.0);
                self.talk.answered(asker, Err(&reply), &mut self.outbox);
            }
        }
        self.send_if_much().await?;
        Ok(Next::Go)
    }

    /// Waits for a command to end, for its cancellation, or for the client to go away (`None`).
    async fn wait(
        &mut self,
        mut wait: Wait,
        mut cancelled: Pin<&mut Notified<'_>>,
    ) -> io::Result<Option<Result<Answer, CommandError>>> {
        self.send().await?;
        loop {
            let room = self.inbox.len() < BODY_BYTES_MAX;
            tokio::select! {
                biased;
                result = &mut wait.until => return Ok(Some(wait.end(result))),
                () = &mut cancelled, if wait.interruptible => return Ok(Some(Err(wait.give_up()))),
                read = self.stream.read_buf(&mut self.inbox), if room && wait.interruptible => {
                    if read? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn note(&self, command: &Command, result: &Result<Answer, CommandError>) {
        let kind = command.kind();
        match result {
            Ok(Answer::Done(_) | Answer::Warned(..)) => events::admin::command_done(&self.who.label, kind.tag()),
            Ok(_) => {}
            Err(error) => {
                events::admin::command_failed(&self.who.label, kind.tag(), command.argument().as_deref(), error);
            }
        }
    }

    /// The process ends: the connection stays until it does, as the sign that it has.
    async fn fall_silent(&mut self) -> io::Result<Next> {
        self.send_and_obey().await?;
        loop {
            self.inbox.clear();
            if self.read().await? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
    }

    fn complain(&mut self, malformed: &Malformed) {
        let text = match malformed {
            Malformed::Length(length) => format!("invalid packet length: {length}"),
            Malformed::Type(tag) => format!("unsupported packet type for admin console: {}", tag.escape_ascii()),
            Malformed::Body(tag) => format!("broken packet of type {}", tag.escape_ascii()),
        };
        events::session::violation_counted();
        let reply = ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, text);
        tell(&self.who.label, &reply);
        reply.encode(&mut self.outbox);
    }

    async fn read(&mut self) -> io::Result<Next> {
        let read = self.stream.read_buf(&mut self.inbox).await?;
        Ok(if read == 0 { Next::Stop } else { Next::Go })
    }

    /// Writes what is due, and then ends the process if that was ordered; an operator who doesn't read is not waited for.
    async fn send_and_obey(&mut self) -> io::Result<()> {
        let Some(ending) = self.ending.take() else { return self.send().await };
        let mut sending = pin!(self.send());
        let at_once = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        let sent = match at_once {
            Poll::Ready(sent) => sent,
            Poll::Pending => tokio::time::timeout(LAST_WORDS, sending).await.unwrap_or(Ok(())),
        };
        drop(ending);
        sent
    }

    async fn send_if_much(&mut self) -> io::Result<()> {
        if self.outbox.len() < OUTBOX_BYTES { Ok(()) } else { self.send().await }
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.outbox).await?;
        self.stream.flush().await?;
        // A great answer is seldom followed by another: its memory is given back.
        if self.outbox.capacity() > OUTBOX_BYTES {
            self.outbox = BytesMut::new();
        }
        Ok(())
    }
}

fn tell(who: &str, error: &ErrorReply) {
    events::session::error_sent(&who, error.code.0, &error.message);
}

#[cfg(test)]
mod tests;
