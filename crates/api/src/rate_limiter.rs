//! Who asks too often: a bucket of tokens for each of them, in memory. A restart of the server fills every bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::rate_limit::{RateLimit, Taken};
use jiff::Timestamp;

/// Buckets that are kept. Beyond that, the one is forgotten that is full first: it may be already, or lacks the least.
const BUCKETS_MAX: usize = 10_000;

/// Buckets by whom they limit.
#[derive(Debug)]
pub struct RateLimiter<K> {
    /// None lets everybody do as they like.
    limit: Option<RateLimit>,
    buckets: Mutex<Buckets<K>>,
}

/// Two orders of the same buckets.
#[derive(Debug)]
struct Buckets<K> {
    /// When each bucket will be full again.
    full_at: BTreeMap<K, Timestamp>,
    /// Which is full first.
    first_full: BTreeSet<(Timestamp, K)>,
}

impl<K: Ord + Clone> Buckets<K> {
    fn set(&mut self, key: &K, full_at: Timestamp) {
        if let Some(before) = self.full_at.insert(key.clone(), full_at) {
            self.first_full.remove(&(before, key.clone()));
        }
        self.first_full.insert((full_at, key.clone()));
        if self.full_at.len() > BUCKETS_MAX
            && let Some((_full_at, first)) = self.first_full.pop_first()
        {
            self.full_at.remove(&first);
        }
    }
}

impl<K: Ord + Clone> RateLimiter<K> {
    pub const fn new(limit: Option<RateLimit>) -> Self {
        let buckets = Buckets { full_at: BTreeMap::new(), first_full: BTreeSet::new() };
        Self { limit, buckets: Mutex::new(buckets) }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; the next one comes after this time.
    pub(crate) fn take(&self, key: &K, now: Timestamp) -> Result<(), Duration> {
        let Some(limit) = self.limit else { return Ok(()) };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match limit.take(buckets.full_at.get(key).copied(), now) {
            Taken::Granted { full_at, .. } => {
                buckets.set(key, full_at);
                Ok(())
            }
            Taken::Refused { wait } => Err(wait),
        }
    }

    /// Tokens that are left.
    pub(crate) fn remaining(&self, key: &K, now: Timestamp) -> u32 {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = self.limit.and_then(|_limit| buckets.full_at.get(key).copied());
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
    fn buckets_are_forgotten_that_are_full_first() {
        let limiter = RateLimiter::new(Some(RateLimit::default()));
        for _round in 0..10 {
            assert_eq!(limiter.take(&usize::MAX, at(0)), Ok(()));
        }
        // Never so many that the first would be full again.
        for key in 0..2 * BUCKETS_MAX {
            assert_eq!(limiter.take(&key, at(0)), Ok(()));
        }
        let buckets = limiter.buckets.lock().unwrap();
        assert_eq!((buckets.full_at.len(), buckets.first_full.len()), (BUCKETS_MAX, BUCKETS_MAX));
        assert!(buckets.full_at.contains_key(&usize::MAX), "it lacks the most");
    }
}
