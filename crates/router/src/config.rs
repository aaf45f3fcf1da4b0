//! What the router is told when it starts.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use domain::ip_network::IpNetwork;

#[derive(Debug)]
pub struct RouterConfig {
    /// Holds `router/`: admin socket, table and request log.
    pub data_dir: PathBuf,
    /// Only a server of the same instance may give this router a table.
    pub instance: String,
    /// Where plain HTTP is accepted.
    pub http: Vec<Listen>,
    /// Where TLS is accepted.
    pub https: Vec<Listen>,
    /// Where clients find HTTPS: redirects lead there. `None` where they cannot.
    pub https_port: Option<u16>,
    /// Whether clients may speak HTTP/2 where plain HTTP is accepted, as load balancers in front do for gRPC.
    pub http2_without_tls: bool,
    /// PEM: the authorities that upstreams' certificates are checked with.
    pub ca_file: PathBuf,
    /// Networks that are not public and in which upstreams may be.
    pub upstream_networks: Vec<IpNetwork>,
    /// Worker threads; `None` for one per core.
    pub threads: Option<NonZeroUsize>,
    /// Where `/metrics` and `/status` answer over TCP, besides the socket in the data directory.
    pub status_address: Option<SocketAddr>,
    pub bounds: Bounds,
}

#[derive(Debug)]
pub enum Listen {
    /// Bound here, once per worker thread (`SO_REUSEPORT`).
    Address(SocketAddr),
    /// Bound by whoever started this process; the worker threads share it.
    Inherited(TcpListener),
}

/// Every bound of the router that is not a property of an app.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Client connections of the whole router. The nearer to the bound, the shorter one may be idle; at it, new ones wait
    /// in the kernel's backlog.
    pub connections_max: usize,
    /// Connections of one client address (of one /64 in IPv6). More are closed at once. Fronts have no such bound.
    pub client_connections_max: usize,
    /// Requests and upgraded connections of one app, waiting ones included, and never more than there is room for further
    /// connections. More are refused (`H22`).
    pub app_requests_max: usize,
    /// Connections to dynos, of which a request under way may need one: no app has more requests than leave as many
    /// connections to others (`H22`). As many as there are descriptors for.
    pub dyno_connections_max: usize,
    /// What the router keeps in memory of uploads, large heads, upgraded connections, and answers whose clients do not
    /// take them. One app has no more of it than it leaves to the others; then its uploads are refused (`H22`), and
    /// answers that wait for their clients broken off (`H28`).
    pub held_bytes_max: usize,
    /// One request head, and the most that is buffered per direction and connection. Larger heads get 431.
    pub buffer_bytes_max: usize,
    /// Header lines of one head. More get 431.
    pub headers_max: usize,
    /// How long a client connection may take for a request head, or idle between requests, before it is closed.
    pub client_idle: Duration,
    /// The same for a connection from a front: longer than any of them keeps one (Cloudflare 900 s, ALB 60 s).
    pub front_idle: Duration,
    /// How long a TLS handshake or a PROXY header may take.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Heads of one client address that are on their way for more than a second. Connections with more are closed.
    pub client_slow_heads_max: usize,
    /// The least that a client must move while it is waited for: of a body that it sends, or of an answer that it takes
    /// (`H28`).
    pub client_pace: ClientPace,
    /// TLS handshakes under way. At the bound, new connections are closed.
    pub handshakes_max: usize,
    /// HTTP/2 requests under way on one client connection.
    pub http2_streams_max: u32,
    /// What an HTTP/2 client may send on one stream, and on all of a connection, before it is asked for more: the most
    /// that is held of uploads whose dyno does not take them.
    pub http2_stream_window_bytes: u32,
    pub http2_connection_window_bytes: u32,
    /// Requests under way on one HTTP/2 connection to a dyno. More open another one.
    pub dyno_streams_max: usize,
    /// How long an idle HTTP/2 connection to a dyno is kept.
    pub dyno_http2_idle: Duration,
    /// Requests of one app that wait for a dyno. The newest beyond it is refused (`H11`).
    pub queue_requests_max: usize,
    /// How long a request waits for a slot of a busy dyno before it is refused (`H11`).
    pub queue_wait: Duration,
    /// Dynos that are tried for one request before it fails (`H21`, `H19`, `H34`).
    pub connect_attempts_max: usize,
    /// How long a dyno that refused a connection gets no requests while others can take them.
    pub quarantine: Duration,
    /// How long an idle connection to a dyno is kept. Gunicorn closes at 2 s, so ours must be shorter.
    pub dyno_idle: Duration,
    /// Idle connections kept per dyno and thread. More are closed.
    pub dyno_idle_connections_max: usize,
    /// How long a body waits for the dyno's `100 Continue` before it is sent anyway.
    pub continue_wait: Duration,
    /// How long an upgraded connection that is being ended may take to finish its frame and answer the close.
    pub close_wait: Duration,
    /// Request log lines waiting to be written. More are dropped and counted.
    pub log_lines_max: usize,
    /// After SIGTERM: how long idle client connections may still send a request, which is answered with
    /// `Connection: close`, before they are closed.
    pub lame_duck: Duration,
    /// After SIGTERM: how long requests may take to finish.
    pub drain: Duration,
}

/// So many bytes in so much time of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPace {
    pub window: Duration,
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            client_connections_max: 2_000,
            app_requests_max: 10_000,
            dyno_connections_max: usize::MAX,
            held_bytes_max: 1024 * 1024 * 1024,
            buffer_bytes_max: 64 * 1024,
            headers_max: 128,
            client_idle: Duration::from_secs(90),
            front_idle: Duration::from_secs(1_000),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            client_slow_heads_max: 100,
            // Long enough for a phone in a tunnel, and no more than a telegraph brings.
            client_pace: ClientPace { window: Duration::from_secs(60), bytes: 1_000 },
            handshakes_max: 4_096,
            http2_streams_max: 100,
            http2_stream_window_bytes: 256 * 1024,
            http2_connection_window_bytes: 1024 * 1024,
            dyno_streams_max: 100,
            dyno_http2_idle: Duration::from_secs(30),
            queue_requests_max: 1_000,
            queue_wait: Duration::from_secs(5),
            connect_attempts_max: 10,
            quarantine: Duration::from_secs(5),
            dyno_idle: Duration::from_secs(1),
            dyno_idle_connections_max: 512,
            continue_wait: Duration::from_secs(1),
            close_wait: Duration::from_secs(2),
            log_lines_max: 16_384,
            lame_duck: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}
