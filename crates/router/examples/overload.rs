//! Both ends of the overload benchmark: dynos with single-request workers, and clients that do not wait for each other.
//!
//! `overload dynos PORT:WORKERS:MILLISECONDS…` serves until it is killed. A line `WORKERS` on its standard input gives
//! every dyno so many from then on.
//! `overload clients PORT HOST NEW|KEPT SEED SECONDS:RATE…` sends requests at random times (Poisson) and prints, for
//! each, when it began, how long it took and its status, in microseconds; 0 where none came within 5 s.
//! `overload steady PORT HOST PATH CONNECTIONS SECONDS RATE` has a thread for each connection, which sends at random
//! times, too, but waits for its answer: exact to some 50 microseconds, for answers that are fast. It prints how long
//! each took, in microseconds.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::cell::{Cell, RefCell};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// What many servers ask the kernel for.
const BACKLOG: u32 = 2_048;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((mode, rest)) = arguments.split_first()
        && mode == "steady"
    {
        return steady(rest);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        match arguments.split_first() {
            Some((mode, rest)) if mode == "dynos" => dynos(rest).await,
            Some((mode, rest)) if mode == "clients" => clients(rest).await,
            _other => println!("overload dynos|clients|steady …"),
        }
    });
}

fn number<T: std::str::FromStr + Default>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

// Dynos

async fn dynos(descriptions: &[String]) {
    let workers = Rc::new(Cell::new(None));
    for description in descriptions {
        let mut parts = description.split(':');
        let (port, own, ms) = (number(parts.next()), number::<usize>(parts.next()), number(parts.next()));
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("a free port");
        let listener = Rc::new(socket.listen(BACKLOG).expect("a listener"));
        for index in 0..64 {
            spawn_local(worker(listener.clone(), index, own, workers.clone(), Duration::from_millis(ms)));
        }
    }
    let mut input = tokio::io::stdin();
    let mut line = [0; 64];
    loop {
        match input.read(&mut line).await {
            Ok(count) if count > 0 => {
                workers.set(std::str::from_utf8(&line[..count]).unwrap_or("").trim().parse().ok());
            }
            _end => sleep(Duration::from_secs(3600)).await,
        }
    }
}

/// Takes one connection at a time, and one request of it, as a synchronous worker does.
async fn worker(listener: Rc<TcpListener>, index: usize, own: usize, workers: Rc<Cell<Option<usize>>>, work: Duration) {
    let mut head = vec![0; 8192];
    loop {
        if index >= workers.get().unwrap_or(own) {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        let Ok((mut stream, _peer)) = listener.accept().await else { continue };
        let mut length = 0;
        while !head[..length].ends_with(b"\r\n\r\n") {
            match stream.read(&mut head[length..]).await {
                Ok(count) if count > 0 => length += count,
                _end => break,
            }
        }
        if length == 0 {
            continue;
        }
        sleep(work).await;
        // Whoever asked may be gone; the work was done all the same.
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await);
    }
}

// Clients

struct Target {
    address: SocketAddr,
    request: String,
    kept: bool,
    idle: RefCell<Vec<TcpStream>>,
    results: RefCell<Vec<(Duration, Duration, u16)>>,
    under_way: Cell<usize>,
}

async fn clients(arguments: &[String]) {
    let [port, host, kept, seed, phases @ ..] = arguments else { return };
    let kept = kept == "KEPT";
    let connection = if kept { "keep-alive" } else { "close" };
    let target = Rc::new(Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, number(Some(port)))),
        request: format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: {connection}\r\naccept: text/plain\r\n\r\n"),
        kept,
        idle: RefCell::default(),
        results: RefCell::default(),
        under_way: Cell::new(0),
    });
    let mut chance = Chance::new(number(Some(seed)));
    let began = Instant::now();
    let mut next = began;
    let mut phase_end = began;
    for phase in phases {
        let (seconds, rate) = phase.split_once(':').unwrap_or((phase, "1"));
        let (seconds, rate) = (number::<f64>(Some(seconds)), number::<f64>(Some(rate)));
        phase_end += Duration::from_secs_f64(seconds);
        while next < phase_end {
            sleep_until(next).await;
            target.under_way.set(target.under_way.get() + 1);
            spawn_local(request(target.clone(), began, next));
            next += chance.gap(rate);
        }
        next = phase_end;
    }
    while target.under_way.get() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (at, took, status) in target.results.borrow().iter() {
        writeln!(out, "{} {} {status}", at.as_micros(), took.as_micros()).expect("a reader");
    }
}

struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Until the next of `rate` requests per second that do not know of each other.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn gap(&mut self, rate: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let unit = ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-unit.ln() / rate)
    }
}

/// Times count from when the request was due, so that a generator that is late does not flatter anybody.
async fn request(target: Rc<Target>, began: Instant, due: Instant) {
    let left = (due + PATIENCE).saturating_duration_since(Instant::now());
    let status = timeout(left, exchange(&target)).await.ok().flatten().unwrap_or(0);
    target.results.borrow_mut().push((due - began, due.elapsed(), status));
    target.under_way.set(target.under_way.get() - 1);
}

async fn exchange(target: &Target) -> Option<u16> {
    let pooled = target.idle.borrow_mut().pop();
    let mut stream = match pooled {
        Some(stream) => stream,
        None => TcpStream::connect(target.address).await.ok()?,
    };
    stream.set_nodelay(true).ok()?;
    stream.write_all(target.request.as_bytes()).await.ok()?;
    let mut answer = vec![0; 4096];
    let mut length = 0;
    let (status, whole) = loop {
        let count = stream.read(&mut answer[length..]).await.ok().filter(|count| *count > 0)?;
        length += count;
        let text = String::from_utf8_lossy(&answer[..length]);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let field = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let wanted = field("content-length:").and_then(|text| text.parse::<usize>().ok());
            if wanted.is_some_and(|wanted| body.len() < wanted) {
                continue;
            }
            let reusable = wanted.is_some() && field("connection:") != Some("close");
            break (head.split(' ').nth(1)?.parse().ok()?, reusable);
        }
    };
    if target.kept && whole {
        target.idle.borrow_mut().push(stream);
    }
    Some(status)
}

// Fast answers at a steady rate

fn steady(arguments: &[String]) {
    let [port, host, path, connections, seconds, rate] = arguments else { return };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number(Some(port))));
    let connections: u32 = number(Some(connections));
    let rate = number::<f64>(Some(rate)) / f64::from(connections);
    let end = std::time::Instant::now() + Duration::from_secs_f64(number(Some(seconds)));
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let threads = (1..=connections).map(|seed| {
            let head = head.as_bytes();
            scope.spawn(move || one_by_one(address, head, rate, Chance::new(seed.into()), end).expect("answers"))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a result")).collect()
    });
    let mut out = BufWriter::new(std::io::stdout().lock());
    for time in times {
        writeln!(out, "{}", time.as_nanos() / 1000).expect("a reader");
    }
}

fn one_by_one(
    address: SocketAddr,
    request: &[u8],
    rate: f64,
    mut chance: Chance,
    end: std::time::Instant,
) -> std::io::Result<Vec<Duration>> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut times = Vec::new();
    let mut due = std::time::Instant::now();
    loop {
        due += chance.gap(rate);
        let now = std::time::Instant::now();
        // At a rate that nobody keeps up with, it is never due.
        if due.max(now) >= end {
            return Ok(times);
        }
        std::thread::sleep(due.saturating_duration_since(now));
        // From when it left, not from when it was due: an answer before it that was late is counted once.
        let sent = std::time::Instant::now();
        stream.write_all(request)?;
        let mut length = 0;
        let mut line = String::new();
        let mut is_first = true;
        while reader.read_line(&mut line)? > 2 {
            let text = line.to_ascii_lowercase();
            if is_first && !text.contains(" 200") {
                return Err(std::io::Error::other(line));
            }
            is_first = false;
            if let Some(value) = text.strip_prefix("content-length:") {
                length = number(Some(value.trim()));
            }
            line.clear();
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        times.push(sent.elapsed());
    }
}
