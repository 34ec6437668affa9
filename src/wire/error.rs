//! Errors as the protocol carries them: the ones we send, and the fields we read of a server's.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::tag::backend;

/// A SQLSTATE: five characters (appendix "PostgreSQL Error Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// successful_completion
    pub const OK: Self = Self(*b"00000");
    /// warning
    pub const WARNING: Self = Self(*b"01000");
    /// connection_failure
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// transaction_resolution_unknown
    pub const RESOLUTION_UNKNOWN: Self = Self(*b"08007");
    /// protocol_violation
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// feature_not_supported
    pub const NOT_SUPPORTED: Self = Self(*b"0A000");
    /// in_failed_sql_transaction
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    /// invalid_sql_statement_name
    pub const UNKNOWN_STATEMENT: Self = Self(*b"26000");
    /// invalid_authorization_specification
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    /// invalid_password
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// invalid_parameter_value
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// invalid_catalog_name
    pub const NO_SUCH_DATABASE: Self = Self(*b"3D000");
    /// duplicate_cursor
    pub const DUPLICATE_CURSOR: Self = Self(*b"42P03");
    /// duplicate_prepared_statement
    pub const DUPLICATE_STATEMENT: Self = Self(*b"42P05");
    /// undefined_object
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// configuration_limit_exceeded
    pub const CONFIGURATION_LIMIT: Self = Self(*b"53400");
    /// program_limit_exceeded
    pub const LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// object_not_in_prerequisite_state
    pub const NOT_IN_STATE: Self = Self(*b"55000");
    /// query_canceled
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// cannot_connect_now
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// idle_session_timeout
    pub const IDLE_SESSION_TIMEOUT: Self = Self(*b"57P05");
    /// config_file_error
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    /// internal_error
    pub const INTERNAL: Self = Self(*b"XX000");

    /// The five characters; `?????` where a peer sent other bytes.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?????")
    }

    /// The first two characters.
    pub fn class(&self) -> [u8; 2] {
        [self.0[0], self.0[1]]
    }
}

/// How grave an error or notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The request failed; the connection goes on.
    Error,
    /// The connection ends.
    Fatal,
    /// Nothing failed.
    Notice,
}

impl Severity {
    /// As the protocol spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Notice => "NOTICE",
        }
    }
}

/// An error or notice for a client, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// Fields S and V.
    pub severity: Severity,
    /// Field C.
    pub code: SqlState,
    /// Field M: one line, no period.
    pub message: Cow<'static, str>,
    /// Field D.
    pub detail: Option<Cow<'static, str>>,
    /// Field H: what the reader can do.
    pub hint: Option<Cow<'static, str>>,
    /// Field R, as far as it tells anything; not passed on.
    pub routine: Routine,
}

/// Where in a server an error was found, which is told in no language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Routine {
    /// Somewhere.
    #[default]
    Other,
    /// Where a connection is given its place, whosever it is.
    Entrance,
}

impl Routine {
    /// By PostgreSQL's own names (12 to 18): for all processes, for all but superusers, by the postmaster.
    fn of(name: &[u8]) -> Self {
        match name {
            b"InitProcess" | b"InitPostgres" | b"ProcessStartupPacket" | b"BackendInitialize" => Self::Entrance,
            _ => Self::Other,
        }
    }
}

impl ErrorReply {
    /// An error that leaves the connection open.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            detail: None,
            hint: None,
            routine: Routine::Other,
        }
    }

    /// An error after which the connection is closed.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Fatal, ..Self::error(code, message) }
    }

    /// A notice.
    pub fn notice(message: impl Into<Cow<'static, str>>) -> Self {
        Self { severity: Severity::Notice, ..Self::error(SqlState::OK, message) }
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Appends the ErrorResponse or NoticeResponse.
    pub fn encode(&self, out: &mut BytesMut) {
        let tag = if self.severity == Severity::Notice { backend::NOTICE } else { backend::ERROR };
        let start = out.len();
        out.put_u8(tag);
        out.put_u32(0);
        let severity = self.severity.as_str();
        put_field(out, b'S', severity.as_bytes());
        put_field(out, b'V', severity.as_bytes());
        put_field(out, b'C', &self.code.0);
        put_field(out, b'M', self.message.as_bytes());
        for (field, text) in [(b'D', &self.detail), (b'H', &self.hint)] {
            if let Some(text) = text {
                put_field(out, field, text.as_bytes());
            }
        }
        out.put_u8(0);
        let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
        out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    }
}

/// A NUL inside would end the field early, so it is left out.
fn put_field(out: &mut BytesMut, field: u8, text: &[u8]) {
    out.put_u8(field);
    text.split(|&byte| byte == 0).for_each(|part| out.put_slice(part));
    out.put_u8(0);
}

/// Each floor's errors say through this what a client may read of them.
pub trait ClientError {
    /// The reply for the client.
    fn reply(&self) -> ErrorReply;
}

/// Fields of a server's ErrorResponse or NoticeResponse; each may be missing, bytes are as sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// Field V (or S from servers older than 9.6).
    pub severity: Option<&'a [u8]>,
    /// Field C, when it has five bytes.
    pub code: Option<SqlState>,
    /// Field M.
    pub message: Option<&'a [u8]>,
    /// Field D.
    pub detail: Option<&'a [u8]>,
    /// Field H.
    pub hint: Option<&'a [u8]>,
    /// Field R: the function that raised it.
    pub routine: Option<&'a [u8]>,
}

impl<'a> ErrorFields<'a> {
    /// Walks the body of the message. What is malformed is skipped: a server's text can't hurt us.
    pub fn parse(mut body: &'a [u8]) -> Self {
        let mut fields = Self::default();
        while let [kind, rest @ ..] = body {
            if *kind == 0 {
                break;
            }
            let Some(end) = memchr::memchr(0, rest) else { break };
            let value = &rest[..end];
            match kind {
                b'V' => fields.severity = Some(value),
                b'S' if fields.severity.is_none() => fields.severity = Some(value),
                b'C' => fields.code = value.try_into().ok().map(SqlState),
                b'M' => fields.message = Some(value),
                b'D' => fields.detail = Some(value),
                b'H' => fields.hint = Some(value),
                b'R' => fields.routine = Some(value),
                _ => {}
            }
            body = &rest[end + 1..];
        }
        fields
    }

    /// The same as an error of ours, in the server's own words; `fallback` has what the server has not said.
    pub fn reply(&self, fallback: ErrorReply) -> ErrorReply {
        let text = |field: &[u8]| Cow::Owned(String::from_utf8_lossy(field).into_owned());
        ErrorReply {
            code: self.code.unwrap_or(fallback.code),
            message: self.message.map_or(fallback.message, text),
            detail: self.detail.map(text),
            hint: self.hint.map(text),
            routine: self.routine.map_or(Routine::Other, Routine::of),
            severity: fallback.severity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_reads_back_and_a_nul_cannot_end_a_field() {
        let mut out = BytesMut::new();
        ErrorReply::fatal(SqlState::QUERY_CANCELED, "query\0_wait_timeout").hint("wait").encode(&mut out);
        assert_eq!(out[0], b'E');
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().expect("4 bytes")) as usize, out.len() - 1);
        let fields = ErrorFields::parse(&out[5..]);
        assert_eq!(fields.code, Some(SqlState::QUERY_CANCELED));
        assert_eq!(fields.message, Some(&b"query_wait_timeout"[..]));
        assert_eq!(fields.severity, Some(&b"FATAL"[..]));
    }

    #[test]
    fn a_truncated_error_gives_what_it_has() {
        assert_eq!(ErrorFields::parse(b"C12345\0Mno end").code, Some(SqlState(*b"12345")));
        assert_eq!(ErrorFields::parse(b"C123\0"), ErrorFields::default());
    }
}
