//! What a server is sent when its client is gone, until it is at rest and may serve another.

use super::exchange::{Exchange, Gate, send_sync};
use super::pipeline::{Effect, How, Owed, Status};
use super::prepared::put_frame;
use super::requests::poison;
use super::steps::Steps;
use crate::wire::error::{ErrorReply, SqlState};
use crate::wire::tag::frontend;

/// The next step toward rest. Returns true when the server is there: it owes nothing, is idle and in sync.
/// Else what `steps` has is to be sent, if anything, and the server to be heard before the next call.
/// No frame of the client's may be half sent.
pub fn toward_rest(exchange: &mut Exchange, steps: &mut Steps) -> bool {
    if std::mem::take(&mut exchange.pipeline.copying_in) {
        steps.to_server.own(|out| put_frame(out, frontend::COPY_FAIL, &[b"client disconnected\0"]));
        return false;
    }
    if exchange.gate == Gate::Open && exchange.pipeline.unsynced && !exchange.pipeline.skipping {
        // A Sync would commit what the client has not, and without one the server may keep its answers to itself.
        poison(exchange, ErrorReply::error(SqlState::QUERY_CANCELED, "client disconnected"), steps);
        send_sync(exchange, How::Reply, steps);
        return false;
    }
    if !exchange.pipeline.is_empty() {
        return false;
    }
    if exchange.gate == Gate::Refusing {
        // The message that was to be refused does not come.
        exchange.gate = Gate::Open;
    }
    if exchange.pipeline.skipping {
        exchange.pipeline.skipping = false;
        send_sync(exchange, How::Reply, steps);
        return false;
    }
    if exchange.pipeline.status != Status::Idle {
        steps.to_server.own(|out| put_frame(out, frontend::QUERY, &[b"ROLLBACK\0"]));
        exchange.pipeline.push(Owed::Query { effect: Effect::Plain, ends_later: false, deeds: None });
        return false;
    }
    exchange.settled()
}

#[cfg(test)]
mod tests;
