//! Somebody comes to a dyno that runs: with a program beside the app's, a connection, or for its files.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{Shutdown, shutdown};
use rustix::termios::tcsetwinsize;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use wire::frame::{self, Decoder, FrameError};
use wire::shim::{Terminal, Visit, VisitReply, VisitRequest};

use crate::descriptor_passing;
use crate::supervisor::winsize;

#[derive(Debug, Error)]
pub enum VisitError {
    #[error("cannot start a helper")]
    Start(#[source] io::Error),
    #[error("cannot talk to the helper")]
    Io(#[from] io::Error),
    #[error("the helper cannot be understood")]
    Frame(#[from] FrameError),
    #[error("the helper ended without a word")]
    Silent,
    /// The helper's own words, for people.
    #[error("{message}")]
    Refused { message: String },
}

/// What a visit reads and writes.
#[derive(Debug)]
pub enum VisitStreams {
    /// One for both directions: a terminal, a connection, files.
    One(VisitStream),
    Pipes {
        input: VisitStream,
        output: VisitStream,
        errors: VisitStream,
    },
}

/// The visit as a process. Dropping it hangs it up, as does the end of this process.
#[derive(Debug)]
pub struct Visiting {
    control: UnixStream,
    decoder: Decoder,
    helper: Child,
    /// Once the helper has said it.
    status: Option<i32>,
}

/// Comes to the dyno of `run_dir` with a helper from `exe`.
pub async fn visit(exe: &Path, run_dir: &Path, visit: &Visit) -> Result<(Visiting, VisitStreams), VisitError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let helper = Command::new(exe)
        .args(["shim", "--visit"])
        .arg(run_dir)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(VisitError::Start)?;
    let mut visiting =
        Visiting { control: UnixStream::from_std(ours)?, decoder: Decoder::default(), helper, status: None };
    visiting.control.write_all(&frame::encode(visit)?).await?;
    let mut received = Vec::new();
    match visiting.next(&mut received).await? {
        VisitReply::Entered => {}
        VisitReply::Refused { message } => return Err(VisitError::Refused { message }),
        VisitReply::Ended { .. } => return Err(VisitError::Silent),
    }
    let mut streams = received.into_iter().map(VisitStream::new);
    let streams = match (streams.next(), streams.next(), streams.next()) {
        (Some(one), None, None) => VisitStreams::One(one?),
        (Some(input), Some(output), Some(errors)) => {
            VisitStreams::Pipes { input: input?, output: output?, errors: errors? }
        }
        _other => return Err(VisitError::Silent),
    };
    Ok((visiting, streams))
}

impl Visiting {
    /// Waits for the end of the program. Safe to cancel.
    pub async fn ended(&mut self) -> Result<i32, VisitError> {
        let status = match self.status {
            Some(status) => status,
            None => match self.next(&mut Vec::new()).await? {
                VisitReply::Ended { status } => status,
                VisitReply::Refused { message } => return Err(VisitError::Refused { message }),
                VisitReply::Entered => return Err(VisitError::Silent),
            },
        };
        self.status = Some(status);
        // It has said its last word.
        self.helper.wait().await?;
        Ok(status)
    }

    /// Sends a signal to the program's process group.
    pub async fn signal(&mut self, signal: i32) -> Result<(), VisitError> {
        Ok(self.control.write_all(&frame::encode(&VisitRequest::Signal { signal })?).await?)
    }

    async fn next(&mut self, descriptors: &mut Vec<OwnedFd>) -> Result<VisitReply, VisitError> {
        loop {
            if let Some(reply) = self.decoder.next_message()? {
                return Ok(reply);
            }
            let mut bytes = [0; 4096];
            let receive = || descriptor_passing::receive(&self.control, &mut bytes);
            let (count, received) = self.control.async_io(Interest::READABLE, receive).await?;
            if count == 0 {
                return Err(VisitError::Silent);
            }
            descriptors.extend(received);
            self.decoder.push(bytes.get(..count).unwrap_or_default());
        }
    }
}

/// A descriptor that came out of a dyno. What it really is, the dyno has decided: it is only read and written.
#[derive(Debug)]
pub struct VisitStream(AsyncFd<OwnedFd>);

impl VisitStream {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&descriptor, fcntl_getfl(&descriptor)? | OFlags::NONBLOCK)?;
        // SAFETY: an owned descriptor stays open and the same until it is dropped, which it is with the result.
        let registered = unsafe { AsyncFd::register(descriptor) };
        Ok(Self(registered?))
    }

    /// Reads once; nothing is the end. Safe to cancel.
    pub async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |descriptor| Ok(rustix::io::read(descriptor, &mut *bytes)?));
        match read.await {
            // A terminal whose last process has left, and a connection that was cut.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::ECONNRESET)) => Ok(0),
            result => result,
        }
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = self.0.async_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::write(descriptor, bytes)?));
            let count = write.await?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Says that no more will be written, where the other side can be told without ending it all.
    pub fn end(&self) {
        // A terminal and a pipe are no sockets.
        shutdown(self.0.get_ref(), Shutdown::Write).ok();
    }

    /// Gives the terminal another size, if it is one.
    pub fn resize(&self, size: Terminal) {
        tcsetwinsize(self.0.get_ref().as_fd(), winsize(size)).ok();
    }
}
