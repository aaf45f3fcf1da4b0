//! `heroku -- …` and `heroku:env`: the real `heroku` client, led to this server and nowhere else.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, getsid, test_kill_process};

use crate::context::Context;
use crate::forwarder::Forwarder;

/// Where the client comes from if it is not installed.
const PACKAGE: &str = "heroku@11";

/// How often a forwarder in the background looks whether its session still lives.
const SESSION_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth heroku -- apps\n  berth heroku -- run bash -a shop\n\n\
        The client comes from PATH, or from npm by `npx`. It gets a key that is good for this command only:\n\
        your token stays here, whatever it connects to.")]
pub struct Heroku {
    /// What to give to the `heroku` client
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: eval \"$(berth heroku:env)\"\n\n\
        Starts a forwarder in the background that ends with this terminal's session.")]
pub struct Env {
    /// Serve in the foreground (the command starts itself so)
    #[arg(long, hide = true)]
    serve: bool,
}

pub(super) fn heroku(context: &Context, args: &Heroku) -> anyhow::Result<ExitCode> {
    // Said before anything is fetched.
    let login = context.login()?;
    let client = client()?;
    let (listener, forwarder) = Forwarder::listen(login, context.proxy().map(str::to_owned))?;
    let variables = forwarder.environment();
    thread::spawn(move || forwarder.serve(&listener));
    let status = Command::new(&client)
        .args(&args.arguments)
        .envs(variables)
        .status()
        .with_context(|| format!("cannot start the `heroku` client {}", client.display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

pub(super) fn env(context: &Context, args: &Env) -> anyhow::Result<()> {
    if args.serve {
        return serve(context);
    }
    let berth = std::env::current_exe().context("cannot find this executable")?;
    let mut background = Command::new(berth);
    background.args(["heroku:env", "--serve"]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = background.spawn().context("cannot start the forwarder")?;
    let mut output = child.stdout.take().context("the forwarder has no output")?;
    // It closes its output when everything is said, and goes on.
    io::copy(&mut output, &mut io::stdout()).context("cannot print")?;
    Ok(())
}

/// Prints the variables, then forwards until the session is over.
fn serve(context: &Context) -> anyhow::Result<()> {
    let session = getsid(None).context("cannot tell the session")?;
    let (listener, forwarder) = Forwarder::listen(context.login()?, context.proxy().map(str::to_owned))?;
    let mut text = String::new();
    for (name, value) in forwarder.environment() {
        text.push_str(&format!("export {name}='{}'\n", value.replace('\'', "'\\''")));
    }
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).context("cannot print")?;
    out.flush().context("cannot print")?;
    let null = std::fs::File::options().write(true).open("/dev/null").context("cannot let go of the output")?;
    rustix::stdio::dup2_stdout(&null).context("cannot let go of the output")?;
    thread::spawn(move || Arc::clone(&forwarder).serve(&listener));
    while is_alive(session) {
        thread::sleep(SESSION_PAUSE);
    }
    Ok(())
}

fn is_alive(session: Pid) -> bool {
    !matches!(test_kill_process(session), Err(rustix::io::Errno::SRCH))
}

/// The client itself: from PATH, or from npm, which keeps it for the next time.
fn client() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|dir| dir.join("heroku")).find(|file| file.is_file());
    installed.map_or_else(fetched, Ok)
}

/// Has `npx` fetch the client, and gives the path of its executable. It runs in the caller's own environment, which knows
/// the way to a registry: what the client gets leads here, with the authorities of this server alone.
fn fetched() -> anyhow::Result<PathBuf> {
    let output = Command::new("npx")
        .args(["--yes", "--loglevel=error", "--no-update-notifier", "--no-audit", "--no-fund", "--ignore-scripts"])
        .args(["--package", PACKAGE, "--call", "command -v heroku"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(
            "the `heroku` client is not in PATH, and neither is `npx`, which would fetch it: install the client \
             (https://devcenter.heroku.com/articles/heroku-cli) or Node.js",
        )?;
    let path = String::from_utf8(output.stdout).ok().map(|path| PathBuf::from(path.trim()));
    path.filter(|path| output.status.success() && path.is_absolute()).with_context(|| {
        format!(
            "the `heroku` client is not in PATH, and `npx` could not fetch it: try `npm install --global {PACKAGE}`"
        )
    })
}
