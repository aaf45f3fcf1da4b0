//! `R14` and `R15`: what a dyno's memory use means against its quota.

use crate::dyno_size::ByteCount;

/// The kernel's limit as a multiple of the quota, so that `R14` can be seen before the kernel kills.
pub const HARD_LIMIT_FACTOR: u64 = 2;

/// What to do about a dyno's memory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryVerdict {
    WithinQuota,
    /// `R14`: reported, the dyno runs on.
    Exceeded,
    /// `R15`: reported, the dyno is killed.
    VastlyExceeded,
}

/// Judges anonymous + shared + swapped memory. Page cache does not count: the kernel takes it back when it needs it.
pub fn judge(used: ByteCount, quota: ByteCount) -> MemoryVerdict {
    if used.0 >= quota.0.saturating_mul(HARD_LIMIT_FACTOR) {
        MemoryVerdict::VastlyExceeded
    } else if used.0 > quota.0 {
        MemoryVerdict::Exceeded
    } else {
        MemoryVerdict::WithinQuota
    }
}

/// The line that Heroku prints before `R14` and `R15`: `Process running mem=1028MB(103.3%)`.
#[expect(clippy::cast_precision_loss, reason = "a percentage with one decimal")]
pub fn usage_line(used: ByteCount, quota: ByteCount) -> String {
    let percent = used.0 as f64 * 100.0 / quota.0.max(1) as f64;
    format!("Process running mem={}MB({percent:.1}%)", used.0 / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_itself_is_allowed_and_twice_the_quota_is_fatal() {
        let quota = ByteCount::mebibytes(512);
        assert_eq!(judge(quota, quota), MemoryVerdict::WithinQuota);
        assert_eq!(judge(ByteCount(quota.0 + 1), quota), MemoryVerdict::Exceeded);
        assert_eq!(judge(ByteCount::mebibytes(1024), quota), MemoryVerdict::VastlyExceeded);
    }

    #[test]
    fn the_usage_line_is_herokus() {
        assert_eq!(
            usage_line(ByteCount::mebibytes(1028), ByteCount::mebibytes(995)),
            "Process running mem=1028MB(103.3%)"
        );
    }
}
