//! `heroku run echo` beside `heroku apps:info`: what is left is the one-off, from the request to its last byte.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::super::figure::{self, Goal};
use super::super::platform::Platform;
use super::PRINTER;
use super::client::Api;
use super::requests::at;
use crate::root;

/// Of each, alternating.
const ROUNDS: usize = 12;

pub(super) fn run(platform: &Platform, _api: &Api) -> Result<()> {
    let client = Client::find(platform)?;
    let (mut info, mut run) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        let greeting = format!("greeting-{number}");
        let infos = client.timed(&["apps:info", "-a", PRINTER], PRINTER)?;
        let runs = client.timed(&["run", "-a", PRINTER, "--", "echo", &greeting], &greeting)?;
        // The first one fills caches.
        if number > 0 {
            info.push(infos);
            run.push(runs);
        }
    }
    info.sort_by(f64::total_cmp);
    run.sort_by(f64::total_cmp);
    let (info, run) = (at(&info, 50), at(&run, 50));
    figure::print("heroku run echo beyond heroku apps:info", "s", run - info, 0.0, &[Goal::AtMost(0.5)]);
    figure::note("heroku run echo, median", "s", run);
    figure::note("heroku apps:info, median", "s", info);
    Ok(())
}

/// The real client, led to the platform by `berth heroku`.
#[derive(Debug)]
pub(super) struct Client<'a> {
    platform: &'a Platform,
    /// What `PATH` is for it.
    path: String,
    home: PathBuf,
}

impl<'a> Client<'a> {
    /// The same installation that the tests use.
    pub(super) fn find(platform: &'a Platform) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let mut script = Command::new(root().join("scripts/heroku-client"));
        let output =
            script.arg(root().join(target).join("tmp")).output().context("cannot run scripts/heroku-client")?;
        if !output.status.success() {
            bail!("cannot install the heroku client:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let executable = String::from_utf8(output.stdout)?;
        let directory = Path::new(executable.trim()).parent().context("no directory of the heroku client")?;
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
        let home = platform.scratch().join("home");
        std::fs::create_dir_all(&home)?;
        Ok(Self { platform, path, home })
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.platform.prepared(&self.home, "berth", &[&["heroku", "--"], arguments].concat());
        command.env("PATH", &self.path).env("HOME", &self.home).env("TERM", "dumb");
        // The client writes to the file that this names, by putting another one in its place: even in that of `/dev/null`.
        command.env("GIT_CONFIG_GLOBAL", self.home.join(".gitconfig"));
        command
    }

    /// Seconds that a command took, which must succeed and print this.
    fn timed(&self, arguments: &[&str], expected: &str) -> Result<f64> {
        let begun = Instant::now();
        let output = self.command(arguments).output()?;
        let took = begun.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !text.contains(expected) {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("heroku {}: {}\n{text}{errors}", arguments.join(" "), output.status);
        }
        Ok(took)
    }
}
