//! `.env` files: `KEY=value` lines with comments, `export`, quotes and escapes.
//!
//! Values are taken as they are: nothing is expanded, because a `$` in a password must stay one.

use std::collections::BTreeMap;

use domain::name::ConfigKey;
use thiserror::Error;

/// Never holds a value: these messages end in terminals and logs.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum DotenvError {
    #[error("line {0}: expected KEY=value")]
    NoAssignment(usize),
    #[error("line {line}: {key:?} is not a name for a config var; use letters, digits and _, not a digit first")]
    Key { line: usize, key: String },
    #[error("line {0}: the quoted value does not end")]
    Unterminated(usize),
    #[error("line {0}: there is text after the closing quote; put the whole value in quotes")]
    AfterQuote(usize),
}

/// Reads a whole file. The last assignment of a key counts, as in a shell.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut vars = BTreeMap::new();
    let mut rest = text.as_str();
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = first.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            line += 1;
            continue;
        }
        let (key, _value) = first.split_once('=').ok_or(DotenvError::NoAssignment(line))?;
        let value = rest[key.len() + 1..].trim_start_matches([' ', '\t']);
        let key = key_of(key, line)?;
        let (value, remaining) = read_value(value, line)?;
        line += rest[..rest.len() - remaining.len()].matches('\n').count();
        rest = remaining;
        vars.insert(key, value);
    }
    Ok(vars)
}

fn key_of(text: &str, line: usize) -> Result<String, DotenvError> {
    let text = text.trim();
    let key = match text.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        Some(_) | None => text,
    };
    ConfigKey::parse(key).map_err(|_invalid| DotenvError::Key { line, key: key.to_owned() })?;
    Ok(key.to_owned())
}

/// The value at the start of `text`, and what follows its line.
fn read_value(text: &str, line: usize) -> Result<(String, &str), DotenvError> {
    if !text.starts_with(['\'', '"']) {
        let (value, rest) = text.split_once('\n').unwrap_or((text, ""));
        return Ok((without_comment(value).trim_end().to_owned(), rest));
    }
    // Quoted parts stand side by side as in a shell, which writes a quote within quotes as `'it'\''s'`.
    let unterminated = || DotenvError::Unterminated(line);
    let (mut value, mut rest) = (String::new(), text);
    loop {
        let mut chars = rest.chars();
        rest = match chars.next() {
            Some('\'') => {
                let (part, after) = chars.as_str().split_once('\'').ok_or_else(unterminated)?;
                value.push_str(part);
                after
            }
            Some('"') => {
                let (part, after) = double_quoted(chars.as_str()).ok_or_else(unterminated)?;
                value.push_str(&part);
                after
            }
            Some('\\') => {
                value.extend(chars.next().filter(|&escaped| escaped != '\n'));
                chars.as_str()
            }
            Some(_) | None => return Ok((value, after_quote(rest, line)?)),
        };
    }
}

/// A `#` begins a comment only after a blank: URLs and colours contain it.
fn without_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let comment = value.find(" #").into_iter().chain(value.find("\t#")).min();
    comment.map_or(value, |at| &value[..at])
}

fn double_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                '\n' => {}
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

fn after_quote(rest: &str, line: usize) -> Result<&str, DotenvError> {
    let (tail, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let tail = tail.trim();
    if tail.is_empty() || tail.starts_with('#') { Ok(rest) } else { Err(DotenvError::AfterQuote(line)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str)]) {
        let expect = expect.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parse(text), Ok(expect), "{text:?}");
    }

    #[test]
    fn plain_lines_comments_and_export() {
        check("", &[]);
        check("# nothing\n\n  \n", &[]);
        check("A=1\nexport B=2\r\n  C = 3  \nexport_D=4", &[("A", "1"), ("B", "2"), ("C", "3"), ("export_D", "4")]);
        check("A=\nB= # empty\nC=#empty", &[("A", ""), ("B", ""), ("C", "")]);
        check("A=x # comment\nB=http://h/#x\nC=a=b", &[("A", "x"), ("B", "http://h/#x"), ("C", "a=b")]);
        check("A=1\nA=2", &[("A", "2")]);
        check("\u{feff}A=1", &[("A", "1")]);
    }

    #[test]
    fn quotes_keep_blanks_and_double_ones_know_escapes() {
        check("A=' x # y '", &[("A", " x # y ")]);
        check(r#"A='a\n"$b'"#, &[("A", r#"a\n"$b"#)]);
        check(r#"A="a\n\"b\" \\ $c \d" # note"#, &[("A", "a\n\"b\" \\ $c \\d")]);
        check("KEY=\"-----BEGIN\nabc\n-----END\"\nB=1", &[("KEY", "-----BEGIN\nabc\n-----END"), ("B", "1")]);
        check("KEY='one\ntwo'\nB=1", &[("KEY", "one\ntwo"), ("B", "1")]);
        check("A='it'\\''s'\"!\"  # note\nB=1", &[("A", "it's!"), ("B", "1")]);
    }

    #[test]
    fn mistakes_are_named_by_line_and_never_show_a_value() {
        assert_eq!(parse("A=1\nnonsense"), Err(DotenvError::NoAssignment(2)));
        assert_eq!(parse("A='1\n2'\n1B=hunter2"), Err(DotenvError::Key { line: 3, key: "1B".to_owned() }));
        assert_eq!(parse("\nA=\"hunter2"), Err(DotenvError::Unterminated(2)));
        assert_eq!(parse("A='x"), Err(DotenvError::Unterminated(1)));
        assert_eq!(parse("A='x' hunter2"), Err(DotenvError::AfterQuote(1)));
    }
}
