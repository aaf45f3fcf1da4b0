//! The command line client: Heroku's grammar over the Platform API, in plain blocking code.
//!
//! The binary flattens [`Command`] and [`Global`] into its own parser, reads its arguments with [`parse`], and
//! hands what it does not know itself to [`run`]. Nothing here depends on Linux.

mod normalize;

mod commands;

mod context;

mod api_client;
mod app_selection;
mod archive;
mod doctor;
mod dotenv;
mod follow;
mod forwarder;
mod git;
mod output;
mod progress;
mod prompt;
mod run_session;
mod server_stream;
mod server_url;
mod shell_words;
mod socks;
mod sse;
mod terminal;
mod time_text;
mod visit;
mod web_socket;

pub mod credentials;

#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Subcommand as _;

pub use crate::commands::{Command, Completions};
pub use crate::context::Global;

use crate::api_client::ApiClientError;
use crate::context::{Context, NotLoggedIn, UsageError};
use crate::normalize::normalize;
use crate::visit::Unfinished;

/// What a shell shows of a program that was ended by `SIGPIPE`.
const BROKEN_PIPE: u8 = 141;

/// This crate's commands alone, under the name of the program.
pub fn command(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name).subcommand_required(true).arg_required_else_help(true);
    Command::augment_subcommands(<Global as clap::Args>::augment_args(command))
}

/// Reads a command line in Heroku's grammar. A mistake in it is reported here, as `--json` asks for.
pub fn parse<A: clap::Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let arguments = normalize(arguments, &A::command());
    // What cannot be read cannot say how to report it: only the word itself counts.
    let json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    A::try_parse_from(arguments).map_err(|error| {
        if json && error.use_stderr() {
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            let message = message.strip_prefix("error: ").unwrap_or(message).to_owned();
            return report(&UsageError(message).into(), true);
        }
        // Whoever closed the output does not want to read it.
        drop(error.print());
        ExitCode::from(if error.use_stderr() { 2 } else { 0 })
    })
}

/// Runs a command to its end. `Err` never comes out: it is printed here, once.
pub fn run(command: Command, global: Global) -> ExitCode {
    let json = global.json;
    match Context::new(global).and_then(|context| commands::execute(command, &context)) {
        Ok(code) => code,
        Err(error) => report(&error, json),
    }
}

/// Says in one line what went wrong, and in the next what to do; with `--json` in one object on one line, the last of
/// the standard error. The one place where errors become exit codes.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) && !error.chain().any(|cause| cause.is::<ApiClientError>()) {
        // Whoever read our output has seen enough.
        return ExitCode::from(BROKEN_PIPE);
    }
    let out = output::Output { json: false, colour: false };
    let message = output::chain(error.as_ref());
    if json {
        out.note(serde_json::json!({ "id": error_id(error), "message": message, "remedy": remedy(error) }));
    } else {
        out.warn(message);
        if let Some(remedy) = remedy(error) {
            out.warn(remedy);
        }
    }
    if error.is::<UsageError>() {
        ExitCode::from(2)
    } else if error.is::<Unfinished>() {
        ExitCode::from(Unfinished::EXIT_CODE)
    } else {
        ExitCode::FAILURE
    }
}

/// What scripts can switch on: the server's own id, or what kept us from an answer of the server's.
fn error_id(error: &anyhow::Error) -> &str {
    if error.is::<UsageError>() {
        return "usage";
    }
    if error.is::<NotLoggedIn>() {
        return "not_logged_in";
    }
    if let Some(Unfinished::Cut(_)) = error.downcast_ref() {
        return "connection_broken";
    }
    let from_api = error.chain().find_map(|cause| cause.downcast_ref::<ApiClientError>());
    from_api.map_or("failed", ApiClientError::id)
}

fn remedy(error: &anyhow::Error) -> Option<String> {
    if error.is::<NotLoggedIn>() {
        return Some(
            "`berth login URL` asks for a token. On the server's machine, root gets a new one with `berth tokens:reset`."
                .to_owned(),
        );
    }
    if let Some(Unfinished::Cut(_)) = error.downcast_ref() {
        return Some(
            "What ran in the dyno was hung up: run the command again. `berth run` outlives a network that breaks."
                .to_owned(),
        );
    }
    error.chain().find_map(|cause| cause.downcast_ref::<ApiClientError>())?.remedy()
}
