//! Errors of the server that name a statement as servers know it: the client reads its own name.

use super::backend::Take;
use super::exchange::Exchange;
use super::machine::{Attached, Relay};
use super::pipeline::{How, Owed};
use super::prepared::{named_in, put_frame, server_name};
use super::requests::{none_of_these_exists, said};
use super::steps::Steps;
use crate::server::statements::StatementId;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::tag::backend;

/// So many of a statement's names are said in an error.
const NAMES_SAID: usize = 4;

impl Relay {
    /// The statement that is named in the error of a Bind with the wrong number of parameters. Every other may have the
    /// words from the client.
    pub(super) fn misnamed(&self, exchange: &Exchange, error: &[u8]) -> Option<StatementId> {
        if !self.own_names || !matches!(exchange.pipeline.front(), Some(Owed::Bind(How::Reply))) {
            return None;
        }
        let fields = ErrorFields::parse(error);
        let message = fields.message.filter(|_| fields.code == Some(SqlState::PROTOCOL_VIOLATION))?;
        named_in(message)
    }

    /// Has the client read that error with its name, or names: which of them was asked for is not kept.
    pub(super) fn renamed(&self, id: StatementId, error: &[u8], steps: &mut Steps) -> Take {
        let names: Vec<&[u8]> = self.names.names_of(id).take(NAMES_SAID).collect();
        let ours = server_name(id);
        // What has no name at all is prepared under ours where it recurs.
        let Some(at) = memchr::memmem::find(error, &ours) else { return Take::Pass };
        let parts = [&error[..at], &names.join(&b"\" or \""[..]), &error[at + ours.len()..]];
        steps.to_client.own(|out| put_frame(out, backend::ERROR, &parts));
        Take::Drop
    }

    /// A function has dropped a statement that the server was known to have (DEALLOCATE ALL): its next use prepares it
    /// again. To the client it has the client's name, or names: which of them was asked for is not kept. Returns whether
    /// it has one.
    pub(super) fn was_dropped(&mut self, server: &mut Attached<'_>, id: StatementId, steps: &mut Steps) -> bool {
        server.statements.doubt();
        self.names.misses(id);
        let names: Vec<_> = self.names.names_of(id).map(said).take(NAMES_SAID).collect();
        if names.is_empty() {
            return false;
        }
        let hint = "Something has dropped it on the server. It is prepared again when it is used next.";
        steps.to_client.own(|out| none_of_these_exists(&names).hint(hint).encode(out));
        true
    }
}
