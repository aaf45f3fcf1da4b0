//! The control socket: a few clients at once, each with frames in and out, none of which can hold the shim up.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use wire::frame::{self, Decoder};
use wire::shim::{CONTROL_SOCKET, Request, Response};

const CLIENTS_MAX: usize = 16;
/// A request is tiny; a client that sends more without making sense is dropped.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// How long the last message, that the process has ended, waits for a slow client.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    decoder: Decoder,
    /// Bytes received since the last whole message.
    pending_bytes: usize,
    greeted: bool,
}

impl Control {
    /// Listens in the working directory, which is the run directory: a socket path has room for 108 bytes only.
    pub(crate) fn listen() -> io::Result<Self> {
        match fs::remove_file(CONTROL_SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(CONTROL_SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// The listener first, then the clients.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(|client| client.stream.as_fd()))
    }

    pub(crate) fn accept(&mut self) {
        while let Ok((stream, _address)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() && self.clients.len() < CLIENTS_MAX {
                self.clients.push(Client { stream, decoder: Decoder::default(), pending_bytes: 0, greeted: false });
            }
        }
    }

    /// Answers what the clients have sent.
    pub(crate) fn serve(&mut self, mut answer: impl FnMut(Request) -> Response) {
        self.clients.retain_mut(|client| client.serve(&mut answer).is_ok());
    }

    /// Tells everybody that this was the last message.
    pub(crate) fn farewell(mut self, response: &Response) {
        let Ok(bytes) = frame::encode(response) else { return };
        self.accept();
        for mut client in self.clients {
            // A client that does not read learns it from `exit.json`.
            let told = client
                .stream
                .set_nonblocking(false)
                .and_then(|()| client.stream.set_write_timeout(Some(FAREWELL_TIMEOUT)))
                .and_then(|()| client.stream.write_all(&bytes));
            drop(told);
        }
        drop(fs::remove_file(CONTROL_SOCKET));
    }
}

impl Client {
    /// An error means that the client is gone or must go.
    fn serve(&mut self, answer: &mut impl FnMut(Request) -> Response) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.pending_bytes += count;
                    self.decoder.push(buffer.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            while let Some(request) = self.decoder.next_message().map_err(io::Error::other)? {
                self.pending_bytes = 0;
                let response = if self.admits(&request) {
                    answer(request)
                } else {
                    Response::Refused { message: "say hello first".to_owned() }
                };
                self.greeted |= matches!(response, Response::Hello { .. });
                // An answer fits into an empty socket buffer; a client that lets it fill up is dropped.
                self.stream.write_all(&frame::encode(&response).map_err(io::Error::other)?)?;
            }
            if self.pending_bytes > REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    const fn admits(&self, request: &Request) -> bool {
        self.greeted || matches!(request, Request::Hello { .. })
    }
}
