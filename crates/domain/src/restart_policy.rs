//! When a crashed dyno starts again: at once the first time, then with growing delays.
//!
//! Heroku restarts a first crash immediately and backs off after repeated ones ("Dyno crash restart policy").

use std::time::Duration;

use crate::time_limits::TimeLimits;

/// A dyno that stayed up this long has recovered: its earlier crashes no longer count.
pub const RECOVERED_AFTER: Duration = Duration::from_secs(10 * 60);

/// Gives the delay before the next start of a dyno that has now crashed `crashes` times in a row (at least 1).
///
/// The first restart is immediate; each later one waits twice as long as the one before, up to the longest delay.
pub fn delay_before_restart(crashes: u32, limits: &TimeLimits) -> Duration {
    let Some(doublings) = crashes.checked_sub(2) else {
        return Duration::ZERO;
    };
    let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
    limits.restart_backoff_min.saturating_mul(factor).min(limits.restart_backoff_max)
}

/// Counts crashes in a row: a dyno that was up long enough starts the count again.
pub fn crashes_in_a_row(before: u32, was_up_for: Duration) -> u32 {
    if was_up_for >= RECOVERED_AFTER { 1 } else { before.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait_longer() {
        let limits = TimeLimits::default();
        let delays: Vec<u64> = (1..=8).map(|crashes| delay_before_restart(crashes, &limits).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_quiet_time_forgets_earlier_crashes() {
        assert_eq!(crashes_in_a_row(5, RECOVERED_AFTER), 1);
        assert_eq!(crashes_in_a_row(5, Duration::from_secs(5)), 6);
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_stay_bounded(crashes in 1_u32..) {
            let limits = TimeLimits::default();
            let now = delay_before_restart(crashes, &limits);
            let next = delay_before_restart(crashes.saturating_add(1), &limits);
            prop_assert!(now <= next && next <= limits.restart_backoff_max);
        }
    }
}
