//! What the server is doing and for how long, in one moving line under its output. Only where a person looks.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How a build announces its phases.
const PHASE: &str = "-----> ";

/// Between two drawings of the moving line.
const TICK: Duration = Duration::from_millis(100);

/// The moving line; gone when this is dropped. Does nothing where the standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    spinner: ProgressBar,
}

impl Progress {
    pub(crate) fn start(phase: &str) -> Self {
        // Hides itself where nobody would see it.
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            spinner.set_style(style);
        }
        spinner.set_message(phase.to_owned());
        if !spinner.is_hidden() {
            spinner.enable_steady_tick(TICK);
        }
        Self { spinner }
    }

    pub(crate) fn phase(&self, phase: &str) {
        self.spinner.set_message(phase.to_owned());
    }

    /// Lets something be written where the moving line is.
    pub(crate) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        self.spinner.suspend(write)
    }

    /// A writer whose lines go above the moving line, and whose last phase stands in it.
    pub(crate) const fn output<W: Write>(&self, out: W) -> Output<'_, W> {
        Output { progress: self, out, line: Vec::new() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

#[derive(Debug)]
pub(crate) struct Output<'a, W: Write> {
    progress: &'a Progress,
    out: W,
    /// The begin of a line whose end has not come yet. The moving line would be drawn into it, so it waits.
    line: Vec<u8>,
}

impl<W: Write> Write for Output<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.progress.spinner.is_hidden() {
            return self.out.write(bytes);
        }
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') else { return Ok(bytes.len()) };
        let whole: Vec<u8> = self.line.drain(..=end).collect();
        self.progress.above(|| self.out.write_all(&whole).and_then(|()| self.out.flush()))?;
        if let Some(phase) = last_phase(&whole) {
            self.progress.phase(&phase);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Drop for Output<'_, W> {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.line);
        if !rest.is_empty() {
            // Nobody can be told any more; the writes before it would have failed in the same way.
            drop(self.progress.above(|| writeln!(self.out, "{}", String::from_utf8_lossy(&rest))));
        }
    }
}

fn last_phase(lines: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(lines);
    text.lines().rev().find_map(|line| line.strip_prefix(PHASE)).map(|phase| phase.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_phase_counts() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(last_phase(text.as_bytes()).as_deref(), expect);
        check("-----> Python\n       Installing\n-----> Packing\n       12 MiB\n", Some("Packing"));
        check("       a line with -----> in it\n", None);
        check("", None);
    }
}
