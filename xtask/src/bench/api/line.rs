//! From a dyno's print to a terminal that follows the log.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use super::super::figure::{self, Goal};
use super::super::platform::Platform;
use super::client::Api;
use super::requests::at;
use super::{PRINTER, scale};

const LINES: usize = 100;
/// The first ones are history.
const SKIPPED: usize = 20;

pub(super) fn run(platform: &Platform, _api: &Api) -> Result<()> {
    scale(platform, "clock", 1)?;
    let mut terminal = platform
        .prepared(platform.scratch(), "berth", &["logs", "--tail", "--app", PRINTER])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(terminal.stdout.take().context("no output")?);
    let mut delays = Vec::with_capacity(LINES);
    for line in output.lines() {
        let line = line?;
        let Some((_head, printed)) = line.split_once("clock ") else { continue };
        let Ok(printed) = printed.trim().parse::<f64>() else { continue };
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
        delays.push((now - printed) * 1e3);
        if delays.len() == LINES + SKIPPED {
            break;
        }
    }
    terminal.kill()?;
    terminal.wait()?;
    scale(platform, "clock", 0)?;
    let mut delays = delays.split_off(SKIPPED.min(delays.len()));
    delays.sort_by(f64::total_cmp);
    figure::print("a printed line on a terminal, p99", "ms", at(&delays, 99), 0.0, &[Goal::AtMost(200.0)]);
    figure::note("its median", "ms", at(&delays, 50));
    Ok(())
}
