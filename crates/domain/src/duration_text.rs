//! Durations as people type and read them: `500ms`, `30s`, `5m`, `12h`, `30d`, `1y`.

use std::time::Duration;

use thiserror::Error;

const UNITS_MS: [(&str, u64); 6] =
    [("y", 365 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a duration: write a whole number and its unit, for example 500ms, 30s, 5m, 12h, 30d or 1y")]
pub struct DurationTextError(String);

/// Reads a whole number with one unit; a year has 365 days.
pub fn parse(text: &str) -> Result<Duration, DurationTextError> {
    let wrong = || DurationTextError(text.chars().take(40).collect());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
    let (_name, unit_ms) = UNITS_MS.iter().find(|(name, _ms)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// The largest unit that leaves no rest: what [`parse`] reads back.
pub fn show(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = UNITS_MS.iter().find(|(_name, unit_ms)| ms >= *unit_ms && ms.is_multiple_of(*unit_ms));
    whole.map_or_else(|| "0s".to_owned(), |(name, unit_ms)| format!("{}{name}", ms / unit_ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        let check = |text, ms| assert_eq!(parse(text).ok(), Some(Duration::from_millis(ms)), "{text}");
        check("500ms", 500);
        check("30s", 30_000);
        check("0s", 0);
        check("5m", 300_000);
        check("1y", 31_536_000_000);
        for wrong in ["", "30", "s", "30 s", "1.5s", "-1s", "30S", "1h30m", "99999999999999999999s", "9999999999999y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0_u64..1 << 50) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,30}") {
            drop(parse(&text));
        }
    }
}
