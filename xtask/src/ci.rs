//! What every change must pass, step by step, each with its time.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::root;

pub(crate) fn run() -> Result<()> {
    step("format", "cargo", &["fmt", "--all", "--check"])?;
    step("lints", "cargo", &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
    step("build", "cargo", &["build", "--workspace", "--all-targets", "--locked", "--quiet"])?;
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output();
    if nextest.is_ok_and(|output| output.status.success()) {
        step("tests", "cargo", &["nextest", "run", "--workspace", "--locked", "--profile", "ci", "--no-fail-fast"])?;
    } else {
        step("tests", "cargo", &["test", "--workspace", "--locked", "--quiet", "--no-fail-fast"])?;
    }
    step("docs", "cargo", &["doc", "--workspace", "--no-deps", "--locked", "--quiet"])?;
    check_client_on_macos()?;
    println!("ci: everything passed");
    Ok(())
}

/// The client must build where people develop. Its dependencies in C need Apple's headers, named by `SDKROOT`.
fn check_client_on_macos() -> Result<()> {
    const TARGET: &str = "x86_64-apple-darwin";
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let asked = asked.context("cannot run rustc")?;
    let has_std = Path::new(String::from_utf8_lossy(&asked.stdout).trim()).is_dir();
    if !has_std || (!cfg!(target_os = "macos") && std::env::var_os("SDKROOT").is_none()) {
        println!("ci: client on macOS: not checked by the compiler: {TARGET} or its SDK is not installed");
        return Ok(());
    }
    step("client on macOS", "cargo", &["check", "--package", "cli", "--target", TARGET, "--locked", "--quiet"])
}

fn step(name: &str, program: &str, arguments: &[&str]) -> Result<()> {
    println!("ci: {name}: {program} {}", arguments.join(" "));
    let started = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .env("INSTA_UPDATE", "no")
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    println!("ci: {name}: {:.0} s", started.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{name} failed");
    }
    Ok(())
}
