//! How a release moves: what its state and the state of its release phase mean. Pure.

use domain::dyno::DynoState;
use domain::release::{ReleaseEvent, ReleaseState};
use store::dyno::Dyno;
use store::release::Release;
use store::slug::Slug;

/// The next step of the release that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReleaseStep {
    /// Nothing until something changes.
    Wait,
    Advance(ReleaseEvent),
    /// Start the release phase with this command.
    StartCommand(String),
    Fail(String),
    /// An uploaded slug must be unpacked and checked first.
    Import,
}

/// Decides about `release`. `newer` is the next one in line; `phase` the dyno of its release phase, if one was made.
pub(crate) fn next_step(
    release: &Release,
    newer: Option<&Release>,
    slug: &Slug,
    slug_is_ready: bool,
    phase: Option<&Dyno>,
) -> ReleaseStep {
    let command = slug
        .process_types
        .iter()
        .find(|(name, _command)| name.is_release())
        .map(|(_name, command)| command)
        .filter(|_command| release.run_command);
    match release.state {
        ReleaseState::Pending if !slug_is_ready => ReleaseStep::Import,
        ReleaseState::Pending => {
            if command.is_some() {
                ReleaseStep::Advance(ReleaseEvent::CommandStarted)
            } else {
                ReleaseStep::Advance(ReleaseEvent::CommandSkipped)
            }
        }
        ReleaseState::Preparing => match (phase, command) {
            (None, Some(command)) => ReleaseStep::StartCommand(command.clone()),
            (None, None) => ReleaseStep::Advance(ReleaseEvent::CommandSucceeded),
            (Some(phase), _command) if phase.state != DynoState::Exited => ReleaseStep::Wait,
            (Some(phase), _command) => match (phase.exit_status, phase.exit_reason.as_deref()) {
                (Some(0), Some("exited")) => ReleaseStep::Advance(ReleaseEvent::CommandSucceeded),
                (status, reason) => ReleaseStep::Fail(format!(
                    "Release command failed ({}). `berth releases:output v{}` shows what it printed",
                    ending(status, reason),
                    release.version
                )),
            },
        },
        // A release that is outdated before its dynos were started makes way at once.
        ReleaseState::RollingOut if newer.is_some_and(|newer| newer.slug == release.slug) => {
            ReleaseStep::Advance(ReleaseEvent::Replaced)
        }
        ReleaseState::RollingOut
        | ReleaseState::Held
        | ReleaseState::Serving
        | ReleaseState::Superseded
        | ReleaseState::Failed => ReleaseStep::Wait,
    }
}

fn ending(status: Option<i32>, reason: Option<&str>) -> String {
    match (status, reason) {
        (_, Some("deadline_passed")) => "it ran longer than it may".to_owned(),
        (_, Some("out_of_memory")) => "it ran out of memory".to_owned(),
        (_, Some("unknown")) | (None, _) => "nobody saw how it ended".to_owned(),
        (Some(status), _) => format!("exit status {status}"),
    }
}
