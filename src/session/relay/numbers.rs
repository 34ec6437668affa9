//! `lastval()` and `currval()`: the last numbers that sequences have given in a session. Nobody may read those of another
//! client. What a server has of others is discarded before such a question; and once a client of a pool has asked, before
//! everybody's first message to a server that others had: what is asked for after an INSERT was taken before.

use std::sync::{Arc, LazyLock};

use super::backend::Take;
use super::exchange::Exchange;
use super::loss::in_failed_transaction;
use super::machine::{Attached, Relay};
use super::pipeline::{How, Owed, Status};
use super::prefix::put_discard;
use super::prepared::put_frame;
use super::steps::Steps;
use crate::server::NumbersOf;
use crate::sql::deeds::{Deed, Deeds, Doubt, Name, What};
use crate::types::ClientId;
use crate::wire::error::{ErrorFields, ErrorReply, SqlState};
use crate::wire::tag::backend;

/// What the client may find of others on the server that it has.
#[derive(Debug, Default)]
pub struct Numbers {
    /// The client.
    of: Option<ClientId>,
    /// Others' numbers are there.
    others: bool,
    /// The client may have taken some itself since it has the server.
    taken: bool,
    /// Clients of this pool ask for them.
    watched: bool,
    /// This one does.
    asks: bool,
    /// It does, and nobody knew.
    pub news: bool,
    /// It has taken some in the transaction under way, and not asked since.
    took: bool,
}

impl Numbers {
    /// The client gets a server.
    pub fn begin(&mut self, client: ClientId, there: NumbersOf, watched: bool, asks: bool) {
        let others = match there {
            NumbersOf::Nobody => false,
            NumbersOf::One(other) => other != client,
            NumbersOf::Several => true,
        };
        *self = Self { of: Some(client), others, watched, asks, ..Self::default() };
    }

    /// The client leaves it: whose numbers may be there.
    pub fn left(&self) -> NumbersOf {
        match self.of {
            Some(client) if !self.others => NumbersOf::One(client),
            _ => NumbersOf::Several,
        }
    }

    /// Whether they are to be discarded before the client's first message.
    #[inline]
    pub(super) fn to_discard(&self) -> bool {
        self.others && self.watched
    }

    /// A statement has come to its end, with this tag.
    #[inline]
    pub(super) fn done(&mut self, tag: &[u8]) {
        if (self.others || self.asks) && takes(tag) {
            (self.taken, self.took) = (true, true);
        }
    }

    /// Whatever was there is gone.
    pub(super) fn discarded(&mut self) {
        (self.others, self.taken, self.took) = (false, false, false);
    }

    /// The statement that has come to its end did this.
    pub(super) fn does(&mut self, deed: &Deed) {
        match deed {
            Deed::TakesNumber => (self.taken, self.took) = (true, true),
            Deed::AsksNumber | Deed::MayAskNumber => self.took = false,
            Deed::ForgetsNumbers | Deed::DiscardAll => self.discarded(),
            _ => {}
        }
    }
}

/// Whether nobody knows whether it asks.
fn is_unclear(deed: &Deed) -> bool {
    matches!(deed, Deed::Unclear(Doubt::Code | Doubt::Text | Doubt::Unread))
}

/// Whether such statements may take numbers: by defaults and triggers, in code. (Of a SELECT its text tells.)
fn takes(tag: &[u8]) -> bool {
    ["INSERT", "COPY", "MERGE", "UPDATE", "DELETE", "CALL", "DO"].iter().any(|word| tag.starts_with(word.as_bytes()))
}

/// Marks the Execute that discards them.
static DISCARDS: LazyLock<Arc<Deeds>> = LazyLock::new(|| Arc::new(Deeds::from_iter([Deed::ForgetsNumbers])));

/// That it is one of ours.
pub(super) fn discards() -> Arc<Deeds> {
    Arc::clone(&DISCARDS)
}

/// The statement.
pub(super) const DISCARD: &[u8] = b"DISCARD SEQUENCES";

impl Relay {
    /// A transaction is over. A client that asks for numbers mostly does so in the next one behind that which took them: it
    /// keeps its server for that.
    pub(super) fn keeps_for_numbers(&mut self, exchange: &mut Exchange) {
        let numbers = &mut exchange.session.numbers;
        if !numbers.asks {
            return;
        }
        let deed = match std::mem::take(&mut numbers.took) {
            true => Deed::Holds(What::Number, Name::default()),
            false => Deed::Lets(What::Number, None),
        };
        self.own_session().does(&deed, |_| false);
    }

    /// It has not asked for so long that it needs its server no more for that.
    pub fn lets_numbers(&mut self) {
        if let Some(own) = &mut self.own {
            own.does(&Deed::Lets(What::Number, None), |_| false);
        }
    }

    /// Before statements that do this: discards what others have left, if they may ask for it. Where the client may have
    /// taken numbers of its own since it has the server, it is too late for that. Returns whether they may go on now: what
    /// comes before them may take numbers, or fail, and our own statement with it.
    #[must_use]
    pub(super) fn before_numbers<'a>(
        &mut self,
        server: &mut Attached<'_>,
        deeds: impl Iterator<Item = &'a Deed> + Clone,
        steps: &mut Steps,
    ) -> bool {
        let exchange = &mut *server.exchange;
        if !(self.tracks && self.own_names) {
            return true;
        }
        let any = |asks: &Deed| deeds.clone().any(|deed| deed == asks);
        let (asks, reached, unclear) =
            (any(&Deed::AsksNumber), any(&Deed::MayAskNumber), deeds.clone().any(is_unclear));
        // What code asks for it has taken within the same transaction, mostly: for that nobody keeps a server.
        self.asks_numbers |= asks;
        // Text that nobody knows may ask where others' numbers are not to be discarded any more.
        let too_late = unclear && exchange.session.numbers.taken && exchange.session.numbers.others;
        let own = exchange.defining || exchange.may_define || self.functions.are_known(exchange);
        let numbers = &mut exchange.session.numbers;
        numbers.asks |= asks;
        numbers.news |= (asks || reached || (too_late && own)) && !numbers.watched;
        if !((asks || reached || unclear) && numbers.others && !numbers.taken) {
            return true;
        }
        if exchange.pipeline.owes_ready() {
            return false;
        }
        if exchange.pipeline.status != Status::Failed {
            put_discard(exchange, steps);
        }
        true
    }

    /// Whether statements that do this would read others' numbers, which in a failed block can't be discarded before them.
    pub(super) fn would_read_others<'a>(&self, exchange: &Exchange, mut deeds: impl Iterator<Item = &'a Deed>) -> bool {
        let Numbers { others, taken, .. } = exchange.session.numbers;
        let failed = exchange.pipeline.status == Status::Failed && exchange.pipeline.is_empty();
        let reads = failed && others && !taken && self.tracks && self.own_names;
        reads && deeds.any(|deed| matches!(deed, Deed::AsksNumber | Deed::MayAskNumber))
    }

    /// Whether this is what a server says that has no number for who asks.
    pub(super) fn asked_number(&self, server: &Attached<'_>, error: &[u8]) -> bool {
        let asks = |deeds: &[Deed]| deeds.iter().any(|deed| matches!(deed, Deed::AsksNumber | Deed::MayAskNumber));
        let asked = match server.exchange.pipeline.front() {
            _ if !(self.tracks && self.own_names) => false,
            Some(Owed::Query { deeds: Some(running), .. }) => asks(running.current()),
            Some(Owed::Execute { how: How::Reply, deeds: Some(deeds), .. }) => asks(deeds),
            _ => false,
        };
        asked && ErrorFields::parse(error).code == Some(SqlState::NOT_IN_STATE)
    }
}

/// What the client reads then.
pub(super) fn no_number_yet() -> ErrorReply {
    in_failed_transaction()
        .hint("Send the ROLLBACK by itself: what asks for a number of a sequence can't come in one text with it here.")
}

const HINT: &str = "In transaction pooling a session is another client's in between: use RETURNING, or ask in the \
    transaction that has taken the number.";

/// Passes an error on with a hint.
pub(super) fn explain(error: &[u8], steps: &mut Steps) -> Take {
    let fields = error.strip_suffix(b"\0").unwrap_or(error);
    steps.to_client.own(|out| put_frame(out, backend::ERROR, &[fields, b"H", HINT.as_bytes(), b"\0\0"]));
    Take::Drop
}
