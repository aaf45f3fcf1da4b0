//! Leaves a dyno alone that does not take connections, and finds out whether it is back.
//!
//! ```text
//!   trusted ── a connection fails ──► quarantined ── its time is over ──► half-open
//!      ▲                                   ▲                                 │ one request at a time is the probe
//!      │                                   └────── the probe fails ──────────┤
//!      └────────────────────────── a new connection is made ─────────────────┘
//! ```
//!
//! What the dyno works on meanwhile, a WebSocket of yesterday say, is no reason to keep the probe away, and an answer
//! over a connection of yesterday no sign that it takes new ones.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Quarantines of a dyno that never takes a connection grow up to this.
const QUARANTINE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Connections that failed since the last one that was made.
    failures: AtomicU32,
    /// In microseconds.
    until_us: AtomicU64,
    /// Whether a request is finding out; only the one that is ends it.
    probing: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    Trusted,
    Quarantined,
    HalfOpen,
    /// Half-open, and a request is about to know more.
    Probed,
}

impl Quarantine {
    pub(crate) fn trust(&self) -> Trust {
        if self.failures.load(Ordering::SeqCst) == 0 {
            Trust::Trusted
        } else if self.until_us.load(Ordering::SeqCst) > clock::now_us() {
            Trust::Quarantined
        } else if self.probing.load(Ordering::SeqCst) {
            Trust::Probed
        } else {
            Trust::HalfOpen
        }
    }

    /// Whether the request that goes there now is the probe; `None` if it must not go, because another one is.
    pub(crate) fn try_probe(&self) -> Option<bool> {
        match self.trust() {
            Trust::Trusted | Trust::Quarantined => Some(false),
            Trust::HalfOpen => (!self.probing.swap(true, Ordering::SeqCst)).then_some(true),
            Trust::Probed => None,
        }
    }

    pub(crate) fn end_probe(&self) {
        self.probing.store(false, Ordering::SeqCst);
    }

    /// The dyno did not take a connection: it is left alone, longer each time in a row.
    pub(crate) fn begin(&self, duration: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::SeqCst).min(16);
        let duration = duration.saturating_mul(1 << failures).min(QUARANTINE_MAX.max(duration));
        self.until_us.store(clock::micros(clock::now() + duration), Ordering::SeqCst);
    }

    /// The dyno has taken a connection. Says whether it was not trusted to.
    pub(crate) fn end(&self) -> bool {
        self.failures.swap(0, Ordering::SeqCst) > 0
    }
}
