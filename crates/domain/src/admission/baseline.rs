//! What answers took at limits that turned out not to be too high: slower answers than these are queueing, or news.

/// Latency so many times the baseline's is a reason to look whether a lower limit is enough.
const SUSPICIOUS: f64 = 1.25;

/// Latency up to so many times the baseline's is the same.
const AS_FAST: f64 = 1.1;

/// Fewer completions are no base for a comparison, some are one for a limit twice as high, and so many are beyond doubt.
const COMPLETIONS_MIN: f64 = 4.0;
const COMPLETIONS_SOME: f64 = 8.0;
const COMPLETIONS_KNOWN: f64 = 16.0;

/// More than these do not count: requests change.
const COMPLETIONS_MAX: f64 = 64.0;

/// Mean latency, how many completions it rests on, and the highest limit of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Baseline {
    seconds: f64,
    completions: f64,
    limit: f64,
}

impl Baseline {
    /// Notes what a limit was like, unless that contradicts what is known well. The rate is that of a full dyno per
    /// second, with the completions that it rests on.
    pub(crate) fn remember(&mut self, rate_and_completions: Option<(f64, f64)>, limit: f64) {
        let Some((rate, completions)) = rate_and_completions else { return };
        let seconds = limit / rate;
        let known = self.completions.min(COMPLETIONS_MAX);
        if known < COMPLETIONS_KNOWN || seconds < SUSPICIOUS * self.seconds {
            let all = known + completions;
            let limit = if known > 0.0 { limit.max(self.limit) } else { limit };
            let seconds = (self.seconds * known + seconds * completions) / all;
            *self = Self { seconds, completions: all, limit };
        }
    }

    /// Mean latency of `workers` that answer at `rate` per second, as a multiple of the baseline's; 1 if nothing is known.
    pub(crate) fn slower(&self, workers: f64, rate: Option<f64>) -> f64 {
        match rate {
            Some(rate) if self.completions >= COMPLETIONS_MIN => workers / rate / self.seconds,
            Some(_) | None => 1.0,
        }
    }

    /// So much slower is a reason to look whether a lower limit is enough.
    pub(crate) fn is_suspicious(slower: f64) -> bool {
        slower > SUSPICIOUS
    }

    /// Answers take no longer than at a limit of half as many or fewer: there is a worker for each.
    pub(crate) fn is_as_fast_at_half(&self, workers: f64, rate: Option<f64>) -> bool {
        self.completions >= COMPLETIONS_SOME && 2.0 * self.limit <= workers && self.slower(workers, rate) < AS_FAST
    }
}
