//! The status thread: closes a second of the counts each second, and answers `/metrics` and `/status` over HTTP.
//!
//! The socket in the data directory is for whoever may look into that. A TCP address is for monitoring on this machine
//! only; browsers are kept away by the host that they name.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use crate::log_thread::unix_us;
use crate::status_page;
use crate::traffic::{Tallies, until_next_second};
use crate::worker::{Shared, Stage};

/// How long after its end a second is closed: worker threads hand over what belongs to it meanwhile.
const GRACE: Duration = Duration::from_millis(50);

/// How long a client may take to send a request's head, and stay without one.
const IDLE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct StatusSockets {
    pub(crate) unix: std::os::unix::net::UnixListener,
    pub(crate) tcp: Option<std::net::TcpListener>,
}

/// Runs until it is dropped.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut tallies: Receiver<Tallies>,
    sockets: StatusSockets,
    stage: watch::Receiver<Stage>,
) {
    let StatusSockets { unix, tcp } = sockets;
    let _unix = UnixListener::from_std(unix).map(|listener| spawn_local(accept_unix(shared.clone(), listener)));
    let _tcp = tcp.map(|tcp| TcpListener::from_std(tcp).map(|tcp| spawn_local(accept_tcp(shared.clone(), tcp, stage))));
    loop {
        let begun = unix_us() / 1_000_000;
        let closing = Instant::now() + until_next_second() + GRACE;
        loop {
            tokio::select! {
                handed_over = tallies.recv() => match handed_over {
                    Some(handed_over) => shared.traffic.add(handed_over),
                    None => return,
                },
                () = sleep_until(closing) => break,
            }
        }
        let gauges = shared.table.gauges();
        let known: HashSet<_> = shared.table.names(shared.traffic.apps().into_iter()).into_keys().collect();
        shared.traffic.close(begun, &gauges, |app| known.contains(&app) || gauges.contains_key(&app));
    }
}

async fn accept_unix(shared: Arc<Shared>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => drop(spawn_local(serve(shared.clone(), stream))),
            Err(error) => pause(&error).await,
        }
    }
}

/// Until the router ends: then the address is its successor's.
async fn accept_tcp(shared: Arc<Shared>, listener: TcpListener, mut stage: watch::Receiver<Stage>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ending = stage.wait_for(|stage| *stage > Stage::Serving) => return,
        };
        match accepted {
            Ok((stream, _peer)) => drop(spawn_local(serve(shared.clone(), stream))),
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "Cannot accept a connection to the status socket; trying again");
    sleep(PAUSE).await;
}

async fn serve(shared: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(&shared, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "A connection to the status socket ended early");
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_local(host) {
        return text(StatusCode::FORBIDDEN, "text/plain", "Ask for this by an address or as localhost.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "Only GET.\n");
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", status_page::metrics(shared)),
        "/status" => match serde_json::to_string_pretty(&status_page::status(shared)) {
            Ok(json) => text(StatusCode::OK, "application/json", json + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        },
        _ => text(StatusCode::NOT_FOUND, "text/plain", "There are /metrics and /status.\n"),
    }
}

/// A page in a browser could have any name lead to this machine, but then it asks for that name.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    matches!(name, "localhost" | "router") || address.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_could_point_here_is_not_local() {
        for host in ["localhost", "localhost:9100", "router", "127.0.0.1:9100", "[::1]:9100", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9100", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
