//! From a dyno's print to a terminal that follows the log.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::super::figure::{self, Goal};
use super::super::platform::Platform;
use super::client::Api;
use super::requests::at;
use super::{PRINTER, scale};

const LINES: usize = 100;
/// What was printed before the terminal has followed for so long is history.
const BEGINNING: Duration = Duration::from_secs(2);

pub(super) fn run(platform: &Platform, _api: &Api) -> Result<()> {
    scale(platform, "clock", 1)?;
    let mut terminal = platform
        .prepared(platform.scratch(), "berth", &["logs", "--tail", "--app", PRINTER])
        .stdout(Stdio::piped())
        .spawn()?;
    let begun = unix_seconds()?;
    let output = BufReader::new(terminal.stdout.take().context("no output")?);
    let mut delays = Vec::with_capacity(LINES);
    for line in output.lines() {
        let line = line?;
        let Some((_head, printed)) = line.split_once("clock ") else { continue };
        let Ok(printed) = printed.trim().parse::<f64>() else { continue };
        if printed - begun < BEGINNING.as_secs_f64() {
            continue;
        }
        delays.push((unix_seconds()? - printed) * 1e3);
        if delays.len() == LINES {
            break;
        }
    }
    terminal.kill()?;
    terminal.wait()?;
    scale(platform, "clock", 0)?;
    delays.sort_by(f64::total_cmp);
    figure::print("a printed line on a terminal, p99", "ms", at(&delays, 99), 0.0, &[Goal::AtMost(200.0)]);
    figure::note("its median", "ms", at(&delays, 50));
    Ok(())
}

fn unix_seconds() -> Result<f64> {
    Ok(SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64())
}
