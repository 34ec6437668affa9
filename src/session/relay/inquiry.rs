//! A question of our own: whether what ties a client to its server is there, where its statements don't tell. CREATE may
//! have made something temporary by the `search_path` alone, DROP may have dropped the last of that, an unlock may have
//! released the last lock. The client does not wait for it, unless its next message comes before the answer.

use super::backend::Take;
use super::exchange::Exchange;
use super::machine::{Attached, Relay};
use super::pipeline::{Owed, Status};
use super::prepared::put_frame;
use super::steps::Steps;
use crate::config::model::Listen;
use crate::sql::deeds::What;
use crate::wire::frame::{FrameError, HEADER, Header};
use crate::wire::tag::{backend, frontend};

/// Asks one after the other; `SELECT 0` answers that nothing of the kind is there. Whatever DISCARD TEMP discards depends
/// on the schema. No `search_path` of the client's makes another question of it.
const QUESTIONS: [(What, &str); 2] = [
    (
        What::Temporary,
        "SELECT FROM pg_catalog.pg_depend WHERE refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
         AND refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass LIMIT 1",
    ),
    (
        What::Lock,
        "SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1",
    ),
];

impl Relay {
    /// Asks, if the server is idle and owes nothing, and something may be there or gone that ties the client to it.
    pub(super) fn inquire(&mut self, server: &mut Attached<'_>, steps: &mut Steps) {
        let exchange = &mut *server.exchange;
        let session = &mut exchange.session;
        if (session.may_be_gone.is_empty() && !session.may_be_there) || !exchange.pipeline.settled() {
            return;
        }
        let may_be_gone = std::mem::take(&mut session.may_be_gone);
        let ties = |what: &What| self.ties().any(|tie| tie == *what);
        // Where there is something already, whatever was made goes with it.
        session.may_be_there &= !ties(&What::Temporary);
        let asks = |what: &What| match ties(what) {
            true => may_be_gone.contains(what),
            false => session.may_be_there && *what == What::Temporary,
        };
        let asked: Vec<_> = QUESTIONS.iter().filter(|(what, _)| asks(what)).collect();
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
                if let Some(what) = server.exchange.session.asking.pop() {
                    server.exchange.session.may_be_there &= what != What::Temporary;
                    self.has(what, have[HEADER..] != *b"SELECT 0\0");
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

    /// Something of this kind is there, or nothing is.
    fn has(&mut self, what: What, there: bool) {
        if there {
            self.own.get_or_insert_default().shares_channels = self.listen == Listen::Shared;
        }
        self.own.iter_mut().for_each(|own| own.has(what, there));
    }
}

fn answered(exchange: &mut Exchange) {
    exchange.pipeline.pop();
    exchange.session.asking.clear();
}
