//! This side of a visit to a dyno that runs: bytes between a WebSocket of the server's and something here.
//!
//! A session is opened once, and has a WebSocket for each visit. One that is over (the dyno was replaced, nothing came for
//! an hour) is opened anew by the next visit.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGHUP;
use thiserror::Error;
use wire::platform_api::exec::VisitSession;
use wire::visit::{DATA_BYTES_MAX, MESSAGE_BYTES_MAX, Message, WINDOW_BYTES, Wish};

use crate::api_client::{ApiClient, ApiResult, path};
use crate::context::{Context, Login};
use crate::output;
use crate::terminal::{self, Event};
use crate::web_socket::{ConnectError, Socket};

/// A connection on which nothing comes for this long is cut: the server gives a sign of life every ten seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The dyno where visits go that name none.
const DYNO_DEFAULT: &str = "web.1";

/// Who comes, and to which dyno.
#[derive(Debug)]
pub(crate) struct Visitor {
    client: ApiClient,
    login: Login,
    app: String,
    session: Mutex<VisitSession>,
}

impl Visitor {
    pub(crate) fn new(context: &Context, dyno: Option<&str>) -> anyhow::Result<Self> {
        let (client, app) = context.app()?;
        let session = open(&client, &app, dyno.unwrap_or(DYNO_DEFAULT))?;
        Ok(Self { client, login: context.login()?, app, session: Mutex::new(session) })
    }

    /// Its name.
    pub(crate) fn dyno(&self) -> String {
        self.session().dyno
    }

    /// Comes to the dyno. When this returns, the program runs there or the connection is made.
    pub(crate) fn come(&self, wish: Wish) -> anyhow::Result<Socket> {
        let session = self.session();
        let socket = match self.connect(&session.id) {
            Err(ConnectError::Gone(_over)) => {
                let again = open(&self.client, &self.app, &session.dyno)?;
                let socket = self.connect(&again.id);
                *self.session.lock().unwrap_or_else(PoisonError::into_inner) = again;
                socket
            }
            other => other,
        };
        let mut socket = socket.map_err(|error| match error {
            ConnectError::Refused(error) | ConnectError::Gone(error) | ConnectError::Cut(error) => error,
        })?;
        begin(&mut socket, wish)?;
        Ok(socket)
    }

    fn connect(&self, session: &str) -> Result<Socket, ConnectError> {
        let target = path(&["berth", "apps", &self.app, "visits", session]);
        Socket::connect(&self.login, &target, MESSAGE_BYTES_MAX)
    }

    fn session(&self) -> VisitSession {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn open(client: &ApiClient, app: &str, dyno: &str) -> ApiResult<VisitSession> {
    client.post(&path(&["berth", "apps", app, "dynos", dyno, "visits"]), &serde_json::json!({}))
}

/// Says what the visit is for, and waits until it has begun.
fn begin(socket: &mut Socket, wish: Wish) -> anyhow::Result<()> {
    socket.write(Message::Wish(wish).to_bytes())?;
    loop {
        let flushed = socket.flush().map_err(Unfinished::from)?;
        match socket.read().map_err(Unfinished::from)?.map(|bytes| Message::parse(&bytes)).transpose()? {
            Some(Message::Begun) => return Ok(()),
            Some(Message::Failed { message }) => bail!(message),
            Some(_other) => bail!("the server begins a visit with something else"),
            None if socket.silent_for() > SILENCE_MAX => return Err(Unfinished::silent().into()),
            None => wait(&mut [PollFd::new(&*socket, wanted(!flushed))]),
        }
    }
}

/// A visit, or a session in a one-off, is over before its program has ended, and nobody here knows how that would have.
/// Its exit code is like that of `ssh`.
#[derive(Debug, Error)]
pub(crate) enum Unfinished {
    /// Not with its cause as a source: a broken pipe would be taken for that of our own output.
    #[error("the connection to the server was cut: {0}")]
    Cut(String),
    /// The server's words.
    #[error("{0}")]
    Ended(String),
}

impl Unfinished {
    pub(crate) const EXIT_CODE: u8 = 255;

    fn silent() -> Self {
        Self::Cut(format!("nothing came for {} seconds", SILENCE_MAX.as_secs()))
    }
}

impl From<tungstenite::Error> for Unfinished {
    fn from(error: tungstenite::Error) -> Self {
        Self::Cut(output::chain(&error))
    }
}

/// What bytes come from here and go to here.
pub(crate) struct Here<'a> {
    /// Never waits.
    pub(crate) input: Option<BorrowedFd<'a>>,
    pub(crate) output: &'a mut dyn Write,
    /// Where the output may have to be waited for.
    pub(crate) output_descriptor: Option<BorrowedFd<'a>>,
    pub(crate) errors: &'a mut dyn Write,
    pub(crate) happenings: Option<&'a Happenings>,
}

/// What happens here besides input, and what can be polled for it.
#[derive(Debug)]
pub(crate) struct Happenings {
    events: Receiver<Event>,
    bell: UnixStream,
    /// Whether the program has a terminal, of the size of this one.
    terminal: bool,
}

impl Happenings {
    pub(crate) fn watch(terminal: bool) -> anyhow::Result<Self> {
        let (bell, ringer) = terminal::bell()?;
        Ok(Self { events: terminal::watch_signals(ringer)?, bell, terminal })
    }
}

/// Carries bytes both ways until the visit is over; gives a program's exit code.
///
/// # Errors
/// The connection is cut, something here cannot be written, or whoever sits here has left. In each case the server hangs
/// the visit up.
pub(crate) fn carry(mut socket: Socket, here: Here<'_>) -> anyhow::Result<Option<i32>> {
    let mut carrier =
        Carrier { here, pending: VecDeque::new(), taken: 0, room: WINDOW_BYTES, interrupted: false, ended: None };
    let carried = loop {
        match carrier.step(&mut socket) {
            Ok(None) => {}
            Ok(Some(status)) => break Ok(status),
            Err(error) => break Err(error),
        }
    };
    socket.close();
    carried
}

struct Carrier<'a> {
    here: Here<'a>,
    /// Output that waits to be written.
    pending: VecDeque<u8>,
    /// Bytes that were written and are not acknowledged.
    taken: usize,
    /// Bytes of input that may be sent.
    room: usize,
    interrupted: bool,
    /// The last word, once it has come.
    ended: Option<Option<i32>>,
}

impl Carrier<'_> {
    fn step(&mut self, socket: &mut Socket) -> anyhow::Result<Option<Option<i32>>> {
        // The server sends no more than a window, so this ends.
        while self.ended.is_none()
            && let Some(bytes) = socket.read().map_err(Unfinished::from)?
        {
            self.hear(Message::parse(&bytes)?)?;
        }
        self.write()?;
        if let (Some(status), true) = (self.ended, self.pending.is_empty()) {
            return Ok(Some(status));
        }
        if self.ended.is_none() {
            self.send(socket)?;
        }
        let flushed = socket.flush().map_err(Unfinished::from)?;
        if socket.silent_for() > SILENCE_MAX {
            return Err(Unfinished::silent().into());
        }
        let mut polled = vec![PollFd::new(&*socket, wanted(!flushed))];
        polled.extend(
            self.here.input.filter(|_input| self.room > 0).map(|input| PollFd::from_borrowed_fd(input, PollFlags::IN)),
        );
        let blocked = self.here.output_descriptor.filter(|_output| !self.pending.is_empty());
        polled.extend(blocked.map(|output| PollFd::from_borrowed_fd(output, PollFlags::OUT)));
        polled.extend(self.here.happenings.map(|happenings| PollFd::new(&happenings.bell, PollFlags::IN)));
        wait(&mut polled);
        Ok(None)
    }

    fn hear(&mut self, message: Message) -> anyhow::Result<()> {
        match message {
            Message::Data(bytes) => self.pending.extend(bytes),
            Message::Errors(bytes) => {
                self.here.errors.write_all(&bytes).and_then(|()| self.here.errors.flush()).context(UNWRITTEN)?;
                self.taken += bytes.len();
            }
            Message::Taken { bytes } => self.room += bytes as usize,
            Message::Ended { status } => self.ended = Some(status),
            Message::Failed { message } => return Err(Unfinished::Ended(message).into()),
            _other => bail!("the server says what it cannot mean"),
        }
        Ok(())
    }

    /// Writes as much as goes without waiting for others.
    fn write(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        while !self.pending.is_empty() {
            match self.here.output.write(self.pending.as_slices().0) {
                Ok(0) => return Err(anyhow!(io::Error::from(io::ErrorKind::WriteZero)).context(UNWRITTEN)),
                Ok(count) => {
                    self.pending.drain(..count);
                    self.taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(anyhow!(error).context(UNWRITTEN)),
            }
        }
        self.here.output.flush().context(UNWRITTEN)
    }

    fn send(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        if let Ok(bytes @ 1..) = u32::try_from(std::mem::take(&mut self.taken)) {
            socket.write(Message::Taken { bytes }.to_bytes()).map_err(Unfinished::from)?;
        }
        self.tell(socket)?;
        let mut bytes = vec![0; DATA_BYTES_MAX];
        while let Some(input) = self.here.input.filter(|_input| self.room > 0) {
            let most = self.room.min(bytes.len());
            match rustix::io::read(input, &mut bytes[..most]) {
                Ok(count @ 1..) => {
                    self.room -= count;
                    socket.write(Message::Data(bytes[..count].to_vec()).to_bytes()).map_err(Unfinished::from)?;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(rustix::io::Errno::INTR) => {}
                // What cannot be read has ended.
                Ok(0) | Err(_) => {
                    self.here.input = None;
                    socket.write(Message::End.to_bytes()).map_err(Unfinished::from)?;
                }
            }
        }
        Ok(())
    }

    /// Passes on what happened here.
    fn tell(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let Some(happenings) = self.here.happenings else { return Ok(()) };
        terminal::silence(&happenings.bell);
        while let Ok(event) = happenings.events.try_recv() {
            let message = match event {
                Event::Resized => terminal::size().filter(|_size| happenings.terminal).map(Message::Resize),
                Event::Signal(signal) if signal == SIGHUP || self.interrupted => {
                    bail!("you have left; what ran there is hung up");
                }
                Event::Signal(signal) => {
                    self.interrupted = true;
                    Some(Message::Signal { signal })
                }
            };
            if let Some(message) = message {
                socket.write(message.to_bytes()).map_err(Unfinished::from)?;
            }
        }
        Ok(())
    }
}

const UNWRITTEN: &str = "cannot write what came from the dyno";

fn wanted(write: bool) -> PollFlags {
    if write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
}

/// Waits until something can be done, or a second has passed.
fn wait(polled: &mut [PollFd<'_>]) {
    // Interrupted, it is as if the time had passed.
    poll(polled, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).ok();
}
