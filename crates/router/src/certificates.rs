//! The certificates in force, shared by all threads: which one a client is shown for the host that it names.
//!
//! Read without a lock at every handshake. A connection keeps what it was shown, so that a change ends none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use domain::secret::Secret;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use tracing::{error, warn};
use uuid::Uuid;
use wire::routes::CertificateRoute;

#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_host: ArcSwap<ByHost>,
    /// Shown where the table has none that fits: without it, the client could not even be told what is wrong.
    own: OnceLock<Option<Arc<CertifiedKey>>>,
    state: Mutex<BTreeMap<Uuid, Entry>>,
}

#[derive(Debug, Default)]
struct ByHost {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Entry {
    route: CertificateRoute,
    /// `None` if it never could be used.
    key: Option<Arc<CertifiedKey>>,
}

#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("the chain is not PEM")]
    Chain(#[source] rustls_pki_types::pem::Error),
    #[error("the chain is empty")]
    Empty,
    #[error("the key is not PEM")]
    Key(#[source] rustls_pki_types::pem::Error),
    #[error("the key cannot be used")]
    Use(#[source] rustls::Error),
    #[error("the key is not the certificate's")]
    Match(#[source] rustls::Error),
}

impl Certificates {
    pub(crate) fn update(&self, changed: Vec<CertificateRoute>, removed: &[Uuid]) {
        if changed.is_empty() && removed.is_empty() {
            return;
        }
        let mut state = self.lock();
        for route in changed {
            let before = state.remove(&route.certificate);
            state.insert(route.certificate, entry(route, before));
        }
        for id in removed {
            state.remove(id);
        }
        self.publish(&state);
    }

    pub(crate) fn replace(&self, routes: Vec<CertificateRoute>) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut *state);
        for route in routes {
            let known = before.remove(&route.certificate);
            state.insert(route.certificate, entry(route, known));
        }
        self.publish(&state);
    }

    pub(crate) fn snapshot(&self) -> Vec<CertificateRoute> {
        self.lock().values().map(|entry| entry.route.clone()).collect()
    }

    /// Whether a connection that was opened for one host may be used for another: both are shown the same certificate,
    /// so the client knows that this is the right place for either (RFC 9113, 9.1.1). Hosts in lower case.
    pub(crate) fn serve_together(&self, opened_for: &str, host: &str) -> bool {
        let by_host = self.by_host.load();
        match (by_host.find(opened_for), by_host.find(host)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn publish(&self, state: &BTreeMap<Uuid, Entry>) {
        let mut by_host = ByHost::default();
        for (entry, key) in state.values().filter_map(|entry| Some((entry, entry.key.as_ref()?))) {
            for host in &entry.route.hosts {
                let (map, host) = match host.strip_prefix("*.") {
                    Some(suffix) => (&mut by_host.wildcard, suffix),
                    None => (&mut by_host.exact, host.as_str()),
                };
                map.insert(host.to_ascii_lowercase(), key.clone());
            }
            if entry.route.fallback {
                by_host.fallback = Some(key.clone());
            }
        }
        self.by_host.store(Arc::new(by_host));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Entry>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ByHost {
    fn find(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(wildcard).or(self.fallback.as_ref())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_host = self.by_host.load();
        // rustls gives the name in lower case.
        let fitting = hello.server_name().map_or(by_host.fallback.as_ref(), |host| by_host.find(host));
        fitting.or_else(|| self.own.get_or_init(self_signed).as_ref()).cloned()
    }
}

/// Loads a certificate, unless it is the one that is loaded already. One that cannot be used leaves the one before it
/// in force: the server checks certificates before it sends them, so this is a fault, and no reason to stop serving.
fn entry(route: CertificateRoute, before: Option<Entry>) -> Entry {
    if let Some(before) = &before
        && before.key.is_some()
        && (&before.route.chain, &before.route.key) == (&route.chain, &route.key)
    {
        return Entry { key: before.key.clone(), route };
    }
    let key = match load(&route.chain, &route.key) {
        Ok(key) => Some(Arc::new(key)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            error!(certificate.id = %route.certificate, hosts = ?route.hosts, %error, cause, "Cannot use a certificate");
            before.and_then(|before| before.key)
        }
    };
    Entry { route, key }
}

fn load(chain: &str, key: &Secret<String>) -> Result<CertifiedKey, LoadError> {
    let certified = read(chain, key)?;
    certified.keys_match().map_err(LoadError::Match)?;
    Ok(certified)
}

/// Without a look at whether they belong together.
pub(crate) fn read(chain: &str, key: &Secret<String>) -> Result<CertifiedKey, LoadError> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(LoadError::Chain)?;
    if chain.is_empty() {
        return Err(LoadError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(LoadError::Key)?;
    let key = any_supported_type(&key).map_err(LoadError::Use)?;
    Ok(CertifiedKey::new(chain, key))
}

fn self_signed() -> Option<Arc<CertifiedKey>> {
    let made = rcgen::generate_simple_self_signed(["no-such-host.invalid".to_owned()]);
    let made = made.inspect_err(|error| warn!(%error, "Cannot make a fallback certificate")).ok()?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let key = any_supported_type(&key).inspect_err(|error| warn!(%error, "Cannot use a fallback certificate")).ok()?;
    Some(Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: u128, hosts: &[&str]) -> CertificateRoute {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts.clone()).unwrap();
        CertificateRoute {
            certificate: Uuid::from_u128(id),
            hosts,
            chain: made.cert.pem(),
            key: Secret::new(made.signing_key.serialize_pem()),
            fallback: false,
        }
    }

    fn shown(certificates: &Certificates, host: &str) -> Option<String> {
        let state = certificates.lock();
        let by_host = certificates.by_host.load();
        let key = by_host.find(host)?;
        let same = |entry: &&Entry| entry.key.as_ref().is_some_and(|known| Arc::ptr_eq(known, key));
        state.values().find(same).map(|entry| entry.route.hosts[0].clone())
    }

    #[test]
    fn an_exact_host_wins_over_a_wildcard_and_a_wildcard_is_one_label() {
        let certificates = Certificates::default();
        certificates.replace(vec![route(1, &["*.shop.example"]), route(2, &["www.shop.example"])]);
        assert_eq!(shown(&certificates, "www.shop.example").as_deref(), Some("www.shop.example"));
        assert_eq!(shown(&certificates, "api.shop.example").as_deref(), Some("*.shop.example"));
        assert_eq!(shown(&certificates, "a.b.shop.example"), None, "the fallback");
        assert_eq!(shown(&certificates, "shop.example"), None);
        certificates.update(Vec::new(), &[Uuid::from_u128(2)]);
        assert_eq!(shown(&certificates, "www.shop.example").as_deref(), Some("*.shop.example"));
    }

    #[test]
    fn hosts_serve_together_if_they_share_a_certificate() {
        let certificates = Certificates::default();
        certificates.replace(vec![route(1, &["a.example", "b.example"]), route(2, &["c.example"])]);
        assert!(certificates.serve_together("a.example", "b.example"));
        assert!(!certificates.serve_together("a.example", "c.example"));
        assert!(!certificates.serve_together("a.example", "unknown.example"));
        assert!(certificates.serve_together("other.example", "unknown.example"));
    }

    #[test]
    fn a_certificate_that_cannot_be_used_leaves_the_last_one_in_force() {
        let certificates = Certificates::default();
        let good = route(1, &["a.example"]);
        certificates.replace(vec![good.clone()]);
        let other_key = route(9, &["x"]).key;
        for broken in [
            CertificateRoute { key: other_key, ..good.clone() },
            CertificateRoute { chain: "-----BEGIN CERTIFICATE-----\nx".to_owned(), ..good.clone() },
            CertificateRoute { chain: String::new(), ..good.clone() },
            CertificateRoute { key: Secret::new("no key".to_owned()), ..good.clone() },
        ] {
            load(&broken.chain, &broken.key).unwrap_err();
            certificates.update(vec![broken], &[]);
            assert_eq!(shown(&certificates, "a.example").as_deref(), Some("a.example"));
        }
    }
}
