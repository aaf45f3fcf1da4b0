//! What a proxy adds to an answer's time at half the load that it could carry, beside its peers.
//!
//! `crates/router/examples/overload.rs` sends requests at random times of a steady rate and writes down each one's
//! time. The origin alone is measured with the same rate; what is above its time is the proxy's.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail};

use super::overload::generator;
use super::router::{Bench, LOAD_CORE, NAMES, pinned};

const CONNECTIONS: u32 = 64;
const SECONDS: u32 = 2;
const ROUNDS: usize = 15;
/// So much of what the slowest of the three can carry, as this generator loads it: it and the origin share a core, and
/// where that is busy, its queue is what would be measured.
const SHARE: f64 = 0.5;
/// A rate that nothing reaches.
const FLAT_OUT: f64 = 1e9;

pub(super) fn run() -> Result<()> {
    let generator = generator()?;
    let bench = Bench::start()?;
    let mut capacity = f64::INFINITY;
    for proxy in 0..NAMES.len() {
        let answers = times(&generator, bench.plain_port(proxy), FLAT_OUT)?.len();
        capacity = capacity.min(f64::from(u32::try_from(answers)?) / f64::from(SECONDS));
    }
    let rate = capacity * SHARE;
    println!("{CONNECTIONS} connections, {rate:.0} requests/s: half of {capacity:.0} requests/s");
    let mut added: [Vec<[f64; 2]>; NAMES.len()] = Default::default();
    for round in 0..ROUNDS {
        let origin = times(&generator, bench.origin_port(), rate)?;
        for step in 0..NAMES.len() {
            let proxy = (round + step) % NAMES.len();
            let through = times(&generator, bench.plain_port(proxy), rate)?;
            added[proxy].push([50, 99].map(|percent| at(&through, percent) - at(&origin, percent)));
        }
    }
    let median = |proxy: usize, index: usize| {
        let mut values: Vec<f64> = added[proxy].iter().map(|pair| pair[index]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (proxy, name) in NAMES.iter().enumerate() {
        println!(
            "  {name:<8} adds {:>7.0} us at the median, {:>7.0} us at p99 (medians of {ROUNDS} rounds)",
            median(proxy, 0),
            median(proxy, 1)
        );
    }
    let best_peer = (1..NAMES.len()).map(|peer| median(peer, 1)).fold(f64::INFINITY, f64::min);
    let verdict = if median(0, 1) <= best_peer { "met" } else { "MISSED" };
    println!("added at p99, to the better peer: ratio {:.2}  goal <= 1: {verdict}", median(0, 1) / best_peer);
    Ok(())
}

/// Microseconds of each answer, sorted.
fn times(generator: &Path, port: u16, rate: f64) -> Result<Vec<f64>> {
    let output = pinned(LOAD_CORE, &generator.display().to_string())
        .args(["steady", &port.to_string(), "bench.example", "/200"])
        .args([CONNECTIONS.to_string(), SECONDS.to_string(), rate.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut times: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    if !output.status.success() || times.is_empty() {
        bail!("the generator: {}", output.status);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
