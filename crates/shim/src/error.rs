//! One error for everything that can go wrong while a sandbox is set up: what we were doing, and why it failed.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("cannot {doing}")]
    System {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Refused(String),
}

/// Names what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|source| SetupError::System { doing: what(), source: source.into() })
    }
}

/// The error and its sources in one line: `cannot mount /usr: permission denied`.
pub(crate) fn display_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        write!(text, ": {cause}").ok();
        source = cause.source();
    }
    text
}
