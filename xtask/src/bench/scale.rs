//! Two hundred apps with two dynos each: a cold start after a power cut, and what the server costs when nothing changes.
//!
//! The floors: the same four hundred servers started by a plain loop, and a shell that wakes once a second.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::figure::{self, Goal};
use super::platform::{Platform, free_port, get, wait};
use super::processes::{self, cpu_seconds};

const APPS: usize = 200;
const DYNOS_PER_APP: usize = 2;
/// Deploys at once.
const DEPLOYERS: usize = 2;
const START_PATIENCE: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(20);

pub(super) fn run() -> Result<()> {
    let mut platform = Platform::start()?;
    let apps: Vec<String> = (0..APPS).map(|number| format!("site-{number}")).collect();
    for app in &apps {
        let site = platform.scratch().join(app);
        fs::create_dir(&site)?;
        fs::write(site.join("index.html"), "hello")?;
    }
    let started = Instant::now();
    deploy_all(&platform, &apps)?;
    all_serve(&platform, &apps)?;
    figure::note(&format!("{APPS} deploys and scalings took"), "s", started.elapsed().as_secs_f64());

    platform.pull_the_plug()?;
    let floor = plain_servers(&platform)?;
    let started = Instant::now();
    platform.up()?;
    figure::note("until the API answered", "s", started.elapsed().as_secs_f64());
    wait("every app answers", START_PATIENCE, || apps.iter().all(|app| answers(&platform, app)).then_some(()))?;
    figure::note("until every app answered", "s", started.elapsed().as_secs_f64());
    all_serve(&platform, &apps)?;
    let cold = started.elapsed().as_secs_f64();
    figure::print(
        &format!("cold start, {APPS} apps x {DYNOS_PER_APP} dynos"),
        "s",
        cold,
        floor,
        &[Goal::AtMost(120.0)],
    );

    idle(&platform)
}

fn idle(platform: &Platform) -> Result<()> {
    let (server, router) = (platform.role("server")?, platform.role("router")?);
    // What the start has left to do, logs above all.
    wait("the server is quiet", START_PATIENCE, || {
        let before = cpu_seconds(server);
        sleep(Duration::from_secs(2));
        (cpu_seconds(server) - before < 0.2).then_some(())
    })?;
    let mut ticker = Command::new("sh").args(["-c", "while :; do sleep 1; done"]).stdin(Stdio::null()).spawn()?;
    let shims: Vec<u32> = processes::naming(&platform.data())
        .iter()
        .filter(|process| process.is_role("shim"))
        .map(|process| process.pid)
        .collect();
    let used = || {
        let of_shims: f64 = shims.iter().map(|&pid| cpu_seconds(pid)).sum();
        [cpu_seconds(server), cpu_seconds(router), of_shims, cpu_seconds(ticker.id())]
    };
    let before = used();
    let started = Instant::now();
    sleep(IDLE);
    let after = used();
    let elapsed = started.elapsed().as_secs_f64();
    ticker.kill()?;
    ticker.wait()?;
    let mut percent = before;
    for (value, end) in percent.iter_mut().zip(after) {
        *value = (end - *value) / elapsed * 100.0;
    }
    let [server_percent, router_percent, shims_percent, floor] = percent;
    figure::print("server CPU when nothing changes", "%", server_percent, floor, &[Goal::AtMost(5.0)]);
    figure::note("router", "%", router_percent);
    figure::note(&format!("{} shims and inits together", shims.len()), "%", shims_percent);
    figure::note("server, PSS", "MiB", processes::memory(server).proportional);
    figure::note("router, PSS", "MiB", processes::memory(router).proportional);
    Ok(())
}

/// Through the command line, as people do, a few at once.
fn deploy_all(platform: &Platform, apps: &[String]) -> Result<()> {
    let share = apps.len().div_ceil(DEPLOYERS);
    scope(|scope| {
        let deployers: Vec<_> = apps
            .chunks(share)
            .map(|apps| {
                scope.spawn(move || -> Result<()> {
                    for app in apps {
                        platform.berth(&["create", app])?;
                        platform.berth(&["deploy", app, "--app", app])?;
                        platform.berth(&["ps:scale", "--app", app, &format!("web={DYNOS_PER_APP}")])?;
                    }
                    Ok(())
                })
            })
            .collect();
        for deployer in deployers {
            if let Ok(ended) = deployer.join() {
                ended?;
            } else {
                bail!("a deployer panicked");
            }
        }
        Ok(())
    })
}

fn answers(platform: &Platform, app: &str) -> bool {
    platform.page(app).is_ok_and(|(status, page)| status == 200 && page.contains("hello"))
}

/// Waits until every app answers and each of its dynos is up.
fn all_serve(platform: &Platform, apps: &[String]) -> Result<()> {
    for app in apps {
        wait(&format!("{app} serves with {DYNOS_PER_APP} dynos"), START_PATIENCE, || {
            let shown = platform.berth(&["ps", "--app", app]).ok()?;
            let up = shown.lines().filter(|line| line.contains(": up ")).count();
            (up == DYNOS_PER_APP && answers(platform, app)).then_some(())
        })?;
    }
    Ok(())
}

/// Seconds until as many servers, started one after the other without anything around them, all answer.
fn plain_servers(platform: &Platform) -> Result<f64> {
    let started = Instant::now();
    let site = platform.scratch().join("site-0");
    let mut servers = Vec::new();
    let ran = (0..APPS * DYNOS_PER_APP).try_for_each(|_each| {
        let port = free_port()?;
        let server = platform
            .prepared(&site, "berth", &["static-server", "."])
            .env("PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a plain server")?;
        servers.push((server, port));
        anyhow::Ok(())
    });
    let answered = ran.and_then(|()| {
        servers.iter().try_for_each(|(_server, port)| {
            wait("a plain server answers", START_PATIENCE, || get(*port, "localhost").ok()).map(|_answer| ())
        })
    });
    let took = started.elapsed().as_secs_f64();
    servers.iter_mut().try_for_each(|(server, _port): &mut (Child, u16)| {
        server.kill()?;
        server.wait().map(|_status| ())
    })?;
    answered?;
    Ok(took)
}
