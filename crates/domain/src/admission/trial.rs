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

#[derive(Debug)]
pub(crate) struct Trial {
    /// The limit of the probes; the others stay at `base`.
    pub(crate) level: u32,
    pub(crate) base: u32,
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
        let (all, others) = (sum(known.values()), sum(self.others.values()));
        let reference = Tally {
            full_seconds: all.full_seconds + others.full_seconds,
            completions: all.completions + others.completions,
            gap_squares: all.gap_squares + others.gap_squares,
        };
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
