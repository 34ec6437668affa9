//! Durations as operators write them: `15`, `0.5`, `"500ms"`, `"2min"`.

use std::time::Duration;

/// What [`parse_duration`] reads, for messages.
pub const DURATION_FORMS: &str = "seconds, or a number with us, ms, s, min, h or d";

/// The longest duration that is accepted: with it, no sum of a time and a duration overflows.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Reads a duration. A bare number means seconds, as in PgBouncer.
///
/// # Errors
/// Says what was expected when `text` is no duration, or one past [`LONGEST`].
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_duration_in(text, "s")
}

/// Reads a duration whose bare numbers are counted in `bare_unit`.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_duration_in(text: &str, bare_unit: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = match unit.trim() {
        "" => bare_unit,
        unit => unit,
    };
    let refusal = || format!("{trimmed:?} is not a duration: write {DURATION_FORMS}");
    let number: f64 = number.parse().map_err(|_| refusal())?;
    let seconds = number * seconds_per(unit).ok_or_else(refusal)?;
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    if duration > LONGEST {
        return Err(format!("{trimmed:?} is too long: at most 36500d"));
    }
    Ok(duration)
}

/// Whole microseconds, without the 128 bits of `as_micros`: this is asked for several times per transaction.
#[inline]
pub fn whole_micros(time: Duration) -> u64 {
    time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
}

fn seconds_per(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    })
}

/// The duration in seconds without needless digits, as PgBouncer's console shows it: `120`, `0.25`.
pub fn show_seconds(duration: Duration) -> String {
    let fraction = format!("{:09}", duration.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => duration.as_secs().to_string(),
        digits => format!("{}.{digits}", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, expected) in [
            ("15", Duration::from_secs(15)),
            ("0", Duration::ZERO),
            ("0.5", Duration::from_millis(500)),
            ("500ms", Duration::from_millis(500)),
            (" 500 ms ", Duration::from_millis(500)),
            ("250us", Duration::from_micros(250)),
            ("2s", Duration::from_secs(2)),
            ("2min", Duration::from_secs(120)),
            ("2m", Duration::from_secs(120)),
            ("1h", Duration::from_secs(3600)),
            ("1d", Duration::from_secs(86_400)),
            ("36500d", LONGEST),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        assert_eq!(parse_duration_in("250", "ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration_in("2s", "ms"), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1", "1.2.3", "1e9", "inf", "nan", "5 parsecs", "36501d", "99999999999999999999999", "٣"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_shown_without_needless_digits() {
        for (duration, expected) in [
            (Duration::ZERO, "0"),
            (Duration::from_secs(120), "120"),
            (Duration::from_millis(250), "0.25"),
            (Duration::from_nanos(1), "0.000000001"),
        ] {
            assert_eq!(show_seconds(duration), expected);
        }
    }
}
