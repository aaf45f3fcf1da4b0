//! The client alone, for machines that run no server: the commands of [`cli`] without the server's own.

use std::env;
use std::process::ExitCode;

use clap::Parser;

/// Deploys and operates apps on a Berth server.
#[derive(Debug, Parser)]
#[command(name = "berth", bin_name = "berth", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    global: cli::Global,
    #[command(subcommand)]
    command: cli::Command,
}

fn main() -> ExitCode {
    let arguments =
        Arguments::parse_from(cli::normalize(env::args_os(), &<Arguments as clap::CommandFactory>::command()));
    cli::run(arguments.command, arguments.global)
}
