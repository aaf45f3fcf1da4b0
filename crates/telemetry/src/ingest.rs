//! Copies what shims and the router write into the streams, as it is written.
//!
//! One task watches all rings by inotify. For each ring it knows where the lines go; its position is recovered from the
//! stream itself, so nothing is lost or doubled when the server restarts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use uuid::Uuid;
use wire::segment::{SegmentReader, SegmentRecord};

use crate::line::{NewLine, Origin, RingPosition};
use crate::log_store::LogStore;

/// Where the lines of a ring go.
#[derive(Debug, Clone)]
pub enum RingTarget {
    /// One process: its lines go to the stream, and what it prints itself to its output, if it has one.
    Process { stream: Uuid, output: Option<Uuid>, process: String },
    /// A build: what it prints itself goes to its output, with the secrets that it knows masked.
    Build { output: Uuid, mask: Mask },
    /// The router: the tag of each record is the app whose stream it belongs to.
    Router,
}

/// Hides secrets in a line.
#[derive(Clone)]
pub struct Mask(pub Arc<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}

#[derive(Debug)]
enum Command {
    Add { ring: Uuid, dir: PathBuf, target: RingTarget },
    Finish { ring: Uuid, last_sequence: u64, done: oneshot::Sender<()> },
}

/// Handle of the ingest task.
#[derive(Debug, Clone)]
pub struct Ingest {
    commands: mpsc::UnboundedSender<Command>,
}

impl Ingest {
    /// Starts the task. It ends when the last handle is dropped.
    pub fn start(store: Arc<LogStore>) -> io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        // An inotify descriptor reads like a pipe: this is tokio's safe way to wait for one.
        let watcher = pipe::Receiver::from_owned_fd_unchecked(inotify::init(flags)?)?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let task = Task { store, watcher, rings: HashMap::new(), by_watch: HashMap::new() };
        tokio::spawn(task.run(receiver));
        Ok(Self { commands })
    }

    /// Copies a ring from now on, beginning after what its first stream already has. Adding it twice does no harm.
    pub fn add(&self, ring: Uuid, dir: &Path, target: RingTarget) {
        // The task lives as long as any handle does.
        drop(self.commands.send(Command::Add { ring, dir: dir.to_owned(), target }));
    }

    /// Copies the rest of a ring whose writer has ended, up to `last_sequence`, and forgets it.
    pub async fn finish(&self, ring: Uuid, last_sequence: u64) {
        let (done, finished) = oneshot::channel();
        drop(self.commands.send(Command::Finish { ring, last_sequence, done }));
        drop(finished.await);
    }
}

struct Ring {
    reader: SegmentReader,
    target: RingTarget,
    watch: i32,
}

struct Task {
    store: Arc<LogStore>,
    watcher: pipe::Receiver,
    rings: HashMap<Uuid, Ring>,
    by_watch: HashMap<i32, Uuid>,
}

enum Event {
    Command(Option<Command>),
    Written,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let event = tokio::select! {
                command = commands.recv() => Event::Command(command),
                ready = self.watcher.readable() => match ready {
                    Ok(()) => Event::Written,
                    Err(_closed) => return,
                },
            };
            match event {
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.handle(command),
                Event::Written => {
                    for ring in self.written_rings() {
                        self.copy(ring);
                    }
                }
            }
            // One busy ring must not starve the rest of the runtime.
            tokio::task::yield_now().await;
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Add { ring, dir, target } => {
                if self.rings.contains_key(&ring) {
                    return;
                }
                match self.watch(ring, &dir, target) {
                    Ok(()) => self.copy(ring),
                    Err(error) => warn!(ring = %ring, %error, "cannot follow the log in {}", dir.display()),
                }
            }
            Command::Finish { ring, last_sequence, done } => {
                while self.rings.get(&ring).is_some_and(|ring| ring.reader.position() < last_sequence) {
                    let before = self.rings.get(&ring).map(|ring| ring.reader.position());
                    self.copy(ring);
                    if self.rings.get(&ring).map(|ring| ring.reader.position()) == before {
                        break;
                    }
                }
                if let Some(ring) = self.rings.remove(&ring) {
                    self.by_watch.remove(&ring.watch);
                    // The directory may be gone already, and the watch with it.
                    let _gone = inotify::remove_watch(&self.watcher, ring.watch);
                }
                let _nobody_waits = done.send(());
            }
        }
    }

    fn watch(&mut self, id: Uuid, dir: &Path, target: RingTarget) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let after = match &target {
            RingTarget::Build { output, .. } => self.store.position(*output, id).map_err(io::Error::other)?,
            RingTarget::Process { stream, .. } => self.store.position(*stream, id).map_err(io::Error::other)?,
            RingTarget::Router => self.router_position(id),
        };
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        let watch = inotify::add_watch(&self.watcher, dir, flags)?;
        self.rings.insert(id, Ring { reader: SegmentReader::new(dir, after), target, watch });
        self.by_watch.insert(watch, id);
        Ok(())
    }

    /// The router's ring feeds many streams; a stream of its own remembers how far it was copied.
    fn router_position(&self, ring: Uuid) -> u64 {
        self.store.position(ring, ring).unwrap_or(0)
    }

    fn written_rings(&self) -> Vec<Uuid> {
        let mut buffer = [0; 16 * 1024];
        let mut rings: Vec<Uuid> = Vec::new();
        // Reading until it would block is what makes the next wait wait.
        while let Ok(size) = self.watcher.try_read(&mut buffer) {
            for (watch, overflowed) in events(&buffer[..size]) {
                if overflowed {
                    rings = self.rings.keys().copied().collect();
                } else if let Some(ring) = self.by_watch.get(&watch)
                    && !rings.contains(ring)
                {
                    rings.push(*ring);
                }
            }
        }
        rings
    }

    /// Copies what is new in one ring.
    fn copy(&mut self, id: Uuid) {
        let Some(ring) = self.rings.get_mut(&id) else { return };
        loop {
            let batch = match ring.reader.read() {
                Ok(batch) => batch,
                Err(error) => {
                    warn!(ring = %id, %error, "cannot read a log ring");
                    return;
                }
            };
            let Some(newest) = batch.records.last() else { return };
            let newest = RingPosition { ring: id, sequence: newest.sequence };
            let lost = (batch.lost > 0).then(|| {
                let at = batch.records[0].unix_us;
                let text = format!(
                    "Error L10 (output buffer overflow): {} messages dropped since {}.",
                    batch.lost,
                    rfc3339(at)
                );
                NewLine {
                    unix_us: at,
                    origin: Origin::Heroku,
                    process: "logplex".to_owned(),
                    text: text.into_bytes(),
                    copied_from: None,
                }
            });
            let mut by_stream: HashMap<Uuid, Vec<NewLine>> = HashMap::new();
            match &ring.target {
                RingTarget::Process { stream, output, process } => {
                    if let Some(output) = output {
                        // For pipes: `run cat > file` must give the file and no word more.
                        let printed = batch.records.iter().filter(|record| record.tag != SHIM_TAG);
                        let printed = printed.map(|record| copied(id, process, record.clone()));
                        by_stream.insert(*output, lost.clone().into_iter().chain(printed).collect());
                    }
                    let lines = batch.records.into_iter().map(|record| copied(id, process, record));
                    by_stream.insert(*stream, lost.into_iter().chain(lines).collect());
                }
                RingTarget::Build { output, mask } => {
                    // What the shim says of a build (exit status, signals) is told in better words by whoever runs it.
                    let printed = batch.records.into_iter().filter(|record| record.tag != SHIM_TAG).map(|record| {
                        let line = copied(id, "build", record);
                        NewLine { text: mask.0(line.text), ..line }
                    });
                    by_stream.insert(*output, lost.into_iter().chain(printed).collect());
                }
                RingTarget::Router => {
                    for record in batch.records {
                        let Ok(app) = Uuid::try_parse(&record.tag) else { continue };
                        by_stream.entry(app).or_default().push(NewLine {
                            unix_us: record.unix_us,
                            origin: Origin::Heroku,
                            process: "router".to_owned(),
                            copied_from: Some(RingPosition { ring: id, sequence: record.sequence }),
                            text: record.text,
                        });
                    }
                    let mark = NewLine {
                        unix_us: 0,
                        origin: Origin::Heroku,
                        process: "router".to_owned(),
                        text: Vec::new(),
                        copied_from: Some(newest),
                    };
                    by_stream.insert(id, lost.into_iter().chain([mark]).collect());
                }
            }
            for (stream, lines) in by_stream {
                if let Err(error) = self.store.append(stream, &lines) {
                    warn!(stream = %stream, %error, "cannot store log lines");
                }
            }
        }
    }
}

/// Splits what was read from inotify into watch descriptors, with a mark where the kernel's queue overflowed.
/// Layout: inotify(7), `struct inotify_event`.
fn events(mut bytes: &[u8]) -> Vec<(i32, bool)> {
    let mut events = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let overflowed = u32::from_ne_bytes(word(4)) & inotify::ReadFlags::QUEUE_OVERFLOW.bits() != 0;
        events.push((i32::from_ne_bytes(word(0)), overflowed));
        let name_bytes = u32::from_ne_bytes(word(12)) as usize;
        bytes = rest.get(name_bytes..).unwrap_or_default();
    }
    events
}

/// Tag of the lines that a shim adds to what its process prints.
const SHIM_TAG: &str = "shim";

fn copied(ring: Uuid, process: &str, record: SegmentRecord) -> NewLine {
    NewLine {
        unix_us: record.unix_us,
        origin: if record.tag == SHIM_TAG { Origin::Heroku } else { Origin::App },
        process: process.to_owned(),
        copied_from: Some(RingPosition { ring, sequence: record.sequence }),
        text: record.text,
    }
}

fn rfc3339(unix_us: u64) -> String {
    let micros = i64::try_from(unix_us).unwrap_or(0);
    jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::segment::SegmentWriter;

    use super::*;
    use crate::filter::Filter;
    use crate::log_store::StreamLimits;

    async fn lines_of(store: &LogStore, stream: Uuid, count: usize) -> Vec<String> {
        let mut follower = store.follow(stream, 0, Filter::default()).unwrap();
        let mut texts = Vec::new();
        while texts.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(10), follower.next()).await.unwrap().unwrap();
            texts.extend(next.unwrap().lines.into_iter().map(|line| format!("{}: {}", line.process, line.text)));
        }
        texts
    }

    #[tokio::test]
    async fn what_a_shim_writes_arrives_once_even_across_a_restart_of_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let (ring_dir, ring, app) = (dir.path().join("ring"), Uuid::new_v4(), Uuid::new_v4());
        let mut writer = SegmentWriter::open(&ring_dir, 1 << 20, 3).unwrap();
        let mut write = |text: &str| {
            writer.push(1, "out", text.as_bytes());
            writer.flush().unwrap();
        };
        let target = RingTarget::Process { stream: app, output: None, process: "web.1".to_owned() };
        let start = || {
            let store = Arc::new(LogStore::new(&dir.path().join("logs"), StreamLimits::default()));
            let ingest = Ingest::start(Arc::clone(&store)).unwrap();
            ingest.add(ring, &ring_dir, target.clone());
            (store, ingest)
        };
        write("before");
        let (store, ingest) = start();
        assert_eq!(lines_of(&store, app, 1).await, ["web.1: before"]);
        write("live");
        assert_eq!(lines_of(&store, app, 2).await, ["web.1: before", "web.1: live"]);
        drop((store, ingest));
        write("while away");
        let (store, ingest) = start();
        write("last");
        ingest.finish(ring, 4).await;
        assert_eq!(
            lines_of(&store, app, 4).await,
            ["web.1: before", "web.1: live", "web.1: while away", "web.1: last"]
        );
    }

    #[tokio::test]
    async fn router_lines_go_to_the_app_that_they_name() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, app, other) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let mut writer = SegmentWriter::open(&dir.path().join("ring"), 1 << 20, 3).unwrap();
        for (target, text) in [(app, "at=info a"), (other, "at=info b"), (app, "at=info c")] {
            writer.push(1, &target.to_string(), text.as_bytes());
        }
        writer.flush().unwrap();
        let store = Arc::new(LogStore::new(&dir.path().join("logs"), StreamLimits::default()));
        let ingest = Ingest::start(Arc::clone(&store)).unwrap();
        ingest.add(ring, &dir.path().join("ring"), RingTarget::Router);
        assert_eq!(lines_of(&store, app, 2).await, ["router: at=info a", "router: at=info c"]);
        assert_eq!(lines_of(&store, other, 1).await, ["router: at=info b"]);
        assert_eq!(store.position(ring, ring).unwrap(), 3);
    }
}
