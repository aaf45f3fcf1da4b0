//! The client's side of an attached one-off: what is typed goes there, what it writes comes here, and a network that is
//! cut is waited for.
//!
//! One loop over the socket and a bell; two threads that wait for what cannot be polled (the standard input, signals)
//! put events into channels and ring it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use domain::replay::{Replay, fresh};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGHUP;
use wire::run_session::{DATA_BYTES_MAX, FromClient, FromServer, INPUT_BYTES_MAX, MESSAGE_BYTES_MAX, RECEIVED};

use crate::context::Login;
use crate::output::Output;
use crate::terminal::{self, Event, RawTerminal};
use crate::visit::Unfinished;
use crate::web_socket::{ConnectError, Socket};

/// How long the network may be away. The server waits as long.
const AWAY_MAX: Duration = Duration::from_secs(5 * 60);
/// Between two attempts to come back: the first pause, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for this long is cut: the server gives a sign of life every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pieces of input that wait to be sent.
const PIECES_MAX: usize = 4;

/// How the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exited {
    pub(crate) status: Option<i32>,
    pub(crate) reason: String,
}

/// Serves a one-off at `path` of the server until it has ended. With `terminal`, this process's terminal is its own.
pub(crate) fn serve(login: &Login, out: Output, path: &str, terminal: bool) -> anyhow::Result<Exited> {
    // With `--json`, the standard output is for the result.
    let sink: Box<dyn io::Write> = if out.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
    let mut session = Session::start(terminal, sink)?;
    // Given back however this ends.
    let _raw = terminal.then(RawTerminal::enter).transpose()?;
    let mut away_since: Option<Instant> = None;
    let mut pause = PAUSE_MIN;
    loop {
        let target = format!("{path}?{RECEIVED}={}", session.received);
        let cut = match Socket::connect(login, &target, MESSAGE_BYTES_MAX) {
            Ok(socket) => match session.exchange(socket)? {
                Ended::Exited(exited) => return Ok(exited),
                Ended::Cut { welcomed } => {
                    if welcomed {
                        (away_since, pause) = (None, PAUSE_MIN);
                    }
                    "the connection was cut".to_owned()
                }
            },
            Err(ConnectError::Refused(error) | ConnectError::Gone(error)) => {
                return Err(error.context("cannot attach to the one-off"));
            }
            Err(ConnectError::Cut(error)) => crate::output::chain(error.as_ref()),
        };
        let since = *away_since.get_or_insert_with(|| {
            out.warn(format_args!("{cut}; trying to come back.\r"));
            Instant::now()
        });
        if since.elapsed() > AWAY_MAX {
            let minutes = AWAY_MAX.as_secs() / 60;
            bail!(Unfinished::Ended(format!("the server could not be reached for {minutes} minutes: {cut}")));
        }
        session.rest(pause)?;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How an exchange over one connection ended.
enum Ended {
    Exited(Exited),
    Cut { welcomed: bool },
}

struct Session {
    bell: UnixStream,
    pieces: Receiver<Vec<u8>>,
    events: Receiver<Event>,
    terminal: bool,
    input: Replay,
    /// The offset of the end of the input, once it is known.
    input_end: Option<u64>,
    /// The offset behind the last byte of output that is written.
    received: u64,
    interrupted: bool,
    out: Box<dyn io::Write>,
}

impl Session {
    fn start(terminal: bool, out: Box<dyn io::Write>) -> anyhow::Result<Self> {
        let (bell, ringer) = terminal::bell()?;
        let (piece_sender, pieces) = sync_channel(PIECES_MAX);
        let events = terminal::watch_signals(ringer.try_clone().context("cannot make a pair of sockets")?)?;
        thread::spawn(move || read_input(piece_sender, &ringer));
        Ok(Self {
            bell,
            pieces,
            events,
            terminal,
            input: Replay::new(INPUT_BYTES_MAX),
            input_end: None,
            received: 0,
            interrupted: false,
            out,
        })
    }

    /// Waits before the next attempt to come back. A signal does not wait.
    fn rest(&mut self, pause: Duration) -> anyhow::Result<()> {
        thread::sleep(pause);
        while let Ok(event) = self.events.try_recv() {
            if let Event::Signal(_) = event {
                bail!("given up while the server was away; the one-off ends by itself");
            }
        }
        Ok(())
    }

    /// Carries bytes over one connection.
    fn exchange(&mut self, mut socket: Socket) -> anyhow::Result<Ended> {
        let mut link = Link { sent: 0, end_sent: false, welcomed: false, words: VecDeque::new() };
        if self.terminal {
            link.words.extend(terminal::size().map(FromClient::Resize));
        }
        loop {
            match self.step(&mut socket, &mut link) {
                Ok(None) => {}
                Ok(Some(exited)) => {
                    socket.close();
                    return Ok(Ended::Exited(exited));
                }
                Err(StepError::Cut) => return Ok(Ended::Cut { welcomed: link.welcomed }),
                Err(StepError::Fatal(error)) => {
                    socket.close();
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self, socket: &mut Socket, link: &mut Link) -> Result<Option<Exited>, StepError> {
        let before = self.received;
        while let Some(bytes) = socket.read()? {
            match FromServer::parse(&bytes).map_err(|error| StepError::Fatal(error.into()))? {
                FromServer::Welcome { offset } => {
                    // It has arrived, but there is room for more only when it is written.
                    (link.sent, link.welcomed) = (offset, true);
                }
                FromServer::Received { offset } => {
                    self.input.acknowledge(offset).map_err(|error| StepError::Fatal(error.into()))?;
                }
                FromServer::Output { offset, bytes } => self.write(offset, &bytes)?,
                FromServer::Exited { status, reason } => return Ok(Some(Exited { status, reason })),
                FromServer::Failed { message } => return Err(StepError::Fatal(Unfinished::Ended(message).into())),
            }
            // Others have a turn, too: a process that writes for ever must hear Ctrl-C.
            if self.received - before > RECEIVED_BYTES_MAX {
                break;
            }
        }
        if self.received > before {
            link.words.push_back(FromClient::Received { offset: self.received });
        }
        self.collect(link)?;
        if link.welcomed {
            self.send(socket, link)?;
        }
        let flushed = socket.flush()?;
        if socket.silent_for() > SILENCE_MAX {
            return Err(StepError::Cut);
        }
        let wanted = if flushed { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        if self.received - before <= RECEIVED_BYTES_MAX {
            wait(socket, wanted, &self.bell);
        }
        Ok(None)
    }

    /// Takes what happened here.
    fn collect(&mut self, link: &mut Link) -> Result<(), StepError> {
        terminal::silence(&self.bell);
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Resized if self.terminal => link.words.extend(terminal::size().map(FromClient::Resize)),
                Event::Resized => {}
                Event::Signal(signal) if signal == SIGHUP || self.interrupted => {
                    return Err(StepError::Fatal(anyhow::anyhow!("you have left; the one-off is hung up")));
                }
                Event::Signal(signal) => {
                    self.interrupted = true;
                    link.words.push_back(FromClient::Signal { signal });
                }
            }
        }
        while self.input_end.is_none() && self.input.room() >= DATA_BYTES_MAX {
            match self.pieces.try_recv() {
                Ok(piece) => self.input.push(&piece),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.input_end = Some(self.input.end()),
            }
        }
        Ok(())
    }

    fn send(&self, socket: &mut Socket, link: &mut Link) -> Result<(), StepError> {
        while let Some(word) = link.words.pop_front() {
            socket.write(word.to_bytes())?;
        }
        while link.sent < self.input.end() {
            let offset = link.sent;
            let bytes = self.input.from(offset, DATA_BYTES_MAX).map_err(|error| StepError::Fatal(error.into()))?;
            link.sent += bytes.len() as u64;
            socket.write(FromClient::Input { offset, bytes }.to_bytes())?;
        }
        if let (Some(offset), false) = (self.input_end, link.end_sent) {
            link.end_sent = true;
            socket.write(FromClient::End { offset }.to_bytes())?;
        }
        Ok(())
    }

    /// Writes what is new. What cannot be written is an error as it would be for the process itself.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StepError> {
        let fatal = |error: anyhow::Error| StepError::Fatal(error);
        let new = fresh(self.received, offset, bytes).map_err(|error| fatal(error.into()))?;
        self.out
            .write_all(new)
            .and_then(|()| self.out.flush())
            .map_err(|error| fatal(anyhow::Error::from(error).context("cannot write the output of the one-off")))?;
        self.received += new.len() as u64;
        Ok(())
    }
}

/// Output that is taken before anything else has its turn.
const RECEIVED_BYTES_MAX: u64 = 256 * 1024;

/// What is known of one connection.
struct Link {
    /// The offset behind the last byte of input that was sent on it.
    sent: u64,
    end_sent: bool,
    welcomed: bool,
    words: VecDeque<FromClient>,
}

enum StepError {
    Cut,
    Fatal(anyhow::Error),
}

impl From<tungstenite::Error> for StepError {
    fn from(_error: tungstenite::Error) -> Self {
        Self::Cut
    }
}

/// Waits until the socket or the bell has something, or a second has passed.
fn wait(socket: &Socket, wanted: PollFlags, bell: &UnixStream) {
    let descriptor = socket.as_fd();
    let mut polled = [PollFd::from_borrowed_fd(descriptor, wanted), PollFd::new(bell, PollFlags::IN)];
    // Interrupted, it is as if the time had passed.
    poll(&mut polled, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).ok();
}

/// Ends when the input does; that the channel is closed says so.
fn read_input(pieces: SyncSender<Vec<u8>>, ringer: &UnixStream) {
    let mut bytes = vec![0; DATA_BYTES_MAX];
    let mut input = io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut bytes) {
        if pieces.send(bytes[..count].to_vec()).is_err() {
            return;
        }
        terminal::ring(ringer);
    }
    drop(pieces);
    terminal::ring(ringer);
}
