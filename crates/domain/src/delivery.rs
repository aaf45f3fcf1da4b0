//! What follows from an attempt to hand something to somebody else's server.

use std::time::Duration;

/// Attempts at a batch of log lines that the receiver refuses; then it is dropped and counted, so that one line which a
/// receiver cannot stand does not hold up all that follow.
const REFUSALS_MAX: u32 = 5;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The status of the receiver's answer.
    Answered(u16),
    /// There was no answer.
    Unreachable,
}

/// What to do with a batch of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    Retry { after: Duration },
    Drop,
}

/// Decides about a batch after its `attempts`-th attempt (1: the first). `jitter` from 0 to 1 spreads the retries of
/// many drains that lost the same receiver.
///
/// A receiver that is away or out of order gets the batch again until it takes it.
pub fn verdict(outcome: Outcome, attempts: u32, jitter: f64) -> Verdict {
    match outcome {
        Outcome::Answered(200..300) => Verdict::Delivered,
        Outcome::Answered(408 | 429) | Outcome::Unreachable => retry(attempts, jitter),
        Outcome::Answered(400..500) if attempts >= REFUSALS_MAX => Verdict::Drop,
        Outcome::Answered(_) => retry(attempts, jitter),
    }
}

fn retry(attempts: u32, jitter: f64) -> Verdict {
    Verdict::Retry { after: backoff(attempts, BACKOFF_MIN, BACKOFF_MAX, jitter) }
}

/// Doubles from `min` to `max`; `jitter` takes up to a quarter away.
pub fn backoff(attempts: u32, min: Duration, max: Duration, jitter: f64) -> Duration {
    let doubled = min.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    doubled.min(max).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(outcome: Outcome, attempts: u32) -> Option<u64> {
        match verdict(outcome, attempts, 0.0) {
            Verdict::Retry { after } => Some(after.as_secs()),
            Verdict::Delivered | Verdict::Drop => None,
        }
    }

    #[test]
    fn a_receiver_that_is_away_is_asked_again_ever_more_slowly() {
        for outcome in [Outcome::Unreachable, Outcome::Answered(503), Outcome::Answered(429), Outcome::Answered(302)] {
            let waits: Vec<_> = (1..=8).filter_map(|attempts| after(outcome, attempts)).collect();
            assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60], "{outcome:?}");
            assert_eq!(after(outcome, u32::MAX), Some(60));
        }
    }

    #[test]
    fn a_receiver_that_refuses_does_not_hold_up_what_follows() {
        assert_eq!(verdict(Outcome::Answered(204), 1, 0.0), Verdict::Delivered);
        assert!(matches!(verdict(Outcome::Answered(413), 4, 0.0), Verdict::Retry { .. }));
        assert_eq!(verdict(Outcome::Answered(413), 5, 0.0), Verdict::Drop);
    }

    #[test]
    fn jitter_takes_a_quarter_at_most() {
        let waits = |jitter| backoff(1, Duration::from_secs(4), Duration::from_secs(60), jitter).as_millis();
        assert_eq!((waits(0.0), waits(0.5), waits(1.0), waits(7.0)), (4000, 3500, 3000, 3000));
    }
}
