//! How many requests somebody may make: a bucket of tokens that fills steadily, as Heroku's.
//!
//! What is kept of a bucket is one moment: when it will be full again. A request puts that moment off by what one token
//! takes to come back; there is room while it lies no further ahead than a whole bucket takes.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Tokens of a full bucket, which are also what an hour brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    per_hour: NonZeroU32,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may go on; the bucket will be full at `full_at`.
    Granted { full_at: Timestamp, remaining: u32 },
    /// It may not; the next token comes after `wait`.
    Refused { wait: Duration },
}

impl RateLimit {
    /// Heroku's.
    pub const DEFAULT: Self = Self::per_hour(NonZeroU32::new(4500).expect("a positive number"));

    pub const fn per_hour(per_hour: NonZeroU32) -> Self {
        Self { per_hour }
    }

    /// Tokens that are left now. A bucket that nobody took from is full.
    pub fn remaining(self, full_at: Option<Timestamp>, now: Timestamp) -> u32 {
        let missing = missing(full_at, now).as_nanos().div_ceil(self.token().as_nanos());
        self.per_hour.get().saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// Takes one token, if there is one.
    pub fn take(self, full_at: Option<Timestamp>, now: Timestamp) -> Taken {
        let missing = missing(full_at, now) + self.token();
        let whole = self.token() * self.per_hour.get();
        if let Some(wait) = missing.checked_sub(whole).filter(|wait| !wait.is_zero()) {
            return Taken::Refused { wait };
        }
        // At the end of time nothing is ever missing, which is as good as a limit that nobody reaches.
        let until_full = SignedDuration::try_from(missing).unwrap_or(SignedDuration::ZERO);
        let full_at = now.checked_add(until_full).unwrap_or(now);
        Taken::Granted { full_at, remaining: self.remaining(Some(full_at), now) }
    }

    /// How long one token takes to come back.
    fn token(self) -> Duration {
        HOUR / self.per_hour.get()
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is missing of a full bucket, as the time that it takes to come back. Never more than an hour: a clock that was
/// set back must not shut anybody out for longer.
fn missing(full_at: Option<Timestamp>, now: Timestamp) -> Duration {
    full_at.and_then(|full_at| Duration::try_from(full_at.duration_since(now)).ok()).unwrap_or_default().min(HOUR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    fn limit(per_hour: u32) -> RateLimit {
        RateLimit::per_hour(NonZeroU32::new(per_hour).unwrap())
    }

    /// Takes at these moments; which of them were granted, and the bucket afterwards.
    fn take_all(limit: RateLimit, moments: &[i64]) -> (Vec<i64>, Option<Timestamp>) {
        let mut full_at = None;
        let mut granted = Vec::new();
        for &moment in moments {
            if let Taken::Granted { full_at: next, .. } = limit.take(full_at, at(moment)) {
                full_at = Some(next);
                granted.push(moment);
            }
        }
        (granted, full_at)
    }

    #[test]
    fn herokus_bucket_holds_4500_and_gets_75_a_minute() {
        let limit = RateLimit::DEFAULT;
        let (granted, full_at) = take_all(limit, &[0; 4600]);
        assert_eq!(granted.len(), 4500);
        assert_eq!(limit.remaining(full_at, at(0)), 0);
        assert_eq!(limit.take(full_at, at(0)), Taken::Refused { wait: Duration::from_millis(800) });
        assert_eq!(limit.remaining(full_at, at(60_000)), 75);
        assert_eq!(limit.remaining(full_at, at(3_600_000)), 4500);
    }

    #[test]
    fn the_first_request_leaves_one_less() {
        let Taken::Granted { remaining, .. } = RateLimit::DEFAULT.take(None, at(0)) else { panic!("refused") };
        assert_eq!(remaining, 4499);
        assert_eq!(RateLimit::DEFAULT.remaining(None, at(0)), 4500);
    }

    #[test]
    fn a_clock_that_goes_back_shuts_nobody_out_for_more_than_an_hour() {
        let limit = limit(10);
        let ahead = Some(at(1_000_000_000));
        assert_eq!(limit.remaining(ahead, at(0)), 0);
        assert_eq!(limit.take(ahead, at(0)), Taken::Refused { wait: Duration::from_secs(360) });
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_grants_more_than_a_bucket_and_what_came_back(
            per_hour in 1_u32..5000,
            steps in proptest::collection::vec(0_i64..20_000, 1..300),
        ) {
            let moments: Vec<i64> = steps.iter().scan(0, |now, step| { *now += step; Some(*now) }).collect();
            let (granted, _full_at) = take_all(limit(per_hour), &moments);
            for (first, from) in granted.iter().enumerate() {
                let (last, until) = (granted.len(), granted.last().unwrap());
                let came_back = f64::from(per_hour) * (until - from) as f64 / 3_600_000.0;
                prop_assert!((last - first) as f64 <= f64::from(per_hour) + came_back + 1.0);
            }
        }

        #[test]
        fn who_stays_below_the_rate_is_never_refused(per_hour in 1_u32..5000, requests in 1_i64..500) {
            let pause = 3_600_000 / i64::from(per_hour) + 1;
            let moments: Vec<i64> = (0..requests).map(|request| request * pause).collect();
            prop_assert_eq!(take_all(limit(per_hour), &moments).0, moments);
        }

        #[test]
        fn what_is_left_is_what_is_granted_next(per_hour in 1_u32..200, before in 0_usize..300, later in 0_i64..4_000_000) {
            let limit = limit(per_hour);
            let (_granted, full_at) = take_all(limit, &vec![0; before]);
            let left = limit.remaining(full_at, at(later));
            let mut bucket = full_at;
            let mut granted = 0;
            while let Taken::Granted { full_at, remaining } = limit.take(bucket, at(later)) {
                granted += 1;
                bucket = Some(full_at);
                prop_assert_eq!(remaining, left - granted);
            }
            prop_assert_eq!(granted, left);
        }

        #[test]
        fn nothing_is_ever_left_over_at_any_time(per_hour in 1_u32.., bucket in any::<i32>(), now in any::<i32>()) {
            let limit = limit(per_hour);
            let (bucket, now) = (at(i64::from(bucket)), at(i64::from(now)));
            prop_assert!(limit.remaining(Some(bucket), now) <= per_hour);
            if bucket <= now {
                prop_assert_eq!(limit.remaining(Some(bucket), now), per_hour);
            }
            if let Taken::Refused { wait } = limit.take(Some(bucket), now) {
                prop_assert!(wait <= HOUR);
            }
        }
    }
}
