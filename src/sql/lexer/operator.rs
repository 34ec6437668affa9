//! Operators, and the comments that may begin within them.

use super::{CLASSES, Class, Kind, Lexer};

/// What is known of a row of operator characters, so that splitting it into many operators takes linear time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Run {
    /// The position behind it: where a comment begins, or another character stands.
    end: usize,
    /// The position behind the last character in it that lets an operator end with `+` or `-`.
    last_special: usize,
    /// The position behind the last character in it that is neither `+` nor `-`.
    last_unsigned: usize,
}

impl Lexer<'_> {
    /// A comment, or the longest operator: one that ends with `+` or `-` must hold one of ``~!@#%^&|`?``.
    pub(super) fn operator(&mut self, first: u8) -> (Kind, usize) {
        let at = self.at;
        match (first, self.byte(at + 1)) {
            (b'-', b'-') => return (Kind::Comment, self.line_end(at + 2)),
            (b'/', b'*') => return self.block_comment(),
            _ => {}
        }
        if self.run.end <= at {
            self.run = self.read_run();
        }
        let run = self.run;
        let signed = matches!(self.byte(run.end - 1), b'+' | b'-');
        let end = if signed && run.last_special <= at { run.last_unsigned.max(at + 1) } else { run.end };
        let kind = if &self.text[at..end] == b"=>" { Kind::Arrow } else { Kind::Operator };
        (kind, end)
    }

    fn read_run(&self) -> Run {
        let mut run = Run { end: self.at, ..Run::default() };
        while CLASSES[usize::from(self.byte(run.end))] == Class::Operator {
            let byte = self.byte(run.end);
            let begins_comment = matches!((byte, self.byte(run.end + 1)), (b'-', b'-') | (b'/', b'*'));
            if begins_comment {
                break;
            }
            run.end += 1;
            if matches!(byte, b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%') {
                run.last_special = run.end;
            }
            if !matches!(byte, b'+' | b'-') {
                run.last_unsigned = run.end;
            }
        }
        run
    }

    /// The position of the line end, or of the text's.
    pub(super) fn line_end(&self, at: usize) -> usize {
        memchr::memchr2(b'\n', b'\r', &self.text[at..]).map_or(self.text.len(), |found| at + found)
    }

    /// Comments of this kind nest.
    fn block_comment(&self) -> (Kind, usize) {
        let mut at = self.at + 2;
        let mut depth = 1_usize;
        while let Some(found) = memchr::memchr2(b'*', b'/', self.text.get(at..).unwrap_or_default()) {
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (b'/', b'*') => (depth, at) = (depth + 1, at + 2),
                (b'*', b'/') => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                return (Kind::Comment, at);
            }
        }
        (Kind::Unterminated, self.text.len())
    }
}
