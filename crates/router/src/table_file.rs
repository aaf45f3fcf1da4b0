//! The route table on disk: a base file and a log of the updates since, in `router/` of the data directory.
//!
//! One log record is eight bytes of SHA-256, then the update as a frame (length, JSON). A record that is cut short or
//! damaged ends the log: what is before it counts, what is after it is cut off, and the server, which sees the older
//! generation, sends the whole table. A base file that cannot be read means an empty table.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tracing::warn;
use wire::frame::{self, FrameError};
use wire::routes::{RouteTable, ToRouter};
use wire::state_file::{self, StateFileError};

use crate::table::{Change, Table};

/// The log is folded into the base file when it has grown beyond this.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CHECKSUM_BYTES: usize = 8;
const LENGTH_BYTES: usize = 4;

#[derive(Debug, Error)]
pub enum TableFileError {
    #[error("cannot prepare the router's directory {path}")]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot append to the route table's log {path}")]
    Append {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot encode a route table update")]
    Encode(#[source] FrameError),
    #[error("cannot write the route table")]
    Base(#[source] StateFileError),
}

#[derive(Debug)]
pub(crate) struct TableFile {
    base: PathBuf,
    log_path: PathBuf,
    log: File,
    log_bytes: u64,
}

impl TableFile {
    /// Opens the files in `dir`, making them if needed, and puts what they hold in force in `table`.
    pub(crate) fn open(dir: &Path, table: &Table) -> Result<Self, TableFileError> {
        let base = dir.join("table.json");
        let log_path = dir.join("table.log");
        match state_file::read::<RouteTable>(&base) {
            Ok(Some(stored)) => drop(table.replace(stored)),
            Ok(None) => {}
            Err(error) => warn!(%error, "The stored route table is unreadable; starting with an empty one"),
        }
        let open = || {
            fs::create_dir_all(dir)?;
            let bytes = match fs::read(&log_path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                other => other?,
            };
            let log_bytes = replay(&bytes, table) as u64;
            if log_bytes < bytes.len() as u64 {
                warn!(
                    kept_bytes = log_bytes,
                    cut_bytes = bytes.len() as u64 - log_bytes,
                    "The route table's log ends damaged; continuing with what is before the damage"
                );
            }
            let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&log_path)?;
            log.set_len(log_bytes)?;
            Ok((log, log_bytes))
        };
        let (log, log_bytes) = open().map_err(|source| TableFileError::Prepare { path: dir.to_owned(), source })?;
        Ok(Self { base, log_path, log, log_bytes })
    }

    /// Appends an update that is about to be applied.
    ///
    /// Not synced: a killed router loses nothing, and after a power cut the server sends what is missing.
    pub(crate) fn append(&mut self, update: &ToRouter) -> Result<(), TableFileError> {
        let frame = frame::encode(update).map_err(TableFileError::Encode)?;
        let mut record = checksum(&frame).to_vec();
        record.extend_from_slice(&frame);
        let written = self.log.write_all(&record);
        if let Err(source) = written {
            // Half a record would end the log for good: cut it off. The error that counts is the first one.
            drop(self.log.set_len(self.log_bytes));
            return Err(TableFileError::Append { path: self.log_path.clone(), source });
        }
        self.log_bytes += record.len() as u64;
        Ok(())
    }

    pub(crate) const fn is_large(&self) -> bool {
        self.log_bytes > LOG_BYTES_MAX
    }

    /// Writes the whole table as the base and empties the log. A crash in between leaves updates that are older than
    /// the base in the log; they are skipped when it is read.
    pub(crate) fn write_whole(&mut self, table: &RouteTable) -> Result<(), TableFileError> {
        state_file::write(&self.base, table).map_err(TableFileError::Base)?;
        self.log.set_len(0).map_err(|source| TableFileError::Append { path: self.log_path.clone(), source })?;
        self.log_bytes = 0;
        Ok(())
    }
}

/// Applies the records of a log and gives the length of its undamaged beginning.
fn replay(bytes: &[u8], table: &Table) -> usize {
    let mut whole_bytes = 0;
    while let Some((update, length)) = parse_record(&bytes[whole_bytes..]) {
        let ToRouter::Update(update) = update else { break };
        if table.update(update) == Change::NeedWhole {
            break;
        }
        whole_bytes += length;
    }
    whole_bytes
}

fn parse_record(bytes: &[u8]) -> Option<(ToRouter, usize)> {
    let expected = bytes.get(..CHECKSUM_BYTES)?;
    let frame = bytes.get(CHECKSUM_BYTES..)?;
    let length = u32::from_be_bytes(*frame.first_chunk::<LENGTH_BYTES>()?) as usize;
    let frame = frame.get(..LENGTH_BYTES.checked_add(length)?)?;
    if checksum(frame) != expected {
        return None;
    }
    let update = frame::read(&mut &*frame).ok()??;
    Some((update, CHECKSUM_BYTES + frame.len()))
}

fn checksum(frame: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::digest(frame);
    *digest.first_chunk().expect("SHA-256 is longer than eight bytes")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use wire::routes::{AdmissionSettings, AppRoute, Availability, EdgeSettings, TableUpdate};

    use super::*;

    fn update(base: u64) -> ToRouter {
        let route = AppRoute {
            app: Uuid::from_u128(u128::from(base)),
            name: format!("app-{base}"),
            logged_for: None,
            hosts: vec![format!("app-{base}.example")],
            availability: Availability::Starting,
            dynos: Vec::new(),
            limits: Default::default(),
            edge: EdgeSettings::default(),
            admission: AdmissionSettings::default(),
        };
        ToRouter::Update(TableUpdate { base, generation: base + 1, changed: vec![route], ..TableUpdate::default() })
    }

    fn write_updates(dir: &Path, count: u64) -> Table {
        let table = Table::default();
        let mut file = TableFile::open(dir, &table).unwrap();
        for base in table.generation()..table.generation() + count {
            file.append(&update(base)).unwrap();
            replay_one(&table, update(base));
        }
        table
    }

    fn replay_one(table: &Table, update: ToRouter) {
        if let ToRouter::Update(update) = update {
            assert_eq!(table.update(update), Change::Applied);
        }
    }

    fn reopened(dir: &Path) -> Table {
        let table = Table::default();
        TableFile::open(dir, &table).unwrap();
        table
    }

    #[test]
    fn a_table_is_read_back_from_base_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_updates(dir.path(), 3);
        assert_eq!(reopened(dir.path()).snapshot(), written.snapshot());

        let mut file = TableFile::open(dir.path(), &Table::default()).unwrap();
        file.write_whole(&written.snapshot()).unwrap();
        let written = write_updates(dir.path(), 2);
        assert_eq!(written.generation(), 5);
        assert_eq!(reopened(dir.path()).snapshot(), written.snapshot());
    }

    #[test]
    fn a_log_that_is_cut_or_damaged_anywhere_counts_up_to_the_damage() {
        let dir = tempfile::tempdir().unwrap();
        write_updates(dir.path(), 3);
        let path = dir.path().join("table.log");
        let bytes = fs::read(&path).unwrap();
        let record_bytes = bytes.len() / 3;
        for at in (0..bytes.len()).step_by(7) {
            fs::write(&path, &bytes[..at]).unwrap();
            assert_eq!(reopened(dir.path()).generation(), (at / record_bytes) as u64, "cut at {at}");
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            fs::write(&path, damaged).unwrap();
            assert_eq!(reopened(dir.path()).generation(), (at / record_bytes) as u64, "damaged at {at}");
        }
    }

    #[test]
    fn appending_continues_after_a_damaged_end_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        write_updates(dir.path(), 2);
        let path = dir.path().join("table.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"half a record");
        fs::write(&path, bytes).unwrap();
        write_updates(dir.path(), 1);
        assert_eq!(reopened(dir.path()).generation(), 3);
    }

    #[test]
    fn a_crash_between_base_and_log_applies_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_updates(dir.path(), 3);
        state_file::write(&dir.path().join("table.json"), &written.snapshot()).unwrap();
        assert_eq!(reopened(dir.path()).snapshot(), written.snapshot());
    }
}
