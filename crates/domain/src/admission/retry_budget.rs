//! How many requests may be sent a second time, so that retries never make an outage worse.

use std::time::Duration;

/// How long requests and retries are remembered.
pub const WINDOW: Duration = Duration::from_secs(10);

/// One retry for so many requests in the window.
pub const REQUESTS_PER_RETRY: u64 = 10;

/// Retries in a window that are always allowed: an app with little traffic would have none otherwise.
pub const RETRIES_MIN: u64 = 10;

/// The requests and retries of one app; two halves of a window, of which the older is forgotten as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct RetryBudget {
    half: u64,
    requests: [u64; 2],
    retries: [u64; 2],
}

impl RetryBudget {
    /// `requests` have come since the last call.
    pub fn add_requests(&mut self, requests: u64, now: Duration) {
        self.turn(now);
        self.requests[0] += requests;
    }

    /// Whether one more request may be sent again; counts it if so.
    pub fn take(&mut self, now: Duration) -> bool {
        self.turn(now);
        let allowed = RETRIES_MIN.max(self.requests.iter().sum::<u64>() / REQUESTS_PER_RETRY);
        let free = self.retries.iter().sum::<u64>() < allowed;
        self.retries[0] += u64::from(free);
        free
    }

    fn turn(&mut self, now: Duration) {
        let half = u64::try_from(now.as_millis() / (WINDOW.as_millis() / 2)).unwrap_or(u64::MAX);
        match half.saturating_sub(self.half) {
            0 => {}
            1 => {
                self.requests = [0, self.requests[0]];
                self.retries = [0, self.retries[0]];
            }
            _long => {
                self.requests = [0; 2];
                self.retries = [0; 2];
            }
        }
        self.half = half;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quiet_app_has_the_least_and_gets_it_again() {
        let mut budget = RetryBudget::default();
        let allowed = |budget: &mut RetryBudget, now| (0..100).filter(|_retry| budget.take(now)).count();
        assert_eq!(allowed(&mut budget, Duration::ZERO), 10);
        assert_eq!(allowed(&mut budget, Duration::from_secs(9)), 0);
        assert_eq!(allowed(&mut budget, Duration::from_secs(20)), 10);
    }

    proptest! {
        #[test]
        fn retries_stay_within_a_tenth(requests in 0_u64..10_000, at in 0_u64..1_000) {
            let now = Duration::from_secs(at);
            let mut budget = RetryBudget::default();
            budget.add_requests(requests, now);
            let retries = (0..20_000).filter(|_retry| budget.take(now)).count() as u64;
            prop_assert_eq!(retries, RETRIES_MIN.max(requests / 10));
        }
    }
}
