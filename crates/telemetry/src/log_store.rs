//! Streams on disk and whoever follows them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::watch;
use uuid::Uuid;
use wire::segment::{NewestFirst, SegmentReader, SegmentWriter};

use crate::filter::Filter;
use crate::line::{END_TAG, LogLine, NewLine, from_record, overflow_line, tag};

#[derive(Debug, Error)]
pub enum LogStoreError {
    #[error("cannot open the log {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the log {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the log {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl LogStoreError {
    /// Whether it passes as soon as somebody makes room.
    pub fn is_full_disk(&self) -> bool {
        let (Self::Open { source, .. } | Self::Write { source, .. } | Self::Read { source, .. }) = self;
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// How much of each stream is kept.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    pub segment_bytes: u64,
    pub segments_max: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { segment_bytes: 8 * 1024 * 1024, segments_max: 8 }
    }
}

/// All streams under one directory. The only writer of them.
#[derive(Debug)]
pub struct LogStore {
    dir: PathBuf,
    limits: StreamLimits,
    streams: Mutex<HashMap<Uuid, Arc<Slot>>>,
    /// By stream; told in its next line.
    dropped: Mutex<HashMap<Uuid, Dropped>>,
}

/// A stream, once somebody has opened it. Opening a long one takes a while, in which the others must not wait.
type Slot = Mutex<Option<Arc<Stream>>>;

#[derive(Debug)]
struct Stream {
    dir: PathBuf,
    writer: Mutex<SegmentWriter>,
    /// The last line copied from each ring.
    positions: Mutex<HashMap<Uuid, Copied>>,
    state: watch::Sender<StreamState>,
}

/// How far a ring was copied into a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    pub sequence: u64,
    /// When that line was written.
    pub unix_us: u64,
}

/// Lines that could not be stored and will not come again (`L10`).
#[derive(Debug, Clone, Copy)]
struct Dropped {
    lines: u64,
    since_unix_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StreamState {
    last: u64,
    ended: bool,
}

impl LogStore {
    pub fn new(dir: &Path, limits: StreamLimits) -> Self {
        Self { dir: dir.to_owned(), limits, streams: Mutex::new(HashMap::new()), dropped: Mutex::new(HashMap::new()) }
    }

    /// Appends lines to a stream. Where they cannot be stored, the stream's next line tells how many were dropped.
    pub fn append(&self, stream: Uuid, lines: &[NewLine]) -> Result<(), LogStoreError> {
        let appended = self.append_or_nothing(stream, lines);
        if let (Err(_), Some(first)) = (&appended, lines.first()) {
            self.count_dropped(stream, lines.len() as u64, first.unix_us);
        }
        appended
    }

    /// Appends all these lines or, where there is an error, none: for a caller who tries again. Lines copied from a ring
    /// that are already there are left out.
    pub fn append_or_nothing(&self, key: Uuid, lines: &[NewLine]) -> Result<(), LogStoreError> {
        if lines.is_empty() {
            return Ok(());
        }
        let stream = self.open(key)?;
        let mut writer = stream.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut positions = stream.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let told = dropped.map(|dropped| overflow_line(dropped.lines, dropped.since_unix_us, lines[0].unix_us));
        let mut copied: HashMap<Uuid, Copied> = HashMap::new();
        for line in told.iter().chain(lines) {
            if let Some(place) = line.copied_from {
                let last = copied.get(&place.ring).or(positions.get(&place.ring)).copied().unwrap_or_default();
                if place.sequence <= last.sequence {
                    continue;
                }
                copied.insert(place.ring, Copied { sequence: place.sequence, unix_us: line.unix_us });
            }
            writer.push(line.unix_us, &tag(line), &line.text);
        }
        writer.flush_or_take_back().map_err(|source| LogStoreError::Write { path: stream.dir.clone(), source })?;
        let last = writer.last_sequence();
        positions.extend(copied);
        if let Some(told) = dropped {
            self.forget_dropped(key, told.lines);
        }
        drop(positions);
        drop(writer);
        stream.state.send_modify(|state| state.last = last);
        Ok(())
    }

    /// Counts lines of a stream that nobody will bring again.
    pub fn count_dropped(&self, stream: Uuid, lines: u64, since_unix_us: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.entry(stream).or_insert(Dropped { lines: 0, since_unix_us }).lines += lines;
    }

    /// These were told; others may have been dropped meanwhile.
    fn forget_dropped(&self, stream: Uuid, told: u64) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = dropped.get_mut(&stream) {
            left.lines = left.lines.saturating_sub(told);
            if left.lines == 0 {
                dropped.remove(&stream);
            }
        }
    }

    /// Ends a stream: followers get the rest and then nothing more. Idempotent.
    pub fn end(&self, key: Uuid, unix_us: u64) -> Result<(), LogStoreError> {
        let stream = self.open(key)?;
        if stream.state.borrow().ended {
            return Ok(());
        }
        let mut writer = stream.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.push(unix_us, END_TAG, b"");
        let flushed = writer.flush();
        let last = writer.last_sequence();
        drop(writer);
        stream.state.send_modify(|state| *state = StreamState { last, ended: true });
        // Nothing more is written: a server that runs for months must not keep a file open for each build it made.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        flushed.map_err(|source| LogStoreError::Write { path: stream.dir.clone(), source })
    }

    /// The last line that was copied from `ring` into `stream`; number 0 if none was.
    pub fn position(&self, stream: Uuid, ring: Uuid) -> Result<Copied, LogStoreError> {
        let stream = self.open(stream)?;
        let positions = stream.positions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(positions.get(&ring).copied().unwrap_or_default())
    }

    /// The last `lines_max` lines that match.
    pub fn last_lines(&self, stream: Uuid, filter: &Filter, lines_max: usize) -> Result<Vec<LogLine>, LogStoreError> {
        let stream = self.open(stream)?;
        let reading = |source| LogStoreError::Read { path: stream.dir.clone(), source };
        let mut reader = NewestFirst::new(&stream.dir).map_err(reading)?;
        let mut lines = VecDeque::new();
        while lines.len() < lines_max
            && let Some(records) = reader.read().map_err(reading)?
        {
            let newest_first = records.iter().rev().filter_map(from_record).map(|(line, _place)| line);
            for line in newest_first.filter(|line| filter.matches(line)).take(lines_max - lines.len()) {
                lines.push_front(line);
            }
        }
        Ok(lines.into())
    }

    /// Follows a stream after line `after` (0: from its beginning).
    pub fn follow(&self, stream: Uuid, after: u64, filter: Filter) -> Result<Follower, LogStoreError> {
        let stream = self.open(stream)?;
        let reader = SegmentReader::new(&stream.dir, after);
        let state = stream.state.subscribe();
        Ok(Follower { reader, state, filter, path: stream.dir.clone(), ended: false, read_until_unix_us: None })
    }

    /// The number of the newest line.
    pub fn last_sequence(&self, stream: Uuid) -> Result<u64, LogStoreError> {
        Ok(self.open(stream)?.state.borrow().last)
    }

    /// Whether anything was ever written to this stream.
    pub fn exists(&self, stream: Uuid) -> bool {
        self.path(stream).is_dir()
    }

    /// Removes a stream with all its lines.
    pub fn remove(&self, stream: Uuid) -> io::Result<()> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
        match std::fs::remove_dir_all(self.path(stream)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(&self, stream: Uuid) -> PathBuf {
        self.dir.join(stream.to_string())
    }

    fn open(&self, key: Uuid) -> Result<Arc<Stream>, LogStoreError> {
        let slot = self.slot(key);
        let mut opened = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = &*opened {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new(open_stream(self.path(key), self.limits)?);
        if stream.state.borrow().ended {
            // It is only read, by whoever asked.
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.get(&key).is_some_and(|known| Arc::ptr_eq(known, &slot)) {
                streams.remove(&key);
            }
        } else {
            *opened = Some(Arc::clone(&stream));
        }
        Ok(stream)
    }

    fn slot(&self, key: Uuid) -> Arc<Slot> {
        Arc::clone(self.streams.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}

fn open_stream(dir: PathBuf, limits: StreamLimits) -> Result<Stream, LogStoreError> {
    let opening = |source| LogStoreError::Open { path: dir.clone(), source };
    let writer = SegmentWriter::open(&dir, limits.segment_bytes, limits.segments_max).map_err(opening)?;
    let mut positions = HashMap::new();
    let mut ended = false;
    let mut reader = SegmentReader::new(&dir, 0);
    loop {
        let batch = reader.read().map_err(opening)?;
        if batch.records.is_empty() {
            break;
        }
        for record in &batch.records {
            ended |= record.tag == END_TAG;
            if let Some((_line, Some(place))) = from_record(record) {
                let last: &mut Copied = positions.entry(place.ring).or_default();
                if place.sequence > last.sequence {
                    *last = Copied { sequence: place.sequence, unix_us: record.unix_us };
                }
            }
        }
    }
    let (state, _receiver) = watch::channel(StreamState { last: writer.last_sequence(), ended });
    Ok(Stream { dir, writer: Mutex::new(writer), positions: Mutex::new(positions), state })
}

/// Somebody who reads a stream as it grows. Never slows the writer: what is overwritten before it is read is counted.
#[derive(Debug)]
pub struct Follower {
    reader: SegmentReader,
    state: watch::Receiver<StreamState>,
    filter: Filter,
    path: PathBuf,
    ended: bool,
    /// When the last line that was read was written.
    read_until_unix_us: Option<u64>,
}

/// What a follower gets at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    pub lines: Vec<LogLine>,
    /// Lines that were gone before they could be read (`L11`).
    pub lost: u64,
    /// When the last line before them was written; 0 if nothing was lost.
    pub lost_since_unix_us: u64,
}

impl Follower {
    /// Waits for the next lines. `None` when the stream has ended and all was given out.
    pub async fn next(&mut self) -> Result<Option<Followed>, LogStoreError> {
        while !self.ended {
            self.state.borrow_and_update();
            let batch = self.reader.read().map_err(|source| LogStoreError::Read { path: self.path.clone(), source })?;
            if batch.records.is_empty() {
                if self.state.changed().await.is_err() {
                    return Ok(None);
                }
                continue;
            }
            self.ended = batch.records.iter().any(|record| record.tag == END_TAG);
            let lines = batch
                .records
                .iter()
                .filter_map(from_record)
                .map(|(line, _place)| line)
                .filter(|line| self.filter.matches(line))
                .collect::<Vec<_>>();
            let before = self.read_until_unix_us.or_else(|| batch.records.first().map(|record| record.unix_us));
            self.read_until_unix_us = batch.records.last().map(|record| record.unix_us);
            if !lines.is_empty() || batch.lost > 0 {
                let lost_since_unix_us = before.filter(|_time| batch.lost > 0).unwrap_or(0);
                return Ok(Some(Followed { lines, lost: batch.lost, lost_since_unix_us }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::{Origin, RingPosition};

    fn line(text: &str, copied_from: Option<RingPosition>) -> NewLine {
        NewLine {
            unix_us: 1,
            origin: Origin::App,
            process: "web.1".to_owned(),
            text: text.as_bytes().to_vec(),
            copied_from,
        }
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[tokio::test]
    async fn a_follower_gets_every_line_and_then_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(dir.path(), StreamLimits::default());
        let key = Uuid::new_v4();
        store.append(key, &[line("one", None)]).unwrap();
        let mut follower = store.follow(key, 0, Filter::default()).unwrap();
        assert_eq!(texts(&follower.next().await.unwrap().unwrap().lines), ["one"]);
        let waiting = tokio::spawn(async move { (follower.next().await.unwrap(), follower.next().await.unwrap()) });
        store.append(key, &[line("two", None)]).unwrap();
        store.end(key, 2).unwrap();
        store.end(key, 2).unwrap();
        let (second, end) = waiting.await.unwrap();
        assert_eq!(texts(&second.unwrap().lines), ["two"]);
        assert_eq!(end, None);
    }

    #[tokio::test]
    async fn an_ended_stream_is_closed_and_can_still_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(dir.path(), StreamLimits::default());
        let key = Uuid::new_v4();
        store.append(key, &[line("one", None)]).unwrap();
        store.end(key, 2).unwrap();
        for _reader in 0..2 {
            let mut follower = store.follow(key, 0, Filter::default()).unwrap();
            assert_eq!(texts(&follower.next().await.unwrap().unwrap().lines), ["one"]);
            assert_eq!(follower.next().await.unwrap(), None);
        }
        store.end(key, 3).unwrap();
        assert!(store.streams.lock().unwrap().is_empty());
    }

    #[test]
    fn a_stream_that_is_being_opened_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(dir.path(), StreamLimits::default());
        let (long, other) = (Uuid::new_v4(), Uuid::new_v4());
        let slot = store.slot(long);
        let opening = slot.lock().unwrap();
        store.append(other, &[line("one", None)]).unwrap();
        assert_eq!(texts(&store.last_lines(other, &Filter::default(), 1).unwrap()), ["one"]);
        drop(opening);
        store.append(long, &[line("two", None)]).unwrap();
        assert!(Arc::ptr_eq(&store.slot(long), &slot));
    }

    #[tokio::test]
    async fn a_restarted_store_knows_what_it_had_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (key, ring) = (Uuid::new_v4(), Uuid::new_v4());
        let copied = |sequence| line(&format!("line {sequence}"), Some(RingPosition { ring, sequence }));
        let store = LogStore::new(dir.path(), StreamLimits::default());
        store.append(key, &[copied(1), copied(2)]).unwrap();
        drop(store);
        let store = LogStore::new(dir.path(), StreamLimits::default());
        assert_eq!(store.position(key, ring).unwrap(), Copied { sequence: 2, unix_us: 1 });
        store.append(key, &[copied(2), copied(3)]).unwrap();
        let lines = store.last_lines(key, &Filter::default(), 10).unwrap();
        assert_eq!(texts(&lines), ["line 1", "line 2", "line 3"]);
        assert_eq!(texts(&store.last_lines(key, &Filter::default(), 1).unwrap()), ["line 3"]);
    }
}
