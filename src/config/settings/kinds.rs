//! Kinds of values that settings have: how each is read, what is legal, how it is shown. Ranges are part of the kind.
//! Here are numbers, durations and sizes; [`super::texts`] has the rest.

use std::fmt::{Debug, Display};
use std::marker::PhantomData;
use std::time::Duration;

use super::section::{Context, Raw};
use crate::types::ByteSize;
use crate::types::size::{SIZE_FORMS, parse_size};
use crate::types::time::{DURATION_FORMS, parse_duration_in, show_seconds};

/// One kind of value.
pub trait Kind {
    /// What the program gets.
    type Value: Clone + Debug + PartialEq;
    /// How a default is written in `pooler.toml`.
    const FORM: Form = Form::Plain;

    /// Gives the value its type.
    ///
    /// # Errors
    /// Says what was expected.
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Self::Value, String>;

    /// The value as PgBouncer's console shows it.
    fn show(value: &Self::Value) -> String;

    /// What is legal, to be read after "expected".
    fn legal() -> String;
}

/// How a value is written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bare when it is a number or a boolean, else quoted.
    Plain,
    /// Always quoted.
    Text,
    /// An array; the default separates its items by commas.
    List,
}

/// The refusal of a value that may be shown.
pub(super) fn unexpected<K: Kind>(raw: &Raw<'_>) -> String {
    format!("expected {}, not {raw}", K::legal())
}

fn whole(raw: &Raw<'_>) -> Option<u64> {
    match raw {
        Raw::Number(digits, base) => u64::from_str_radix(digits, *base).ok(),
        Raw::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A whole number from `LO` to `HI`, both of which the type `T` must hold.
#[derive(Debug)]
pub struct Whole<T, const LO: u64, const HI: u64>(PhantomData<T>);

impl<T, const LO: u64, const HI: u64> Kind for Whole<T, LO, HI>
where
    T: TryFrom<u64> + Clone + Debug + PartialEq + Display,
{
    type Value = T;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<T, String> {
        whole(raw)
            .filter(|number| (LO..=HI).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &T) -> String {
        value.to_string()
    }
    fn legal() -> String {
        format!("a whole number from {LO} to {HI}")
    }
}

/// A number of which 0 means that there is none.
#[derive(Debug)]
pub struct Limit<const HI: u64>;

impl<const HI: u64> Kind for Limit<HI> {
    type Value = Option<u32>;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Option<u32>, String> {
        Whole::<u32, 0, HI>::read(raw, context).map(|number| (number > 0).then_some(number))
    }
    fn show(value: &Option<u32>) -> String {
        value.unwrap_or(0).to_string()
    }
    fn legal() -> String {
        Whole::<u32, 0, HI>::legal()
    }
}

/// On or off.
#[derive(Debug)]
pub struct Flag;

impl Kind for Flag {
    type Value = bool;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<bool, String> {
        match raw {
            Raw::Bool(value) => Some(*value),
            Raw::Number(..) => whole(raw).filter(|number| *number <= 1).map(|number| number == 1),
            Raw::Text(text) => match text.trim() {
                "1" | "true" | "on" => Some(true),
                "0" | "false" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &bool) -> String {
        u8::from(*value).to_string()
    }
    fn legal() -> String {
        "true or false (or 1 or 0)".into()
    }
}

fn duration(raw: &Raw<'_>, bare_unit: &str) -> Option<Duration> {
    match raw {
        Raw::Number(digits, 10) => parse_duration_in(digits.trim_start_matches('+'), bare_unit).ok(),
        Raw::Text(text) => parse_duration_in(text, bare_unit).ok(),
        _ => None,
    }
}

/// A duration of at least `MIN_MS` milliseconds. Bare numbers are seconds.
#[derive(Debug)]
pub struct Span<const MIN_MS: u64>;

impl<const MIN_MS: u64> Kind for Span<MIN_MS> {
    type Value = Duration;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<Duration, String> {
        duration(raw, "s")
            .filter(|value| *value >= Duration::from_millis(MIN_MS))
            .ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &Duration) -> String {
        show_seconds(*value)
    }
    fn legal() -> String {
        match MIN_MS {
            0 => format!("a duration ({DURATION_FORMS})"),
            _ => format!("a duration of at least {MIN_MS} ms ({DURATION_FORMS})"),
        }
    }
}

/// A duration of which 0 means that there is none. Bare numbers are seconds.
#[derive(Debug)]
pub struct Timeout;

impl Kind for Timeout {
    type Value = Option<Duration>;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Option<Duration>, String> {
        Span::<0>::read(raw, context).map(|value| (!value.is_zero()).then_some(value))
    }
    fn show(value: &Option<Duration>) -> String {
        show_seconds(value.unwrap_or_default())
    }
    fn legal() -> String {
        Span::<0>::legal()
    }
}

/// As [`Timeout`], but bare numbers are milliseconds, and so it is shown.
#[derive(Debug)]
pub struct TimeoutMillis;

impl Kind for TimeoutMillis {
    type Value = Option<Duration>;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<Option<Duration>, String> {
        let value = duration(raw, "ms").ok_or_else(|| unexpected::<Self>(raw))?;
        Ok((!value.is_zero()).then_some(value))
    }
    fn show(value: &Option<Duration>) -> String {
        value.unwrap_or_default().as_millis().to_string()
    }
    fn legal() -> String {
        "a duration (milliseconds, or a number with us, ms, s, min, h or d)".into()
    }
}

/// A number of bytes from `LO` to `HI`.
#[derive(Debug)]
pub struct Size<const LO: u64, const HI: u64>;

impl<const LO: u64, const HI: u64> Kind for Size<LO, HI> {
    type Value = ByteSize;
    fn read(raw: &Raw<'_>, _: &mut Context) -> Result<ByteSize, String> {
        match raw {
            Raw::Number(..) => whole(raw).map(ByteSize),
            Raw::Text(text) => parse_size(text).ok(),
            _ => None,
        }
        .filter(|size| (LO..=HI).contains(&size.0))
        .ok_or_else(|| unexpected::<Self>(raw))
    }
    fn show(value: &ByteSize) -> String {
        value.to_string()
    }
    fn legal() -> String {
        format!("a size from {LO} to {HI} bytes ({SIZE_FORMS})")
    }
}

/// The size of a kernel buffer; 0 leaves it to the system.
#[derive(Debug)]
pub struct BufferSize;

impl Kind for BufferSize {
    type Value = Option<u32>;
    fn read(raw: &Raw<'_>, context: &mut Context) -> Result<Option<u32>, String> {
        let size = Size::<0, LARGEST_BUFFER>::read(raw, context)?;
        Ok(u32::try_from(size.0).ok().filter(|size| *size > 0))
    }
    fn show(value: &Option<u32>) -> String {
        value.unwrap_or(0).to_string()
    }
    fn legal() -> String {
        Size::<0, LARGEST_BUFFER>::legal()
    }
}

const LARGEST_BUFFER: u64 = 1 << 30;
