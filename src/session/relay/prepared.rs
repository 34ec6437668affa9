//! Protocol-level prepared statements in transaction pooling: each client has its own names,
//! the same text with the same parameter types is one statement for all of them.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use hashbrown::HashMap;

use super::ending::{Exit, exit, until_nul};
use super::portals::Does;
use super::requests::does_not_exist;
use super::table::Place;
use super::tracking::statement_deeds;
use super::words::{FirstWord, Redefines, first_word};
use crate::server::statements::StatementId;
use crate::sql::Dialect;
use crate::sql::deeds::Deed;
use crate::wire::error::ErrorReply;
use crate::wire::tag::frontend;

pub(super) type Hasher = foldhash::fast::RandomState;

/// A statement that any server can be given.
#[derive(Debug)]
pub struct Statement {
    /// The same for the same text and parameter types.
    pub id: StatementId,
    /// Its name on every server.
    name: Box<[u8]>,
    /// What it begins with.
    word: FirstWord,
    /// What it may do.
    does: Does,
    /// Whom it may change definitions for.
    redefines: Redefines,
    /// Where it is found: its definition, and by what that is read.
    place: Place,
    dialect: Dialect,
}

impl Statement {
    pub(super) fn new(id: StatementId, place: Place, dialect: Dialect) -> Self {
        let text = until_nul(place.definition());
        let word = first_word(text);
        let does = Does { effect: word.effect(text, false), deeds: statement_deeds(text, dialect) };
        let redefines = word.redefines(text);
        Self { id, name: server_name(id), word, does, redefines, place, dialect }
    }

    /// The name on servers.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The first word of its text.
    pub fn word(&self) -> FirstWord {
        self.word
    }

    /// What it may do that matters to what is sent behind it.
    pub(super) fn does(&self) -> Does {
        self.does.clone()
    }

    /// Whom it may change definitions for.
    pub(super) fn redefines(&self) -> Redefines {
        self.redefines
    }

    /// Whether it is one client's alone.
    pub(super) fn is_unshared(&self) -> bool {
        self.place.is_unshared()
    }

    /// Where it is found.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The Parse body behind the name: text, NUL, parameter types.
    pub(super) fn definition(&self) -> &[u8] {
        self.place.definition()
    }

    /// How that is read.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What it does to the session by its own words.
    pub(super) fn deeds(&self) -> Option<&[Deed]> {
        self.does.deeds()
    }

    /// What it is to a failed transaction block.
    pub fn exit(&self) -> Exit {
        exit(self.definition())
    }

    /// Appends the Parse that creates it on a server.
    pub fn write_parse(&self, out: &mut BytesMut) {
        put_frame(out, frontend::PARSE, &[&self.name, b"\0", self.definition()]);
    }
}

/// What the names begin with that statements have on servers.
pub(super) const SERVER_NAME: &[u8] = b"PGLIFEGUARD_";

/// The name that a statement has on every server.
pub fn server_name(id: StatementId) -> Box<[u8]> {
    [SERVER_NAME, id.0.to_string().as_bytes()].concat().into_boxed_slice()
}

/// The statement of ours whose name stands in this text, a server's error in whatever language.
pub fn named_in(text: &[u8]) -> Option<StatementId> {
    let at = memchr::memmem::find(text, SERVER_NAME)? + SERVER_NAME.len();
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[at..at + digits]).ok()?.parse().ok().map(StatementId)
}

/// Appends the Close of a statement.
pub fn write_close(id: StatementId, out: &mut BytesMut) {
    put_frame(out, frontend::CLOSE, &[b"S", &server_name(id), b"\0"]);
}

/// Appends a frame whose body is these parts. They are ours or passed a limit before, so the length fits.
pub fn put_frame(out: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(1 + length);
    out.put_u8(tag);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    parts.iter().for_each(|part| out.put_slice(part));
}

/// Names that a client has given, in session pooling, to statements that never may be cancelled. A name is never taken
/// back, since whether the server has dropped it is not followed there.
#[derive(Debug, Default)]
pub(super) struct Guarded(Vec<Box<[u8]>>);

impl Guarded {
    /// So many are told apart; beyond that all names are taken for such.
    const MOST: usize = 32;

    /// From now on this name is one, too.
    pub(super) fn add(&mut self, name: &[u8]) {
        if !self.has(name) {
            self.0.push(name.into());
        }
    }

    /// Whether it is.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.0.len() >= Self::MOST || self.0.iter().any(|known| **known == *name)
    }
}

/// One client's names. Holds no memory until the first.
#[derive(Debug, Default)]
pub struct Names(Option<Box<ByName>>);

type ByName = HashMap<Arc<[u8]>, Named, Hasher>;

#[derive(Debug)]
struct Named {
    statement: Arc<Statement>,
    /// The client has read that it does not exist.
    missed: bool,
}

impl Names {
    /// The statement that the client calls `name`.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.0.as_ref()?.get(name).map(|named| &named.statement)
    }

    /// Whether the client may not give this name to another statement.
    pub fn has_taken(&self, name: &[u8]) -> bool {
        self.0.as_ref().and_then(|names| names.get(name)).is_some_and(|named| !named.missed)
    }

    /// The client reads that this statement does not exist. Its names are free for another one, and mean this one still.
    pub fn misses(&mut self, id: StatementId) {
        let all = self.0.iter_mut().flat_map(|names| names.values_mut());
        all.filter(|named| named.statement.id == id).for_each(|named| named.missed = true);
    }

    /// Gives a statement a name.
    pub fn insert(&mut self, name: Arc<[u8]>, statement: Arc<Statement>) {
        self.0.get_or_insert_default().insert(name, Named { statement, missed: false });
    }

    /// The names that the client has given to this statement.
    pub fn names_of(&self, id: StatementId) -> impl Iterator<Item = &[u8]> {
        let all = self.0.iter().flat_map(|names| names.iter());
        all.filter(move |(_, named)| named.statement.id == id).map(|(name, _)| &**name)
    }

    /// Takes a name back.
    pub fn remove(&mut self, name: &[u8]) -> Option<(Arc<[u8]>, Arc<Statement>)> {
        self.0.as_mut()?.remove_entry(name).map(|(name, named)| (name, named.statement))
    }

    /// Forgets all names.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |names| names.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A definition longer than this, in bytes, does not outlive its transaction.
pub(super) const LASTING_MAX: usize = 64 * 1024;
/// Nor does a longer one than this, in bytes, that was used in the transaction which made it: hardly any is used again,
/// and every idle client has its last.
const USED_MAX: usize = 16 * 1024;

/// The unnamed statement that the client has made on its server. Mostly it is used in the same transaction, and done
/// with. Where it is not (psql's `\gdesc`, `PQprepare` without a name), it goes with the client.
#[derive(Debug, Default)]
pub struct Unnamed {
    /// Empty: there is none, or none that can last.
    definition: Vec<u8>,
    /// The client has used it in another transaction than the one that made it, and will again.
    lasts: bool,
    used: bool,
    too_long: bool,
}

impl Unnamed {
    /// The client makes another; `None` where it is too long, or not all here.
    pub fn made(&mut self, definition: Option<&[u8]>) {
        self.forget();
        let definition = definition.filter(|definition| definition.len() <= LASTING_MAX);
        self.too_long = definition.is_none();
        self.definition.extend_from_slice(definition.unwrap_or_default());
    }

    /// The client uses it.
    pub fn used(&mut self) {
        self.used = true;
    }

    /// The client uses one that it has made in an earlier transaction.
    pub fn recalled(&mut self, definition: &[u8]) {
        self.made(Some(definition));
        self.lasts = true;
    }

    /// There is none any more.
    pub fn forget(&mut self) {
        self.definition.clear();
        (self.lasts, self.used, self.too_long) = (false, false, false);
    }
}

/// The unnamed statement that a client has beyond its transaction.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Empty: there is none, or none that was kept. Its memory is used again, by every transaction anew.
    definition: Vec<u8>,
    too_long: bool,
}

impl Kept {
    /// The transaction is over that has left this one.
    pub(super) fn keep(&mut self, unnamed: &Unnamed) {
        let max = if unnamed.used && !unnamed.lasts { USED_MAX } else { LASTING_MAX };
        let short = unnamed.definition.len() <= max;
        self.set(if short { &unnamed.definition } else { b"" });
        self.too_long = unnamed.too_long || !short;
    }

    /// It is this one.
    pub(super) fn set(&mut self, definition: &[u8]) {
        self.forget();
        if self.definition.capacity() > 4 * definition.len().max(KEPT_MIN) {
            self.definition = Vec::new();
        }
        self.definition.extend_from_slice(definition);
    }

    /// There is none any more.
    pub(super) fn forget(&mut self) {
        self.definition.clear();
        self.too_long = false;
    }

    /// Text, NUL and parameter types.
    pub(super) fn definition(&self) -> Option<&[u8]> {
        (!self.definition.is_empty()).then_some(&*self.definition)
    }

    /// What the client reads where there is none.
    pub(super) fn missing(&self) -> ErrorReply {
        let error = does_not_exist(b"");
        if !self.too_long {
            return error;
        }
        error.hint("It was too long to be kept beyond its transaction: prepare it again, or give it a name.")
    }
}

/// Memory for a definition of so many bytes is kept whatever is in it.
const KEPT_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_kept_if_it_is_short_and_what_was_not_if_it_is_not_long() {
        for (size, used, lasts, kept) in [
            (USED_MAX, true, false, true),
            (USED_MAX + 1, true, false, false),
            (LASTING_MAX, true, true, true),
            (LASTING_MAX, false, false, true),
            (LASTING_MAX + 1, false, false, false),
        ] {
            let text = vec![b'x'; size];
            let mut unnamed = Unnamed::default();
            if lasts {
                unnamed.recalled(&text)
            } else {
                unnamed.made(Some(&text))
            }
            if used {
                unnamed.used();
            }
            let mut keeps = Kept::default();
            keeps.keep(&unnamed);
            assert_eq!((keeps.definition().is_some(), keeps.too_long), (kept, !kept), "{size} {used} {lasts}");
            keeps.set(b"short");
            assert!(keeps.definition.capacity() <= 4 * KEPT_MIN);
        }
    }
}
