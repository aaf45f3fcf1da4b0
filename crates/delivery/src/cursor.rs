//! How far a drain's receiver has got: one small file per drain.
//!
//! Written at most once a second and when the server stops. After a crash the lines of the last second come once more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::id::LogDrainId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;
use wire::state_file;

const WRITE_PERIOD: Duration = Duration::from_secs(1);

/// Where the files are.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("drains")
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// The last line that the receiver has.
    sequence: u64,
}

#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    sequence: u64,
    written: u64,
    written_at: Option<Instant>,
}

impl Cursor {
    /// Continues where the file says, or after line `first`.
    pub(crate) fn open(data_dir: &Path, drain: LogDrainId, first: u64) -> Self {
        let path = directory(data_dir).join(format!("{drain}.json"));
        let known = state_file::read::<Content>(&path).unwrap_or_else(|error| {
            warn!(%error, "cannot read how far a log drain was; it begins where it was made");
            None
        });
        let sequence = known.map_or(first, |content| content.sequence);
        Self { path, sequence, written: sequence, written_at: None }
    }

    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn advance(&mut self, sequence: u64) {
        self.sequence = sequence;
        if self.written_at.is_none_or(|at| at.elapsed() >= WRITE_PERIOD) {
            self.write();
        }
    }

    /// When what was not written yet should be.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.written == self.sequence { None } else { self.written_at.map(|at| at + WRITE_PERIOD) }
    }

    pub(crate) fn write(&mut self) {
        if self.written == self.sequence {
            return;
        }
        self.written_at = Some(Instant::now());
        // A full disk: the lines since the last write come once more after a restart.
        match state_file::write(&self.path, &Content { sequence: self.sequence }) {
            Ok(()) => self.written = self.sequence,
            Err(error) => warn!(%error, "cannot write how far a log drain is"),
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.write();
    }
}
