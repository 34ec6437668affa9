//! A client that speaks by the byte: what no driver would send.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pglifeguard::wire::error::ErrorFields;

/// A message of the pooler's: its tag and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// An error as `SQLSTATE message`; other messages as their tag.
    pub(crate) fn text(&self) -> String {
        if self.tag != b'E' {
            return char::from(self.tag).to_string();
        }
        let fields = ErrorFields::parse(&self.body);
        let message = String::from_utf8_lossy(fields.message.unwrap_or_default());
        format!("{} {message}", fields.code.map_or_else(|| "?????".to_owned(), |code| code.as_str().to_owned()))
    }

    /// The hint of an error.
    pub(crate) fn hint(&self) -> String {
        String::from_utf8_lossy(ErrorFields::parse(&self.body).hint.unwrap_or_default()).into_owned()
    }
}

trait Socket: Read + Write + Send + std::fmt::Debug {
    fn no_more(&self) -> io::Result<()>;
    fn cut(&self) -> io::Result<()>;
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    fn another(&self) -> io::Result<Box<dyn Socket>>;
    fn patience(&self, limit: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn another(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn patience(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }

    fn no_more(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn cut(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Self::set_nonblocking(self, nonblocking)
    }
}

impl Socket for UnixStream {
    fn another(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn patience(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }

    fn no_more(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn cut(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Self::set_nonblocking(self, nonblocking)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Raw(Box<dyn Socket>);

impl Raw {
    /// Over TCP.
    pub(crate) fn tcp(port: u16) -> Self {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the pooler listens");
        socket.set_read_timeout(Some(LIMIT)).and_then(|()| socket.set_write_timeout(Some(LIMIT))).expect("set");
        Self(Box::new(socket))
    }

    /// Over a Unix socket.
    pub(crate) fn unix(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("the pooler listens");
        socket.set_read_timeout(Some(LIMIT)).and_then(|()| socket.set_write_timeout(Some(LIMIT))).expect("set");
        Self(Box::new(socket))
    }

    /// Over TCP, logged in as `user` where that needs no password.
    pub(crate) fn trusted(port: u16, user: &str, database: &str) -> Self {
        let mut client = Self::tcp(port);
        client.send(&startup(V3_0, &[("user", user), ("database", database)]));
        let answer = client.until(b'Z');
        assert_eq!(answer.last().map(|last| last.tag), Some(b'Z'), "{answer:?}");
        client
    }

    /// Over TCP, logged in by protocol `version` as `app` where that needs no password; with the key for cancel requests.
    pub(crate) fn with_key(port: u16, version: u32) -> (Self, Vec<u8>) {
        let mut client = Self::tcp(port);
        client.send(&startup(version, &[("user", "app"), ("database", "app")]));
        let answer = client.until(b'Z');
        let key = answer.into_iter().find(|message| message.tag == b'K').expect("a key");
        (client, key.body)
    }

    /// Whether the other side is silent and has not hung up.
    pub(crate) fn is_open(&mut self) -> bool {
        self.0.set_nonblocking(true).expect("a socket");
        let read = self.0.read(&mut [0]);
        self.0.set_nonblocking(false).expect("a socket");
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes. That the other side has hung up shows when reading.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Writes until the other side takes nothing for so long; how many bytes it has taken.
    pub(crate) fn send_while_taken(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.0.patience(patience).expect("set");
        let mut taken = 0;
        while taken < bytes.len() {
            match self.0.write(&bytes[taken..]) {
                Ok(size) => taken += size,
                Err(error) if is_timeout(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.0.patience(LIMIT).expect("set");
        taken
    }

    /// The same connection, for another thread.
    pub(crate) fn another(&self) -> Self {
        Self(self.0.another().expect("a file descriptor"))
    }

    /// Ends the connection, for who else has it, too.
    pub(crate) fn cut(&mut self) {
        let _ = self.0.cut();
    }

    /// Says that no more will come.
    pub(crate) fn no_more(&mut self) {
        let _ = self.0.no_more();
    }

    /// Reads so many bytes; fewer at the end of the connection.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let filled = self.fill(&mut bytes);
        bytes.truncate(filled);
        bytes
    }

    /// As [`Self::bytes`], into memory that is there.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.0.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if is_timeout(&error) => panic!("no answer within {LIMIT:?}"),
                Err(_) => break,
            }
        }
        filled
    }

    /// The next message; `None` at the end of the connection.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let head = self.bytes(5);
        let [tag, a, b, c, d] = *head else { return None };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let body = self.bytes(length - 4);
        (body.len() == length - 4).then_some(Message { tag, body })
    }

    /// Messages up to the first with this tag, or to the end of the connection.
    pub(crate) fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.message() {
            messages.push(message);
            if messages.last().is_some_and(|last| last.tag == tag) {
                break;
            }
        }
        messages
    }

    /// Every message up to the end of the connection, as text.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.until(0).iter().map(Message::text).collect()
    }

    /// What a simple query answers, up to ReadyForQuery: the first column of its rows, errors as text.
    pub(crate) fn query(&mut self, sql: &str) -> Vec<String> {
        self.send(&query(sql));
        let text = |message: Message| match message.tag {
            b'D' => Some(String::from_utf8_lossy(message.body.get(6..).unwrap_or_default()).into_owned()),
            b'E' => Some(message.text()),
            _ => None,
        };
        self.until(b'Z').into_iter().filter_map(text).collect()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A message with its length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short one");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A simple query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// A Parse that leaves the types to the server.
pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat())
}

/// A Parse that names the types of its parameters.
pub(crate) fn parse_with_types(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let count = u16::try_from(types.len()).expect("few").to_be_bytes();
    let mut body = [name.as_bytes(), b"\0", sql.as_bytes(), b"\0", &count].concat();
    types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
    message(b'P', &body)
}

/// A Bind with values in text form.
pub(crate) fn bind(portal: &str, statement: &str, values: &[&[u8]]) -> Vec<u8> {
    let count = u16::try_from(values.len()).expect("few").to_be_bytes();
    let mut body = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0", &count].concat();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).expect("below 4 GiB").to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend_from_slice(b"\0\0");
    message(b'B', &body)
}

/// An Execute of at most `limit` rows; 0: all.
pub(crate) fn execute(portal: &str, limit: u32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0", &limit.to_be_bytes()].concat())
}

/// A Describe or Close, of a statement (`S`) or a portal (`P`).
pub(crate) fn target(tag: u8, kind: u8, name: &str) -> Vec<u8> {
    message(tag, &[&[kind], name.as_bytes(), b"\0"].concat())
}

/// Parse, Bind and Execute of an unnamed statement without parameters.
pub(crate) fn extended(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0)].concat()
}

/// Sync, to be put together with others.
pub(crate) fn sync() -> Vec<u8> {
    SYNC.to_vec()
}

/// Sync.
pub(crate) const SYNC: &[u8] = b"S\0\0\0\x04";
/// Flush.
pub(crate) const FLUSH: &[u8] = b"H\0\0\0\x04";

/// A packet without a tag, as connections begin with.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("a short one");
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A startup packet.
pub(crate) fn startup(version: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> =
        params.iter().flat_map(|(name, value)| [name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat()).collect();
    body.push(0);
    packet(version, &body)
}

pub(crate) const V3_0: u32 = 3 << 16;
pub(crate) const V3_2: u32 = V3_0 | 2;
pub(crate) const SSL_REQUEST: u32 = (1234 << 16) | 5679;
pub(crate) const GSS_REQUEST: u32 = (1234 << 16) | 5680;
pub(crate) const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;

const LIMIT: Duration = Duration::from_secs(30);
