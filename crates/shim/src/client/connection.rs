//! One connection to a shim's control socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use wire::frame::{self, Decoder, FrameError};
use wire::shim::{CONTROL_SOCKET, Exit, PROTOCOL, Request, Response};

/// A shim answers at once; one that does not is stopped or lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error("cannot connect to the shim in {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim cannot be understood")]
    Frame(#[from] FrameError),
    #[error("the connection to the shim failed")]
    Io(#[from] io::Error),
    #[error("the shim closed the connection")]
    Closed,
    #[error("the shim did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the shim refused: {message}")]
    Refused { message: String },
    /// The process ended before the request was answered.
    #[error("the process has ended")]
    Ended(Box<Exit>),
}

#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    exit: Option<Exit>,
}

impl Connection {
    /// Connects to the shim of `run_dir` and greets it as `instance`.
    pub async fn connect(run_dir: &Path, instance: &str) -> Result<Self, ConnectionError> {
        let at_connect = |source| ConnectionError::Connect { path: run_dir.to_owned(), source };
        // Through a descriptor, because the path of a socket has room for 108 bytes only.
        let dir = File::open(run_dir).map_err(at_connect)?;
        let path = format!("/proc/self/fd/{}/{CONTROL_SOCKET}", dir.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(at_connect)?;
        let mut connection = Self { stream, decoder: Decoder::default(), exit: None };
        connection.request(&Request::Hello { protocol: PROTOCOL, instance: instance.to_owned() }).await?;
        Ok(connection)
    }

    /// Sends a request and gives its answer; a refusal is an error.
    ///
    /// Not safe to cancel: drop the connection with the future.
    pub async fn request(&mut self, request: &Request) -> Result<Response, ConnectionError> {
        let exchange = async {
            self.stream.write_all(&frame::encode(request)?).await?;
            self.next().await
        };
        match timeout(ANSWER_TIMEOUT, exchange).await.map_err(|_elapsed| ConnectionError::NoAnswer)?? {
            Response::Refused { message } => Err(ConnectionError::Refused { message }),
            Response::Exited { exit } => {
                self.exit = Some(exit.clone());
                Err(ConnectionError::Ended(Box::new(exit)))
            }
            response => Ok(response),
        }
    }

    /// Waits until the process has ended. Safe to cancel.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] means that the shim was lost, not that the process has ended: observe again.
    pub async fn exited(&mut self) -> Result<Exit, ConnectionError> {
        loop {
            if let Some(exit) = &self.exit {
                return Ok(exit.clone());
            }
            if let Response::Exited { exit } = self.next().await? {
                self.exit = Some(exit);
            }
        }
    }

    async fn next(&mut self) -> Result<Response, ConnectionError> {
        loop {
            if let Some(response) = self.decoder.next_message()? {
                return Ok(response);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).await? {
                0 => return Err(ConnectionError::Closed),
                count => self.decoder.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}
