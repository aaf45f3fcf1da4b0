//! What a client may send that costs it nothing and the router something.
//!
//! Resets (a request that is sent and taken back at once), settings, pings, priorities, empty data, window updates and
//! continuations are all cheap to send and each is work to take. So is whatever makes the router reset a stream: a
//! client that provokes that has taken a request back, too. Every kind has an allowance that refills with time; whoever
//! spends it loses the connection. Pure: time comes in.

use tokio::time::Instant;

use super::frame::{Frame, FrameHead, kind};

/// How many may come at once, and how many per second are added again.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: f64,
    per_second: f64,
}

/// A browser that leaves a page takes back every request for it, at most as many as may be under way.
const RESETS: Allowance = Allowance { burst: 400.0, per_second: 40.0 };
const SETTINGS_AND_PINGS: Allowance = Allowance { burst: 200.0, per_second: 20.0 };
/// One window update per frame of data is usual, so downloads set this figure.
const WINDOW_UPDATES: Allowance = Allowance { burst: 100_000.0, per_second: 20_000.0 };
const OTHERS: Allowance = Allowance { burst: 1_000.0, per_second: 100.0 };

/// Of what there was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flood(pub(super) &'static str);

#[derive(Debug)]
pub(super) struct Allowances {
    resets: Bucket,
    settings_and_pings: Bucket,
    window_updates: Bucket,
    others: Bucket,
}

#[derive(Debug)]
struct Bucket {
    allowance: Allowance,
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    const fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: allowance.burst, filled_at: now }
    }

    fn take(&mut self, now: Instant, name: &'static str) -> Result<(), Flood> {
        if self.left < 1.0 {
            let since = now.saturating_duration_since(self.filled_at);
            self.left = (self.left + since.as_secs_f64() * self.allowance.per_second).min(self.allowance.burst);
            self.filled_at = now;
        }
        self.left -= 1.0;
        if self.left >= 0.0 { Ok(()) } else { Err(Flood(name)) }
    }
}

impl Allowances {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            resets: Bucket::new(RESETS, now),
            settings_and_pings: Bucket::new(SETTINGS_AND_PINGS, now),
            window_updates: Bucket::new(WINDOW_UPDATES, now),
            others: Bucket::new(OTHERS, now),
        }
    }

    /// Counts a frame of the client.
    ///
    /// # Errors
    /// There were too many of its kind.
    pub(super) fn take(&mut self, head: FrameHead, frame: &Frame<'_>, now: Instant) -> Result<(), Flood> {
        match (head.kind, frame) {
            (kind::RST_STREAM, _) => self.resets.take(now, "resets"),
            (kind::SETTINGS | kind::PING, _) => self.settings_and_pings.take(now, "settings or pings"),
            (kind::WINDOW_UPDATE, _) => self.window_updates.take(now, "window updates"),
            (kind::CONTINUATION, _) => self.others.take(now, "continuations"),
            // The last frame of a body is often empty.
            (_, Frame::Data { data: [], end: false, .. }) => self.others.take(now, "empty data frames"),
            (kind::DATA | kind::HEADERS, _) => Ok(()),
            _priority_or_unknown => self.others.take(now, "other frames"),
        }
    }

    /// Counts a stream that the client made the router reset.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn take_provoked_reset(&mut self, now: Instant) -> Result<(), Flood> {
        self.resets.take(now, "resets")
    }

    /// Counts a frame for a stream that is over, or one too many.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn take_stray(&mut self, now: Instant) -> Result<(), Flood> {
        self.others.take(now, "frames of streams that are over")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame;
    use super::*;

    fn take(allowances: &mut Allowances, kind: u8, payload: &[u8], now: Instant) -> Result<(), Flood> {
        let stream = u32::from(!matches!(kind, kind::SETTINGS | kind::PING));
        let head = FrameHead { length: payload.len(), kind, flags: 0, stream };
        allowances.take(head, &frame::parse(head, payload).unwrap(), now)
    }

    #[test]
    fn each_kind_of_flood_is_found() {
        let check = |kind: u8, payload: &[u8], burst: usize, name: &'static str| {
            let now = Instant::now();
            let mut allowances = Allowances::new(now);
            for _frame in 0..burst {
                assert_eq!(take(&mut allowances, kind, payload, now), Ok(()), "{name}");
            }
            assert_eq!(take(&mut allowances, kind, payload, now), Err(Flood(name)));
        };
        check(kind::RST_STREAM, b"1234", 400, "resets");
        check(kind::SETTINGS, b"", 200, "settings or pings");
        check(kind::PING, b"12345678", 200, "settings or pings");
        check(kind::CONTINUATION, b"", 1_000, "continuations");
        check(kind::DATA, b"", 1_000, "empty data frames");
        check(kind::PRIORITY, b"12345", 1_000, "other frames");
        check(77, b"", 1_000, "other frames");
        check(kind::WINDOW_UPDATE, b"\0\0\0\x01", 100_000, "window updates");
    }

    #[test]
    fn requests_and_bodies_are_no_flood_and_time_gives_the_allowance_back() {
        let mut now = Instant::now();
        let mut allowances = Allowances::new(now);
        for _request in 0..5_000 {
            take(&mut allowances, kind::HEADERS, b"\x82", now).unwrap();
            take(&mut allowances, kind::DATA, b"body", now).unwrap();
        }
        for _reset in 0..400 {
            allowances.take_provoked_reset(now).unwrap();
        }
        for _second in 0..10 {
            now += Duration::from_secs(1);
            for _reset in 0..40 {
                take(&mut allowances, kind::RST_STREAM, b"1234", now).unwrap();
            }
        }
        assert_eq!(take(&mut allowances, kind::RST_STREAM, b"1234", now), Err(Flood("resets")));
    }
}
