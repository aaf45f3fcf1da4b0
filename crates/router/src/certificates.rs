//! The certificates in force, shared by all threads: which one a client is shown for the host that it names.
//!
//! Read without a lock at every handshake. A connection keeps what it was shown, so that a change ends none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use domain::secret::Secret;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use tracing::{error, warn};
use uuid::Uuid;
use wire::routes::CertificateRoute;

use crate::host_map::HostMap;

#[derive(Debug, Default)]
pub(crate) struct Certificates {
    by_host: HostMap<Arc<CertifiedKey>>,
    fallback: ArcSwapOption<CertifiedKey>,
    /// Shown where the table has none that fits: without it, the client could not even be told what is wrong.
    own: OnceLock<Option<Arc<CertifiedKey>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Uuid, Entry>,
    /// Which certificates name a host; the last one that can be used is shown for it.
    naming: HashMap<String, BTreeSet<Uuid>>,
    /// Those that may be shown for any other host.
    fallbacks: BTreeSet<Uuid>,
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
    /// Costs what the change is large, not how many certificates there are.
    pub(crate) fn update(&self, changed: Vec<CertificateRoute>, removed: &[Uuid]) {
        let mut state = self.lock();
        let mut hosts = BTreeSet::new();
        for route in changed {
            let before = state.take(route.certificate, &mut hosts);
            state.put(entry(route, before), &mut hosts);
        }
        for id in removed {
            drop(state.take(*id, &mut hosts));
        }
        self.publish(&state, hosts);
    }

    pub(crate) fn replace(&self, routes: Vec<CertificateRoute>) {
        let present: BTreeSet<Uuid> = routes.iter().map(|route| route.certificate).collect();
        let removed: Vec<Uuid> = self.lock().entries.keys().filter(|id| !present.contains(id)).copied().collect();
        self.update(routes, &removed);
    }

    pub(crate) fn snapshot(&self) -> Vec<CertificateRoute> {
        self.lock().entries.values().map(|entry| entry.route.clone()).collect()
    }

    /// Whether a connection that was opened for one host may be used for another: both are shown the same certificate,
    /// so the client knows that this is the right place for either (RFC 9113, 9.1.1). Hosts in lower case.
    pub(crate) fn serve_together(&self, opened_for: &str, host: &str) -> bool {
        match (self.find(opened_for), self.find(host)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.by_host.get(host).or_else(|| self.fallback.load_full())
    }

    /// Puts in force what is to be shown for these hosts now.
    fn publish(&self, state: &State, hosts: BTreeSet<String>) {
        let shown = hosts.into_iter().map(|host| {
            let key = state.naming.get(&host).and_then(|ids| state.last_usable(ids));
            (host, key)
        });
        let (new, gone): (Vec<_>, Vec<_>) = shown.partition(|(_host, key)| key.is_some());
        let gone = gone.into_iter().map(|(host, _none)| (host, ()));
        let new = new.into_iter().filter_map(|(host, key)| Some((host, key?)));
        self.by_host.change(gone, |_any, ()| true, new);
        self.fallback.store(state.last_usable(&state.fallbacks));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a certificate out, and notes which hosts it was shown for.
    fn take(&mut self, id: Uuid, hosts: &mut BTreeSet<String>) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        for host in entry.hosts() {
            if let Some(ids) = self.naming.get_mut(&host) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.naming.remove(&host);
                }
            }
            hosts.insert(host);
        }
        self.fallbacks.remove(&id);
        Some(entry)
    }

    fn put(&mut self, entry: Entry, hosts: &mut BTreeSet<String>) {
        let id = entry.route.certificate;
        for host in entry.hosts() {
            self.naming.entry(host.clone()).or_default().insert(id);
            hosts.insert(host);
        }
        if entry.route.fallback {
            self.fallbacks.insert(id);
        }
        self.entries.insert(id, entry);
    }

    fn last_usable(&self, ids: &BTreeSet<Uuid>) -> Option<Arc<CertifiedKey>> {
        ids.iter().rev().find_map(|id| self.entries.get(id)?.key.clone())
    }
}

impl Entry {
    fn hosts(&self) -> impl Iterator<Item = String> {
        self.route.hosts.iter().map(|host| host.to_ascii_lowercase())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        let fitting = hello.server_name().map_or_else(|| self.fallback.load_full(), |host| self.find(host));
        fitting.or_else(|| self.own.get_or_init(self_signed).clone())
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
        let key = certificates.find(host)?;
        let same = |entry: &&Entry| entry.key.as_ref().is_some_and(|known| Arc::ptr_eq(known, &key));
        certificates.lock().entries.values().find(same).map(|entry| entry.route.hosts[0].clone())
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

    /// Any course of changes leaves what the certificates that are there say, taken all together.
    #[test]
    fn what_is_shown_is_the_last_certificate_that_names_a_host_whatever_came_before() {
        let routes = [
            route(1, &["a.example", "b.example"]),
            route(2, &["b.example", "*.example"]),
            CertificateRoute { fallback: true, ..route(3, &["B.example"]) },
            CertificateRoute { fallback: true, ..route(4, &["c.example"]) },
        ];
        let expected = |present: &[usize], host: &str| {
            let named = |name: &str| {
                let of = present.iter().map(|index| &routes[*index]);
                of.rev().find(|route| route.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)))
            };
            let wildcard = || named(&format!("*.{}", host.split_once('.')?.1));
            let fallback = || present.iter().map(|index| &routes[*index]).rev().find(|route| route.fallback);
            named(host).or_else(wildcard).or_else(fallback).map(|route| route.hosts[0].clone())
        };
        let certificates = Certificates::default();
        let mut random = 7_u32;
        for _step in 0..300 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let present: Vec<usize> = (0..routes.len()).filter(|index| random >> (20 + index) & 1 == 1).collect();
            let (changed, removed): (Vec<_>, Vec<_>) = (0..routes.len()).partition(|index| present.contains(index));
            let changed: Vec<CertificateRoute> = changed.into_iter().map(|index| routes[index].clone()).collect();
            if random >> 30 == 0 {
                certificates.replace(changed);
            } else {
                let removed: Vec<Uuid> = removed.into_iter().map(|index| routes[index].certificate).collect();
                certificates.update(changed, &removed);
            }
            for host in ["a.example", "b.example", "c.example", "d.example", "else.where"] {
                assert_eq!(shown(&certificates, host), expected(&present, host), "{host} of {present:?}");
            }
        }
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
