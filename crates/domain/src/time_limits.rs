//! Time limits of a dyno's life, and of the sessions in it. All are settings; the defaults are Heroku's where
//! it names one.

use std::time::Duration;

/// How long each phase of a dyno may take before the platform steps in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// From launch to a bound `$PORT` and a first answered probe, else `R10`.
    pub boot: Duration,
    /// From SIGTERM to exit, else `R12` and SIGKILL.
    pub exit: Duration,
    /// From leaving the route table to SIGTERM, while requests are in flight.
    pub drain: Duration,
    /// How long a one-off waits for the client that was told where to attach, else `R13`.
    pub attach: Duration,
    /// How long a session in a dyno may be silent.
    pub session_idle: Duration,
    /// How long one release phase may run.
    pub release_phase: Duration,
    /// How long one build may run.
    pub build: Duration,
    /// How often memory is compared with its quota for `R14`.
    pub memory_report: Duration,
    /// First delay before a dyno that crashed again is started again.
    pub restart_backoff_min: Duration,
    /// Longest such delay.
    pub restart_backoff_max: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(60),
            exit: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            attach: Duration::from_secs(60),
            session_idle: Duration::from_secs(60 * 60),
            release_phase: Duration::from_secs(60 * 60),
            build: Duration::from_secs(15 * 60),
            memory_report: Duration::from_secs(20),
            restart_backoff_min: Duration::from_secs(10),
            restart_backoff_max: Duration::from_secs(5 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests that provoke these limits shorten them, so the defaults are asserted here.
    #[test]
    fn defaults_are_herokus() {
        let limits = TimeLimits::default();
        assert_eq!(limits.boot, Duration::from_secs(60));
        assert_eq!(limits.exit, Duration::from_secs(30));
        assert_eq!(limits.drain, Duration::from_secs(30));
        assert_eq!(limits.attach, Duration::from_secs(60));
        assert_eq!(limits.session_idle, Duration::from_secs(3600));
        assert_eq!(limits.release_phase, Duration::from_secs(3600));
        assert_eq!(limits.build, Duration::from_secs(900));
        assert_eq!(limits.memory_report, Duration::from_secs(20));
    }
}
