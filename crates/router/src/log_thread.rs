//! The request log: batches of lines from all worker threads through one bounded channel to one thread that writes them.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::{debug, warn};
use uuid::Uuid;
use wire::routes::ROUTER_LOGS;
use wire::segment::SegmentWriter;

/// 64 MB: what a server that is away may miss before lines are lost. In small files, because the kernel deletes one in one
/// piece (8 MB take a millisecond), in which the core serves no requests.
const SEGMENT_BYTES: u64 = 1024 * 1024;
const SEGMENTS_MAX: u32 = 64;
/// Batches that wait, and that are written with one system call.
const BATCHES_MAX: usize = 1_024;
/// On a core that both want, this thread has a tenth of it and is interrupted by requests: without, each batch holds up
/// those that come meanwhile. On Linux a thread has a niceness of its own.
const NICE: i32 = 10;
/// How long a ring is waited for, and how often looked for.
const RING_WAIT: Duration = Duration::from_secs(60);
const RING_PAUSE: Duration = Duration::from_millis(50);
/// How often dropped lines are put on record: each time begins a file of its own.
const SKIP_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(crate) struct LogSender {
    batches: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Message {
    Batch(LogBatch),
    End,
}

/// Lines of one worker thread, in one piece of text.
#[derive(Debug, Default)]
pub(crate) struct LogBatch {
    text: String,
    lines: Vec<BatchLine>,
}

#[derive(Debug)]
struct BatchLine {
    unix_us: u64,
    app: Uuid,
    end: usize,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines that were handed over and are not written yet.
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// Dropped, and not yet skipped in the log.
    pending: AtomicU64,
}

impl LogBatch {
    /// Adds a line that `render` appends to the text.
    pub(crate) fn push(&mut self, app: Uuid, render: impl FnOnce(&mut String)) {
        render(&mut self.text);
        self.lines.push(BatchLine { unix_us: unix_us(), app, end: self.text.len() });
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.text.len()
    }

    fn write_to(&self, writer: &mut SegmentWriter) {
        let mut begin = 0;
        let mut name = Uuid::encode_buffer();
        for line in &self.lines {
            let app = line.app.as_hyphenated().encode_lower(&mut name);
            writer.push(line.unix_us, app, &self.text.as_bytes()[begin..line.end]);
            begin = line.end;
        }
    }
}

impl LogSender {
    /// Never waits: lines that do not fit are dropped and counted.
    pub(crate) fn send(&self, batch: LogBatch, lines_max: usize) {
        let count = batch.lines.len();
        let fits = self.counts.waiting.fetch_add(count, Ordering::Relaxed) + count <= lines_max;
        if !fits || self.batches.try_send(Message::Batch(batch)).is_err() {
            self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
            self.counts.dropped.fetch_add(count as u64, Ordering::Relaxed);
            self.counts.pending.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Ends the thread once it has written everything sent before. Waits for room, so not for worker threads.
    pub(crate) fn end(&self) {
        // A thread that is gone has ended.
        self.batches.send(Message::End).unwrap_or_default();
    }

    pub(crate) fn dropped_total(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// Starts the thread on a ring that no other router writes; it ends at [`LogSender::end`].
pub(crate) fn start(data_dir: &Path) -> io::Result<(LogSender, JoinHandle<()>)> {
    let (lock, writer) = free_ring(data_dir)?;
    let (batches, receiver) = sync_channel(BATCHES_MAX);
    let counts = Arc::new(Counts::default());
    let sender = LogSender { batches, counts: counts.clone() };
    let thread = thread::Builder::new().name("request-log".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            debug!(%error, "The request log is written with the priority of requests");
        }
        write(writer, &receiver, &counts);
        drop(lock);
    })?;
    Ok((sender, thread))
}

/// The first ring that can be locked, which is to be held as long as it is written. All are taken only where a router
/// takes over while two others before it still finish requests: then one of these is waited for.
fn free_ring(data_dir: &Path) -> io::Result<(File, SegmentWriter)> {
    let deadline = Instant::now() + RING_WAIT;
    loop {
        for name in ROUTER_LOGS {
            let dir = data_dir.join(name);
            fs::create_dir_all(&dir)?;
            let lock = File::open(&dir)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok((lock, SegmentWriter::open(&dir, SEGMENT_BYTES, SEGMENTS_MAX)?)),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("too many routers of this data directory are ending; end some of them"));
        }
        thread::sleep(RING_PAUSE);
    }
}

fn write(mut writer: SegmentWriter, messages: &Receiver<Message>, counts: &Counts) {
    let mut failing = false;
    let mut skipped_at = Instant::now();
    let mut ended = false;
    let mut flushed = writer.last_sequence();
    while !ended {
        let first = messages.recv_timeout(SKIP_PERIOD);
        ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        for message in first.into_iter().chain(messages.try_iter().take(BATCHES_MAX)) {
            match message {
                Message::Batch(batch) => {
                    batch.write_to(&mut writer);
                    counts.waiting.fetch_sub(batch.lines.len(), Ordering::Relaxed);
                }
                Message::End => ended = true,
            }
        }
        let buffered = writer.last_sequence() - flushed;
        let mut written = writer.flush();
        if written.is_err() {
            counts.dropped.fetch_add(buffered, Ordering::Relaxed);
        }
        if ended || skipped_at.elapsed() >= SKIP_PERIOD {
            let skipped = counts.pending.swap(0, Ordering::Relaxed);
            if skipped > 0 {
                written = written.and(writer.skip(skipped));
            }
            skipped_at = Instant::now();
        }
        flushed = writer.last_sequence();
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
    fn the_thread_gives_way_to_requests_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, thread) = start(dir.path()).unwrap();
        // The 19th field of `stat`, counted from behind the name (proc_pid_stat(5)).
        let niceness = |task: &str| -> i32 {
            let stat = fs::read_to_string(format!("/proc/self/task/{task}/stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
        };
        let names = || fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().file_name());
        let tasks: Vec<String> = names().map(|name| name.into_string().unwrap()).collect();
        let is_log = |task: &&String| {
            fs::read_to_string(format!("/proc/self/task/{task}/comm")).is_ok_and(|name| name == "request-log\n")
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        // It is named, and made nice, a moment after it was started.
        while tasks.iter().find(is_log).is_none_or(|task| niceness(task) != NICE) {
            assert!(Instant::now() < deadline, "the thread has the priority of all others");
            thread::yield_now();
        }
        assert_eq!(niceness(&rustix::thread::gettid().as_raw_nonzero().to_string()), 0);
        sender.end();
        thread.join().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_the_gap_is_its_exact_count() {
        let dir = tempfile::tempdir().unwrap();
        let (batches, receiver) = sync_channel(100);
        let counts = Arc::new(Counts::default());
        let sender = LogSender { batches, counts: counts.clone() };
        for batch in 0..5 {
            let mut lines = LogBatch::default();
            (0..2).for_each(|line| lines.push(Uuid::nil(), |text| text.push_str(&format!("line {batch} {line}"))));
            // The second batch does not fit into what is left.
            sender.send(lines, 3);
        }
        assert_eq!(sender.dropped_total(), 8);
        let writer = SegmentWriter::open(dir.path(), SEGMENT_BYTES, SEGMENTS_MAX).unwrap();
        let thread = thread::spawn(move || write(writer, &receiver, &counts));
        sender.end();
        thread.join().unwrap();
        let mut writer = SegmentWriter::open(dir.path(), SEGMENT_BYTES, SEGMENTS_MAX).unwrap();
        writer.push(1, "after", b"after");
        writer.flush().unwrap();
        let mut reader = SegmentReader::new(dir.path(), 0);
        assert_eq!(reader.read().unwrap().records.len(), 2);
        let after = reader.read().unwrap();
        assert_eq!((after.records.len(), after.lost), (1, 8));
    }
}
