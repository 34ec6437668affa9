//! Bytes of a console client → requests. Every length is checked; what doesn't fit is an error, never a panic.

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::tag::frontend;

/// The longest message that a console takes, its header left out.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
const HEADER_BYTES: usize = 5;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Query {
        text: String,
    },
    Parse {
        name: String,
        text: String,
    },
    Bind {
        portal: String,
        statement: String,
        parameters: u16,
        formats: Vec<u16>,
    },
    DescribeStatement {
        name: String,
    },
    DescribePortal {
        name: String,
    },
    /// `rows` of zero means all.
    Execute {
        portal: String,
        rows: usize,
    },
    CloseStatement {
        name: String,
    },
    ClosePortal {
        name: String,
    },
    Flush,
    Sync,
    Terminate,
}

/// Why a message is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The length is too small or too great.
    Length(u32),
    /// The console has no such message.
    Type(u8),
    /// The body is not what its type demands.
    Body(u8),
}

/// Takes the next whole message off the front.
pub(super) fn take(inbox: &mut BytesMut) -> Result<Option<Request>, Malformed> {
    let [tag, a, b, c, d, ..] = **inbox else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    let body_length = (length as usize).checked_sub(4).filter(|length| *length <= BODY_BYTES_MAX);
    let body_length = body_length.ok_or(Malformed::Length(length))?;
    if inbox.len() < HEADER_BYTES + body_length {
        return Ok(None);
    }
    inbox.advance(HEADER_BYTES);
    let body = inbox.split_to(body_length).freeze();
    decode(tag, body).map(Some)
}

fn decode(tag: u8, body: Bytes) -> Result<Request, Malformed> {
    let mut body = Body(body);
    let request = match tag {
        frontend::QUERY => body.text().map(|text| Request::Query { text }),
        frontend::PARSE => parse(&mut body),
        frontend::BIND => bind(&mut body),
        frontend::DESCRIBE => {
            body.named(|name| Request::DescribeStatement { name }, |name| Request::DescribePortal { name })
        }
        frontend::CLOSE => body.named(|name| Request::CloseStatement { name }, |name| Request::ClosePortal { name }),
        frontend::EXECUTE => execute(&mut body),
        frontend::FLUSH => Some(Request::Flush),
        frontend::SYNC => Some(Request::Sync),
        frontend::TERMINATE => Some(Request::Terminate),
        other => return Err(Malformed::Type(other)),
    };
    request.filter(|_| body.0.is_empty()).ok_or(Malformed::Body(tag))
}

fn parse(body: &mut Body) -> Option<Request> {
    let (name, text) = (body.text()?, body.text()?);
    for _ in 0..body.u16()? {
        body.skip(4)?; // the type of a parameter
    }
    Some(Request::Parse { name, text })
}

fn bind(body: &mut Body) -> Option<Request> {
    let (portal, statement) = (body.text()?, body.text()?);
    for _ in 0..body.u16()? {
        body.skip(2)?; // the format of a parameter
    }
    let parameters = body.u16()?;
    for _ in 0..parameters {
        // A negative length is NULL, which has no bytes.
        let length = usize::try_from(body.i32()?).unwrap_or(0);
        body.skip(length)?;
    }
    let formats = (0..body.u16()?).map(|_| body.u16()).collect::<Option<_>>()?;
    Some(Request::Bind { portal, statement, parameters, formats })
}

fn execute(body: &mut Body) -> Option<Request> {
    let portal = body.text()?;
    let rows = usize::try_from(body.i32()?).unwrap_or(0);
    Some(Request::Execute { portal, rows })
}

/// What is left of a message.
struct Body(Bytes);

impl Body {
    /// A text that ends with a zero byte. What is no UTF-8 is replaced: it can be no command.
    fn text(&mut self) -> Option<String> {
        let end = memchr::memchr(0, &self.0)?;
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0.advance(end + 1);
        Some(text)
    }

    fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        (length <= self.0.len()).then(|| self.0.advance(length))
    }

    /// `S` and a statement's name, or `P` and a portal's.
    fn named(
        &mut self,
        statement: impl FnOnce(String) -> Request,
        portal: impl FnOnce(String) -> Request,
    ) -> Option<Request> {
        match self.0.try_get_u8().ok()? {
            b'S' => self.text().map(statement),
            b'P' => self.text().map(portal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(tag: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[tag][..]);
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn messages_are_read_whole_or_refused() {
        let name = || "n".to_owned();
        for (tag, body, expected) in [
            (b'Q', &b"SHOW POOLS\0"[..], Ok(Request::Query { text: "SHOW POOLS".to_owned() })),
            (b'P', b"n\0x\0\0\x01\0\0\0\x19", Ok(Request::Parse { name: name(), text: "x".to_owned() })),
            (
                b'B',
                b"\0n\0\0\x01\0\x01\0\x02\0\0\0\x03abc\xff\xff\xff\xff\0\x01\0\x01",
                Ok(Request::Bind { portal: String::new(), statement: name(), parameters: 2, formats: vec![1] }),
            ),
            (b'D', b"Sn\0", Ok(Request::DescribeStatement { name: name() })),
            (b'D', b"Pn\0", Ok(Request::DescribePortal { name: name() })),
            (b'C', b"Sn\0", Ok(Request::CloseStatement { name: name() })),
            (b'E', b"n\0\0\0\0\x07", Ok(Request::Execute { portal: name(), rows: 7 })),
            (b'E', b"n\0\xff\xff\xff\xff", Ok(Request::Execute { portal: name(), rows: 0 })),
            (b'S', b"", Ok(Request::Sync)),
            (b'Q', b"no end", Err(Malformed::Body(b'Q'))),
            (b'Q', b"two\0ends\0", Err(Malformed::Body(b'Q'))),
            (b'D', b"Xn\0", Err(Malformed::Body(b'D'))),
            (b'B', b"\0n\0\0\0\0\x01\0\0\0\xffabc", Err(Malformed::Body(b'B'))),
            (b'S', b"x", Err(Malformed::Body(b'S'))),
            (b'F', b"", Err(Malformed::Type(b'F'))),
        ] {
            assert_eq!(take(&mut framed(tag, body)), expected.map(Some), "{} {body:?}", tag as char);
        }
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        for length in [0u32, 3, BODY_BYTES_MAX as u32 + 5, u32::MAX] {
            let mut inbox = BytesMut::from(&b"Q"[..]);
            inbox.extend_from_slice(&length.to_be_bytes());
            assert_eq!(take(&mut inbox), Err(Malformed::Length(length)));
        }
        let mut whole = framed(b'Q', b"SHOW POOLS\0");
        let mut part = whole.split_to(9);
        assert_eq!(take(&mut part), Ok(None), "the rest is yet to come");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            tag in prop::sample::select(b"QPBDECHSX?".to_vec()),
            body in prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 255, b'S', b'P']), 0..40),
        ) {
            drop(take(&mut framed(tag, &body)));
        }
    }
}
