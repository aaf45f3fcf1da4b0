//! What people wait for who work with the platform: answers of the API beside many apps and tails, lines of logs beside
//! a flood of them, and sessions in one-offs.
//!
//! Everything that prints is one app of the benchmark's own, `printer`.

mod attached;
mod client;
mod flood;
mod heroku;
mod line;
mod requests;

use std::fs;

use anyhow::{Result, bail};

use super::chosen::is_chosen;
use super::platform::Platform;
use client::Api;

type Part = fn(&Platform, &Api) -> Result<()>;

/// In this order: the later ones run beside the apps that the first one made.
const PARTS: [(&str, Part); 5] = [
    ("requests", requests::run),
    ("line", line::run),
    ("flood", flood::run),
    ("attached", attached::run),
    ("heroku", heroku::run),
];

/// Which parts to run, by name.
const CELLS: &str = "BERTH_BENCH_CELLS";

/// The app that prints.
const PRINTER: &str = "printer";

/// Prints the time, ten times a second.
const CLOCK: &str = "\
import time
while True:
    print('clock %.6f' % time.time(), flush=True)
    time.sleep(0.1)
";

const PROCFILE: &str = "clock: exec python3 clock.py\nflood: exec python3 flood.py\n";

pub(super) fn run() -> Result<()> {
    let parts: Vec<_> = PARTS.into_iter().filter(|(name, _run)| is_chosen(CELLS, name)).collect();
    if parts.is_empty() {
        bail!("{CELLS} names none of: {}", PARTS.map(|(name, _run)| name).join(", "));
    }
    let platform = Platform::start()?;
    let api = Api::new(&platform)?;
    deploy(&platform)?;
    parts.into_iter().try_for_each(|(_name, part)| part(&platform, &api))
}

fn deploy(platform: &Platform) -> Result<()> {
    let directory = platform.scratch().join(PRINTER);
    fs::create_dir(&directory)?;
    fs::write(directory.join("clock.py"), CLOCK)?;
    fs::write(directory.join("flood.py"), flood::PROGRAM)?;
    fs::write(directory.join("Procfile"), PROCFILE)?;
    fs::write(directory.join("requirements.txt"), "")?;
    platform.berth(&["create", PRINTER])?;
    platform.berth(&["deploy", PRINTER, "--app", PRINTER])?;
    Ok(())
}

/// Runs so many dynos of one of the app's process types.
fn scale(platform: &Platform, process_type: &str, dynos: usize) -> Result<()> {
    platform.berth(&["ps:scale", "--app", PRINTER, &format!("{process_type}={dynos}")])?;
    Ok(())
}
