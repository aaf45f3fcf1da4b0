//! Questions to the person at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use domain::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks for a line of text.
pub(crate) fn line(question: &str) -> io::Result<String> {
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks for a secret; it does not appear on the terminal. Without a terminal, the first line of the standard input.
pub(crate) fn secret(question: &str) -> io::Result<Secret<String>> {
    if !io::stdin().is_terminal() {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        return Ok(Secret::new(answer.trim().to_owned()));
    }
    let silent = NoEcho::start()?;
    let answer = line(question);
    drop(silent);
    // The person's own Return was not echoed either.
    drop(writeln!(io::stderr()));
    answer.map(Secret::new)
}

/// Holds the terminal's echo off until it is dropped.
struct NoEcho {
    before: Termios,
}

impl NoEcho {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        // Nothing better can be done than leave the terminal as it is.
        let _unrestored = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
