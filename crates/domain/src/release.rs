//! The life of a release.
//!
//! ```text
//!  held ──Resumed──► pending ──CommandStarted──► preparing ──CommandSucceeded──► rolling_out ──Ready──► serving
//!                       └───────CommandSkipped──────────────────────────────────────▲   │                 │
//!  held, pending, preparing, rolling_out ──Failed──► failed                             └──Replaced──► superseded ◄┘
//! ```
//!
//! Releases of one app go through this one after the other, in the order of their versions, so that a slower deploy
//! never overtakes a newer one.

use std::fmt;

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseState {
    /// Built but not to be served until somebody resumes it (`deploy --hold`).
    Held,
    Pending,
    /// Its release phase runs.
    Preparing,
    /// Its dynos start.
    RollingOut,
    /// The release that the app runs.
    Serving,
    /// A later release took its place.
    Superseded,
    Failed,
}

impl ReleaseState {
    const ALL: [Self; 7] =
        [Self::Held, Self::Pending, Self::Preparing, Self::RollingOut, Self::Serving, Self::Superseded, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::RollingOut => "rolling_out",
            Self::Serving => "serving",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Heroku's word (`release.status`: expired, failed, pending, succeeded).
    pub const fn heroku_word(self) -> &'static str {
        match self {
            Self::Held | Self::Pending | Self::Preparing | Self::RollingOut => "pending",
            Self::Serving | Self::Superseded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// On its way to serve: the next release waits for it.
    pub const fn is_under_way(self) -> bool {
        match self {
            Self::Pending | Self::Preparing | Self::RollingOut => true,
            Self::Held | Self::Serving | Self::Superseded | Self::Failed => false,
        }
    }

    pub fn next(self, event: ReleaseEvent) -> Result<Self, InvalidReleaseTransition> {
        match (self, event) {
            (Self::Held, ReleaseEvent::Resumed) => Ok(Self::Pending),
            (Self::Pending, ReleaseEvent::CommandStarted) => Ok(Self::Preparing),
            (Self::Pending, ReleaseEvent::CommandSkipped) | (Self::Preparing, ReleaseEvent::CommandSucceeded) => {
                Ok(Self::RollingOut)
            }
            (Self::RollingOut, ReleaseEvent::Ready) => Ok(Self::Serving),
            (Self::Serving | Self::RollingOut, ReleaseEvent::Replaced) => Ok(Self::Superseded),
            (Self::Held | Self::Pending | Self::Preparing | Self::RollingOut, ReleaseEvent::Failed) => Ok(Self::Failed),
            (from, event) => Err(InvalidReleaseTransition { from, event }),
        }
    }
}

impl fmt::Display for ReleaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseEvent {
    Resumed,
    CommandStarted,
    /// There is no release command, or none is to run (rollback, config change).
    CommandSkipped,
    CommandSucceeded,
    Ready,
    /// A later release serves now.
    Replaced,
    Failed,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a release that is {from} cannot take {event:?}")]
pub struct InvalidReleaseTransition {
    pub from: ReleaseState,
    pub event: ReleaseEvent,
}

/// What brought a release about: it decides whether the release phase runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseCause {
    /// The `v1` that every app has from its creation.
    Initial,
    Build,
    Promotion,
    ConfigChange,
    Rollback,
    AddonChange,
}

impl ReleaseCause {
    const ALL: [Self; 6] =
        [Self::Initial, Self::Build, Self::Promotion, Self::ConfigChange, Self::Rollback, Self::AddonChange];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Build => "build",
            Self::Promotion => "promotion",
            Self::ConfigChange => "config_change",
            Self::Rollback => "rollback",
            Self::AddonChange => "addon_change",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }

    /// New code may need its release phase; old code must never run its migrations against a newer schema.
    pub const fn brings_new_code(self) -> bool {
        match self {
            Self::Build | Self::Promotion => true,
            Self::Initial | Self::ConfigChange | Self::Rollback | Self::AddonChange => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_code_runs_its_release_phase() {
        let causes: Vec<_> = ReleaseCause::ALL.into_iter().filter(|cause| cause.brings_new_code()).collect();
        assert_eq!(causes, [ReleaseCause::Build, ReleaseCause::Promotion]);
    }

    #[test]
    fn a_failed_release_stays_failed() {
        let event = ReleaseEvent::Ready;
        let from = ReleaseState::Failed;
        assert_eq!(from.next(event), Err(InvalidReleaseTransition { from, event }));
    }

    #[test]
    fn states_survive_storage() {
        for state in ReleaseState::ALL {
            assert_eq!(ReleaseState::parse(state.as_str()), Some(state));
        }
        for cause in ReleaseCause::ALL {
            assert_eq!(ReleaseCause::parse(cause.as_str()), Some(cause));
        }
    }
}
