//! An app that prints 50,000 lines a second, with nobody at its log and with a tail that reads nothing meanwhile. The
//! floor is what the app reaches without a tail.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::super::figure::{self, Goal};
use super::super::platform::{Platform, wait};
use super::super::processes::cpu_seconds;
use super::client::{Api, Tail};
use super::{PRINTER, scale};

const RATE: u32 = 50_000;
/// Long enough for more than a log keeps and sockets hold.
const SECONDS: u32 = 20;
/// With and without the tail, alternating.
const ROUNDS: usize = 2;

/// How long the app may take to begin and to report, and how often that is looked at: reading a log costs, too.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How much of the floor must be there with the tail.
const KEPT_PART: f64 = 0.95;

/// Prints each line by itself, as a program does at a terminal, and then once a second how it went. It paces itself by the
/// clock: held up for a moment, it catches up; held up for long, it prints less.
pub(super) const PROGRAM: &str = "\
import os
import time

RATE, SECONDS, ROUND = (int(os.environ[name]) for name in ('RATE', 'SECONDS', 'ROUND'))
FILLER = b'.' * 60
begun = time.monotonic()
printed, marks = 0, [0]
while (now := time.monotonic() - begun) < SECONDS:
    while now >= len(marks):
        marks.append(printed)
    # No more than so many without a look at the clock.
    for _ in range(min(int(now * RATE) - printed, 500)):
        printed += 1
        os.write(1, b'flood %012d %s\\n' % (printed, FILLER))
    time.sleep(0.0005)
elapsed = time.monotonic() - begun
marks.append(printed)
slowest = min(after - before for before, after in zip(marks, marks[1:]))
while True:
    print('round', ROUND, printed, elapsed, slowest, flush=True)
    time.sleep(1)
";

/// What the app says of one round.
#[derive(Debug, Clone, Copy)]
struct Report {
    printed: f64,
    elapsed: f64,
    slowest_second: f64,
}

/// What a tail that slept saw of a round.
#[derive(Debug, Default)]
struct Seen {
    lines: u32,
    /// Told by `L11` and by `L10`.
    missed_by_tail: u32,
    missed_by_log: u32,
}

pub(super) fn run(platform: &Platform, api: &Api) -> Result<()> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for number in 0..2 * ROUNDS {
        let round = format!("{number}");
        let server = platform.role("server")?;
        let variables = [format!("ROUND={round}"), format!("RATE={RATE}"), format!("SECONDS={SECONDS}")];
        platform.berth(&["config:set", &variables[0], &variables[1], &variables[2], "--app", PRINTER])?;
        let tail = if number % 2 == 0 { None } else { Some(api.connect()?.tail(PRINTER)?) };
        let used = cpu_seconds(server);
        scale(platform, "flood", 1)?;
        sleep(Duration::from_secs(SECONDS.into()));
        let report = reported(platform, &round)?;
        let cpu_us = (cpu_seconds(server) - used) / report.printed * 1e6;
        figure::note(&format!("round {round}: the server's CPU for a line"), "us", cpu_us);
        match tail {
            None => without.push(report),
            Some(tail) => {
                with.push(report);
                slept(tail, &round, report)?;
            }
        }
        scale(platform, "flood", 0)?;
    }
    let goal = [Goal::PartOfFloor(KEPT_PART)];
    figure::print("lines of an app with a slow tail", "k/s", rate(&with), rate(&without), &goal);
    figure::note("in its slowest second", "k/s", slowest(&with));
    figure::note("in the slowest one without the tail", "k/s", slowest(&without));
    figure::note("what the app was made to print", "k/s", f64::from(RATE) / 1e3);
    Ok(())
}

/// Thousands of lines a second.
fn rate(reports: &[Report]) -> f64 {
    let printed: f64 = reports.iter().map(|report| report.printed).sum();
    let elapsed: f64 = reports.iter().map(|report| report.elapsed).sum();
    printed / elapsed / 1e3
}

fn slowest(reports: &[Report]) -> f64 {
    reports.iter().map(|report| report.slowest_second).fold(f64::INFINITY, f64::min) / 1e3
}

/// What the app reports of a round, from its log.
fn reported(platform: &Platform, round: &str) -> Result<Report> {
    let mark = format!("round {round} ");
    wait("the app has printed everything", PATIENCE, || {
        let log = platform.berth(&["logs", "--num", "20", "--app", PRINTER]).ok()?;
        let report = log.lines().find_map(|line| report(line.split_once(&mark)?.1));
        if report.is_none() {
            sleep(LOOK_PAUSE);
        }
        report
    })
}

fn report(text: &str) -> Option<Report> {
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok());
    Some(Report { printed: numbers.next()??, elapsed: numbers.next()??, slowest_second: numbers.next()?? })
}

/// Reads at last what a tail has: it must say what it missed.
fn slept(mut tail: Tail, round: &str, report: Report) -> Result<()> {
    let mark = format!("]: round {round} ");
    let begun = Instant::now();
    let mut seen = Seen::default();
    loop {
        let line = tail.next()?;
        if line.contains("]: flood ") {
            seen.lines += 1;
        } else if line.contains("Error L11 ") {
            seen.missed_by_tail += count(line, "dropped ")?;
        } else if line.contains("Error L10 ") {
            seen.missed_by_log += count(line, "overflow): ")?;
        } else if line.contains(&mark) {
            break;
        }
    }
    if seen.missed_by_tail == 0 {
        bail!("no L11 told the slow tail that it had missed lines: {seen:?} of {report:?}");
    }
    let part = |lines: u32| f64::from(lines) / report.printed * 100.0;
    figure::note("lines that the slow tail read at last", "%", part(seen.lines));
    figure::note("lines that its L11 told of", "%", part(seen.missed_by_tail));
    figure::note("lines that an L10 told of, as far as it read", "%", part(seen.missed_by_log));
    figure::note("the slow tail read them in", "s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// The number behind a word of a line.
fn count(line: &str, word: &str) -> Result<u32> {
    let rest = line.split_once(word).map(|(_before, rest)| rest);
    let number = rest.and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.with_context(|| format!("no number in {line:?}"))
}
