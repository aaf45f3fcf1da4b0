//! Leaves a dyno alone that does not take connections, and finds out whether it is back.
//!
//! ```text
//!   trusted ── a connection fails ──► quarantined ── its time is over ──► half-open
//!      ▲                                   ▲                                 │ one request at a time is the scout
//!      │                                   └────── the scout fails ──────────┤
//!      └────────────────────────── a new connection is made ─────────────────┘
//! ```
//!
//! What the dyno works on meanwhile, a WebSocket of yesterday say, is no reason to keep the scout away, and an answer
//! over a connection of yesterday no sign that it takes new ones.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Quarantines of a dyno that never takes a connection grow up to this.
const QUARANTINE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Quarantines since the last connection that was made.
    failures: AtomicU32,
    /// When the last one is or was over, in microseconds; connections that were begun before tell nothing new.
    until_us: AtomicU64,
    /// Whether a request is finding out; only the one that is ends it.
    scouting: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Trusted,
    Quarantined,
    HalfOpen,
    /// Half-open, and a request is about to know more.
    Scouted,
}

impl Quarantine {
    pub(crate) fn trust(&self) -> Trust {
        if self.failures.load(Ordering::SeqCst) == 0 {
            Trust::Trusted
        } else if self.until_us.load(Ordering::SeqCst) > clock::now_us() {
            Trust::Quarantined
        } else if self.scouting.load(Ordering::SeqCst) {
            Trust::Scouted
        } else {
            Trust::HalfOpen
        }
    }

    /// Whether the request that goes there now is the scout; `None` if it must not go, because another one is.
    pub(crate) fn try_scout(&self) -> Option<bool> {
        match self.trust() {
            Trust::Trusted | Trust::Quarantined => Some(false),
            Trust::HalfOpen => (!self.scouting.swap(true, Ordering::SeqCst)).then_some(true),
            Trust::Scouted => None,
        }
    }

    pub(crate) fn end_scout(&self) {
        self.scouting.store(false, Ordering::SeqCst);
    }

    /// A connection that was begun at `begun_us` has failed: the dyno is left alone, longer each time in a row.
    ///
    /// One that was begun before the last quarantine was over is no reason for another: many fail in one outage.
    pub(crate) fn begin(&self, duration: Duration, begun_us: u64) {
        let before = self.until_us.load(Ordering::SeqCst);
        if begun_us < before {
            return;
        }
        let failures = self.failures.load(Ordering::SeqCst).min(16);
        let duration = duration.saturating_mul(1 << failures).min(QUARANTINE_MAX.max(duration));
        let until = clock::micros(clock::now() + duration);
        // Of several at the same time one is the first.
        if self.until_us.compare_exchange(before, until, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The dyno has taken a connection: the quarantine is over. Says whether it was not trusted to.
    pub(crate) fn end(&self) -> bool {
        if self.failures.load(Ordering::SeqCst) == 0 {
            return false;
        }
        self.until_us.store(clock::now_us(), Ordering::SeqCst);
        self.failures.swap(0, Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarantines_grow_from_outage_to_outage_and_never_within_one() {
        let (quarantine, usual) = (Quarantine::default(), Duration::from_secs(5));
        let until_us = || quarantine.until_us.load(Ordering::SeqCst);
        let check = |begun_us: u64, seconds: u64| {
            let earliest_us = clock::now_us() + seconds * 1_000_000;
            quarantine.begin(usual, begun_us);
            let until = until_us();
            assert!((earliest_us..earliest_us + 1_000_000).contains(&until), "{until} instead of {earliest_us}");
            for begun_us in [0, until - 1] {
                quarantine.begin(usual, begun_us);
                assert_eq!((until_us(), quarantine.trust()), (until, Trust::Quarantined));
            }
        };
        for seconds in [5, 10, 20, 40, 60, 60] {
            check(until_us(), seconds);
        }
        assert!(quarantine.end());
        assert!(!quarantine.end());
        quarantine.begin(usual, until_us() - 1);
        assert_eq!(quarantine.trust(), Trust::Trusted, "that one had failed before");
        check(clock::now_us(), 5);
    }

    #[test]
    fn there_is_one_scout_at_a_time() {
        let quarantine = Quarantine::default();
        assert_eq!(quarantine.try_scout(), Some(false));
        quarantine.begin(Duration::ZERO, clock::now_us());
        assert_eq!(quarantine.trust(), Trust::HalfOpen);
        assert_eq!((quarantine.try_scout(), quarantine.trust()), (Some(true), Trust::Scouted));
        assert_eq!(quarantine.try_scout(), None);
        quarantine.end_scout();
        assert_eq!(quarantine.try_scout(), Some(true));
    }
}
