//! When a job is due: a cron pattern in a time zone.
//!
//! Twice a year the clock on the wall jumps. What a pattern means then depends on whether it names hours:
//!
//! - `30 2 * * *` names an hour: it follows the wall clock. A tick in an hour that is skipped comes when that hour
//!   would have begun, so that nothing is left out; one in an hour that comes twice counts the first time only.
//! - `*/10 * * * *` and `0 * * * *` leave the hour open: they follow elapsed time, so that the pause between two
//!   ticks never changes.
//!
//! Between two transitions the offset of a zone is constant. Such a segment, from `begin` to `end` with its `offset`,
//! covers the wall times from `begin + offset` on; for a pattern that names hours, from `begin + offset before` on,
//! which makes the line of wall times continuous: it fills the gap of a skipped hour and cuts a repeated one.

use std::cmp::max;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 200;

/// Transitions to look past; there are two a year at most, but for rare exceptions.
const SEGMENTS_MAX: u32 = 100;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ScheduleError {
    #[error(
        "schedule {text:?} cannot be read ({reason}). Write five fields (minute, hour, day, month, weekday), for example \"30 5 * * *\"; six with seconds in front; or @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Pattern { text: String, reason: String },
    #[error("schedule {0:?} never comes: there is no such day")]
    Never(String),
}

/// A pattern with its zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    names_hours: bool,
}

/// A time between two transitions of a zone.
struct Segment {
    /// The transition at its begin, with the offset before it.
    begin: Option<(Timestamp, Offset)>,
    offset: Offset,
    end: Option<Timestamp>,
}

impl Schedule {
    /// Reads five fields, six with seconds in front, or a nickname.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let wrong =
            |reason: String| ScheduleError::Pattern { text: text.chars().take(PATTERN_BYTES_MAX).collect(), reason };
        let pattern = text.trim();
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(wrong(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let fields: Vec<&str> = pattern.split_whitespace().collect();
        let names_hours = match fields.as_slice() {
            [nickname] if nickname.starts_with('@') => !nickname.eq_ignore_ascii_case("@hourly"),
            [_, hour, _, _, _] | [_, _, hour, _, _, _] => !hour.contains(['*', '?']),
            _ => return Err(wrong(format!("it has {} fields", fields.len()))),
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| wrong(error.to_string()))?;
        let schedule = Self { cron, zone, names_hours };
        // Any moment does: the calendar repeats itself.
        if schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never(pattern.to_owned()));
        }
        Ok(schedule)
    }

    /// The first tick after `after`.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut segment = self.segment_at(after);
        let mut from = (segment.offset.to_datetime(after), false);
        if let Some(first) = self.first_wall_time(&segment)
            && first > from.0
        {
            from = (first, true);
        }
        for _round in 0..SEGMENTS_MAX {
            let wall = self.next_wall_time(from.0, from.1)?;
            let end = segment.end.map(|end| (end, segment.offset.to_datetime(end)));
            let Some((end, _wall_end)) = end.filter(|(_end, wall_end)| wall >= *wall_end) else {
                let tick = segment.offset.to_timestamp(wall).ok()?;
                return Some(segment.begin.map_or(tick, |(begin, _before)| max(begin, tick)));
            };
            segment = self.segment_at(end);
            from = (self.first_wall_time(&segment)?, true);
        }
        None
    }

    /// The first wall time that belongs to a segment which a transition begins.
    fn first_wall_time(&self, segment: &Segment) -> Option<DateTime> {
        let (begin, before) = segment.begin?;
        Some(if self.names_hours { before } else { segment.offset }.to_datetime(begin))
    }

    fn next_wall_time(&self, from: DateTime, inclusive: bool) -> Option<DateTime> {
        let whole = from.with().subsec_nanosecond(0).build().ok()?;
        self.cron.find_next_occurrence(&whole, inclusive).ok()
    }

    fn segment_at(&self, at: Timestamp) -> Segment {
        // What begins at this very moment has begun.
        let next = at.checked_add(SignedDuration::from_nanos(1)).unwrap_or(at);
        let begin = self.zone.preceding(next).next().map(|transition| transition.timestamp());
        let before = |begin: Timestamp| begin.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(begin);
        Segment {
            begin: begin.map(|begin| (begin, self.zone.to_offset(before(begin)))),
            offset: self.zone.to_offset(at),
            end: self.zone.following(at).next().map(|transition| transition.timestamp()),
        }
    }
}
