//! A question of our own: whether what ties a client to its server is still there, where its statements don't tell. DROP
//! may have dropped the last temporary table, an unlock may have released the last lock. The client does not wait for it,
//! unless its next message comes before the answer.

use super::backend::Take;
use super::exchange::Exchange;
use super::machine::{Attached, Relay};
use super::pipeline::{Owed, Status};
use super::prepared::put_frame;
use super::steps::Steps;
use crate::sql::deeds::What;
use crate::wire::frame::{FrameError, HEADER, Header};
use crate::wire::tag::{backend, frontend};

/// Asks one after the other; `SELECT 0` answers that nothing of the kind is there.
const QUESTIONS: [(What, &str); 2] = [
    (
        What::Temporary,
        "SELECT FROM (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() UNION ALL \
         SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema() UNION ALL \
         SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()) o LIMIT 1",
    ),
    (
        What::Lock,
        "SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid() LIMIT 1",
    ),
];

impl Relay {
    /// Asks, if the server is idle and owes nothing, and something may be gone that ties the client to it.
    pub(super) fn inquire(&mut self, server: &mut Attached<'_>, steps: &mut Steps) {
        let exchange = &mut *server.exchange;
        let may_be_gone = std::mem::take(&mut exchange.session.may_be_gone);
        if may_be_gone.is_empty() || !exchange.pipeline.settled() {
            exchange.session.may_be_gone = may_be_gone;
            return;
        }
        let ties = |what: &What| self.ties().any(|tie| tie == *what);
        let asked: Vec<_> = QUESTIONS.iter().filter(|(what, _)| may_be_gone.contains(what) && ties(what)).collect();
        if asked.is_empty() {
            return;
        }
        let text = asked.iter().map(|(_, text)| *text).collect::<Vec<_>>().join("; ");
        // It drops the unnamed statement.
        if std::mem::replace(&mut exchange.has_unnamed, false) {
            self.unnamed.keep(&exchange.unnamed);
        }
        steps.to_server.own(|out| put_frame(out, frontend::QUERY, &[text.as_bytes(), b"\0"]));
        exchange.pipeline.push(Owed::Inquiry);
        exchange.session.asking = asked.iter().rev().map(|(what, _)| *what).collect();
    }

    /// The server's answer to a question of ours goes nowhere. `None`: it is no part of the answer.
    pub(super) fn hear_inquiry(
        &mut self,
        server: &mut Attached<'_>,
        header: Header,
        have: &[u8],
    ) -> Result<Option<Take>, FrameError> {
        let whole = have.len() == header.total;
        match header.tag {
            backend::NOTICE | backend::NOTIFICATION | backend::PARAMETER_STATUS | backend::ERROR => Ok(None),
            backend::COMMAND_COMPLETE | backend::READY if !whole => Ok(Some(Take::More)),
            backend::COMMAND_COMPLETE => {
                let gone = server.exchange.session.asking.pop().filter(|_| have[HEADER..] == *b"SELECT 0\0");
                if let (Some(what), Some(own)) = (gone, &mut self.own) {
                    own.lacks(what);
                }
                Ok(Some(Take::Drop))
            }
            backend::READY => {
                if have.get(HEADER).copied().and_then(Status::from_byte) != Some(Status::Idle) {
                    return Err(FrameError::Tag(backend::READY));
                }
                answered(server.exchange);
                Ok(Some(Take::Drop))
            }
            _ => Ok(Some(Take::Drop)),
        }
    }
}

fn answered(exchange: &mut Exchange) {
    exchange.pipeline.pop();
    exchange.session.asking.clear();
}
