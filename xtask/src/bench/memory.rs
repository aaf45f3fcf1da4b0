//! Memory: what the platform itself needs with twenty small apps, and what one more dyno costs beside its own process.
//!
//! The floor of server and router is a pair of interpreters that serve a directory; the floor of a dyno's supervision is
//! the least that can watch a process: a shell.

use std::fs;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::figure::{self, Goal};
use super::platform::{Platform, free_port, wait};
use super::processes::{self, Memory};

const APPS: usize = 20;

pub(super) fn run() -> Result<()> {
    let platform = Platform::start()?;
    let site = platform.scratch().join("site");
    fs::create_dir(&site)?;
    fs::write(site.join("index.html"), "hello")?;
    for app in (0..APPS).map(|number| format!("site-{number}")) {
        platform.berth(&["create", &app])?;
        platform.berth(&["deploy", "site", "--app", &app])?;
        platform.wait_for_page(&app, "hello", Duration::from_secs(30))?;
    }
    let [server, router] = [platform.role("server")?, platform.role("router")?].map(processes::memory);
    let shims: Vec<Memory> = processes::naming(&platform.data())
        .iter()
        .filter(|process| process.is_role("shim"))
        .map(|process| processes::memory(process.pid))
        .collect();

    let mut plain = (0..2).map(|_each| python_server(&platform)).collect::<Result<Vec<Child>>>()?;
    let floor: f64 = plain.iter().map(|child| processes::memory(child.id()).proportional).sum();
    let mut shell = waiting_shell()?;
    let shell_memory = processes::memory(shell.id());
    for child in plain.iter_mut().chain([&mut shell]) {
        child.kill()?;
        child.wait()?;
    }

    let both = server.proportional + router.proportional;
    figure::print(&format!("server + router, PSS, {APPS} apps"), "MiB", both, floor, &[Goal::AtMost(60.0)]);
    figure::note("server, PSS", "MiB", server.proportional);
    figure::note("server, private", "MiB", server.private);
    figure::note("router, PSS", "MiB", router.proportional);
    figure::note("router, private", "MiB", router.private);
    let dynos = f64::from(u32::try_from(APPS)?);
    let private = shims.iter().map(|memory| memory.private).sum::<f64>() / dynos;
    figure::print("shim + init, private, per dyno", "MiB", private, shell_memory.private, &[Goal::AtMost(0.6)]);
    figure::note("processes counted per dyno", "", f64::from(u32::try_from(shims.len())?) / dynos);
    Ok(())
}

/// A shell that runs and waits, as if for a child.
fn waiting_shell() -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", "echo; read -r _line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn()?;
    let mut ready = [0];
    shell.stdout.as_mut().context("the shell has no output")?.read_exact(&mut ready)?;
    Ok(shell)
}

/// An interpreter that serves a directory and has answered once.
fn python_server(platform: &Platform) -> Result<Child> {
    let port = free_port()?;
    let child = Command::new("python3")
        .args(["-m", "http.server", "--bind", &Ipv4Addr::LOCALHOST.to_string(), &port.to_string()])
        .current_dir(platform.scratch())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    wait("python serves", Duration::from_secs(20), || super::platform::get(port, "localhost").ok())?;
    Ok(child)
}
