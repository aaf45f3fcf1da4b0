//! The `berth` executable. Every role is a subcommand; each runs in a process of its own.
//!
//! Roles that run inside or beside sandboxes (`shim`, `build-inside`, `static-server`) are dispatched before anything
//! else is set up: they must stay small and start fast.

mod acme;
mod arguments;
mod data_dir;
mod dns_role;
mod fronts;
mod network;
mod orphans;
mod passed_sockets;
mod platform_view;
mod replacement;
mod router_role;
mod router_settings;
mod server;
mod settings;
mod systemd_sockets;
mod tokens;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, Role};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = sandbox_role(&arguments) {
        return code;
    }
    let parsed: Arguments = match cli::parse(arguments) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let result = match parsed.role {
        Role::Up(options) => up::run(&options),
        Role::Server(options) => server::run(&options),
        Role::Router(options) => router_role::run(&options),
        Role::Dns(options) => dns_role::run(&options),
        Role::TokensReset(options) => {
            let json = parsed.global.json;
            return tokens::reset(&options, json)
                .map_or_else(|error| cli::report(&error, json), |()| ExitCode::SUCCESS);
        }
        Role::Client(cli::Command::Completions(completions)) => {
            completions.print(Arguments::command()).map_err(anyhow::Error::from)
        }
        Role::Client(command) => return cli::run(command, parsed.global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The roles that are started by the platform itself, by exact arguments.
fn sandbox_role(arguments: &[OsString]) -> Option<ExitCode> {
    let rest = arguments.get(2..).unwrap_or_default();
    match arguments.get(1)?.to_str()? {
        "shim" => {
            if let [flag, run_dir] = rest
                && flag == "--visit"
            {
                return Some(shim::visit::run(Path::new(run_dir)));
            }
            let (mode, run_dir) = match rest {
                [run_dir] => (shim::supervisor::Mode::Launch, run_dir),
                [flag, run_dir] if flag == "--recover" => (shim::supervisor::Mode::Recover, run_dir),
                _other => return None,
            };
            Some(shim::supervisor::run(Path::new(run_dir), mode))
        }
        "build-inside" => Some(builder::inside::run_inside(rest)),
        "static-server" => Some(builder::static_server::run(rest)),
        "git-pre-receive" => Some(pre_receive()),
        _other => None,
    }
}

fn pre_receive() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(api::git::hook::pre_receive()),
        Err(error) => {
            complain(&error.into());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a role says why it ends")]
fn complain(error: &anyhow::Error) {
    eprintln!(" !    {error:#}");
}
