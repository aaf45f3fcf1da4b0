//! Requests that nobody waits for any more while a dyno still holds a place for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wire::routes::StuckRequest;

/// A dyno's orphans. The common case, none, costs a look at a number.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    count: AtomicUsize,
    by_key: Mutex<HashMap<u64, Orphan>>,
}

#[derive(Debug)]
struct Orphan {
    method: String,
    path: String,
    sent_at: Instant,
}

/// Stays with the place on the dyno and is dropped with it.
#[derive(Debug)]
pub(crate) struct Orphaned {
    orphans: Arc<Orphans>,
    key: u64,
}

impl Orphans {
    /// The request that was sent at `sent_at` has lost its client. Of the target only the path is kept: a query may
    /// hold secrets.
    pub(crate) fn add(self: &Arc<Self>, method: &str, target: &str, sent_at: Instant) -> Orphaned {
        static KEY: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let key = KEY.fetch_add(1, Ordering::Relaxed);
        let path = target.split('?').next().unwrap_or_default();
        let path = path.chars().take(StuckRequest::PATH_CHARS_MAX).collect();
        let orphan = Orphan { method: method.to_owned(), path, sent_at };
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).insert(key, orphan);
        self.count.fetch_add(1, Ordering::Relaxed);
        Orphaned { orphans: self.clone(), key }
    }

    /// How many were sent longer ago than `age`, and the oldest of them, oldest first.
    pub(crate) fn older_than(&self, age: Duration) -> (u32, Vec<StuckRequest>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return (0, Vec::new());
        }
        let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old: Vec<&Orphan> = by_key.values().filter(|orphan| orphan.sent_at.elapsed() > age).collect();
        old.sort_by_key(|orphan| orphan.sent_at);
        let told = old.iter().take(StuckRequest::TOLD_MAX).map(|orphan| StuckRequest {
            method: orphan.method.clone(),
            path: orphan.path.clone(),
            seconds: orphan.sent_at.elapsed().as_secs(),
        });
        (u32::try_from(old.len()).unwrap_or(u32::MAX), told.collect())
    }
}

impl Drop for Orphaned {
    fn drop(&mut self) {
        self.orphans.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.orphans.count.fetch_sub(1, Ordering::Relaxed);
    }
}
