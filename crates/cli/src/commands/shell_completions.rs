//! `completions`: scripts that complete our commands in a shell.

use std::io::{self, Write as _};

use clap_complete::Shell;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example: berth completions bash > ~/.local/share/bash-completion/completions/berth")]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints the script for a program's whole command line; the binary may have more commands than this crate.
    pub fn print(&self, mut command: clap::Command) -> io::Result<()> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        io::stdout().write_all(&script)
    }
}
