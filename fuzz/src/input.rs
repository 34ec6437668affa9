//! Reads choices and chunks from a fuzzer's bytes; behind their end there are zeros and nothing.

/// What is left of the bytes.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// As many bytes as the next two say, or what there is.
    pub fn chunk(&mut self) -> &'a [u8] {
        let size = usize::from(u16::from_be_bytes([self.byte(), self.byte()])).min(self.0.len());
        let (chunk, rest) = self.0.split_at(size);
        self.0 = rest;
        chunk
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Checks that `bytes` begin with whole frames, each with one of `tags`, and gives what follows the last.
pub fn whole_frames<'a>(mut bytes: &'a [u8], tags: &[u8]) -> &'a [u8] {
    while let [tag, a, b, c, d, ..] = *bytes {
        assert!(tags.contains(&tag), "a frame with tag {:?}", char::from(tag));
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        assert!(length >= 4, "a frame of length {length}");
        let Some(rest) = bytes.get(length + 1..) else { break };
        bytes = rest;
    }
    bytes
}
