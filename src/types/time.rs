//! Durations as operators write them: `15`, `0.5`, `"500ms"`, `"2min"`.

use std::time::Duration;

/// Reads a duration. A bare number means seconds, as in PgBouncer.
///
/// # Errors
/// Says what was expected when `text` is no duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit.trim() {
        "" | "s" => 1.0,
        "us" => 1e-6,
        "ms" => 1e-3,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => {
            return Err(format!("\"{text}\" is not a duration: write seconds, or a number with us, ms, s, min, h or d"));
        }
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|n| Duration::try_from_secs_f64(n * seconds_per_unit).ok())
        .ok_or_else(|| format!("\"{text}\" is not a duration: write seconds, or a number with us, ms, s, min, h or d"))
}
