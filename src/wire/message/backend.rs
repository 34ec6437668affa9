//! What we say to clients.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::data::{DataRow, FORMAT_CODE_TEXT, FieldDescription, RowDescription};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};

use super::{TxStatus, put, put_by_hand, put_string};
use crate::wire::startup::Version;
use crate::wire::tag::backend;

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    put(out, &Authentication::Ok);
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext(out: &mut BytesMut) {
    put(out, &Authentication::CleartextPassword);
}

/// AuthenticationMD5Password.
pub fn authentication_md5(out: &mut BytesMut, salt: [u8; 4]) {
    put(out, &Authentication::MD5Password(salt.into()));
}

/// AuthenticationSASL, the preferred mechanism first.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    put(out, &Authentication::SASL(mechanisms.iter().map(|&name| name.to_owned()).collect()));
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    put(out, &Authentication::SASLContinue(Bytes::copy_from_slice(data)));
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut BytesMut, data: &[u8]) {
    put(out, &Authentication::SASLFinal(Bytes::copy_from_slice(data)));
}

/// ParameterStatus. By hand: a value is bytes, in whatever encoding the server has.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &[u8]) {
    put_by_hand(out, Some(backend::PARAMETER_STATUS), |out| {
        put_string(out, name.as_bytes());
        put_string(out, value);
    });
}

/// BackendKeyData; `secret` has 4 to 256 bytes.
pub fn backend_key_data(out: &mut BytesMut, pid: u32, secret: &[u8]) {
    put(out, &BackendKeyData::new(pid.cast_signed(), SecretKey::Bytes(Bytes::copy_from_slice(secret))));
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TxStatus) {
    let status = match status {
        TxStatus::Idle => TransactionStatus::Idle,
        TxStatus::InTransaction => TransactionStatus::Transaction,
        TxStatus::Failed => TransactionStatus::Error,
    };
    put(out, &ReadyForQuery::new(status));
}

/// NegotiateProtocolVersion: the version that is spoken, and the protocol options that aren't known.
pub fn negotiate_protocol_version(out: &mut BytesMut, version: Version, unknown: &[String]) {
    put(out, &NegotiateProtocolVersion::new(version.number().cast_signed(), unknown.to_vec()));
}

/// Types of the console's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// text
    Text,
    /// int4
    Int4,
    /// int8
    Int8,
    /// numeric
    Numeric,
}

impl ColumnType {
    /// Object id and size in `pg_type`.
    fn oid_and_size(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
        }
    }
}

/// RowDescription of text-format columns that belong to no table.
pub fn row_description<'a>(out: &mut BytesMut, columns: impl IntoIterator<Item = (&'a str, ColumnType)>) {
    let field = |(name, kind): (&str, ColumnType)| {
        let (oid, size) = kind.oid_and_size();
        FieldDescription::new(name.to_owned(), 0, 0, oid, size, -1, FORMAT_CODE_TEXT)
    };
    put(out, &RowDescription::new(columns.into_iter().map(field).collect()));
}

/// DataRow of values in text format; `None` is NULL. Up to 32,767 of them.
pub fn data_row<'a>(out: &mut BytesMut, values: impl IntoIterator<Item = Option<&'a [u8]>>) {
    let mut data = BytesMut::new();
    let mut count = 0;
    for value in values {
        count += 1;
        match value.map(|value| (value, i32::try_from(value.len()))) {
            Some((value, Ok(length))) => {
                data.put_i32(length);
                data.put_slice(value);
            }
            Some((_, Err(_))) | None => data.put_i32(-1),
        }
    }
    put(out, &DataRow::new(data, count));
}

/// CommandComplete.
pub fn command_complete(out: &mut BytesMut, tag: &str) {
    put(out, &CommandComplete::new(tag.to_owned()));
}

/// EmptyQueryResponse.
pub fn empty_query_response(out: &mut BytesMut) {
    put(out, &EmptyQueryResponse::new());
}
