//! The newest records of a ring first: whoever wants the last lines of a long log need not read all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{SegmentRecord, parse_record, segment_path, segment_starts};

/// Bytes of one read, many times the longest record.
const BLOCK_BYTES: u64 = 256 * 1024;

/// Reads a ring from its end to its beginning.
#[derive(Debug)]
pub struct NewestFirst {
    dir: PathBuf,
    /// Segments that were not opened yet, the newest last.
    starts: Vec<u64>,
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    file: File,
    /// Bytes in front of those that were read.
    unread: u64,
    /// The end of a record whose beginning is not read yet.
    cut: Vec<u8>,
}

impl NewestFirst {
    pub fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), starts: segment_starts(dir)?, open: None })
    }

    /// Gives the next older records, in the order in which they were written. `None` at the beginning of the ring.
    pub fn read(&mut self) -> io::Result<Option<Vec<SegmentRecord>>> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let start = open.unread.saturating_sub(BLOCK_BYTES);
            let mut bytes = read_at(&open.file, start, open.unread - start)?;
            open.unread = start;
            bytes.append(&mut open.cut);
            if start > 0 {
                // What stands before the first line end began earlier.
                let whole = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
                let rest = bytes.split_off(whole);
                open.cut = std::mem::replace(&mut bytes, rest);
            } else {
                self.open = None;
            }
            // A line without its end is still being written.
            let lines = bytes.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
            let records: Vec<_> = lines.filter_map(parse_record).collect();
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let Some(start) = self.starts.pop() else { return Ok(false) };
        match File::open(segment_path(&self.dir, start)) {
            Ok(file) => {
                let unread = file.metadata()?.len();
                self.open = Some(OpenSegment { file, unread, cut: Vec::new() });
                Ok(true)
            }
            // The writer has come round: older ones are gone, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Less than was asked for where a writer has cut off what it could not write whole.
fn read_at(file: &File, start: u64, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size_bytes).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], start + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentWriter;

    #[test]
    fn reads_every_record_once_from_the_newest_to_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 8).unwrap();
        // Several blocks in several files, with lines of many lengths.
        for number in 1..=30_000_usize {
            writer.push(5, "out", "x".repeat(number % 97).as_bytes());
            if number % 100 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.skip(5).unwrap();
        writer.push(5, "out", b"last");
        writer.flush().unwrap();
        let mut reader = NewestFirst::new(dir.path()).unwrap();
        let mut numbers: Vec<u64> = Vec::new();
        while let Some(records) = reader.read().unwrap() {
            assert!(records.is_sorted_by_key(|record| record.sequence));
            numbers.extend(records.iter().rev().map(|record| record.sequence));
        }
        let expected: Vec<u64> = std::iter::once(30_006).chain((1..=30_000).rev()).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn the_beginning_of_a_record_is_not_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment_path(dir.path(), 1), "1 5 out whole\n2 5 out cut o").unwrap();
        let mut reader = NewestFirst::new(dir.path()).unwrap();
        let records = reader.read().unwrap().unwrap();
        assert_eq!((records.len(), records[0].sequence), (1, 1));
        assert_eq!(reader.read().unwrap(), None);
        assert_eq!(NewestFirst::new(&dir.path().join("later")).unwrap().read().unwrap(), None);
    }
}
