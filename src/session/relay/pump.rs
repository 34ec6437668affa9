//! The only loop that moves bytes: reads a side, lets the relay say what they mean, writes at once from the same buffer.
//! One task owns the client, and the server for as long as it is lent. Nothing is read from a side while what it
//! sent before is not written yet; an idle client holds no buffer.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::active::{Active, Work, drain, write_out};
use super::backend::Heard;
use super::exchange::Redefined;
use super::machine::{Relay, Stop};
use super::pipeline::Status;
use super::steps::Steps;
use crate::config::model::PoolMode;
use crate::net::Stream;
use crate::net::stream::Probe;
use crate::pool::Acquire;
use crate::session::context;
use crate::session::deadlines::Phase;
use crate::session::notify::Seat;
use crate::session::registry::Shared;
use crate::telemetry::events::session as events;

mod catalog;
mod end;
mod lending;
mod lost;
mod news;
mod orders;
mod pins;
mod watch;

use catalog::redefines;
pub use catalog::{care, redefined};
pub use end::End;
pub use pins::{Cleaning, give_back, undo};
use watch::Watch;

/// One read takes at most this much, in bytes. Large results are a matter of this size.
const READ: usize = 256 * 1024;
/// A client that waits for a server is read ahead this far, in bytes, so that its going away is noticed.
const READ_AHEAD: usize = 64 * 1024;
/// A client that does not read its replies is not read either, beyond so many bytes of them.
const UNREAD_MAX: usize = 64 * 1024;
/// So often a session goes on while there is something to read; then others have their turn.
pub const TURNS: u32 = 32;
/// Boxes that a worker keeps for the next clients.
const KEPT: usize = 64;

/// Buffers that a worker thread uses for whichever session it runs.
struct Scratch {
    read: Box<[u8]>,
    steps: Steps,
    #[expect(clippy::vec_box, reason = "they move between here and the sessions without being copied")]
    idle: Vec<Box<Work>>,
}

impl Scratch {
    fn keep(&mut self, mut work: Box<Work>) {
        work.reset();
        if self.idle.len() < KEPT {
            self.idle.push(work);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        read: vec![0; READ].into_boxed_slice(),
        steps: Steps::default(),
        idle: Vec::new(),
    });
}

/// A client's connection and what is under way on it.
#[derive(Debug)]
pub struct Pump {
    /// The client's connection.
    pub client: Stream,
    /// What others see of the session.
    pub shared: Arc<Shared>,
    /// What the bytes mean.
    pub relay: Relay,
    /// The server that it has.
    pub active: Option<Active>,
    /// Its place in the queue for one.
    waiting: Option<Box<Waiting>>,
    /// What the client sent and is not taken yet.
    held: BytesMut,
    /// What is written to the client and its socket has not taken yet.
    to_client: BytesMut,
    /// What sessions share.
    pub context: Arc<context::Context>,
    /// Where it listens, if it does.
    seat: Option<Box<Seat>>,
    /// Of the client's socket; `None` until the first poll.
    watch: Option<Watch>,
    mode: PoolMode,
    /// A client that has what only its server has keeps it.
    pub pins: bool,
    /// The front of `held` waits for the server, not for more of it.
    stalled: bool,
    /// So many servers were lost in a row before they had anything of the client's message.
    lost_in_a_row: u8,
    /// It waits until the client has read more of its answers.
    unread: bool,
    /// It waits for channels, or to notify.
    unheard: bool,
    /// The client's socket took a write no more.
    gone: bool,
}

#[derive(Debug)]
struct Waiting {
    acquire: Acquire,
    since: u64,
}

impl Pump {
    /// For a client that has just logged in; `held` is what it sent already.
    pub fn new(
        client: Stream,
        shared: Arc<Shared>,
        relay: Relay,
        held: BytesMut,
        mode: PoolMode,
        context: Arc<context::Context>,
    ) -> Self {
        Self {
            client,
            shared,
            relay,
            active: None,
            waiting: None,
            stalled: false,
            lost_in_a_row: 0,
            unread: false,
            unheard: false,
            // The login's buffer is not carried on when nothing is in it.
            held: if held.is_empty() { BytesMut::new() } else { held },
            to_client: BytesMut::new(),
            context,
            seat: None,
            watch: None,
            mode,
            pins: true,
            gone: false,
        }
    }

    /// Takes what the client sent behind its login. To be called once, before [`Self::poll`].
    ///
    /// # Errors
    /// What ends the session.
    pub fn begin(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.held.is_empty() {
            return Ok(());
        }
        SCRATCH.with_borrow_mut(|scratch| self.feed_held(cx, scratch))
    }

    /// Moves bytes until something ends the session. Between polls all state is in `self`.
    // Apart from the code of logins, with which it would be mixed line by line.
    #[inline(never)]
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.watch.as_ref().is_some_and(|watch| watch.wakes(cx.waker())) {
            self.shared.register(cx.waker());
            self.watch = Some(Watch::new(cx.waker()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            for _ in 0..TURNS {
                match self.turn(cx, scratch) {
                    Ok(true) if !self.rests() => {}
                    Ok(_) => return Poll::Pending,
                    Err(end) => return Poll::Ready(end),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Has the client read this first.
    pub fn say(&mut self, bytes: &[u8]) {
        self.to_client.extend_from_slice(bytes);
    }

    /// What the client's socket has not taken yet, for the one who writes the last words.
    pub fn take_unwritten(&mut self) -> BytesMut {
        std::mem::take(&mut self.to_client)
    }

    /// Whether another turn would find nothing to do: it is the client's turn to say something.
    fn rests(&self) -> bool {
        let nothing = self.active.is_none() && self.waiting.is_none() && !self.stalled && !self.gone;
        nothing && !self.has_news() && self.watch.as_ref().is_some_and(Watch::is_quiet)
    }

    /// Returns whether anything moved.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, End> {
        if self.shared.has_orders() {
            let orders = self.shared.take_orders();
            self.obey(orders, cx, scratch)?;
        }
        if !self.to_client.is_empty() || self.client.wants_flush() {
            self.gone |= drain(&mut self.client, cx, &mut self.to_client).is_err();
        }
        if self.gone {
            return Err(End::Vanished);
        }
        let mut moved = self.has_news();
        if moved {
            self.tell_news(cx);
        }
        if self.unread && self.to_client.len() <= UNREAD_MAX {
            self.feed_held(cx, scratch)?;
        }
        if let Some(active) = &mut self.active
            && active.wants_write()
        {
            active.drain(cx);
            if !active.wants_write() {
                self.give_back_if_settled(None, scratch);
                if self.stalled {
                    self.feed_held(cx, scratch)?;
                }
            }
        }
        moved |= self.poll_waiting(cx, scratch)?;
        moved |= self.poll_server(cx, scratch)?;
        if !self.watch.as_ref().is_some_and(Watch::is_silent) {
            moved |= self.poll_client(cx, scratch)?;
        }
        Ok(moved)
    }

    /// A server, when the client's turn in the queue has come.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, End> {
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        let Poll::Ready(result) = std::pin::Pin::new(&mut waiting.acquire).poll(cx) else { return Ok(false) };
        let since = waiting.since;
        self.waiting = None;
        let now = Instant::now();
        let Some(lease) = catalog::fit(result.map_err(End::NoServer)?, self.relay.tracks, now) else {
            self.waits(now, since);
            return Ok(true);
        };
        self.attach(lease, since, self.shared.micros(now), scratch);
        self.feed_held(cx, scratch)?;
        Ok(true)
    }

    fn poll_server(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, End> {
        if !self.to_client.is_empty() || self.client.wants_flush() {
            return Ok(false);
        }
        let Some(active) = &mut self.active else { return Ok(false) };
        let Poll::Ready(read) = active.lease.stream.poll_read(cx, &mut scratch.read) else { return Ok(false) };
        let heard = match some(read) {
            Err(error) => Err(error.to_string()),
            Ok(size) if active.work.held.is_empty() => {
                let input = &scratch.read[..size];
                let heard = self.hear(cx, input, &mut scratch.steps);
                if let (Ok(heard), Some(active)) = (&heard, &mut self.active)
                    && heard.consumed < size
                {
                    active.work.held.extend_from_slice(&input[heard.consumed..]);
                }
                heard
            }
            Ok(size) => {
                let mut held = std::mem::take(&mut active.work.held);
                held.extend_from_slice(&scratch.read[..size]);
                let heard = self.hear(cx, &held, &mut scratch.steps);
                if let (Ok(heard), Some(active)) = (&heard, &mut self.active) {
                    held.advance(heard.consumed);
                    active.work.held = held;
                }
                heard
            }
        };
        match heard {
            Ok(heard) => self.after_server(&heard, cx, scratch)?,
            Err(cause) => self.lose_server(cause, cx, scratch)?,
        }
        Ok(true)
    }

    /// Lets the relay hear the server's bytes, and writes what comes of them; an error says why there will be no more.
    fn hear(&mut self, cx: &mut Context<'_>, input: &[u8], steps: &mut Steps) -> Result<Heard, String> {
        let Some(active) = &mut self.active else { return Ok(Heard::default()) };
        steps.clear();
        let heard = self.relay.from_server(&mut active.attached(), input, steps);
        active.work.tally.bytes_sent += input.len() as u64;
        if active.work.exchange.redefined != Redefined::No {
            // Before the client knows, and can tell others.
            redefined(&self.relay, &mut active.work, Instant::now());
        }
        // What came before a message that is none is an answer all the same.
        self.gone |= write_out(&mut self.client, cx, &steps.to_client, input, &mut self.to_client).is_err();
        active.write(cx, &steps.to_server, input);
        heard.map_err(|error| format!("unexpected answer: {error}"))
    }

    fn after_server(&mut self, heard: &Heard, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let Some(active) = &mut self.active else { return Ok(()) };
        // Where the server is not the client's own, its last words are kept for when nothing else can be said.
        active.work.told |= heard.fatal && !self.relay.own_names;
        if let Some(code) = heard.error {
            events::server_error_seen(code.class());
        }
        self.note_name();
        let now = (heard.ready > 0).then(Instant::now).map(|now| (now, self.shared.micros(now)));
        if let Some((_, micros)) = now {
            self.ready(micros)?;
        }
        if heard.block_refused {
            return Err(End::TransactionInStatementMode);
        }
        if heard.fatal && self.mode != PoolMode::Session {
            return self.lose_server(String::new(), cx, scratch);
        }
        if heard.setting_refused {
            return Err(End::SettingRefused);
        }
        self.stalled |= self.relay.has_again();
        // The last that was owed may have been ours: the client has read its own ReadyForQuery before, or its next
        // message has waited for this.
        if now.is_some() || !self.stalled || (!self.pins && self.relay.is_tied()) {
            self.give_back_if_settled(now, scratch);
        }
        // Nor while the server takes nothing: the client's bytes may bring more for it than they are.
        let clogged = self.active.as_ref().is_some_and(Active::wants_write);
        if self.stalled && !clogged { self.feed_held(cx, scratch) } else { Ok(()) }
    }

    /// The client's application_name, for SHOW CLIENTS.
    fn note_name(&mut self) {
        if std::mem::take(&mut self.relay.params_changed) {
            self.shared.renames(self.relay.params.get("application_name").unwrap_or_default());
        }
    }

    /// The server said ReadyForQuery.
    fn ready(&mut self, now: u64) -> Result<(), End> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let work = &mut *active.work;
        let status = work.exchange.pipeline.status;
        if !work.exchange.pipeline.is_empty() {
            // More was sent behind it, on which the server begins now.
            self.shared.request_begins(now, status == Status::Idle);
            return Ok(());
        }
        work.query_ends(now);
        if status == Status::Idle {
            work.xact_ends(now);
            if self.mode == PoolMode::Session {
                self.shared.pool.tally(&mut work.tally);
                self.part_from_obsolete()?;
            }
            self.shared.enters(Phase::Idle, now);
        } else {
            work.xact_goes_on(now, &self.shared.pool);
            self.shared.enters(Phase::InTransaction, now);
        }
        Ok(())
    }

    /// `server_fast_close`: a session between transactions ends with the server that is to be closed.
    fn part_from_obsolete(&self) -> Result<(), End> {
        let Some(active) = &self.active else { return Ok(()) };
        let obsolete = self.mode == PoolMode::Session && active.settled() && active.lease.close_needed();
        if obsolete && self.shared.pool.settings().server_fast_close { Err(End::ServerObsolete) } else { Ok(()) }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, End> {
        let busy = |active: &Active| active.work.unwritable || active.wants_write();
        if self.to_client.len() > UNREAD_MAX || self.active.as_ref().is_some_and(busy) {
            return Ok(false);
        }
        if self.stalled && self.held.len() >= READ_AHEAD {
            self.watch.iter_mut().for_each(Watch::forget);
            return match self.client.poll_probe(cx) {
                Poll::Ready(Probe::Closed) => Err(End::Vanished),
                _ => Ok(false),
            };
        }
        let Some(watch) = &mut self.watch else { return Ok(false) };
        let Poll::Ready(read) = watch.poll(|cx| self.client.poll_read(cx, &mut scratch.read)) else {
            return Ok(false);
        };
        let size = some(read).map_err(|_| End::Vanished)?;
        if self.held.is_empty() && !self.stalled {
            self.feed_read(size, cx, scratch)?;
        } else {
            self.held.extend_from_slice(&scratch.read[..size]);
            if !self.stalled {
                self.feed_held(cx, scratch)?;
            }
        }
        Ok(true)
    }

    /// Feeds the relay from the worker's buffer; what is not taken is kept.
    fn feed_read(&mut self, size: usize, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let read = std::mem::take(&mut scratch.read);
        let fed = self.feed(&read[..size], cx, scratch);
        if let Ok(taken) = fed {
            self.held.extend_from_slice(&read[taken..size]);
        }
        scratch.read = read;
        fed.map(|_| ())
    }

    /// Feeds the relay what was kept.
    fn feed_held(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let mut held = std::mem::take(&mut self.held);
        let taken = self.feed(&held, cx, scratch)?;
        if taken < held.len() {
            held.advance(taken);
            self.held = held;
        }
        Ok(())
    }

    /// Lets the relay take the client's bytes, finds it a server when it needs one, writes what comes of them.
    fn feed(&mut self, input: &[u8], cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<usize, End> {
        let mut taken = 0;
        (self.stalled, self.unread, self.unheard) = (false, false, false);
        if self.active.is_none() && self.relay.asks_for_server(input) && !self.find_server(scratch) {
            self.stalled = true;
            return Ok(0);
        }
        loop {
            let rest = &input[taken..];
            scratch.steps.clear();
            let server = self.active.as_mut().map(Active::attached);
            let fed = self.relay.from_client(server, rest, &mut scratch.steps);
            self.gone |= write_out(&mut self.client, cx, &scratch.steps.to_client, rest, &mut self.to_client).is_err();
            if let Some(active) = &mut self.active {
                if active.work.exchange.defining && active.work.exchange.may_commit_now() {
                    redefines(&self.relay, &mut active.work);
                }
                active.write(cx, &scratch.steps.to_server, rest);
                active.work.tally.bytes_received += fed.consumed as u64;
                if active.work.query_since.is_none() && !active.work.exchange.pipeline.is_empty() {
                    let micros = self.shared.micros(Instant::now());
                    self.shared.request_begins(micros, active.work.xact_since.is_none());
                    active.work.begins(micros);
                    self.shared.enters(Phase::Query, micros);
                }
            }
            taken += fed.consumed;
            match fed.stop {
                Stop::Terminate => return Err(End::Terminated),
                Stop::Violation(error) => return Err(End::Violation(error)),
                Stop::NeedServer if self.find_server(scratch) => {}
                Stop::Full if self.to_client.len() > UNREAD_MAX => {
                    (self.stalled, self.unread) = (true, true);
                    break;
                }
                Stop::Full if !self.active.as_ref().is_some_and(Active::wants_write) => {}
                Stop::NeedServer | Stop::Hold | Stop::Full => {
                    self.stalled = true;
                    break;
                }
                Stop::Channels if self.may_notify() => {}
                Stop::Channels => {
                    self.wait_for_channels();
                    break;
                }
                Stop::Input => break,
            }
        }
        self.give_back_if_settled(None, scratch);
        Ok(taken)
    }
}

/// The end of a stream is an error here.
fn some(read: io::Result<usize>) -> io::Result<usize> {
    read.and_then(|size| if size == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(size) })
}
