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
    match cli::parse::<Arguments>(env::args_os()) {
        Ok(arguments) => cli::run(arguments.command, arguments.global),
        Err(code) => code,
    }
}
