//! The command line client: Heroku's grammar over the Platform API, in plain blocking code.
//!
//! The binary flattens [`Command`] and [`Global`] into its own parser, passes its arguments through [`normalize()`], and
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
mod git;
mod output;
mod prompt;
mod server_url;
mod shell_words;
mod sse;
mod time_text;

pub mod credentials;

#[cfg(test)]
mod testing;

use std::io;
use std::process::ExitCode;

use clap::Subcommand as _;

pub use crate::commands::{Command, Completions};
pub use crate::context::Global;
pub use crate::normalize::normalize;

use crate::api_client::ApiClientError;
use crate::context::{Context, NotLoggedIn, UsageError};

/// What a shell shows of a program that was ended by `SIGPIPE`.
const BROKEN_PIPE: u8 = 141;

/// This crate's commands alone, under the name of the program.
pub fn command(name: &'static str) -> clap::Command {
    let command = clap::Command::new(name).subcommand_required(true).arg_required_else_help(true);
    Command::augment_subcommands(<Global as clap::Args>::augment_args(command))
}

/// Runs a command to its end. `Err` never comes out: it is printed here, once.
pub fn run(command: Command, global: Global) -> ExitCode {
    match Context::new(global).and_then(|context| commands::execute(command, &context)) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// Says in one line what went wrong, and in the next what to do. The one place where errors become exit codes.
fn report(error: &anyhow::Error) -> ExitCode {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) && !error.chain().any(|cause| cause.is::<ApiClientError>()) {
        // Whoever read our output has seen enough.
        return ExitCode::from(BROKEN_PIPE);
    }
    let out = output::Output { json: false, colour: false };
    out.warn(output::chain(error.as_ref()));
    if let Some(remedy) = remedy(error) {
        out.warn(remedy);
    }
    if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn remedy(error: &anyhow::Error) -> Option<String> {
    if error.is::<NotLoggedIn>() {
        return Some(
            "`berth login URL` asks for a token. On the server's machine, root gets a new one with `berth tokens:reset`."
                .to_owned(),
        );
    }
    error.chain().find_map(|cause| cause.downcast_ref::<ApiClientError>())?.remedy()
}
