//! Copies what shims and the router write into the streams, as it is written.
//!
//! One task watches all rings by inotify. For each ring it knows where the lines go; its position is recovered from the
//! stream itself, so nothing is lost or doubled when the server restarts.

use std::collections::HashMap;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};
use uuid::Uuid;
use wire::segment::{SegmentReader, SegmentRecord};

use crate::line::{NewLine, Origin, RingPosition, overflow_line};
use crate::log_store::LogStore;

/// How often lines that found no room on the disk are tried again.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

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

impl RingTarget {
    /// The stream that remembers how far the ring was copied. The router's ring feeds many, so it has one of its own.
    fn position_stream(&self, ring: Uuid) -> Uuid {
        match self {
            Self::Process { stream, .. } => *stream,
            Self::Build { output, .. } => *output,
            Self::Router => ring,
        }
    }
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
        let task = Task { store, watcher, rings: HashMap::new(), by_watch: HashMap::new(), unread: Vec::new() };
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
    dir: PathBuf,
    reader: SegmentReader,
    target: RingTarget,
    watch: i32,
    /// When the last line that was copied was written.
    read_until_unix_us: Option<u64>,
    /// The disk was full: what the ring holds is copied later.
    waits_for_room: bool,
}

struct Task {
    store: Arc<LogStore>,
    watcher: pipe::Receiver,
    rings: HashMap<Uuid, Ring>,
    by_watch: HashMap<i32, Uuid>,
    /// Rings in which there may be more.
    unread: Vec<Uuid>,
}

enum Event {
    Command(Option<Command>),
    Written,
    /// Rings that were written to hold more.
    Unread,
    RetryDue,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut retry = interval(ROOM_PERIOD);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                command = commands.recv() => Event::Command(command),
                readable = self.watcher.readable() => match readable {
                    Ok(()) => Event::Written,
                    Err(_closed) => return,
                },
                () = ready(()), if !self.unread.is_empty() => Event::Unread,
                _now = retry.tick(), if self.rings.values().any(|ring| ring.waits_for_room) => Event::RetryDue,
            };
            match event {
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.handle(command),
                Event::Written => {
                    for ring in self.written_rings() {
                        // One that waits for room is read when there may be some, not at each line of its writer.
                        let is_read = self.rings.get(&ring).is_some_and(|ring| !ring.waits_for_room);
                        if is_read && !self.unread.contains(&ring) {
                            self.unread.push(ring);
                        }
                    }
                }
                Event::Unread => self.copy_unread(),
                Event::RetryDue => self.copy_waiting(),
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
                if let Some(known) = self.rings.remove(&ring) {
                    let rest = last_sequence.saturating_sub(known.reader.position());
                    if known.waits_for_room && rest > 0 {
                        // Its directory goes, so these lines will not come again.
                        let since = known.read_until_unix_us.unwrap_or(0);
                        self.store.count_dropped(known.target.position_stream(ring), rest, since);
                    }
                    self.by_watch.remove(&known.watch);
                    // The directory may be gone already, and the watch with it.
                    let _gone = inotify::remove_watch(&self.watcher, known.watch);
                }
                let _nobody_waits = done.send(());
            }
        }
    }

    fn watch(&mut self, id: Uuid, dir: &Path, target: RingTarget) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let copied = self.store.position(target.position_stream(id), id).map_err(io::Error::other)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        let watch = inotify::add_watch(&self.watcher, dir, flags)?;
        let ring = Ring {
            dir: dir.to_owned(),
            reader: SegmentReader::new(dir, copied.sequence),
            target,
            watch,
            read_until_unix_us: (copied.sequence > 0).then_some(copied.unix_us),
            waits_for_room: false,
        };
        self.rings.insert(id, ring);
        self.by_watch.insert(watch, id);
        Ok(())
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

    /// Copies a batch of each ring: the lines of one do not wait for the end of a flood in another.
    fn copy_unread(&mut self) {
        for ring in std::mem::take(&mut self.unread) {
            if self.copy_batch(ring) {
                self.unread.push(ring);
            }
        }
    }

    /// Copies what is new in one ring.
    fn copy(&mut self, id: Uuid) {
        while self.copy_batch(id) {}
    }

    /// Copies some of what is new in one ring. Gives whether there may be more.
    fn copy_batch(&mut self, id: Uuid) -> bool {
        let Some(ring) = self.rings.get_mut(&id) else { return false };
        let before = ring.reader.position();
        let batch = match ring.reader.read() {
            Ok(batch) => batch,
            Err(error) => {
                warn!(ring = %id, %error, "cannot read a log ring");
                return false;
            }
        };
        let Some(newest) = batch.records.last() else { return false };
        let newest_unix_us = newest.unix_us;
        let newest = RingPosition { ring: id, sequence: newest.sequence };
        let since = ring.read_until_unix_us.unwrap_or(batch.records[0].unix_us);
        let lost = (batch.lost > 0).then(|| {
            let first = &batch.records[0];
            // The number of the last line that was lost: a batch that is read again is not told twice.
            let place = RingPosition { ring: id, sequence: first.sequence - 1 };
            NewLine { copied_from: Some(place), ..overflow_line(batch.lost, since, first.unix_us) }
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
                if let Some(lost) = &lost {
                    // Of which apps they were nobody knows: of those that have lines, most likely.
                    warn!(lines = batch.lost, "Lines of the request log were lost");
                    by_stream.values_mut().for_each(|lines| lines.insert(0, lost.clone()));
                }
                let mark = NewLine {
                    unix_us: newest_unix_us,
                    origin: Origin::Heroku,
                    process: "router".to_owned(),
                    text: Vec::new(),
                    copied_from: Some(newest),
                };
                by_stream.insert(id, lost.into_iter().chain([mark]).collect());
            }
        }
        if !self.store_lines(id, by_stream) {
            if let Some(ring) = self.rings.get_mut(&id) {
                ring.reader = SegmentReader::new(&ring.dir, before);
                ring.waits_for_room = true;
            }
            return false;
        }
        let Some(ring) = self.rings.get_mut(&id) else { return false };
        ring.waits_for_room = false;
        ring.read_until_unix_us = Some(newest_unix_us);
        true
    }

    /// Stores a batch; false if it must be read again because the disk is full.
    ///
    /// The stream that remembers the ring's position comes last: after a restart, too, nothing is taken for copied that
    /// another stream lacks. What is already there is left out when it comes again.
    fn store_lines(&self, ring: Uuid, mut by_stream: HashMap<Uuid, Vec<NewLine>>) -> bool {
        let position = self.rings.get(&ring).map_or(ring, |known| known.target.position_stream(ring));
        let last = by_stream.remove(&position).map(|lines| (position, lines));
        for (stream, lines) in by_stream.into_iter().chain(last) {
            let Err(error) = self.store.append_or_nothing(stream, &lines) else { continue };
            if error.is_full_disk() {
                debug!(%stream, %error, "cannot store log lines yet");
                return false;
            }
            // Of this stream alone: it must not hold up the others that the ring feeds.
            warn!(%stream, %error, "cannot store log lines");
            self.store.count_dropped(stream, lines.len() as u64, lines[0].unix_us);
        }
        true
    }

    /// Tries once more to copy the rings that found no room.
    fn copy_waiting(&mut self) {
        let waiting: Vec<Uuid> =
            self.rings.iter().filter(|(_id, ring)| ring.waits_for_room).map(|(id, _ring)| *id).collect();
        for ring in waiting {
            self.copy(ring);
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

#[cfg(test)]
mod tests {
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

    fn task(store: &Arc<LogStore>) -> Task {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watcher = pipe::Receiver::from_owned_fd_unchecked(inotify::init(flags).unwrap()).unwrap();
        Task { store: Arc::clone(store), watcher, rings: HashMap::new(), by_watch: HashMap::new(), unread: Vec::new() }
    }

    #[tokio::test]
    async fn a_flood_in_one_ring_does_not_hold_up_the_lines_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (flood, other) = (Uuid::new_v4(), Uuid::new_v4());
        let store = Arc::new(LogStore::new(&dir.path().join("logs"), StreamLimits::default()));
        let mut task = task(&store);
        let mut ring = |ring: Uuid, lines: usize| {
            let ring_dir = dir.path().join(ring.to_string());
            let target = RingTarget::Process { stream: ring, output: None, process: "web.1".to_owned() };
            task.handle(Command::Add { ring, dir: ring_dir.clone(), target });
            let mut writer = SegmentWriter::open(&ring_dir, 16 << 20, 3).unwrap();
            (0..lines).for_each(|_line| writer.push(1, "out", &[b'x'; 1000]));
            writer.flush().unwrap();
            task.unread.push(ring);
        };
        // More than one batch.
        ring(flood, 3000);
        ring(other, 1);
        task.copy_unread();
        assert_eq!(store.last_sequence(other).unwrap(), 1);
        assert!((1..3000).contains(&store.last_sequence(flood).unwrap()));
        while !task.unread.is_empty() {
            task.copy_unread();
        }
        assert_eq!(store.last_sequence(flood).unwrap(), 3000);
    }

    #[tokio::test]
    async fn a_loss_is_dated_from_the_last_line_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, app) = (Uuid::new_v4(), Uuid::new_v4());
        let store = Arc::new(LogStore::new(&dir.path().join("logs"), StreamLimits::default()));
        let mut writer = SegmentWriter::open(&dir.path().join("ring"), 1000, 2).unwrap();
        let mut task = task(&store);
        let target = RingTarget::Process { stream: app, output: None, process: "web.1".to_owned() };
        task.handle(Command::Add { ring, dir: dir.path().join("ring"), target: target.clone() });
        let mut second = 0;
        let mut write = |lines: u64| {
            for _line in 0..lines {
                second += 1;
                writer.push(second * 1_000_000, "out", b"line");
                writer.flush().unwrap();
            }
        };
        // Each told loss with the time of the line that stands before it.
        let told = || {
            let lines = store.last_lines(app, &Filter::default(), 10_000).unwrap();
            let losses = lines.windows(2).filter(|two| two[1].process == "logplex");
            losses.map(|two| (two[0].unix_us / 1_000_000, two[1].text.clone())).collect::<Vec<_>>()
        };
        write(1);
        task.copy(ring);
        write(500);
        task.copy(ring);
        // A new server knows the time from the stream.
        let mut restarted = self::task(&store);
        write(500);
        restarted.handle(Command::Add { ring, dir: dir.path().join("ring"), target });
        let told = told();
        assert_eq!(told.len(), 2, "{told:?}");
        for (second, text) in told {
            let since = jiff::Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
            assert!(text.ends_with(&format!(" messages dropped since {since}.")), "{second}: {text}");
        }
    }

    /// A file system of its own, so small that it can be filled.
    struct SmallDisk(PathBuf);

    impl SmallDisk {
        fn mount(at: PathBuf) -> Self {
            std::fs::create_dir(&at).unwrap();
            let none = rustix::mount::MountFlags::empty();
            rustix::mount::mount(c"tmpfs", &at, c"tmpfs", none, c"size=512k").unwrap();
            Self(at)
        }

        fn fill(&self) {
            use std::io::Write as _;
            let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
            while ballast.write_all(&[0; 4096]).is_ok() {}
        }

        fn make_room(&self) {
            std::fs::remove_file(self.0.join("ballast")).unwrap();
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }

    #[tokio::test]
    async fn lines_that_find_no_room_come_later_or_are_counted() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("CI").is_err(), "needs root to mount a small file system");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (ring, app) = (Uuid::new_v4(), Uuid::new_v4());
        let disk = SmallDisk::mount(dir.path().join("logs"));
        let store = Arc::new(LogStore::new(&disk.0, StreamLimits::default()));
        let mut writer = SegmentWriter::open(&dir.path().join("ring"), 1 << 20, 3).unwrap();
        let mut task = task(&store);
        let target = RingTarget::Process { stream: app, output: None, process: "web.1".to_owned() };
        task.handle(Command::Add { ring, dir: dir.path().join("ring"), target });
        let mut written = 0;
        let mut write = |lines: u64| {
            for _line in 0..lines {
                written += 1;
                writer.push(1_000_000, "out", format!("{written} {}", "x".repeat(200)).as_bytes());
            }
            writer.flush().unwrap();
        };
        write(1);
        task.copy(ring);
        disk.fill();
        write(300);
        task.copy(ring);
        assert!(task.rings[&ring].waits_for_room);
        // A line of the platform's own is in no ring.
        let own = NewLine { text: vec![b'p'; 9000], ..NewLine::platform(jiff::Timestamp::UNIX_EPOCH, "api", "") };
        assert!(store.append(app, &[own]).unwrap_err().is_full_disk());
        task.copy_waiting();
        assert!(task.rings[&ring].waits_for_room);

        disk.make_room();
        task.copy_waiting();
        assert!(!task.rings[&ring].waits_for_room);
        let lines = || store.last_lines(app, &Filter::default(), 10_000).unwrap();
        assert!(lines().windows(2).all(|two| two[1].sequence == two[0].sequence + 1), "readers see no loss");
        let numbers: Vec<u64> =
            lines().iter().filter_map(|line| line.text.split(' ').next().unwrap().parse().ok()).collect();
        assert_eq!(numbers, (1..=301).collect::<Vec<_>>());
        let told = || -> Vec<String> {
            lines().into_iter().filter(|line| line.process == "logplex").map(|line| line.text).collect()
        };
        let one = "Error L10 (output buffer overflow): 1 messages dropped since 1970-01-01T00:00:00Z.";
        assert_eq!(told(), [one]);

        // A process that ends while there is no room takes its ring with it.
        disk.fill();
        write(300);
        task.copy(ring);
        let (done, _finished) = oneshot::channel();
        task.handle(Command::Finish { ring, last_sequence: 601, done });
        disk.make_room();
        store.append(app, &[NewLine::platform(jiff::Timestamp::UNIX_EPOCH, "api", "after")]).unwrap();
        let many = "Error L10 (output buffer overflow): 300 messages dropped since 1970-01-01T00:00:01Z.";
        assert_eq!(told(), [one, many]);
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
        assert_eq!(store.position(ring, ring).unwrap().sequence, 3);
    }

    #[tokio::test]
    async fn what_the_request_log_lost_is_told_to_the_apps_that_have_lines_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, app, quiet) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let mut writer = SegmentWriter::open(&dir.path().join("ring"), 1 << 20, 3).unwrap();
        writer.push(1_000_000, &quiet.to_string(), b"at=info a");
        writer.skip(5).unwrap();
        writer.push(2_000_000, &app.to_string(), b"at=info b");
        writer.flush().unwrap();
        let store = Arc::new(LogStore::new(&dir.path().join("logs"), StreamLimits::default()));
        let ingest = Ingest::start(Arc::clone(&store)).unwrap();
        ingest.add(ring, &dir.path().join("ring"), RingTarget::Router);
        let told = "logplex: Error L10 (output buffer overflow): 5 messages dropped since 1970-01-01T00:00:01Z.";
        assert_eq!(lines_of(&store, app, 2).await, [told, "router: at=info b"]);
        assert_eq!(lines_of(&store, quiet, 1).await, ["router: at=info a"]);
    }
}
