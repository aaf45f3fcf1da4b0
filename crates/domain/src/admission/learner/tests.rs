//! Dynos that are always full, and counts that no dyno has.

use proptest::prelude::*;

use super::*;

/// Feeds four dynos that are always full and have so many workers.
fn saturate(learner: &mut Learner, workers: f64, service: f64, from: f64, seconds: f64) {
    let mut full = [Duration::from_secs_f64(from); 4];
    let mut done = [0.0_f64; 4];
    let mut held = [Duration::ZERO; 4];
    let mut held_squares_us = [0; 4];
    let ticks = rounded(seconds * 100.0);
    for tick in 0..ticks {
        let now = from + f64::from(tick) * 0.01;
        let counts: Vec<DynoCount> = (0..4_u64)
            .map(|serial| {
                let index = usize::try_from(serial).unwrap_or_default();
                full[index] += Duration::from_millis(10);
                let limit = f64::from(learner.limit(serial));
                let before = done[index].floor();
                done[index] += 0.01 * limit.min(workers) / service;
                let seconds = service * (limit / workers).max(1.0);
                held[index] += Duration::from_secs_f64((done[index].floor() - before) * seconds);
                held_squares_us[index] += whole((done[index].floor() - before) * (seconds * 1e6).powi(2));
                let completions = whole(from * 1_000_000.0 + done[index]);
                let (held, held_squares_us) = (held[index], held_squares_us[index]);
                DynoCount {
                    serial,
                    full: full[index],
                    completions,
                    held,
                    held_squares_us,
                    answers: completions,
                    in_flight: 1,
                }
            })
            .collect();
        learner.step(Duration::from_secs_f64(now), &counts, Some(Duration::ZERO));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's small numbers")]
fn whole(number: f64) -> u64 {
    number as u64
}

proptest! {
    #[test]
    fn workers_are_found_and_stay_within_bounds(workers in 1_u32..60, service_ms in 20_u32..200) {
        let mut learner = Learner::new(None);
        saturate(&mut learner, f64::from(workers), f64::from(service_ms) / 1000.0, 0.0, 40.0);
        let learned = f64::from(learner.limit(9)) / f64::from(workers);
        prop_assert!((0.7..=2.1).contains(&learned), "{} of {workers}", learner.limit(9));
    }

    #[test]
    fn no_counts_lead_out_of_bounds(counts in proptest::collection::vec((0_u64..5_000, 0_u64..500), 1..200)) {
        let mut learner = Learner::new(None);
        let (mut full, mut completions) = (Duration::ZERO, 0);
        for (index, (more_full, more)) in (0_u32..).zip(counts) {
            full += Duration::from_millis(more_full);
            completions += more;
            let now = Duration::from_millis(10) * index;
            let count = DynoCount { serial: 0, full, completions, answers: completions, in_flight: 1, ..DynoCount::default() };
            learner.step(now, &[count], Some(Duration::ZERO));
            prop_assert!((1..=2 * WORKERS_MAX).contains(&learner.limit(0)));
        }
    }
}

#[test]
fn a_limit_that_is_never_reached_stays() {
    let mut learner = Learner::new(Some(12));
    for tick in 0..10_000 {
        let count = DynoCount { serial: 0, full: Duration::ZERO, ..DynoCount::default() };
        learner.step(Duration::from_millis(10) * tick, &[count], None);
    }
    assert_eq!((learner.workers(), learner.limit(0)), (12, 12));
}

#[test]
fn slow_endpoints_alone_do_not_lower_the_limit() {
    let mut learner = Learner::new(None);
    saturate(&mut learner, 8.0, 0.05, 0.0, 20.0);
    let before = learner.workers();
    let mut slower = learner;
    saturate(&mut slower, 8.0, 0.4, 20.0, 60.0);
    assert!(slower.workers() * 4 >= before * 3, "{before} became {}", slower.workers());
}
