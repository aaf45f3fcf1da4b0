//! Admission on a fake clock: what reaches its clients in time, for dynos of which nothing is known.
//!
//! `SEED=7 LANES=48 cargo test --release -p domain --test admission lanes -- --nocapture` prints a table for tuning.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a simulation computes with small numbers"
)]

mod simulator;

use crate::simulator::{Chance, Lane, Report, Service, run};

const SERVICES: [Service; 4] = [Service::Constant, Service::Uniform, Service::Exponential, Service::Mixed];

/// Loads of the table, as multiples of the capacity.
const LOADS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// Requests per second that a lane of the table may have, so that it takes seconds.
const RATE_MAX: f64 = 20_000.0;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Of the requests that arrived in this span, the good ones as a share of what is possible.
fn goodput(lane: &Lane, report: &Report, from: f64, to: f64) -> f64 {
    let possible = (report.offered(from, to) as f64).min(lane.capacity() * (to - from));
    report.good(from, to) as f64 / possible
}

/// The same as a share of what the router reaches that is told the number of workers.
fn against_told(lane: &Lane) -> (f64, Report) {
    let report = run(lane);
    let told = run(&Lane { declared: Some(lane.workers as u32), ..lane.clone() });
    (report.good(0.0, lane.duration) as f64 / told.good(0.0, lane.duration) as f64, report)
}

#[test]
fn lanes_of_unknown_workers_and_service_times_reach_what_a_told_router_does() {
    let seed = variable("SEED").unwrap_or(7);
    let lanes = variable("LANES");
    let mut chance = Chance::new(seed);
    let mut sums = [0.0; LOADS.len()];
    println!("SEED={seed}, share of what a router reaches that is told the number of workers");
    println!("workers    ms service        0.5x    1x    2x    5x   10x | learned, median ms at 10x");
    for lane in 0..lanes.unwrap_or(3) {
        // Without optimisation only lanes with few requests are quick enough.
        let (workers_max, seconds_min) = if lanes.is_some() { (40.0, 0.005) } else { (8.0, 0.100) };
        let workers = (chance.unit() * f64::ln(workers_max)).exp().round() as usize;
        let seconds = seconds_min * (chance.unit() * f64::ln(0.5 / seconds_min)).exp();
        let service = SERVICES[lane as usize % if lanes.is_some() { 4 } else { 2 }];
        let mut cells = Vec::new();
        let mut last = String::new();
        for (index, load) in LOADS.into_iter().enumerate() {
            let mut lane = Lane::new(workers, seconds, service, load, chance.next());
            if lane.capacity() * load > RATE_MAX {
                lane.duration = 10.0;
            }
            let (share, report) = against_told(&lane);
            sums[index] += share / lanes.unwrap_or(3) as f64;
            cells.push(format!("{:5.1}", share * 100.0));
            last = format!("{:3} {:5.0}", report.workers, report.median() * 1000.0);
        }
        println!("{workers:5} {:7.1} {:12} {} | {last}", seconds * 1000.0, format!("{service:?}"), cells.join(" "));
    }
    println!("mean {sums:.3?}");
    assert!(sums.iter().all(|share| *share > 0.93), "{sums:?}");
}

#[test]
fn a_change_of_the_number_of_workers_is_found_out() {
    for (before, after) in [(8, 2), (2, 8)] {
        let mut lane = Lane::new(before, 0.050, Service::Uniform, 4.0, 11);
        lane.change = Some((10.0, after));
        lane.duration = 30.0;
        let report = run(&lane);
        let learned = f64::from(report.workers) / after as f64;
        assert!((0.7..1.6).contains(&learned), "from {before} to {after}: {} {:?}", report.workers, report.history);
    }
}

#[test]
fn a_dyno_ten_times_slower_takes_its_share_and_no_more() {
    let mut lane = Lane::new(2, 0.050, Service::Uniform, 2.0, 5);
    lane.slowness = vec![1.0, 1.0, 1.0, 10.0];
    let report = run(&lane);
    let share = goodput(&lane, &report, 0.0, lane.duration);
    assert!(share > 0.95, "{share} {:?}", report.history);
}

#[test]
fn after_a_freeze_everything_new_is_answered_and_nothing_waited_for_long() {
    for (seconds, seed) in [(2.0, 1), (10.0, 2)] {
        let mut lane = Lane::new(2, 0.050, Service::Uniform, 0.8, seed);
        lane.freeze = Some((10.0, 10.0 + seconds));
        let report = run(&lane);
        let (from, to) = (10.0 + seconds + 0.5, lane.duration);
        let share = report.good(from, to) as f64 / report.offered(from, to) as f64;
        assert!(share > 0.98, "{share}");
        let waited = report.outcomes.iter().filter_map(|outcome| Some(outcome.refused? - outcome.arrived));
        assert!(waited.into_iter().all(|wait| wait < 1.1));
    }
}

#[test]
fn dynos_that_share_their_processor_are_learned_like_workers() {
    let mut lane = Lane::new(4, 0.050, Service::Uniform, 4.0, 3);
    lane.shares = true;
    let (share, report) = against_told(&lane);
    assert!(share > 0.93 && (3..=8).contains(&report.workers), "{share} {}", report.workers);
}

#[test]
fn what_an_earlier_release_has_learned_is_a_good_beginning() {
    let mut lane = Lane::new(16, 0.200, Service::Uniform, 4.0, 3);
    lane.duration = 3.0;
    let cold = run(&lane).good(0.0, 3.0);
    lane.hint = Some(16);
    let warm = run(&lane).good(0.0, 3.0);
    assert!(warm > cold, "{warm} {cold}");
}
