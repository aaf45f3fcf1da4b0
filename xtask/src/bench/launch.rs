//! Launching one process in its sandbox, beside bare `exec`: the shim's own example measures it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::root;

pub(super) fn run() -> Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--release", "--locked", "--quiet", "--package", "shim", "--example", "bench_launch"])
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("bench_launch ended with {status}");
    }
    Ok(())
}
