//! Sessions in dynos that run: what the `heroku` client asks its exec manager, what our forwarder says before, and what
//! our own client asks.

use domain::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::secret_text;

/// A dyno that can be come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecReservation {
    pub dyno_name: String,
}

/// The public key that the client has made for this one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// As in `authorized_keys`.
    pub client_key: String,
}

/// Where and as whom the client speaks SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSession {
    /// Compat: the client goes to port 80 of it.
    pub tunnel_host: String,
    pub client_user: String,
    /// The server's key, as in `known_hosts`.
    pub proxy_public_key: String,
    /// Compat: the client passes it on to itself and does not use it.
    pub dyno_ip: String,
}

/// A session of our own client, in which it opens as many WebSockets as it needs ([`crate::visit`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitSession {
    pub id: String,
    /// The dyno's name.
    pub dyno: String,
}

/// A key that stands for the asker's token in the requests for sessions, for a minute.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecKey {
    #[serde(with = "secret_text")]
    pub key: Secret<String>,
    /// What its bearer is told as the host to go to.
    pub tunnel_host: String,
}

/// What `GET /berth/port` upgrades a connection to: the bytes of one connection to the API port.
pub const PORT_PROTOCOL: &str = "berth-port";

/// Who signed the certificate that the API port shows, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAuthority {
    pub certificate: String,
}
