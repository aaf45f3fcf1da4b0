//! A way to the API port of a server that is reached by its hosts only: an upgraded connection that carries the bytes of
//! one to the port.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, poll};
use wire::platform_api::exec::PORT_PROTOCOL;

use crate::context::Login;
use crate::server_stream::ServerStream;

/// Bytes on their way at once, in each direction.
const CHUNK_BYTES: usize = 16 * 1024;

/// Longest head of the server's answer, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Carries one connection of a client's to the port, until either side has ended.
pub(super) fn carry(login: &Login, client: TcpStream) -> io::Result<()> {
    let server = open(login).map_err(io::Error::other)?;
    client.set_nonblocking(true)?;
    server.tcp().set_nonblocking(true)?;
    Pump { client, server, to_server: Chunk::default(), to_client: Chunk::default() }.run()
}

/// Asks for the upgrade.
fn open(login: &Login) -> anyhow::Result<ServerStream> {
    let mut stream = ServerStream::connect(login)?;
    let (host, token) = (login.server.authority(), login.token.expose());
    let request = format!(
        "GET /berth/port HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: upgrade\r\n\
         Upgrade: {PORT_PROTOCOL}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head is the port's.
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).context("the server closed the connection")?;
        answer.push(byte[0]);
        if answer.len() > ANSWER_BYTES_MAX {
            bail!("the server's answer is too long");
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).unwrap_or_default();
    if status != "101" {
        bail!("the server answered {status}");
    }
    Ok(stream)
}

struct Pump {
    client: TcpStream,
    server: ServerStream,
    to_server: Chunk,
    to_client: Chunk,
}

impl Pump {
    fn run(mut self) -> io::Result<()> {
        loop {
            let mut moved = self.to_server.step(&mut self.client, &mut self.server)?;
            moved |= self.to_client.step(&mut self.server, &mut self.client)?;
            if self.to_server.is_over() || self.to_client.is_over() {
                // What the other one has left for us to say, nobody would hear.
                drop(self.server.flush());
                drop(self.client.shutdown(Shutdown::Both));
                return self.server.tcp().shutdown(Shutdown::Both);
            }
            if !moved {
                self.wait()?;
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let interest = |reads: bool, writes: bool| {
            let read = if reads { PollFlags::IN } else { PollFlags::empty() };
            read | if writes { PollFlags::OUT } else { PollFlags::empty() }
        };
        let client = interest(self.to_server.is_empty(), !self.to_client.is_empty());
        let writes = self.server.wants_write() || !self.to_server.is_empty();
        let server = interest(self.to_client.is_empty(), writes);
        let mut polled = [PollFd::new(&self.client, client), PollFd::new(self.server.tcp(), server)];
        match poll(&mut polled, None) {
            Ok(_ready) => Ok(()),
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was read of one side and is not yet written to the other.
struct Chunk {
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
    read_ended: bool,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { bytes: vec![0; CHUNK_BYTES].into_boxed_slice(), begin: 0, end: 0, read_ended: false }
    }
}

impl Chunk {
    const fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// The side has ended, and everything that it said was written.
    const fn is_over(&self) -> bool {
        self.read_ended && self.is_empty()
    }

    /// Reads once and writes once, as far as neither has to wait; says whether anything happened.
    fn step(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
        let mut moved = false;
        if self.is_empty()
            && !self.read_ended
            && let Some(count) = unless_waiting(from.read(&mut self.bytes))?
        {
            (self.begin, self.end, self.read_ended) = (0, count, count == 0);
            moved = true;
        }
        if !self.is_empty()
            && let Some(count) = unless_waiting(to.write(&self.bytes[self.begin..self.end]))?
        {
            self.begin += count;
            moved |= count > 0;
        }
        // Under TLS, what was taken may not be on its way.
        unless_waiting(to.flush())?;
        Ok(moved)
    }
}

fn unless_waiting<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        // A side that has gone without a word has ended, too.
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, and every other time none.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        waits: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.waits = !self.waits;
            if self.waits {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(7);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_arrives_in_order_before_the_end() {
        let said: Vec<u8> = (0..100_u8).collect();
        let (mut from, mut to, mut chunk) = (said.as_slice(), Slow::default(), Chunk::default());
        while !chunk.is_over() {
            chunk.step(&mut from, &mut to).unwrap();
        }
        assert_eq!(to.taken, said);
    }
}
