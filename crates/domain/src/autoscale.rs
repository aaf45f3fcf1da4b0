//! How many dynos a process type should have, by how long its requests take: Heroku's autoscaling.
//!
//! More at once as long as it is too slow, and above all while requests fail; fewer one by one, and only after a quiet
//! time. Whoever changes the formation by hand is left alone for as long as a change of its own would be.

use jiff::{SignedDuration, Timestamp};

/// The next step up waits until the last one can be felt: a dyno has started, and the minute holds what it answered.
const AFTER_A_STEP_UP: SignedDuration = SignedDuration::from_secs(60);
/// While requests fail nobody waits for a whole minute.
const AFTER_A_STEP_UP_WHILE_FAILING: SignedDuration = SignedDuration::from_secs(15);
const BEFORE_A_STEP_DOWN: SignedDuration = SignedDuration::from_secs(5 * 60);

/// How long nobody is told again that the maximum was reached (Heroku's).
pub const MAXIMUM_TOLD_EVERY: SignedDuration = SignedDuration::from_hours(24);

/// Requests in a thousand that fail for want of dynos before that counts.
const FAILURES_PER_MILLE: u64 = 10;

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
    /// 95 of 100 requests should be answered within this time.
    pub p95_ms: u64,
}

/// The last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    pub requests: u64,
    /// Of these, refused or timed out for want of a free dyno.
    pub failures: u64,
    /// 95 of 100 requests took no longer.
    pub p95_ms: u64,
}

/// Why the formation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    BelowMinimum,
    AboveMaximum,
    Failing,
    Slow,
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub to: u32,
    pub reason: Reason,
}

impl Step {
    /// Whether there will be as many as there may be, because more are needed.
    pub fn reaches_maximum(self, bounds: Bounds) -> bool {
        self.to == bounds.max && matches!(self.reason, Reason::Failing | Reason::Slow)
    }
}

/// Decides on the next step, if there is one. A process type that was switched off stays off.
pub fn decide(bounds: Bounds, quantity: u32, minute: Minute, changed_at: Timestamp, now: Timestamp) -> Option<Step> {
    if quantity == 0 {
        return None;
    }
    if quantity < bounds.min {
        return Some(Step { to: bounds.min, reason: Reason::BelowMinimum });
    }
    if quantity > bounds.max {
        return Some(Step { to: bounds.max, reason: Reason::AboveMaximum });
    }
    let since = now.duration_since(changed_at);
    let up = |by: u32| quantity.saturating_add(by.max(1)).min(bounds.max);
    let (to, reason) = if minute.failures * 1000 > minute.requests * FAILURES_PER_MILLE {
        if since < AFTER_A_STEP_UP_WHILE_FAILING {
            return None;
        }
        // Nobody knows how many would do: half as many again are.
        (up(quantity / 2), Reason::Failing)
    } else if minute.requests > 0 && minute.p95_ms > bounds.p95_ms {
        if since < AFTER_A_STEP_UP {
            return None;
        }
        (up(1), Reason::Slow)
    } else if minute.p95_ms.saturating_mul(2) <= bounds.p95_ms {
        if since < BEFORE_A_STEP_DOWN {
            return None;
        }
        ((quantity - 1).max(bounds.min), Reason::Quiet)
    } else {
        return None;
    };
    (to != quantity).then_some(Step { to, reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2, max: 8, p95_ms: 500 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn step(quantity: u32, minute: Minute, since: i64) -> Option<(u32, Reason)> {
        decide(BOUNDS, quantity, minute, at(0), at(since)).map(|step| (step.to, step.reason))
    }

    const SLOW: Minute = Minute { requests: 100, failures: 0, p95_ms: 501 };
    const FAILING: Minute = Minute { requests: 100, failures: 2, p95_ms: 40 };
    const FAST: Minute = Minute { requests: 100, failures: 0, p95_ms: 250 };

    #[test]
    fn bounds_hold_at_once_and_off_is_off() {
        assert_eq!(step(1, FAST, 0), Some((2, Reason::BelowMinimum)));
        assert_eq!(step(9, SLOW, 0), Some((8, Reason::AboveMaximum)));
        assert_eq!(step(0, SLOW, 1000), None);
    }

    #[test]
    fn what_is_slow_gets_one_more_a_minute_and_what_fails_more_and_sooner() {
        assert_eq!((step(4, SLOW, 59), step(4, SLOW, 60)), (None, Some((5, Reason::Slow))));
        assert_eq!((step(4, FAILING, 14), step(4, FAILING, 15)), (None, Some((6, Reason::Failing))));
        assert_eq!(step(7, FAILING, 60), Some((8, Reason::Failing)));
        assert_eq!(step(8, SLOW, 1000), None);
    }

    #[test]
    fn the_maximum_is_reached_by_need() {
        let reaches = |to, reason| Step { to, reason }.reaches_maximum(BOUNDS);
        assert!(reaches(8, Reason::Slow) && reaches(8, Reason::Failing));
        assert!(!reaches(7, Reason::Slow) && !reaches(8, Reason::AboveMaximum));
    }

    #[test]
    fn what_is_quiet_loses_one_after_five_minutes() {
        assert_eq!((step(4, FAST, 299), step(4, FAST, 300)), (None, Some((3, Reason::Quiet))));
        assert_eq!(step(3, Minute::default(), 300), Some((2, Reason::Quiet)));
        assert_eq!(step(2, FAST, 300), None);
        assert_eq!(step(4, Minute { p95_ms: 400, ..FAST }, 1000), None, "fast enough, and not too fast");
    }

    proptest! {
        #[test]
        fn every_step_ends_within_the_bounds_and_goes_somewhere(
            min in 1_u32..20, more in 0_u32..20, p95_ms in 1_u64.., quantity in 0_u32..50,
            requests in 0_u64..1_000_000, failures in 0_u64..1_000_000, took in any::<u64>(), since in 0_i64..10_000,
        ) {
            let bounds = Bounds { min, max: min + more, p95_ms };
            let minute = Minute { requests, failures, p95_ms: took };
            if let Some(step) = decide(bounds, quantity, minute, at(0), at(since)) {
                prop_assert!((min..=min + more).contains(&step.to) && step.to != quantity);
            }
        }

        #[test]
        fn it_comes_to_rest_at_constant_load(quantity in 1_u32..50, work_ms in 1_u64..40_000) {
            // As many dynos as share the work, so long does a request take.
            let (mut quantity, mut changed) = (quantity, 0);
            let mut turns = 0;
            for second in (0..40_000).step_by(10) {
                let minute = Minute { requests: 100, failures: 0, p95_ms: work_ms / u64::from(quantity) };
                if let Some(step) = decide(BOUNDS, quantity, minute, at(changed), at(second)) {
                    turns += 1;
                    (quantity, changed) = (step.to, second);
                }
            }
            prop_assert!(turns <= 8, "{} turns", turns);
        }
    }
}
