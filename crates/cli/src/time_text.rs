//! Times for people.

use jiff::Timestamp;

/// `2026-11-23 04:30 UTC`; a time that cannot be read stays as the server wrote it.
pub(crate) fn minute(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_not_a_time) => text.to_owned(),
    }
}

/// `04:30:59 UTC`, for what is at most minutes away.
pub(crate) fn second(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%H:%M:%S UTC").to_string(),
        Err(_not_a_time) => text.to_owned(),
    }
}

/// `for 5m`: how long something has been as it is.
pub(crate) fn since(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => format!("for {}", duration(now.as_second() - at.as_second())),
        Err(_not_a_time) => format!("since {text}"),
    }
}

/// The two largest units: `3d 4h`, `5m 10s`, `9s`.
pub(crate) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _minutes) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_say_their_zone() {
        assert_eq!(minute("2026-11-23T04:30:59Z"), "2026-11-23 04:30 UTC");
        assert_eq!(minute("soon"), "soon");
        assert_eq!(second("2026-11-23T04:30:59.7Z"), "04:30:59 UTC");
        let now = "2026-11-23T04:30:00Z".parse().unwrap();
        assert_eq!(since("2026-11-23T04:24:50Z", now), "for 5m 10s");
        // A server whose clock is ahead of ours has not started anything in the future.
        assert_eq!(since("2026-11-23T04:30:05Z", now), "for 0s");
    }

    #[test]
    fn durations_show_two_units() {
        for (seconds, expect) in [(9, "9s"), (70, "1m 10s"), (3700, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(duration(seconds), expect);
        }
    }
}
