//! What a server skips after an error, up to the next Sync: what these messages had changed is taken back.

use super::exchange::{AfterRun, Exchange, Gate, send_probe, send_sync};
use super::machine::{Attached, Relay};
use super::pipeline::{How, Owed, Parses};
use super::portals::Does;
use super::prepared::{Kept, Unnamed};
use super::steps::Steps;
use super::words::FirstWord;

impl Relay {
    /// The server skips what was sent up to the next Sync. What these messages had changed is taken back.
    pub(super) fn skip_to_sync(&mut self, server: &mut Attached<'_>, steps: &mut Steps) {
        let skipped = server.exchange.pipeline.skip_to_sync();
        let ours = |owed: &Owed| owed.is_prefix() || matches!(owed, Owed::Prepare { what, .. } if what.shows.is_some());
        let first_of_client = skipped.iter().find(|owed| !ours(owed));
        let client_skips = first_of_client.is_some();
        let of_simple = matches!(first_of_client, Some(Owed::Query { .. } | Owed::Function));
        for owed in skipped.into_iter().rev() {
            self.take_back(server, owed);
        }
        let exchange = &mut *server.exchange;
        if exchange.pipeline.in_doubt() {
            return self.doubt(exchange, true, steps);
        }
        if let Some(Owed::Sync(how)) = exchange.pipeline.front() {
            if exchange.gate == Gate::Settling && *how == How::Swallow {
                exchange.gate = Gate::SettlingFailed { skips: client_skips };
            }
            return;
        }
        if !of_simple {
            exchange.pipeline.skipping = true;
        } else if self.half_sent() {
            exchange.after_run = AfterRun::Sync;
        } else {
            send_sync(exchange, How::Reply, steps);
        }
    }

    pub(super) fn take_back(&mut self, server: &mut Attached<'_>, owed: Owed) {
        match owed {
            Owed::Prepare { what: prepared, .. } => {
                prepared.id.iter().for_each(|id| _ = server.statements.remove(*id));
                if let Some((name, _)) = prepared.name {
                    self.names.remove(&name);
                }
                if let Some((name, _)) = prepared.shows {
                    Self::not_shown(server.exchange, &name);
                }
            }
            Owed::Bind(How::Reply) | Owed::Execute { how: How::Reply, .. } => {
                let within = server.exchange.pipeline.owed();
                server.exchange.portals.doubt(within);
            }
            Owed::Parse { how, what: Parses::AsSaid { takes_unnamed } } => {
                let exchange = &mut *server.exchange;
                let replaced = pass_unnamed_on(exchange, takes_unnamed);
                if !replaced {
                    // What was parsed last is what was parsed before it.
                    exchange.parsed = Does::anything();
                    (exchange.unnamed_word, exchange.unnamed_does) = (None, Does::anything());
                }
                if how == How::Reply && !replaced {
                    // What there was before it, if anything, was not kept.
                    server.exchange.unnamed.forget();
                }
            }
            Owed::Close { what: Some(closed), .. } => {
                // A Close of ours may have been of one in doubt.
                closed.id.iter().for_each(|id| server.statements.insert_doubtful(*id));
                if let Some((name, statement)) = closed.was {
                    self.names.insert(name, statement);
                }
                if let Some(there) = closed.there {
                    self.not_closed(server, there);
                }
            }
            Owed::Query { .. } => {
                // What is not skipped replaces it all the same, or drops it.
                let replaces =
                    |owed: &Owed| matches!(owed, Owed::Query { .. } | Owed::Parse { what: Parses::AsSaid { .. }, .. });
                let replaced = server.exchange.pipeline.iter().any(replaces);
                if let Some(spared) = server.exchange.spared.take().filter(|_| !replaced) {
                    spared.give_back(server.exchange, &mut self.unnamed);
                }
            }
            _ => {}
        }
    }

    /// A COPY failed behind which Syncs were sent: the server may have read past them, or may answer them still.
    /// Should what is owed behind them not tell, something is sent that does.
    pub(super) fn doubt(&self, exchange: &mut Exchange, extended: bool, steps: &mut Steps) {
        if !exchange.pipeline.in_doubt() || !exchange.pipeline.sort_doubtful() {
            return;
        }
        let skips = extended && !exchange.pipeline.front().is_some_and(Owed::is_sync);
        exchange.gate = Gate::Doubting { skips };
        if self.half_sent() {
            exchange.after_run = AfterRun::Probe;
        } else {
            send_probe(exchange, steps);
        }
    }
}

/// The unnamed statement that a Query drops, and how it was known.
#[derive(Debug)]
pub(super) struct Spared {
    has: bool,
    made: Unnamed,
    kept: Kept,
    word: Option<FirstWord>,
    does: Does,
}

impl Spared {
    pub(super) fn take(exchange: &mut Exchange, kept: &mut Kept) -> Self {
        Self {
            has: exchange.has_unnamed,
            made: std::mem::take(&mut exchange.unnamed),
            kept: std::mem::take(kept),
            word: exchange.unnamed_word,
            does: exchange.unnamed_does.clone(),
        }
    }

    fn give_back(self, exchange: &mut Exchange, kept: &mut Kept) {
        let Self { has, made, kept: before, word, does } = self;
        (exchange.has_unnamed, exchange.unnamed, *kept) = (has, made, before);
        (exchange.unnamed_word, exchange.unnamed_does) = (word, does);
    }
}

/// A Parse of the unnamed statement was skipped. If it was to take it, a later one does now, or none.
/// Returns whether there is a later one.
fn pass_unnamed_on(exchange: &mut Exchange, taken: bool) -> bool {
    let mut later = false;
    exchange.pipeline.revise(|owed| {
        if let Owed::Parse { what: Parses::AsSaid { takes_unnamed }, .. } = owed {
            *takes_unnamed |= taken && !later && exchange.has_unnamed;
            later = true;
        }
    });
    exchange.has_unnamed &= later || !taken;
    later
}
