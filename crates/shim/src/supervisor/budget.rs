//! How much of a dyno's output is kept: a process that prints without end must not own the disk and a processor.

/// What may be written at once after a quiet time. More than 16 MB, so that no line of an ordinary burst is lost.
const BURST_BYTES: u64 = 32 * 1024 * 1024;
const BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// Once empty, the budget grows to this before lines are kept again: a loss shows as a few long gaps, each of which
/// costs a segment file, not as many short ones.
const RESUME_BYTES: u64 = 8 * 1024 * 1024;

/// A token bucket with hysteresis.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: u64,
    filled_at_us: u64,
    exhausted: bool,
}

impl Budget {
    pub(crate) const fn new(now_us: u64) -> Self {
        Self { bytes: BURST_BYTES, filled_at_us: now_us, exhausted: false }
    }

    /// Whether `bytes` more may be kept now.
    pub(crate) fn take(&mut self, now_us: u64, bytes: u64) -> bool {
        let elapsed_us = now_us.saturating_sub(self.filled_at_us);
        let gained = elapsed_us.saturating_mul(BYTES_PER_SECOND) / 1_000_000;
        if gained > 0 || now_us < self.filled_at_us {
            self.bytes = self.bytes.saturating_add(gained).min(BURST_BYTES);
            self.filled_at_us = now_us;
        }
        if self.exhausted && self.bytes < RESUME_BYTES {
            return false;
        }
        self.exhausted = self.bytes < bytes;
        if !self.exhausted {
            self.bytes -= bytes;
        }
        !self.exhausted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_kept_and_an_endless_flood_is_bounded() {
        let mut budget = Budget::new(0);
        // 100 MB per second for 10 s, in lines of 100 bytes each microsecond.
        let kept: u64 = (0..10_000_000_u64).filter(|&now_us| budget.take(now_us, 100)).count() as u64 * 100;
        assert!(kept >= BURST_BYTES);
        assert!(kept <= BURST_BYTES + 10 * BYTES_PER_SECOND, "{kept}");
    }

    #[test]
    fn losses_come_in_few_long_gaps() {
        let mut budget = Budget::new(0);
        let taken: Vec<bool> = (0..10_000_000_u64).step_by(100).map(|now_us| budget.take(now_us, 10_000)).collect();
        let gaps = taken.windows(2).filter(|pair| pair[0] && !pair[1]).count();
        assert!((2..=11).contains(&gaps), "{gaps}");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_the_refill() {
        let mut budget = Budget::new(1_000_000_000);
        assert!(budget.take(1_000_000_000, BURST_BYTES));
        assert!(!budget.take(5, 1));
        assert!(budget.take(2_000_000, 1));
    }
}
