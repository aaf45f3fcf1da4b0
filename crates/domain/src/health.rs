//! Active health checks: what a probe's outcome means for a dyno, which dynos get requests, which one is replaced.
//!
//! A dyno that fails several checks in a row gets no new requests while a healthy one is there, and is back after several
//! that it passed. One that stays unhealthy is replaced, one at a time. A dyno that has never passed a check is not:
//! then the check is wrong, or the release is, and another dyno of it would be no better.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::duration_text;
use crate::dyno::DynoState;
use crate::id::DynoId;
use crate::rollout::DynoRequest;

const INTERVAL_MIN: Duration = Duration::from_millis(200);
const INTERVAL_MAX: Duration = Duration::from_secs(5 * 60);
const TIMEOUT_MIN: Duration = Duration::from_millis(50);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
const COUNT_MAX: u32 = 100;
const REPLACE_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const PATH_BYTES_MAX: usize = 1024;

/// How an app's web dynos are checked while they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub path: String,
    pub status: StatusRanges,
    /// Between two checks of one dyno.
    pub interval: Duration,
    /// For a whole answer's head.
    pub timeout: Duration,
    /// Failed checks in a row that make a dyno unhealthy.
    pub failures: u32,
    /// Passed checks in a row that make it healthy again.
    pub successes: u32,
    /// How long a dyno may be unhealthy before it is replaced.
    pub replace_after: Duration,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            status: StatusRanges(vec![(200, 399)]),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            failures: 3,
            successes: 2,
            replace_after: Duration::from_secs(2 * 60),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HealthCheckError {
    #[error("path must begin with / and hold no spaces, for example /health")]
    Path,
    #[error("{0:?} is no list of statuses: write it like 200, 200-399 or 200-299,401")]
    Status(String),
    #[error("{setting} must be from {} to {}", duration_text::show(*.min), duration_text::show(*.max))]
    Range { setting: &'static str, min: Duration, max: Duration },
    #[error("{setting} must be from 1 to {COUNT_MAX}")]
    Count { setting: &'static str },
    #[error("timeout must not be longer than interval: the checks of one dyno would run into each other")]
    TimeoutBeyondInterval,
}

impl HealthCheck {
    /// Whether every value is within its bounds.
    pub fn check(&self) -> Result<(), HealthCheckError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !self.path.starts_with('/') || self.path.len() > PATH_BYTES_MAX || !self.path.bytes().all(plain) {
            return Err(HealthCheckError::Path);
        }
        let range = |setting, value: Duration, min, max| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(HealthCheckError::Range { setting, min, max }) }
        };
        range("interval", self.interval, INTERVAL_MIN, INTERVAL_MAX)?;
        range("timeout", self.timeout, TIMEOUT_MIN, TIMEOUT_MAX)?;
        range("replace-after", self.replace_after, self.interval, REPLACE_AFTER_MAX)?;
        for (setting, count) in [("failures", self.failures), ("successes", self.successes)] {
            if !(1..=COUNT_MAX).contains(&count) {
                return Err(HealthCheckError::Count { setting });
            }
        }
        if self.timeout > self.interval { Err(HealthCheckError::TimeoutBeyondInterval) } else { Ok(()) }
    }

    /// Every setting by the name and in the words that people use for it.
    pub fn described(&self) -> [(&'static str, String); 7] {
        [
            ("path", self.path.clone()),
            ("status", self.status.to_string()),
            ("interval", duration_text::show(self.interval)),
            ("timeout", duration_text::show(self.timeout)),
            ("failures", self.failures.to_string()),
            ("successes", self.successes.to_string()),
            ("replace-after", duration_text::show(self.replace_after)),
        ]
    }
}

/// Statuses that pass a check: single ones and ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRanges(Vec<(u16, u16)>);

impl StatusRanges {
    pub fn parse(text: &str) -> Result<Self, HealthCheckError> {
        let wrong = || HealthCheckError::Status(text.chars().take(60).collect());
        let status = |text: &str| text.parse().ok().filter(|status| (100..600).contains(status)).ok_or_else(wrong);
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (status(first)?, status(last)?);
            if first <= last { Ok((first, last)) } else { Err(wrong()) }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }?;
        }
        Ok(())
    }
}

/// What is known of a dyno's health from its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthState {
    pub unhealthy: bool,
    /// It has passed a check at some time.
    pub passed: bool,
    /// Checks in a row that say the opposite of what it is held to be.
    against: u32,
}

/// What a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChange {
    /// The first check that it ever passed.
    FirstPassed,
    BecameUnhealthy,
    BecameHealthy,
}

impl HealthState {
    /// As stored by an earlier server.
    pub const fn remembered(unhealthy: bool, passed: bool) -> Self {
        Self { unhealthy, passed, against: 0 }
    }

    /// Takes in the outcome of one check.
    pub fn observe(&mut self, passed: bool, check: &HealthCheck) -> Option<HealthChange> {
        let first = passed && !self.passed;
        self.passed |= passed;
        if passed != self.unhealthy {
            self.against = 0;
            return first.then_some(HealthChange::FirstPassed);
        }
        self.against += 1;
        let needed = if self.unhealthy { check.successes } else { check.failures };
        if self.against < needed {
            return first.then_some(HealthChange::FirstPassed);
        }
        self.against = 0;
        self.unhealthy = !self.unhealthy;
        Some(if self.unhealthy { HealthChange::BecameUnhealthy } else { HealthChange::BecameHealthy })
    }
}

/// A `web` dyno of the serving release, as these decisions see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedDyno {
    pub id: DynoId,
    pub state: DynoState,
    pub request: DynoRequest,
    pub unhealthy_since: Option<Timestamp>,
    pub passed: bool,
}

/// Whether a dyno gets requests as far as its health goes: unhealthy ones do where there is no healthy one. What is wrong
/// with all of them is not made better by refusing everybody.
pub fn gets_requests(dyno: &CheckedDyno, all_up: &[CheckedDyno]) -> bool {
    dyno.unhealthy_since.is_none() || all_up.iter().all(|other| other.unhealthy_since.is_some())
}

/// Whether all of them serve and none is about to end: replacing one now leaves the others.
pub fn all_stand_still(dynos: &[CheckedDyno]) -> bool {
    dynos.iter().all(|dyno| dyno.state == DynoState::Up && dyno.request == DynoRequest::None)
}

/// The dyno to replace now, if any: the one that has been unhealthy for longest, once everything else stands still.
///
/// Never one that is healthy or that never passed a check; never a second one while the first is being replaced.
pub fn replace(dynos: &[CheckedDyno], check: &HealthCheck, now: Timestamp) -> Option<DynoId> {
    if !all_stand_still(dynos) {
        return None;
    }
    let due = |since: &Timestamp| {
        Duration::try_from(now.duration_since(*since)).is_ok_and(|unhealthy_for| unhealthy_for >= check.replace_after)
    };
    let candidates = dynos.iter().filter(|dyno| dyno.passed);
    let due = candidates.filter_map(|dyno| Some((dyno.unhealthy_since.filter(due)?, dyno.id)));
    due.min().map(|(_since, id)| id)
}

#[cfg(test)]
mod tests;
