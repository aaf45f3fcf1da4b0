//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// Nothing that is waited for without a limit of its own takes longer, also while other tests use the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a value; fails the test with `what` after [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(what, PATIENCE, look)
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

pub(crate) fn wait_within<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
