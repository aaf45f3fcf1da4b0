//! The life of one dyno.
//!
//! ```text
//!  requested ──Launched──► starting ──Ready──► up ──TakenOut──► draining ──StopSent──► stopping ──Exited──► exited
//!      │                     │  │                │                                        ▲
//!      └──LaunchFailed──►    │  └──StopSent──────┼────────────────────StopSent────────────┘
//!                            ▼                   ▼
//!                         crashed ◄──Exited──────┘
//! ```
//!
//! A dyno that ends without being asked to has *crashed*; one that ends after it was told to stop has *exited*.
//! One-off dynos, release phases and builds always *exit*: their status says how.

use std::fmt;

use thiserror::Error;

use crate::name::ProcessType;

/// Why a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DynoKind {
    /// Part of the formation: kept alive.
    Formation,
    /// Started by a person or a schedule; runs once.
    OneOff,
    /// Runs once before a release with new code serves.
    ReleasePhase,
    Build,
}

impl DynoKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Formation => "formation",
            Self::OneOff => "one-off",
            Self::ReleasePhase => "release-phase",
            Self::Build => "build",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Formation, Self::OneOff, Self::ReleasePhase, Self::Build].into_iter().find(|kind| kind.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DynoState {
    /// Wanted; its shim has not been started yet.
    Requested,
    Starting,
    Up,
    /// Out of the route table; requests that it already has go on.
    Draining,
    /// SIGTERM was sent.
    Stopping,
    /// Ended without being asked to.
    Crashed,
    /// Ended as asked, or ran to its end.
    Exited,
}

impl DynoState {
    const ALL: [Self; 7] =
        [Self::Requested, Self::Starting, Self::Up, Self::Draining, Self::Stopping, Self::Crashed, Self::Exited];

    /// Our own name of the state, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Exited => "exited",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Heroku's word (`dyno.state` in its schema: crashed, down, idle, starting, up).
    pub const fn heroku_word(self) -> &'static str {
        match self {
            Self::Requested | Self::Starting => "starting",
            Self::Up | Self::Draining | Self::Stopping => "up",
            Self::Crashed => "crashed",
            Self::Exited => "down",
        }
    }

    /// A process exists, or is about to.
    pub const fn is_alive(self) -> bool {
        match self {
            Self::Requested | Self::Starting | Self::Up | Self::Draining | Self::Stopping => true,
            Self::Crashed | Self::Exited => false,
        }
    }

    /// Gives the state after an event.
    pub fn next(self, kind: DynoKind, event: DynoEvent) -> Result<Self, InvalidTransition> {
        let refused = Err(InvalidTransition { from: self, event });
        match event {
            DynoEvent::Launched => match self {
                Self::Requested => Ok(Self::Starting),
                Self::Starting | Self::Up | Self::Draining | Self::Stopping | Self::Crashed | Self::Exited => refused,
            },
            DynoEvent::Ready => match self {
                Self::Starting => Ok(Self::Up),
                Self::Requested | Self::Up | Self::Draining | Self::Stopping | Self::Crashed | Self::Exited => refused,
            },
            DynoEvent::TakenOut => match self {
                Self::Up => Ok(Self::Draining),
                Self::Requested | Self::Starting | Self::Draining | Self::Stopping | Self::Crashed | Self::Exited => {
                    refused
                }
            },
            DynoEvent::StopSent => match self {
                Self::Requested | Self::Starting | Self::Up | Self::Draining | Self::Stopping => Ok(Self::Stopping),
                Self::Crashed | Self::Exited => refused,
            },
            DynoEvent::Exited => match (self, kind) {
                (Self::Crashed | Self::Exited, _) => refused,
                (Self::Draining | Self::Stopping, _) => Ok(Self::Exited),
                (Self::Requested | Self::Starting | Self::Up, DynoKind::Formation) => Ok(Self::Crashed),
                (
                    Self::Requested | Self::Starting | Self::Up,
                    DynoKind::OneOff | DynoKind::ReleasePhase | DynoKind::Build,
                ) => Ok(Self::Exited),
            },
        }
    }
}

impl fmt::Display for DynoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fact about a dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynoEvent {
    Launched,
    /// Its port is bound and it answered a first probe; for other process types: it runs.
    Ready,
    /// Removed from the route table.
    TakenOut,
    StopSent,
    Exited,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a dyno that is {from} cannot take {event:?}")]
pub struct InvalidTransition {
    pub from: DynoState,
    pub event: DynoEvent,
}

/// A dyno's name in logs: `web.1`. One-offs have a random number, as Heroku's: `run.4821`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DynoName {
    pub process_type: ProcessType,
    pub index: u32,
}

impl DynoName {
    pub fn parse(text: &str) -> Option<Self> {
        let (process_type, index) = text.rsplit_once('.')?;
        let process_type = ProcessType::parse(process_type).ok()?;
        Some(Self { process_type, index: index.parse().ok()? })
    }
}

impl fmt::Display for DynoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process_type, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formation_dyno_that_ends_unasked_has_crashed_and_a_one_off_has_exited() {
        assert_eq!(DynoState::Up.next(DynoKind::Formation, DynoEvent::Exited), Ok(DynoState::Crashed));
        assert_eq!(DynoState::Up.next(DynoKind::OneOff, DynoEvent::Exited), Ok(DynoState::Exited));
        assert_eq!(DynoState::Stopping.next(DynoKind::Formation, DynoEvent::Exited), Ok(DynoState::Exited));
    }

    #[test]
    fn nothing_happens_after_the_end() {
        for state in [DynoState::Crashed, DynoState::Exited] {
            for event in
                [DynoEvent::Launched, DynoEvent::Ready, DynoEvent::TakenOut, DynoEvent::StopSent, DynoEvent::Exited]
            {
                assert_eq!(
                    state.next(DynoKind::Formation, event),
                    Err(InvalidTransition { from: state, event }),
                    "{state} {event:?}"
                );
            }
        }
    }

    #[test]
    fn states_and_kinds_survive_storage() {
        for state in DynoState::ALL {
            assert_eq!(DynoState::parse(state.as_str()), Some(state));
        }
        assert_eq!(DynoKind::parse("one-off"), Some(DynoKind::OneOff));
    }

    #[test]
    fn dyno_names_have_a_type_and_a_number() {
        assert_eq!(DynoName::parse("web.12").map(|name| name.to_string()), Some("web.12".to_owned()));
        assert_eq!(DynoName::parse("web"), None);
        assert_eq!(DynoName::parse("web.x"), None);
    }
}
