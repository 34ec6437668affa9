//! Cancel requests: from the key that a client was told to the server that works for it.
//! The session itself sends them on, so that none can hit a query that is no longer its client's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::registry::Registry;
use crate::server::Server;
use crate::server::server::{BackendKey, ServerShared};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::CancelOutcome;
use crate::types::Endpoint;
use crate::wire::startup::CancelKey;

/// A CancelRequest came. An unknown key gets silence, as from PostgreSQL.
pub fn requested(registry: &Registry, key: &CancelKey) {
    if !registry.cancel(key.pid, &key.secret) {
        events::cancel_received(CancelOutcome::UnknownKey);
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

/// Ends with whether the request has surely landed.
pub type Cancelling = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Sends cancel requests to servers.
pub struct Canceller(Box<dyn Fn(CancelTarget) -> Cancelling + Send + Sync>);

impl Canceller {
    /// Sends them by `send`, which bounds itself in time.
    pub fn new(send: impl Fn(CancelTarget) -> Cancelling + Send + Sync + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends one for what `server` runs, unless one is still on its way there; returns whether it did. One that came
    /// too early for its query has no effect, so another may follow. The server must not go to anyone else before
    /// `sent` has ended: with whether every one of them has surely landed.
    pub fn send_one(&self, server: &Server, sent: &mut Option<JoinHandle<bool>>) -> bool {
        let earlier = match sent.take() {
            Some(earlier) if !earlier.is_finished() => {
                *sent = Some(earlier);
                return false;
            }
            earlier => earlier,
        };
        let this = self.send(server);
        *sent = Some(match earlier {
            None => this,
            Some(earlier) => tokio::spawn(async move {
                let landed = [earlier.await.unwrap_or(false), this.await.unwrap_or(false)];
                landed == [true, true]
            }),
        });
        true
    }

    fn send(&self, server: &Server) -> JoinHandle<bool> {
        let target = CancelTarget {
            endpoint: Arc::clone(&server.endpoint),
            server: Arc::clone(&server.shared),
            key: server.key.clone(),
            tls: server.stream.is_tls(),
        };
        tokio::spawn((self.0)(target))
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canceller")
    }
}
