//! SIGHUP: `berth up` becomes the executable that is on disk now, with the settings that are there now.
//!
//! The process stays the same one, so whoever started it goes on watching it. What follows is an ordinary start that
//! finds a server and a router at work: the new router takes over from the old one, and the server is exchanged.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::settings;

/// How this process was started.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(crate) executable: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
}

impl Replacement {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            executable: std::env::current_exe().context("cannot find the running executable")?,
            arguments: std::env::args_os().skip(1).collect(),
            directory: std::env::current_dir().context("cannot find the working directory")?,
        })
    }

    /// Whether the executable runs and the settings can be read: after [`Replacement::exec`] it would be too late.
    pub(crate) fn check(&self, data_dir: &Path) -> Result<()> {
        settings::read(data_dir)?;
        settings::of_router(data_dir)?;
        let running = || format!("cannot run {}", self.executable.display());
        let output = Command::new(&self.executable).arg("--version").stdin(Stdio::null()).output();
        let output = output.with_context(running)?;
        if !output.status.success() {
            bail!("{}: {}", running(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Returns only if it fails.
    pub(crate) fn exec(&self) -> std::io::Error {
        Command::new(&self.executable).args(&self.arguments).current_dir(&self.directory).exec()
    }
}
