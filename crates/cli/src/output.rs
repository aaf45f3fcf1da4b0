//! What a person or a script sees: tables, JSON, colours, errors. The only place that writes to the terminal.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Magenta => "35",
            Self::Cyan => "36",
        }
    }
}

/// How to write in this run of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { json, colour: !json && !refused && !dumb && io::stdout().is_terminal() }
    }

    pub(crate) fn paint(&self, colour: Colour, text: impl Display) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", colour.code()) } else { text.to_string() }
    }

    /// Writes a line that is the command's result.
    pub(crate) fn line(&self, text: impl Display) -> io::Result<()> {
        writeln!(io::stdout(), "{text}")
    }

    /// Writes text that brings its own line ends.
    pub(crate) fn text(&self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "{text}")?;
        out.flush()
    }

    /// Says what is going on, beside the result.
    pub(crate) fn note(&self, text: impl Display) {
        // Whoever closed stderr does not want to know.
        drop(writeln!(io::stderr(), "{text}"));
    }

    /// Says what needs attention, beside the result.
    pub(crate) fn warn(&self, text: impl Display) {
        self.note(format_args!(" !    {text}"));
    }

    /// Writes a resource as the API gave it, for `--json`.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        writeln!(io::stdout(), "{text}")
    }
}

/// Columns, each as wide as its widest cell; the last one runs free. Nothing trails a line.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let mut widths = vec![0; head.len()];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows).filter(|row| row.iter().any(|cell| !cell.is_empty())) {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `key: value` lines with the values in one column.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<(&str, String)> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(key, _value)| key.chars().count()).max().unwrap_or(0) + 1;
    pairs.iter().map(|(key, value)| format!("{} {value}\n", format_args!("{:width$}", format!("{key}:")))).collect()
}

/// `1.5 MiB`, for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths, in whole numbers: exact where floats would round twice.
    let mut tenths = count * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// An error with its causes, joined by colons, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string().trim_end().to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.ends_with(cause_text.trim_end()) {
            text.push_str(": ");
            text.push_str(cause_text.trim_end());
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn columns_align_and_nothing_trails() {
        let text = table(&["NAME", "STATE", ""], &[row(&["web.1", "up", "x"]), row(&["größer.12", "starting", ""])]);
        insta::assert_snapshot!(text, @r"
        NAME       STATE
        web.1      up        x
        größer.12  starting
        ");
        assert!(text.lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn pairs_align_their_values() {
        assert_eq!(pairs([("A", "1".to_owned()), ("LONG", "2".to_owned())]), "A:    1\nLONG: 2\n");
        assert_eq!(pairs([]), "");
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (count, expect) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(count), expect);
        }
    }
}
