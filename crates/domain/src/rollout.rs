//! From what an app should run and what it runs to what must happen now: starts, restarts, scaling and roll-outs alike.
//!
//! A roll-out is not a procedure but a target with two releases: the one that serves is kept whole while the dynos of
//! the candidate start beside it. Once every `web` dyno of the candidate is up, the candidate becomes the serving
//! release; from then on the dynos of the old one are surplus, leave the route table, drain, and stop. A restart, a
//! change of size and a scale-down use the same rules. Process types other than `web` never run twice at once: their
//! old dyno stops before its successor starts.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::dyno::{DynoName, DynoState};
use crate::formation::FormationEntry;
use crate::id::DynoId;
use crate::name::ProcessType;
use crate::restart_policy::delay_before_restart;
use crate::time_limits::TimeLimits;

/// What one app should run.
#[derive(Debug, Clone, Default)]
pub struct AppTarget {
    /// The release that serves, if any ever did.
    pub serving: Option<ReleaseTarget>,
    /// The release that is rolling out, if any.
    pub candidate: Option<ReleaseTarget>,
    pub formation: Vec<FormationEntry>,
}

/// The part of a release that matters for placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseTarget {
    pub version: u64,
    /// Process types that have a command in its slug.
    pub process_types: Vec<ProcessType>,
}

/// One dyno of the formation as it is known now.
#[derive(Debug, Clone)]
pub struct DynoView {
    pub id: DynoId,
    pub name: DynoName,
    pub release: u64,
    pub size: String,
    pub state: DynoState,
    /// When it came into this state.
    pub since: Timestamp,
    /// Crashes in a row of its place in the formation, this one included.
    pub crashes: u32,
    pub request: DynoRequest,
    /// For a draining dyno: what the router says.
    pub drain: DrainView,
}

/// What somebody asked of one dyno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DynoRequest {
    #[default]
    None,
    /// `ps:restart`: a successor first, where the process type allows it.
    Restart,
    /// `ps:stop`: at once; its place is filled again.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainView {
    /// The router has not yet said that it serves from a table without this dyno, or cannot be asked.
    #[default]
    Unknown,
    /// The router gives it no new request; this many are under way.
    InFlight(u32),
}

/// One step. The caller carries out all of them, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Start {
        name: DynoName,
        release: u64,
        size: String,
        crashes: u32,
        reason: Reason,
    },
    /// Out of the route table, then drain.
    TakeOut {
        dyno: DynoId,
        reason: Reason,
    },
    Stop {
        dyno: DynoId,
        reason: Reason,
    },
    /// `R10`: say so and kill.
    BootTimedOut {
        dyno: DynoId,
    },
    /// A crashed dyno whose place is taken or gone.
    Forget {
        dyno: DynoId,
    },
    /// Every `web` dyno of the candidate is up.
    ReleaseReady {
        version: u64,
    },
    /// A dyno of the candidate ended before it was ready.
    ReleaseFailed {
        version: u64,
        dyno: DynoId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Scaled,
    Released,
    Restarted,
    Crashed,
    Drained,
    DrainTimedOut,
    /// Somebody asked for this one dyno to stop.
    Asked,
}

/// Returns what must happen now so that `target` holds. Empty means converged, or waiting for time or events.
///
/// Never takes out a `web` dyno that is up before its successor is up, unless the formation shrank or somebody asked
/// for its stop. Keeps no state between calls; calling it again without carrying out its actions gives the same ones.
pub fn decide(target: &AppTarget, dynos: &[DynoView], limits: &TimeLimits, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for dyno in dynos {
        actions.extend(finish_leaving(dyno, limits, now));
    }
    let candidate = target.candidate.as_ref();
    if let Some(candidate) = candidate {
        let own: Vec<&DynoView> = dynos.iter().filter(|dyno| dyno.release == candidate.version).collect();
        if let Some(crashed) = own.iter().find(|dyno| dyno.state == DynoState::Crashed) {
            actions.push(Action::ReleaseFailed { version: candidate.version, dyno: crashed.id });
            return actions;
        }
        let missing = start_missing(candidate, &target.formation, dynos, limits, now, Scope::WebOnly);
        let up = missing.is_empty()
            && wanted_web(candidate, &target.formation).all(|(slot, size)| {
                own.iter().any(|dyno| dyno.name == slot && dyno.size == size && dyno.state == DynoState::Up)
            });
        actions.extend(missing);
        if up {
            actions.push(Action::ReleaseReady { version: candidate.version });
            return actions;
        }
    }
    if let Some(serving) = &target.serving {
        actions.extend(start_missing(serving, &target.formation, dynos, limits, now, Scope::All));
        if candidate.is_none() {
            actions.extend(remove_surplus(serving, &target.formation, dynos));
        }
    } else if candidate.is_none() {
        let nothing = ReleaseTarget { version: 0, process_types: Vec::new() };
        actions.extend(remove_surplus(&nothing, &target.formation, dynos));
    }
    actions
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    WebOnly,
}

/// Steps that depend on nothing but the dyno itself.
fn finish_leaving(dyno: &DynoView, limits: &TimeLimits, now: Timestamp) -> Option<Action> {
    let age = elapsed(dyno.since, now);
    match dyno.state {
        DynoState::Draining => match dyno.drain {
            DrainView::InFlight(0) => Some(Action::Stop { dyno: dyno.id, reason: Reason::Drained }),
            DrainView::InFlight(_) | DrainView::Unknown if age >= limits.drain => {
                Some(Action::Stop { dyno: dyno.id, reason: Reason::DrainTimedOut })
            }
            DrainView::InFlight(_) | DrainView::Unknown => None,
        },
        DynoState::Starting if dyno.name.process_type.is_web() && age >= limits.boot => {
            Some(Action::BootTimedOut { dyno: dyno.id })
        }
        DynoState::Requested | DynoState::Starting | DynoState::Up if dyno.request == DynoRequest::Stop => {
            Some(Action::Stop { dyno: dyno.id, reason: Reason::Asked })
        }
        DynoState::Requested
        | DynoState::Starting
        | DynoState::Up
        | DynoState::Stopping
        | DynoState::Crashed
        | DynoState::Exited => None,
    }
}

/// Fills the places of the formation that have no dyno of `release`.
fn start_missing(
    release: &ReleaseTarget,
    formation: &[FormationEntry],
    dynos: &[DynoView],
    limits: &TimeLimits,
    now: Timestamp,
    scope: Scope,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for entry in formation.iter().filter(|entry| release.process_types.contains(&entry.process_type)) {
        let web = entry.process_type.is_web();
        if scope == Scope::WebOnly && !web {
            continue;
        }
        for index in 1..=entry.quantity {
            let name = DynoName { process_type: entry.process_type.clone(), index };
            let here: Vec<&DynoView> = dynos.iter().filter(|dyno| dyno.name == name).collect();
            let fills = |dyno: &&&DynoView| is_current(dyno, release, entry) && is_kept(dyno.state);
            if here.iter().any(|dyno| fills(&dyno)) {
                continue;
            }
            // Only `web` may run beside its predecessor.
            if !web && here.iter().any(|dyno| dyno.state.is_alive()) {
                continue;
            }
            let crashed = here.iter().find(|dyno| dyno.state == DynoState::Crashed && is_current(dyno, release, entry));
            let (crashes, reason) = match crashed {
                Some(dyno) if elapsed(dyno.since, now) < delay_before_restart(dyno.crashes, limits) => continue,
                Some(dyno) => (dyno.crashes, Reason::Crashed),
                None if here.iter().any(|dyno| dyno.request != DynoRequest::None) => (0, Reason::Restarted),
                None if here.is_empty() => (0, Reason::Scaled),
                None => (0, Reason::Released),
            };
            actions.push(Action::Start { name, release: release.version, size: entry.size.clone(), crashes, reason });
            actions.extend(
                here.iter()
                    .filter(|dyno| dyno.state == DynoState::Crashed)
                    .map(|dyno| Action::Forget { dyno: dyno.id }),
            );
        }
    }
    actions
}

/// Removes what the target does not want, once nobody misses it.
fn remove_surplus(release: &ReleaseTarget, formation: &[FormationEntry], dynos: &[DynoView]) -> Vec<Action> {
    let entries: BTreeMap<&ProcessType, &FormationEntry> = formation
        .iter()
        .filter(|entry| release.process_types.contains(&entry.process_type))
        .map(|entry| (&entry.process_type, entry))
        .collect();
    let web_is_complete = wanted_web(release, formation).all(|(slot, size)| {
        dynos.iter().any(|dyno| {
            dyno.name == slot
                && dyno.size == size
                && dyno.release == release.version
                && dyno.request == DynoRequest::None
                && dyno.state == DynoState::Up
        })
    });
    let mut actions = Vec::new();
    let mut kept: Vec<&DynoName> = Vec::new();
    for dyno in dynos {
        let entry = entries.get(&dyno.name.process_type);
        let in_formation = entry.is_some_and(|entry| dyno.name.index <= entry.quantity);
        let current = entry.is_some_and(|entry| is_current(dyno, release, entry));
        if dyno.state == DynoState::Crashed {
            let filled = || dynos.iter().any(|other| other.name == dyno.name && is_kept(other.state));
            if !in_formation || !current || filled() {
                actions.push(Action::Forget { dyno: dyno.id });
            }
            continue;
        }
        if !is_kept(dyno.state) || dyno.request == DynoRequest::Stop {
            continue;
        }
        if in_formation && current && !kept.contains(&&dyno.name) {
            kept.push(&dyno.name);
            continue;
        }
        let shrunk = !in_formation && dyno.release == release.version;
        let reason = match dyno.request {
            DynoRequest::Restart => Reason::Restarted,
            DynoRequest::None | DynoRequest::Stop if shrunk => Reason::Scaled,
            DynoRequest::None | DynoRequest::Stop => Reason::Released,
        };
        if !dyno.name.process_type.is_web() {
            actions.push(Action::Stop { dyno: dyno.id, reason });
        } else if shrunk || web_is_complete {
            actions.push(match dyno.state {
                DynoState::Up => Action::TakeOut { dyno: dyno.id, reason },
                DynoState::Requested
                | DynoState::Starting
                | DynoState::Draining
                | DynoState::Stopping
                | DynoState::Crashed
                | DynoState::Exited => Action::Stop { dyno: dyno.id, reason },
            });
        }
    }
    actions
}

/// The `web` places that `release` must fill, with their size.
fn wanted_web<'target>(
    release: &'target ReleaseTarget,
    formation: &'target [FormationEntry],
) -> impl Iterator<Item = (DynoName, &'target str)> {
    formation
        .iter()
        .filter(|entry| entry.process_type.is_web() && release.process_types.contains(&entry.process_type))
        .flat_map(|entry| {
            (1..=entry.quantity)
                .map(|index| (DynoName { process_type: entry.process_type.clone(), index }, entry.size.as_str()))
        })
}

fn is_current(dyno: &DynoView, release: &ReleaseTarget, entry: &FormationEntry) -> bool {
    dyno.release == release.version && dyno.size == entry.size && dyno.request == DynoRequest::None
}

/// Alive and not on its way out.
const fn is_kept(state: DynoState) -> bool {
    match state {
        DynoState::Requested | DynoState::Starting | DynoState::Up => true,
        DynoState::Draining | DynoState::Stopping | DynoState::Crashed | DynoState::Exited => false,
    }
}

/// Time from `since` to `now`; zero if the clock went back.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
