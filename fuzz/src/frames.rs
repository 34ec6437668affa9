//! Frames and the bodies that are read at login: whatever the bytes, lengths hold, and where a stream is cut does not
//! change what is read.

use bytes::BytesMut;
use pglifeguard::wire::error::{ErrorFields, ErrorReply, SqlState};
use pglifeguard::wire::frame::{FrameError, HEADER, Head, NAMES_MAX, bind_head, c_string, header, parse_head, target};
use pglifeguard::wire::message::read;
use pglifeguard::wire::message::{TxStatus, backend, frontend};

use super::input::whole_frames;

/// A stream of frames.
pub fn run(data: &[u8]) {
    let mut rest = data;
    for max in [64, 1 << 20, u32::MAX as usize].into_iter().cycle() {
        let Ok(Some(head)) = header(rest, max) else { break };
        assert!(head.total > 4 && head.total <= max.saturating_add(1));
        let have = &rest[..rest.len().min(head.total)];
        names(have, head.total);
        if have.len() < head.total {
            break;
        }
        bodies(have[0], &have[HEADER..]);
        rest = &rest[head.total..];
    }
    bodies(0, data);
}

/// The names at a frame's front are the same however much of it is here.
fn names(have: &[u8], total: usize) {
    let whole = bind_head(have, total);
    if let Ok(Head::Known(known)) = &whole {
        assert!(known.size <= have.len());
        assert_eq!(known.size, HEADER + known.portal.len() + known.statement.len() + 2);
    }
    same_of_every_front(have, &whole, |front| bind_head(front, total));
    same_of_every_front(have, &parse_head(have, total), |front| parse_head(front, total));
    if have.len() == total
        && let Ok((kind, name)) = target(have)
    {
        assert!(matches!(kind, b'S' | b'P') && !name.contains(&0) && HEADER + name.len() + 2 == total);
    }
}

fn same_of_every_front<'a, T: PartialEq + std::fmt::Debug>(
    have: &'a [u8],
    whole: &Result<Head<T>, FrameError>,
    read: impl Fn(&'a [u8]) -> Result<Head<T>, FrameError>,
) {
    for end in (HEADER..have.len()).take(200) {
        match read(&have[..end]) {
            Ok(Head::More) => {}
            front => assert!(front == *whole || end >= NAMES_MAX, "{front:?} of {end} bytes, {whole:?} of all"),
        }
    }
}

/// What reads back is written as it came.
fn bodies(tag: u8, body: &[u8]) {
    if let Some((text, size)) = c_string(body) {
        assert!(text.len() + 1 == size && body[text.len()] == 0);
    }
    let _ = (read::authentication(body), read::negotiate_protocol_version(body));
    if let Some((name, value)) = read::parameter_status(body) {
        same(body, |out| backend::parameter_status(out, name, value));
    }
    if let Some((pid, secret)) = read::backend_key_data(body) {
        same(body, |out| backend::backend_key_data(out, pid, secret));
    }
    if let Some(password) = read::password(body) {
        same(body, |out| frontend::password(out, password));
    }
    if let Some((mechanism, Some(data))) = read::sasl_initial_response(body)
        && let Ok(mechanism) = str::from_utf8(mechanism)
    {
        same(body, |out| frontend::sasl_initial_response(out, mechanism, data));
    }
    if let Some(status) = read::ready_for_query(body) {
        assert!(matches!(status, TxStatus::Idle | TxStatus::InTransaction | TxStatus::Failed));
        same(body, |out| backend::ready_for_query(out, status));
    }
    let fields = ErrorFields::parse(body);
    let text = String::from_utf8_lossy(fields.message.unwrap_or_default()).into_owned();
    let mut out = BytesMut::new();
    ErrorReply::error(fields.code.unwrap_or(SqlState([tag; 5])), text).encode(&mut out);
    assert!(whole_frames(&out, b"E").is_empty());
}

fn same(body: &[u8], write: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    write(&mut out);
    assert_eq!(&out[HEADER..], body);
}
