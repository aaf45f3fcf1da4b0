//! Connections to receivers: resolved, checked against the policy, encrypted where the URL says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::ip_network::IpNetwork;
use domain::outgoing_policy::may_connect;
use domain::outgoing_url::OutgoingUrl;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::send_error::SendError;

/// For name, connection and handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens connections. Shared by all tasks.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: TlsConnector,
    allowed: Arc<[IpNetwork]>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Connector {
    pub(crate) fn new(roots: RootCertStore, allowed: &[IpNetwork]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), allowed: allowed.into() }
    }

    pub(crate) async fn connect(&self, url: &OutgoingUrl) -> Result<Box<dyn Connection>, SendError> {
        let connecting = self.connect_slowly(url);
        timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_elapsed| SendError::Timeout(CONNECT_TIMEOUT))?
    }

    async fn connect_slowly(&self, url: &OutgoingUrl) -> Result<Box<dyn Connection>, SendError> {
        let stream = self.connect_plain(url).await?;
        if !url.scheme.is_encrypted() {
            return Ok(Box::new(stream));
        }
        let name =
            ServerName::try_from(url.host.clone()).map_err(|_no_name| SendError::ServerName(url.host.clone()))?;
        let encrypted = self.tls.connect(name, stream).await;
        let stream = encrypted.map_err(|source| SendError::Certificate { host: url.host.clone(), source })?;
        Ok(Box::new(stream))
    }

    /// Connects to what the name resolved to, so that it cannot mean another address once it was checked.
    async fn connect_plain(&self, url: &OutgoingUrl) -> Result<TcpStream, SendError> {
        let host = url.host.as_str();
        let resolved = lookup_host((host, url.port)).await;
        let addresses: Vec<SocketAddr> =
            resolved.map_err(|source| SendError::Resolve { host: host.to_owned(), source })?.collect();
        let mut failure = None;
        for address in addresses.into_iter().filter(|address| may_connect(address.ip(), &self.allowed)) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
        Err(match failure {
            Some(source) => SendError::Connect { host: host.to_owned(), port: url.port, source },
            None => SendError::NotAllowed { host: host.to_owned() },
        })
    }
}
