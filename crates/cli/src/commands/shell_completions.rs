//! `completions`: scripts that complete our commands in a shell.
//!
//! The library writes them for names without colons. Bash takes a colon for the end of a word, and zsh's list of
//! commands for the end of a name, so both scripts are corrected here.

use std::io::{self, Write as _};

use clap_complete::Shell;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  berth completions bash > ~/.local/share/bash-completion/completions/berth\n  \
                  berth completions zsh > ~/.zfunc/_berth      (with ~/.zfunc in fpath)")]
pub struct Completions {
    /// Whose language to write
    shell: Shell,
}

impl Completions {
    /// Prints the script for a program's whole command line; the binary may have more commands than this crate.
    pub fn print(&self, mut command: clap::Command) -> io::Result<()> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, &name, &mut script);
        let script = String::from_utf8(script).map_err(io::Error::other)?;
        let script = match self.shell {
            Shell::Bash => with_whole_words(&script, &name),
            Shell::Zsh => with_escaped_names(script, &command),
            _others_split_at_blanks_only => script,
        };
        io::stdout().write_all(script.as_bytes())
    }
}

/// Puts words together again that Readline split at colons, and cuts off what it will not replace.
fn with_whole_words(script: &str, name: &str) -> String {
    let ours = format!("_{name}_with_colons");
    let script = script.replace(&format!("complete -F _{name} "), &format!("complete -F {ours} "));
    format!(
        r#"{script}
{ours}() {{
    local line="${{COMP_LINE:0:COMP_POINT}}"
    local -a COMP_WORDS
    read -ra COMP_WORDS <<<"$line"
    [[ "$line" == *[[:blank:]] ]] && COMP_WORDS+=("")
    local COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    _{name} "$1" "$word" "${{COMP_WORDS[COMP_CWORD - 1]}}"
    if [[ "$word" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*:}}"}}"}}")
    fi
}}
"#
    )
}

/// Escapes the colons in names of commands: in `'name:help'` the first one would end the name.
fn with_escaped_names(mut script: String, command: &clap::Command) -> String {
    for known in command.get_subcommands() {
        let names = std::iter::once(known.get_name()).chain(known.get_visible_aliases());
        for name in names.filter(|name| name.contains(':')) {
            script = script.replace(&format!("\n'{name}:"), &format!("\n'{}:", name.replace(':', "\\:")));
        }
    }
    script
}
