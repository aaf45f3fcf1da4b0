//! Clients that do not wait for each other.

use std::cell::{Cell, RefCell};
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::chance::Chance;
use crate::number;

const PATIENCE: Duration = Duration::from_secs(5);

struct Target {
    address: SocketAddr,
    request: String,
    kept: bool,
    idle: RefCell<Vec<TcpStream>>,
    results: RefCell<Vec<(Duration, Duration, u16)>>,
    under_way: Cell<usize>,
}

pub(crate) async fn clients(arguments: &[String]) {
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
