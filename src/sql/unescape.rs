//! Escapes in strings and names, resolved as PostgreSQL does: `\n` and its like, `\u00e9`, `U&'\00e9'`.

use std::borrow::Cow;

/// Which characters an escape may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// All; they become UTF-8.
    Any,
    /// Only ASCII: what others become depends on an encoding that isn't known here.
    OnlyAscii,
}

/// `content` with each doubled `quote` made one.
pub(super) fn doubled(content: &[u8], quote: u8) -> Cow<'_, [u8]> {
    if !content.contains(&quote) {
        return Cow::Borrowed(content);
    }
    let mut out = Vec::with_capacity(content.len());
    let mut at = 0;
    while let Some(&byte) = content.get(at) {
        out.push(byte);
        at += if byte == quote { 2 } else { 1 };
    }
    Cow::Owned(out)
}

/// What an escape string says; `None` for an escape that PostgreSQL rejects or that can't be encoded.
pub(super) fn backslashes(content: &[u8], allowed: Escape) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(content.len());
    let mut high = None;
    let mut at = 0;
    while let Some(&byte) = content.get(at) {
        if byte != b'\\' {
            out.push(byte);
            at += 1;
            no_half(high)?;
            continue;
        }
        let escaped = *content.get(at + 1)?;
        at += 2;
        match escaped {
            b'u' | b'U' => {
                let digits = if escaped == b'u' { 4 } else { 8 };
                push(&mut out, &mut high, number(content.get(at..at + digits)?, 16)?, allowed)?;
                at += digits;
                continue;
            }
            b'0'..=b'7' => at = coded(content, at - 1, 3, 8, &mut out)?,
            b'x' if content.get(at).is_some_and(u8::is_ascii_hexdigit) => at = coded(content, at, 2, 16, &mut out)?,
            _ => out.push(match escaped {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => other,
            }),
        }
        no_half(high)?;
    }
    no_half(high).map(|()| out)
}

/// What a string or name with `U&` before it says.
pub(super) fn unicode(content: &[u8], escape: u8, allowed: Escape) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(content.len());
    let mut high = None;
    let mut at = 0;
    while let Some(&byte) = content.get(at) {
        if byte != escape {
            no_half(high)?;
            out.push(byte);
            at += 1;
            continue;
        }
        let next = *content.get(at + 1)?;
        if next == escape {
            no_half(high)?;
            out.push(escape);
            at += 2;
            continue;
        }
        let (skip, digits) = if next == b'+' { (2, 6) } else { (1, 4) };
        let code = number(content.get(at + skip..at + skip + digits)?, 16)?;
        push(&mut out, &mut high, code, allowed)?;
        at += skip + digits;
    }
    no_half(high).map(|()| out)
}

/// A byte given as up to `most` digits from `at` on; the position behind them.
fn coded(content: &[u8], at: usize, most: usize, radix: u32, out: &mut Vec<u8>) -> Option<usize> {
    let rest = &content[at..];
    let digits = rest.iter().take(most).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let code = number(&rest[..digits], radix)?;
    // PostgreSQL keeps the low eight bits, checks the encoding, and takes no NUL.
    let byte = u8::try_from(code & 0xFF).ok().filter(|byte| *byte != 0)?;
    out.push(byte);
    Some(at + digits)
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix)?.checked_add(digit)
    })
}

/// Appends a character, or keeps the first half of a surrogate pair in `high`.
fn push(out: &mut Vec<u8>, high: &mut Option<u32>, code: u32, allowed: Escape) -> Option<()> {
    let code = match (high.take(), code) {
        (None, 0xD800..=0xDBFF) => {
            *high = Some(code);
            return Some(());
        }
        (Some(first), 0xDC00..=0xDFFF) => 0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00),
        (Some(_), _) => return None,
        (None, code) => code,
    };
    let character = char::from_u32(code).filter(|character| *character != '\0')?;
    if allowed == Escape::OnlyAscii && !character.is_ascii() {
        return None;
    }
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

/// Half of a surrogate pair must be followed by the other half.
fn no_half(high: Option<u32>) -> Option<()> {
    high.is_none().then_some(())
}
