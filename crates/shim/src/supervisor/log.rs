//! From the process's output to log records: reads FIFOs, puts lines together, writes the ring.
//!
//! The process writes to FIFOs that it holds open for reading as well, so it neither blocks nor dies of `EPIPE` while no
//! shim reads; up to the pipe's size waits for the next shim. What was read already is safe in [`super::pending`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pipe::fcntl_setpipe_size;
use wire::segment::{RECORD_TEXT_BYTES_MAX, SegmentReader, SegmentWriter};
use wire::shim::{LOG_DIR, LogLimits};

use super::budget::Budget;
use super::pending::{self, Left, Noted, Pending};

pub(crate) const FIFOS: [(&str, &str); 2] = [("out.fifo", "out"), ("err.fifo", "err")];
const SHIM_TAG: &str = "shim";

/// As much as an unprivileged process may ask for. At 100 MB/s it holds what is written in 10 ms.
const PIPE_BYTES: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Reads in a row from one stream before the others get their turn.
const READS_MAX: usize = 16;
/// Bytes of a record beside its text: sequence, time, tag, separators.
const RECORD_OVERHEAD_BYTES: u64 = 32;

#[derive(Debug)]
pub(crate) struct LogPump {
    writer: SegmentWriter,
    streams: [Stream; 2],
    pending: Pending,
    budget: Budget,
    /// Records that were over the budget and are not yet marked as a gap.
    dropped: u64,
    /// Records to come that a predecessor has already logged.
    logged_before: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    fifo: File,
    tag: &'static str,
    partial: Vec<u8>,
}

/// Makes the FIFOs for the process's user.
pub(crate) fn make_fifos(owner: Option<(u32, u32)>) -> io::Result<()> {
    for (name, _tag) in FIFOS {
        mknodat(CWD, name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        if let Some((uid, gid)) = owner {
            // Programs that open /dev/stdout open this file as their own user.
            chown(name, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

/// Opens the process's end of a FIFO. Read-write, see the module's text.
pub(crate) fn open_for_process(name: &str) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open(name)?.into())
}

impl LogPump {
    /// Opens the streams and the log, and first logs what a predecessor could not.
    pub(crate) fn open(limits: &LogLimits) -> io::Result<Self> {
        let [out, err] = FIFOS;
        let streams = [Stream::open(out)?, Stream::open(err)?];
        let writer = SegmentWriter::open(Path::new(LOG_DIR), limits.segment_bytes, limits.segments_max)?;
        let (pending, left) = Pending::open()?;
        let budget = Budget::new(now_us());
        let mut pump = Self { writer, streams, pending, budget, dropped: 0, logged_before: 0, buffer: Vec::new() };
        pump.resume(left)?;
        Ok(pump)
    }

    /// Finds out how far a predecessor came with the bytes it left, and logs the rest of them.
    fn resume(&mut self, left: Left) -> io::Result<()> {
        let Some(noted) = left.noted else {
            self.flush();
            return Ok(());
        };
        let unnoted = (self.writer.last_sequence() + 1).saturating_sub(noted.next_sequence);
        let last_tag = if unnoted > 0 { last_tag(noted.next_sequence - 1)? } else { None };
        // A gap is marked in front of the next record: where there is one, there is the other.
        self.dropped = if unnoted == 0 { noted.dropped } else { 0 };
        let is_tail = |stream: &[u8]| stream.len() <= RECORD_TEXT_BYTES_MAX && !stream.contains(&b'\n');
        let mut batch = left.bytes.iter().position(|bytes| !is_tail(bytes));
        if last_tag.as_deref() == Some(SHIM_TAG) {
            // A line of the shim's own, said between two batches: it is nobody's.
        } else if batch.is_some() {
            self.logged_before = unnoted.saturating_sub(noted.dropped);
        } else {
            // The only unfinished line that becomes a record is the last one of an ended process.
            batch = self.streams.iter().position(|stream| last_tag.as_deref() == Some(stream.tag));
        }
        for (at, bytes) in left.bytes.into_iter().enumerate() {
            if batch != Some(at) {
                self.streams[at].partial = bytes;
            } else if !is_tail(&bytes) {
                self.take(at, &bytes);
            }
        }
        self.logged_before = 0;
        self.flush();
        Ok(())
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|stream| stream.fifo.as_fd())
    }

    /// Reads what is there. Gives whether more may be waiting.
    pub(crate) fn pump(&mut self) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_BYTES, 0);
        let mut more = false;
        for at in 0..self.streams.len() {
            for round in 1..=READS_MAX {
                // All is read. Other errors do not occur on a FIFO that is open for both.
                let Ok(count) = self.pending.take(at, &self.streams[at].fifo, &mut buffer) else { break };
                self.take(at, buffer.get(..count).unwrap_or_default());
                more |= round == READS_MAX;
            }
        }
        self.buffer = buffer;
        more
    }

    /// Writes a line of the shim's own.
    pub(crate) fn say(&mut self, text: &str) {
        self.mark_gap();
        self.writer.push(now_us(), SHIM_TAG, text.as_bytes());
        self.flush();
    }

    /// Reads everything that ended processes left in the pipes, also a last line without an end.
    pub(crate) fn drain(&mut self) {
        while self.pump() {}
        let now_us = now_us();
        for at in 0..self.streams.len() {
            let partial = std::mem::take(&mut self.streams[at].partial);
            if !partial.is_empty() {
                self.record(now_us, self.streams[at].tag, &partial);
                // One by one: a successor can tell one unnoted record's stream, not two.
                self.flush();
            }
        }
        self.mark_gap();
        self.flush();
    }

    pub(crate) const fn last_sequence(&self) -> u64 {
        self.writer.last_sequence()
    }

    /// Puts bytes of a stream together with what it had left over.
    fn take(&mut self, at: usize, bytes: &[u8]) {
        let now_us = now_us();
        let (tag, mut partial) = (self.streams[at].tag, std::mem::take(&mut self.streams[at].partial));
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if partial.is_empty() {
                self.line(now_us, tag, line);
            } else {
                partial.extend_from_slice(line);
                self.line(now_us, tag, &partial);
                partial.clear();
            }
        }
        partial.extend_from_slice(rest);
        // A line without an end may not grow for ever: what is longer than a record is one already.
        let whole = partial.len() / RECORD_TEXT_BYTES_MAX * RECORD_TEXT_BYTES_MAX;
        if whole > 0 && partial.len() > RECORD_TEXT_BYTES_MAX {
            self.line(now_us, tag, partial.get(..whole).unwrap_or_default());
            partial.drain(..whole);
        }
        self.streams[at].partial = partial;
        self.flush();
    }

    /// One line, in as many records as it needs.
    fn line(&mut self, now_us: u64, tag: &'static str, line: &[u8]) {
        if line.is_empty() {
            self.record(now_us, tag, line);
        }
        for piece in line.chunks(RECORD_TEXT_BYTES_MAX) {
            self.record(now_us, tag, piece);
        }
    }

    fn record(&mut self, now_us: u64, tag: &str, text: &[u8]) {
        if self.logged_before > 0 {
            self.logged_before -= 1;
        } else if self.budget.take(now_us, text.len() as u64 + RECORD_OVERHEAD_BYTES) {
            self.mark_gap();
            self.writer.push(now_us, tag, text);
        } else {
            self.dropped += 1;
        }
    }

    fn mark_gap(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            // A disk that is full loses more lines; readers see all of them as one gap.
            drop(self.writer.skip(dropped));
        }
    }

    fn flush(&mut self) {
        // On an error the writer counts its records as lost, which is all that can be done about a full disk.
        drop(self.writer.flush());
        let noted = Noted { next_sequence: self.writer.last_sequence() + 1, dropped: self.dropped };
        let [out, err] = &self.streams;
        self.pending.commit(noted, [&out.partial, &err.partial]);
    }
}

impl Stream {
    fn open((name, tag): (&str, &'static str)) -> io::Result<Self> {
        let fifo = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(name)?;
        // Refused where the user's pipes hold too much already: then it stays at 64 kB.
        fcntl_setpipe_size(&fifo, PIPE_BYTES).ok();
        Ok(Self { fifo, tag, partial: Vec::new() })
    }
}

/// The tag of the last record of the log, if there is one after record `after`.
fn last_tag(after: u64) -> io::Result<Option<String>> {
    let mut reader = SegmentReader::new(Path::new(LOG_DIR), after);
    let mut last = None;
    loop {
        let batch = reader.read()?;
        let Some(record) = batch.records.into_iter().next_back() else { return Ok(last) };
        last = Some(record.tag);
    }
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Removes the FIFOs; the process is gone and all is read.
pub(crate) fn remove_fifos() {
    for (name, _tag) in FIFOS {
        drop(fs::remove_file(name));
    }
    pending::remove();
}
