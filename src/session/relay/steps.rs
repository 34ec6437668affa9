//! What a step of the relay wants written: ranges of the input that pass unchanged, and bytes of our own between them.

use std::ops::Range;

use bytes::BytesMut;
use smallvec::SmallVec;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Input(Range<usize>),
    Own(Range<usize>),
}

/// Bytes for one side, in order. Nothing of the input is copied.
#[derive(Debug, Default)]
pub struct Out {
    /// All but `last`.
    pieces: SmallVec<[Piece; 8]>,
    /// A range of the input that ends what there is to write; may be empty. Most that is written is one of these, made
    /// of frame after frame.
    last: Range<usize>,
    own: BytesMut,
}

impl Out {
    /// Passes a range of the input on unchanged.
    #[inline]
    pub fn pass(&mut self, range: Range<usize>) {
        if self.last.end == range.start && !self.last.is_empty() {
            self.last.end = range.end;
        } else if !range.is_empty() {
            self.put_last(range);
        }
    }

    /// Ends the last range, and begins another.
    fn put_last(&mut self, next: Range<usize>) {
        let last = std::mem::replace(&mut self.last, next);
        if !last.is_empty() {
            self.pieces.push(Piece::Input(last));
        }
    }

    /// Adds what `write` appends to the buffer.
    pub fn own(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let start = self.own.len();
        write(&mut self.own);
        let range = start..self.own.len();
        if range.is_empty() {
            return;
        }
        self.put_last(0..0);
        match self.pieces.last_mut() {
            Some(Piece::Own(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Own(range)),
        }
    }

    /// Adds these bytes.
    pub fn own_bytes(&mut self, bytes: &[u8]) {
        self.own(|out| out.extend_from_slice(bytes));
    }

    /// Whether there is nothing to write.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty() && self.pieces.is_empty()
    }

    /// All of it, where it is one piece.
    #[inline]
    pub fn single<'a>(&'a self, input: &'a [u8]) -> Option<&'a [u8]> {
        match &self.pieces[..] {
            [] => Some(&input[self.last.clone()]),
            [Piece::Own(range)] if self.last.is_empty() => Some(&self.own[range.clone()]),
            [Piece::Input(range)] if self.last.is_empty() => Some(&input[range.clone()]),
            _ => None,
        }
    }

    /// How many bytes there are.
    pub fn size(&self) -> usize {
        let of = |piece: &Piece| match piece {
            Piece::Input(range) | Piece::Own(range) => range.len(),
        };
        self.pieces.iter().map(of).sum::<usize>() + self.last.len()
    }

    /// How many bytes of our own there are: memory, which those that pass do not take.
    #[inline]
    pub fn own_size(&self) -> usize {
        self.own.len()
    }

    /// The pieces, in order; `input` is what the ranges refer to.
    pub fn slices<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let last = (!self.last.is_empty()).then(|| &input[self.last.clone()]);
        let before = self.pieces.iter().map(move |piece| match piece {
            Piece::Input(range) => &input[range.clone()],
            Piece::Own(range) => &self.own[range.clone()],
        });
        before.chain(last)
    }

    /// Everything, joined: for tests and slow paths.
    pub fn concat(&self, input: &[u8]) -> Vec<u8> {
        self.slices(input).flatten().copied().collect()
    }

    /// Forgets all, and keeps the memory unless it grew beyond use.
    #[inline]
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.last = 0..0;
        if self.own.capacity() > 256 * 1024 {
            self.own = BytesMut::new();
        }
        self.own.clear();
    }
}

/// What is to be written to both sides after one chunk of input.
#[derive(Debug, Default)]
pub struct Steps {
    /// For the server.
    pub to_server: Out,
    /// For the client.
    pub to_client: Out,
}

impl Steps {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_order_is_kept() {
        let mut out = Out::default();
        out.pass(0..2);
        out.pass(2..4);
        out.own_bytes(b"xy");
        out.own_bytes(b"z");
        out.pass(6..7);
        out.pass(7..7);
        assert_eq!(out.slices(b"0123456789").count(), 3);
        assert_eq!((out.size(), out.single(b"0123456789")), (8, None));
        assert_eq!(out.concat(b"0123456789"), b"0123xyz6");
        out.clear();
        assert!(out.is_empty());
        out.pass(3..5);
        assert_eq!(out.single(b"0123456789"), Some(&b"34"[..]));
        out.clear();
        out.own_bytes(b"xy");
        assert_eq!(out.single(b""), Some(&b"xy"[..]));
    }
}
