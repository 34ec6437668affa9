//! A server that is lost while a client has it: what the client is owed it is told, and it goes on without.

use std::task::Context;
use std::time::Instant;

use super::{Active, End, Pump, Scratch, redefined, write_out};
use crate::pool::CloseReason;
use crate::session::deadlines::Phase;
use crate::session::relay::loss::Aftermath;
use crate::telemetry::events::session as events;
use crate::telemetry::labels::ServerLoss;

impl Pump {
    /// The client's server is lost. Where it has said why, that counts as the cause.
    ///
    /// # Errors
    /// The client can't go on without it.
    #[cold]
    pub(super) fn lose_server(
        &mut self,
        cause: String,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), End> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let at = active.lease.endpoint.to_string();
        redefined(&self.relay, &mut active.work, Instant::now());
        self.relay.definitions_are_over(&mut active.work.exchange);
        let cause = active.work.exchange.last_words.take().map_or(cause, String::from);
        let why = format!("The connection to server {at} was lost: {cause}.");
        scratch.steps.clear();
        let Some(aftermath) = self.relay.lose(&mut active.attached(), &why, &mut scratch.steps) else {
            events::server_lost(&self.shared, self.shared.pool.key(), &at, &cause, ServerLoss::Disconnected);
            return Err(End::ServerLost { cause, told: active.work.told });
        };
        events::server_lost(&self.shared, self.shared.pool.key(), &at, &cause, outcome(aftermath));
        let in_vain = aftermath == Aftermath::Unnoticed && !self.held.is_empty();
        self.lost_in_a_row = if in_vain { self.lost_in_a_row + 1 } else { 0 };
        if self.lost_in_a_row >= IN_A_ROW_MAX {
            return Err(End::ServerLost { cause, told: active.work.told });
        }
        self.gone |= write_out(&mut self.client, cx, &scratch.steps.to_client, &[], &mut self.to_client).is_err();
        if let Some(active) = self.active.take() {
            self.forget_speaker(&active);
            let Active { lease, mut work } = active;
            let micros = self.shared.micros(Instant::now());
            work.query_ends(micros);
            work.xact_ends(micros);
            lease.discard(CloseReason::ServerLost, &mut work.tally);
            self.shared.enters(Phase::Idle, micros);
            scratch.keep(work);
        }
        self.shared.links(None);
        self.shared.notes(self.relay.names.len());
        self.note_name();
        self.feed_held(cx, scratch)
    }
}

/// So many servers may be lost one after the other before any has got the client's message: it would be tried for ever where
/// all take a login and nothing else.
const IN_A_ROW_MAX: u8 = 5;

fn outcome(aftermath: Aftermath) -> ServerLoss {
    match aftermath {
        Aftermath::Unnoticed => ServerLoss::Unnoticed,
        Aftermath::Told => ServerLoss::Error,
        Aftermath::Failed => ServerLoss::FailedTransaction,
    }
}
