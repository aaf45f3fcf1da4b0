//! Who asks too often: a bucket of tokens for each of them, in memory. A restart of the server fills every bucket.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::rate_limit::{RateLimit, Taken, is_full};
use jiff::Timestamp;

/// Buckets that are kept before those are forgotten that are full again.
const BUCKETS_MAX: usize = 10_000;

/// Buckets by whom they limit.
#[derive(Debug)]
pub struct RateLimiter<K> {
    /// None lets everybody do as they like.
    limit: Option<RateLimit>,
    /// When each bucket will be full again; those that are have no entry.
    buckets: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Eq + Hash + Clone> RateLimiter<K> {
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, buckets: Mutex::default() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; the next one comes after this time.
    pub(crate) fn take(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        let Some(limit) = self.limit else { return Ok(()) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match limit.take(buckets.get(key).copied(), now) {
            Taken::Granted { full_at, .. } => {
                if buckets.len() >= BUCKETS_MAX {
                    buckets.retain(|_key, full_at| !is_full(*full_at, now));
                }
                buckets.insert(key.clone(), full_at);
                Ok(())
            }
            Taken::Refused { wait } => Err(wait),
        }
    }

    /// Tokens that are left.
    pub(crate) fn remaining(&self, key: &K, now: Timestamp) -> u32 {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = self.limit.and_then(|_limit| buckets.get(key).copied());
        self.limit.unwrap_or_default().remaining(full_at, now)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn everybody_has_a_bucket_of_their_own() {
        let limiter = RateLimiter::new(NonZeroU32::new(2).map(RateLimit::per_hour));
        assert_eq!((limiter.take(&1, at(0)), limiter.take(&1, at(0))), (Ok(()), Ok(())));
        assert_eq!(limiter.take(&1, at(0)), Err(Duration::from_secs(1800)));
        assert_eq!((limiter.remaining(&1, at(0)), limiter.remaining(&2, at(0))), (0, 2));
        assert_eq!(limiter.take(&2, at(0)), Ok(()));
        assert_eq!(limiter.take(&1, at(1800)), Ok(()));
    }

    #[test]
    fn without_a_limit_the_whole_of_it_is_always_left() {
        let limiter = RateLimiter::new(None);
        for _round in 0..10_000 {
            assert_eq!(limiter.take(&1, at(0)), Ok(()));
        }
        assert_eq!(limiter.remaining(&1, at(0)), 4500);
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let limiter = RateLimiter::new(Some(RateLimit::default()));
        for key in 0..2 * BUCKETS_MAX {
            assert_eq!(limiter.take(&key, at(i64::try_from(key).unwrap())), Ok(()));
        }
        assert!(limiter.buckets.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
