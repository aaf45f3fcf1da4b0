//! Log segments: how shims and the router hand their lines to the server without a connection and without loss.
//!
//! A directory holds a ring of files, each named after the sequence number of its first record. The writer appends and
//! deletes the oldest file when there are more than it may keep; it never waits for a reader. A reader asks for
//! everything after a sequence number, so a restarted server continues where it stopped, and a gap in the numbers is
//! the exact count of records that were lost (`L10`).
//!
//! One record is one line: `<sequence> <unix microseconds> <tag> <text>\n`. The tag is `out`, `err` or `shim` in a
//! dyno's log and the app's id in the router's.

mod newest_first;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub use newest_first::NewestFirst;

/// Longest text of one record in bytes. Heroku splits lines that are longer than 10,000.
pub const RECORD_TEXT_BYTES_MAX: usize = 10_000;

/// Most bytes that one call of [`SegmentReader::read`] takes from disk.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// A buffer that has grown beyond this is given up after it was written.
const BUFFER_BYTES_KEPT: usize = 128 * 1024;

/// How near to the first record that a reader wants it begins to read, in bytes; and how much is read to find out where a
/// record begins: more than the longest one.
const NEAR_BYTES: u64 = 64 * 1024;
const PROBE_BYTES: usize = 16 * 1024;

/// One line of a log, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Starts at 1 and grows by 1.
    pub sequence: u64,
    pub unix_us: u64,
    pub tag: String,
    /// Without the line end; bytes as the process wrote them.
    pub text: Vec<u8>,
}

/// Appends records to a ring of files.
#[derive(Debug)]
pub struct SegmentWriter {
    dir: PathBuf,
    segment_bytes: u64,
    segments_max: usize,
    file: File,
    file_bytes: u64,
    next_sequence: u64,
    buffer: Vec<u8>,
    /// The number of the buffer's first record.
    buffer_start: u64,
}

impl SegmentWriter {
    /// Opens the ring in `dir`, making it if needed, and continues after its last whole record.
    pub fn open(dir: &Path, segment_bytes: u64, segments_max: u32) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let (path, next_sequence, file_bytes) = match segment_starts(dir)?.last() {
            None => (segment_path(dir, 1), 1, 0),
            Some(&start) => {
                let path = segment_path(dir, start);
                let (records, whole_bytes) = count_records(&path)?;
                (path, start + records, whole_bytes)
            }
        };
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        // A writer that was killed in the middle of a record left its beginning.
        file.set_len(file_bytes)?;
        file.seek(SeekFrom::End(0))?;
        let segments_max = usize::try_from(segments_max.max(2)).unwrap_or(2);
        Ok(Self {
            dir: dir.to_owned(),
            segment_bytes,
            segments_max,
            file,
            file_bytes,
            next_sequence,
            buffer: Vec::new(),
            buffer_start: next_sequence,
        })
    }

    /// Adds one record to the buffer. `text` must not contain a line end; more than the longest text is cut.
    pub fn push(&mut self, unix_us: u64, tag: &str, text: &[u8]) {
        let text = &text[..text.len().min(RECORD_TEXT_BYTES_MAX)];
        debug_assert!(!text.contains(&b'\n'), "a record is one line");
        if self.buffer.is_empty() {
            self.buffer_start = self.next_sequence;
        }
        // Writing to memory does not fail.
        write!(self.buffer, "{} {unix_us} {tag} ", self.next_sequence).unwrap_or_default();
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
        self.next_sequence += 1;
    }

    /// Takes a sequence number without writing it: readers see a lost record.
    pub fn skip(&mut self, records: u64) -> io::Result<()> {
        self.flush()?;
        self.next_sequence += records;
        // A gap inside a file would not be seen by `open`, which counts records from the file's name.
        self.rotate()
    }

    /// Writes the buffer with one `write`. On an error (full disk) the buffer is dropped and its records are lost by number.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.write_buffer() {
            // The next record starts a file of its own, after the gap.
            self.rotate()?;
            return Err(error);
        }
        self.rotate_if_full()
    }

    /// As [`Self::flush`], but on an error the numbers of the dropped records are free again: for a writer who will push
    /// them once more, so that no reader sees a loss.
    pub fn flush_or_take_back(&mut self) -> io::Result<()> {
        if let Err(error) = self.write_buffer() {
            self.next_sequence = self.buffer_start;
            // A reader may have seen the part that was cut off, so what comes next goes to another file. Without room
            // for one the old one serves, too.
            self.rotate().ok();
            return Err(error);
        }
        // Nothing is lost where the next file cannot be made: this one grows, and the next flush tries again.
        self.rotate_if_full().ok();
        Ok(())
    }

    /// Writes the buffer and empties it. What was written in part is cut off again.
    fn write_buffer(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        let size_bytes = self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        if let Err(error) = written {
            self.file.set_len(self.file_bytes)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.file_bytes += size_bytes;
        Ok(())
    }

    fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.file_bytes >= self.segment_bytes { self.rotate() } else { Ok(()) }
    }

    /// The sequence number of the last record pushed; 0 before the first.
    pub const fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = segment_path(&self.dir, self.next_sequence);
        self.file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        self.file_bytes = 0;
        let starts = segment_starts(&self.dir)?;
        for &start in starts.iter().take(starts.len().saturating_sub(self.segments_max)) {
            fs::remove_file(segment_path(&self.dir, start))?;
        }
        Ok(())
    }
}

/// What one read found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SegmentBatch {
    pub records: Vec<SegmentRecord>,
    /// Records that were overwritten or dropped before they could be read, in front of `records`.
    pub lost: u64,
}

/// Reads a ring from a sequence number on, while it is being written.
#[derive(Debug)]
pub struct SegmentReader {
    dir: PathBuf,
    after: u64,
    open: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    start: u64,
    file: File,
    /// Bytes read that do not yet make a whole line.
    partial: Vec<u8>,
}

impl SegmentReader {
    /// Reads what follows record `after` (0: from the beginning).
    pub fn new(dir: &Path, after: u64) -> Self {
        Self { dir: dir.to_owned(), after, open: None }
    }

    /// The sequence number of the last record given out (or lost).
    pub const fn position(&self) -> u64 {
        self.after
    }

    /// Gives the next records, at most about 1 MiB of them. An empty batch means that nothing new is there.
    pub fn read(&mut self) -> io::Result<SegmentBatch> {
        let mut batch = SegmentBatch::default();
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(batch);
            }
            let Some(open) = &mut self.open else { return Ok(batch) };
            let mut bytes = std::mem::take(&mut open.partial);
            let before = bytes.len();
            (&mut open.file).take(READ_BYTES_MAX as u64).read_to_end(&mut bytes)?;
            let ended = bytes.len() == before;
            let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
                let Some(record) = parse_record(&line[..line.len() - 1]) else { continue };
                if record.sequence <= self.after {
                    continue;
                }
                let gap = record.sequence - self.after - 1;
                if gap > 0 && !batch.records.is_empty() {
                    // Give out what came before the gap first, so that the loss stands where it happened.
                    self.open = None;
                    return Ok(batch);
                }
                batch.lost += gap;
                self.after = record.sequence;
                batch.records.push(record);
            }
            open.partial = bytes[whole..].to_vec();
            if !batch.records.is_empty() {
                return Ok(batch);
            }
            if ended {
                // Only a file that has a successor is finished.
                let start = open.start;
                let successor = segment_starts(&self.dir)?.into_iter().any(|other| other > start);
                if !successor {
                    return Ok(batch);
                }
                self.open = None;
                if !self.open_after(start)? {
                    return Ok(batch);
                }
            }
        }
    }

    /// Opens the segment that holds the record after the position, or the oldest one if that is gone.
    fn open_next(&mut self) -> io::Result<bool> {
        let starts = segment_starts(&self.dir)?;
        let wanted = self.after + 1;
        let start = starts.iter().rev().find(|&&start| start <= wanted).or(starts.first()).copied();
        start.map_or(Ok(false), |start| self.open_at(start))
    }

    fn open_after(&mut self, previous: u64) -> io::Result<bool> {
        let next = segment_starts(&self.dir)?.into_iter().find(|&start| start > previous);
        next.map_or(Ok(false), |start| self.open_at(start))
    }

    fn open_at(&mut self, start: u64) -> io::Result<bool> {
        match File::open(segment_path(&self.dir, start)) {
            Ok(mut file) => {
                let near = if start <= self.after { place_near(&file, self.after)? } else { 0 };
                file.seek(SeekFrom::Start(near))?;
                self.open = Some(OpenSegment { start, file, partial: Vec::new() });
                Ok(true)
            }
            // Deleted between listing and opening: the writer is ahead; the next call finds the new oldest.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Where a record begins from which on everything after record `after` is read: a follower of a busy log would read
/// megabytes before its first line otherwise.
fn place_near(file: &File, after: u64) -> io::Result<u64> {
    // A record begins at `low`, and it is not too late; the first that is wanted begins before `high`, or there is none.
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > NEAR_BYTES {
        let middle = low + (high - low) / 2;
        match first_record_behind(file, middle)? {
            Some((at, sequence)) if sequence <= after => low = at,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// The first record that begins behind this place: where, and its number.
fn first_record_behind(file: &File, place: u64) -> io::Result<Option<(u64, u64)>> {
    let mut bytes = [0; PROBE_BYTES];
    let count = file.read_at(&mut bytes, place)?;
    let bytes = &bytes[..count];
    let Some(at) = bytes.iter().position(|&byte| byte == b'\n').map(|end| end + 1) else { return Ok(None) };
    let number = bytes[at..].iter().position(|&byte| byte == b' ').map(|end| &bytes[at..at + end]);
    let sequence = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
    Ok(sequence.map(|sequence| (place + at as u64, sequence)))
}

fn parse_record(line: &[u8]) -> Option<SegmentRecord> {
    let mut parts = line.splitn(4, |&byte| byte == b' ');
    let number = |part: Option<&[u8]>| std::str::from_utf8(part?).ok()?.parse::<u64>().ok();
    let sequence = number(parts.next())?;
    let unix_us = number(parts.next())?;
    let tag = String::from_utf8(parts.next()?.to_vec()).ok()?;
    Some(SegmentRecord { sequence, unix_us, tag, text: parts.next()?.to_vec() })
}

fn segment_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}.log"))
}

/// The first sequence numbers of all segments, ascending.
fn segment_starts(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut starts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let start: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|stem| stem.parse().ok());
        starts.extend(start);
    }
    starts.sort_unstable();
    Ok(starts)
}

/// Counts whole records and their bytes.
fn count_records(path: &Path) -> io::Result<(u64, u64)> {
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let records = bytes[..whole].iter().filter(|&&byte| byte == b'\n').count();
    Ok((records as u64, whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_lines(writer: &mut SegmentWriter, texts: &[&str]) {
        for text in texts {
            writer.push(5, "out", text.as_bytes());
        }
        writer.flush().unwrap();
    }

    fn texts(batch: &SegmentBatch) -> Vec<String> {
        batch.records.iter().map(|record| String::from_utf8_lossy(&record.text).into_owned()).collect()
    }

    #[test]
    fn a_reader_follows_a_writer_and_continues_after_a_restart_of_either() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 3).unwrap();
        write_lines(&mut writer, &["a b  c", ""]);
        let mut reader = SegmentReader::new(dir.path(), 0);
        assert_eq!(texts(&reader.read().unwrap()), ["a b  c", ""]);
        assert_eq!(reader.read().unwrap(), SegmentBatch::default());

        drop(writer);
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 3).unwrap();
        write_lines(&mut writer, &["third"]);
        assert_eq!(texts(&reader.read().unwrap()), ["third"]);

        let mut restarted = SegmentReader::new(dir.path(), 2);
        let batch = restarted.read().unwrap();
        assert_eq!((texts(&batch), batch.lost), (vec!["third".to_owned()], 0));
    }

    #[test]
    fn a_reader_begins_near_what_it_wants_wherever_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 30, 3).unwrap();
        for number in 1..=40_000_usize {
            // Some as long as a record may be.
            let length = if number % 1000 == 0 { RECORD_TEXT_BYTES_MAX } else { number % 60 };
            writer.push(5, "out", "x".repeat(length).as_bytes());
        }
        writer.flush().unwrap();
        let file = File::open(segment_path(dir.path(), 1)).unwrap();
        assert!(place_near(&file, 39_999).unwrap() > file.metadata().unwrap().len() - NEAR_BYTES);
        for after in (1..40_000).step_by(777).chain([39_998, 39_999]) {
            let batch = SegmentReader::new(dir.path(), after).read().unwrap();
            assert_eq!((batch.records[0].sequence, batch.lost), (after + 1, 0));
        }
        assert_eq!(SegmentReader::new(dir.path(), 40_000).read().unwrap(), SegmentBatch::default());
    }

    #[test]
    fn an_overrun_reader_learns_exactly_how_much_it_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1000, 2).unwrap();
        let mut reader = SegmentReader::new(dir.path(), 0);
        for line in 0..500 {
            write_lines(&mut writer, &[&format!("line {line}")]);
        }
        let (mut seen, mut lost) = (0, 0);
        loop {
            let batch = reader.read().unwrap();
            if batch.records.is_empty() {
                break;
            }
            seen += batch.records.len() as u64;
            lost += batch.lost;
        }
        assert_eq!(seen + lost, 500);
        assert!(lost > 0 && seen > 0, "seen {seen}, lost {lost}");
    }

    #[test]
    fn a_record_cut_by_a_kill_is_dropped_when_the_writer_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 3).unwrap();
        write_lines(&mut writer, &["whole"]);
        drop(writer);
        let path = segment_path(dir.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"2 5 out cut of");
        fs::write(&path, bytes).unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 3).unwrap();
        assert_eq!(writer.last_sequence(), 1);
        write_lines(&mut writer, &["second"]);
        assert_eq!(texts(&SegmentReader::new(dir.path(), 0).read().unwrap()), ["whole", "second"]);
    }

    #[test]
    fn skipped_records_are_seen_as_lost_where_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), 1 << 20, 3).unwrap();
        write_lines(&mut writer, &["before"]);
        writer.skip(7).unwrap();
        write_lines(&mut writer, &["after"]);
        let mut reader = SegmentReader::new(dir.path(), 0);
        let first = reader.read().unwrap();
        assert_eq!((texts(&first), first.lost), (vec!["before".to_owned()], 0));
        let second = reader.read().unwrap();
        assert_eq!((texts(&second), second.lost), (vec!["after".to_owned()], 7));
    }

    #[test]
    fn a_directory_that_does_not_exist_yet_reads_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = SegmentReader::new(&dir.path().join("later"), 0);
        assert_eq!(reader.read().unwrap(), SegmentBatch::default());
    }
}
