//! A client at the standard streams of the process, for one-off dynos that somebody waits for.
//!
//! The process has a terminal, or two pipes. Its output is left in them until a client has connected to the attach
//! socket; from then on bytes go both ways as they are, through two bounded buffers. There is one client, once:
//!
//! ```text
//!  waiting ──connects──► attached ──leaves──► detached: SIGHUP, and again, then R16
//!     └──nobody came──► R13: the process is killed
//! ```
//!
//! A client that ends its side only (`shutdown`) has no more input: the process reads the end of its input. When the
//! process has ended, what it wrote is still delivered before its end is recorded.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use wire::shim::{ATTACH_SOCKET, Terminal};

/// Bytes that wait in one direction. The other end is slow: whoever writes waits, nothing is lost.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long the last output waits for a client that does not read.
const DELIVERY_MS_MAX: u64 = 30_000;
/// Between two SIGHUPs to a process whose client has gone, and how many there are before that is called `R16`.
const HANGUP_INTERVAL_MS: u64 = 5_000;
const HANGUPS_MAX: u32 = 3;
/// What a terminal takes for the end of its input.
const END_OF_TRANSMISSION: u8 = 4;

/// The shim's ends of the standard streams.
#[derive(Debug)]
pub(crate) enum Streams {
    Terminal(File),
    Pipes { input: Option<File>, output: File },
}

/// The process's ends of pipes.
#[derive(Debug)]
pub(crate) struct ProcessEnds {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

impl Streams {
    pub(crate) fn pipes() -> io::Result<(Self, ProcessEnds)> {
        let (process_input, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, process_output) = pipe_with(PipeFlags::CLOEXEC)?;
        let streams = Self::Pipes { input: Some(File::from(input)), output: File::from(output) };
        Ok((streams, ProcessEnds { input: process_input, output: process_output }))
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        let nonblocking = |file: &File| Ok::<_, io::Error>(fcntl_setfl(file, fcntl_getfl(file)? | OFlags::NONBLOCK)?);
        match self {
            Self::Terminal(terminal) => nonblocking(terminal),
            Self::Pipes { input, output } => input.iter().chain([output]).try_for_each(nonblocking),
        }
    }

    fn input(&mut self) -> Option<&mut File> {
        match self {
            Self::Terminal(terminal) => Some(terminal),
            Self::Pipes { input, .. } => input.as_mut(),
        }
    }

    const fn output(&mut self) -> &mut File {
        match self {
            Self::Terminal(terminal) => terminal,
            Self::Pipes { output, .. } => output,
        }
    }
}

/// What must happen to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    Nothing,
    HangUp,
    /// The last SIGHUP has done nothing either.
    Detached,
    /// `R13`.
    NeverAttached,
}

#[derive(Debug)]
pub(crate) struct Attach {
    listener: UnixListener,
    /// Gone when the client has gone: a terminal is hung up by that.
    streams: Option<Streams>,
    phase: Phase,
    to_process: Buffer,
    to_client: Buffer,
}

#[derive(Debug)]
enum Phase {
    Waiting { until_ms: u64 },
    Attached(UnixStream),
    Detached { next_ms: Option<u64>, sent: u32 },
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    /// Whoever wrote into it will write no more.
    ended: bool,
}

impl Attach {
    /// Listens in the working directory, which is the run directory.
    pub(crate) fn listen(streams: Streams, wait_ms: u64) -> io::Result<Self> {
        let listener = UnixListener::bind(ATTACH_SOCKET)?;
        listener.set_nonblocking(true)?;
        streams.set_nonblocking()?;
        Ok(Self {
            listener,
            streams: Some(streams),
            phase: Phase::Waiting { until_ms: wait_ms },
            to_process: Buffer::default(),
            to_client: Buffer::default(),
        })
    }

    /// Everything that a move of bytes may wait for now.
    pub(crate) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let client = match &self.phase {
            Phase::Waiting { .. } => return vec![(self.listener.as_fd(), PollFlags::IN)],
            Phase::Attached(client) => client,
            Phase::Detached { .. } => return Vec::new(),
        };
        // A hang-up is told without being asked for.
        let mut interests = vec![(client.as_fd(), flags(self.to_process.has_room(), !self.to_client.bytes.is_empty()))];
        match &self.streams {
            Some(Streams::Terminal(terminal)) if !self.to_client.ended => {
                let wanted = flags(self.to_client.has_room(), !self.to_process.bytes.is_empty());
                if !wanted.is_empty() {
                    interests.push((terminal.as_fd(), wanted));
                }
            }
            Some(Streams::Pipes { input, output }) => {
                if self.to_client.has_room() {
                    interests.push((output.as_fd(), PollFlags::IN));
                }
                if let Some(input) = input.as_ref().filter(|_input| !self.to_process.bytes.is_empty()) {
                    interests.push((input.as_fd(), PollFlags::OUT));
                }
            }
            Some(Streams::Terminal(_)) | None => {}
        }
        interests
    }

    pub(crate) const fn wake_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Waiting { until_ms } => Some(*until_ms),
            Phase::Attached(_) => None,
            Phase::Detached { next_ms, .. } => *next_ms,
        }
    }

    /// Moves what can be moved, and says what must follow.
    pub(crate) fn serve(&mut self, now_ms: u64) -> Demand {
        match &mut self.phase {
            Phase::Waiting { until_ms } => {
                if let Ok((client, _address)) = self.listener.accept()
                    && client.set_nonblocking(true).is_ok()
                {
                    self.phase = Phase::Attached(client);
                    drop(fs::remove_file(ATTACH_SOCKET));
                } else if now_ms >= *until_ms {
                    self.phase = Phase::Detached { next_ms: None, sent: HANGUPS_MAX };
                    self.streams = None;
                    return Demand::NeverAttached;
                }
                Demand::Nothing
            }
            Phase::Attached(_) => {
                if self.exchange() {
                    return Demand::Nothing;
                }
                self.streams = None;
                self.phase = Phase::Detached { next_ms: Some(now_ms + HANGUP_INTERVAL_MS), sent: 1 };
                Demand::HangUp
            }
            Phase::Detached { next_ms, sent } => {
                if next_ms.is_none_or(|next| now_ms < next) {
                    return Demand::Nothing;
                }
                if *sent < HANGUPS_MAX {
                    *sent += 1;
                    *next_ms = Some(now_ms + HANGUP_INTERVAL_MS);
                    return Demand::HangUp;
                }
                *next_ms = None;
                Demand::Detached
            }
        }
    }

    /// Whether the process's output has been delivered, as far as it ever will be.
    pub(crate) fn is_delivered(&self) -> bool {
        match &self.phase {
            Phase::Waiting { .. } => false,
            Phase::Attached(_) => self.to_client.ended && self.to_client.bytes.is_empty(),
            Phase::Detached { .. } => true,
        }
    }

    pub(crate) const fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached(_))
    }

    /// The latest time at which the end of a process that has ended now must be recorded.
    pub(crate) const fn delivery_until_ms(&self, now_ms: u64) -> u64 {
        match &self.phase {
            Phase::Waiting { until_ms } => *until_ms + DELIVERY_MS_MAX,
            Phase::Attached(_) | Phase::Detached { .. } => now_ms + DELIVERY_MS_MAX,
        }
    }

    /// Gives the terminal another size; `false` if there is none.
    pub(crate) fn resize(&self, size: Terminal) -> bool {
        match &self.streams {
            Some(Streams::Terminal(terminal)) => tcsetwinsize(terminal, winsize(size)).is_ok(),
            Some(Streams::Pipes { .. }) | None => false,
        }
    }

    /// Moves bytes both ways. `false` when the client has gone.
    fn exchange(&mut self) -> bool {
        let (Phase::Attached(client), Some(streams)) = (&mut self.phase, &mut self.streams) else { return true };
        if !self.to_process.ended {
            match self.to_process.fill(client) {
                Ok(()) => {}
                Err(_broken) => return false,
            }
            if self.to_process.ended && matches!(streams, Streams::Terminal(_)) {
                self.to_process.bytes.push_back(END_OF_TRANSMISSION);
            }
        }
        if let Some(input) = streams.input()
            && self.to_process.empty_into(input).is_err()
        {
            // The process has closed its input; what is left for it is for nobody.
            self.to_process.bytes.clear();
        }
        if self.to_process.ended
            && self.to_process.bytes.is_empty()
            && let Streams::Pipes { input, .. } = streams
        {
            *input = None;
        }
        if !self.to_client.ended && self.to_client.fill(streams.output()).is_err() {
            // A terminal whose last process has left reads as an error.
            self.to_client.ended = true;
        }
        self.to_client.empty_into(client).is_ok() && !is_hung_up(client)
    }
}

impl Buffer {
    fn has_room(&self) -> bool {
        !self.ended && self.bytes.len() < BUFFER_BYTES_MAX
    }

    /// Reads once: the next round reads on.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        if !self.has_room() {
            return Ok(());
        }
        let mut chunk = [0; 16 * 1024];
        match from.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.bytes.extend(chunk.iter().take(count)),
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn empty_into(&mut self, to: &mut impl Write) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match to.write(self.bytes.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

pub(crate) const fn winsize(size: Terminal) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn flags(readable: bool, writable: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, readable);
    flags.set(PollFlags::OUT, writable);
    flags
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Both directions of a socket are over only when its peer has closed it; a peer that ended its input still listens.
fn is_hung_up(client: &UnixStream) -> bool {
    let mut polled = [PollFd::new(client, PollFlags::empty())];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&none)).is_ok() && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
