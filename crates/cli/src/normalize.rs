//! Heroku's grammar: `ps:scale web=3` and `ps scale web=3` are the same command.
//!
//! Inside, a command has its colon name; the space form is joined to it where such a command exists. So
//! `config set A=b` becomes `config:set A=b`, while `run console` stays what it is.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Rewrites the space form. `command` knows all subcommands, also those that are not of this crate.
pub(crate) fn normalize(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let Some(first) = first_word(&args, command) else { return args };
    let Some(mut name) = args[first].to_str().map(str::to_owned) else { return args };
    while let Some(word) = args.get(first + 1).and_then(|word| word.to_str()) {
        let joined = format!("{name}:{word}");
        if !is_command(command, &joined) {
            break;
        }
        args.remove(first + 1);
        name = joined;
    }
    args[first] = name.into();
    args
}

fn is_command(command: &Command, name: &str) -> bool {
    command
        .get_subcommands()
        .any(|known| known.get_name() == name || known.get_all_aliases().any(|alias| alias == name))
}

/// Where the command is: the first word that is neither the program, an option, nor an option's value.
fn first_word(args: &[OsString], command: &Command) -> Option<usize> {
    let mut index = 1;
    while index < args.len() {
        let word = args[index].to_str()?;
        match word.strip_prefix('-') {
            None => return Some(index),
            Some("-") => return None,
            Some(_) if takes_next(word, command) => index += 2,
            Some(_) => index += 1,
        }
    }
    None
}

/// Whether an option's value is the word after it: `-a shop`, but not `-ashop` or `--app=shop`.
fn takes_next(word: &str, command: &Command) -> bool {
    let found = command.get_arguments().find(|argument| match word.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some_and(|short| word.len() == 2 && word.ends_with(short)),
    });
    found.is_some_and(|argument| matches!(argument.get_action(), ArgAction::Set | ArgAction::Append))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str, expect: &str) {
        let command = crate::command("berth");
        let words = args.split(' ').map(OsString::from);
        let normal: Vec<String> =
            normalize(words, &command).into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(normal.join(" "), expect);
    }

    #[test]
    fn a_space_stands_for_a_colon_where_that_makes_a_command() {
        check("berth ps:scale web=3", "berth ps:scale web=3");
        check("berth ps scale web=3", "berth ps:scale web=3");
        check("berth config set A=b", "berth config:set A=b");
        check("berth config", "berth config");
        check("berth maintenance on -a shop", "berth maintenance:on -a shop");
        check("berth apps create shop", "berth apps:create shop");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        check("berth run ps scale", "berth run ps scale");
        check("berth config -a set", "berth config -a set");
        check("berth apps shop", "berth apps shop");
        check("berth", "berth");
        check("berth --help", "berth --help");
        check("berth -- ps scale", "berth -- ps scale");
    }

    #[test]
    fn options_before_the_command_are_skipped_with_their_values() {
        check("berth -a ps scale web=1", "berth -a ps scale web=1");
        check("berth -a shop ps scale web=1", "berth -a shop ps:scale web=1");
        check("berth --app shop --json ps scale web=1", "berth --app shop --json ps:scale web=1");
        check("berth --app=shop ps scale web=1", "berth --app=shop ps:scale web=1");
        check("berth -ashop ps scale web=1", "berth -ashop ps:scale web=1");
    }
}
