//! Brings the server of a client that is gone back to rest: what runs is cancelled or runs to its end,
//! the transaction is rolled back, and the server goes to the next client, or is closed where that is not sure.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::time::{self, Sleep};

use super::cancel::Canceller;
use super::registry::{Order, Shared};
use super::relay::active::Active;
use super::relay::leave::toward_rest;
use super::relay::pump::{self, Cleaning, TURNS};
use super::relay::{Relay, Steps};
use crate::pool::CloseReason;

/// One read takes at most this much, in bytes.
const READ: usize = 64 * 1024;
/// A cancel that came before the server had begun with the query has no effect, so another follows after this long, and
/// others at twice the distance each time.
const CANCEL_AGAIN: Duration = Duration::from_millis(50);
/// How a client left.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// Cancel what runs, where that costs nothing but its transaction.
    pub cancel: bool,
    /// What is not cancelled runs to its end, however long that takes.
    pub patient: bool,
    /// Else the server is closed if it is not at rest by then; `None`: it has all the time.
    pub limit: Option<Duration>,
    /// It leaves session pooling: the server is reset before the next client has it.
    pub reset: bool,
}

/// Gives the server back, or closes it. `shared` is what others see of the session: requests to cancel still reach it.
pub async fn give_back(
    mut active: Active,
    relay: &mut Relay,
    leaving: Leaving,
    canceller: &Arc<Canceller>,
    shared: &Shared,
) {
    let works = !active.work.exchange.pipeline.is_empty();
    let cancels = leaving.cancel && works && active.work.exchange.may_cancel;
    let half_a_message = relay.mid_frame();
    // Nobody is there any more to whom it would be done.
    active.work.exchange.session.rerun.is_over();
    let steps = Steps::default();
    let mut farewell = Farewell { active, relay, canceller, shared, steps, again: None, unheard: true, read: None };
    if cancels {
        farewell.cancel();
    }
    let rested = if half_a_message {
        Err(io::ErrorKind::InvalidData.into())
    } else {
        match leaving.limit.filter(|_| cancels || !(leaving.patient && works)) {
            Some(limit) => time::timeout(limit, farewell.rest()).await.unwrap_or_else(|passed| Err(passed.into())),
            None => farewell.rest().await,
        }
    };
    let now = Instant::now();
    let Active { lease, mut work } = farewell.active;
    pump::redefined(farewell.relay, &mut work, now);
    farewell.relay.definitions_are_over(&mut work.exchange);
    let care = pump::care(farewell.relay, &mut work, now);
    let undo = pump::undo(farewell.relay, shared, &mut work.exchange);
    work.xact_ends(shared.micros(now));
    match rested {
        Ok(()) => {
            let cleaning = Cleaning { undo, resets: leaving.reset, care };
            pump::give_back(lease, &mut work, cleaning, now, CloseReason::ClientGone);
        }
        Err(_) => lease.discard(CloseReason::ClientGone, &mut work.tally),
    }
}

struct Farewell<'a> {
    active: Active,
    relay: &'a mut Relay,
    canceller: &'a Arc<Canceller>,
    shared: &'a Shared,
    steps: Steps,
    /// What ran when the client left is cancelled again.
    again: Option<Again>,
    /// What was read of the server while the client was there, and not taken, may be more than the front of a message.
    unheard: bool,
    /// Made when there is something to read.
    read: Option<Box<[u8]>>,
}

struct Again {
    timer: Pin<Box<Sleep>>,
    pause: Duration,
}

impl Farewell<'_> {
    /// Hears the server out, without anybody to tell, until it is at rest.
    async fn rest(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_rest(cx)).await
    }

    /// Reads whether or not all is written: a server that has much to say takes nothing more before it is heard.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.register(cx.waker());
        self.obey()?;
        for _ in 0..TURNS {
            self.active.drain(cx);
            self.can_write()?;
            self.steps.clear();
            let work = &mut self.active.work;
            if toward_rest(&mut work.exchange, &mut self.steps) && work.held.is_empty() && !self.active.wants_write() {
                return Poll::Ready(Ok(()));
            }
            if !self.steps.to_server.is_empty() {
                self.active.write(cx, &self.steps.to_server, &[]);
                continue;
            }
            self.poll_cancel(cx);
            ready!(self.poll_hear(cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn can_write(&self) -> io::Result<()> {
        if self.active.work.unwritable { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.unheard) && !self.active.work.held.is_empty() {
            return Poll::Ready(self.hear(cx));
        }
        let read = self.read.get_or_insert_with(|| vec![0; READ].into_boxed_slice());
        let size = ready!(self.active.lease.stream.poll_read(cx, read))?;
        if size == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.active.work.held.extend_from_slice(&read[..size]);
        Poll::Ready(self.hear(cx))
    }

    /// Hears what is held.
    fn hear(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.steps.clear();
        let mut held = std::mem::take(&mut self.active.work.held);
        let heard =
            self.relay.from_server(&mut self.active.attached(), &held, &mut self.steps).map_err(io::Error::other)?;
        self.active.write(cx, &self.steps.to_server, &held);
        held.advance(heard.consumed);
        self.active.work.held = held;
        if self.active.work.exchange.pipeline.is_empty() {
            // What comes now is ours.
            self.again = None;
        } else if heard.error.is_some() || heard.ready > 0 {
            self.again.iter_mut().for_each(Again::begins_anew);
        }
        if heard.fatal { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn cancel(&mut self) {
        self.canceller.send_for_departed(&self.active.lease, &mut self.active.work.cancels);
        self.again.get_or_insert_with(Again::new);
    }

    fn poll_cancel(&mut self, cx: &mut Context<'_>) {
        while self.again.as_mut().is_some_and(|again| again.timer.as_mut().poll(cx).is_ready()) {
            self.cancel();
            self.again.iter_mut().for_each(Again::doubles);
        }
    }

    /// The client's requests to cancel still count, as they do for a backend that has not noticed yet that its client is
    /// gone. Whoever closes the database or the pooler, or kills the client, does not wait for one that is.
    fn obey(&mut self) -> io::Result<()> {
        if !self.shared.has_orders() {
            return Ok(());
        }
        let orders = self.shared.take_orders();
        if [Order::KILL, Order::DATABASE_GONE, Order::SHUTDOWN].into_iter().any(|order| orders.has(order)) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if orders.has(Order::CANCEL) {
            let tickets = self.shared.take_tickets();
            if !self.active.work.exchange.pipeline.is_empty() {
                self.canceller.send_on(&self.active.lease, &mut self.active.work.cancels, tickets);
            }
        }
        Ok(())
    }
}

impl Again {
    fn new() -> Self {
        Self { timer: Box::pin(time::sleep(CANCEL_AGAIN)), pause: CANCEL_AGAIN }
    }

    /// Something has ended: what is next in a pipeline has its turn as soon.
    fn begins_anew(&mut self) {
        self.pause = CANCEL_AGAIN;
        self.timer.as_mut().reset(time::Instant::now() + self.pause);
    }

    fn doubles(&mut self) {
        self.pause *= 2;
        self.timer.as_mut().reset(time::Instant::now() + self.pause);
    }
}
