//! Looks after servers that nobody uses: finds those that hung up, checks those that rested for long, says goodbye.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::io::AsyncWrite;

use super::lease::Lease;
use super::now;
use super::pool::{Deeds, Inner};
use super::stats::Tally;
use crate::config::model::{CheckQuery, PoolSettings};
use crate::server::{Server, simple};
use crate::telemetry::events::pool::CloseReason;
use crate::wire::tag::frontend;

/// Drops resting servers that hung up. While they are silent it costs no system call.
pub(super) fn sweep(inner: &mut Inner, deeds: &mut Deeds) {
    let resting: Vec<_> = inner.state.places().resting().map(|server| server.slot).collect();
    for slot in resting {
        let Some(server) = inner.state.places_mut().resting_mut(slot) else { continue };
        if !simple::is_alive(server) {
            inner.state.found_dead(slot, deeds);
        }
    }
}

/// Runs the check query on a server that rested for long.
pub(super) async fn check(mut lease: Lease, settings: Arc<PoolSettings>) {
    let query = match &settings.server_check_query {
        CheckQuery::Off | CheckQuery::Empty => "",
        CheckQuery::Text(text) => text,
    };
    let answer = simple::run(&mut lease, query, settings.server_connect_timeout).await;
    match answer {
        Ok(()) => lease.release(now(), &mut Tally::default()),
        Err(error) => lease.discard_failed(CloseReason::CheckFailed, &error),
    }
}

/// Sends Terminate to a server that is about to be closed, if the socket takes it at once.
pub(super) fn say_goodbye(server: &mut Server) {
    const TERMINATE: [u8; 5] = [frontend::TERMINATE, 0, 0, 0, 4];
    let mut context = Context::from_waker(Waker::noop());
    let mut stream = Pin::new(&mut server.stream);
    // The server notices the end of the connection in any case; a failure changes nothing.
    if stream.as_mut().poll_write_vectored(&mut context, &[IoSlice::new(&TERMINATE)]).is_ready() {
        let _ = stream.poll_flush(&mut context);
    }
}
