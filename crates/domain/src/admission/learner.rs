//! Learns how many requests a dyno can work on at once, from nothing but how fast it answers.
//!
//! What is learned is `workers`: the number of requests up to which a dyno answers as many more as it is given. It is
//! one number for all dynos of an app's release, because they run the same code; a slow dyno has as many workers.
//!
//! ```text
//!   base ── the limit is reached and it is time ──► trial: some dynos at another limit
//!    ▲                                                │
//!    └── workers adopted, or kept ◄── verdict ────────┘
//! ```
//!
//! A trial compares the throughput of full dynos at two limits *at the same time*. With workers `k`, throughput at
//! limit `l` is in proportion to `min(l, k)`; so if four times the limit brings four times the answers, there are at
//! least that many workers, and if it brings nothing there are no more than before. Slow endpoints, a slow database
//! or a frozen machine slow both sides alike and decide nothing. That is why only latency *as a function of
//! concurrency* ever lowers the limit.
//!
//! In a cold start it is more urgent to come near the limit than to be right about it. Where answers take about the same
//! time each, a trial is over there once nearly every slot has brought one in that time, or so many of them as there are
//! workers; where they do not, that could be chance, and it takes as many answers as it takes.
//!
//! A limit without evidence is a guess, and nobody is refused for it ([`Learner::sheds`]): only rejected trials upwards
//! are evidence, several of them. Where nothing is answered there is nothing to compare; then dynos are lent more than
//! their limit, unless answers used to come so regularly that their absence is a stall.
//!
//! Trials upwards start with four times the limit and become careful where one fails; trials downwards verify. A
//! limit that is never reached is never tried, and never changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admission::baseline::Baseline;
use crate::admission::loan::{Judgement, Loan, Silence};
use crate::admission::pulse::Pulse;
use crate::admission::tally::{Meter, Span, mean_rate, sum};
use crate::admission::trial::{Certainty, Trial, Verdict};

pub use crate::admission::tally::DynoCount;

/// Where learning begins: certainly not too many.
pub const WORKERS_START: u32 = 1;

/// The largest limit that is learned. Beyond it the limit is the machine's, not the dyno's.
pub const WORKERS_MAX: u32 = 4_096;

/// A worker may have this much more work waiting for it inside its dyno, so that it is not idle while an answer and
/// the next request are under way. It matters only to requests that are about as short.
const SLACK_SECONDS: f64 = 0.006;

/// How the limit is multiplied in trials upwards, from bold to careful.
const GROWTH: [f64; 4] = [1.25, 1.5, 2.0, 4.0];

/// Index of the most careful one as long as nothing is proved.
const GROWTH_OPEN: usize = 2;

/// The same downwards.
const DESCENT: f64 = 0.75;
const DESCENT_LATE: f64 = 0.5;

/// Answers that take longer than this under trial are too late for whoever waits for them: such trials are rare.
const LATE_SECONDS: f64 = 0.6;

/// A trial upwards that would make answers take longer than this is a smaller one, unless it would have to be so small
/// that it decides nothing.
const ON_TIME_SECONDS: f64 = 0.7;
const ROOM_MIN: f64 = 1.5;

/// Time between trials once one has confirmed the limit; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How much rarer trials are that make answers late.
const LATE_PAUSE_FACTOR: u32 = 8;

/// A trial whose probes do not get full says nothing and ends.
const TRIAL_MAX: Duration = Duration::from_secs(20);

/// Of each dyno's past, about so many completions count, or so many per worker if that is more. A dyno that is alone
/// is compared with its own past only, so that has to be longer.
const MEMORY_COMPLETIONS: f64 = 24.0;
const MEMORY_COMPLETIONS_ALONE: f64 = 64.0;
const MEMORY_WAVES: f64 = 3.0;

/// Of a silence, so many mean latencies count, and never less than this many seconds.
const SILENCE_LATENCIES: f64 = 10.0;
const SILENCE_SECONDS_MIN: f64 = 0.5;

/// After a stall, what piled up in it is refused until nobody waits any more, but for so long at least and at most.
const AFTERMATH_MIN: Duration = Duration::from_millis(500);
const AFTERMATH_MAX: Duration = Duration::from_secs(3);

/// So sure must rejected trials upwards be, all together, that it is evidence.
const PROOF: f64 = 6.0;

/// Evidence for a limit is forgotten once no dyno has reached it for so long.
const EVIDENCE_LASTS: Duration = Duration::from_secs(10);

/// How long a confirmation is beyond suspicion.
const VERIFIED_FOR: Duration = Duration::from_secs(2);

/// Latency so many times that of a lower limit shows that bold growth has gone too far.
const OVERSHOT: f64 = 1.5;

/// Whether a hint should be replaced by what is learned: it wavers all the time.
pub fn is_news(hint: Option<u32>, learned: u32) -> bool {
    hint.is_none_or(|hint| learned.abs_diff(hint) * 4 > hint)
}

#[derive(Debug)]
pub struct Learner {
    workers: f64,
    /// Index into [`GROWTH`].
    growth: usize,
    /// No trial upwards has failed yet: it is more urgent to come near the limit than to be right about it.
    cold: bool,
    meters: BTreeMap<u64, Meter>,
    /// What an answer takes at the base limit, as far as was ever seen.
    seconds: Option<f64>,
    pulse: Pulse,
    loan: Loan,
    /// How sure the trials upwards are that were rejected since one was not.
    against: f64,
    /// The last stall was at this time, and what piled up in it still waits.
    stalled: Option<Duration>,
    /// What is known was not measured at the base limit.
    doubtful: bool,
    /// When a dyno was last at a limit of which it is known that more would bring no more.
    evidence: Option<Duration>,
    /// What each dyno does at the base limit.
    known: BTreeMap<u64, Span>,
    trial: Option<Trial>,
    next_trial: Duration,
    pause: Duration,
    /// Trials upwards that were rejected since the last one downwards.
    confirmed: u32,
    baseline: Baseline,
    /// When a trial downwards last confirmed the limit.
    verified: Option<Duration>,
    /// The dyno that the next probes begin with.
    turn: usize,
    /// The last trial was of answers that all took the same time: small differences can be told.
    exact: bool,
}

impl Learner {
    /// `hint` is what an earlier release of the app had learned.
    pub fn new(hint: Option<u32>) -> Self {
        let workers = hint.unwrap_or(WORKERS_START).clamp(1, WORKERS_MAX);
        Self {
            workers: f64::from(workers),
            growth: if hint.is_some() { 0 } else { GROWTH.len() - 1 },
            cold: hint.is_none(),
            meters: BTreeMap::new(),
            seconds: None,
            pulse: Pulse::default(),
            against: 0.0,
            stalled: None,
            doubtful: false,
            loan: Loan::default(),
            evidence: None,
            known: BTreeMap::new(),
            trial: None,
            next_trial: Duration::ZERO,
            pause: PAUSE_MIN,
            confirmed: 0,
            baseline: Baseline::default(),
            verified: None,
            turn: 0,
            exact: false,
        }
    }

    /// Requests that a dyno works on at once, as far as is known.
    pub fn workers(&self) -> u32 {
        rounded(self.workers)
    }

    /// Mean time from request to answer at the base limit; `None` until a dyno was full.
    pub fn latency(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs_f64)
    }

    /// Requests that this dyno may have at once.
    pub fn limit(&self, serial: u64) -> u32 {
        let limit = match &self.trial {
            Some(trial) if trial.probes.contains_key(&serial) => trial.level,
            Some(trial) => trial.base,
            None => self.base(),
        };
        limit + self.loan.extra()
    }

    /// Whether a request that waits for too long should be refused: more in flight would bring no more answers, or none
    /// come at all, or what piled up while none came still waits. Anything else would be to refuse out of ignorance.
    pub fn sheds(&self) -> bool {
        self.evidence.is_some() || self.stalled.is_some()
    }

    /// What piled up while nothing was answered, or while the router stood still, still waits.
    pub fn is_after_stall(&self) -> bool {
        self.stalled.is_some()
    }

    /// What another learner should begin with for the same dynos.
    pub fn hint(&self) -> u32 {
        self.workers() + if self.evidence.is_some() { 0 } else { self.loan.extra() }
    }

    /// Takes in what the dynos have done and decides the limits from now on. `counts` are of all dynos in the table;
    /// `waiting` is how long somebody has waited for one.
    pub fn step(&mut self, now: Duration, counts: &[DynoCount], waiting: Option<Duration>) {
        if !counts.is_empty() && !counts.iter().any(|count| self.meters.contains_key(&count.serial)) {
            // Other code may have another number of workers.
            self.evidence = None;
        }
        let silence_max = self
            .base_rate()
            .map_or(f64::MAX, |rate| (SILENCE_LATENCIES * f64::from(self.base()) / rate).max(SILENCE_SECONDS_MIN));
        self.meters.retain(|serial, _meter| counts.iter().any(|count| count.serial == *serial));
        let meters = &self.meters;
        self.known.retain(|serial, _span| meters.contains_key(serial));
        let alone = counts.len() == 1;
        let memory = if alone { MEMORY_COMPLETIONS_ALONE } else { MEMORY_COMPLETIONS };
        let memory = memory.max(MEMORY_WAVES * self.workers);
        let (mut binding, mut answers) = (false, 0.0);
        for count in counts {
            let meter = self.meters.entry(count.serial).or_insert_with(|| Meter::new(*count));
            answers += meter.answers(*count);
            let new = meter.read(*count, silence_max);
            binding |= new.full_seconds > 0.0;
            match &mut self.trial {
                Some(trial) => trial.note(count.serial, new, now),
                None if self.loan.extra() > 0 => {}
                None => {
                    let known = self.known.entry(count.serial).or_default();
                    known.add(new);
                    known.fade(memory);
                }
            }
        }
        let in_flight = counts.iter().map(|count| f64::from(count.in_flight)).sum();
        self.pulse.look(now, answers, in_flight);
        let in_flight_max = counts.iter().map(|count| count.in_flight).max().unwrap_or_default();
        self.lend(now, answers, in_flight_max, waiting.is_some());
        self.note_stall(now, waiting.is_some());
        self.evidence = self.evidence.map(|at| if binding { now } else { at });
        if self.evidence.is_some_and(|at| now.saturating_sub(at) >= EVIDENCE_LASTS) {
            self.evidence = None;
        }
        if let Some(rate) = self.base_rate()
            && self.loan.extra() == 0
        {
            self.seconds = Some((self.workers / rate).clamp(0.0, 3_600.0));
        }
        if self.trial.is_some() {
            self.follow_trial(now);
        } else if self.loan.extra() == 0 || self.evidence.is_some() {
            self.look_for_change(now);
            if binding && now >= self.next_trial {
                self.begin_trial(now, counts);
            }
        }
    }

    /// Before a stall nobody had to wait for long at this limit; so, once it is over, whoever comes then is served in
    /// time if those who came in the stall are not served first.
    fn note_stall(&mut self, now: Duration, waiting: bool) {
        if self.loan.is_running() && self.pulse.is_stalled() {
            self.stalled = Some(now);
            return;
        }
        let least = if waiting { AFTERMATH_MAX } else { AFTERMATH_MIN };
        self.stalled = self.stalled.filter(|at| now.saturating_sub(*at) < least);
    }

    /// The router itself stood still until now: what piled up in front of it is like what piles up in a stall.
    pub fn note_standstill(&mut self, now: Duration) {
        self.stalled = Some(now);
    }

    fn lend(&mut self, now: Duration, answers: f64, in_flight_max: u32, waiting: bool) {
        if answers > 0.0 {
            self.loan.end_silence();
            if self.sheds() {
                self.loan.pay_back();
            } else if self.loan.extra() > 0 {
                self.judge_loan(now, answers, waiting);
            }
            return;
        }
        if !waiting {
            return;
        }
        let silence = Silence {
            seconds: self.pulse.silent_seconds(),
            latency: self.seconds,
            recent_latency: self.pulse.latency(),
            workers: self.workers(),
            in_flight_max,
            is_stalled: self.pulse.is_stalled(),
            is_faint: self.pulse.is_faint(),
            sheds: self.sheds(),
        };
        if self.loan.lend(silence) && !self.sheds() {
            self.forget();
            // Slots that are held for long make every limit look alike.
            self.against = 0.0;
        }
    }

    fn judge_loan(&mut self, now: Duration, answers: f64, waiting: bool) {
        match self.loan.judge(now, answers, waiting, self.workers, to_f64(self.meters.len())) {
            Judgement::Open => return,
            Judgement::Enough { workers } => {
                self.workers = workers.min(f64::from(WORKERS_MAX));
                self.growth = GROWTH.len() - 1;
            }
            Judgement::TooMuch => {}
        }
        self.loan = Loan::default();
        self.forget();
    }

    /// Begins again at other limits.
    fn forget(&mut self) {
        self.trial = None;
        self.known.clear();
    }

    /// So sure it is that more in flight would bring no more answers; enough of it is evidence.
    fn count_against(&mut self, sure: f64, now: Duration) {
        self.against += sure;
        // A dyno that is alone is compared with its own past, and requests may have been different then.
        let proof = if self.meters.len() == 1 { 2.0 * PROOF } else { PROOF };
        if self.against >= proof {
            self.evidence = Some(now);
            self.loan = Loan::default();
        }
    }

    fn base(&self) -> u32 {
        let slack = self.base_rate().map_or(0.0, |rate| SLACK_SECONDS * rate);
        // Slack is for every worker one request more at most.
        rounded(self.workers + slack.min(self.workers))
    }

    /// Completions per second of one full dyno.
    fn base_rate(&self) -> Option<f64> {
        let others = self.trial.iter().flat_map(|trial| trial.others.values());
        mean_rate(self.known.values().chain(others)).map(|(rate, _completions)| rate)
    }

    /// A service that has become much slower may have lost workers, and then it is late to wait for the next trial.
    fn look_for_change(&mut self, now: Duration) {
        let enough = sum(self.known.values()).completions >= 8.0;
        if enough && self.is_suspicious(now) && self.pause > PAUSE_MIN {
            self.pause = PAUSE_MIN;
            self.next_trial = self.next_trial.min(now);
            self.confirmed = 1;
        }
    }

    /// Mean latency, as a multiple of what it was at a limit that was not too high.
    fn slower(&self) -> f64 {
        self.baseline.slower(self.workers, self.base_rate())
    }

    fn is_suspicious(&self, now: Duration) -> bool {
        let verified = self.verified.is_some_and(|verified| now.saturating_sub(verified) < VERIFIED_FOR);
        Baseline::is_suspicious(self.slower()) && !verified
    }

    /// Growth has gone too far, a moment ago, if answers have become slower: requests cannot have become that different
    /// meanwhile.
    fn steps_back(&mut self) -> bool {
        let slower = self.slower();
        let is_settled = sum(self.known.values()).completions >= 2.0 * self.workers;
        if (!self.cold && self.evidence.is_some()) || slower <= OVERSHOT || !is_settled {
            return false;
        }
        self.workers = (self.workers / slower).max(1.0);
        self.known.clear();
        // If they have, this would go on for ever.
        if !self.cold {
            self.baseline = Baseline::default();
        }
        self.cold = false;
        self.growth = 1;
        true
    }

    /// The limit of the next trial's probes, where it is lower than `base`.
    fn level_down(&self, base: u32, suspicious: bool) -> Option<u32> {
        let too_late = self.late_at(base, base);
        let down = base > 1
            && (self.evidence.is_some() || too_late)
            && (suspicious || self.confirmed > 0)
            && self.confirmed % 4 == 1
            // There is a worker for each, and looking whether fewer would do costs answers.
            && !self.baseline.is_as_fast_at_half(self.workers, self.base_rate());
        // If the answers have become slower because there are fewer workers, this is how many.
        let share = if too_late { DESCENT_LATE } else { DESCENT }.min(1.0 / self.slower());
        down.then(|| rounded(self.workers * share).min(base - 1))
    }

    fn level_up(&self, base: u32) -> u32 {
        rounded(f64::from(base) * GROWTH[self.growth()].min(self.room())).max(base + 1)
    }

    fn begin_trial(&mut self, now: Duration, counts: &[DynoCount]) {
        if self.steps_back() {
            return;
        }
        let base = self.base();
        let suspicious = self.is_suspicious(now);
        let lower = self.level_down(base, suspicious);
        let (level, down) = (lower.unwrap_or_else(|| self.level_up(base)), lower.is_some());
        // One dyno alone is compared with its own past, so it must have one.
        if level > WORKERS_MAX || (counts.len() == 1 && self.base_rate().is_none()) {
            return;
        }
        let bold = self.growth() >= 2 && !down;
        let late = !down && self.late_at(level, base);
        let wanted = if bold || suspicious || (!down && !late) { counts.len() / 2 } else { counts.len() / 4 };
        let probes = counts.iter().cycle().skip(self.turn).take(wanted.max(1)).map(|count| count.serial);
        // In a hurry, what a dyno has been doing since its last answer counts from the beginning, as far as it has no
        // slots that begin empty.
        let at_once = self.cold && !down;
        let share = f64::from(base) / f64::from(level);
        let span = |serial: u64, share: f64| match at_once {
            true => Span::begun(share * self.known.get(&serial).map_or(0.0, Span::silent_seconds)),
            false => Span::default(),
        };
        let probes: BTreeMap<u64, Span> = probes.map(|serial| (serial, span(serial, share))).collect();
        let others = counts.iter().map(|count| count.serial).filter(|serial| !probes.contains_key(serial));
        let others = others.map(|serial| (serial, span(serial, 1.0))).collect();
        let settling = self.latency().unwrap_or_default() * if at_once { 0 } else { 1 + u32::from(self.exact) };
        let settled = now + settling;
        self.turn = (self.turn + wanted.max(1)) % counts.len();
        let certainty = match () {
            () if late && !self.cold => Certainty::LATE,
            () if bold && self.cold => Certainty::HURRIED,
            () if suspicious => Certainty::SUSPICIOUS,
            () if down => Certainty::DOWN,
            () => Certainty::USUAL,
        };
        let exact = self.exact;
        self.trial = Some(Trial { level, base, at_once, exact, started: now, settled, probes, others, certainty });
    }

    /// As long as nothing is proved, fine differences do not matter, unless they are easily told.
    fn growth(&self) -> usize {
        if self.evidence.is_some() || self.exact { self.growth } else { self.growth.max(GROWTH_OPEN) }
    }

    /// How much the limit can be multiplied so that answers are still of use if there are no more workers; no bound where
    /// they are of little use already.
    fn room(&self) -> f64 {
        let room = self.latency().map_or(f64::MAX, |latency| ON_TIME_SECONDS / latency.as_secs_f64());
        if room < ROOM_MIN { f64::MAX } else { room }
    }

    fn late_at(&self, level: u32, base: u32) -> bool {
        self.latency().is_some_and(|latency| latency.as_secs_f64() * f64::from(level) / f64::from(base) > LATE_SECONDS)
    }

    fn follow_trial(&mut self, now: Duration) {
        let Some(trial) = &self.trial else { return };
        let verdict = trial.judge(&self.known, now);
        // A limit that nobody reaches is good as long as nothing speaks against it.
        let endless = self.evidence.is_none() && trial.level > trial.base;
        if verdict == Verdict::Open && (endless || now.saturating_sub(trial.started) < TRIAL_MAX) {
            return;
        }
        let Some(trial) = self.trial.take() else { return };
        self.exact = trial.is_exact();
        let up = trial.level > trial.base;
        match verdict {
            Verdict::Adopt { gain } if up => self.climb(&trial, gain, now),
            Verdict::Reject { gain, sure } if up => self.stay(&trial, gain, sure, now),
            Verdict::Adopt { .. } => self.descend(&trial, now),
            Verdict::Reject { gain, sure: _ } => self.stay_after_descent(&trial, gain, now),
            Verdict::Open => {
                self.keep(&trial);
                self.rest(now);
            }
        }
    }

    /// A higher limit brought so many times the answers.
    fn climb(&mut self, trial: &Trial, gain: f64, now: Duration) {
        let (level, base) = (f64::from(trial.level), f64::from(trial.base));
        let ratio = level / base;
        let share = if gain >= 0.8 * ratio { level } else { base * gain };
        let reached = share.clamp((base + 1.0).min(level), level);
        let before = mean_rate(trial.others.values()).or_else(|| mean_rate(self.known.values()));
        self.baseline.remember(before, base);
        self.adopt(reached, &trial.probes, now);
        if self.meters.len() == 1 && self.evidence.is_none() {
            // The slots that were new fill with requests that take long only after a while.
            self.known.clear();
        }
        self.cold &= gain >= 0.7 * ratio;
        // Whatever spoke against it was wrong.
        self.against = 0.0;
        if gain >= 0.8 * ratio && level >= 1.5 * base {
            self.evidence = None;
        } else if self.evidence.is_none() && gain < 0.7 * ratio {
            // What the probes did at their level says little about the one between.
            self.doubtful = true;
            if self.meters.len() == 1 {
                self.known.clear();
            }
        }
        if self.exact && gain < 0.9 * ratio {
            // That was the number.
            self.growth = 0;
            self.next_trial = now + self.time_to_drain(level / reached);
        } else if gain < 0.7 * ratio {
            self.growth = self.growth.saturating_sub(1);
        } else {
            self.growth = (self.growth + 1).min(GROWTH.len() - 1);
        }
        self.confirmed = 0;
    }

    /// A higher limit did not bring as many more answers.
    fn stay(&mut self, trial: &Trial, gain: f64, sure: f64, now: Duration) {
        let (level, base) = (f64::from(trial.level), f64::from(trial.base));
        let hurried = std::mem::take(&mut self.cold);
        let counts = !hurried && !std::mem::take(&mut self.doubtful) && trial.confirms_rejection();
        self.count_against(if counts { sure.min(PROOF / 3.0) } else { 0.0 }, now);
        // Part of the way is better than nothing, once the doubt is small against it.
        let reached = (base * gain).min(level);
        if reached >= (base + 0.6).max(1.15 * base) {
            self.adopt(reached, &trial.probes, now);
        } else {
            self.keep(trial);
        }
        if self.meters.len() == 1 && self.evidence.is_none() {
            // It is compared with its own past, so that must not be long ago.
            self.known.clear();
        }
        let careful = if self.evidence.is_some() { 0 } else { GROWTH_OPEN };
        if self.exact {
            self.growth = 0;
            self.confirmed += 1;
            self.rest(now);
            self.next_trial = self.next_trial.max(now + self.time_to_drain(level / base));
        } else if self.growth > careful {
            self.growth -= 1;
            self.next_trial = now + self.latency().unwrap_or_default();
            if self.late_at(self.base() + 1, self.base()) {
                self.rest(now);
            }
        } else {
            self.confirmed += 1;
            self.rest(now);
        }
    }

    /// A lower limit brought as many answers.
    fn descend(&mut self, trial: &Trial, now: Duration) {
        self.count_against(PROOF / 3.0, now);
        self.adopt(f64::from(trial.level), &trial.probes, now);
        // And whether still fewer would do.
        self.confirmed = 1;
    }

    /// A lower limit brought fewer answers.
    fn stay_after_descent(&mut self, trial: &Trial, gain: f64, now: Duration) {
        let (level, base) = (f64::from(trial.level), f64::from(trial.base));
        let reached = (level / gain.min(1.0)).min(self.workers);
        if reached < 0.9 * self.workers - 0.5 {
            self.workers = reached.max(level);
            self.known.clear();
        } else {
            self.keep(trial);
        }
        // The limit is not too high, so this is what the requests are like now, on these dynos.
        self.baseline = Baseline::default();
        self.baseline.remember(mean_rate(self.known.values()), self.workers.min(base));
        self.verified = Some(now);
        self.confirmed += 1;
        self.rest(now);
    }

    /// Until what a limit that was so many times too high has left in the dynos is answered.
    fn time_to_drain(&self, times: f64) -> Duration {
        self.latency().unwrap_or_default().mul_f64(1.0 + times)
    }

    fn adopt(&mut self, workers: f64, probes: &BTreeMap<u64, Span>, now: Duration) {
        self.workers = workers.clamp(1.0, f64::from(WORKERS_MAX));
        self.known.clone_from(probes);
        self.pause = PAUSE_MIN;
        self.next_trial = now;
    }

    fn keep(&mut self, trial: &Trial) {
        for (serial, span) in &trial.others {
            if span.tally().completions > 0.0 {
                self.known.insert(*serial, *span);
            }
        }
    }

    fn rest(&mut self, now: Duration) {
        if self.evidence.is_none() {
            self.next_trial = now + self.latency().unwrap_or_default();
            return;
        }
        let late = self.late_at(self.base() + 1, self.base());
        self.next_trial = now + if late { self.pause * LATE_PAUSE_FACTOR } else { self.pause };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of dynos are small")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

/// At least 1, at most [`WORKERS_MAX`] and a bit.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to small positive numbers")]
fn rounded(number: f64) -> u32 {
    number.round().clamp(1.0, 4.0 * f64::from(WORKERS_MAX)) as u32
}

#[cfg(test)]
mod tests;
