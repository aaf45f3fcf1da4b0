//! Which dyno takes a request, and what happens to a request that none can take. Pure: no clock, no I/O, no locks.

use domain::error_code::ErrorCode;
use wire::routes::Availability;

/// A dyno as a choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynoLoad {
    pub in_flight: u32,
    /// Requests it may have at once; `None` is no limit.
    pub limit: Option<u32>,
    pub standing: Standing,
}

/// Whether a dyno is offered to a request at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Healthy,
    /// It refused a connection a moment ago: it is asked only if no healthy one is there.
    Quarantined,
    /// This request has tried it, or it has left the table.
    Excluded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// `half_open` says that every dyno is quarantined and this one is asked to see whether it is back.
    Take { index: usize, half_open: bool },
    /// Every dyno that could be asked is at its limit.
    Busy,
    /// There is none to ask.
    None,
}

/// Chooses the dyno with the fewest requests in flight; `tie` (any number, random) decides between equals.
///
/// Quarantined dynos are asked only where no healthy one exists: the last dyno is never ejected.
pub fn choose(dynos: &[DynoLoad], tie: u64) -> Choice {
    let healthy = dynos.iter().any(|dyno| dyno.standing == Standing::Healthy);
    let standing = if healthy { Standing::Healthy } else { Standing::Quarantined };
    let asked = dynos.iter().enumerate().filter(|(_index, dyno)| dyno.standing == standing);
    let free = asked.clone().filter(|(_index, dyno)| dyno.limit.is_none_or(|limit| dyno.in_flight < limit));
    let Some(least) = free.clone().map(|(_index, dyno)| dyno.in_flight).min() else {
        return if asked.clone().next().is_some() { Choice::Busy } else { Choice::None };
    };
    let equals = free.filter(|(_index, dyno)| dyno.in_flight == least).map(|(index, _dyno)| index);
    let count = equals.clone().count() as u64;
    let nth = usize::try_from(tie % count.max(1)).unwrap_or(0);
    equals.clone().nth(nth).map_or(Choice::None, |index| Choice::Take { index, half_open: !healthy })
}

/// What happens to a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Take { index: usize, half_open: bool },
    Wait(WaitFor),
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// A dyno that is at its limit to finish a request: a short while, then `H11`.
    Slot,
    /// A dyno that is starting: as long as a start may take, then `H20`.
    Boot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Code(ErrorCode),
    /// The app has left the table.
    NoSuchApp,
    /// Every dyno in the table was tried in vain; the last attempt says why.
    AllTried,
}

/// Decides about one request. `availability` is `None` once the app has left the table.
///
/// Dynos in the table serve whatever the availability says (a stopping app still has its draining dynos' successors),
/// except under maintenance.
pub fn admit(availability: Option<Availability>, dynos: &[DynoLoad], tie: u64) -> Admission {
    let Some(availability) = availability else { return Admission::Refuse(Refusal::NoSuchApp) };
    if availability == Availability::Maintenance {
        return Admission::Refuse(Refusal::Code(ErrorCode::H80));
    }
    match choose(dynos, tie) {
        Choice::Take { index, half_open } => Admission::Take { index, half_open },
        Choice::Busy => Admission::Wait(WaitFor::Slot),
        Choice::None if !dynos.is_empty() => Admission::Refuse(Refusal::AllTried),
        Choice::None => without_dynos(availability),
    }
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
pub fn connect_failure_code(all_were_quarantined: bool, last_timed_out: bool, dynos: usize) -> ErrorCode {
    match (all_were_quarantined && dynos > 1, last_timed_out) {
        (true, _) => ErrorCode::H34,
        (false, true) => ErrorCode::H19,
        (false, false) => ErrorCode::H21,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(in_flight: u32, limit: Option<u32>, standing: Standing) -> DynoLoad {
        DynoLoad { in_flight, limit, standing }
    }

    fn any_load() -> impl Strategy<Value = DynoLoad> {
        let standing = prop_oneof![Just(Standing::Healthy), Just(Standing::Quarantined), Just(Standing::Excluded)];
        (0_u32..6, proptest::option::of(0_u32..6), standing)
            .prop_map(|(in_flight, limit, standing)| load(in_flight, limit, standing))
    }

    proptest! {
        #[test]
        fn the_choice_is_free_allowed_and_the_least_loaded(
            dynos in proptest::collection::vec(any_load(), 0..8),
            tie in any::<u64>(),
        ) {
            let free = |dyno: &DynoLoad| dyno.limit.is_none_or(|limit| dyno.in_flight < limit);
            let healthy = dynos.iter().any(|dyno| dyno.standing == Standing::Healthy);
            let wanted = if healthy { Standing::Healthy } else { Standing::Quarantined };
            let asked: Vec<&DynoLoad> = dynos.iter().filter(|dyno| dyno.standing == wanted).collect();
            match choose(&dynos, tie) {
                Choice::Take { index, half_open } => {
                    let taken = &dynos[index];
                    prop_assert_eq!(taken.standing, wanted);
                    prop_assert_eq!(half_open, !healthy);
                    prop_assert!(free(taken));
                    prop_assert!(asked.iter().filter(|dyno| free(dyno)).all(|dyno| dyno.in_flight >= taken.in_flight));
                }
                Choice::Busy => prop_assert!(!asked.is_empty() && asked.iter().all(|dyno| !free(dyno))),
                Choice::None => prop_assert!(asked.is_empty()),
            }
        }

        #[test]
        fn ties_are_broken_evenly(count in 1_usize..6) {
            let dynos = vec![load(1, None, Standing::Healthy); count];
            let mut taken = vec![0; count];
            for tie in 0..60_u64 {
                if let Choice::Take { index, .. } = choose(&dynos, tie) {
                    taken[index] += 1;
                }
            }
            prop_assert!(taken.iter().all(|&times| times == 60 / count), "{:?}", taken);
        }
    }

    #[test]
    fn a_quarantined_dyno_waits_behind_a_busy_healthy_one() {
        let dynos = [load(1, Some(1), Standing::Healthy), load(0, Some(1), Standing::Quarantined)];
        assert_eq!(choose(&dynos, 0), Choice::Busy);
    }

    #[test]
    fn the_last_dyno_is_never_ejected() {
        let dynos = [load(0, None, Standing::Quarantined)];
        assert_eq!(choose(&dynos, 0), Choice::Take { index: 0, half_open: true });
    }

    #[test]
    fn an_app_without_dynos_waits_only_while_one_is_starting() {
        let check = |availability, expect| assert_eq!(admit(availability, &[], 0), expect);
        check(Some(Availability::Starting), Admission::Wait(WaitFor::Boot));
        check(Some(Availability::Serving), Admission::Wait(WaitFor::Boot));
        check(Some(Availability::Crashed), Admission::Refuse(Refusal::Code(ErrorCode::H10)));
        check(Some(Availability::Stopped), Admission::Refuse(Refusal::Code(ErrorCode::H14)));
        check(Some(Availability::Blank), Admission::Refuse(Refusal::Code(ErrorCode::H81)));
        check(Some(Availability::Maintenance), Admission::Refuse(Refusal::Code(ErrorCode::H80)));
        check(None, Admission::Refuse(Refusal::NoSuchApp));
    }

    #[test]
    fn maintenance_refuses_even_with_dynos() {
        let dynos = [load(0, None, Standing::Healthy)];
        let expect = Admission::Refuse(Refusal::Code(ErrorCode::H80));
        assert_eq!(admit(Some(Availability::Maintenance), &dynos, 0), expect);
    }

    #[test]
    fn one_refusing_dyno_is_h21_and_a_quarantined_fleet_is_h34() {
        assert_eq!(connect_failure_code(true, false, 1), ErrorCode::H21);
        assert_eq!(connect_failure_code(false, false, 3), ErrorCode::H21);
        assert_eq!(connect_failure_code(false, true, 3), ErrorCode::H19);
        assert_eq!(connect_failure_code(true, true, 3), ErrorCode::H34);
    }
}
