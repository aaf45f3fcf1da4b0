//! `--help` is what most people read first, and often alone.

#[test]
fn every_command_has_an_example_and_every_argument_a_text() {
    let command = cli::command("berth");
    let mut missing = Vec::new();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        if !command.get_after_help().is_some_and(|text| text.to_string().contains(&format!("berth {name}"))) {
            missing.push(format!("{name}: an example"));
        }
        if command.get_about().is_none() {
            missing.push(format!("{name}: what it does"));
        }
        let silent = command.get_arguments().filter(|argument| argument.get_help().is_none());
        missing.extend(silent.map(|argument| format!("{name}: {}", argument.get_id())));
    }
    assert_eq!(missing, Vec::<String>::new());
}
