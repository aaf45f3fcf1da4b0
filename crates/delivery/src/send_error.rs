//! Why something could not be sent, in words for whoever owns the receiver.

use std::io;
use std::time::Duration;

use domain::outgoing_url::OutgoingUrlError;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("{host} has no address")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "{host} is not on the internet; the server's operator allows private networks in settings.toml, [deliveries] allowed_networks"
    )]
    NotAllowed { host: String },
    #[error("cannot connect to {host}:{port}")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("the certificate of {host} is not accepted")]
    Certificate {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{0:?} cannot be the name in a certificate")]
    ServerName(String),
    #[error("the connection broke")]
    Write(#[source] io::Error),
    #[error("the receiver does not speak HTTP as it should")]
    Http(#[from] hyper::Error),
    #[error("a header cannot be sent")]
    Header(#[from] http::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the URL is not one")]
    Url(#[from] OutgoingUrlError),
}

impl SendError {
    /// One word, for lists of attempts.
    pub(crate) const fn class(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "ResolveError",
            Self::NotAllowed { .. } => "NotAllowedError",
            Self::Connect { .. } => "ConnectError",
            Self::Certificate { .. } | Self::ServerName(_) => "CertificateError",
            Self::Write(_) | Self::Http(_) => "ConnectionError",
            Self::Header(_) | Self::Url(_) => "RequestError",
            Self::Timeout(_) => "TimeoutError",
        }
    }
}
