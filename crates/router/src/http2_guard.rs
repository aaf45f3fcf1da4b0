//! Watches the frames of an HTTP/2 connection for floods of what costs a client nothing and the router much.
//!
//! Resets (a request that is sent and taken back at once), settings, pings, priorities, empty data, window updates and
//! continuations are all cheap to send and each is work to take. Every kind has an allowance that refills with time;
//! whoever spends it loses the connection. What a frame says is hyper's business. Pure: time comes in.

use std::time::Duration;

use tokio::time::Instant;

const HEADER_BYTES: usize = 9;
/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Frames that may come at once, and how many per second are added again.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flood(pub(crate) &'static str);

#[derive(Debug)]
pub(crate) struct Http2Guard {
    /// Of the preface or of a payload, not yet seen.
    skip: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
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

    fn take(&mut self, now: Instant) -> bool {
        if self.left < 1.0 {
            let since: Duration = now.saturating_duration_since(self.filled_at);
            self.left = (self.left + since.as_secs_f64() * self.allowance.per_second).min(self.allowance.burst);
            self.filled_at = now;
        }
        self.left -= 1.0;
        self.left >= 0.0
    }
}

impl Http2Guard {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            resets: Bucket::new(RESETS, now),
            settings_and_pings: Bucket::new(SETTINGS_AND_PINGS, now),
            window_updates: Bucket::new(WINDOW_UPDATES, now),
            others: Bucket::new(OTHERS, now),
        }
    }

    /// Takes the next bytes from the client.
    ///
    /// # Errors
    /// The kind of frame that came too often.
    pub(crate) fn push(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                self.frame(now)?;
            }
        }
    }

    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.skip = length as usize;
        let (bucket, name) = match kind {
            RST_STREAM => (&mut self.resets, "resets"),
            SETTINGS | PING => (&mut self.settings_and_pings, "settings or pings"),
            WINDOW_UPDATE => (&mut self.window_updates, "window updates"),
            PRIORITY => (&mut self.others, "priorities"),
            CONTINUATION => (&mut self.others, "continuations"),
            // The last frame of a body is often empty.
            DATA if length == 0 && flags & 1 == 0 => (&mut self.others, "empty data frames"),
            0..=9 => return Ok(()),
            _unknown => (&mut self.others, "unknown frames"),
        };
        if bucket.take(now) { Ok(()) } else { Err(Flood(name)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + payload, RST_STREAM);
        bytes
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        std::iter::once(preface).chain(frames.iter().cloned()).flatten().collect()
    }

    fn push_all(bytes: &[u8], cut: usize) -> Result<(), Flood> {
        let now = Instant::now();
        let mut guard = Http2Guard::new(now);
        bytes.chunks(cut).try_for_each(|piece| guard.push(piece, now))
    }

    #[test]
    fn each_kind_of_flood_is_found_whatever_the_split() {
        let check = |kind: u8, payload: usize, burst: usize, name: &'static str| {
            let bytes = connection(&vec![frame(kind, 0, payload); burst + 1]);
            for cut in [1, 7, 10_000] {
                assert_eq!(push_all(&bytes, cut), Err(Flood(name)), "{name} in pieces of {cut}");
            }
            assert_eq!(push_all(&connection(&vec![frame(kind, 0, payload); burst]), 99), Ok(()), "{name}");
        };
        check(RST_STREAM, 4, 400, "resets");
        check(SETTINGS, 6, 200, "settings or pings");
        check(PING, 8, 200, "settings or pings");
        check(CONTINUATION, 0, 1_000, "continuations");
        check(DATA, 0, 1_000, "empty data frames");
        check(PRIORITY, 5, 1_000, "priorities");
        check(77, 0, 1_000, "unknown frames");
    }

    #[test]
    fn requests_and_bodies_are_no_flood() {
        let frames: Vec<_> =
            (0..5_000).flat_map(|_n| [frame(1, 4, 40), frame(DATA, 0, 500), frame(DATA, 1, 0)]).collect();
        assert_eq!(push_all(&connection(&frames), 16_384), Ok(()));
    }

    #[test]
    fn time_gives_the_allowance_back() {
        let mut now = Instant::now();
        let mut guard = Http2Guard::new(now);
        guard.push(&connection(&vec![frame(RST_STREAM, 0, 4); 400]), now).unwrap();
        for _second in 0..10 {
            now += Duration::from_secs(1);
            assert_eq!(guard.push(&vec![frame(RST_STREAM, 0, 4); 40].concat(), now), Ok(()));
        }
        assert_eq!(guard.push(&frame(RST_STREAM, 0, 4), now), Err(Flood("resets")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_guard_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), cut in 1_usize..50) {
            push_all(&bytes, cut).unwrap_or_default();
        }
    }
}
