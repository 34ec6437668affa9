//! Whether settings may be sent in one transaction with a client's requests: they are undone with it, so that nothing may
//! run behind its end. Sure is that only of a batch which is all here, up to its Sync, and in which nothing can end a
//! transaction. Before everything else they are sent with a Sync of their own, and waited for.

use smallvec::SmallVec;

use super::exchange::Exchange;
use super::machine::Relay;
use super::words::first_word;
use crate::wire::frame::{self, Head};
use crate::wire::tag::frontend;

/// Longer batches wait.
const MESSAGES_MAX: usize = 64;

impl Relay {
    /// Whether `input` begins with such a batch.
    pub(super) fn is_vetted(&self, exchange: &Exchange, input: &[u8]) -> bool {
        let mut rest = input;
        let mut parsed: SmallVec<[&[u8]; 2]> = SmallVec::new();
        for _ in 0..MESSAGES_MAX {
            let Some((have, after)) = self.whole(rest) else { return false };
            let fine = match have[0] {
                frontend::PARSE => match frame::parse_head(have, have.len()) {
                    Ok(Head::Known((name, front))) => {
                        parsed.push(name);
                        first_word(&have[front..]).joins_prefix()
                    }
                    _ => false,
                },
                frontend::BIND => match frame::bind_head(have, have.len()) {
                    Ok(Head::Known(head)) => parsed.contains(&head.statement) || self.joins(exchange, head.statement),
                    _ => false,
                },
                frontend::DESCRIBE => match frame::target(have) {
                    Ok((b'S', name)) => parsed.contains(&name) || self.joins(exchange, name),
                    target => target.is_ok(),
                },
                frontend::EXECUTE | frontend::CLOSE | frontend::FLUSH => true,
                frontend::SYNC => return true,
                _ => false,
            };
            if !fine {
                return false;
            }
            rest = after;
        }
        false
    }

    /// The first message, if it is all here, and what is behind it.
    fn whole<'a>(&self, input: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let header = frame::header(input, self.max_packet()).ok().flatten()?;
        input.split_at_checked(header.total)
    }

    /// Whether a statement that the client has from before may be in a transaction with settings.
    fn joins(&self, exchange: &Exchange, name: &[u8]) -> bool {
        match name {
            b"" if exchange.has_unnamed => false,
            b"" => self.unnamed.definition().is_some_and(|definition| first_word(definition).joins_prefix()),
            name => self.names.get(name).is_some_and(|statement| statement.word().joins_prefix()),
        }
    }
}
