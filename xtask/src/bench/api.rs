//! The API beside many apps and many readers of logs, and a line's way to a terminal.
//!
//! The floor of a request is one that reads nothing of an app.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::figure::{self, Goal};
use super::platform::Platform;

const APPS: usize = 500;
/// With the first one that every app is born with.
const RELEASES_PER_APP: usize = 10;
const TAILS: usize = 50;
const REQUESTS: usize = 2000;

const LINES: usize = 100;

const PATIENCE: Duration = Duration::from_secs(180);

/// Prints the time, ten times a second.
const CLOCK: &str = "\
import time
while True:
    print('clock %.6f' % time.time(), flush=True)
    time.sleep(0.1)
";

pub(super) fn run() -> Result<()> {
    let platform = Platform::start()?;
    let api = Api::new(&platform)?;
    requests(&api)?;
    deploy(&platform)?;
    line(&platform)
}

/// The Platform API with an administrator's token.
#[derive(Debug)]
struct Api {
    port: u16,
    token: String,
}

impl Api {
    fn new(platform: &Platform) -> Result<Self> {
        // Root makes tokens over the local socket.
        let mut stream = UnixStream::connect(platform.data().join("run/api.sock"))?;
        let head = "POST /oauth/authorizations HTTP/1.1\r\nHost: local\r\nConnection: close\r\nContent-Length: 2\r\n\
                    Content-Type: application/json\r\n\r\n{}";
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(Self { port: platform.api_port, token: text_field(&answer, "token")? })
    }

    fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: BufReader::new(stream), token: self.token.clone() })
    }
}

/// One connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Accept: application/vnd.heroku+json; version=3\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// The body of an answer that must be a success.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
        self.send(method, path, body)?;
        let (status, length) = self.head()?;
        let mut text = vec![0; length];
        self.stream.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {text}");
        }
        Ok(text)
    }

    /// Status and length; a stream has none.
    fn head(&mut self) -> Result<(u16, usize)> {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, length));
            }
            if line.starts_with("http/") {
                status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status")?;
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse()?;
            }
        }
    }

    /// Follows an app's log.
    fn tail(mut self, app: &str) -> Result<BufReader<TcpStream>> {
        let session = self.ask("POST", &format!("/apps/{app}/log-sessions"), "{\"lines\": 1, \"tail\": true}")?;
        let url = text_field(&session, "logplex_url")?;
        let path = url.splitn(4, '/').nth(3).context("no path")?;
        self.send("GET", &format!("/{path}"), "")?;
        let (status, _length) = self.head()?;
        if status != 200 {
            bail!("a tail was answered with {status}");
        }
        Ok(self.stream)
    }
}

/// A field of a JSON text that no other field's name is like.
fn text_field(json: &str, name: &str) -> Result<String> {
    let mark = format!("\"{name}\":\"");
    let (_before, rest) = json.split_once(&mark).with_context(|| format!("no {name} in {json}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn requests(api: &Api) -> Result<()> {
    let mut connection = api.connect()?;
    let begun = Instant::now();
    for app in 0..APPS {
        connection.ask("POST", "/apps", &format!("{{\"name\": \"app-{app}\"}}"))?;
        for release in 1..RELEASES_PER_APP {
            let path = format!("/apps/app-{app}/config-vars");
            connection.ask("PATCH", &path, &format!("{{\"VAR_{release}\": \"value {release}\"}}"))?;
        }
    }
    let total = APPS * RELEASES_PER_APP;
    figure::note(&format!("{APPS} apps, {total} releases were made in"), "s", begun.elapsed().as_secs_f64());
    let stop = Arc::new(AtomicBool::new(false));
    let tails = (0..TAILS).map(|tail| api.connect()?.tail(&format!("app-{tail}"))).collect::<Result<Vec<_>>>()?;
    for mut tail in tails {
        let stop = Arc::clone(&stop);
        spawn(move || {
            let mut line = String::new();
            while !stop.load(Ordering::Relaxed) && tail.read_line(&mut line).is_ok_and(|read| read > 0) {
                line.clear();
            }
        });
    }
    // What they follow changes all the while.
    let writer = spawn({
        let (mut connection, stop) = (api.connect()?, Arc::clone(&stop));
        move || -> Result<()> {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let path = format!("/apps/app-{}/config-vars", number % TAILS);
                connection.ask("PATCH", &path, &format!("{{\"CHANGED\": \"{number}\"}}"))?;
                sleep(Duration::from_millis(50));
            }
            Ok(())
        }
    });
    let floor = times(&mut connection, |_request| "/regions".to_owned())?;
    for (name, rest) in [("ps", "dynos"), ("config", "config-vars"), ("releases", "releases")] {
        let measured = times(&mut connection, |request| format!("/apps/app-{}/{rest}", request * 7 % APPS))?;
        let goal = [Goal::AtMost(5.0)];
        figure::print(&format!("{name}, {TAILS} tails, p99"), "ms", at(&measured, 99), at(&floor, 99), &goal);
        figure::note("its median", "ms", at(&measured, 50));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().map_err(|_panic| anyhow::anyhow!("the writer panicked"))?
}

/// Milliseconds of requests one after the other, sorted.
fn times(connection: &mut Connection, path: impl Fn(usize) -> String) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(REQUESTS);
    for request in 0..REQUESTS {
        let path = path(request);
        let begun = Instant::now();
        connection.ask("GET", &path, "")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// An app whose worker prints the time.
fn deploy(platform: &Platform) -> Result<()> {
    let directory = platform.scratch().join("clock");
    fs::create_dir(&directory)?;
    fs::write(directory.join("script.py"), CLOCK)?;
    fs::write(directory.join("Procfile"), "worker: exec python3 script.py\n")?;
    fs::write(directory.join("requirements.txt"), "")?;
    platform.berth(&["create", "clock"])?;
    platform.berth(&["deploy", "clock", "--app", "clock"])?;
    Ok(())
}

/// From a worker's print to a terminal that follows the log.
fn line(platform: &Platform) -> Result<()> {
    platform.berth(&["ps:scale", "--app", "clock", "worker=1"])?;
    let mut terminal = platform
        .prepared(platform.scratch(), "berth", &["logs", "--tail", "--app", "clock"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(terminal.stdout.take().context("no output")?);
    let mut delays = Vec::with_capacity(LINES);
    for line in output.lines() {
        let line = line?;
        let Some((_head, printed)) = line.split_once("clock ") else { continue };
        let Ok(printed) = printed.trim().parse::<f64>() else { continue };
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
        delays.push((now - printed) * 1e3);
        // The first ones are history.
        if delays.len() == LINES + 20 {
            break;
        }
    }
    terminal.kill()?;
    terminal.wait()?;
    platform.berth(&["ps:scale", "--app", "clock", "worker=0"])?;
    let mut delays = delays.split_off(20);
    delays.sort_by(f64::total_cmp);
    figure::print("a printed line on a terminal, p99", "ms", at(&delays, 99), 0.0, &[Goal::AtMost(200.0)]);
    figure::note("its median", "ms", at(&delays, 50));
    Ok(())
}
