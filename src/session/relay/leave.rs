//! What a server is sent when its client is gone, until it is at rest and may serve another.

use super::exchange::{Exchange, send_sync};
use super::pipeline::{Effect, Owed, Status};
use super::prepared::put_frame;
use super::steps::Steps;
use crate::wire::tag::frontend;

/// The next step toward rest. Returns true when the server is there: it owes nothing, is idle and in sync.
/// Else what `steps` has is to be sent, if anything, and the server to be heard before the next call.
pub fn toward_rest(exchange: &mut Exchange, steps: &mut Steps) -> bool {
    if std::mem::take(&mut exchange.pipeline.copying_in) {
        steps.to_server.own(|out| put_frame(out, frontend::COPY_FAIL, &[b"client disconnected\0"]));
        return false;
    }
    if !exchange.pipeline.is_empty() {
        return false;
    }
    if exchange.pipeline.unsynced || exchange.pipeline.skipping {
        exchange.pipeline.skipping = false;
        send_sync(exchange, super::pipeline::How::Reply, steps);
        return false;
    }
    if exchange.pipeline.status != Status::Idle {
        steps.to_server.own(|out| put_frame(out, frontend::QUERY, &[b"ROLLBACK\0"]));
        exchange.pipeline.push(Owed::Query(Effect::Plain));
        return false;
    }
    exchange.settled()
}
