//! Readers of what is said at login. Each is given the body of one whole frame, and is `None` for what it can't be.

use super::TxStatus;

/// What a server asks for, or that it is content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// The login succeeded.
    Ok,
    /// Asks for the password itself.
    Cleartext,
    /// Asks for an md5 answer to this salt.
    Md5([u8; 4]),
    /// Offers these mechanisms.
    Sasl(Vec<&'a [u8]>),
    /// The server's word within an exchange.
    SaslContinue(&'a [u8]),
    /// The server's last word.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI, SCM credentials: by number.
    Other(u32),
}

/// The authentication messages.
pub fn authentication(body: &[u8]) -> Option<Authentication<'_>> {
    let (code, rest) = body.split_first_chunk::<4>()?;
    Some(match (u32::from_be_bytes(*code), rest) {
        (0, []) => Authentication::Ok,
        (3, []) => Authentication::Cleartext,
        (5, salt) => Authentication::Md5(salt.try_into().ok()?),
        (10, list) => Authentication::Sasl(mechanisms(list)?),
        (11, data) => Authentication::SaslContinue(data),
        (12, data) => Authentication::SaslFinal(data),
        (0 | 3, _) => return None,
        (other, _) => Authentication::Other(other),
    })
}

fn mechanisms(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    loop {
        match string(&mut list)? {
            b"" => return list.is_empty().then_some(names),
            name => names.push(name),
        }
    }
}

/// ParameterStatus: name and value. A name that isn't UTF-8 is none.
pub fn parameter_status(mut body: &[u8]) -> Option<(&str, &[u8])> {
    let name = string(&mut body)?;
    let value = string(&mut body)?;
    let name = str::from_utf8(name).ok()?;
    (body.is_empty() && !name.is_empty()).then_some((name, value))
}

/// BackendKeyData: process id and a secret of 4 to 256 bytes.
pub fn backend_key_data(body: &[u8]) -> Option<(u32, &[u8])> {
    let (pid, secret) = body.split_first_chunk::<4>()?;
    (4..=256).contains(&secret.len()).then_some((u32::from_be_bytes(*pid), secret))
}

/// NegotiateProtocolVersion: the version (old servers send the minor number only) and the options it doesn't know.
pub fn negotiate_protocol_version(body: &[u8]) -> Option<(u32, Vec<&[u8]>)> {
    let (version, rest) = body.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut options = Vec::new();
    // The count isn't believed: each option takes at least its terminator, so the list ends with the body.
    for _ in 0..u32::from_be_bytes(*count) {
        options.push(string(&mut rest)?);
    }
    rest.is_empty().then_some((u32::from_be_bytes(*version), options))
}

/// ReadyForQuery.
pub fn ready_for_query(body: &[u8]) -> Option<TxStatus> {
    match body {
        [status] => TxStatus::from_byte(*status),
        _ => None,
    }
}

/// PasswordMessage of a client.
pub fn password(mut body: &[u8]) -> Option<&[u8]> {
    let password = string(&mut body)?;
    body.is_empty().then_some(password)
}

/// SASLInitialResponse of a client: mechanism, and the first word if it came along.
pub fn sasl_initial_response(mut body: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mechanism = string(&mut body)?;
    let (length, data) = body.split_first_chunk::<4>()?;
    match i32::from_be_bytes(*length) {
        -1 => data.is_empty().then_some((mechanism, None)),
        length => (usize::try_from(length) == Ok(data.len())).then_some((mechanism, Some(data))),
    }
}

fn string<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr::memchr(0, body)?;
    let text = &body[..end];
    *body = &body[end + 1..];
    Some(text)
}
