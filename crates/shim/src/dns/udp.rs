//! Datagrams: each query gets an id of ours on its way to the resolver and its own back with the answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::upstreams::Follower;
use super::wait;

const HEADER_BYTES: usize = 12;
/// More than any datagram of DNS in practice; a longer one is cut, and with it unreadable for everybody.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Queries on their way, of all dynos and of one address.
const WAITING_MAX: usize = 1024;
const WAITING_PER_CLIENT_MAX: usize = 128;
/// After this time the next resolver is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(250);

struct Waiting {
    client: SocketAddr,
    /// As it came, with the client's id.
    query: Vec<u8>,
    upstream: usize,
    /// How many resolvers have been asked.
    asked: usize,
    asked_at: Instant,
}

struct Relay {
    socket: UdpSocket,
    /// Connected, so that the kernel drops what comes from elsewhere and tells that nobody listens.
    upstreams: Vec<(SocketAddr, UdpSocket)>,
    waiting: HashMap<u16, Waiting>,
    next_id: u16,
}

pub(super) fn serve(socket: UdpSocket, mut follower: Follower) -> io::Result<Infallible> {
    let mut relay = Relay { socket, upstreams: Vec::new(), waiting: HashMap::new(), next_id: 0 };
    loop {
        let sockets = std::iter::once(&relay.socket).chain(relay.upstreams.iter().map(|(_, socket)| socket));
        let mut polled: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        wait(&mut polled, (!relay.waiting.is_empty()).then_some(TICK));
        drop(polled);
        let now = Instant::now();
        for upstream in 0..relay.upstreams.len() {
            relay.take_answers(upstream, now);
        }
        relay.use_upstreams(follower.current(now));
        relay.take_queries(now);
        relay.give_up(now);
    }
}

impl Relay {
    /// Queries on their way to a resolver that is no longer listed are asked again of one that is.
    fn use_upstreams(&mut self, list: &[SocketAddr]) {
        if list.iter().eq(self.upstreams.iter().map(|(address, _)| address)) {
            return;
        }
        let connected = list.iter().filter_map(|&address| Some((address, connect(address).ok()?)));
        self.upstreams = connected.collect();
        for waiting in self.waiting.values_mut() {
            (waiting.upstream, waiting.asked) = (0, 0);
            // Due now.
            waiting.asked_at -= ANSWER_TIMEOUT;
        }
    }

    fn take_queries(&mut self, now: Instant) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        // Bounded, so that answers get their turn.
        for _ in 0..WAITING_MAX {
            let Ok((count, client)) = self.socket.recv_from(&mut buffer) else { return };
            let Some(query) = buffer.get(..count).filter(|query| is_query(query)) else { continue };
            let of_client = self.waiting.values().filter(|waiting| waiting.client.ip() == client.ip()).count();
            if self.waiting.len() >= WAITING_MAX || of_client >= WAITING_PER_CLIENT_MAX {
                continue;
            }
            while self.waiting.contains_key(&self.next_id) {
                self.next_id = self.next_id.wrapping_add(1);
            }
            let waiting = Waiting { client, query: query.to_vec(), upstream: 0, asked: 0, asked_at: now };
            self.waiting.insert(self.next_id, waiting);
            self.ask(self.next_id, now);
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    /// Asks the next resolver that can be asked, or says that there is none.
    fn ask(&mut self, id: u16, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        while let Some((_, socket)) = self.upstreams.get(waiting.asked) {
            waiting.upstream = waiting.asked;
            waiting.asked += 1;
            waiting.asked_at = now;
            if socket.send(&with_id(&waiting.query, id)).is_ok() {
                return;
            }
        }
        if let Some(waiting) = self.waiting.remove(&id) {
            // Fails only if the dyno is gone.
            self.socket.send_to(&server_failure(&waiting.query), waiting.client).ok();
        }
    }

    fn take_answers(&mut self, upstream: usize, now: Instant) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let Some((_, socket)) = self.upstreams.get(upstream) else { return };
            match socket.recv(&mut buffer) {
                Ok(count) => {
                    let answer = buffer.get(..count).unwrap_or_default();
                    let Some(waiting) = id_of(answer).and_then(|id| self.waiting.remove(&id)) else { continue };
                    let id = id_of(&waiting.query).unwrap_or_default();
                    self.socket.send_to(&with_id(answer, id), waiting.client).ok();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody listens there (now): who waits for it need not wait longer.
                Err(_) => {
                    let stranded = self.waiting.iter().filter(|(_, waiting)| waiting.upstream == upstream);
                    let stranded: Vec<u16> = stranded.map(|(&id, _)| id).collect();
                    for id in stranded {
                        self.ask(id, now);
                    }
                }
            }
        }
    }

    fn give_up(&mut self, now: Instant) {
        let late = self.waiting.iter().filter(|(_, waiting)| now.duration_since(waiting.asked_at) >= ANSWER_TIMEOUT);
        let late: Vec<u16> = late.map(|(&id, _)| id).collect();
        for id in late {
            self.ask(id, now);
        }
    }
}

fn connect(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let any = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(upstream)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn id_of(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A whole header without the bit that marks an answer.
fn is_query(message: &[u8]) -> bool {
    message.len() >= HEADER_BYTES && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    [&id.to_be_bytes(), message.get(2..).unwrap_or_default()].concat()
}

/// The query as an answer that says `SERVFAIL`.
fn server_failure(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    if let Some([.., high, low]) = answer.first_chunk_mut::<4>() {
        *high |= 0x80;
        *low = *low & 0xf0 | 2;
    }
    answer
}
