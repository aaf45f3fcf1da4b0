//! The router's clock: time since this process began to look at it, the same for all threads.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// Never zero: where times are kept as numbers, zero is never.
pub(crate) fn now() -> Duration {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed() + Duration::from_micros(1)
}

/// Fits for half a million years.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn now_us() -> u64 {
    micros(now())
}
