//! Requests at random times of a steady rate over kept connections, and the origin that answers them at once.
//!
//! Both are one thread that waits for everything at once: where clients are threads, and the origin is a process, their
//! scheduling is most of what is measured.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, BufWriter, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::chance::Chance;
use crate::number;

/// What the events of the timer, of the listener and of the first connection to the origin carry; those of clients carry
/// their place.
const TIMER: u64 = 1 << 32;
const LISTENER: u64 = TIMER + 1;
const FIRST_SERVED: u64 = LISTENER + 1;
const EVENTS_MAX: usize = 128;
const READ_BYTES: usize = 32 * 1024;
const BODY_BYTES: usize = 200;

pub(crate) fn steady(arguments: &[String]) -> io::Result<()> {
    let [port, origin_port, host, connections, seconds, rate] = arguments else { return Ok(()) };
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let timer = Timer::new()?;
    watch(&poller, &timer.0, TIMER)?;
    let mut origin = Origin::new(&poller, number(Some(origin_port)))?;
    let end = Instant::now() + Duration::from_secs_f64(number(Some(seconds)));
    let rate = number::<f64>(Some(rate)) / number::<f64>(Some(connections));
    let mut clients = Clients::new(&poller, number(Some(port)), host, number(Some(connections)), rate)?;
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let next = clients.send_due()?;
        if Instant::now() >= end {
            break;
        }
        timer.set(next.map_or(end, |next| next.min(end)))?;
        events.clear();
        epoll::wait(&poller, spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                TIMER => timer.rung()?,
                LISTENER => origin.accept(&poller)?,
                served @ FIRST_SERVED.. => origin.serve(served),
                client => clients.take_answer(client)?,
            }
        }
    }
    let mut out = BufWriter::new(io::stdout().lock());
    clients.times.iter().try_for_each(|(at, took)| writeln!(out, "{} {}", at.as_micros(), took.as_micros()))
}

fn watch(poller: &OwnedFd, what: impl AsFd, data: u64) -> io::Result<()> {
    Ok(epoll::add(poller, what, epoll::EventData::new_u64(data), epoll::EventFlags::IN)?)
}

// Clients

struct Clients {
    begun: Instant,
    request: String,
    all: Vec<Client>,
    /// When those without a request will send one.
    idle: BinaryHeap<Reverse<(Instant, usize)>>,
    rate: f64,
    /// When each request left, and how long its answer took.
    times: Vec<(Duration, Duration)>,
}

struct Client {
    stream: TcpStream,
    chance: Chance,
    due: Instant,
    sent: Instant,
    answer: Vec<u8>,
}

impl Clients {
    fn new(poller: &OwnedFd, port: u16, host: &str, connections: usize, rate: f64) -> io::Result<Self> {
        let begun = Instant::now();
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let (mut all, mut idle) = (Vec::new(), BinaryHeap::new());
        for place in 0..connections {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            watch(poller, &stream, place as u64)?;
            let mut chance = Chance::new(place as u64 + 1);
            let due = begun + chance.gap(rate);
            idle.push(Reverse((due, place)));
            all.push(Client { stream, chance, due, sent: due, answer: Vec::new() });
        }
        Ok(Self { begun, request, all, idle, rate, times: Vec::new() })
    }

    /// Sends what is due, and says when the next one will be.
    fn send_due(&mut self) -> io::Result<Option<Instant>> {
        while let Some(&Reverse((due, place))) = self.idle.peek() {
            let now = Instant::now();
            if due > now {
                return Ok(Some(due));
            }
            self.idle.pop();
            let client = &mut self.all[place];
            // From when it left, not from when it was due: an answer before it that was late is counted once.
            client.sent = now;
            client.stream.write_all(self.request.as_bytes())?;
        }
        Ok(None)
    }

    fn take_answer(&mut self, client: u64) -> io::Result<()> {
        let place = usize::try_from(client).map_err(io::Error::other)?;
        let client = &mut self.all[place];
        if !read_more(&mut client.stream, &mut client.answer)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = client.answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
        if !client.answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&client.answer).into_owned()));
        }
        if client.answer.len() >= end + 4 + BODY_BYTES {
            client.answer.clear();
            self.times.push((client.sent - self.begun, client.sent.elapsed()));
            // At a rate that nobody keeps up with, it is due at once.
            client.due += client.chance.gap(self.rate);
            self.idle.push(Reverse((client.due, place)));
        }
        Ok(())
    }
}

// Origin

struct Origin {
    listener: TcpListener,
    answer: String,
    served: BTreeMap<u64, (TcpStream, Vec<u8>)>,
    next: u64,
}

impl Origin {
    fn new(poller: &OwnedFd, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        watch(poller, &listener, LISTENER)?;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n{}", "x".repeat(BODY_BYTES));
        Ok(Self { listener, answer, served: BTreeMap::new(), next: FIRST_SERVED })
    }

    fn accept(&mut self, poller: &OwnedFd) -> io::Result<()> {
        let (stream, _peer) = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?,
        };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        watch(poller, &stream, self.next)?;
        self.served.insert(self.next, (stream, Vec::new()));
        self.next += 1;
        Ok(())
    }

    /// Answers a request that has come, or ends with a proxy that closed its connection.
    fn serve(&mut self, number: u64) {
        let Some((stream, head)) = self.served.get_mut(&number) else { return };
        let mut goes_on = read_more(stream, head).unwrap_or(false);
        if goes_on && head.ends_with(b"\r\n\r\n") {
            head.clear();
            goes_on = stream.write_all(self.answer.as_bytes()).is_ok();
        }
        if !goes_on {
            self.served.remove(&number);
        }
    }
}

/// Appends what is there. Whether the other side may send more.
fn read_more(stream: &mut TcpStream, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut bytes = [0; READ_BYTES];
    let count = stream.read(&mut bytes)?;
    to.extend_from_slice(&bytes[..count]);
    Ok(count > 0)
}

// Timer

/// Exact to microseconds, which the limit of a wait is not.
struct Timer(OwnedFd);

impl Timer {
    fn new() -> io::Result<Self> {
        Ok(Self(rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?))
    }

    fn set(&self, at: Instant) -> io::Result<()> {
        // Nothing at all would disarm it.
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let value = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value)?;
        Ok(())
    }

    fn rung(&self) -> io::Result<()> {
        match rustix::io::read(&self.0, &mut [0; 8]) {
            // It was set anew since.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
