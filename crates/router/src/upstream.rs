//! A place outside the platform that an app's requests go to while the app has not moved in yet.
//!
//! The other side sees the request as it would without the router: the app's own host in `Host` and in SNI. Its
//! certificate must be the app's, by an authority that this machine trusts.

use std::fs;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tracing::warn;
use uuid::Uuid;
use wire::routes::{DynoProtocol, DynoRoute};

use crate::config::Bounds;
use crate::dyno_io::{ConnectFailure, DynoConnection, open_stream, over};

/// As in the request log: `dyno=upstream`.
const NAME: &str = "upstream";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upstream<'a> {
    /// Without the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
    tls: bool,
}

impl<'a> Upstream<'a> {
    /// `http://host`, `https://host`, either with a port; no path, because the request brings its own.
    pub(crate) fn parse(url: &'a str) -> Option<Self> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        (!host.is_empty() && host.bytes().all(plain)).then_some(Self { host, port, tls })
    }
}

/// What stands in an app's list of dynos for its upstream: one that is counted and quarantined like any other.
pub(crate) fn stand_in(app: Uuid) -> DynoRoute {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    DynoRoute { dyno: app, name: NAME.to_owned(), address, concurrency: None }
}

/// Connections are kept per host: over TLS each was opened for one, and the other side may refuse it for another.
pub(crate) fn pool_key(serial: u64, host: &str) -> u64 {
    // Beyond every serial number of a dyno.
    1 << 63 | BuildHasherDefault::<DefaultHasher>::default().hash_one((serial, host)) >> 1
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens a connection for requests for `host`.
pub(crate) async fn connect(
    upstream: &Upstream<'_>,
    host: &str,
    tls: impl FnOnce() -> io::Result<Arc<ClientConfig>>,
    limit: Duration,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    let deadline = Instant::now() + limit;
    let addresses = match timeout_at(deadline, lookup_host((upstream.host, upstream.port))).await {
        Err(_elapsed) => return Err(ConnectFailure::TimedOut),
        Ok(Err(error)) => {
            warn!(%error, host = upstream.host, "Cannot find an upstream's address");
            return Err(ConnectFailure::Refused);
        }
        Ok(Ok(addresses)) => addresses,
    };
    let mut failure = ConnectFailure::Refused;
    for address in addresses {
        match open_stream(address, deadline.saturating_duration_since(Instant::now())).await {
            Ok(stream) if !upstream.tls => return over(stream, DynoProtocol::Http1, bounds).await,
            Ok(stream) => {
                let config = tls().map_err(ConnectFailure::Local)?;
                let name = ServerName::try_from(host.to_owned()).ok().ok_or(ConnectFailure::Refused)?;
                return match timeout_at(deadline, TlsConnector::from(config).connect(name, stream)).await {
                    Err(_elapsed) => Err(ConnectFailure::TimedOut),
                    Ok(Ok(stream)) => over(stream, DynoProtocol::Http1, bounds).await,
                    Ok(Err(error)) => {
                        warn!(%error, host, upstream = upstream.host, "An upstream's TLS is not the app's");
                        Err(ConnectFailure::Refused)
                    }
                };
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_address_of_the_web_without_a_path() {
        let parse =
            |url: &'static str| Upstream::parse(url).map(|upstream| (upstream.host, upstream.port, upstream.tls));
        assert_eq!(parse("https://old.example"), Some(("old.example", 443, true)));
        assert_eq!(parse("http://old.example:8080/"), Some(("old.example", 8080, false)));
        assert_eq!(parse("https://[2001:db8::1]"), Some(("2001:db8::1", 443, true)));
        assert_eq!(parse("https://[2001:db8::1]:444"), Some(("2001:db8::1", 444, true)));
        for bad in
            ["old.example", "ftp://old.example", "https://", "https://a/b", "https://a:x", "https://u@a", "https://a?b"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn pool_keys_differ_by_host_and_from_every_serial() {
        assert_ne!(pool_key(1, "a.example"), pool_key(1, "b.example"));
        assert_ne!(pool_key(1, "a.example"), pool_key(2, "a.example"));
        assert_eq!(pool_key(1, "a.example"), pool_key(1, "a.example"));
        assert!(pool_key(1, "a.example") > u64::MAX / 2);
    }
}
