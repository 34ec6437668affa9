//! Cancel requests: from the key that a client was told to the server that works for it.
//! The session itself sends them on, so that none can hit a query that is no longer its client's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use super::registry::Registry;
use super::registry::requests::Tickets;
use crate::pool::Lease;
use crate::server::server::{BackendKey, ServerShared};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::CancelOutcome;
use crate::types::Endpoint;
use crate::wire::startup::CancelKey;

/// A cancel request that has no answer by then has not landed, where `cancel_wait_timeout` sets no limit.
pub const CANCEL_LIMIT: Duration = Duration::from_secs(60);
/// So many may be on their way to one server at once; a client that sends more is not slowed down by ours, but by its
/// server.
const AT_ONCE: usize = 4;

/// A CancelRequest came. An unknown key gets silence, as from PostgreSQL. Ends, so that the connection may be closed,
/// when the request can no longer take effect: clients wait for that before they send their next query (libpq's
/// `PQcancel` does), which it must not hit. Takes no longer than `limit`.
pub async fn requested(registry: &Registry, key: &CancelKey, limit: Option<Duration>) {
    match registry.cancel(key.pid, &key.secret) {
        Some(landing) => drop(timeout(limit.unwrap_or(CANCEL_LIMIT), landing.over()).await),
        None => events::cancel_received(CancelOutcome::UnknownKey),
    }
}

/// The backend that is to be told.
#[derive(Debug, Clone)]
pub struct CancelTarget {
    /// The server's endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its connection: the request goes to the very address that this has.
    pub server: Arc<ServerShared>,
    /// What opens it.
    pub key: BackendKey,
    /// Its connection uses TLS, so the request does.
    pub tls: bool,
}

/// What became of a request to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server has acted on it: it hits nothing that is sent there from now on.
    Landed,
    /// It never left, so it hits nothing either.
    NotSent,
    /// It may still take effect, whenever.
    Unsure,
}

/// A request on its way; ends with what became of it.
pub type Cancelling = Pin<Box<dyn Future<Output = Fate> + Send>>;

/// Requests on their way to a lent server. It must not go to anyone else before they have ended.
#[derive(Debug, Default)]
pub struct OnTheirWay {
    sent: Vec<oneshot::Receiver<Fate>>,
    unsure: bool,
}

impl OnTheirWay {
    /// How many are.
    pub fn count(&mut self) -> usize {
        let unsure = &mut self.unsure;
        self.sent.retain_mut(|sent| match sent.try_recv() {
            Ok(fate) => {
                *unsure |= fate == Fate::Unsure;
                false
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Closed) => {
                *unsure = true;
                false
            }
        });
        self.sent.len()
    }

    /// Takes them, if any may still take effect.
    pub fn take(&mut self) -> Option<Self> {
        (self.count() > 0 || self.unsure).then(|| std::mem::take(self))
    }

    /// Ends when none is on its way any more, with whether none can take effect.
    pub async fn landed(self) -> bool {
        let mut unsure = self.unsure;
        for sent in self.sent {
            unsure |= sent.await.unwrap_or(Fate::Unsure) == Fate::Unsure;
        }
        !unsure
    }
}

/// Sends cancel requests to servers.
pub struct Canceller(Box<dyn Fn(CancelTarget) -> Cancelling + Send + Sync>);

impl Canceller {
    /// Sends them by `send`, which bounds itself in time.
    pub fn new(send: impl Fn(CancelTarget) -> Cancelling + Send + Sync + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Has what `lease` runs cancelled because its client asks for it. One that is on its way already does not stand
    /// in for it: it may have been for an earlier query, or come too early for this one.
    pub fn send_on(&self, lease: &Lease, on_their_way: &mut OnTheirWay, tickets: Tickets) {
        if on_their_way.count() >= AT_ONCE {
            return events::cancel_received(CancelOutcome::Failed);
        }
        self.send(lease, on_their_way, move |fate| {
            events::cancel_received(match fate {
                Fate::Landed => CancelOutcome::Forwarded,
                Fate::NotSent | Fate::Unsure => CancelOutcome::Failed,
            });
            drop(tickets);
        });
    }

    /// Has what `lease` runs cancelled because its client is gone, unless a request is on its way there.
    pub fn send_for_departed(&self, lease: &Lease, on_their_way: &mut OnTheirWay) {
        if on_their_way.count() == 0 {
            self.send(lease, on_their_way, |_| ());
        }
    }

    fn send(&self, lease: &Lease, on_their_way: &mut OnTheirWay, then: impl FnOnce(Fate) + Send + 'static) {
        let sending = (self.0)(CancelTarget {
            endpoint: Arc::clone(&lease.endpoint),
            server: Arc::clone(&lease.shared),
            key: lease.key.clone(),
            tls: lease.stream.is_tls(),
        });
        let (tell, sent) = oneshot::channel();
        on_their_way.sent.push(sent);
        let counted = lease.pool().cancel_sent();
        tokio::spawn(async move {
            let fate = sending.await;
            drop(counted);
            // Nobody listens where the server was closed meanwhile.
            let _ = tell.send(fate);
            then(fate);
        });
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canceller")
    }
}
