//! A scripted server, and the client as its user would start it.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The connection closes in the middle of a chunked body.
    Cut,
    /// The body stays open until the client leaves.
    Open,
    /// The answer comes before the request's body was read, and the connection closes over it.
    Early,
    /// The connection closes without an answer.
    Never,
}

impl Reply {
    pub(crate) fn json(value: &Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: value.to_string().into_bytes(), end: End::Whole }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: text.as_bytes().to_vec(), end: End::Whole }
    }

    pub(crate) fn error(status: u16, id: &str, message: &str) -> Self {
        Self { status, ..Self::json(&serde_json::json!({ "id": id, "message": message })) }
    }

    pub(crate) fn cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }

    pub(crate) fn open(mut self) -> Self {
        self.end = End::Open;
        self
    }

    pub(crate) fn never(mut self) -> Self {
        self.end = End::Never;
        self
    }

    pub(crate) fn early(mut self) -> Self {
        self.end = End::Early;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        if self.end == End::Never {
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\ntransfer-encoding: chunked\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        write!(stream, "{head}\r\n")?;
        if !self.body.is_empty() {
            write!(stream, "{:x}\r\n", self.body.len())?;
            stream.write_all(&self.body)?;
            stream.write_all(b"\r\n")?;
        }
        match self.end {
            End::Whole | End::Early => stream.write_all(b"0\r\n\r\n"),
            End::Cut | End::Never => Ok(()),
            // Ends when the client closes.
            End::Open => stream.read(&mut [0]).map(drop),
        }
    }
}

type Routes = HashMap<String, Vec<Reply>>;

/// Answers `METHOD /path` with the replies written down for it, in order; the last one stays.
pub(crate) struct Server {
    pub(crate) url: String,
    routes: Arc<Mutex<Routes>>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (routes, seen) = (Arc::new(Mutex::new(Routes::new())), Arc::new(Mutex::new(Vec::new())));
        let server = Self { url, routes: Arc::clone(&routes), seen: Arc::clone(&seen) };
        // Lives as long as the test process; it holds nothing but its port.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (routes, seen) = (Arc::clone(&routes), Arc::clone(&seen));
                thread::spawn(move || serve(stream.unwrap(), &routes, &seen));
            }
        });
        server
    }

    pub(crate) fn on(&self, route: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.routes.lock().unwrap().insert(route.to_owned(), replies.into_iter().collect());
        self
    }

    pub(crate) fn seen(&self, route: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.line == route).cloned().collect()
    }

    /// Waits until a request has come.
    pub(crate) fn wait_for(&self, route: &str, count: usize) {
        wait_until(|| self.seen(route).len() >= count, &format!("{count} × {route}"));
    }

    /// The client with this server, a token and an app, in an empty home.
    pub(crate) fn client(&self, args: &[&str]) -> Client {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-client"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home.path())
            .env("BERTH_HOST", &self.url)
            .env("BERTH_API_KEY", "s3cret-token")
            .env("BERTH_APP", "shop")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Client { command, home }
    }
}

pub(crate) fn wait_until(mut condition: impl FnMut() -> bool, what: &str) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn serve(mut stream: TcpStream, routes: &Mutex<Routes>, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some(mut request) = read_head(&mut reader) else { return };
    let reply = {
        let mut routes = routes.lock().unwrap();
        match routes.get_mut(&request.line) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None => Reply::error(404, "not_found", &format!("no answer is written down for {}", request.line)),
        }
    };
    if reply.end != End::Early && read_body(&mut reader, &mut stream, &mut request).is_err() {
        return;
    }
    seen.lock().unwrap().push(request);
    // A client that leaves early is part of some tests.
    let _client_left = reply.write(&mut stream);
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.strip_suffix(" HTTP/1.1\r\n")?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Request { line, headers, body: Vec::new() })
}

fn read_body(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream, request: &mut Request) -> io::Result<()> {
    if request.headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)
}

pub(crate) struct Client {
    pub(crate) command: Command,
    pub(crate) home: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Client {
    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs to the end. Whatever happens, the token is never shown.
    pub(crate) fn end(self) -> Ended {
        self.end_with_input("")
    }

    pub(crate) fn end_with_input(mut self, input: &str) -> Ended {
        let mut child = self.command.stdin(Stdio::piped()).spawn().unwrap();
        // One that wants to read nothing may have closed it.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        assert!(!ended.stdout.contains("s3cret-token") && !ended.stderr.contains("s3cret-token"), "{ended:?}");
        ended
    }

    pub(crate) fn spawn(mut self) -> (Child, tempfile::TempDir) {
        (self.command.spawn().unwrap(), self.home)
    }
}
