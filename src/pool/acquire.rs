//! Waiting for a server. The future is woken once, with a lease or an error; dropping it at any time leaves the
//! queue, and gives back a server that was handed over but not taken.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::Mutex;

use super::error::AcquireError;
use super::lease::Lease;
use super::pool::Pool;
use super::state::Ticket;
use crate::types::ClientId;

type Outcome = Result<Lease, AcquireError>;

/// Where a waiting client finds what it was given.
#[derive(Debug)]
pub(super) struct Seat {
    client: ClientId,
    state: Mutex<SeatState>,
}

#[derive(Debug)]
enum SeatState {
    Waiting(Option<Waker>),
    Filled(Outcome),
    /// The client went away, or took what it was given.
    Left,
}

impl Seat {
    pub(super) fn new(client: ClientId) -> Arc<Self> {
        Arc::new(Self { client, state: Mutex::new(SeatState::Waiting(None)) })
    }

    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// Gives the client its answer. Returns it when the client is gone.
    pub(super) fn fill(&self, outcome: Outcome) -> Option<Outcome> {
        let mut state = self.state.lock();
        let SeatState::Waiting(waker) = &mut *state else { return Some(outcome) };
        let waker = waker.take();
        *state = SeatState::Filled(outcome);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, SeatState::Left) {
            SeatState::Filled(outcome) => Poll::Ready(outcome),
            SeatState::Waiting(waker) => {
                let waker = waker.filter(|known| known.will_wake(cx.waker()));
                *state = SeatState::Waiting(Some(waker.unwrap_or_else(|| cx.waker().clone())));
                Poll::Pending
            }
            SeatState::Left => Poll::Pending,
        }
    }

    /// The client goes away; returns what it was given and did not take.
    fn leave(&self) -> Option<Outcome> {
        match std::mem::replace(&mut *self.state.lock(), SeatState::Left) {
            SeatState::Filled(outcome) => Some(outcome),
            SeatState::Waiting(_) | SeatState::Left => None,
        }
    }
}

/// A server to come. Made by [`Pool::acquire`]; its place in the queue counts from then.
#[must_use = "a client that does not wait gets no server"]
#[derive(Debug)]
pub struct Acquire {
    pool: Arc<Pool>,
    state: AcquireState,
}

#[derive(Debug)]
enum AcquireState {
    Decided(Option<Outcome>),
    Queued(Ticket, Arc<Seat>),
}

impl Acquire {
    pub(super) fn decided(pool: Arc<Pool>, outcome: Outcome) -> Self {
        Self { pool, state: AcquireState::Decided(Some(outcome)) }
    }

    pub(super) fn queued(pool: Arc<Pool>, ticket: Ticket, seat: Arc<Seat>) -> Self {
        Self { pool, state: AcquireState::Queued(ticket, seat) }
    }

    /// Whether the answer is there already, so that the next poll is ready.
    pub fn is_decided(&self) -> bool {
        match &self.state {
            AcquireState::Decided(outcome) => outcome.is_some(),
            AcquireState::Queued(_, seat) => matches!(*seat.state.lock(), SeatState::Filled(_)),
        }
    }
}

impl Future for Acquire {
    type Output = Result<Lease, AcquireError>;

    /// After it was ready once it never is again.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().state {
            AcquireState::Decided(outcome) => outcome.take().map_or(Poll::Pending, Poll::Ready),
            AcquireState::Queued(_, seat) => seat.poll(cx),
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let untaken = match &mut self.state {
            AcquireState::Decided(outcome) => outcome.take(),
            // Out of the queue first: after that nothing more can come.
            AcquireState::Queued(ticket, seat) => {
                self.pool.leave_queue(*ticket);
                seat.leave()
            }
        };
        if let Some(Ok(lease)) = untaken {
            give_back(lease, super::now());
        }
    }
}

/// An untaken server goes to the next client as it came.
pub(super) fn give_back(lease: Lease, now: Instant) {
    lease.release(now, &mut super::stats::Tally::default());
}
