//! A place outside the platform that an app's requests go to while the app has not moved in yet.
//!
//! The other side sees the request as it would without the router: the app's own host in `Host` and in SNI. Its
//! certificate must be the app's, by an authority that this machine trusts. It is on the internet, or where the operator
//! allows: whoever may lead a domain elsewhere could otherwise read what the machine alone may.

use std::fs;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::ip_network::IpNetwork;
use domain::outgoing_policy::may_connect;
use domain::upstream::Upstream;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tracing::warn;
use uuid::Uuid;
use wire::routes::{DynoProtocol, DynoRoute, EdgeSettings};

use crate::config::Bounds;
use crate::dyno_io::{ConnectFailure, DynoConnection, open_stream, over};

/// As in the request log: `dyno=upstream`.
const NAME: &str = "upstream";
const SERVER_NAME: &str = "server";

/// How much the other side can work on at once is its own business.
const UNLIMITED: u32 = 1_000_000;

/// What stands in a list of dynos for whatever is there instead: one that is counted like any other. Another address is
/// another one, so that what waits goes there, and what is known of the last one's faults is forgotten.
pub(crate) fn stand_in(app: Uuid, edge: &EdgeSettings) -> DynoRoute {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let name = if edge.to_server { SERVER_NAME } else { NAME };
    let weight = DynoRoute::WEIGHT_USUAL;
    let dyno = edge.upstream.as_ref().map_or(app, |url| Uuid::from_u128(app.as_u128() ^ u128::from(hash(url))));
    DynoRoute { dyno, name: name.to_owned(), address, concurrency: Some(UNLIMITED), weight, protocol: None }
}

/// Connections are kept per host: over TLS each was opened for one, and the other side may refuse it for another.
pub(crate) fn pool_key(url: &str, host: &str) -> u64 {
    // Beyond every serial number of a dyno.
    1 << 63 | hash((url, host)) >> 1
}

fn hash(value: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// What the other side's certificate is checked with.
pub(crate) fn tls_configuration(ca_file: &Path) -> io::Result<Arc<ClientConfig>> {
    let bundle = fs::read(ca_file)?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok);
    let (_added, ignored) = roots.add_parsable_certificates(certificates);
    if ignored > 0 {
        warn!(ignored, path = %ca_file.display(), "Some of the certificates that this machine trusts cannot be used");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens a connection for requests for `host`.
pub(crate) async fn connect(
    upstream: &Upstream,
    host: &str,
    allowed: &[IpNetwork],
    tls: impl FnOnce() -> io::Result<Arc<ClientConfig>>,
    limit: Duration,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, lookup_host((upstream.host(), upstream.port()))).await {
        Err(_elapsed) => return Err(ConnectFailure::TimedOut),
        Ok(Err(error)) => {
            warn!(%error, host = upstream.host(), "Cannot find an upstream's address");
            return Err(ConnectFailure::Unusable("upstream has no address"));
        }
        Ok(Ok(addresses)) => addresses.collect(),
    };
    // What the name resolved to is what is connected to: it cannot mean another address once it was checked.
    let addresses: Vec<_> = addresses.into_iter().filter(|address| may_connect(address.ip(), allowed)).collect();
    if addresses.is_empty() {
        warn!(
            host = upstream.host(),
            "An upstream is in a private network, which settings.toml does not allow, in [deliveries] allowed_networks"
        );
        return Err(ConnectFailure::Unusable("upstream is not on the internet"));
    }
    let stream = open_any(&addresses, deadline).await?;
    if !upstream.is_tls() {
        return over(stream, DynoProtocol::Http1, bounds).await;
    }
    let config = tls().map_err(ConnectFailure::Local)?;
    let name = ServerName::try_from(host.to_owned()).ok().ok_or(ConnectFailure::Refused)?;
    match timeout_at(deadline, TlsConnector::from(config).connect(name, stream)).await {
        Err(_elapsed) => Err(ConnectFailure::TimedOut),
        Ok(Ok(stream)) => over(stream, DynoProtocol::Http1, bounds).await,
        Ok(Err(error)) => {
            warn!(%error, host, upstream = upstream.host(), "An upstream's TLS is not the app's");
            Err(ConnectFailure::Unusable(tls_failure(&error)))
        }
    }
}

/// The first address that takes a connection. Each has an equal share of the time that is left, so that one which says
/// nothing leaves the others theirs.
async fn open_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ConnectFailure> {
    let mut failure = ConnectFailure::Refused;
    for (tried, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match open_stream(address, deadline.saturating_duration_since(Instant::now()) / left).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// In words for the app's log.
fn tls_failure(error: &io::Error) -> &'static str {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(fault)) => match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "upstream's certificate has expired",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "upstream's certificate does not name this host"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "upstream's certificate is of no authority that this machine trusts"
            }
            _ => "upstream's certificate is not valid",
        },
        _ => "upstream refused TLS for this host",
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn pool_keys_differ_by_host_and_address_and_from_every_serial() {
        assert_ne!(pool_key("http://old", "a.example"), pool_key("http://old", "b.example"));
        assert_ne!(pool_key("http://old", "a.example"), pool_key("http://new", "a.example"));
        assert_eq!(pool_key("http://old", "a.example"), pool_key("http://old", "a.example"));
        assert!(pool_key("http://old", "a.example") > u64::MAX / 2);
    }

    /// An address that answers nothing at all: its queue of connections is full. With what fills it.
    fn blackhole() -> (SocketAddr, Vec<Socket>) {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = new();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _connection in 0..4 {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&address).ok();
            sockets.push(socket);
        }
        (address.as_socket().unwrap(), sockets)
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_leaves_time_for_the_others() {
        let (silent, _sockets) = blackhole();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let limit = Duration::from_secs(3);
        let begin = Instant::now();
        let opened = open_any(&[silent, silent, good], begin + limit).await.unwrap();
        assert_eq!(opened.peer_addr().unwrap(), good);
        assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
        let begin = Instant::now();
        let failed = open_any(&[silent, silent], begin + limit).await.unwrap_err();
        assert!(matches!(failed, ConnectFailure::TimedOut), "{failed:?}");
        assert!(begin.elapsed() >= limit, "the last one has all that is left");
    }
}
