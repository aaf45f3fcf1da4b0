//! Whether a client that is being waited for moves bytes at all fast enough. Pure.
//!
//! Only the time counts in which everything waits for the client: one that has taken all there is, as a browser that
//! listens to server-sent events, is never slow. A silence ends by the idle limits; this is about those who move a byte
//! now and then, so as to be waited for as long as they like.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ClientPace;

#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl Pace {
    /// Everything waits for the client now. Gives since when it has moved nothing.
    pub(crate) fn wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now)
    }

    /// The client has moved so many bytes.
    pub(crate) fn moved(&mut self, bytes: u64, now: Instant, least: ClientPace) -> Result<(), TooSlow> {
        let Some(since) = self.since.take() else { return Ok(()) };
        self.waited += now.saturating_duration_since(since);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < least.window {
            return Ok(());
        }
        // Of a wait that was longer, more is asked.
        let sound =
            u128::from(self.bytes) * least.window.as_nanos() >= u128::from(least.bytes) * self.waited.as_nanos();
        *self = Self::default();
        if sound { Ok(()) } else { Err(TooSlow) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bounds;

    /// Moves `bytes` after each wait of so many seconds, and says how many seconds of waiting it was left to do so.
    fn borne(bytes: u64, wait: u64, steps: u32) -> Option<u64> {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let begun = now;
        for _step in 0..steps {
            pace.wait(now);
            now += Duration::from_secs(wait);
            if pace.moved(bytes, now, Bounds::default().client_pace).is_err() {
                return Some((now - begun).as_secs());
            }
        }
        None
    }

    #[test]
    fn only_who_drips_for_a_minute_is_too_slow() {
        assert_eq!(borne(1, 1, 1_000), Some(60));
        assert_eq!(borne(1, 50, 1_000), Some(100));
        assert_eq!(borne(99, 6, 1_000), Some(60));
        // Twenty bytes per second are a poor line, but a line.
        assert_eq!(borne(20, 1, 1_000), None);
        assert_eq!(borne(1_500, 54, 1_000), None);
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        for _event in 0..1_000 {
            now += Duration::from_secs(50);
            assert_eq!(pace.moved(10, now, Bounds::default().client_pace), Ok(()));
        }
    }
}
