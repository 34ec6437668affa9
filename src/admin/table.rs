//! Rows of a SHOW, and the messages that carry them: RowDescription, DataRow. In text, and in binary for drivers
//! that ask for it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::wire::tag::backend;

/// Type of a column. A number too great for its type is shown as the greatest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// text
    Text,
    /// integer
    Int4,
    /// bigint
    Int8,
    /// numeric
    Numeric,
}

impl Type {
    /// The type's OID in `pg_type`.
    pub fn oid(self) -> u32 {
        match self {
            Self::Text => 25,
            Self::Int4 => 23,
            Self::Int8 => 20,
            Self::Numeric => 1700,
        }
    }

    /// `typlen`: bytes, or -1 for what varies.
    fn length(self) -> i16 {
        match self {
            Self::Int4 => 4,
            Self::Int8 => 8,
            Self::Text | Self::Numeric => -1,
        }
    }
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// NULL
    Null,
    /// A text.
    Text(Cow<'static, str>),
    /// A number; the console has no negative ones.
    Number(u64),
}

/// What a SHOW answers. Each row has as many cells as there are columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The columns.
    pub columns: &'static [Column],
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

/// How a value is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// In the type's own binary form.
    Binary,
}

/// Formats of a result, as Bind asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formats {
    /// One for all columns.
    All(Format),
    /// One for each column.
    Each(Vec<Format>),
}

impl Formats {
    /// The format of one column.
    pub fn of(&self, column: usize) -> Format {
        match self {
            Self::All(format) => *format,
            Self::Each(formats) => formats.get(column).copied().unwrap_or(Format::Text),
        }
    }
}

/// Appends a RowDescription.
pub fn describe(columns: &[Column], formats: &Formats, out: &mut BytesMut) {
    message(out, backend::ROW_DESCRIPTION, |out| {
        out.put_u16(count(columns.len()));
        for (at, column) in columns.iter().enumerate() {
            out.put_slice(column.name.as_bytes());
            out.put_u8(0);
            out.put_u32(0); // no table
            out.put_u16(0); // nor column of one
            out.put_u32(column.kind.oid());
            out.put_i16(column.kind.length());
            out.put_i32(-1); // no modifier
            out.put_u16(u16::from(formats.of(at) == Format::Binary));
        }
    });
}

/// Appends a DataRow.
pub fn data_row(columns: &[Column], row: &[Cell], formats: &Formats, out: &mut BytesMut) {
    message(out, backend::DATA_ROW, |out| {
        out.put_u16(count(columns.len()));
        for (at, (column, cell)) in columns.iter().zip(row).enumerate() {
            put_cell(column.kind, cell, formats.of(at), out);
        }
    });
}

/// Appends a message: tag, length, and the body that `body` writes.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    body(out);
    put_length(out, start, 0);
}

/// Fills the four bytes at `start` with the length of what follows, less `own`.
fn put_length(out: &mut BytesMut, start: usize, own: usize) {
    let length = u32::try_from(out.len() - start - own).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn count(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

fn put_cell(kind: Type, cell: &Cell, format: Format, out: &mut BytesMut) {
    let start = out.len();
    match cell {
        Cell::Null => return out.put_i32(-1),
        Cell::Text(text) => {
            out.put_u32(0);
            out.put_slice(text.as_bytes());
        }
        Cell::Number(number) => {
            out.put_u32(0);
            put_number(kind, *number, format, out);
        }
    }
    put_length(out, start, 4);
}

fn put_number(kind: Type, number: u64, format: Format, out: &mut BytesMut) {
    let small = i32::try_from(number).unwrap_or(i32::MAX);
    let big = i64::try_from(number).unwrap_or(i64::MAX);
    match (kind, format) {
        (Type::Int4, Format::Binary) => out.put_i32(small),
        (Type::Int8, Format::Binary) => out.put_i64(big),
        (Type::Numeric, Format::Binary) => put_numeric(number, out),
        (Type::Int4, Format::Text) => out.put_slice(small.to_string().as_bytes()),
        (Type::Int8, Format::Text) => out.put_slice(big.to_string().as_bytes()),
        (Type::Numeric, Format::Text) | (Type::Text, _) => out.put_slice(number.to_string().as_bytes()),
    }
}

/// A numeric as `numeric_send` writes it: digits of base 10,000, weight of the first, sign, scale.
fn put_numeric(number: u64, out: &mut BytesMut) {
    let mut digits = Vec::with_capacity(5);
    let mut rest = number;
    while rest > 0 {
        digits.push(u16::try_from(rest % 10_000).unwrap_or(0));
        rest /= 10_000;
    }
    let weight = count(digits.len().saturating_sub(1));
    digits.reverse();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    out.put_u16(count(digits.len()));
    out.put_u16(weight);
    out.put_u16(0); // positive
    out.put_u16(0); // no decimals
    digits.into_iter().for_each(|digit| out.put_u16(digit));
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<&Arc<str>> for Cell {
    fn from(text: &Arc<str>) -> Self {
        Self::Text(Cow::Owned(text.to_string()))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column { name: "name", kind: Type::Text },
        Column { name: "small", kind: Type::Int4 },
        Column { name: "big", kind: Type::Int8 },
        Column { name: "sum", kind: Type::Numeric },
    ];

    #[test]
    fn a_description_carries_name_type_length_and_format() {
        let mut out = BytesMut::new();
        describe(&COLUMNS[..2], &Formats::Each(vec![Format::Text, Format::Binary]), &mut out);
        let mut expected = vec![b'T', 0, 0, 0, 53, 0, 2];
        expected.extend_from_slice(b"name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        expected.extend_from_slice(b"small\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01");
        assert_eq!(&out[..], expected);
    }

    #[test]
    fn rows_are_text_unless_binary_is_asked_for() {
        let row = [Cell::Null, Cell::Number(u64::MAX), Cell::Number(7), Cell::Number(7)];
        let mut out = BytesMut::new();
        data_row(COLUMNS, &row, &Formats::All(Format::Text), &mut out);
        assert_eq!(&out[..], b"D\0\0\0\x22\0\x04\xff\xff\xff\xff\0\0\0\x0a2147483647\0\0\0\x017\0\0\0\x017");
        out.clear();
        data_row(COLUMNS, &row, &Formats::All(Format::Binary), &mut out);
        let mut expected =
            b"D\0\0\0\x2c\0\x04\xff\xff\xff\xff\0\0\0\x04\x7f\xff\xff\xff\0\0\0\x08\0\0\0\0\0\0\0\x07".to_vec();
        expected.extend_from_slice(b"\0\0\0\x0a\0\x01\0\0\0\0\0\0\0\x07");
        assert_eq!(&out[..], expected);
    }

    #[test]
    fn numerics_drop_trailing_groups_of_zeros() {
        for (number, words) in [
            (0, vec![0, 0, 0, 0]),
            (1, vec![1, 0, 0, 0, 1]),
            (10_000, vec![1, 1, 0, 0, 1]),
            (10_001, vec![2, 1, 0, 0, 1, 1]),
            (u64::MAX, vec![5, 4, 0, 0, 1844, 6744, 737, 955, 1615]),
        ] {
            let mut out = BytesMut::new();
            put_numeric(number, &mut out);
            let found: Vec<u16> = out.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            assert_eq!(found, words, "{number}");
        }
    }
}
