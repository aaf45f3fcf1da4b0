//! What every dyno may have beyond its limit because nothing comes from any of them while somebody waits.
//!
//! A server that takes hundreds of long polls would be out of reach behind as many of them as the limit allows, and so
//! would be one whose first requests are slow. It is given more, at intervals; if it is frozen instead, that is little
//! work for afterwards.

use std::time::Duration;

use crate::admission::learner::WORKERS_MAX;

/// Silence after which more is lent: while it is not known how long an answer takes; a multiple of what it takes, and
/// its bounds, while it is not known whether the limit is right; and once it is known.
const SECONDS_COLD: f64 = 0.6;
const LATENCIES: f64 = 3.0;
const SECONDS: (f64, f64) = (0.1, 1.0);
const SECONDS_KNOWN: f64 = 2.0;
const LATENCIES_KNOWN: f64 = 20.0;

/// What was lent has so many times as long to be answered as the first of it took.
const JUDGED_AFTER: f64 = 1.5;

/// So large a part of what was lent must be answered then.
const ANSWERED_SHARE: f64 = 0.25;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loan {
    extra: u32,
    times: u32,
    /// Silence at which there will be more.
    next_seconds: f64,
    /// How long the silence has been.
    silent_seconds: f64,
    /// Answers since the silence ended, and when it is judged whether they are enough.
    answers: f64,
    judged: Option<Duration>,
}

/// Nothing is answered, and somebody waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    pub(crate) seconds: f64,
    /// What an answer usually takes, in seconds, by what is known of a full dyno and by what was seen of late.
    pub(crate) latency: Option<f64>,
    pub(crate) recent_latency: f64,
    pub(crate) workers: u32,
    pub(crate) in_flight_max: u32,
    /// Answers used to come so regularly that this is a stall, or will be.
    pub(crate) is_stalled: bool,
    pub(crate) is_faint: bool,
    /// Who waits for too long is refused: the limit is known to be right, or a stall's leavings still wait.
    pub(crate) sheds: bool,
}

/// Whether what was lent was answered once the silence was over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Judgement {
    Open,
    /// There are so many workers.
    Enough {
        workers: f64,
    },
    /// It was too much, as it would have been without any limit.
    TooMuch,
}

impl Loan {
    /// Requests that a dyno may have beyond its limit.
    pub(crate) fn extra(&self) -> u32 {
        self.extra
    }

    /// More was lent in the silence that still lasts.
    pub(crate) fn is_running(&self) -> bool {
        self.times > 0
    }

    /// Lends more if the silence is long enough, and says so.
    pub(crate) fn lend(&mut self, silence: Silence) -> bool {
        let limit = silence.workers + self.extra;
        // In a stall, or about to, a few are enough to see whether these are answered.
        let few = limit + silence.workers.div_ceil(4);
        let (wait, pace, level) = match silence.latency {
            latency if silence.sheds => {
                let wait = latency.map_or(0.0, |latency| LATENCIES_KNOWN * latency).max(SECONDS_KNOWN);
                (wait, 1.0, if silence.is_stalled { few } else { 2 * limit })
            }
            Some(latency) => {
                // Workers with constant service times answer all together: a silence as long as an answer is usual.
                let wait = (LATENCIES * latency.max(silence.recent_latency)).clamp(SECONDS.0, SECONDS.1);
                (wait, 1.0, if silence.is_faint { few } else { 2 * limit })
            }
            None => (SECONDS_COLD, 0.5, 4 * limit.max(silence.in_flight_max)),
        };
        if self.times == 0 {
            self.next_seconds = wait;
        }
        if silence.seconds < self.next_seconds {
            return false;
        }
        self.extra = level.saturating_sub(silence.workers).clamp(self.extra, WORKERS_MAX);
        self.times += 1;
        self.next_seconds = silence.seconds + pace * wait;
        self.silent_seconds = self.silent_seconds.max(silence.seconds);
        self.judged = None;
        self.answers = 0.0;
        true
    }

    /// The silence is over.
    pub(crate) fn end_silence(&mut self) {
        self.times = 0;
    }

    /// The limit is known to be right: what is beyond it goes, bit by bit.
    pub(crate) fn pay_back(&mut self) {
        self.extra /= 2;
    }

    /// If what was lent is answered in about the time that the first of it took, there are so many workers. If it is
    /// not, and still others wait, there are not. `answers` are those of all `dynos` since the last look.
    pub(crate) fn judge(&mut self, now: Duration, answers: f64, waiting: bool, workers: f64, dynos: f64) -> Judgement {
        if !waiting {
            self.judged = None;
            return Judgement::Open;
        }
        if self.judged.is_none() {
            self.answers = 0.0;
        }
        let until = *self.judged.get_or_insert(now + Duration::from_secs_f64(JUDGED_AFTER * self.silent_seconds));
        self.answers += answers;
        let level = workers + f64::from(self.extra);
        match () {
            () if self.answers >= ANSWERED_SHARE * level * dynos => Judgement::Enough { workers: level },
            () if now < until => Judgement::Open,
            () => Judgement::TooMuch,
        }
    }
}
