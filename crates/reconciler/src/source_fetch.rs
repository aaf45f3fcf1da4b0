//! Fetches a build's source from a URL, and from nowhere that drains and webhooks may not go either: whoever may deploy
//! could otherwise read the metadata service of the machine's provider, as a failed archive or as a good one.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use domain::ip_network::IpNetwork;
use domain::outgoing_policy::may_connect;
use thiserror::Error;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::RootCerts;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::https;

/// Largest source that is fetched from a URL, in bytes.
const FETCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;

#[derive(Debug, Error)]
#[error(
    "{0} is not on the internet; the server's operator allows private networks in settings.toml, [deliveries] allowed_networks"
)]
struct NotPublic(String);

/// Downloads an archive, with a bound. Blocks.
pub(crate) fn fetch(url: &str, to: &Path, allowed: &Arc<[IpNetwork]>) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| format!("cannot fetch the source: {error}");
    // A redirect must not lead from the encrypted way.
    let config = Agent::config_builder().https_only(true).tls_config(https::tls(RootCerts::WebPki)).build();
    if config.proxy().is_some() {
        check_behind_proxy(url, allowed).map_err(|error| failed(&error))?;
    }
    let resolver = Outside { inner: DefaultResolver::default(), allowed: Arc::clone(allowed) };
    let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
    let mut response = agent.get(url).call().map_err(|error| match error {
        ureq::Error::Other(cause) => failed(&*cause),
        error => failed(&error),
    })?;
    let mut reader = response.body_mut().with_config().limit(FETCH_BYTES_MAX).reader();
    let mut file = File::create(to).map_err(|error| failed(&error))?;
    io::copy(&mut reader, &mut file).map_err(|error| failed(&error))?;
    Ok(())
}

/// A proxy resolves names itself, so that the resolver below is not asked: what this machine knows of a name decides.
fn check_behind_proxy(url: &str, allowed: &[IpNetwork]) -> Result<(), NotPublic> {
    let Some(uri) = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some()) else { return Ok(()) };
    let host = uri.host().unwrap_or_default().to_owned();
    let port = uri.port_u16().unwrap_or(443);
    let Ok(addresses) = (host.trim_matches(['[', ']']), port).to_socket_addrs() else { return Ok(()) };
    let addresses: Vec<SocketAddr> = addresses.collect();
    if addresses.iter().any(|address| may_connect(address.ip(), allowed)) { Ok(()) } else { Err(NotPublic(host)) }
}

/// Finds addresses that may be connected to, for the URL itself and for wherever it redirects to. A connection goes to
/// what was checked, so that the name cannot mean another address a moment later.
#[derive(Debug)]
struct Outside {
    inner: DefaultResolver,
    allowed: Arc<[IpNetwork]>,
}

impl Resolver for Outside {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if config.proxy().is_some_and(|proxy| proxy.uri().authority() == uri.authority()) {
            // The operator's own choice, by the server's environment.
            return Ok(found);
        }
        let mut outside = self.empty();
        for address in found.iter().filter(|address| may_connect(address.ip(), &self.allowed)) {
            outside.push(*address);
        }
        if outside.is_empty() {
            let host = uri.host().unwrap_or_default().to_owned();
            return Err(ureq::Error::Other(Box::new(NotPublic(host))));
        }
        Ok(outside)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a fetch from a listener of the test's own says, and whether it was connected to.
    fn fetch_from(host: &str, allowed: &[&str]) -> (String, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let allowed: Arc<[IpNetwork]> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        let failure = std::thread::scope(|scope| {
            let fetching = scope.spawn(|| fetch(&format!("https://{host}:{port}/x"), &dir.path().join("x"), &allowed));
            // Nobody speaks TLS there: whoever connects is turned away.
            while !fetching.is_finished() {
                if let Ok((stream, _address)) = listener.accept() {
                    drop(stream);
                    return (fetching.join().unwrap().unwrap_err(), true);
                }
                std::thread::yield_now();
            }
            (fetching.join().unwrap().unwrap_err(), false)
        });
        (failure.0, failure.1 || listener.accept().is_ok())
    }

    #[test]
    fn a_source_comes_from_the_internet_or_from_where_the_operator_allows() {
        for host in ["127.0.0.1", "localhost"] {
            let (failure, connected) = fetch_from(host, &[]);
            assert!(failure.contains(&format!("{host} is not on the internet")) && !connected, "{failure}");
        }
        let (failure, connected) = fetch_from("127.0.0.1", &["127.0.0.0/8"]);
        assert!(connected && !failure.contains("not on the internet"), "{failure}");
    }

    #[test]
    fn behind_a_proxy_a_name_is_judged_by_what_this_machine_knows_of_it() {
        assert!(check_behind_proxy("https://169.254.169.254/latest", &[]).is_err());
        assert!(check_behind_proxy("https://[::1]/x", &[]).is_err());
        check_behind_proxy("https://no-such-name.invalid/x", &[]).unwrap();
    }
}
