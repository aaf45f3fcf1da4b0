//! One line of a stream, and how it is written for people.

use jiff::Timestamp;
use jiff::tz::Offset;
use uuid::Uuid;
use wire::segment::SegmentRecord;

/// Who speaks: the app's own process, or the platform. The words are Heroku's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    App,
    Heroku,
}

impl Origin {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Heroku => "heroku",
        }
    }
}

/// The place of a line in the ring that it was copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPosition {
    pub ring: Uuid,
    pub sequence: u64,
}

/// A line to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    pub unix_us: u64,
    pub origin: Origin,
    /// `web.1`, `router`, `api`. Without spaces, brackets or `@`.
    pub process: String,
    pub text: Vec<u8>,
    pub copied_from: Option<RingPosition>,
}

impl NewLine {
    /// A line of the platform's own.
    pub fn platform(now: Timestamp, process: &str, text: &str) -> Self {
        Self {
            unix_us: unix_us(now),
            origin: Origin::Heroku,
            process: process.to_owned(),
            text: text.as_bytes().to_vec(),
            copied_from: None,
        }
    }

    /// A line that Heroku attributes to the app's API history: `app[api]: Deploy 1a2b3c by ada@example.com`.
    pub fn api(now: Timestamp, text: &str) -> Self {
        Self { origin: Origin::App, ..Self::platform(now, "api", text) }
    }
}

/// A stored line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number in the stream: the id that a tail resumes after.
    pub sequence: u64,
    pub unix_us: u64,
    pub origin: Origin,
    pub process: String,
    pub text: String,
}

impl LogLine {
    /// Heroku's form: `2026-01-02T03:04:05.123456+00:00 app[web.1]: text`.
    pub fn to_heroku_text(&self) -> String {
        format!("{} {}[{}]: {}", self.time_text(), self.origin.as_str(), self.process, self.text)
    }

    /// When it was written: `2026-01-02T03:04:05.123456+00:00`.
    pub fn time_text(&self) -> String {
        let at = i64::try_from(self.unix_us)
            .ok()
            .and_then(|micros| Timestamp::from_microsecond(micros).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let civil = Offset::UTC.to_datetime(at);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}+00:00",
            civil.year(),
            civil.month(),
            civil.day(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            civil.subsec_nanosecond() / 1000,
        )
    }
}

/// `L10`: lines were lost between the one written at `since_unix_us` and the one that follows.
pub(crate) fn overflow_line(lost: u64, since_unix_us: u64, unix_us: u64) -> NewLine {
    NewLine {
        unix_us,
        origin: Origin::Heroku,
        process: "logplex".to_owned(),
        text: overflow_text(lost, since_unix_us).into_bytes(),
        copied_from: None,
    }
}

/// `L10` for a drain: it lost lines that the log itself may still have.
pub fn drain_overflow_line(lost: u64, since_unix_us: u64, unix_us: u64) -> LogLine {
    LogLine {
        sequence: 0,
        unix_us,
        origin: Origin::Heroku,
        process: "logplex".to_owned(),
        text: overflow_text(lost, since_unix_us),
    }
}

fn overflow_text(lost: u64, since_unix_us: u64) -> String {
    format!("Error L10 (output buffer overflow): {lost} messages dropped since {}.", rfc3339(since_unix_us))
}

/// `L11`, as a whole line: a reader of the tail was too slow.
pub fn tail_overflow_text(lost: u64, since_unix_us: u64, unix_us: u64) -> String {
    let since = rfc3339(since_unix_us);
    let line = LogLine {
        sequence: 0,
        unix_us,
        origin: Origin::Heroku,
        process: "logplex".to_owned(),
        text: format!("Error L11 (Tail buffer overflow) -> This tail session dropped {lost} messages since {since}"),
    };
    line.to_heroku_text()
}

fn rfc3339(unix_us: u64) -> String {
    let micros = i64::try_from(unix_us).unwrap_or(0);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

pub(crate) fn unix_us(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

/// Tag of the record that ends a stream.
pub(crate) const END_TAG: &str = "end";

/// The tag of a stored record: `app[web.1]` or, copied, `app[web.1]@<ring>:<sequence>`.
pub(crate) fn tag(line: &NewLine) -> String {
    let process: String =
        line.process.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect();
    let origin = line.origin.as_str();
    match line.copied_from {
        None => format!("{origin}[{process}]"),
        Some(RingPosition { ring, sequence }) => format!("{origin}[{process}]@{}:{sequence}", ring.simple()),
    }
}

/// Reads a stored record back; `None` for the end mark and for what is damaged.
pub(crate) fn from_record(record: &SegmentRecord) -> Option<(LogLine, Option<RingPosition>)> {
    let (speaker, ring) = match record.tag.split_once('@') {
        Some((speaker, ring)) => (speaker, Some(ring)),
        None => (record.tag.as_str(), None),
    };
    let (origin, process) = speaker.strip_suffix(']')?.split_once('[')?;
    let origin = match origin {
        "app" => Origin::App,
        "heroku" => Origin::Heroku,
        _other => return None,
    };
    let position = ring.and_then(|ring| {
        let (ring, sequence) = ring.split_once(':')?;
        Some(RingPosition { ring: Uuid::try_parse(ring).ok()?, sequence: sequence.parse().ok()? })
    });
    let line = LogLine {
        sequence: record.sequence,
        unix_us: record.unix_us,
        origin,
        process: process.to_owned(),
        text: String::from_utf8_lossy(&record.text).into_owned(),
    };
    Some((line, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_on_heroku() {
        let line = LogLine {
            sequence: 1,
            unix_us: 1_767_323_045_123_456,
            origin: Origin::App,
            process: "web.1".to_owned(),
            text: "hello".to_owned(),
        };
        assert_eq!(line.to_heroku_text(), "2026-01-02T03:04:05.123456+00:00 app[web.1]: hello");
    }

    #[test]
    fn lost_lines_are_told_as_on_heroku() {
        let line = overflow_line(500, 1_767_323_045_123_456, 1_767_323_046_000_000);
        assert_eq!(
            String::from_utf8(line.text).unwrap(),
            "Error L10 (output buffer overflow): 500 messages dropped since 2026-01-02T03:04:05.123456Z."
        );
        assert_eq!(
            tail_overflow_text(1101, 1_767_323_045_000_000, 1_767_323_046_000_000),
            "2026-01-02T03:04:06.000000+00:00 heroku[logplex]: Error L11 (Tail buffer overflow) -> \
             This tail session dropped 1101 messages since 2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn a_stored_line_is_read_back_with_its_place_in_the_ring() {
        let position = RingPosition { ring: Uuid::new_v4(), sequence: 17 };
        let line = NewLine {
            unix_us: 5,
            origin: Origin::App,
            process: "web.1".to_owned(),
            text: b"x @ y".to_vec(),
            copied_from: Some(position),
        };
        let record = SegmentRecord { sequence: 3, unix_us: 5, tag: tag(&line), text: line.text.clone() };
        let (read, place) = from_record(&record).unwrap();
        assert_eq!((read.sequence, read.process.as_str(), read.text.as_str()), (3, "web.1", "x @ y"));
        assert_eq!(place, Some(position));
    }
}
