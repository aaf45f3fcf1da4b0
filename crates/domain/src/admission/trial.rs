//! One experiment: some dynos run at another limit than the rest, and their throughputs are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admission::tally::{Span, Tally, sum};

/// Half a completion is added to a count before its error is estimated, so that zero has one, too.
const CONTINUITY: f64 = 0.5;

/// How many completions' worth of trust is put in dynos being as fast as they were before the experiment.
const DRIFT_PRIOR: f64 = 4.0;

/// Workers with constant service times answer all together, once per service time. How many such waves fall into a trial
/// is chance: a variance of a quarter of a wave squared, for each dyno.
const PHASE: f64 = 0.25;

/// Of fewer waves, or mean times of an answer, nothing is known.
const CYCLES_MIN: f64 = 0.75;

/// Answers that come with a larger dispersion say too little to refuse anybody for it.
const UNEVEN: f64 = 4.0;

/// A wave is whole once so many of the slots have brought an answer, within so many times the time of one: uniform service
/// times between half and one and a half times their mean need the longest.
const WAVE_SHARE: f64 = 0.9;
const WAVE_SECONDS: f64 = 1.5;

/// The squared coefficient of variation of times of answers up to which they are even: that of uniform ones is 0.08, that
/// of exponential ones 1.
const EVEN: f64 = 0.12;

/// The first of several waves of equal answers is over, and the second not begun, so many times the time of an answer after
/// its beginning. A dyno that has brought less than this share of a wave says nothing.
const FIRST_WAVE: (f64, f64) = (1.08, 1.4);
const WAVE_LEAST: f64 = 0.8;

/// So many answers for each slot give a mean where they are not equal among themselves.
const ROUNDS: f64 = 2.0;

/// Of fewer answers, that they took the same time may be chance: one in ten could be long.
const EXACT_MIN: f64 = 30.0;

/// For how many of them a trial waits, a gain that is one for sure, and how sure it is where there is none.
const EQUALS_WAVES: f64 = 2.5;
const EQUALS_GAIN_MAX: f64 = 1.15;
const EQUALS_SURE: f64 = 2.0;

/// Fewer answers of those that are not probed do not tell how long one takes.
const WAVE_ANSWERS_MIN: f64 = 2.0;

#[derive(Debug)]
pub(crate) struct Trial {
    /// The limit of the probes; the others stay at `base`.
    pub(crate) level: u32,
    pub(crate) base: u32,
    /// Everything counts from the beginning, and slots that are new begin empty.
    pub(crate) at_once: bool,
    /// Answers took all the same time before.
    pub(crate) exact: bool,
    pub(crate) started: Duration,
    /// Until then dynos get used to their limits, and nothing counts.
    pub(crate) settled: Duration,
    pub(crate) probes: BTreeMap<u64, Span>,
    pub(crate) others: BTreeMap<u64, Span>,
    pub(crate) certainty: Certainty,
}

/// How much likelier one answer must be than the other, as a natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Certainty {
    /// Before the probes' limit is taken over.
    pub(crate) to_adopt: f64,
    /// Before it is rejected.
    pub(crate) to_reject: f64,
    /// Completions of the probes after which the best guess is taken.
    pub(crate) completions_max: f64,
    /// An error this small against the distance of the two limits says enough: the truth is between them.
    pub(crate) error_max: f64,
}

impl Certainty {
    /// To stay far below what the dynos could do costs more than a trial that lasts.
    pub(crate) const HURRIED: Self = Self { to_adopt: 1.1, to_reject: 2.0, completions_max: 60.0, error_max: 0.4 };
    /// Answers are late as long as the trial lasts.
    pub(crate) const LATE: Self = Self { to_adopt: 3.0, to_reject: 1.6, completions_max: 60.0, error_max: 0.3 };
    /// Answers have become slower.
    pub(crate) const SUSPICIOUS: Self = Self { to_adopt: 2.0, to_reject: 2.5, completions_max: 200.0, error_max: 0.3 };
    /// Of a lower limit.
    pub(crate) const DOWN: Self = Self { to_adopt: 3.5, to_reject: 1.6, completions_max: 400.0, error_max: 0.3 };
    pub(crate) const USUAL: Self = Self { to_adopt: 3.0, to_reject: 2.0, completions_max: 400.0, error_max: 0.3 };
}

/// What answers say that all take the same time.
enum Equals {
    /// They do not.
    No,
    /// They will, in a moment.
    Awaited,
    /// The probes' throughput, where the others' is 1.
    Gain(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Open,
    /// The probes' limit is the better one. `gain` is their throughput, where the others' is 1.
    Adopt {
        gain: f64,
    },
    /// `sure` is how much likelier that is than the opposite, as a natural logarithm.
    Reject {
        gain: f64,
        sure: f64,
    },
}

impl Trial {
    /// Notes what one dyno did until `now`.
    pub(crate) fn note(&mut self, serial: u64, new: Tally, now: Duration) {
        if now < self.settled {
            return;
        }
        match self.probes.get_mut(&serial) {
            Some(probe) => probe.add(new),
            None => self.others.entry(serial).or_default().add(new),
        }
    }

    /// Judges, by what each dyno did before (`known`) and what the others do meanwhile.
    ///
    /// Each probe is compared with its own past, so that a slow dyno among the probes does not look like a bad limit;
    /// that past is corrected by how the others fare now, so that a slow database does not either.
    pub(crate) fn judge(&self, known: &BTreeMap<u64, Span>, now: Duration) -> Verdict {
        let ratio = f64::from(self.level) / f64::from(self.base);
        match self.equals(now) {
            Equals::Gain(gain) if gain > ratio.sqrt().min(EQUALS_GAIN_MAX) => return Verdict::Adopt { gain },
            Equals::Gain(gain) if self.is_exact() => return Verdict::Reject { gain, sure: EQUALS_SURE },
            Equals::Gain(_few) => {}
            Equals::Awaited => return Verdict::Open,
            Equals::No if self.at_once && self.level > self.base && self.is_whole_wave() => {
                return Verdict::Adopt { gain: ratio };
            }
            Equals::No => {}
        }
        let (all, others) = (sum(known.values()), sum(self.others.values()));
        let mut reference = all;
        reference.add(others);
        let Some(typical) = reference.rate() else { return Verdict::Open };
        let mean_latency = f64::from(self.base) / typical;
        if now.saturating_sub(self.settled).as_secs_f64() < 1.25 * mean_latency {
            return Verdict::Open;
        }
        let is_past = |past: &Tally| past.completions >= 2.0 && past.full_seconds >= CYCLES_MIN * mean_latency;
        let usual = |serial: &u64| known.get(serial).map(Span::tally).filter(is_past)?.rate();
        let of_past = |spans: &BTreeMap<u64, Span>| -> f64 {
            let of_dyno = |(serial, span): (&u64, &Span)| Some(usual(serial)? * span.tally().full_seconds);
            spans.iter().filter_map(of_dyno).sum()
        };
        let with_past = |(serial, _span): &(&u64, &Span)| usual(serial).is_some();
        let meanwhile = sum(self.others.iter().filter(with_past).map(|(_serial, span)| span)).completions;
        let drift = (meanwhile + DRIFT_PRIOR) / (of_past(&self.others) + DRIFT_PRIOR);
        let without_past = |(serial, _span): &(&u64, &Span)| usual(serial).is_none();
        let strange = sum(self.probes.iter().filter(without_past).map(|(_serial, span)| span)).full_seconds;
        let expected = of_past(&self.probes) * drift + strange * others.rate().unwrap_or(typical);
        let probed = sum(self.probes.values());
        let completions = probed.completions;
        if expected <= 0.0 || reference.completions < to_f64(self.others.len()) {
            return Verdict::Open;
        }
        // Only the time that they were full counts: a limit that was reached for a moment may have met a wave in it.
        let cycles = |tally: Tally, dynos: f64| tally.full_seconds / (dynos * mean_latency);
        let probe_cycles = cycles(probed, to_f64(self.probes.len()));
        let other_cycles = cycles(reference, to_f64(self.others.len().max(1)));
        if probe_cycles < CYCLES_MIN {
            return Verdict::Open;
        }
        let gain = (completions + CONTINUITY) / (expected + CONTINUITY);
        let variance = probed.dispersion() / (completions + CONTINUITY)
            + reference.dispersion() / (reference.completions + CONTINUITY)
            + PHASE / (to_f64(self.probes.len()) * probe_cycles * probe_cycles)
            + PHASE / (to_f64(self.others.len().max(1)) * other_cycles * other_cycles);
        let ratio = (f64::from(self.level) / f64::from(self.base)).ln();
        // Where the answer would be "as many more as there are slots", and where "no more at all".
        let error = variance.sqrt();
        // As a likelihood ratio of the two, in logarithms, so that few completions are seldom mistaken for many.
        let distance = (gain.ln() - ratio / 2.0) * ratio.abs() / variance;
        match () {
            () if distance >= self.certainty.to_adopt => Verdict::Adopt { gain },
            () if distance <= -self.certainty.to_reject => Verdict::Reject { gain, sure: -distance },
            () if completions < self.certainty.completions_max && error > self.certainty.error_max * ratio.abs() => {
                Verdict::Open
            }
            () if distance >= 0.0 => Verdict::Adopt { gain },
            () => Verdict::Reject { gain, sure: -distance },
        }
    }
}

impl Trial {
    /// Whether nearly every slot of the probes has brought an answer in about the time that one takes, so that there is a
    /// worker for each. Answers that take about the same time come in waves, and then one wave says as much as many.
    ///
    /// It only ever says yes: that there are fewer workers shows in what they do afterwards, and whether answers are even
    /// is known only as far as some have come.
    fn is_whole_wave(&self) -> bool {
        let (probes, others) = (sum(self.probes.values()), sum(self.others.values()));
        let mut all = probes;
        all.add(others);
        let slots = to_f64(self.probes.len()) * f64::from(self.level);
        if others.completions < WAVE_ANSWERS_MIN || all.unevenness() > EVEN || probes.completions < WAVE_SHARE * slots {
            return false;
        }
        let full_seconds: f64 = self.probes.values().map(Span::full_seconds).sum();
        let seconds = others.held_seconds / others.completions;
        full_seconds <= WAVE_SECONDS * seconds * to_f64(self.probes.len())
    }

    /// There is little chance in answers that all take the same time. In the first wave of them the slots that have brought
    /// none have no worker. Later, how long requests are held says what the throughput is (Little's law).
    fn equals(&self, now: Duration) -> Equals {
        let (probes, others) = (sum(self.probes.values()), sum(self.others.values()));
        let Some(seconds) = others.equal_seconds().filter(|_equal| others.completions >= WAVE_ANSWERS_MIN) else {
            return Equals::No;
        };
        let (dynos, base, level) = (to_f64(self.probes.len()), f64::from(self.base), f64::from(self.level));
        if self.at_once {
            let waves = self.probes.values().map(Span::full_seconds).sum::<f64>() / (dynos * seconds);
            let is_whole = |probe: &Span| probe.tally().completions >= WAVE_LEAST * base;
            let is_over = (FIRST_WAVE.0..=FIRST_WAVE.1).contains(&waves) && self.probes.values().all(is_whole);
            let is_equal = probes.equal_seconds().is_some();
            let gain = (probes.completions / dynos).floor() / base;
            return match is_equal {
                true if is_over => Equals::Gain(gain),
                true if waves < FIRST_WAVE.0 => Equals::Awaited,
                _ => Equals::No,
            };
        }
        // Where slots are no multiple of the workers, some requests wait for another and some do not; of two rounds the
        // mean is near enough.
        let rounds = probes.completions / (dynos * level);
        if (self.exact && rounds >= ROUNDS) || (rounds >= WAVE_LEAST && probes.equal_seconds().is_some()) {
            return Equals::Gain(level / base * seconds / (probes.held_seconds / probes.completions));
        }
        let waves = now.saturating_sub(self.settled).as_secs_f64() / seconds;
        if self.exact && waves <= EQUALS_WAVES * (level / base).max(1.0) { Equals::Awaited } else { Equals::No }
    }

    /// Whether there is little chance in what the others answered.
    pub(crate) fn is_exact(&self) -> bool {
        let (probes, others) = (sum(self.probes.values()), sum(self.others.values()));
        let equal = |tally: Tally| tally.equal_seconds().map_or(0.0, |_seconds| tally.completions);
        equal(others) > 0.0 && equal(others) + equal(probes) >= EXACT_MIN
    }

    /// Whether the probes did no better than the others at the same time, whatever was known before, and answers came
    /// evenly: where few requests hold their slots for most of the time, it is chance which side they are on.
    pub(crate) fn confirms_rejection(&self) -> bool {
        let (probes, others) = (sum(self.probes.values()), sum(self.others.values()));
        if probes.dispersion() > UNEVEN || others.dispersion() > UNEVEN {
            return false;
        }
        let (Some(probes), Some(others)) = (probes.rate(), others.rate()) else { return self.others.is_empty() };
        probes / others < (f64::from(self.level) / f64::from(self.base)).sqrt()
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of dynos are small")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trial of four slots against one, two dynos each, from the beginning; what each has answered after so many
    /// milliseconds, given how long each answer took.
    fn verdict(after_ms: u32, probe_ms: &[u32], other_ms: &[u32]) -> Verdict {
        let span = |answers_ms: &[u32]| {
            let seconds = |ms: &u32| f64::from(*ms) / 1000.0;
            let mut span = Span::begun(0.0);
            span.add(Tally {
                full_seconds: f64::from(after_ms) / 1000.0,
                completions: to_f64(answers_ms.len()),
                held_seconds: answers_ms.iter().map(seconds).sum(),
                held_squares: answers_ms.iter().map(|ms| seconds(ms) * seconds(ms)).sum(),
                ..Tally::default()
            });
            span
        };
        let trial = Trial {
            level: 4,
            base: 1,
            at_once: true,
            exact: false,
            started: Duration::ZERO,
            settled: Duration::ZERO,
            probes: [0, 1].map(|serial| (serial, span(probe_ms))).into(),
            others: [2, 3].map(|serial| (serial, span(other_ms))).into(),
            certainty: Certainty { to_adopt: 1.1, to_reject: 2.0, completions_max: 60.0, error_max: 0.4 },
        };
        trial.judge(&BTreeMap::new(), Duration::from_millis(u64::from(after_ms)))
    }

    #[test]
    fn a_whole_wave_of_even_answers_is_enough() {
        assert_eq!(verdict(330, &[300, 301, 303, 302], &[300]), Verdict::Adopt { gain: 4.0 });
        assert_eq!(verdict(420, &[250, 401, 303, 302], &[300]), Verdict::Adopt { gain: 4.0 }, "not quite as even");
    }

    #[test]
    fn the_first_wave_of_equal_answers_tells_how_many_workers_there_are() {
        assert_eq!(verdict(310, &[300, 301], &[300]), Verdict::Open, "it may not be whole");
        assert_eq!(verdict(330, &[300, 301], &[300]), Verdict::Adopt { gain: 2.0 });
        assert_eq!(verdict(330, &[50, 301], &[300]), Verdict::Open, "the others may take long");
        assert_eq!(verdict(33, &[30, 30], &[30]), Verdict::Open, "much of that may be the machine's");
    }

    #[test]
    fn a_part_of_a_wave_or_a_late_one_or_an_uneven_one_is_not() {
        assert_eq!(verdict(310, &[300, 301, 303], &[300]), Verdict::Open, "one slot has brought none");
        assert_ne!(verdict(610, &[300, 300, 600, 600], &[300, 300]), Verdict::Adopt { gain: 4.0 }, "two workers");
        assert_eq!(verdict(310, &[50, 100, 300, 300], &[300]), Verdict::Open, "chance");
    }
}
