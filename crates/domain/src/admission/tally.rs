//! How fast a dyno answers while it is full: the one measurement that learning rests on.

use std::time::Duration;

/// It is 1 where service times are exponential, less where they are more even, far more where few requests hold their
/// slots for most of the time. That few have been seen does not show that they were even.
const DISPERSION_MIN: f64 = 1.25;
const DISPERSION_MAX: f64 = 30.0;

/// Squared coefficient of variation of times that are equal but for what the machine adds, and the shortest mean, in
/// seconds, of which what the machine adds is little.
const EQUAL: f64 = 0.01;
const EQUAL_SECONDS_MIN: f64 = 0.08;

/// Time that a dyno spent at its limit, and the answers that it gave out of that state.
///
/// Their quotient is the dyno's throughput at that limit, however often it was reached and whatever the requests were:
/// the rate at which a full dyno finishes requests does not depend on how it became full.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) full_seconds: f64,
    pub(crate) completions: f64,
    /// The squares of the times between completions.
    pub(crate) gap_squares: f64,
    /// How long the requests that ended so had been with the dyno, and the squares of that.
    pub(crate) held_seconds: f64,
    pub(crate) held_squares: f64,
}

/// The same since the dyno was first seen, as whoever runs the dyno counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DynoCount {
    /// Names the dyno; never used again for another.
    pub serial: u64,
    pub full: Duration,
    /// Answers that ended a time of being full.
    pub completions: u64,
    /// How long these requests had been with the dyno, all together; and the sum of the squares, in square microseconds,
    /// which wraps around.
    pub held: Duration,
    pub held_squares_us: u64,
    /// All answers.
    pub answers: u64,
    /// Requests that it has now.
    pub in_flight: u32,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.full_seconds += other.full_seconds;
        self.completions += other.completions;
        self.gap_squares += other.gap_squares;
        self.held_seconds += other.held_seconds;
        self.held_squares += other.held_squares;
    }

    /// Squared coefficient of variation of how long requests were held; 0 of none.
    pub(crate) fn unevenness(self) -> f64 {
        let squared_mean = self.held_seconds * self.held_seconds / self.completions;
        if squared_mean > 0.0 { (self.held_squares / squared_mean - 1.0).max(0.0) } else { 0.0 }
    }

    /// How long requests were held, if that was the same for all.
    pub(crate) fn equal_seconds(self) -> Option<f64> {
        let is_equal = self.completions > 0.0 && self.unevenness() <= EQUAL;
        is_equal.then(|| self.held_seconds / self.completions).filter(|seconds| *seconds >= EQUAL_SECONDS_MIN)
    }

    /// Completions per second while full; `None` before the first.
    pub(crate) fn rate(self) -> Option<f64> {
        (self.completions > 0.0 && self.full_seconds > 0.0).then(|| self.completions / self.full_seconds)
    }

    /// Variance of a number of such completions as a multiple of their number, from how uneven they came.
    pub(crate) fn dispersion(self) -> f64 {
        if self.full_seconds <= 0.0 {
            return DISPERSION_MIN;
        }
        let uneven = self.gap_squares * self.completions / (self.full_seconds * self.full_seconds) - 1.0;
        uneven.clamp(DISPERSION_MIN, DISPERSION_MAX)
    }
}

/// Whole spans between completions: from one that is not counted to the last one that is.
///
/// What has been worked on since the last completion is left out. Workers with constant service times answer all
/// together, once per service time: a span that begins or ends between two such waves is wrong by a part of a wave.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span {
    tally: Tally,
    silent_seconds: f64,
    begun: bool,
}

impl Span {
    /// Begins now, with the time since the last completion already behind it.
    pub(crate) fn begun(silent_seconds: f64) -> Self {
        Self { tally: Tally::default(), silent_seconds, begun: true }
    }

    pub(crate) fn add(&mut self, new: Tally) {
        if !self.begun {
            self.begun = new.completions > 0.0;
            return;
        }
        self.silent_seconds += new.full_seconds;
        if new.completions > 0.0 {
            self.tally.full_seconds += self.silent_seconds;
            self.tally.gap_squares += self.silent_seconds * self.silent_seconds / new.completions;
            self.tally.completions += new.completions;
            self.tally.held_seconds += new.held_seconds;
            self.tally.held_squares += new.held_squares;
            self.silent_seconds = 0.0;
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    pub(crate) fn silent_seconds(&self) -> f64 {
        self.silent_seconds
    }

    /// With what has been worked on since the last completion.
    pub(crate) fn full_seconds(&self) -> f64 {
        self.tally.full_seconds + self.silent_seconds
    }

    /// Forgets half once there is more than `completions_max`: what is long ago says little about now.
    pub(crate) fn fade(&mut self, completions_max: f64) {
        if self.tally.completions > completions_max {
            self.tally.full_seconds /= 2.0;
            self.tally.completions /= 2.0;
            self.tally.gap_squares /= 2.0;
            self.tally.held_seconds /= 2.0;
            self.tally.held_squares /= 2.0;
        }
    }
}

/// The sum over dynos.
pub(crate) fn sum<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Tally {
    let mut all = Tally::default();
    for span in spans {
        all.add(span.tally);
    }
    all
}

/// Completions per second of a dyno that is full, as the mean over dynos, and how many completions that rests on.
///
/// Each dyno counts once: a slow one would weigh more in a sum of times, and less in a sum of completions.
pub(crate) fn mean_rate<'a>(spans: impl Iterator<Item = &'a Span> + Clone) -> Option<(f64, f64)> {
    let all = sum(spans.clone());
    let of_dynos = spans.filter(|span| span.tally.completions >= 2.0).filter_map(|span| span.tally.rate());
    let (total, dynos) = of_dynos.fold((0.0, 0.0), |(total, dynos), rate| (total + rate, dynos + 1.0));
    if dynos > 0.0 { Some((total / dynos, all.completions)) } else { Some((all.rate()?, all.completions)) }
}

/// Turns one dyno's running counts into what was new each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    seen: DynoCount,
    /// Full without a completion for this long.
    silent_seconds: f64,
}

impl Meter {
    pub(crate) fn new(seen: DynoCount) -> Self {
        Self { seen, silent_seconds: 0.0 }
    }

    /// Answers since the last look.
    pub(crate) fn answers(&self, count: DynoCount) -> f64 {
        to_f64(count.answers.saturating_sub(self.seen.answers))
    }

    /// What was new. Of a silence only the first `silence_max` seconds count: a dyno that is frozen says nothing about
    /// how many requests it can serve.
    pub(crate) fn read(&mut self, count: DynoCount, silence_max: f64) -> Tally {
        let full = count.full.saturating_sub(self.seen.full).as_secs_f64();
        let completions = count.completions.saturating_sub(self.seen.completions);
        let held_seconds = count.held.saturating_sub(self.seen.held).as_secs_f64();
        let held_squares = to_f64(count.held_squares_us.wrapping_sub(self.seen.held_squares_us)) / 1e12;
        self.seen = count;
        if completions > 0 {
            let heard = full.min((silence_max - self.silent_seconds).max(0.0));
            self.silent_seconds = 0.0;
            let completions = to_f64(completions);
            return Tally { full_seconds: heard, completions, gap_squares: 0.0, held_seconds, held_squares };
        }
        let heard = full.min((silence_max - self.silent_seconds).max(0.0));
        self.silent_seconds += full;
        Tally { full_seconds: heard, ..Tally::default() }
    }
}

/// Exact up to 2^53, and no counter gets there between two looks.
#[expect(clippy::cast_precision_loss, reason = "differences of counters are small")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_silence_counts_as_a_short_one() {
        let mut meter = Meter::new(DynoCount::default());
        let at = |full_ms, completions| DynoCount {
            serial: 0,
            full: Duration::from_millis(full_ms),
            completions,
            answers: completions,
            in_flight: 1,
            ..DynoCount::default()
        };
        assert_eq!(meter.read(at(100, 2), 0.5), Tally { full_seconds: 0.1, completions: 2.0, ..Tally::default() });
        assert_eq!(meter.read(at(500, 2), 0.5), Tally { full_seconds: 0.4, ..Tally::default() });
        let heard = meter.read(at(9_500, 2), 0.5);
        assert!((heard.full_seconds - 0.1).abs() < 1e-9, "{heard:?}");
        assert_eq!(meter.read(at(9_600, 3), 0.5), Tally { completions: 1.0, ..Tally::default() });
    }
}
