//! How regularly an app's answers come, how long they take, and for how long none has come.

use std::time::Duration;

/// What came so long ago counts for a third.
const MEMORY_SECONDS: f64 = 10.0;

/// So many answers must have failed to come before the silence is a stall and not chance.
const MISSED: f64 = 40.0;

/// However many failed to come, a shorter silence is a hiccup: of so many seconds, and so many mean times of an answer.
const STALL_SECONDS_MIN: f64 = 0.4;
const STALL_LATENCIES_MIN: f64 = 8.0;

/// Nobody looked for longer than this: it is not known what happened meanwhile.
const GAP_SECONDS: f64 = 1.0;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulse {
    /// Answers, and requests times the seconds that they were in flight, fading.
    answers: f64,
    in_flight_seconds: f64,
    /// The same since the last answer.
    silent_in_flight_seconds: f64,
    looked: Duration,
    /// The last answer, or the last time that none was to come.
    heard: Duration,
}

impl Pulse {
    /// Notes what came since the last look, and how many are in flight.
    pub(crate) fn look(&mut self, now: Duration, answers: f64, in_flight: f64) {
        let seconds = now.saturating_sub(self.looked).as_secs_f64();
        self.looked = now;
        if seconds > GAP_SECONDS {
            self.heard = now;
            return;
        }
        self.silent_in_flight_seconds += in_flight * seconds;
        // A stall must not wear off because it lasts, nor because ever more requests are caught in it.
        if answers > 0.0 || in_flight <= 0.0 {
            self.heard = now;
            self.in_flight_seconds += std::mem::take(&mut self.silent_in_flight_seconds);
            let kept = (-seconds / MEMORY_SECONDS).exp();
            self.answers = self.answers * kept + answers;
            self.in_flight_seconds *= kept;
        }
    }

    pub(crate) fn silent_seconds(&self) -> f64 {
        self.looked.saturating_sub(self.heard).as_secs_f64()
    }

    /// Answers that always came do not come any more: whatever they wait for, more requests would only wait with them.
    pub(crate) fn is_stalled(&self) -> bool {
        let silent = self.silent_seconds();
        silent >= STALL_SECONDS_MIN.max(STALL_LATENCIES_MIN * self.usual_latency()) && self.missed() >= MISSED
    }

    /// It looks as if it were about to stall.
    pub(crate) fn is_faint(&self) -> bool {
        2.0 * self.silent_seconds() >= STALL_LATENCIES_MIN * self.usual_latency() && 2.0 * self.missed() >= MISSED
    }

    /// Mean seconds from request to answer, those that are in flight now included.
    pub(crate) fn latency(&self) -> f64 {
        (self.in_flight_seconds + self.silent_in_flight_seconds) / self.answers.max(1.0)
    }

    /// The same as it was at the last answer.
    fn usual_latency(&self) -> f64 {
        self.in_flight_seconds / self.answers.max(1.0)
    }

    /// Answers that would have come by now.
    fn missed(&self) -> f64 {
        self.silent_seconds() * self.answers / MEMORY_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// So many answers per second for 10 s, each after so many seconds, then a silence; when it counted as a stall.
    fn stalls_after(per_second: u32, latency: f64) -> Option<Duration> {
        let mut pulse = Pulse::default();
        let in_flight = f64::from(per_second) * latency;
        for tick in 1..1_000_u32 {
            let answers = tick * per_second / 100 - (tick - 1) * per_second / 100;
            pulse.look(ms(10) * tick, f64::from(answers), in_flight);
        }
        (0..3_000).map(|tick| ms(tick * 10)).find(|silence| {
            pulse.look(ms(10_000) + *silence, 0.0, in_flight);
            pulse.is_stalled()
        })
    }

    #[test]
    fn a_busy_app_stalls_within_half_a_second_and_a_quiet_one_never_at_once() {
        assert!(stalls_after(200, 0.05).unwrap() <= ms(500));
        assert!(stalls_after(20, 0.05).unwrap() <= ms(4_000));
        assert_eq!(stalls_after(1, 0.05), None);
        assert_eq!(stalls_after(0, 0.0), None);
    }

    #[test]
    fn answers_that_take_long_may_be_silent_for_long() {
        assert!(stalls_after(200, 5.0).is_none_or(|silence| silence >= ms(10_000)));
    }

    #[test]
    fn an_app_that_nobody_waits_for_does_not_stall() {
        let mut pulse = Pulse::default();
        (0..100).for_each(|tick| pulse.look(ms(tick * 10), 5.0, 1.0));
        (0..1_000).for_each(|tick| pulse.look(ms(1_000 + tick * 10), 0.0, 0.0));
        assert!(!pulse.is_stalled());
    }
}
