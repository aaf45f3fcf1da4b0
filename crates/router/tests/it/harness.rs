//! A router with its own data directory and port, dynos that are scripted sockets, and clients that read every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use router::client::{Pushed, RouterClient, TableUpdate};
use router::{Bounds, Listen, Router, RouterConfig};
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;
use uuid::Uuid;
use wire::routes::{
    AdmissionSettings, AppRoute, Availability, CertificateRoute, DynoRoute, EdgeSettings, FrontPolicy, RequestLimits,
    RouteTable, StuckDyno,
};
use wire::segment::SegmentReader;

pub(crate) const INSTANCE: &str = "0123456789abcdef";
pub(crate) const HOST: &str = "shop.example";
/// Longer than anything takes, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn bounds() -> Bounds {
    Bounds { lame_duck: Duration::from_millis(50), drain: Duration::from_secs(5), ..Bounds::default() }
}

pub(crate) fn limits() -> RequestLimits {
    RequestLimits { first_byte_ms: 10_000, idle_ms: 10_000, connect_ms: 2_000, boot_wait_ms: 10_000, silence_ms: None }
}

pub(crate) struct TestRouter {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) https_address: SocketAddr,
    pub(crate) runtime: Runtime,
    pub(crate) server: RouterClient,
    generation: u64,
    log: SegmentReader,
    router: Router,
}

impl TestRouter {
    pub(crate) fn start() -> Self {
        Self::start_with(bounds())
    }

    pub(crate) fn start_with(bounds: Bounds) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), bounds)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, bounds: Bounds) -> Self {
        Self::start_with_all(dir, bounds, "127.0.0.1:0", |_config| {})
    }

    /// On all addresses of both kinds, as for the world.
    pub(crate) fn start_for_all() -> Self {
        Self::start_with_all(tempfile::tempdir().unwrap(), bounds(), "[::]:0", |_config| {})
    }

    pub(crate) fn start_on(status_address: Option<SocketAddr>, bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_with_all(dir, bounds, "127.0.0.1:0", |config| config.status_address = status_address)
    }

    pub(crate) fn start_changed(change: impl FnOnce(&mut RouterConfig)) -> Self {
        Self::start_with_all(tempfile::tempdir().unwrap(), bounds(), "127.0.0.1:0", change)
    }

    fn start_with_all(
        dir: tempfile::TempDir,
        bounds: Bounds,
        at: &str,
        change: impl FnOnce(&mut RouterConfig),
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let https_listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let https_address = https_listener.local_addr().unwrap();
        let mut config = config(dir.path(), vec![Listen::Inherited(listener)], bounds);
        config.https = vec![Listen::Inherited(https_listener)];
        config.https_port = Some(https_address.port());
        change(&mut config);
        let router = Router::start(config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).unwrap();
        let generation = server.generation_at_connect();
        let log = SegmentReader::new(&dir.path().join("router/log"), 0);
        Self { dir, address, https_address, runtime, server, generation, log, router }
    }

    /// Puts one app into the table, as it is from now on.
    pub(crate) fn route(&mut self, app: AppRoute) {
        self.push(vec![app], Vec::new());
    }

    pub(crate) fn push(&mut self, changed: Vec<AppRoute>, removed: Vec<Uuid>) {
        self.update(TableUpdate { changed, removed, ..TableUpdate::default() });
    }

    pub(crate) fn certify(&mut self, certificates: Vec<CertificateRoute>) {
        self.update(TableUpdate { changed_certificates: certificates, ..TableUpdate::default() });
    }

    pub(crate) fn update(&mut self, changes: TableUpdate) {
        let update = TableUpdate { base: self.generation, generation: self.generation + 1, ..changes };
        assert_eq!(self.runtime.block_on(self.server.push(update)).unwrap(), Pushed::Applied);
        self.generation += 1;
    }

    pub(crate) fn replace(&mut self, apps: Vec<AppRoute>) {
        self.replace_with(apps, FrontPolicy::default());
    }

    pub(crate) fn replace_with(&mut self, apps: Vec<AppRoute>, fronts: FrontPolicy) {
        self.generation += 1;
        let table = RouteTable { generation: self.generation, apps, fronts, ..RouteTable::default() };
        self.runtime.block_on(self.server.replace(table)).unwrap();
    }

    pub(crate) fn in_flight(&mut self, dyno: Uuid) -> u32 {
        let all = self.runtime.block_on(self.server.in_flight()).unwrap();
        all.into_iter().find(|(id, _count)| *id == dyno).map_or(0, |(_id, count)| count)
    }

    pub(crate) fn stuck(&mut self) -> Vec<StuckDyno> {
        self.runtime.block_on(self.server.status()).unwrap().stuck
    }

    pub(crate) fn wait_for_in_flight(&mut self, dyno: Uuid, expect: u32) {
        wait_until(|| self.in_flight(dyno) == expect, &format!("{expect} in flight"));
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one GET on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        client.response()
    }

    /// Waits for the next line of the request log.
    pub(crate) fn next_log_line(&mut self) -> String {
        let mut lines = Vec::new();
        wait_until(
            || {
                lines = self.log.read().unwrap().records;
                !lines.is_empty()
            },
            "a line in the request log",
        );
        assert_eq!(lines.len(), 1, "one request, one line: {lines:?}");
        String::from_utf8(lines.remove(0).text).unwrap()
    }

    /// Waits for this many lines of the request log.
    pub(crate) fn next_log_lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let text = |record: wire::segment::SegmentRecord| String::from_utf8(record.text).unwrap();
        wait_until(
            || {
                lines.extend(self.log.read().unwrap().records.into_iter().map(text));
                lines.len() >= count
            },
            "lines in the request log",
        );
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }

    /// Ends the router, so that its log is whole, and gives all lines that were not read before.
    pub(crate) fn drain_and_read_log(mut self) -> Vec<String> {
        self.runtime.block_on(self.router.drain());
        let mut lines = Vec::new();
        loop {
            let records = self.log.read().unwrap().records;
            if records.is_empty() {
                return lines;
            }
            lines.extend(records.into_iter().map(|record| String::from_utf8(record.text).unwrap()));
        }
    }

    pub(crate) fn drain(mut self) -> tempfile::TempDir {
        self.runtime.block_on(self.router.drain());
        self.dir
    }

    pub(crate) fn begin_drain(self) -> thread::JoinHandle<()> {
        let (mut router, runtime) = (self.router, self.runtime);
        thread::spawn(move || runtime.block_on(router.drain()))
    }
}

pub(crate) fn config(dir: &Path, http: Vec<Listen>, bounds: Bounds) -> RouterConfig {
    let (data_dir, instance) = (dir.to_owned(), INSTANCE.to_owned());
    let threads = NonZeroUsize::new(2);
    RouterConfig {
        data_dir,
        instance,
        http,
        https: Vec::new(),
        https_port: None,
        http2_without_tls: true,
        ca_file: dir.join("authorities.pem"),
        upstream_networks: ["127.0.0.0/8", "::1"].map(|network| network.parse().unwrap()).into(),
        threads,
        status_address: None,
        bounds,
    }
}

pub(crate) fn app(dynos: &[&TestDyno]) -> AppRoute {
    let availability = if dynos.is_empty() { Availability::Starting } else { Availability::Serving };
    AppRoute {
        app: Uuid::from_u128(7),
        name: "shop".to_owned(),
        logged_for: None,
        hosts: vec![HOST.to_owned()],
        availability,
        dynos: dynos.iter().map(|dyno| dyno.route()).collect(),
        limits: limits(),
        edge: EdgeSettings::default(),
        admission: AdmissionSettings::default(),
    }
}

/// A listening socket that runs a script for each connection.
pub(crate) struct TestDyno {
    pub(crate) id: Uuid,
    pub(crate) address: SocketAddr,
    pub(crate) concurrency: Option<u32>,
    pub(crate) weight: u32,
    pub(crate) connections: Arc<AtomicUsize>,
    listener: Option<TcpListener>,
    _reserved: Option<Socket>,
}

impl TestDyno {
    pub(crate) fn start(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script)
    }

    /// At an address where another one was, say, before that was dropped.
    pub(crate) fn start_at(address: SocketAddr, script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let mut dyno = Self::without_listener(listener.local_addr().unwrap());
        let (script, connections) = (Arc::new(script), dyno.connections.clone());
        let accepting = listener.try_clone().unwrap();
        thread::spawn(move || {
            while let Ok((stream, _peer)) = accepting.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let script = script.clone();
                thread::spawn(move || script(stream));
            }
        });
        dyno.listener = Some(listener);
        dyno
    }

    /// Answers every request, on connections that it keeps, with what `answer` makes of it.
    pub(crate) fn http(answer: impl Fn(&Request) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream| {
            while let Some(request) = read_request(&mut stream) {
                if stream.write_all(answer(&request).as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// An address where nothing listens, and where the test may listen later.
    pub(crate) fn refusing() -> Self {
        let (address, reserved) = reserved_address();
        let mut dyno = Self::without_listener(address);
        dyno._reserved = Some(reserved);
        dyno
    }

    /// A dyno that the test runs itself.
    pub(crate) fn elsewhere(address: SocketAddr) -> Self {
        Self::without_listener(address)
    }

    fn without_listener(address: SocketAddr) -> Self {
        let (connections, weight) = (Arc::default(), DynoRoute::WEIGHT_USUAL);
        Self { id: Uuid::new_v4(), address, concurrency: None, weight, connections, listener: None, _reserved: None }
    }

    pub(crate) fn route(&self) -> DynoRoute {
        let Self { concurrency, weight, .. } = *self;
        DynoRoute {
            dyno: self.id,
            name: "web.1".to_owned(),
            address: self.address,
            concurrency,
            weight,
            protocol: None,
        }
    }
}

impl Drop for TestDyno {
    fn drop(&mut self) {
        // Ends the accepting thread, which holds a duplicate of the socket.
        if let Some(listener) = &self.listener {
            rustix::net::shutdown(listener, rustix::net::Shutdown::Both).unwrap();
        }
    }
}

/// A free address. As long as the socket lives, which does not listen, nobody gets the port but who asks for it.
pub(crate) fn reserved_address() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// A listening socket whose backlog is full: connections to it neither succeed nor fail.
pub(crate) fn full_backlog() -> (TcpListener, Vec<TcpStream>, TestDyno) {
    let mut dyno = TestDyno::refusing();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let listener: TcpListener = socket.into();
    dyno.address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&dyno.address, Duration::from_millis(100)) {
        held.push(stream);
    }
    (listener, held, dyno)
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.find(|(header, _value)| header.eq_ignore_ascii_case(name)).map(|(_header, value)| value)
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Reads up to and including the empty line; `None` at the end of the stream.
pub(crate) fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) => return None,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::WouldBlock) => return None,
            Err(error) => panic!("cannot read a head: {error}, got {:?}", String::from_utf8_lossy(&head)),
        }
    }
    Some(String::from_utf8(head).unwrap())
}

pub(crate) fn read_request(stream: &mut impl Read) -> Option<Request> {
    let head = read_head(stream)?;
    let body = if header(&head, "transfer-encoding").is_some() {
        read_chunked(stream).0
    } else {
        let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).ok()?;
        body
    };
    Some(Request { head, body })
}

/// Gives the body and the trailer section.
pub(crate) fn read_chunked(stream: &mut impl Read) -> (Vec<u8>, String) {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(read_line(stream).trim_end(), 16).unwrap();
        if size == 0 {
            let mut trailers = String::new();
            while !trailers.ends_with("\r\n\r\n") && trailers != "\r\n" {
                trailers.push_str(&read_line(stream));
            }
            return (body, trailers);
        }
        let at = body.len();
        body.resize(at + size, 0);
        stream.read_exact(&mut body[at..]).unwrap();
        assert_eq!(read_line(stream), "\r\n");
    }
}

fn read_line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn head(&mut self) -> String {
        read_head(&mut self.stream).expect("a response head")
    }

    /// Reads a response to anything but HEAD.
    pub(crate) fn response(&mut self) -> Response {
        let head = self.head();
        let body = if header(&head, "transfer-encoding").is_some() {
            read_chunked(&mut self.stream).0
        } else {
            let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
            self.stream.read_exact(&mut body).unwrap();
            body
        };
        Response { head, body: String::from_utf8(body).unwrap() }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        self.response()
    }

    /// Waits until the router has closed, however it did.
    pub(crate) fn expect_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
            _ => rest,
        }
    }
}

pub(crate) fn wait_until(mut condition: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Ends the threads that look at it, however the test goes.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
