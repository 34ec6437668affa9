//! Sizes in bytes: `"1MB"`, `"64KiB"`, `65536`. Units are powers of 1024 with and without the `i`, as in PostgreSQL.

use std::fmt;

/// What [`parse_size`] reads, for messages.
pub const SIZE_FORMS: &str = "bytes, or a number with B, kB, MB, GB or TB";

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    /// The number of bytes, without a unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a size. A bare number means bytes; units don't mind their case.
///
/// # Errors
/// Says what was expected when `text` is no size, or one that 64 bits don't hold.
pub fn parse_size(text: &str) -> Result<ByteSize, String> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let refusal = || format!("{trimmed:?} is not a size: write {SIZE_FORMS}");
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refusal()),
    };
    let number: u64 = number.parse().map_err(|_| refusal())?;
    number.checked_mul(1 << shift).map(ByteSize).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, expected) in [
            ("65536", 65_536),
            ("0", 0),
            ("12B", 12),
            ("64kB", 65_536),
            ("64KiB", 65_536),
            ("1MB", 1 << 20),
            (" 16 MiB ", 16 << 20),
            ("2GB", 2 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(ByteSize(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", "-1", "1.5MB", "1 furlong", "99999999999999999999", "18446744073709551615kB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
