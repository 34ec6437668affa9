//! A Query of a client that has a server.

use bytes::BufMut;

use super::channels::Hears;
use super::exchange::{Block, Exchange};
use super::machine::{Attached, Relay, Stop, Take};
use super::numbers::no_number_yet;
use super::pipeline::Owed;
use super::prefix::settles_apart;
use super::skipping::Spared;
use super::steps::Steps;
use super::words::{Effect, Said, first_word};
use crate::wire::frame::{HEADER, Header};

impl Relay {
    pub(super) fn query(&mut self, server: &mut Attached<'_>, header: Header, have: &[u8], steps: &mut Steps) -> Take {
        let front = self.begun();
        let text = have.get(HEADER + front..).unwrap_or_default();
        let cut = have.len() < header.total;
        if self.is_awaited(header, have) {
            return Take::Stop(Stop::Input);
        }
        if self.is_unsure(server.exchange, text) {
            return Take::Stop(Stop::Hold);
        }
        let said = Said::of(text, cut, self.dialect_now(server.exchange));
        self.redefines(server.exchange, said.redefines(text));
        // Outside of a block it is unknown anyway what became of a statement whose answer is lost.
        let in_block = server.exchange.block != Block::Outside || !server.exchange.pipeline.is_empty();
        let ends_later = in_block && said.ends_later();
        let deeds = self.reads(server.exchange, text, cut);
        if let Some(running) = &deeds {
            let several = running.is_several();
            if several && self.would_read_others(server.exchange, running.deeds()) {
                return self.fail_query(server.exchange, no_number_yet(), steps);
            }
            match self.hears(server.exchange, running.deeds(), several) {
                Hears::Now => {}
                Hears::Later => return Take::Stop(Stop::Channels),
                Hears::Never(error) => return self.fail_query(server.exchange, error, steps),
            }
        }
        let word = said.word().unwrap_or_else(|| first_word(text));
        let mut effect = word.effect(text, cut);
        if effect == Effect::Begins && said.ends_later() {
            effect = Effect::Plain;
        }
        let owed = Owed::Query { effect, ends_later, deeds };
        match self.simple(server, owed, &said, steps) {
            Take::Forward if front > 0 => self.without_front(header, front, steps),
            take => take,
        }
    }

    fn simple(&mut self, server: &mut Attached<'_>, owed: Owed, said: &Said, steps: &mut Steps) -> Take {
        server.exchange.asks(|in_block| said.allows_cancel(in_block));
        if !self.begin_query(server, self.own_names && said.allows_prefix(), steps) {
            return Take::Stop(Stop::Hold);
        }
        if let Owed::Query { deeds: Some(running), .. } = &owed {
            // BEGIN wants to come first where it has an isolation level.
            let begins = matches!(said, Said::Several(words) if words.first().is_some_and(|word| word.begins()));
            let first = server.exchange.begins_transaction();
            if !self.before_deeds(server, running.deeds(), steps) || (first && settles_apart(server, begins, steps)) {
                return Take::Stop(Stop::Hold);
            }
        }
        let exchange = &mut *server.exchange;
        // It drops the unnamed statement, unless it is skipped for an error before it.
        if exchange.pipeline.unsynced && exchange.spared.is_none() {
            exchange.spared = Some(Box::new(Spared::take(exchange, &mut self.unnamed)));
        }
        self.forget_unnamed(exchange);
        exchange.pipeline.push(owed);
        Take::Forward
    }

    /// The client has no unnamed statement any more, wherever it was known.
    pub(super) fn forget_unnamed(&mut self, exchange: &mut Exchange) {
        exchange.has_unnamed = false;
        exchange.unnamed.forget();
        self.unnamed.forget();
    }

    /// Passes on a Query of which the front is answered. Blanks stand in its place, so that positions in errors are
    /// those of the text that the client has sent.
    fn without_front(&mut self, header: Header, front: usize, steps: &mut Steps) -> Take {
        self.alone = None;
        steps.to_server.own(|out| {
            out.put_u8(header.tag);
            out.put_u32(u32::try_from(header.total - 1).unwrap_or(u32::MAX));
            out.put_bytes(b' ', front);
        });
        Take::Behind(HEADER + front)
    }
}
