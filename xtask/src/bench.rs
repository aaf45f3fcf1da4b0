//! Benchmarks: every figure beside a floor that a plain script reaches in the same run, and the load average.
//!
//! They drive the release build of `berth` through its command line and git, as a person does, with a data directory,
//! ports and a credentials file of their own, and leave nothing behind. `BERTH_BENCH=/path/to/berth` measures another
//! executable.

mod api;
mod changes;
mod chosen;
mod deploy;
mod figure;
mod latency;
mod launch;
mod memory;
mod overload;
mod platform;
mod processes;
mod router;
mod scale;

use anyhow::{Result, bail};

type Bench = fn() -> Result<()>;

/// Benchmarks by name.
const BENCHES: &[(&str, Bench)] = &[
    ("memory", memory::run),
    ("deploy", deploy::run),
    ("scale", scale::run),
    ("launch", launch::run),
    ("api", api::run),
    ("router", router::run),
    ("router-idle", router::idle),
    ("router-changes", changes::run),
    ("router-latency", latency::run),
    ("overload", overload::run),
    ("overload-lanes", overload::lanes),
    ("overload-stutters", overload::stutters),
    ("overload-neighbour", overload::neighbour),
];

pub(crate) fn names() -> Vec<&'static str> {
    BENCHES.iter().map(|(name, _run)| *name).collect()
}

pub(crate) fn run(wanted: &[&str]) -> Result<()> {
    for name in wanted {
        if !names().contains(name) {
            bail!("there is no benchmark {name}; there are: {}", names().join(", "));
        }
    }
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.contains(name) {
            println!("== {name} (load average {})", load_average());
            bench()?;
            println!("   load average at the end: {}", load_average());
        }
    }
    Ok(())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
