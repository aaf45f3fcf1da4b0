//! Connections of the API port: plain HTTP, TLS or SSH, told apart by the first byte; and the local administration socket.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use crate::exec;
use crate::rendezvous;
use crate::replayed::Replayed;
use crate::state::ApiState;

/// Time a client has to send the head of a request, or the TLS greeting.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request in bytes. The `heroku` CLI collects request ids up to 7 kB in one header.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// First byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Network {
        address: SocketAddr,
        tls: bool,
    },
    /// Root, or the user that Berth runs as, over the Unix socket.
    LocalAdministrator,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, .. } => address.fmt(f),
            Self::LocalAdministrator => f.write_str("local"),
        }
    }
}

/// Serves the API on its listeners until `stop` turns true, then finishes what is under way.
pub async fn serve(
    network: Vec<TcpListener>,
    local: UnixListener,
    tls: TlsAcceptor,
    state: Arc<ApiState>,
    stop: watch::Receiver<bool>,
) {
    let routes = crate::routes(Arc::clone(&state));
    let mut loops = JoinSet::new();
    for listener in network {
        loops.spawn(accept_network(listener, tls.clone(), routes.clone(), Arc::clone(&state), stop.clone()));
    }
    loops.spawn(accept_local(local, routes, stop));
    while loops.join_next().await.is_some() {}
}

async fn accept_network(
    listener: TcpListener,
    tls: TlsAcceptor,
    routes: Router,
    state: Arc<ApiState>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let (tls, routes, state, stop) = (tls.clone(), routes.clone(), Arc::clone(&state), stop.clone());
                connections.spawn(serve_network(stream, address, tls, routes, state, stop));
            }
            Err(error) => pause_after(&error).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn accept_local(listener: UnixListener, routes: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _address)) if is_administrator(&stream) => {
                connections.spawn(serve_connection(stream, Peer::LocalAdministrator, routes.clone(), stop.clone()));
            }
            Ok(_stranger) => debug!("refused a local connection of another user"),
            Err(error) => pause_after(&error).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Waits for the stop; also over when whoever could ask for it is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Out of descriptors: what exists goes on, and accepting resumes when some are free again.
async fn pause_after(error: &io::Error) {
    warn!(%error, "cannot accept an API connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn is_administrator(stream: &UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || own.is_ok_and(|own| own == peer.uid()))
}

async fn serve_network(
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsAcceptor,
    routes: Router,
    state: Arc<ApiState>,
    stop: watch::Receiver<bool>,
) {
    // Answers are short and streams must arrive line by line.
    let _best_effort = stream.set_nodelay(true);
    let mut first = [0; 1];
    let peeked = tokio::time::timeout(HEAD_TIMEOUT, stream.peek(&mut first)).await;
    if !matches!(peeked, Ok(Ok(1))) {
        return;
    }
    if first[0] == exec::FIRST_BYTE {
        return exec::serve(stream, address, &state, stop).await;
    }
    let is_tls = first[0] == TLS_HANDSHAKE;
    let peer = Peer::Network { address, tls: is_tls };
    if !is_tls {
        return serve_connection(stream, peer, routes, stop).await;
    }
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_tls(stream, peer, routes, state, stop).await,
        Ok(Err(error)) => debug!(%address, %error, "TLS handshake failed"),
        Err(_elapsed) => debug!(%address, "TLS handshake took too long"),
    }
}

/// Inside TLS there is HTTP, or somebody who comes to attach: told apart by the first byte, too.
async fn serve_tls(
    mut stream: TlsStream<TcpStream>,
    peer: Peer,
    routes: Router,
    state: Arc<ApiState>,
    mut stop: watch::Receiver<bool>,
) {
    let mut first = [0; 1];
    let read = tokio::time::timeout(HEAD_TIMEOUT, stream.read_exact(&mut first)).await;
    if !matches!(read, Ok(Ok(_))) {
        return;
    }
    let stream = Replayed::new(first, stream);
    if first[0] != rendezvous::FIRST_BYTE {
        return serve_connection(stream, peer, routes, stop).await;
    }
    tokio::select! {
        () = rendezvous::serve(stream, &state) => {}
        () = stopped(&mut stop) => {}
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        exec::lead(&mut request);
        request.extensions_mut().insert(peer.clone());
        let routes = routes.clone();
        async move {
            use tower_service::Service as _;
            let mut routes = routes;
            Ok::<_, Infallible>(routes.call(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            // Streams that never end must not hold up a stop.
            tokio::time::timeout(Duration::from_secs(2), connection.as_mut()).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        debug!(%error, "an API connection ended early");
    }
}
