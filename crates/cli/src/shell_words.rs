//! Words for a shell on the other side.

/// A word that a shell reads back as exactly this text.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command line for a one-off: one argument is a line for the shell, several are words that stay as they are.
pub(crate) fn command_line(arguments: &[String]) -> String {
    match arguments {
        [line] => line.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["", "plain", "two words", "it's", "$HOME", "a\nb", "`x`", "\\", "\"", "*", "~", "é", "-n", "a=b"]
        {
            let script = format!("printf %s {}", quote(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn one_argument_is_a_line_and_several_are_words() {
        let line =
            |arguments: &[&str]| command_line(&arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["echo $HOME | wc"]), "echo $HOME | wc");
        assert_eq!(line(&["bash", "-c", "echo $HOME"]), "bash -c 'echo $HOME'");
        assert_eq!(line(&["python", "manage.py", "migrate"]), "python manage.py migrate");
    }
}
