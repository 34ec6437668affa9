//! Which statements end a transaction block, and how: what may be answered to a client whose transaction is lost.
//! Read as PostgreSQL's grammar has it; what is not known to be one of these is none.

use super::pipeline::Owed;
use super::words::{Effect, skip_blank, skip_space};

/// What a text of statements is to a transaction block that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It holds no statement.
    Empty,
    /// It begins with a statement that ends the block.
    Ends {
        /// COMMIT or END, not ROLLBACK or ABORT.
        commit: bool,
        /// Where the next statement begins, if there is one.
        rest: Option<usize>,
    },
    /// It begins with one that ends the block and begins another: AND CHAIN.
    Chains,
    /// It begins with ROLLBACK TO SAVEPOINT.
    ToSavepoint,
    /// It begins with another statement.
    Other,
}

/// What a request may do to the transaction block that it is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is a COMMIT: the block is over, whatever becomes of it.
    Commits,
    /// It is a ROLLBACK: so it is here, and nothing is kept.
    RollsBack,
    /// It ends with AND CHAIN: another block begins.
    Chains,
    /// It is a ROLLBACK TO SAVEPOINT: the block goes on.
    ToSavepoint,
    /// It may end the block, and may begin another.
    Unclear,
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ends { commit: true, rest: None } => Self::Commits,
            Exit::Ends { commit: false, rest: None } => Self::RollsBack,
            Exit::Chains => Self::Chains,
            Exit::ToSavepoint => Self::ToSavepoint,
            _ => Self::Unclear,
        }
    }
}

impl Owed {
    /// Whether it begins a transaction block.
    pub(super) fn begins(&self) -> bool {
        matches!(self, Self::Query { effect: Effect::Begins, .. } | Self::Execute { effect: Effect::Begins, .. })
    }

    /// What it may do to the transaction block that it was sent in; `None`: not end it.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.in_block().filter(|ending| *ending != Ending::ToSavepoint)
    }

    /// The same, where a savepoint is told apart.
    pub(super) fn in_block(&self) -> Option<Ending> {
        match self {
            Self::Query { ends_later: true, .. } => Some(Ending::Unclear),
            Self::Query { effect: Effect::Ends(ending), .. } | Self::Execute { effect: Effect::Ends(ending), .. } => {
                Some(*ending)
            }
            Self::Execute { effect: Effect::Any, .. } => Some(Ending::Unclear),
            _ => None,
        }
    }
}

/// Reads the front of `text`, which may end with NUL.
pub fn exit(text: &[u8]) -> Exit {
    let text = until_nul(text);
    let (first, at) = word(text, skip_blank(text, 0));
    let commit = match first {
        b"commit" | b"end" => true,
        b"rollback" | b"abort" => false,
        b"" if at == text.len() => return Exit::Empty,
        _ => return Exit::Other,
    };
    let (mut next, mut at) = word(text, at);
    if matches!(next, b"work" | b"transaction") {
        (next, at) = word(text, at);
    }
    match next {
        b"" => ends(text, at, commit),
        b"and" => match word(text, at) {
            (b"chain", _) => Exit::Chains,
            (b"no", at) => match word(text, at) {
                (b"chain", at) if word(text, at).0.is_empty() => ends(text, word(text, at).1, commit),
                _ => Exit::Other,
            },
            _ => Exit::Other,
        },
        b"to" if first == b"rollback" => Exit::ToSavepoint,
        _ => Exit::Other,
    }
}

/// Whether `text`, which begins with PREPARE, is PREPARE TRANSACTION.
pub(super) fn prepares_transaction(text: &[u8]) -> bool {
    let text = until_nul(text);
    let (_, at) = word(text, skip_blank(text, 0));
    word(text, at).0 == b"transaction"
}

/// The statement ends at `at`, or is none that is known.
fn ends(text: &[u8], at: usize, commit: bool) -> Exit {
    match text.get(at) {
        None => Exit::Ends { commit, rest: None },
        Some(b';') => {
            let rest = skip_blank(text, at);
            Exit::Ends { commit, rest: (rest < text.len()).then_some(rest) }
        }
        Some(_) => Exit::Other,
    }
}

/// The key word at or behind `at`, and where it ends; empty where something else stands there.
fn word(text: &[u8], at: usize) -> (&'static [u8], usize) {
    let start = skip_space(text, at);
    let part_of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let end = start + text[start..].iter().take_while(part_of_word).count();
    if end == start {
        return (b"", start);
    }
    let known = WORDS.iter().find(|known| known.eq_ignore_ascii_case(&text[start..end]));
    (known.copied().unwrap_or(b"?"), end)
}

const WORDS: [&[u8]; 10] =
    [b"commit", b"end", b"rollback", b"abort", b"work", b"transaction", b"and", b"no", b"chain", b"to"];

pub(super) fn until_nul(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_block_is_told_from_what_only_begins_like_it() {
        let ends = |commit, rest| Exit::Ends { commit, rest };
        for (text, is) in [
            ("rollback", ends(false, None)),
            ("ROLLBACK;", ends(false, None)),
            (" /* a */ Rollback -- b\n work ; ; ", ends(false, None)),
            ("abort transaction", ends(false, None)),
            ("commit", ends(true, None)),
            ("END AND NO CHAIN;", ends(true, None)),
            ("rollback; begin", ends(false, Some(10))),
            (";commit work;/* x */select 1", ends(true, Some(20))),
            ("rollback and chain", Exit::Chains),
            ("commit work and chain; select 1", Exit::Chains),
            ("rollback to s", Exit::ToSavepoint),
            ("rollback work to savepoint s", Exit::ToSavepoint),
            ("rollback prepared 'x'", Exit::Other),
            ("commit prepared 'x'", Exit::Other),
            ("commit to s", Exit::Other),
            ("rollback work work", Exit::Other),
            ("rollback and", Exit::Other),
            ("rollback and no chain x", Exit::Other),
            ("rollback_1", Exit::Other),
            ("rollback 'x'", Exit::Other),
            ("rollback\u{e4}", Exit::Other),
            ("(rollback)", Exit::Other),
            ("select 1", Exit::Other),
            ("", Exit::Empty),
            (" ; -- x", Exit::Empty),
        ] {
            assert_eq!(exit(text.as_bytes()), is, "{text}");
            assert_eq!(exit(format!("{text}\0").as_bytes()), is, "{text} with NUL");
        }
    }
}
