use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn check_of(failures: u32, successes: u32) -> HealthCheck {
    HealthCheck { failures, successes, ..HealthCheck::default() }
}

fn any_dyno() -> impl Strategy<Value = CheckedDyno> {
    let state = prop_oneof![
        4 => Just(DynoState::Up),
        1 => Just(DynoState::Starting),
        1 => Just(DynoState::Draining),
        1 => Just(DynoState::Crashed)
    ];
    let request = prop_oneof![4 => Just(DynoRequest::None), 1 => Just(DynoRequest::Restart)];
    (state, request, proptest::option::of(0_i64..300), any::<bool>()).prop_map(|(state, request, since, passed)| {
        CheckedDyno { id: DynoId::random(), state, request, unhealthy_since: since.map(at), passed }
    })
}

proptest! {
    #[test]
    fn health_changes_only_after_enough_checks_in_a_row_that_agree(
        outcomes in proptest::collection::vec(any::<bool>(), 0..200),
        failures in 1_u32..5,
        successes in 1_u32..5,
    ) {
        let check = check_of(failures, successes);
        let mut state = HealthState::default();
        for (place, passed) in outcomes.iter().enumerate() {
            let before = state;
            state.observe(*passed, &check);
            if state.unhealthy != before.unhealthy {
                let needed = if state.unhealthy { failures } else { successes } as usize;
                let last = &outcomes[(place + 1).saturating_sub(needed)..=place];
                prop_assert_eq!(last.len(), needed);
                prop_assert!(last.iter().all(|passed| *passed != state.unhealthy));
            }
            prop_assert_eq!(state.passed, outcomes[..=place].contains(&true));
        }
        // The same outcome for long enough is believed, and then nothing changes any more.
        for passed in [true, false] {
            for _check in 0..5 {
                state.observe(passed, &check);
            }
            prop_assert_eq!(state.unhealthy, !passed);
            prop_assert_eq!(state.observe(passed, &check), None);
        }
    }

    #[test]
    fn somebody_gets_requests_whenever_a_dyno_is_up(dynos in proptest::collection::vec(any_dyno(), 1..8)) {
        let up: Vec<CheckedDyno> = dynos.into_iter().filter(|dyno| dyno.state == DynoState::Up).collect();
        let serving = up.iter().filter(|dyno| gets_requests(dyno, &up)).count();
        prop_assert!(up.is_empty() || serving > 0);
        let healthy = up.iter().filter(|dyno| dyno.unhealthy_since.is_none()).count();
        prop_assert_eq!(serving, if healthy == 0 { up.len() } else { healthy });
    }

    #[test]
    fn one_dyno_at_a_time_is_replaced_and_only_where_that_may_help(
        dynos in proptest::collection::vec(any_dyno(), 0..8),
        second in 0_i64..600,
    ) {
        let check = HealthCheck::default();
        if let Some(id) = replace(&dynos, &check, at(second)) {
            let dyno = dynos.iter().find(|dyno| dyno.id == id).unwrap();
            let since = dyno.unhealthy_since.unwrap();
            prop_assert!(dyno.passed && at(second).duration_since(since).as_secs() >= 120);
            prop_assert!(dynos.iter().all(|dyno| dyno.state == DynoState::Up && dyno.request == DynoRequest::None));
        }
    }
}

#[test]
fn the_longest_unhealthy_dyno_is_replaced_first_and_the_next_one_after_it() {
    let dyno = |since: Option<i64>| CheckedDyno {
        id: DynoId::random(),
        state: DynoState::Up,
        request: DynoRequest::None,
        unhealthy_since: since.map(at),
        passed: true,
    };
    let check = HealthCheck::default();
    let mut dynos = [dyno(None), dyno(Some(20)), dyno(Some(10))];
    assert_eq!(replace(&dynos, &check, at(129)), None);
    assert_eq!(replace(&dynos, &check, at(130)), Some(dynos[2].id));
    assert_eq!(replace(&dynos, &check, at(200)), Some(dynos[2].id));
    dynos[2].request = DynoRequest::Restart;
    assert_eq!(replace(&dynos, &check, at(200)), None);
    assert_eq!(replace(&dynos[..2], &check, at(200)), Some(dynos[1].id));
    dynos[1].passed = false;
    assert_eq!(replace(&dynos[..2], &check, at(200)), None, "it never passed, and no other dyno would");
    // A clock that goes back replaces nobody.
    assert_eq!(replace(&[dyno(Some(100))], &check, at(0)), None);
}

#[test]
fn the_first_passed_check_is_told_once() {
    let check = check_of(1, 2);
    let mut state = HealthState::default();
    assert_eq!(state.observe(false, &check), Some(HealthChange::BecameUnhealthy));
    assert_eq!(state.observe(true, &check), Some(HealthChange::FirstPassed));
    assert_eq!(state.observe(true, &check), Some(HealthChange::BecameHealthy));
    assert_eq!(state.observe(true, &check), None);
}

#[test]
fn statuses_are_single_ones_and_ranges() {
    for (text, passes, fails) in [("200", 200, 201), ("200-399", 399, 400), ("200-299,401", 401, 400)] {
        let ranges = StatusRanges::parse(text).unwrap();
        assert_eq!((ranges.contains(passes), ranges.contains(fails)), (true, false), "{text}");
        assert_eq!(ranges.to_string(), text);
    }
    for wrong in ["", "2xx", "399-200", "99", "600", "200,", "200-"] {
        assert!(StatusRanges::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_is_out_of_bounds_is_named() {
    assert_eq!(HealthCheck::default().check(), Ok(()));
    let check = |change: fn(&mut HealthCheck), expect: &str| {
        let mut check = HealthCheck::default();
        change(&mut check);
        let text = check.check().map_err(|error| error.to_string());
        assert!(text.as_ref().is_err_and(|text| text.contains(expect)), "{text:?}");
    };
    check(|check| "health".clone_into(&mut check.path), "begin with /");
    check(|check| "/a b".clone_into(&mut check.path), "no spaces");
    check(|check| check.interval = Duration::from_millis(1), "interval must be from 200ms to 5m");
    check(|check| check.timeout = Duration::from_secs(11), "not be longer than interval");
    check(|check| check.failures = 0, "failures must be from 1");
    check(|check| check.replace_after = Duration::from_secs(1), "replace-after must be from 10s");
}
