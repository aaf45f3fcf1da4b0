//! Admission on a fake clock: what reaches its clients in time, for dynos of which nothing is known.
//!
//! `SEED=7 LANES=48 cargo test --release -p domain --test admission lanes -- --nocapture` prints a table for tuning.
//! `TRACE=router.log DYNOS=2 cargo test -p domain --test admission trace -- --nocapture` replays what `berth logs` has kept.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a simulation computes with small numbers"
)]

mod simulator;
mod trace;

use crate::simulator::{Chance, Deploy, Lane, Outcome, Polls, Report, Service, run};

/// What an app has for an answer.
const FIRST_BYTE_SECONDS: f64 = 30.0;

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
    // Below a second's worth of answers per dyno, it takes seconds until anything is known.
    let least = if lanes.is_some() { 0.93 } else { 0.85 };
    assert!(sums.iter().all(|share| *share > least), "{sums:?}");
}

/// Where answers take about the same time each, a trial needs one of every slot and no more.
#[test]
fn a_cold_start_with_even_answers_takes_about_one_of_them_at_each_limit() {
    let share = |seed: u64| {
        let mut lane = Lane::new(10, 0.300, Service::Constant, 5.0, seed);
        lane.duration = 3.0;
        against_told(&lane).0
    };
    let shares: Vec<f64> = (1..=10).map(share).collect();
    assert!(shares.iter().all(|share| *share > 0.86), "{shares:.2?}");
}

/// The number lies between two that are compared: the first wave of answers shows it.
#[test]
fn a_number_between_two_limits_is_found_at_once_where_answers_take_the_same_time() {
    let share = |seed: u64| {
        let mut lane = Lane::new(6, 0.248, Service::Constant, 2.0, seed);
        lane.duration = 15.0;
        against_told(&lane).0
    };
    let shares: Vec<f64> = (1..=10).map(share).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(mean > 0.985 && shares.iter().all(|share| *share > 0.93), "{mean:.3} {shares:.3?}");
}

/// What piled up while it was not known how many workers there are keeps nobody waiting afterwards.
#[test]
fn after_overload_half_of_the_load_is_served_at_once() {
    let mut shares = Vec::new();
    for (workers, seconds) in [(4, 0.308), (6, 0.248), (2, 0.050)] {
        for seed in 1..=10 {
            let mut lane = Lane::new(workers, seconds, Service::Constant, 5.0, seed);
            lane.load = vec![(0.0, 5.0), (15.0, 0.5)];
            lane.duration = 21.0;
            let report = run(&lane);
            shares.push(report.good(15.5, 20.0) as f64 / report.offered(15.5, 20.0) as f64);
        }
    }
    assert!(shares.iter().all(|share| *share > 0.95), "{shares:.3?}");
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

/// The limit was right until then, so nothing but a trial can show that more would be answered.
#[test]
fn more_workers_are_used_within_seconds() {
    let share = |seed: u64| {
        let (before, after) = (2, 6);
        let mut lane = Lane::new(before, 0.050, Service::Constant, 6.0, seed);
        lane.change = Some((10.0, after));
        lane.duration = 20.0;
        let report = run(&lane);
        let possible = lane.capacity() * after as f64 / before as f64;
        [(10.0, 15.0), (15.0, 20.0)].map(|(from, to)| report.good(from, to) as f64 / (possible * (to - from)))
    };
    let shares: Vec<[f64; 2]> = (1..=10).map(share).collect();
    let mean = |span: usize| shares.iter().map(|share| share[span]).sum::<f64>() / shares.len() as f64;
    assert!(mean(0) > 0.8 && mean(1) > 0.95, "{shares:.2?}");
}

#[test]
fn a_dyno_ten_times_slower_takes_its_share_and_no_more() {
    let share = |seed: u64| {
        let mut lane = Lane::new(2, 0.050, Service::Uniform, 2.0, seed);
        lane.slowness = vec![1.0, 1.0, 1.0, 10.0];
        let report = run(&lane);
        goodput(&lane, &report, 0.0, lane.duration)
    };
    let shares: Vec<f64> = (1..=10).map(share).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(mean > 0.97 && shares.iter().all(|share| *share > 0.93), "{mean} {shares:.3?}");
}

/// Also soon after a cold start, when nothing is proved yet, and however regular the service is.
#[test]
fn after_a_freeze_everything_new_is_answered_and_nothing_waited_for_long() {
    let mut shares = Vec::new();
    for seed in 1..=25 {
        for (begins, seconds) in [(5.0, 2.0), (10.0, 2.0), (5.0, 10.0), (10.0, 10.0)] {
            let service = [Service::Constant, Service::Uniform][seed as usize % 2];
            let mut lane = Lane::new(2, 0.050, service, 0.8, seed);
            lane.freeze = Some((begins, begins + seconds));
            let report = run(&lane);
            let (from, to) = (begins + seconds + 0.5, lane.duration);
            let share = report.good(from, to) as f64 / report.offered(from, to) as f64;
            let waited = report.outcomes.iter().filter_map(|outcome| Some(outcome.refused? - outcome.arrived));
            let longest = waited.fold(0.0, f64::max);
            println!("seed {seed:2}, {service:?}, {begins} s + {seconds} s: {share:.3}, longest wait {longest:.2} s");
            shares.push((share, longest));
        }
    }
    assert!(shares.iter().all(|(share, longest)| *share > 0.99 && *longest < 1.0), "{shares:.3?}");
}

/// Whoever was told to wait gets an answer, and so does everybody who comes while they get theirs.
#[test]
fn a_pause_loses_nobody() {
    for seed in 1..=10 {
        for (load, seconds) in [(0.3, 10.0), (0.5, 10.0), (0.8, 5.0)] {
            for declared in [Some(2), None] {
                let lane = Lane::new(2, 0.050, Service::Uniform, load, seed);
                let lane = Lane { declared, pause: Some((5.0, 5.0 + seconds)), duration: 40.0, ..lane };
                let report = run(&lane);
                // Until about then the last of them wait; later a chance burst may have to.
                let of_pause = report.outcomes.iter().filter(|outcome| outcome.arrived < 25.0);
                let lost = of_pause.filter(|outcome| outcome.answered.is_none());
                let lost: Vec<(f64, Option<f64>)> = lost.map(|outcome| (outcome.arrived, outcome.refused)).collect();
                assert!(
                    lost.is_empty(),
                    "seed {seed}, {load}x, {declared:?}: {:.2?} of {}",
                    lost,
                    report.outcomes.len()
                );
            }
        }
    }
}

/// Two dynos of one worker each at half their capacity; a request of two seconds comes in the middle of it.
const STUTTER: &str = include_str!("traces/stutter.log");

/// What was recorded comes out again, and what would have happened with more of it.
#[test]
fn a_trace_is_replayed_at_its_own_speed_and_faster() {
    let given = std::env::var("TRACE").ok().map(|path| std::fs::read_to_string(path).unwrap());
    let trace = trace::parse(given.as_deref().unwrap_or(STUTTER));
    let dynos = variable("DYNOS").unwrap_or(2) as usize;
    let mut took: Vec<f64> = trace.iter().map(|traced| traced.took).collect();
    took.sort_by(f64::total_cmp);
    println!("{} requests, median {:.0} ms", trace.len(), took[took.len() / 2] * 1000.0);
    let mut reports = Vec::new();
    for (speed, declared) in [(1.0, Some(1)), (1.0, None), (2.0, Some(1)), (4.0, Some(1)), (4.0, None)] {
        let report = run(&Lane { declared, ..trace::lane(&trace, dynos, speed) });
        let answered = report.outcomes.iter().filter(|outcome| outcome.answered.is_some()).count();
        let median = report.median() * 1000.0;
        println!("{speed}x, declared {declared:?}: {answered} answered, median {median:.0} ms");
        reports.push((answered, report.median()));
    }
    if given.is_none() {
        let recorded = took[took.len() / 2];
        assert_eq!((trace.len(), reports[0].0, reports[1].0), (160, 160, 160), "as it was");
        assert!((reports[0].1 / recorded - 1.0).abs() < 0.15, "{} was {recorded}", reports[0].1);
        assert!(reports[3].0 < 160 && reports[3].0 > 80 && reports[3].1 < 0.6, "the newest, in time: {reports:?}");
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

/// What learning does to requests that a router without limits would have answered: those that are refused, and the
/// longest that one is later.
fn harm(lane: &Lane) -> (usize, f64, Report) {
    let report = run(lane);
    let open = run(&Lane { unlimited: true, ..lane.clone() });
    assert_eq!(report.outcomes.len(), open.outcomes.len(), "the same requests");
    let pairs = || report.outcomes.iter().zip(&open.outcomes);
    let served = |outcome: &Outcome| outcome.answered.is_some_and(|at| at - outcome.arrived <= FIRST_BYTE_SECONDS);
    let refused = pairs().filter(|(ours, open)| ours.answered.is_none() && served(open)).count();
    let later = pairs().filter_map(|(ours, open)| Some(ours.answered? - open.answered?)).fold(0.0, f64::max);
    (refused, later, report)
}

/// Loads that the dynos can carry, of every kind that a limit of one looks wrong for.
fn harmless_lanes(seed: u64) -> Vec<(&'static str, Lane)> {
    let asynchronous = |dynos, seconds, service, rate| Lane::asynchronous(dynos, seconds, service, rate, seed);
    let slow_first = Lane {
        dynos: 1,
        slowness: vec![1.0],
        first_seconds: Some(5.0),
        ..Lane::new(4, 0.050, Service::Uniform, 0.3, seed)
    };
    let deploy = |before, workers| Lane {
        deploy: Some(Deploy { at: 10.0, workers }),
        first_seconds: Some(2.0),
        rate: Some(20.0),
        ..Lane::new(before, 0.050, Service::Uniform, 1.0, seed)
    };
    let polls = |dynos, count| Lane {
        polls: vec![Polls { at: 5.0, count, seconds: 25.0 }],
        ..asynchronous(dynos, 0.020, Service::Exponential, 30.0)
    };
    vec![
        ("one dyno, slow first requests", slow_first.clone()),
        ("one dyno, rare requests", Lane { load: vec![(0.0, 0.02)], duration: 120.0, ..slow_first.clone() }),
        ("one dyno of one worker", Lane { workers: 1, first_seconds: None, ..slow_first }),
        ("endpoints of 20 ms and 5 s, one dyno", asynchronous(1, 0.518, Service::Endpoints, 40.0)),
        ("endpoints of 20 ms and 5 s, four dynos", asynchronous(4, 0.518, Service::Endpoints, 100.0)),
        ("300 long polls, one dyno", polls(1, 300)),
        ("300 long polls, four dynos", polls(4, 300)),
        (
            "300 long polls at the start",
            Lane { polls: vec![Polls { at: 0.0, count: 300, seconds: 25.0 }], ..polls(1, 0) },
        ),
        ("hundreds in flight, one dyno", asynchronous(1, 1.0, Service::Exponential, 400.0)),
        ("hundreds in flight, four dynos", asynchronous(4, 1.0, Service::Uniform, 800.0)),
        ("thousands in flight", asynchronous(2, 2.0, Service::Constant, 1_500.0)),
        ("deploy to more workers", deploy(2, 16)),
        ("deploy, the same", deploy(8, 8)),
        (
            "a load that grows",
            Lane { load: vec![(0.0, 0.1), (10.0, 0.3), (20.0, 0.6)], ..Lane::new(8, 0.100, Service::Mixed, 1.0, seed) },
        ),
    ]
}

#[test]
fn ignorance_refuses_nothing_that_would_have_been_answered() {
    let (seed, count) = (variable("SEED").unwrap_or(7), variable("LANES").unwrap_or(1));
    let mut worst = Vec::new();
    for seed in seed..seed + count {
        for (index, (name, lane)) in harmless_lanes(seed).into_iter().enumerate() {
            let (refused, later, report) = harm(&lane);
            worst.resize(worst.len().max(index + 1), (name, 0, 0.0, 0));
            let entry = &mut worst[index];
            *entry = (name, entry.1 + refused, later.max(entry.2), report.workers);
        }
    }
    for (name, refused, later, workers) in &worst {
        println!("{name:40} {refused:5} refused, at most {later:.2} s later, learned {workers}");
    }
    assert!(worst.iter().all(|(_name, refused, _later, _workers)| *refused == 0));
    // Only a server that begins with hundreds in flight, each for a second, is held back for longer than a few answers.
    assert!(
        worst
            .iter()
            .all(|(name, _refused, later, _workers)| *later < if name.contains("hundreds") { 20.0 } else { 10.0 })
    );
}
