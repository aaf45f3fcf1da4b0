//! The Procfile: `name: command`, one process type a line.
//!
//! Lenient where real ones are untidy (CRLF, no space after the colon, comments, blank lines) and exact about what it
//! refuses, with the line number. Source: Heroku's "The Procfile" article; shapes seen in public applications.

use thiserror::Error;

use crate::name::ProcessType;

/// Largest Procfile that is read, in bytes.
pub const PROCFILE_BYTES_MAX: usize = 64 * 1024;

/// One declared process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcfileEntry {
    pub process_type: ProcessType,
    /// A shell command line, run by `sh -c` without `pipefail`.
    pub command: String,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProcfileError {
    #[error("Procfile line {line}: expected `name: command`, found {found:?}")]
    NoColon { line: usize, found: String },
    #[error("Procfile line {line}: {found:?} is not a process type (letters, digits, dashes, underscores)")]
    BadName { line: usize, found: String },
    #[error("Procfile line {line}: process type {name} has no command")]
    NoCommand { line: usize, name: String },
    #[error("Procfile line {line}: process type {name} is declared twice")]
    Twice { line: usize, name: String },
    #[error("Procfile is larger than 64 kB")]
    TooLarge,
}

/// Parses a Procfile into its entries, in the order of the file.
///
/// A `#` begins a comment at the start of a line, or after white space outside quotes when the rest of the line
/// follows it with a space (`web: run # note`), so that `curl x#y` and `'#'` keep theirs: the shell treats it the same way.
pub fn parse(text: &str) -> Result<Vec<ProcfileEntry>, ProcfileError> {
    if text.len() > PROCFILE_BYTES_MAX {
        return Err(ProcfileError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries: Vec<ProcfileEntry> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = raw.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let shown = || content.chars().take(60).collect::<String>();
        let Some((name, command)) = content.split_once(':') else {
            return Err(ProcfileError::NoColon { line, found: shown() });
        };
        let Ok(process_type) = ProcessType::parse(name.trim()) else {
            return Err(ProcfileError::BadName { line, found: name.trim().chars().take(60).collect() });
        };
        let command = without_trailing_comment(command).trim().to_owned();
        if command.is_empty() {
            return Err(ProcfileError::NoCommand { line, name: process_type.to_string() });
        }
        if entries.iter().any(|entry| entry.process_type == process_type) {
            return Err(ProcfileError::Twice { line, name: process_type.to_string() });
        }
        entries.push(ProcfileEntry { process_type, command });
    }
    Ok(entries)
}

fn without_trailing_comment(command: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    let mut after_space = true;
    for (at, c) in command.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '\'' || c == '"') {
            quote = Some(c);
        } else if quote.is_none() && c == '#' && after_space {
            return &command[..at];
        }
        after_space = c.is_whitespace();
    }
    command
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let parsed = parse(text).unwrap();
        let found: Vec<(&str, &str)> =
            parsed.iter().map(|entry| (entry.process_type.as_str(), entry.command.as_str())).collect();
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn untidy_procfiles_are_read() {
        check("web: gunicorn app\n", &[("web", "gunicorn app")]);
        check("web: a\r\nworker:b\r\n\r\n", &[("web", "a"), ("worker", "b")]);
        check("# note\n  # note\nweb: a # trailing\n", &[("web", "a")]);
        check("celery-beat_2: x\n", &[("celery-beat_2", "x")]);
        check("web: cd x && gunicorn y:app\n", &[("web", "cd x && gunicorn y:app")]);
        check(
            "release: yes \"yes\" | python manage.py migrate",
            &[("release", "yes \"yes\" | python manage.py migrate")],
        );
        check("web: echo '# kept' http://x/#y", &[("web", "echo '# kept' http://x/#y")]);
        check("\u{feff}web: a", &[("web", "a")]);
        check("", &[]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(parse("web: a\njunk\n"), Err(ProcfileError::NoColon { line: 2, found: "junk".to_owned() }));
        assert_eq!(parse("we b: a"), Err(ProcfileError::BadName { line: 1, found: "we b".to_owned() }));
        assert_eq!(parse("web:  # x"), Err(ProcfileError::NoCommand { line: 1, name: "web".to_owned() }));
        assert_eq!(parse("web: a\nweb: b"), Err(ProcfileError::Twice { line: 2, name: "web".to_owned() }));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(.|\n|\r)*") {
            let _entries = parse(&text);
        }
    }
}
