//! The shim alone, as the contract tests start it: `berth-shim shim [--recover|--visit] <run-dir>`.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use shim::supervisor::{self, Mode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(2).collect();
    if let [flag, run_dir] = arguments.as_slice()
        && flag == "--visit"
    {
        return shim::visit::run(Path::new(run_dir));
    }
    let mode = if arguments.iter().any(|argument| argument == "--recover") { Mode::Recover } else { Mode::Launch };
    arguments.last().map_or(ExitCode::FAILURE, |run_dir| supervisor::run(Path::new(run_dir), mode))
}
