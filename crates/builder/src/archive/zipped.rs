//! zip: files, directories and the symbolic links that Unix packers store as small files.

use std::fs::File;
use std::io::Read as _;

use zip::result::ZipError;

use super::{ArchiveError, PATH_BYTES_MAX, Sink, Unpacked, damaged};

pub(super) fn unpack(archive: &mut File, mut sink: Sink) -> Result<Unpacked, ArchiveError> {
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(archive)).map_err(zip_error)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(zip_error)?;
        let Some(path) = sink.admit(entry.name_raw())? else { continue };
        if entry.is_dir() {
            sink.directory(&path)?;
        } else if entry.is_symlink() {
            let mut target = Vec::new();
            entry.by_ref().take(PATH_BYTES_MAX as u64).read_to_end(&mut target).map_err(damaged)?;
            sink.symlink(&path, &target)?;
        } else {
            let mode = entry.unix_mode().unwrap_or(0o644);
            let modified = entry.last_modified().map_or(0, unix_seconds);
            sink.file(&path, mode, modified, &mut entry)?;
        }
    }
    if sink.unpacked.entries == 0 { Err(ArchiveError::Empty) } else { Ok(sink.unpacked) }
}

fn zip_error(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(error) => damaged(error),
        // The directory of a zip is its last part: without it the file was cut off.
        ZipError::InvalidArchive(message) if message.contains("EOCD") => ArchiveError::Truncated,
        other => ArchiveError::Damaged(other.to_string()),
    }
}

/// zip's local time without a zone, read as UTC (days from the civil calendar, Howard Hinnant's algorithm).
fn unix_seconds(time: zip::DateTime) -> u64 {
    let (month, day) = (u64::from(time.month()), u64::from(time.day()));
    let year = u64::from(time.year()) - u64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    days * 86_400 + u64::from(time.hour()) * 3600 + u64::from(time.minute()) * 60 + u64::from(time.second())
}
