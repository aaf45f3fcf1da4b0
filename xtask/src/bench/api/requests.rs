//! Requests beside many apps, while many logs are followed. The floor is a request that reads nothing of an app.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::super::figure::{self, Goal};
use super::super::platform::Platform;
use super::super::processes::cpu_seconds;
use super::client::{Api, Connection};
use super::{PRINTER, scale};

const APPS: usize = 500;
/// With the first one that every app is born with.
const RELEASES_PER_APP: usize = 10;
/// Half of them follow an app that prints, the others one app each whose releases change.
const TAILS: usize = 50;
const REQUESTS: usize = 2000;

/// Between two changes of apps that are followed.
const CHANGE_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn run(platform: &Platform, api: &Api) -> Result<()> {
    let mut connection = api.connect()?;
    make_apps(&mut connection)?;
    scale(platform, "clock", 1)?;

    let stop = Arc::new(AtomicBool::new(false));
    let (mut followers, mut connections) = (Vec::new(), Vec::new());
    for number in 0..TAILS {
        let app = if number % 2 == 0 { PRINTER.to_owned() } else { format!("app-{number}") };
        let mut tail = api.connect()?.tail(&app)?;
        connections.push(tail.connection()?);
        followers.push(spawn(move || {
            let mut lines = 0_u32;
            while tail.next().is_ok() {
                lines += 1;
            }
            lines
        }));
    }
    let changes = spawn({
        let (connection, stop) = (api.connect()?, Arc::clone(&stop));
        move || change(connection, &stop)
    });

    let server = platform.role("server")?;
    let (begun, used) = (Instant::now(), cpu_seconds(server));
    let floor = times(&mut connection, |_request| "/regions".to_owned())?;
    for (name, rest) in [("ps", "dynos"), ("config", "config-vars"), ("releases", "releases")] {
        let measured = times(&mut connection, |request| match request % 10 {
            // One that has dynos.
            0 => format!("/apps/{PRINTER}/{rest}"),
            _ => format!("/apps/app-{}/{rest}", request * 7 % APPS),
        })?;
        let goal = [Goal::AtMost(5.0)];
        figure::print(&format!("{name}, {TAILS} tails, p99"), "ms", at(&measured, 99), at(&floor, 99), &goal);
        figure::note("its median", "ms", at(&measured, 50));
    }
    let seconds = begun.elapsed().as_secs_f64();
    figure::note("the server's CPU meanwhile", "%", (cpu_seconds(server) - used) / seconds * 100.0);

    stop.store(true, Ordering::Relaxed);
    let panicked = |_panic| anyhow::anyhow!("a thread panicked");
    changes.join().map_err(panicked)??;
    connections.iter().try_for_each(|connection| connection.shutdown(Shutdown::Both))?;
    let lines = followers.into_iter().map(|follower| follower.join().map_err(panicked)).collect::<Result<Vec<_>>>()?;
    scale(platform, "clock", 0)?;
    if lines.contains(&0) {
        bail!("not every tail was fed: {lines:?}");
    }
    figure::note("lines to the tails meanwhile", "/s", f64::from(lines.iter().sum::<u32>()) / seconds);
    Ok(())
}

fn make_apps(connection: &mut Connection) -> Result<()> {
    let begun = Instant::now();
    for app in 0..APPS {
        connection.ask("POST", "/apps", &format!("{{\"name\": \"app-{app}\"}}"))?;
        for release in 1..RELEASES_PER_APP {
            let path = format!("/apps/app-{app}/config-vars");
            connection.ask("PATCH", &path, &format!("{{\"VAR_{release}\": \"value {release}\"}}"))?;
        }
    }
    let total = APPS * RELEASES_PER_APP;
    figure::note(&format!("{APPS} apps, {total} releases were made in"), "s", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Releases of the apps that are followed, one after the other.
fn change(mut connection: Connection, stop: &AtomicBool) -> Result<()> {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let path = format!("/apps/app-{}/config-vars", number % TAILS);
        connection.ask("PATCH", &path, &format!("{{\"CHANGED\": \"{number}\"}}"))?;
        sleep(CHANGE_PAUSE);
    }
    Ok(())
}

/// Milliseconds of requests one after the other, sorted.
fn times(connection: &mut Connection, path: impl Fn(usize) -> String) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(REQUESTS);
    for request in 0..REQUESTS {
        let path = path(request);
        let begun = Instant::now();
        connection.ask("GET", &path, "")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

pub(super) fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
