//! What a client is notified of: read between its transactions, in the order in which it came.

use std::task::Context;
use std::time::Instant;

use bytes::BytesMut;

use super::{Active, End, Pump, Scratch, drain};
use crate::session::deadlines::Phase;
use crate::session::notify::Begins;
use crate::session::relay::exchange::Notifies;
use crate::telemetry::events::session as events;

/// So many bytes are written at a time; what is behind them waits until the client has read these.
const AT_ONCE: usize = 64 * 1024;

impl Pump {
    /// Has the channels listened to that the client's next message needs.
    fn ask_for_channels(&mut self) {
        let encoding = self.relay.params.get("client_encoding").unwrap_or(b"UTF8");
        let seat = self.seat.get_or_insert_with(|| Box::new(self.context.hubs.join(&self.shared, encoding)));
        let mut answered = false;
        for channel in self.relay.wanted_channels() {
            if seat.listens(&channel) {
                self.relay.channel_answered(&channel, Ok(()));
                answered = true;
            }
        }
        if answered && !self.relay.waits_for_channels() {
            // The message is to be looked at again.
            seat.mailbox.wake();
        }
    }

    /// The client's next message waits, until what it listens to is in effect or it may notify.
    pub(super) fn wait_for_channels(&mut self) {
        (self.stalled, self.unheard) = (true, true);
        if self.relay.waits_for_channels() {
            self.ask_for_channels();
        }
        let micros = self.shared.micros(Instant::now());
        if self.active.is_none() {
            self.shared.request_begins(micros, true);
        }
        self.shared.enters(Phase::Waiting, micros);
    }

    /// What was asked for is answered: the message that waited for it may go on.
    pub(super) fn hear_answers(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        for (channel, answer) in self.seat.iter().flat_map(|seat| seat.mailbox.take_answers()) {
            self.relay.channel_answered(&channel, answer);
        }
        let waits = self.relay.waits_for_channels() || self.waits_to_notify() && !self.may_notify();
        if waits { Ok(()) } else { self.go_on_listening(cx, scratch) }
    }

    /// A cancel request for a message that waits for channels, or to notify. Returns whether one does.
    pub(super) fn cancel_listening(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<bool, End> {
        if !self.unheard {
            return Ok(false);
        }
        self.relay.cancel_channels(self.active.as_mut().map(|active| &mut active.work.exchange));
        self.go_on_listening(cx, scratch)?;
        Ok(true)
    }

    fn go_on_listening(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Result<(), End> {
        // While the server takes nothing, the message is looked at again when it does.
        if !self.unheard || self.active.as_ref().is_some_and(Active::wants_write) {
            return Ok(());
        }
        let micros = self.shared.micros(Instant::now());
        self.shared.enters(if self.active.is_some() { Phase::Query } else { Phase::Idle }, micros);
        self.feed_held(cx, scratch)
    }

    /// Whether there is something to do that waits for the client to be between two transactions, and it is.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.mailbox.is_filled() || self.relay.channels_moved())
            && self.is_between_transactions()
    }

    fn is_between_transactions(&self) -> bool {
        let waits = self.stalled || self.waiting.is_some() || !self.to_client.is_empty();
        !waits && self.relay.is_between_transactions() && self.active.as_ref().is_none_or(Active::settled)
    }

    /// Between two transactions: what the client does not listen to any more is given up, what has come is written.
    #[cold]
    pub(super) fn tell_news(&mut self, cx: &mut Context<'_>) {
        let Some(seat) = &self.seat else { return };
        if self.relay.channels_moved() {
            self.relay.leave_channels().iter().for_each(|channel| seat.leaves(channel));
        }
        let mut news = BytesMut::new();
        events::notified(seat.mailbox.take(AT_ONCE, &mut news));
        if !self.relay.has_channels() {
            self.seat = None;
        }
        if !news.is_empty() {
            self.to_client = news;
            self.gone |= drain(&mut self.client, cx, &mut self.to_client).is_err();
        }
    }

    fn waits_to_notify(&self) -> bool {
        self.active.as_ref().is_some_and(Active::waits_to_notify)
    }

    /// Whether the client's next message waits to notify on its server, and may go on. It may not before what another
    /// client has notified there has come, or that takes too long.
    #[cold]
    pub(super) fn may_notify(&mut self) -> bool {
        let Some(active) = self.active.as_mut().filter(|active| active.waits_to_notify()) else { return false };
        let begins = self.context.hubs.speaks(&self.shared, active.lease.key.pid, self.seat.as_deref());
        active.work.exchange.session.notifies = match begins {
            Begins::Unheard => Notifies::Unheard,
            Begins::Noted => Notifies::Noted,
            Begins::Later => return false,
        };
        true
    }

    /// It has no server any more, or will soon have none.
    pub fn forget_speaker(&self, active: &Active) {
        if active.work.exchange.session.notifies == Notifies::Noted {
            self.context.hubs.spoke(&self.shared, active.lease.key.pid);
        }
    }

    /// It reads nothing any more.
    pub fn stop_listening(&mut self) {
        if let Some(active) = &self.active {
            self.forget_speaker(active);
        }
        self.seat = None;
    }
}
