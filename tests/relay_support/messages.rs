//! Messages as bytes, for tests: built in one line, shown in one word.

#![allow(dead_code, reason = "each test binary uses its own part")]

/// A frame.
pub(crate) fn frame(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(length).expect("a test's frame is small").to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"])
}

pub(crate) fn parse(name: &str, text: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"])
}

/// With one parameter, in text form.
pub(crate) fn bind(portal: &str, statement: &str, value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("a test's value is small").to_be_bytes();
    let parts: [&[u8]; 7] =
        [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0\0\0\0\x01", &length, value.as_bytes(), b"\0\0"];
    frame(b'B', &parts)
}

pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[&[kind], name.as_bytes(), b"\0"])
}

pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[&[kind], name.as_bytes(), b"\0"])
}

pub(crate) fn execute(portal: &str, limit: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0", &limit.to_be_bytes()])
}

pub(crate) fn empty(tag: u8) -> Vec<u8> {
    frame(tag, &[])
}

pub(crate) fn error(severity: &str, code: &str, message: &str) -> Vec<u8> {
    told(b'E', severity, code, message)
}

pub(crate) fn notice(code: &str, message: &str) -> Vec<u8> {
    told(b'N', "WARNING", code, message)
}

pub(crate) fn told(tag: u8, severity: &str, code: &str, message: &str) -> Vec<u8> {
    let text = format!("S{severity}\0V{severity}\0C{code}\0M{message}\0\0");
    frame(tag, &[text.as_bytes()])
}

/// The length of the whole frame at the front, if it is all here.
pub(crate) fn whole(buf: &[u8]) -> Option<usize> {
    let [_, a, b, c, d, ..] = *buf else { return None };
    let total = u32::from_be_bytes([a, b, c, d]) as usize + 1;
    (buf.len() >= total).then_some(total)
}

/// All frames, each as its tag and the readable part of its body.
pub(crate) fn show(mut buf: &[u8]) -> String {
    let mut out = Vec::new();
    while let Some(total) = whole(buf) {
        let body: String = buf[5..total]
            .iter()
            .map(|&byte| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '.' })
            .take(60)
            .collect();
        out.push(format!("{}({})", buf[0] as char, body.trim_matches('.')));
        buf = &buf[total..];
    }
    if !buf.is_empty() {
        out.push(format!("{} bytes", buf.len()));
    }
    out.join(" ")
}
