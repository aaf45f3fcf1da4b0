//! Connections of the API port: plain HTTP, TLS or SSH, told apart by the first byte; the local administration socket;
//! and the router's, over which come requests for the platform's own hosts.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::exec;
use crate::peer::{Entrance, Peer};
use crate::port_tunnel::Tunnel;
use crate::rendezvous;
use crate::replayed::Replayed;
use crate::state::ApiState;

/// Time a client has to send the head of a request, or the TLS greeting.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request in bytes. The `heroku` CLI collects request ids up to 7 kB in one header.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// First byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Where the API is served.
#[derive(Debug)]
pub struct Listeners {
    /// The API port, on loopback.
    pub network: Vec<TcpListener>,
    /// For administrators of this machine.
    pub local: UnixListener,
    /// For the router, which brings requests from everywhere.
    pub router: UnixListener,
    /// The router's user.
    pub router_uid: u32,
}

/// Serves the API on its listeners until `stop` turns true, then finishes what is under way.
pub async fn serve(listeners: Listeners, tls: TlsAcceptor, state: Arc<ApiState>, stop: watch::Receiver<bool>) {
    let routes = crate::routes(Arc::clone(&state));
    let Listeners { network, local, router, router_uid } = listeners;
    let port = Port { tls, routes: routes.clone(), state: Arc::clone(&state), stop: stop.clone() };
    let mut loops = JoinSet::new();
    for listener in network {
        loops.spawn(accept_network(listener, port.clone()));
    }
    if let Some(tunnels) = state.port_tunnels.take() {
        loops.spawn(accept_tunnels(tunnels, port));
    }
    let administrator = Entrance::Direct(Peer::LocalAdministrator);
    loops.spawn(accept_local(local, administrator, None, routes.clone(), stop.clone()));
    loops.spawn(accept_local(router, Entrance::Router, Some(router_uid), routes, stop));
    while loops.join_next().await.is_some() {}
}

/// What connections to the API port are served with.
#[derive(Clone)]
struct Port {
    tls: TlsAcceptor,
    routes: Router,
    state: Arc<ApiState>,
    stop: watch::Receiver<bool>,
}

async fn accept_network(listener: TcpListener, port: Port) {
    let mut stop = port.stop.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let port = port.clone();
                connections.spawn(async move {
                    // Answers are short and streams must arrive line by line.
                    let _best_effort = stream.set_nodelay(true);
                    port.serve(stream, |tls| Peer::Network { address, tls }).await;
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Serves what comes to the port by way of the router.
async fn accept_tunnels(mut tunnels: mpsc::Receiver<Tunnel>, port: Port) {
    let mut stop = port.stop.clone();
    let mut connections = JoinSet::new();
    loop {
        let tunnel = tokio::select! {
            tunnel = tunnels.recv() => tunnel,
            () = stopped(&mut stop) => break,
            Some(_done) = connections.join_next() => continue,
        };
        let Some(Tunnel { stream, address }) = tunnel else { break };
        let port = port.clone();
        connections.spawn(async move { port.serve(stream, |tls| Peer::Routed { address, tls }).await });
    }
    while connections.join_next().await.is_some() {}
}

/// Takes connections of root, of the user that Berth runs as, and of one more.
async fn accept_local(
    listener: UnixListener,
    entrance: Entrance,
    guest_uid: Option<u32>,
    routes: Router,
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
            Ok((stream, _address)) if may_enter(&stream, guest_uid) => {
                connections.spawn(serve_connection(stream, entrance.clone(), routes.clone(), stop.clone()));
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

fn may_enter(stream: &UnixStream, guest_uid: Option<u32>) -> bool {
    let own = std::fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || own.is_ok_and(|own| own == peer.uid()) || guest_uid == Some(peer.uid()))
}

impl Port {
    /// Serves one connection; `peer` says who is at its other end, over TLS or not.
    async fn serve<S>(self, mut stream: S, peer: impl FnOnce(bool) -> Peer + Send)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(first) = first_byte(&mut stream).await else { return };
        let stream = Replayed::new([first], stream);
        let Self { tls, routes, state, stop } = self;
        if first == exec::FIRST_BYTE {
            return exec::serve(stream, &peer(false), &state, stop).await;
        }
        if first != TLS_HANDSHAKE {
            return serve_connection(stream, Entrance::Direct(peer(false)), routes, stop).await;
        }
        let peer = peer(true);
        match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_tls(stream, peer, routes, state, stop).await,
            Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
            Err(_elapsed) => debug!(%peer, "TLS handshake took too long"),
        }
    }
}

/// What a client begins with, if it does in time.
async fn first_byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    tokio::time::timeout(HEAD_TIMEOUT, stream.read_u8()).await.ok()?.ok()
}

/// Inside TLS there is HTTP, or somebody who comes to attach: told apart by the first byte, too.
async fn serve_tls(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    routes: Router,
    state: Arc<ApiState>,
    mut stop: watch::Receiver<bool>,
) {
    let Some(first) = first_byte(&mut stream).await else { return };
    let stream = Replayed::new([first], stream);
    if first != rendezvous::FIRST_BYTE {
        return serve_connection(stream, Entrance::Direct(peer), routes, stop).await;
    }
    tokio::select! {
        () = rendezvous::serve(stream, &state) => {}
        () = stopped(&mut stop) => {}
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    entrance: Entrance,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        let peer = entrance.peer(request.headers());
        let routes = routes.clone();
        async move {
            use tower_service::Service as _;
            let mut routes = routes;
            let peer = match peer {
                Ok(peer) => peer,
                Err(refused) => return Ok(refused.into_response()),
            };
            exec::lead(&mut request);
            request.extensions_mut().insert(peer);
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
