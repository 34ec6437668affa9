//! What others have the session do: cancel, end, time out.

use std::task::Context;
use std::time::Instant;

use super::{End, Pump, Scratch, Watch};
use crate::session::deadlines::{Due, Phase, due};
use crate::session::registry::{Order, Orders};
use crate::telemetry::events::session as events;
use crate::telemetry::labels::CancelOutcome;
use crate::wire::error::{ErrorReply, SqlState};

impl Pump {
    #[cold]
    pub(super) fn obey(&mut self, orders: Orders, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        if [Order::KILL, Order::DATABASE_GONE, Order::SHUTDOWN].into_iter().any(|order| orders.has(order)) {
            return Err(End::Ordered(orders));
        }
        if orders.has(Order::LAGS_BEHIND) {
            return Err(End::LagsBehind);
        }
        if orders.has(Order::NOTIFIED) {
            self.hear_answers(cx, scratch)?;
        }
        if orders.has(Order::CANCEL) {
            // A query that the client sent before its cancel request is here, though it may not be read yet.
            if self.waiting.is_none() && !self.is_owed() {
                self.watch.iter_mut().for_each(Watch::forget);
                self.poll_client(cx, scratch)?;
            }
            self.cancel(cx, scratch)?;
        }
        if orders.has(Order::OBSOLETE) {
            self.part_from_obsolete()?;
        }
        let clocks = self.shared.clocks();
        let micros = self.shared.micros(Instant::now());
        match due(&clocks, &self.shared.pool.settings(), micros) {
            Some(Due::WaitNotice) => self.notify_waiting(),
            Some(Due::Numbers) => {
                self.relay.lets_numbers();
                self.give_back_if_settled(None, scratch);
            }
            // What was due when the order was left may be over by now.
            Some(due) if orders.due().any(|ordered| ordered == due) => return Err(End::TimedOut(due)),
            _ => {}
        }
        Ok(())
    }

    /// A cancel request: the query leaves the queue, or the server is told.
    fn cancel(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        let tickets = self.shared.take_tickets();
        if self.waiting.take().is_some() {
            events::cancel_received(CancelOutcome::Dequeued);
            self.shared.enters(Phase::Idle, self.shared.micros(Instant::now()));
            let error = ErrorReply::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
                .detail("The query was still waiting for a server connection.");
            error.encode(&mut self.to_client);
            self.relay.refuse_next();
            return self.feed_held(cx, scratch);
        }
        if self.cancel_listening(cx, scratch)? {
            events::cancel_received(CancelOutcome::Dequeued);
            return Ok(());
        }
        if self.is_owed()
            && let Some(active) = &mut self.active
        {
            self.context.canceller.send_on(&active.lease, &mut active.work.cancels, tickets);
        } else {
            events::cancel_received(CancelOutcome::Nothing);
        }
        Ok(())
    }

    /// Whether a server works for the client.
    fn is_owed(&self) -> bool {
        self.active.as_ref().is_some_and(|active| !active.work.exchange.pipeline.is_empty())
    }

    fn notify_waiting(&mut self) {
        if self.waiting.is_some() {
            self.shared.told_to_wait();
            let text = "No server connection available in postgres backend, client being queued";
            ErrorReply::notice(text).encode(&mut self.to_client);
        }
    }
}
