//! The first packet of a connection: it has no type byte, and whoever sent it has proved nothing yet.
//! Lengths are checked against [`PACKET_MAX`] before anything is computed from them.

use std::borrow::Cow;

use super::error::{ClientError, ErrorReply, SqlState};

/// A first packet may not be longer, its own length included (PostgreSQL's limit).
pub const PACKET_MAX: usize = 10_000;

/// A user's or database's name may not be longer, in bytes.
pub const NAME_MAX: usize = 127;

/// What a connection starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initial {
    /// StartupMessage: who wants to use what.
    Startup(Startup),
    /// SSLRequest: answer `S` or `N`.
    Ssl,
    /// GSSENCRequest: answer `N`.
    Gss,
    /// CancelRequest: never answered.
    Cancel(CancelKey),
}

/// The key of a CancelRequest, as BackendKeyData gave it out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Process id.
    pub pid: u32,
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// A StartupMessage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    /// Always 3.
    pub major: u16,
    /// As asked for; see [`Startup::negotiate`].
    pub minor: u16,
    /// Who logs in. Empty counts as missing.
    pub user: Option<String>,
    /// Empty counts as missing.
    pub database: Option<String>,
    /// All other parameters, `options` and `replication` too, in the order sent. Of equal names the last counts.
    pub params: Vec<(String, String)>,
    /// Names of protocol options (`_pq_.…`). None is known yet.
    pub protocol_options: Vec<String>,
}

/// A version of the protocol that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 3.0: keys of 4 bytes for cancel requests.
    V3_0,
    /// 3.2 (PostgreSQL 18): longer keys.
    V3_2,
}

impl Version {
    /// As messages carry it: major in the upper half, minor in the lower.
    pub fn number(self) -> u32 {
        match self {
            Self::V3_0 => 3 << 16,
            Self::V3_2 => (3 << 16) | 2,
        }
    }

    /// How long the secret of a cancel key is that we give out.
    pub fn cancel_secret_len(self) -> usize {
        match self {
            Self::V3_0 => 4,
            Self::V3_2 => 32,
        }
    }
}

impl Startup {
    /// The version to speak, and whether NegotiateProtocolVersion has to say so (with [`Startup::protocol_options`]).
    pub fn negotiate(&self) -> (Version, bool) {
        let version = if self.minor >= 2 { Version::V3_2 } else { Version::V3_0 };
        let as_asked = matches!(self.minor, 0 | 2) && self.protocol_options.is_empty();
        (version, !as_asked)
    }

    /// User and database; the database defaults to the user's name.
    ///
    /// # Errors
    /// [`StartupError::NoUser`], or a name longer than [`NAME_MAX`].
    pub fn identity(&self) -> Result<(&str, &str), StartupError> {
        let user = self.user.as_deref().ok_or(StartupError::NoUser)?;
        let database = self.database.as_deref().unwrap_or(user);
        match (user.len() > NAME_MAX, database.len() > NAME_MAX) {
            (true, _) => Err(StartupError::NameTooLong("username")),
            (_, true) => Err(StartupError::NameTooLong("database name")),
            _ => Ok((user, database)),
        }
    }
}

/// Whether a connection that starts with this byte speaks TLS at once, without SSLRequest: a handshake record.
pub fn is_direct_tls(first: u8) -> bool {
    first == 0x16
}

/// The length of a first packet (its own four bytes included) from those four bytes.
///
/// # Errors
/// [`StartupError::BadHeader`] unless it lies within 8 and [`PACKET_MAX`].
pub fn packet_len(head: [u8; 4]) -> Result<usize, StartupError> {
    usize::try_from(u32::from_be_bytes(head))
        .ok()
        .filter(|length| (8..=PACKET_MAX).contains(length))
        .ok_or_else(|| StartupError::bad_header(&head))
}

/// Reads a whole first packet, its length included.
///
/// # Errors
/// See [`StartupError`]; the connection ends.
pub fn parse(packet: &[u8]) -> Result<Initial, StartupError> {
    let bad_header = || StartupError::bad_header(packet);
    let (head, rest) = packet.split_first_chunk::<4>().ok_or_else(bad_header)?;
    let (code, body) = rest.split_first_chunk::<4>().ok_or_else(bad_header)?;
    if packet_len(*head)? != packet.len() {
        return Err(bad_header());
    }
    let code = u32::from_be_bytes(*code);
    match (code, (code >> 16) as u16, code as u16) {
        (SSL_REQUEST, ..) if body.is_empty() => Ok(Initial::Ssl),
        (GSSENC_REQUEST, ..) if body.is_empty() => Ok(Initial::Gss),
        (CANCEL_REQUEST, ..) => cancel_key(body).map(Initial::Cancel).ok_or_else(bad_header),
        (SSL_REQUEST | GSSENC_REQUEST, ..) => Err(bad_header()),
        (_, 3, minor) => startup(minor, body).map(Initial::Startup),
        (_, 2, _) => Err(StartupError::OldProtocol),
        (_, major, minor) => Err(StartupError::UnsupportedProtocol { major, minor }),
    }
}

/// Reads the value of the startup parameter `options` into settings, in order, as PostgreSQL splits it:
/// words end at white space, a backslash takes the next character as it is, `-` in a long name means `_`.
///
/// # Errors
/// [`StartupError::UnsupportedOptions`] for anything but `-c name=value` and `--name=value`.
pub fn parse_options(text: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut settings = Vec::new();
    let mut words = split_options(text).into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next().ok_or(StartupError::UnsupportedOptions)?,
            Some(attached) => attached.to_owned(),
            None => word.strip_prefix("--").ok_or(StartupError::UnsupportedOptions)?.to_owned(),
        };
        match setting.split_once('=') {
            Some((name, value)) if !name.is_empty() => settings.push((name.replace('-', "_"), value.to_owned())),
            _ => return Err(StartupError::UnsupportedOptions),
        }
    }
    Ok(settings)
}

/// Every character is taken exactly once, so no input can keep it from ending.
fn split_options(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' if !escaped => words.extend(word.take()),
            '\\' if !escaped => {
                escaped = true;
                word.get_or_insert_default();
            }
            _ => {
                escaped = false;
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    words
}

fn cancel_key(body: &[u8]) -> Option<CancelKey> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    (4..=256).contains(&secret.len()).then(|| CancelKey { pid: u32::from_be_bytes(*pid), secret: secret.into() })
}

fn startup(minor: u16, mut body: &[u8]) -> Result<Startup, StartupError> {
    let mut startup =
        Startup { major: 3, minor, user: None, database: None, params: Vec::new(), protocol_options: Vec::new() };
    loop {
        match body {
            [0] => return Ok(startup),
            [] | [0, ..] => return Err(StartupError::NoTerminator),
            _ => {}
        }
        let name = take_string(&mut body)?;
        let value = take_string(&mut body)?;
        startup.add(name, value)?;
    }
}

impl Startup {
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), StartupError> {
        let name = str::from_utf8(name).map_err(|_| StartupError::NotUtf8)?;
        let value = match str::from_utf8(value) {
            Ok(value) => value.to_owned(),
            // Free text that programs set from file names; PostgreSQL replaces what isn't ASCII there.
            Err(_) if name == "application_name" => ascii_only(value),
            Err(_) => return Err(StartupError::NotUtf8),
        };
        match name {
            "user" => self.user = Some(value).filter(|user| !user.is_empty()),
            "database" => self.database = Some(value).filter(|database| !database.is_empty()),
            _ if name.starts_with("_pq_.") => self.protocol_options.push(name.to_owned()),
            _ => self.params.push((name.to_owned(), value)),
        }
        Ok(())
    }
}

fn take_string<'a>(body: &mut &'a [u8]) -> Result<&'a [u8], StartupError> {
    let end = memchr::memchr(0, body).ok_or(StartupError::NoTerminator)?;
    let text = &body[..end];
    *body = &body[end + 1..];
    Ok(text)
}

fn ascii_only(text: &[u8]) -> String {
    text.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect()
}

/// Why a first packet was refused. All are the client's fault and end its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupError {
    /// Length or code can't be; holds up to the first eight bytes in hexadecimal.
    BadHeader(String),
    /// Protocol 2.
    OldProtocol,
    /// Some other protocol.
    UnsupportedProtocol {
        /// As asked for.
        major: u16,
        /// As asked for.
        minor: u16,
    },
    /// The list of parameters doesn't end where the packet does.
    NoTerminator,
    /// A name or value isn't UTF-8.
    NotUtf8,
    /// No user was named.
    NoUser,
    /// This name is longer than [`NAME_MAX`].
    NameTooLong(&'static str),
    /// `options` holds something else than settings.
    UnsupportedOptions,
}

impl StartupError {
    fn bad_header(packet: &[u8]) -> Self {
        Self::BadHeader(packet.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl ClientError for StartupError {
    fn reply(&self) -> ErrorReply {
        let (code, message): (_, Cow<'static, str>) = match self {
            Self::BadHeader(hex) => (SqlState::PROTOCOL_VIOLATION, format!("bad packet header: '{hex}'").into()),
            Self::OldProtocol => (SqlState::NOT_SUPPORTED, "old V2 protocol not supported".into()),
            Self::UnsupportedProtocol { major, minor } => (
                SqlState::NOT_SUPPORTED,
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2").into(),
            ),
            Self::NoTerminator => {
                (SqlState::PROTOCOL_VIOLATION, "invalid startup packet layout: expected terminator as last byte".into())
            }
            Self::NotUtf8 => (SqlState(*b"22021"), "startup packet is not valid UTF-8".into()),
            Self::NoUser => (SqlState::INVALID_AUTHORIZATION, "no username supplied".into()),
            Self::NameTooLong(what) => (SqlState::INVALID_AUTHORIZATION, format!("{what} too long").into()),
            Self::UnsupportedOptions => (
                SqlState::NOT_SUPPORTED,
                "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed".into(),
            ),
        };
        ErrorReply::fatal(code, message)
    }
}

const CANCEL_REQUEST: u32 = (1234 << 16) | 5678;
const SSL_REQUEST: u32 = (1234 << 16) | 5679;
const GSSENC_REQUEST: u32 = (1234 << 16) | 5680;

#[cfg(test)]
mod tests;
