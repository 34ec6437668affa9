//! Messages in one word each. `Q(select 1)` is a Query, `P(name|text)` a Parse, `B(portal|statement|value)` a Bind,
//! `D(Sname)` and `C(Pname)` a Describe and a Close of a statement or a portal, `E(portal|limit)` an Execute,
//! `d(data)`, `f(reason)`; from servers `C(tag)`, `Z(I)`, `E(code text)`, `E(FATAL code text)`, `N(text)`,
//! `S(name=value)`, `A(channel)`. Whatever may be left out is: `E` is an Execute of the unnamed portal, `Z` is `Z(I)`.
//! `300*x` in brackets stands for so many. `Q(select 1)[..7]` is the front of a message, `[7..]` the rest of it.

use super::messages::{bind, close, describe, empty, execute, frame, parse, query, told, whole};

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
}

/// The bytes of the messages in a line.
pub(crate) fn read(from: From, line: &str) -> Vec<u8> {
    words(line).iter().flat_map(|word| one(from, word)).collect()
}

/// Splits at blanks outside of brackets.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut depth = 0;
    for c in line.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 => {
                words.push(String::new());
                continue;
            }
            _ => {}
        }
        words.last_mut().expect("one at least").push(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

fn one(from: From, word: &str) -> Vec<u8> {
    let (word, range) = word.rsplit_once('[').filter(|(_, range)| range.ends_with(']')).unwrap_or((word, "]"));
    let (tag, body) = word.split_once('(').unwrap_or((word, ")"));
    let tag = tag.bytes().next().unwrap_or_else(|| panic!("no message: {word}"));
    let body = body.strip_suffix(')').unwrap_or_else(|| panic!("an open bracket: {word}"));
    let message = match from {
        From::Client => of_client(tag, &repeated(body)),
        From::Server => of_server(tag, &repeated(body)),
    };
    let at = |text: &str, default| text.parse().unwrap_or(default);
    match range.strip_suffix(']').and_then(|range| range.split_once("..")) {
        Some((start, end)) => message[at(start, 0)..at(end, message.len())].to_vec(),
        None => message,
    }
}

/// `300*x` is three hundred of them.
fn repeated(body: &str) -> String {
    let Some((before, after)) = body.split_once('*') else { return body.to_owned() };
    let text = before.trim_end_matches(|c: char| c.is_ascii_digit());
    match (before[text.len()..].parse(), after.get(..1)) {
        (Ok(count), Some(what)) => format!("{text}{}{}", what.repeat(count), &after[1..]),
        _ => body.to_owned(),
    }
}

fn of_client(tag: u8, body: &str) -> Vec<u8> {
    let part = |nth| body.split('|').nth(nth).unwrap_or_default();
    match tag {
        b'Q' => query(body),
        b'P' => parse(part(0), part(1)),
        b'B' => bind(part(0), part(1), part(2)),
        b'D' => describe(body.as_bytes()[0], &body[1..]),
        b'C' => close(body.as_bytes()[0], &body[1..]),
        b'E' => execute(part(0), part(1).parse().unwrap_or(0)),
        b'f' => frame(b'f', &[body.as_bytes(), b"\0"]),
        b'F' => frame(b'F', &[b"\0\0\0\x01\0\0\0\0\0\0"]),
        tag => frame(tag, &[body.as_bytes()]),
    }
}

fn of_server(tag: u8, body: &str) -> Vec<u8> {
    match tag {
        b'Z' => frame(b'Z', &[if body.is_empty() { b"I" } else { body.as_bytes() }]),
        b'C' | b'A' => frame(tag, &[if tag == b'A' { b"\0\0\0\x07" } else { b"" }, body.as_bytes(), b"\0"]),
        b'S' => frame(b'S', &[body.replacen('=', "\0", 1).as_bytes(), b"\0"]),
        b'E' | b'N' => {
            let severities = ["FATAL ", "PANIC ", "WARNING "];
            let default = if tag == b'E' { "ERROR" } else { "NOTICE" };
            let severity = severities.into_iter().find(|severity| body.starts_with(severity)).unwrap_or_default();
            let (code, text) = match body[severity.len()..].split_once(' ') {
                Some((code, text)) if tag == b'E' => (code, text),
                _ => ("00000", &body[severity.len()..]),
            };
            let severity = if severity.is_empty() { default } else { severity.trim_end() };
            told(tag, severity, code, text)
        }
        b'T' | b't' => frame(tag, &[b"\0\0"]),
        b'G' | b'H' | b'W' => frame(tag, &[b"\0\0\0"]),
        b'V' => frame(b'V', &[b"\xff\xff\xff\xff"]),
        tag if body.is_empty() => empty(tag),
        tag => frame(tag, &[body.as_bytes()]),
    }
}

/// Whole messages in the same words, and how many bytes they are.
pub(crate) fn show(from: From, bytes: &[u8]) -> (String, usize) {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(total) = whole(&bytes[at..]) {
        let (tag, body) = (bytes[at], &bytes[at + 5..at + total]);
        let body = match from {
            From::Client => body_of_client(tag, body),
            From::Server => body_of_server(tag, body),
        };
        let brackets = if body.is_empty() { String::new() } else { format!("({body})") };
        words.push(format!("{}{brackets}", tag.escape_ascii()));
        at += total;
    }
    (words.join(" "), at)
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > 60 && bytes.iter().all(|byte| *byte == bytes[0]) {
        return format!("{}*{}", bytes.len(), bytes[0].escape_ascii());
    }
    bytes.escape_ascii().to_string()
}

fn body_of_client(tag: u8, body: &[u8]) -> String {
    let part = |nth: usize| text(body.split(|&byte| byte == 0).nth(nth).unwrap_or_default());
    match tag {
        b'Q' | b'f' => part(0),
        b'P' => format!("{}|{}", part(0), part(1)),
        b'B' => {
            let names = format!("{}|{}", part(0), part(1));
            let start = body.iter().enumerate().filter(|(_, byte)| **byte == 0).nth(1).map_or(0, |(at, _)| at + 1);
            match &body[start..] {
                [_, _, 0, 1, _, _, _, _, value @ .., _, _] if !value.is_empty() => format!("{names}|{}", text(value)),
                _ if names == "|" => String::new(),
                _ => names,
            }
        }
        b'D' | b'C' => part(0),
        b'E' => match &body[body.len() - 4..] {
            [0, 0, 0, 0] => part(0),
            limit => format!("{}|{}", part(0), limit[3]),
        },
        b'F' => String::new(),
        _ => text(body),
    }
}

fn body_of_server(tag: u8, body: &[u8]) -> String {
    let field = |kind: u8| {
        let mut fields = body.split(|&byte| byte == 0);
        fields.find_map(|field| field.strip_prefix(&[kind])).map(text).unwrap_or_default()
    };
    match tag {
        b'C' => text(&body[..body.len() - 1]),
        b'A' => text(&body[4..body.len() - 1]),
        b'S' => text(&body[..body.len() - 1]).replacen("\\x00", "=", 1),
        b'E' => match field(b'V').as_str() {
            "ERROR" => format!("{} {}", field(b'C'), field(b'M')),
            severity => format!("{severity} {} {}", field(b'C'), field(b'M')),
        },
        b'N' => field(b'M'),
        b'T' | b't' | b'G' | b'H' | b'W' | b'V' => String::new(),
        _ => text(body),
    }
}
