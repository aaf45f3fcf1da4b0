//! Jobs on a schedule: when they are due, and what must happen with their runs.
//!
//! A *tick* is a moment at which a job is due. Each tick becomes at most one run, whatever happens to the server:
//! the run's row, which the tick names, is written in the same transaction as the dyno that carries it out.
//!
//! ```text
//!  tick ──► waiting ──► running ──► succeeded | failed ──► (waiting: the next attempt)
//!    │         └──► skipped     └──► stopped
//!    └──► skipped | missed
//! ```

mod decide;
mod definition;
mod schedule;

pub use decide::{Action, JobView, LATE_AFTER, Plan, Progress, RunEnd, RunView, WAITING_MAX, decide};
pub use definition::{
    CatchUp, DEADLINE_S_MAX, JobDefinition, JobName, JobNameError, Overlap, Policy, RETRIES_MAX, RETRY_DELAY_S_MAX,
};
pub use schedule::{Schedule, ScheduleError};

use std::fmt;

use jiff::Timestamp;

/// Names a run within its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// When it was due; when it was asked for, if somebody asked.
    pub tick: Timestamp,
    /// Counted from 1.
    pub attempt: u32,
}

/// Why there is a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    Schedule,
    /// Somebody asked for it.
    Hand,
}

impl Trigger {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Hand => "hand",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Schedule, Self::Hand].into_iter().find(|trigger| trigger.as_str() == text)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    /// For the run before it, or for the pause before another attempt.
    Waiting,
    Running,
    Succeeded,
    Failed,
    /// Somebody stopped it, or a newer run took its place.
    Stopped,
    /// The run before it had not ended.
    Skipped,
    /// Nothing could start when it was due.
    Missed,
}

impl RunState {
    const ALL: [Self; 7] =
        [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Stopped, Self::Skipped, Self::Missed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// It may still change.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
