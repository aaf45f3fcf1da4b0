//! `run`: a one-off dyno, its output here, its exit code ours.
//!
//! On a terminal, or with `--stdin`, we are attached to it: what is typed goes there. Otherwise the server keeps its
//! output and we read along, so that nothing that happens to us or to the server touches it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use wire::platform_api::berth::{Run as Started, RunCreate, RunResult};
use wire::platform_api::{Dyno, DynoCreate};
use wire::shim::Terminal;

use super::config;
use crate::api_client::{ApiClient, path};
use crate::context::Context;
use crate::follow;
use crate::run_session;
use crate::shell_words;
use crate::terminal;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth run python manage.py migrate\n  berth run 'echo $DATABASE_URL | cut -c1-8'\n  \
                  berth run --release v43 -- bin/check\n\n\
                  One argument is a line for the shell; several are words that reach the program as they are.\n\
                  The exit code is the process's own.\n\
                  On a terminal, the process has one, too, and gets what you type; it is hung up when you leave. A\n\
                  network that is cut is waited for, up to five minutes: nothing is lost.\n\
                  Elsewhere there is no input without --stdin. Ctrl-C stops the process; a second one leaves it to\n\
                  itself.\n\n  \
                  berth run --stdin 'psql $DATABASE_URL' < fixes.sql"
)]
pub struct Run {
    /// Run this release's code and config; the one that serves if absent
    #[arg(long, value_name = "VERSION")]
    release: Option<String>,
    /// The size of the dyno
    #[arg(short, long)]
    size: Option<String>,
    /// Set a variable for this run only; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Send the standard input to the process, and give it no terminal
    #[arg(long)]
    stdin: bool,
    /// Give the process no terminal
    #[arg(long)]
    no_tty: bool,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(context: &Context, args: &Run) -> anyhow::Result<ExitCode> {
    let (client, app) = context.app()?;
    let client = Arc::new(client);
    let command = shell_words::command_line(&args.command);
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let terminal = is_terminal && !args.stdin && !args.no_tty && !context.out.json;
    let attached = terminal || args.stdin;
    let mut env = config::environment(&args.env)?;
    if terminal {
        terminal_variables(&mut env);
    }
    let dyno = DynoCreate {
        attach: attached.then_some(true),
        command: command.clone(),
        env,
        force_no_tty: attached.then_some(!terminal),
        size: args.size.clone(),
        ..DynoCreate::default()
    };
    let body = RunCreate { dyno, release: args.release.clone() };
    let started: Started = client.post(&path(&["berth", "apps", &app, "runs"]), &body)?;
    let Dyno { id, name, release, .. } = started.dyno;
    context.out.note(format_args!("Running `{command}` in {name} of {app}, v{}", release.version));
    if attached {
        let session = path(&["berth", "apps", &app, "runs", &id.to_string(), "session"]);
        let exited = run_session::serve(&context.login()?, context.out, &session, terminal)?;
        let result = RunResult {
            id,
            name: name.clone(),
            state: "exited".to_owned(),
            exit_status: exited.status,
            exit_reason: Some(exited.reason),
        };
        return conclude(context, &name, &result);
    }
    let stopper = Stopper::start(context, &client, &app, &name)?;
    let copied = if context.out.json {
        follow::copy_output(&client, &started.output_stream_url, &mut io::stderr())
    } else {
        follow::copy_output(&client, &started.output_stream_url, &mut io::stdout())
    };
    match copied? {
        Err(error) if !follow::is_only_output(&error) => return Err(error.into()),
        Err(_lost) => context.out.warn("The rest of the output could not be read; the process goes on."),
        Ok(()) => {}
    }
    let url = path(&["berth", "apps", &app, "runs", &id.to_string()]);
    let result = follow::until_some(|| {
        let result: RunResult = client.get(&url)?;
        Ok((result.state == "exited").then_some(result))
    })?;
    drop(stopper);
    conclude(context, &name, &result)
}

fn conclude(context: &Context, name: &str, result: &RunResult) -> anyhow::Result<ExitCode> {
    if context.out.json {
        context.out.json(result)?;
    }
    if let Some(reason) = unusual_end(result) {
        context.out.warn(format_args!("{name} {reason}."));
    }
    Ok(exit_code(result))
}

/// What a program asks about its terminal. The user's own words win.
fn terminal_variables(env: &mut BTreeMap<String, serde_json::Value>) {
    let size = terminal::size().unwrap_or(Terminal { rows: 24, columns: 80 });
    let variables =
        [("LINES", size.rows.to_string()), ("COLUMNS", size.columns.to_string()), ("TERM", terminal::kind())];
    for (name, value) in variables {
        env.entry(name.to_owned()).or_insert_with(|| value.into());
    }
}

/// What a bare exit code would not say.
fn unusual_end(result: &RunResult) -> Option<String> {
    match result.exit_reason.as_deref() {
        Some("exited") => None,
        Some("out_of_memory") => {
            Some("was killed because it used more memory than its size has; try --size".to_owned())
        }
        Some("signalled") => Some(match result.exit_status {
            Some(status) => format!("was ended by a signal (status {status})"),
            None => "was ended by a signal".to_owned(),
        }),
        Some("stopped") => Some("was stopped".to_owned()),
        Some("unknown") | None => Some("ended, but nobody saw how; do not count it as done".to_owned()),
        Some(other) => Some(format!("ended: {}", other.replace('_', " "))),
    }
}

/// The process's own code; never success where the end is not known or was not its own.
fn exit_code(result: &RunResult) -> ExitCode {
    match result.exit_status {
        Some(0) if result.exit_reason.as_deref() == Some("exited") => ExitCode::SUCCESS,
        Some(status) => u8::try_from(status).ok().filter(|&code| code != 0).map_or(ExitCode::FAILURE, ExitCode::from),
        None => ExitCode::FAILURE,
    }
}

/// Turns Ctrl-C into a stop of the one-off. The second Ctrl-C has its usual effect on us.
struct Stopper {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Stopper {
    fn start(context: &Context, client: &Arc<ApiClient>, app: &str, dyno: &str) -> anyhow::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stopping))
                .context("cannot watch for Ctrl-C")?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for Ctrl-C")?;
        let handle = signals.handle();
        let (out, client, name) = (context.out, Arc::clone(client), dyno.to_owned());
        let url = path(&["apps", app, "dynos", dyno, "actions", "stop"]);
        let thread = thread::spawn(move || {
            if signals.forever().next().is_none() {
                return;
            }
            stopping.store(true, Ordering::SeqCst);
            out.note(format_args!("Stopping {name}; once more leaves it running."));
            if let Err(error) = client.post::<serde_json::Value>(&url, &serde_json::json!({})) {
                out.warn(format_args!("{name} could not be stopped: {}.", crate::output::chain(&error)));
            }
        });
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It has reported its own failures.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: Option<i32>, reason: Option<&str>) -> RunResult {
        RunResult {
            id: uuid::Uuid::nil(),
            name: "run.1".to_owned(),
            state: "exited".to_owned(),
            exit_status: status,
            exit_reason: reason.map(str::to_owned),
        }
    }

    fn check(status: Option<i32>, reason: Option<&str>, expect: ExitCode) {
        // `ExitCode` has no equality; its debug form is the number.
        assert_eq!(format!("{:?}", exit_code(&result(status, reason))), format!("{expect:?}"), "{status:?} {reason:?}");
    }

    #[test]
    fn the_exit_code_is_the_processs_own_and_never_a_wrong_success() {
        check(Some(0), Some("exited"), ExitCode::SUCCESS);
        check(Some(3), Some("exited"), ExitCode::from(3));
        check(Some(137), Some("out_of_memory"), ExitCode::from(137));
        check(Some(0), Some("unknown"), ExitCode::FAILURE);
        check(Some(0), None, ExitCode::FAILURE);
        check(None, Some("exited"), ExitCode::FAILURE);
        check(Some(256), Some("exited"), ExitCode::FAILURE);
        check(Some(-1), Some("exited"), ExitCode::FAILURE);
    }

    #[test]
    fn an_end_that_a_code_does_not_explain_is_explained() {
        assert_eq!(unusual_end(&result(Some(1), Some("exited"))), None);
        assert!(unusual_end(&result(Some(137), Some("out_of_memory"))).unwrap().contains("memory"));
        assert!(unusual_end(&result(None, None)).unwrap().contains("nobody saw"));
        assert_eq!(unusual_end(&result(None, Some("time_limit"))).unwrap(), "ended: time limit");
    }
}
