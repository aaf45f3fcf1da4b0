//! The router that this one takes over from, while it finishes its requests.
//!
//! ```text
//!   new                                   old
//!    │ TakeOver ─────────────────────────► listens to no server any more, writes no table
//!    │ ◄───────────────────────── Yielded  (and does again if the new one leaves now)
//!    │ loads the table, answers servers
//!    │ Retire ───────────────────────────► accepts no connection, finishes its requests, ends
//!    │ changes of the table ─────────────► in force there, too, before they are acknowledged here
//!    │ InFlight ─────────────────────────► counts against the dynos' limits here
//! ```

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use wire::frame::{self, FrameError};
use wire::routes::{FromRouter, PROTOCOL, ROUTER_SOCKET, ToRouter};

use crate::admin_socket;
use crate::client::RouterClient;
use crate::in_flight::InFlight;

/// Longer than any answer takes; whoever needs more will never give one.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum PredecessorError {
    #[error("cannot reach the router that serves from this data directory; if it hangs, end it")]
    Connect(#[source] io::Error),
    #[error("router that serves from this data directory does not answer; end it")]
    Exchange(#[source] FrameError),
    #[error("router that serves from this data directory does not hand over: {message}")]
    Refused { message: String },
    #[error("router that serves from this data directory cannot hand over; end it")]
    Unexpected,
}

/// Spoken with before this router's threads begin, so it blocks.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// `None` if no router serves from this directory.
    pub(crate) fn find(data_dir: &Path, instance: &str) -> Result<Option<Self>, PredecessorError> {
        let stream = match admin_socket::connect_blocking(data_dir, ROUTER_SOCKET) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(PredecessorError::Connect(error)),
        };
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(PredecessorError::Connect)?;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(PredecessorError::Connect)?;
        let mut found = Self { stream };
        let hello = ToRouter::Hello { protocol: PROTOCOL, instance: instance.to_owned() };
        match found.ask(&hello)? {
            Some(FromRouter::Hello { .. }) => Ok(Some(found)),
            Some(FromRouter::Refused { message }) => Err(PredecessorError::Refused { message }),
            // It was about to end.
            None => Ok(None),
            Some(_other) => Err(PredecessorError::Unexpected),
        }
    }

    /// From here on its table is settled, on disk, too. If this process ends now, it goes on as before.
    pub(crate) fn take_over(&mut self) -> Result<(), PredecessorError> {
        match self.ask(&ToRouter::TakeOver)? {
            Some(FromRouter::Yielded) | None => Ok(()),
            Some(FromRouter::Refused { message }) => Err(PredecessorError::Refused { message }),
            Some(_other) => Err(PredecessorError::Unexpected),
        }
    }

    /// Requests and upgraded connections that it has per dyno.
    pub(crate) fn in_flight(&mut self) -> Result<InFlight, PredecessorError> {
        match self.ask(&ToRouter::InFlight)? {
            Some(FromRouter::InFlight { dynos, conversations }) => Ok(InFlight::told(&dynos, &conversations)),
            None => Ok(InFlight::default()),
            Some(_other) => Err(PredecessorError::Unexpected),
        }
    }

    /// It accepts no more, finishes its requests and ends.
    pub(crate) fn retire(&mut self) -> Result<(), PredecessorError> {
        match self.ask(&ToRouter::Retire)? {
            Some(FromRouter::Done) | None => Ok(()),
            Some(_other) => Err(PredecessorError::Unexpected),
        }
    }

    /// For the runtime that this is called in.
    pub(crate) fn into_client(self) -> io::Result<RouterClient> {
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)?;
        self.stream.set_nonblocking(true)?;
        Ok(RouterClient::over(tokio::net::UnixStream::from_std(self.stream)?))
    }

    /// `None` if it ended.
    fn ask(&mut self, message: &ToRouter) -> Result<Option<FromRouter>, PredecessorError> {
        let gone = |error: &FrameError| {
            matches!(error, FrameError::Io(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset))
        };
        let asked = frame::write(&mut self.stream, message).and_then(|()| frame::read(&mut self.stream));
        match asked {
            Err(error) if gone(&error) => Ok(None),
            asked => asked.map_err(PredecessorError::Exchange),
        }
    }
}
