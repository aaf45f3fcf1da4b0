//! What a proxy adds to an answer's time at half the load that it could carry, beside its peers.
//!
//! `crates/router/examples/overload` sends requests at random times of a steady rate, answers them itself as the origin,
//! and writes down each one's time. The origin alone is measured with the same rate; what is above its time is the
//! proxy's.
//!
//! A virtual machine stands still for some milliseconds several times a second, and the slowest per cent of all answers
//! are mostly those that were under way then: their p99 says how well a proxy recovers from that. What it does to all
//! others is in the p99 of every twentieth of a second, of which the median counts. Both are judged.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use super::overload::generator;
use super::router::{Bench, LOAD_CORE, NAMES, compare, pinned};

const CONNECTIONS: u32 = 64;
const SECONDS: u32 = 1;
const ROUNDS: usize = 40;
/// So much of what the slowest of the three can carry.
const SHARE: f64 = 0.5;
/// A rate that nothing reaches.
const FLAT_OUT: f64 = 1e9;
/// Of a slice of time, of which each has a p99.
const SLICE_US: u64 = 50_000;
/// Before it, connections are opened on both sides.
const WARM_UP_US: u64 = 150_000;
/// A slice whose p99 is above this had a stall.
const STALL_US: f64 = 1_000.0;
/// In memory, so that what one proxy logs is not written to disk in another one's turn.
const DIR: &str = "/dev/shm";

/// Of one target in one round, in microseconds.
struct Times {
    median: f64,
    p99: f64,
    /// Of each slice.
    slices: Vec<f64>,
}

/// What one proxy adds, round by round, in microseconds.
#[derive(Default)]
struct Added {
    median: Vec<f64>,
    /// Of the middle slice.
    p99: Vec<f64>,
    /// Of all answers, whatever stood still.
    whole_p99: Vec<f64>,
    stalled: usize,
    slices: usize,
}

pub(super) fn run() -> Result<()> {
    let generator = generator()?;
    let mut bench = Bench::start(Path::new(DIR))?;
    bench.end_origin();
    let mut capacity = f64::INFINITY;
    for proxy in 0..NAMES.len() {
        let answers = answers(&generator, &bench, bench.plain_port(proxy), FLAT_OUT)?.len();
        capacity = capacity.min(f64::from(u32::try_from(answers)?) / f64::from(SECONDS));
    }
    let rate = capacity * SHARE;
    println!("{CONNECTIONS} connections, {rate:.0} requests/s: half of {capacity:.0} requests/s");
    let mut all: [Added; NAMES.len()] = Default::default();
    let mut alone = Added::default();
    let nothing = Times { median: 0.0, p99: 0.0, slices: vec![0.0] };
    for round in 0..ROUNDS {
        let origin = times(&generator, &bench, bench.origin_port(), rate)?;
        alone.add(&origin, &nothing);
        for step in 0..NAMES.len() {
            let proxy = (round + step) % NAMES.len();
            all[proxy].add(&times(&generator, &bench, bench.plain_port(proxy), rate)?, &origin);
        }
    }
    println!(
        "  the origin alone: {:.0} us at the median, {:.0} us at p99; stalls in {:.1} % of the time",
        median(&alone.median),
        median(&alone.p99),
        alone.stalled_percent()
    );
    for (added, name) in all.iter().zip(NAMES) {
        println!(
            "  {name:<8} adds {:>4.0} us at the median, {:>4.0} us at p99 of all, {:>4.0} us between stalls ({:.1} % of the time)",
            median(&added.median),
            median(&added.whole_p99),
            median(&added.p99),
            added.stalled_percent(),
        );
    }
    let [own, peers @ ..] = &all;
    let seconds = |added: &Added| added.p99.iter().map(|us| us / 1e6).collect::<Vec<f64>>();
    for (peer, name) in peers.iter().zip(&NAMES[1..]) {
        let ratio = median(&own.whole_p99) / median(&peer.whole_p99);
        let verdict = if ratio <= 1.0 { "met" } else { "MISSED" };
        println!("added at p99 of all answers, to {name}: ratio {ratio:.2}  goal <= 1: {verdict}");
        compare(&format!("added at p99 between stalls, to {name}"), &seconds(own), &seconds(peer), 1.0);
    }
    Ok(())
}

impl Added {
    fn add(&mut self, times: &Times, origin: &Times) {
        self.median.push(times.median - origin.median);
        self.p99.push(median(&times.slices) - median(&origin.slices));
        self.whole_p99.push(times.p99 - origin.p99);
        self.stalled += times.slices.iter().filter(|&&slice| slice > STALL_US).count();
        self.slices += times.slices.len();
    }

    #[expect(clippy::cast_precision_loss, reason = "some hundred slices")]
    fn stalled_percent(&self) -> f64 {
        self.stalled as f64 * 100.0 / self.slices as f64
    }
}

fn times(generator: &Path, bench: &Bench, port: u16, rate: f64) -> Result<Times> {
    let mut answers = answers(generator, bench, port, rate)?;
    answers.retain(|&(at, _)| at >= WARM_UP_US);
    let mut slices: Vec<Vec<f64>> = Vec::new();
    for &(at, took) in &answers {
        let slice = usize::try_from((at - WARM_UP_US) / SLICE_US)?;
        slices.resize(slices.len().max(slice + 1), Vec::new());
        slices[slice].push(took);
    }
    let all = answers.iter().map(|&(_, took)| took).collect();
    let [median, p99] = percentiles(all, [50, 99]);
    Ok(Times { median, p99, slices: slices.into_iter().map(|slice| percentiles(slice, [99])[0]).collect() })
}

/// When each request began and how long it took, in microseconds.
fn answers(generator: &Path, bench: &Bench, port: u16, rate: f64) -> Result<Vec<(u64, f64)>> {
    let output = pinned(LOAD_CORE, &generator.display().to_string())
        .args(["steady", &port.to_string(), &bench.origin_port().to_string(), "bench.example"])
        .args([CONNECTIONS.to_string(), SECONDS.to_string(), rate.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let (at, took) = line.split_once(' ').context("two numbers")?;
        anyhow::Ok((at.parse()?, took.parse()?))
    };
    let answers: Vec<_> = text.lines().map(line).collect::<Result<_>>()?;
    if !output.status.success() || answers.is_empty() {
        bail!("the generator: {}", output.status);
    }
    Ok(answers)
}

fn median(values: &[f64]) -> f64 {
    percentiles(values.to_vec(), [50])[0]
}

fn percentiles<const N: usize>(mut values: Vec<f64>, percents: [usize; N]) -> [f64; N] {
    values.sort_by(f64::total_cmp);
    percents.map(|percent| values.get(values.len() * percent / 100).copied().unwrap_or_default())
}
