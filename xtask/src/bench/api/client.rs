//! A client of the Platform API that adds nothing to what it measures: kept connections, one request after the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::super::platform::Platform;

/// How long an answer, or the next event of a stream, may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The Platform API with an administrator's token.
#[derive(Debug)]
pub(super) struct Api {
    port: u16,
    token: String,
}

impl Api {
    pub(super) fn new(platform: &Platform) -> Result<Self> {
        // Root makes tokens over the local socket.
        let mut stream = UnixStream::connect(platform.data().join("run/api.sock"))?;
        let head = "POST /oauth/authorizations HTTP/1.1\r\nHost: local\r\nConnection: close\r\nContent-Length: 2\r\n\
                    Content-Type: application/json\r\n\r\n{}";
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(Self { port: platform.api_port, token: text_field(&answer, "token")? })
    }

    pub(super) fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: BufReader::new(stream), token: self.token.clone() })
    }
}

/// One connection that is kept.
#[derive(Debug)]
pub(super) struct Connection {
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
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
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

    /// Follows an app's log from its last line on.
    pub(super) fn tail(mut self, app: &str) -> Result<Tail> {
        let session = self.ask("POST", &format!("/apps/{app}/log-sessions"), "{\"lines\": 1, \"tail\": true}")?;
        let url = text_field(&session, "logplex_url")?;
        let path = url.splitn(4, '/').nth(3).context("no path")?;
        self.send("GET", &format!("/{path}"), "")?;
        let (status, _length) = self.head()?;
        if status != 200 {
            bail!("a tail was answered with {status}");
        }
        Ok(Tail { stream: self.stream, line: Vec::new() })
    }
}

/// A log that is followed: server-sent events.
#[derive(Debug)]
pub(super) struct Tail {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Tail {
    /// The next line of the log.
    pub(super) fn next(&mut self) -> Result<&str> {
        loop {
            self.line.clear();
            if self.stream.read_until(b'\n', &mut self.line)? == 0 {
                bail!("a tail ended");
            }
            // Each chunk holds whole events, so that its length stands on a line of its own.
            if self.line.starts_with(b"data: ") {
                break;
            }
        }
        Ok(std::str::from_utf8(&self.line)?.trim_start_matches("data: ").trim_end())
    }

    /// A second owner of the connection, to end it with.
    pub(super) fn connection(&self) -> Result<TcpStream> {
        Ok(self.stream.get_ref().try_clone()?)
    }
}

/// A field of a JSON text that no other field's name is like.
pub(super) fn text_field(json: &str, name: &str) -> Result<String> {
    let mark = format!("\"{name}\":\"");
    let (_before, rest) = json.split_once(&mark).with_context(|| format!("no {name} in {json}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}
