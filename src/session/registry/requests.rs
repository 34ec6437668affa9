//! Cancel requests as they reach their session: each holds a ticket, and whoever brought it waits until that is dropped.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::{Order, Shared};

/// So many connections may wait for one session's cancel requests to land. Others are closed at once, since a client
/// could pile them up; what they asked for is done all the same.
const AWAITED: u32 = 4;

/// Kept for as long as requests may still take effect.
pub type Tickets = Vec<oneshot::Sender<Infallible>>;

/// The wait for a request to land.
#[derive(Debug)]
pub struct Landing(Option<Awaited>);

#[derive(Debug)]
struct Awaited {
    over: oneshot::Receiver<Infallible>,
    /// A session that is gone has let go of its tickets; it must not be kept by who waits for that.
    of: Weak<Shared>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(shared) = self.of.upgrade() {
            shared.awaited.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Landing {
    /// Of a request that has taken effect already, or is not waited for.
    pub(super) fn done() -> Self {
        Self(None)
    }

    /// Ends when the request can no longer take effect.
    pub async fn over(mut self) {
        if let Some(awaited) = &mut self.0 {
            // Nothing is ever sent: the ticket is dropped.
            let _ = (&mut awaited.over).await;
        }
    }
}

impl Shared {
    /// Leaves the order to cancel, with a ticket.
    pub(super) fn ask_to_cancel(self: &Arc<Self>) -> Landing {
        let mut landing = Landing::done();
        let mut tickets = self.tickets.lock();
        if self.awaited.fetch_add(1, Ordering::Relaxed) < AWAITED {
            let (ticket, over) = oneshot::channel();
            tickets.push(ticket);
            landing = Landing(Some(Awaited { over, of: Arc::downgrade(self) }));
        } else {
            self.awaited.fetch_sub(1, Ordering::Relaxed);
        }
        // Under the lock: a session that takes a ticket has not taken its order by itself before.
        self.order(Order::CANCEL);
        drop(tickets);
        landing
    }

    /// Takes the tickets of the requests so far, which one cancel answers: an order that came with them is taken, too.
    pub fn take_tickets(&self) -> Tickets {
        let mut tickets = self.tickets.lock();
        self.orders.fetch_and(!Order::CANCEL.0, Ordering::Acquire);
        std::mem::take(&mut tickets)
    }
}
