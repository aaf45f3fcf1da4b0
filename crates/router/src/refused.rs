//! Connections that were refused, or ended for what their clients did: counted, and told now and then.
//!
//! Whoever runs the router must hear of it, because it may be no attack: a proxy that nobody declared has all its visitors'
//! connections under one address.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// A flood must not fill the log.
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    ClientConnections,
    SlowHeads,
    Handshakes,
    Http2Flood,
    NoProxyHeader,
}

impl Reason {
    /// As a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClientConnections => "client_connections",
            Self::SlowHeads => "slow_heads",
            Self::Handshakes => "handshakes",
            Self::Http2Flood => "http2_flood",
            Self::NoProxyHeader => "no_proxy_header",
        }
    }

    /// What happened, and what to do about it.
    const fn message(self) -> &'static str {
        match self {
            Self::ClientConnections => {
                "A client has as many connections as one may have, so more are closed; if it stands in front of others, \
                 declare it as a front in the settings"
            }
            Self::SlowHeads => {
                "A client has as many slow request heads or handshakes under way as one may have, so more are closed; if \
                 it stands in front of others, raise client_slow_heads_max in the settings"
            }
            Self::Handshakes => {
                "There are as many TLS handshakes under way as there may be, so new connections are closed; look at \
                 where they come from"
            }
            Self::Http2Flood => {
                "A client sent too many frames over HTTP/2 that cost it nothing, so its connection was ended; if it \
                 goes on, keep its address out"
            }
            Self::NoProxyHeader => {
                "A connection from a front that speaks the PROXY protocol did not begin with its header, so it was \
                 closed; switch the protocol on there, or say in the settings which networks are that front's"
            }
        }
    }
}

/// Those that were refused for one reason.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    total: AtomicU64,
    told_at: Mutex<Option<Instant>>,
}

impl Refused {
    pub(crate) const fn new(reason: Reason) -> Self {
        Self { reason, total: AtomicU64::new(0), told_at: Mutex::new(None) }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a connection of this client.
    pub(crate) fn note(&self, client: IpAddr) {
        let total = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_to_be_told(Instant::now()) {
            warn!(%client, total, reason = self.reason.name(), "{}", self.reason.message());
        }
    }

    fn is_to_be_told(&self, now: Instant) -> bool {
        // Who finds it locked is told of by whoever holds it.
        let Ok(mut told_at) = self.told_at.try_lock() else { return false };
        let is_due = told_at.is_none_or(|told_at| now.saturating_duration_since(told_at) >= TOLD_EVERY);
        if is_due {
            *told_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_whole_and_told_once_a_minute() {
        let refused = Refused::new(Reason::Handshakes);
        let now = Instant::now();
        let told = |seconds| (0..100).filter(|_n| refused.is_to_be_told(now + Duration::from_secs(seconds))).count();
        assert_eq!([0, 59, 60, 119, 1_000].map(told), [1, 0, 1, 0, 1]);
        (0..100).for_each(|_n| refused.note([192, 0, 2, 1].into()));
        assert_eq!(refused.total(), 100);
    }
}
