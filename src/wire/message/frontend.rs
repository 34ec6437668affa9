//! What we say to PostgreSQL.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::{SASLInitialResponse, SASLResponse, SecretKey, SslRequest};
use pgwire::messages::terminate::Terminate;

use super::{put, put_by_hand, put_string};
use crate::wire::startup::Version;
use crate::wire::tag::frontend;

/// StartupMessage. By hand: values are bytes, and their order is kept.
/// A NUL in a name or value would start another parameter, so such a one is left out.
pub fn startup<'a>(out: &mut BytesMut, version: Version, params: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    put_by_hand(out, None, |out| {
        out.put_u32(version.number());
        for (name, value) in params {
            if !name.is_empty() && !name.contains(&0) && !value.contains(&0) {
                put_string(out, name);
                put_string(out, value);
            }
        }
        out.put_u8(0);
    });
}

/// SSLRequest.
pub fn ssl_request(out: &mut BytesMut) {
    put(out, &SslRequest::new());
}

/// CancelRequest; `secret` has 4 to 256 bytes.
pub fn cancel_request(out: &mut BytesMut, pid: u32, secret: &[u8]) {
    put(out, &CancelRequest::new(pid.cast_signed(), SecretKey::Bytes(Bytes::copy_from_slice(secret))));
}

/// PasswordMessage. By hand: a password is bytes.
pub fn password(out: &mut BytesMut, password: &[u8]) {
    put_by_hand(out, Some(frontend::PASSWORD), |out| put_string(out, password));
}

/// SASLInitialResponse.
pub fn sasl_initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    put(out, &SASLInitialResponse::new(mechanism.to_owned(), Some(Bytes::copy_from_slice(data))));
}

/// SASLResponse.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    put(out, &SASLResponse::new(Bytes::copy_from_slice(data)));
}

/// Query.
pub fn query(out: &mut BytesMut, text: &str) {
    put(out, &Query::new(text.to_owned()));
}

/// Terminate.
pub fn terminate(out: &mut BytesMut) {
    put(out, &Terminate::new());
}
