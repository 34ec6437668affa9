//! The first word of a statement: enough to know whether settings may travel in its transaction,
//! and whether it may be cancelled when its client is gone. Comments are skipped as PostgreSQL does.

use super::pipeline::Effect;

/// The first word of `text` in lower case, up to 16 bytes; empty when it does not begin with a letter.
pub fn first_word(text: &[u8]) -> FirstWord {
    let start = skip_blank(text, 0);
    let mut word = FirstWord { bytes: [0; 16], len: 0 };
    for (to, &byte) in word.bytes.iter_mut().zip(&text[start..]) {
        // Of all bytes only letters become small letters by this.
        let small = byte | 0x20;
        if !small.is_ascii_lowercase() {
            break;
        }
        *to = small;
        word.len += 1;
    }
    word
}

/// A short lower-case word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstWord {
    bytes: [u8; 16],
    len: u8,
}

impl FirstWord {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether the statement may run in a transaction that our settings have begun.
    /// VACUUM, CREATE DATABASE and their like may not; what is not known to be harmless isn't taken for it.
    pub fn allows_prefix(&self) -> bool {
        matches!(
            self.as_bytes(),
            b"select"
                | b"insert"
                | b"update"
                | b"delete"
                | b"merge"
                | b"with"
                | b"values"
                | b"table"
                | b"begin"
                | b"start"
                | b"set"
                | b"show"
                | b"copy"
                | b"declare"
                | b"fetch"
                | b"explain"
                | b"lock"
        )
    }

    /// Whether a failed transaction block accepts it: what ends the block, and nothing at all.
    pub fn leaves_failed(&self) -> bool {
        matches!(self.as_bytes(), b"commit" | b"end" | b"rollback" | b"abort" | b"")
    }

    /// What the statement may do to others. `cut` says that more text was to come.
    pub fn effect(&self, cut: bool) -> Effect {
        let word = self.as_bytes();
        let may_be = |it: &&[u8]| *it == word || (cut && it.starts_with(word));
        if [&b"deallocate"[..], b"discard"].iter().any(may_be) {
            Effect::Forgets
        } else if may_be(&&b"copy"[..]) {
            Effect::Copies
        } else if self.leaves_failed() && !word.is_empty() {
            Effect::Ends
        } else {
            Effect::Plain
        }
    }

    /// Whether a cancel costs nothing but the statement itself: never a COMMIT, nor a utility that can't be undone.
    pub fn allows_cancel(&self) -> bool {
        matches!(
            self.as_bytes(),
            b"select"
                | b"insert"
                | b"update"
                | b"delete"
                | b"merge"
                | b"with"
                | b"values"
                | b"table"
                | b"copy"
                | b"fetch"
                | b"explain"
                | b"lock"
                | b"do"
                | b"call"
                | b"execute"
        )
    }
}

/// The position behind blanks, comments and empty statements that begin at `at`.
fn skip_blank(text: &[u8], mut at: usize) -> usize {
    loop {
        match &text[at..] {
            [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b';', ..] => at += 1,
            [b'-', b'-', rest @ ..] => match memchr::memchr2(b'\n', b'\r', rest) {
                Some(end) => at += 2 + end,
                None => return text.len(),
            },
            [b'/', b'*', ..] => at = comment_end(text, at),
            _ => return at,
        }
    }
}

/// The position behind the comment, which may hold others, that begins at `at`.
fn comment_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match &text[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            [_, ..] => at += 1,
            [] => return at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_nested_comments_are_skipped() {
        for (text, word) in [
            ("SELECT 1", "select"),
            ("  -- vacuum\n/* a /* b */ c */ ;; Vacuum x", "vacuum"),
            ("", ""),
            ("/* open", ""),
            ("-- only", ""),
            ("(select 1)", ""),
            ("abcdefghijklmnopqrstuvw", "abcdefghijklmnop"),
        ] {
            assert_eq!(first_word(text.as_bytes()).as_bytes(), word.as_bytes(), "{text}");
        }
        assert!(!first_word(b"/* select */ vacuum").allows_prefix());
        assert!(first_word(b"select").allows_cancel());
        assert!(!first_word(b"commit").allows_cancel());
        for (text, cut, effect) in [
            ("Discard all", false, Effect::Forgets),
            ("de", false, Effect::Plain),
            ("de", true, Effect::Forgets),
            ("declare", true, Effect::Plain),
            ("cop", true, Effect::Copies),
            ("copy t from stdin", false, Effect::Copies),
            ("", true, Effect::Forgets),
            ("", false, Effect::Plain),
            ("rollback", false, Effect::Ends),
        ] {
            assert_eq!(first_word(text.as_bytes()).effect(cut), effect, "{text}");
        }
    }
}
