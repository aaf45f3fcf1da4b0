//! The API port for those who reach this server by its hosts only: what comes over an upgraded connection is served as if
//! it had come to the port.
//!
//! ```text
//!  heroku ── TLS, SSH ──► berth's forwarder ══ https://berth.<domain>, upgraded ══► router ──► here ──► as on the port
//! ```
//!
//! Whoever comes so has shown a token; what goes on inside is judged as everywhere.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tracing::debug;
use wire::platform_api::exec::{PORT_PROTOCOL, PortAuthority};

use crate::error::{ApiError, ApiResult};
use crate::peer::Peer;
use crate::state::ApiState;

/// Tunnels that wait to be served. More of them wait themselves.
const WAITING_MAX: usize = 16;

/// A connection to the port that came through a tunnel.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) stream: TokioIo<Upgraded>,
    pub(crate) address: IpAddr,
}

/// The way from the handler to whoever serves the port.
#[derive(Debug)]
pub struct PortTunnels {
    sender: mpsc::Sender<Tunnel>,
    receiver: Mutex<Option<mpsc::Receiver<Tunnel>>>,
}

impl Default for PortTunnels {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl PortTunnels {
    /// For the one who serves them.
    pub(crate) fn take(&self) -> Option<mpsc::Receiver<Tunnel>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(crate) async fn connect(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> ApiResult<Response> {
    if request.headers().get(UPGRADE).is_none_or(|protocol| protocol != PORT_PROTOCOL) {
        return Err(ApiError::bad_request(format!("A connection here is upgraded to {PORT_PROTOCOL}.")));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let address = peer.address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    tokio::spawn(async move {
        match upgrade.await {
            // Where nobody serves the port any more, the connection ends.
            Ok(stream) => drop(state.port_tunnels.sender.send(Tunnel { stream: TokioIo::new(stream), address }).await),
            Err(error) => debug!(%error, "a tunnel to the API port ended before it began"),
        }
    });
    let headers: [(HeaderName, &str); 2] = [(CONNECTION, "upgrade"), (UPGRADE, PORT_PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Who signed the certificate that the port shows.
pub(crate) async fn authority(State(state): State<Arc<ApiState>>) -> ApiResult<Json<PortAuthority>> {
    let path = crate::tls::ca_file(&state.config.data_dir.join("ca"));
    let certificate = tokio::fs::read_to_string(path).await;
    let certificate = certificate.map_err(|error| ApiError::internal("cannot read the port's authority", &error))?;
    Ok(Json(PortAuthority { certificate }))
}
