//! The request log: lines from all worker threads through one bounded channel to one thread that writes them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::warn;
use uuid::Uuid;
use wire::segment::SegmentWriter;

/// 64 MB: what a server that is away may miss before lines are lost.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
const SEGMENTS_MAX: u32 = 8;
/// Lines that are written with one system call.
const BATCH_LINES_MAX: usize = 1_024;
/// How often dropped lines are put on record: each time begins a file of its own.
const SKIP_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct LogSender {
    lines: SyncSender<Message>,
    dropped: Arc<Dropped>,
}

#[derive(Debug)]
enum Message {
    Line(LogLine),
    End,
}

#[derive(Debug)]
struct LogLine {
    unix_us: u64,
    app: Uuid,
    text: String,
}

#[derive(Debug, Default)]
struct Dropped {
    total: AtomicU64,
    /// Not yet skipped in the log.
    pending: AtomicU64,
}

impl LogSender {
    /// Never waits: a line that does not fit is dropped and counted.
    pub(crate) fn send(&self, app: Uuid, text: String) {
        if self.lines.try_send(Message::Line(LogLine { unix_us: unix_us(), app, text })).is_err() {
            self.dropped.total.fetch_add(1, Ordering::Relaxed);
            self.dropped.pending.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the thread once it has written everything sent before. Waits for room, so not for worker threads.
    pub(crate) fn end(&self) {
        // A thread that is gone has ended.
        self.lines.send(Message::End).unwrap_or_default();
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped.total.load(Ordering::Relaxed)
    }
}

/// Starts the thread; it ends at [`LogSender::end`].
pub(crate) fn start(dir: &Path, lines_max: usize) -> io::Result<(LogSender, JoinHandle<()>)> {
    let writer = SegmentWriter::open(dir, SEGMENT_BYTES, SEGMENTS_MAX)?;
    let (lines, receiver) = sync_channel(lines_max);
    let dropped = Arc::new(Dropped::default());
    let sender = LogSender { lines, dropped: dropped.clone() };
    let thread =
        thread::Builder::new().name("request-log".to_owned()).spawn(move || write(writer, &receiver, &dropped))?;
    Ok((sender, thread))
}

fn write(mut writer: SegmentWriter, messages: &Receiver<Message>, dropped: &Dropped) {
    let mut failing = false;
    let mut skipped_at = Instant::now();
    let mut ended = false;
    while !ended {
        let first = messages.recv_timeout(SKIP_PERIOD);
        ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        for message in first.into_iter().chain(messages.try_iter().take(BATCH_LINES_MAX)) {
            match message {
                Message::Line(line) => writer.push(line.unix_us, &line.app.to_string(), line.text.as_bytes()),
                Message::End => ended = true,
            }
        }
        let mut written = writer.flush();
        if ended || skipped_at.elapsed() >= SKIP_PERIOD {
            let skipped = dropped.pending.swap(0, Ordering::Relaxed);
            if skipped > 0 {
                written = written.and(writer.skip(skipped));
            }
            skipped_at = Instant::now();
        }
        match written {
            Ok(()) => failing = false,
            // Said once per outage: a full disk is filled no further by its own complaints.
            Err(error) if !failing => {
                warn!(%error, "Cannot write the request log; lines are lost until this is repaired");
                failing = true;
            }
            Err(_error) => {}
        }
    }
}

pub(crate) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use wire::segment::SegmentReader;

    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_the_gap_is_its_exact_count() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, receiver) = sync_channel(3);
        let dropped = Arc::new(Dropped::default());
        let sender = LogSender { lines, dropped: dropped.clone() };
        for line in 0..10 {
            sender.send(Uuid::nil(), format!("line {line}"));
        }
        assert_eq!(sender.dropped_total(), 7);
        let writer = SegmentWriter::open(dir.path(), SEGMENT_BYTES, SEGMENTS_MAX).unwrap();
        let thread = thread::spawn(move || write(writer, &receiver, &dropped));
        sender.end();
        thread.join().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), SEGMENT_BYTES, SEGMENTS_MAX).unwrap();
        writer.push(1, "after", b"after");
        writer.flush().unwrap();
        let mut reader = SegmentReader::new(dir.path(), 0);
        assert_eq!(reader.read().unwrap().records.len(), 3);
        let after = reader.read().unwrap();
        assert_eq!((after.records.len(), after.lost), (1, 7));
    }
}
