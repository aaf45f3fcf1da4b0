//! What happens to a request: a dyno, a wait or a refusal. Pure; which dyno it is decides [`domain::admission`].

use std::time::Duration;

use domain::admission::choice::{Choice, DynoLoad, choose};
use domain::error_code::ErrorCode;
use wire::routes::Availability;

/// What happens to a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Take { index: usize, in_flight: u32, half_open: bool },
    Wait(WaitFor),
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// A dyno that is at its limit to finish a request: a short while, then `H11`.
    Slot,
    /// A dyno that is starting: as long as a start may take, then `H20`.
    Boot,
    /// The app's requests to be let through again.
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Code(ErrorCode),
    /// `H11`: there are more requests than slots for too long.
    Shed {
        retry_after: Duration,
    },
    /// The app has left the table.
    NoSuchApp,
    /// Every dyno in the table was tried in vain; the last attempt says why.
    AllTried,
}

/// Decides about one request. `availability` is `None` once the app has left the table.
///
/// Dynos in the table serve whatever the availability says (a stopping app still has its draining dynos' successors),
/// except under maintenance. `held` requests wait whatever dynos there are.
pub(crate) fn admit(
    availability: Option<Availability>,
    held: bool,
    dynos: impl ExactSizeIterator<Item = DynoLoad>,
    tie: u64,
) -> Admission {
    let Some(availability) = availability else { return Admission::Refuse(Refusal::NoSuchApp) };
    if availability == Availability::Maintenance {
        return Admission::Refuse(Refusal::Code(ErrorCode::H80));
    }
    if held {
        return Admission::Wait(WaitFor::Resume);
    }
    let count = dynos.len();
    match choose(dynos, tie) {
        Choice::Take { index, in_flight, half_open } => Admission::Take { index, in_flight, half_open },
        Choice::Busy => Admission::Wait(WaitFor::Slot),
        Choice::None if count > 0 => Admission::Refuse(Refusal::AllTried),
        Choice::None => without_dynos(availability),
    }
}

/// Whether all of an app's requests wait, and not for a slot of a dyno.
pub(crate) fn rests(availability: Option<Availability>, held: bool, dynos: usize) -> bool {
    matches!(admit(availability, held, std::iter::empty(), 0), Admission::Wait(_) if held || dynos == 0)
}

fn without_dynos(availability: Availability) -> Admission {
    match availability {
        // `Serving` without a dyno is the moment between two updates: the next one is on its way.
        Availability::Serving | Availability::Starting => Admission::Wait(WaitFor::Boot),
        Availability::Crashed => Admission::Refuse(Refusal::Code(ErrorCode::H10)),
        Availability::Stopped => Admission::Refuse(Refusal::Code(ErrorCode::H14)),
        Availability::Blank => Admission::Refuse(Refusal::Code(ErrorCode::H81)),
        Availability::Maintenance => Admission::Refuse(Refusal::Code(ErrorCode::H80)),
    }
}

/// The code of a request whose dynos all failed to take a connection.
pub(crate) fn connect_failure_code(all_were_quarantined: bool, last_timed_out: bool, dynos: usize) -> ErrorCode {
    match (all_were_quarantined && dynos > 1, last_timed_out) {
        (true, _) => ErrorCode::H34,
        (false, true) => ErrorCode::H19,
        (false, false) => ErrorCode::H21,
    }
}

#[cfg(test)]
mod tests {
    use domain::admission::choice::{RAMP_FULL, Standing};

    use super::*;

    #[test]
    fn an_app_without_dynos_waits_only_while_one_is_starting() {
        let check = |availability, expect| assert_eq!(admit(availability, false, [].into_iter(), 0), expect);
        check(Some(Availability::Starting), Admission::Wait(WaitFor::Boot));
        check(Some(Availability::Serving), Admission::Wait(WaitFor::Boot));
        check(Some(Availability::Crashed), Admission::Refuse(Refusal::Code(ErrorCode::H10)));
        check(Some(Availability::Stopped), Admission::Refuse(Refusal::Code(ErrorCode::H14)));
        check(Some(Availability::Blank), Admission::Refuse(Refusal::Code(ErrorCode::H81)));
        check(Some(Availability::Maintenance), Admission::Refuse(Refusal::Code(ErrorCode::H80)));
        check(None, Admission::Refuse(Refusal::NoSuchApp));
    }

    #[test]
    fn maintenance_refuses_and_a_hold_waits_even_with_dynos() {
        let dynos = [DynoLoad { in_flight: 0, limit: None, weight: 1, ramp: RAMP_FULL, standing: Standing::Healthy }];
        let expect = Admission::Refuse(Refusal::Code(ErrorCode::H80));
        assert_eq!(admit(Some(Availability::Maintenance), false, dynos.into_iter(), 0), expect);
        let held = admit(Some(Availability::Serving), true, dynos.into_iter(), 0);
        assert_eq!(held, Admission::Wait(WaitFor::Resume));
    }

    #[test]
    fn an_app_rests_while_it_is_held_or_its_first_dyno_is_on_its_way() {
        assert!(rests(Some(Availability::Serving), true, 2));
        assert!(rests(Some(Availability::Starting), false, 0));
        assert!(!rests(Some(Availability::Starting), false, 1), "it has one");
        assert!(!rests(Some(Availability::Maintenance), true, 2), "these are refused");
        assert!(!rests(Some(Availability::Crashed), false, 0) && !rests(None, true, 0));
    }

    #[test]
    fn one_refusing_dyno_is_h21_and_a_quarantined_fleet_is_h34() {
        assert_eq!(connect_failure_code(true, false, 1), ErrorCode::H21);
        assert_eq!(connect_failure_code(false, false, 3), ErrorCode::H21);
        assert_eq!(connect_failure_code(false, true, 3), ErrorCode::H19);
        assert_eq!(connect_failure_code(true, true, 3), ErrorCode::H34);
    }
}
