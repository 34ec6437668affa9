//! Who may try to log in at which node: [`super::nodes`] behind one lock, which is never held together with any other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::failure::Failure;
use super::limits::PoolId;
use super::nodes::{Begun, Closed, Nodes, Outage, Outcome};
use super::now;
use crate::types::Endpoint;

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    nodes: Mutex<Nodes<Arc<Notify>>>,
}

impl Attempts {
    /// For a pool, which `wake` tells when it should ask again.
    ///
    /// # Errors
    /// See [`Nodes::ask`].
    pub(super) fn ask(
        self: &Arc<Self>,
        node: Endpoint,
        pool: PoolId,
        wake: &Arc<Notify>,
        hurries: bool,
        now: Instant,
    ) -> Result<Attempt, Closed> {
        let node = Arc::new(node);
        let begun = self.nodes.lock().ask(&node, pool, Arc::clone(wake), hurries, now)?;
        Ok(self.attempt(node, begun))
    }

    /// For somebody who does not wait.
    ///
    /// # Errors
    /// See [`Nodes::ask_at_once`].
    pub(super) fn ask_at_once(self: &Arc<Self>, node: Endpoint, now: Instant) -> Result<Attempt, Outage> {
        let node = Arc::new(node);
        let begun = self.nodes.lock().ask_at_once(&node, now)?;
        Ok(self.attempt(node, begun))
    }

    fn attempt(self: &Arc<Self>, node: Arc<Endpoint>, begun: Begun) -> Attempt {
        Attempt { attempts: Arc::clone(self), node, begun, ended: false }
    }

    /// Forgets nodes that nobody is to connect to any more.
    pub(super) fn retain(&self, wanted: impl Fn(&Endpoint) -> bool) {
        let pools = self.nodes.lock().retain(wanted);
        wake(pools);
    }
}

fn wake(pools: Vec<Arc<Notify>>) {
    pools.iter().for_each(|pool| pool.notify_one());
}

/// An attempt to log in at a node, from before its connection is opened until it has succeeded or is closed. Dropping it
/// lets the next one try.
#[derive(Debug)]
pub(super) struct Attempt {
    attempts: Arc<Attempts>,
    node: Arc<Endpoint>,
    begun: Begun,
    ended: bool,
}

impl Attempt {
    /// Where.
    pub(super) fn node(&self) -> &Arc<Endpoint> {
        &self.node
    }

    /// The node takes logins, as far as anybody knows.
    pub(super) fn is_open(&self) -> bool {
        self.begun.open
    }

    /// The login has succeeded.
    pub(super) fn succeeded(mut self, now: Instant) {
        self.end(Outcome::Succeeded, now);
    }

    /// It has failed, and its connection is closed. The pauses between probes are at most so long. Whose fault it is will
    /// have been decided.
    pub(super) fn failed(mut self, failure: &mut Failure, longest_pause: Duration, now: Instant) {
        self.end(Outcome::Failed(failure, longest_pause), now);
    }

    fn end(&mut self, outcome: Outcome<'_>, now: Instant) {
        self.ended = true;
        let pools = self.attempts.nodes.lock().ended(&self.node, self.begun, outcome, now);
        wake(pools);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Dropped, now());
        }
    }
}
