//! Frames: a tag byte, a length that counts itself, a body (protocol chapter "Message Overview").
//! Relayed bytes are cut here and never decoded further than the names at their front.

use super::error::{ClientError, ErrorReply, SqlState};

/// Tag and length.
pub const HEADER: usize = 5;

/// Names at the front of Parse, Bind, Describe and Close may be no longer than this together, in bytes.
/// PostgreSQL cuts names at 63 bytes but accepts longer ones; nobody sends 32 KiB of name in good faith.
pub const NAMES_MAX: usize = 32 * 1024;

/// PostgreSQL takes no message that says to be longer: it ends the connection without a word.
pub const TAKEN_MAX: usize = 0x3fff_fffe;

/// What a peer sent is no frame, or not one that may come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length is below 4 or above what is allowed.
    Length {
        /// The frame's tag.
        tag: u8,
        /// The length as sent.
        length: u32,
    },
    /// No such message exists in this direction.
    Tag(u8),
    /// The body does not have the message's form.
    Body(u8),
    /// A COPY has failed behind which others than its own messages were sent: what becomes of these can't be told.
    Copy,
    /// It has no answer of its own, and so many have come that no more can be remembered.
    TooMany(u8),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length { tag, length } => write!(f, "invalid length {length} of message '{}'", tag.escape_ascii()),
            Self::Tag(tag) => write!(f, "invalid message type '{}'", tag.escape_ascii()),
            Self::Body(tag) => write!(f, "broken {} packet", name_of(*tag)),
            Self::Copy => {
                f.write_str("protocol synchronization was lost: requests were sent within a COPY that has failed")
            }
            Self::TooMany(tag) => write!(f, "too many '{}' messages without an answer", tag.escape_ascii()),
        }
    }
}

impl std::error::Error for FrameError {}

impl ClientError for FrameError {
    fn reply(&self) -> ErrorReply {
        ErrorReply::fatal(SqlState::PROTOCOL_VIOLATION, self.to_string())
    }
}

fn name_of(tag: u8) -> &'static str {
    match tag {
        b'P' => "Parse",
        b'B' => "Bind",
        b'D' => "Describe",
        b'C' => "Close",
        b'Q' => "Query",
        b'H' => "Flush",
        b'S' => "Sync",
        _ => "protocol",
    }
}

/// The front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// First byte.
    pub tag: u8,
    /// Bytes of the whole frame, tag included.
    pub total: usize,
}

/// Reads the header at the front of `buf`; `None` while fewer than five bytes are there.
///
/// # Errors
/// A length below 4, or above `max` bytes: nothing is computed from it before that is known.
#[inline]
pub fn header(buf: &[u8], max: usize) -> Result<Option<Header>, FrameError> {
    let [tag, a, b, c, d, ..] = *buf else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 || length as usize > max {
        return Err(FrameError::Length { tag, length });
    }
    Ok(Some(Header { tag, total: length as usize + 1 }))
}

/// A NUL-terminated string at the front of `buf`, and how many bytes it took with its terminator.
#[inline]
pub fn c_string(buf: &[u8]) -> Option<(&[u8], usize)> {
    // Most names are empty.
    let end = if buf.first() == Some(&0) { 0 } else { memchr::memchr(0, buf)? };
    Some((&buf[..end], end + 1))
}

/// What reading the front of a frame gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Head<T> {
    /// It is all here.
    Known(T),
    /// More bytes are needed.
    More,
}

/// The names at the front of a Bind.
#[derive(Debug, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// Bytes of the frame up to the end of both names.
    pub size: usize,
}

/// Reads the front of a Bind of `total` bytes, of which `have` are here.
///
/// # Errors
/// The names do not end within the frame, or within [`NAMES_MAX`].
pub fn bind_head(have: &[u8], total: usize) -> Result<Head<BindHead<'_>>, FrameError> {
    let body = &have[HEADER..];
    let read = || {
        let (portal, first) = c_string(body)?;
        let (statement, second) = c_string(&body[first..])?;
        Some(BindHead { portal, statement, size: HEADER + first + second })
    };
    known_or_more(read(), have.len(), total, b'B')
}

/// The values of a whole Bind, in the form in which they were sent; `None` where it has another form.
pub fn bind_values(frame: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut rest = frame.get(HEADER..)?;
    for _ in 0..2 {
        rest = &rest[c_string(rest)?.1..];
    }
    let (formats, more) = rest.split_first_chunk()?;
    let (count, mut rest) = more.get(2 * usize::from(u16::from_be_bytes(*formats))..)?.split_first_chunk()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (size, more) = rest.split_first_chunk()?;
        let Ok(size) = usize::try_from(i32::from_be_bytes(*size)) else {
            values.push(None);
            rest = more;
            continue;
        };
        let (value, more) = more.split_at_checked(size)?;
        values.push(Some(value));
        rest = more;
    }
    Some(values)
}

/// The numbers of the types of its parameters that a Parse names, of its body behind the name; 0: the server finds out.
pub fn parse_types(definition: &[u8]) -> impl Iterator<Item = u32> {
    let types = c_string(definition).and_then(|(_, size)| definition.get(size + 2..)).unwrap_or_default();
    types.chunks_exact(4).filter_map(|oid| oid.try_into().ok()).map(u32::from_be_bytes)
}

/// The name at the front of a Parse, and the bytes of the frame up to its end.
///
/// # Errors
/// As [`bind_head`].
pub fn parse_head(have: &[u8], total: usize) -> Result<Head<(&[u8], usize)>, FrameError> {
    let read = c_string(&have[HEADER..]).map(|(name, size)| (name, HEADER + size));
    known_or_more(read, have.len(), total, b'P')
}

/// The kind (`S` or `P`) and name of a whole Describe or Close.
///
/// # Errors
/// The frame has another form.
pub fn target(frame: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    match &frame[HEADER..] {
        [kind @ (b'S' | b'P'), 0] => Ok((*kind, b"")),
        [kind @ (b'S' | b'P'), name @ .., 0] if memchr::memchr(0, name).is_none() => Ok((*kind, name)),
        _ => Err(FrameError::Body(frame[0])),
    }
}

fn known_or_more<T>(read: Option<T>, have: usize, total: usize, tag: u8) -> Result<Head<T>, FrameError> {
    match read {
        Some(head) => Ok(Head::Known(head)),
        None if have < total && have < NAMES_MAX => Ok(Head::More),
        None => Err(FrameError::Body(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        assert_eq!(header(b"Q\0\0\0", 100), Ok(None));
        assert_eq!(header(b"Q\0\0\0\x04", 100), Ok(Some(Header { tag: b'Q', total: 5 })));
        assert_eq!(header(b"Q\0\0\0\x03", 100), Err(FrameError::Length { tag: b'Q', length: 3 }));
        assert_eq!(header(b"Q\xff\xff\xff\xff", 1 << 30), Err(FrameError::Length { tag: b'Q', length: u32::MAX }));
    }

    #[test]
    fn names_end_within_their_frame() {
        assert_eq!(
            bind_head(b"B\0\0\0\x0ap\0s\0", 11),
            Ok(Head::Known(BindHead { portal: b"p", statement: b"s", size: 9 }))
        );
        assert_eq!(bind_head(b"B\0\0\0\x0ap\0s", 11), Ok(Head::More));
        assert_eq!(bind_head(b"B\0\0\0\x07p\0s", 8), Err(FrameError::Body(b'B')));
        assert_eq!(parse_head(b"P\0\0\0\x07abc", 8), Err(FrameError::Body(b'P')));
        assert_eq!(target(b"D\0\0\0\x07Sx\0"), Ok((b'S', &b"x"[..])));
        assert_eq!(target(b"D\0\0\0\x07Xx\0"), Err(FrameError::Body(b'D')));
        assert_eq!(target(b"C\0\0\0\x04"), Err(FrameError::Body(b'C')));
    }
}
