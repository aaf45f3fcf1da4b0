//! Connections, for answers that are too long for a datagram: bytes there and bytes back.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::upstreams::Follower;
use super::wait;

const CONNECTIONS_MAX: usize = 64;
const CONNECTIONS_PER_CLIENT_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The resolver is on this machine: it accepts at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const BUFFER_BYTES: usize = 16 * 1024;
const TICK: Duration = Duration::from_secs(1);

struct Connection {
    client: TcpStream,
    upstream: TcpStream,
    address: IpAddr,
    /// Read from one side, not yet written to the other.
    query: Vec<u8>,
    answer: Vec<u8>,
    active_at: Instant,
}

pub(super) fn serve(listener: &TcpListener, mut follower: Follower) -> io::Result<Infallible> {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let mut polled = vec![PollFd::new(listener, PollFlags::IN)];
        for connection in &connections {
            let events = |to_write: &[u8], to_read: &[u8]| {
                let write = if to_write.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                // What has not been passed on yet is not added to.
                write | if to_read.is_empty() { PollFlags::IN } else { PollFlags::empty() }
            };
            let Connection { client, upstream, query, answer, .. } = connection;
            polled.push(PollFd::from_borrowed_fd(client.as_fd(), events(answer, query)));
            polled.push(PollFd::from_borrowed_fd(upstream.as_fd(), events(query, answer)));
        }
        wait(&mut polled, (!connections.is_empty()).then_some(TICK));
        drop(polled);
        let now = Instant::now();
        connections.retain_mut(|connection| connection.serve(now).is_ok());
        while let Ok((client, address)) = listener.accept() {
            let of_client = connections.iter().filter(|connection| connection.address == address.ip()).count();
            if connections.len() < CONNECTIONS_MAX && of_client < CONNECTIONS_PER_CLIENT_MAX {
                connections.extend(open(client, address.ip(), &mut follower, now).ok());
            }
        }
    }
}

fn open(client: TcpStream, address: IpAddr, follower: &mut Follower, now: Instant) -> io::Result<Connection> {
    let mut upstreams = follower.current(now).iter();
    let upstream = upstreams.find_map(|upstream| TcpStream::connect_timeout(upstream, CONNECT_TIMEOUT).ok());
    let upstream = upstream.ok_or(io::ErrorKind::ConnectionRefused)?;
    client.set_nonblocking(true)?;
    upstream.set_nonblocking(true)?;
    Ok(Connection { client, upstream, address, query: Vec::new(), answer: Vec::new(), active_at: now })
}

impl Connection {
    /// An error means that the connection is over.
    fn serve(&mut self, now: Instant) -> io::Result<()> {
        let asked = pass(&mut self.client, &mut self.upstream, &mut self.query)?;
        let answered = pass(&mut self.upstream, &mut self.client, &mut self.answer)?;
        if asked || answered {
            self.active_at = now;
        } else if now.duration_since(self.active_at) >= IDLE_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

/// Moves what is there from one side to the other, and the end as well. Gives whether there was anything.
fn pass(from: &mut TcpStream, to: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut moved = false;
    loop {
        while !buffer.is_empty() {
            match to.write(buffer) {
                Ok(count) => {
                    buffer.drain(..count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error),
            }
        }
        buffer.resize(BUFFER_BYTES, 0);
        let read = from.read(buffer);
        buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            // The resolver closes when the client has no more questions, and the client when it has its answers.
            Ok(0) => {
                to.shutdown(Shutdown::Write).ok();
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(_) => moved = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
            Err(error) => return Err(error),
        }
    }
}
