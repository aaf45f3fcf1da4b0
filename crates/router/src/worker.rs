//! One worker thread: its own runtime, its own listeners, its own connections to dynos.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::ip_network::IpNetwork;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use wire::routes::RouterStatus;

use crate::buffers::Buffers;
use crate::client_io::{ClientIo, ClientStream};
use crate::config::Bounds;
use crate::date::DateText;
use crate::express::{self, HandOver, StreamPool};
use crate::front::{Front, Fronts};
use crate::head_clock::HeadClock;
use crate::listener::{self, Listener};
use crate::log_thread::LogSender;
use crate::places::ClientPlaces;
use crate::pool::Pool;
use crate::proxy::{self, Client};
use crate::proxy_protocol::{self, Proxied};
use crate::refused::Refused;
use crate::request_body::RequestBody;
use crate::seat::{Seat, TooMany};
use crate::table::Table;
use crate::tls::{HandshakeError, Handshakes, Secured};
use crate::traffic::{Tallies, Traffic};
use crate::traffic_totals::TrafficTotals;
use crate::upstream;
use crate::worker_log::WorkerLog;

/// How often idle connections to dynos are looked at.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);

/// The most that is read at once.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

/// How often a router that ends looks whether dynos still work for it.
const ORPHANS_PERIOD: Duration = Duration::from_millis(20);

const PREFACE_BEGIN: [u8; 3] = *b"PRI";
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
const PREFACE_ATTEMPTS_MAX: u32 = 100;

/// What all threads of the router share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where the server's socket is.
    pub(crate) data_dir: PathBuf,
    pub(crate) table: Table,
    pub(crate) bounds: Bounds,
    pub(crate) threads: u32,
    pub(crate) log: LogSender,
    /// Where worker threads hand over what they have counted, and what came of it.
    pub(crate) tallies: Sender<Tallies>,
    pub(crate) traffic: TrafficTotals,
    pub(crate) tls: Arc<ServerConfig>,
    /// Certificates that this machine trusts.
    pub(crate) ca_file: PathBuf,
    /// Private networks in which upstreams may be.
    pub(crate) upstream_networks: Vec<IpNetwork>,
    /// Made of them when it is first needed.
    pub(crate) upstream_tls: OnceLock<Arc<ClientConfig>>,
    pub(crate) handshakes: Handshakes,
    pub(crate) clients: Arc<ClientPlaces>,
    pub(crate) slow_heads: Arc<ClientPlaces>,
    pub(crate) floods: Refused,
    /// Of fronts, without what those begin with.
    pub(crate) headerless: Refused,
    /// Where clients find HTTPS.
    pub(crate) https_port: Option<u16>,
    pub(crate) http2_without_tls: bool,
    pub(crate) draining: AtomicBool,
    /// Whether it ends because another router has taken over.
    pub(crate) has_successor: AtomicBool,
    pub(crate) connections: AtomicUsize,
    /// Rings when connections are about to run out.
    pub(crate) crowded: Notify,
    pub(crate) requests_total: AtomicU64,
}

impl Shared {
    pub(crate) fn status(&self) -> RouterStatus {
        RouterStatus {
            pid: std::process::id(),
            generation: self.table.generation(),
            threads: self.threads,
            apps: self.table.app_count() as u64,
            connections: self.connections.load(Ordering::Relaxed) as u64,
            requests_total: self.requests_total.load(Ordering::Relaxed),
            log_lines_dropped_total: self.log.dropped_total(),
            admission: self.table.admission(),
            stuck: self.table.stuck(),
        }
    }

    /// Connections that were refused, by reason.
    pub(crate) fn refused(&self) -> [&Refused; 5] {
        let Self { clients, slow_heads, handshakes, floods, headerless, .. } = self;
        [&clients.refused, &slow_heads.refused, &handshakes.refused, floods, headerless]
    }

    pub(crate) fn upstream_tls(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.upstream_tls.get() {
            return Ok(config.clone());
        }
        let config = upstream::tls_configuration(&self.ca_file)?;
        Ok(self.upstream_tls.get_or_init(|| config).clone())
    }
}

/// How far the end of the router has come; it only goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// No new connections; every answer says `Connection: close`.
    LameDuck,
    /// Idle connections are closed; requests under way may finish.
    Draining,
}

/// What the clients of a listener begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Tls,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) streams: StreamPool,
    pub(crate) buffers: Buffers,
    /// What was just read, until it is written on or kept: borrowed for one step at a time.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    pub(crate) date: DateText,
    pub(crate) log: Rc<WorkerLog>,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Client connections of this thread, and a bell for when the last one ends.
    open: Cell<usize>,
    idle: Notify,
}

/// Serves until the drain is over.
pub(crate) async fn run(shared: Arc<Shared>, listeners: Vec<Listener>, mut stage: watch::Receiver<Stage>) {
    let log =
        Rc::new(WorkerLog::new(shared.log.clone(), shared.bounds.log_lines_max, Traffic::new(shared.tallies.clone())));
    let worker = Rc::new(Worker {
        shared,
        log: log.clone(),
        pool: Pool::default(),
        streams: StreamPool::default(),
        buffers: Buffers::default(),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
        date: DateText::default(),
        stage: stage.clone(),
        open: Cell::new(0),
        idle: Notify::new(),
    });
    let sweeper = spawn_local(sweep(worker.clone()));
    let logger = spawn_local(async move { log.hand_over().await });
    let accept = |listener| spawn_local(listener::accept(worker.clone(), listener));
    let acceptors: Vec<_> = listeners.into_iter().map(accept).collect();
    // The router that owns the sender is gone only when the process ends anyway.
    drop(stage.wait_for(|stage| *stage >= Stage::Draining).await);
    let deadline = Instant::now() + worker.shared.bounds.drain;
    for acceptor in acceptors {
        drop(acceptor.await);
    }
    while worker.open.get() > 0 {
        if timeout_at(deadline, worker.idle.notified()).await.is_err() {
            debug!(connections = worker.open.get(), "Drain limit reached; closing what is left");
            worker.log.cut_off();
            break;
        }
    }
    // What dynos still work on though its client has left is counted by the successor for as long as it is told of it.
    // Without one, nobody would know better for waiting.
    while worker.shared.has_successor.load(Ordering::Relaxed) && worker.shared.table.is_busy() {
        if Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(ORPHANS_PERIOD).await;
    }
    sweeper.abort();
    logger.abort();
}

async fn sweep(worker: Rc<Worker>) {
    let mut period = tokio::time::interval(SWEEP_PERIOD);
    loop {
        period.tick().await;
        worker.pool.sweep(&worker.shared.bounds);
        worker.streams.sweep(&worker.shared.bounds);
    }
}

/// Counts a client connection as long as it lives, upgraded or not: the end of the router waits for it.
pub(crate) struct Open {
    worker: Rc<Worker>,
}

impl Open {
    pub(crate) fn new(worker: Rc<Worker>) -> Self {
        worker.open.set(worker.open.get() + 1);
        Self { worker }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let worker = &self.worker;
        worker.open.set(worker.open.get() - 1);
        if worker.open.get() == 0 {
            worker.idle.notify_one();
        }
    }
}

/// Serves one client connection to its end.
pub(crate) async fn serve(worker: Rc<Worker>, mut stream: TcpStream, mut seat: Seat, speaks: Speaks) {
    let open = Open::new(worker.clone());
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut origin = Origin::new(peer, local, worker.shared.table.fronts());
    let bounds = &worker.shared.bounds;
    if let Some(balancer) = origin.fronts.find(peer.ip(), true) {
        // Some load balancers open connections before they have a client for them.
        let Some(_first) = first_byte(&worker, &stream, origin.idle(bounds)).await else { return };
        match timeout(bounds.handshake, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(proxied)) => origin.tell(balancer, proxied),
            Ok(Err(error)) => {
                worker.shared.headerless.note(peer.ip());
                return debug!(%error, client = %peer, "No PROXY header from a front that must send it");
            }
            Err(_elapsed) => return debug!(client = %peer, "A front did not finish its PROXY header in time"),
        }
    }
    // Whose it is, is known from here on, and it may stay silent for as long as others may be idle.
    if origin.front.is_none()
        && let Err(TooMany) = seat.count_for(origin.peer.ip())
    {
        return;
    }
    let seat = Arc::new(seat);
    let Some(first) = first_byte(&worker, &stream, origin.idle(bounds)).await else { return };
    let (stream, tls, http2) = match speaks {
        Speaks::Http => {
            let asked = worker.shared.http2_without_tls && begins_http2(first, &stream).await;
            (ClientStream::Plain(stream), None, asked)
        }
        Speaks::Tls => {
            let Shared { tls, handshakes, .. } = &*worker.shared;
            // On the heap: a handshake's state is large and short-lived.
            let front = origin.front.as_ref().or(origin.balancer.as_ref());
            let of_front = front.and_then(|front| front.tls(worker.shared.table.certificates()));
            let config = of_front.unwrap_or_else(|| tls.clone());
            let clock = origin.front.is_none().then(|| origin.head_clock(&worker.shared));
            let accepting = handshakes.accept(config, stream, first, clock, bounds);
            match Box::pin(accepting).await {
                Ok((stream, secured)) => {
                    let http2 = secured.http2;
                    (ClientStream::Tls(Box::new(stream)), Some(secured), http2)
                }
                Err(error) => {
                    if matches!(error, HandshakeError::TooMany) {
                        handshakes.refused.note(origin.peer.ip());
                    }
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    return debug!(%error, cause, client = %peer, "No TLS with a client");
                }
            }
        }
    };
    origin.tls = tls;
    if http2 {
        Box::pin(express::http2::serve(&worker, stream, seat, origin)).await;
    } else if let Some(HandOver { stream, bytes }) = express::serve(&worker, stream, &seat, &origin).await {
        let io = ClientIo::http1(stream, seat, bytes, origin.head_clock(&worker.shared), bounds);
        Box::pin(serve_http1(&worker, io, origin)).await;
    }
    drop(open);
}

/// Where a client connection comes from, and over what.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// `None` over plain HTTP.
    pub(crate) tls: Option<Secured>,
    /// Who is believed about the client.
    pub(crate) front: Option<Arc<Front>>,
    /// The load balancer that said who the other end is, by the PROXY protocol.
    pub(crate) balancer: Option<Arc<Front>>,
    /// It ended the TLS.
    pub(crate) balancer_tls: bool,
    /// As they were when the connection came.
    pub(crate) fronts: Arc<Fronts>,
}

impl Origin {
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr, fronts: Arc<Fronts>) -> Self {
        let front = fronts.find(peer.ip(), false);
        Self { peer, local, tls: None, front, balancer: None, balancer_tls: false, fronts }
    }

    /// Takes what the PROXY protocol says: the client may be a front itself, as with Cloudflare before a load balancer.
    fn tell(&mut self, balancer: Arc<Front>, proxied: Option<Proxied>) {
        if let Some(Proxied { source, destination, tls }) = proxied {
            (self.peer, self.local) = (source, destination);
            self.front = self.fronts.find(source.ip(), false);
            self.balancer_tls = tls || balancer.ends_tls_at(destination.port());
        }
        self.balancer = Some(balancer);
    }

    /// For a head on this connection. A front's heads are those of many clients.
    pub(crate) fn head_clock(&self, shared: &Shared) -> HeadClock {
        let clock = HeadClock::new(self.peer.ip(), &shared.slow_heads, &shared.bounds);
        if self.front.is_some() { clock.of_many_clients() } else { clock }
    }

    /// How long the connection may be idle. A front decides by itself when it is done with one; if the router were
    /// faster, a request could meet the closing of its connection.
    pub(crate) fn idle(&self, bounds: &Bounds) -> Duration {
        if self.front.is_some() { bounds.front_idle } else { bounds.client_idle }
    }
}

/// Waits for the first byte and leaves it where it is: until it comes, a connection costs nothing but its socket.
async fn first_byte(worker: &Worker, stream: &TcpStream, idle: Duration) -> Option<u8> {
    let mut stage = worker.stage.clone();
    let mut byte = [0];
    let (shared, since) = (&worker.shared, Instant::now());
    let ends = |stage: &Stage| *stage >= Stage::Draining || shared.is_idle_for_too_long(since, idle);
    let peeked = tokio::select! {
        peeked = timeout(idle, stream.peek(&mut byte)) => peeked,
        _ends = stage.wait_for(ends) => return None,
    };
    matches!(peeked, Ok(Ok(1))).then_some(byte[0])
}

/// Whether the client begins with HTTP/2's preface, `PRI * …`: no method of HTTP/1 begins with its three letters.
async fn begins_http2(first_byte: u8, stream: &TcpStream) -> bool {
    let mut bytes = [0; PREFACE_BEGIN.len()];
    if first_byte != PREFACE_BEGIN[0] {
        return false;
    }
    for _attempt in 0..PREFACE_ATTEMPTS_MAX {
        let count = stream.peek(&mut bytes).await.unwrap_or(0);
        if count == 0 || bytes[..count] != PREFACE_BEGIN[..count] {
            return false;
        }
        if count == PREFACE_BEGIN.len() {
            return true;
        }
        // Two packets for three letters happen in tests only.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
    false
}

async fn serve_http1(worker: &Rc<Worker>, io: ClientIo, origin: Origin) {
    let (peer, idle) = (origin.peer, origin.idle(&worker.shared.bounds));
    let line = io.line();
    let client = Rc::new(Client { worker: worker.clone(), origin, line: line.clone(), http2: false });
    let bounds = &worker.shared.bounds;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_headers(bounds.headers_max)
        .max_buf_size(bounds.buffer_bytes_max)
        .half_close(false);
    let service =
        service_fn(move |request: Request<Incoming>| proxy::handle(client.clone(), request.map(RequestBody::http1)));
    let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut stage = worker.stage.clone();
    // A connection with a request under way only ends with that.
    let ends = |stage: &Stage| *stage >= Stage::Draining || worker.shared.is_idle_for_too_long(line.asked_at(), idle);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ends = stage.wait_for(ends) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, client = %peer, "Client connection ended early");
    }
}
