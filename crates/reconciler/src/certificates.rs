//! From stored certificates to those that the router presents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use domain::secret::Secret;
use jiff::Timestamp;
use store::custom_domain::Domain;
use store::managed_certificate::ManagedCertificate;
use store::sni_endpoint::SniEndpoint;
use store::{Store, StoreError};
use uuid::Uuid;
use wire::routes::CertificateRoute;

use crate::platform_hosts::{BROUGHT_CERTIFICATE, PlatformHosts};
use crate::router_link::Certificates;
use crate::world::AppWorld;

/// Makes the routes of certificates, and remembers their keys: opening one is work, and every activation asks.
#[derive(Debug)]
pub(crate) struct CertificateRoutes {
    store: Arc<Store>,
    platform_hosts: PlatformHosts,
    known: BTreeMap<Uuid, (Timestamp, CertificateRoute)>,
}

/// What a domain's visitors are shown.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Brought(&'a SniEndpoint),
    Managed(&'a ManagedCertificate),
}

impl CertificateRoutes {
    pub(crate) fn new(store: Arc<Store>, platform_hosts: PlatformHosts) -> Self {
        Self { store, platform_hosts, known: BTreeMap::new() }
    }

    /// What should be in force: each certificate for the domains that are shown it. One that nobody is shown stays
    /// where only the server can open it.
    pub(crate) fn wanted(&mut self, worlds: &[AppWorld], now: Timestamp) -> Result<Certificates, StoreError> {
        let mut wanted = Certificates::new();
        for world in worlds.iter().filter(|world| world.app.destroyed_at.is_none()) {
            for domain in &world.domains {
                let Some(shown) = shown(world, domain, now) else { continue };
                let route = match wanted.entry(shown.id()) {
                    Entry::Occupied(present) => present.into_mut(),
                    Entry::Vacant(place) => place.insert(self.opened(shown)?),
                };
                route.hosts.push(domain.hostname.to_string());
            }
        }
        self.add_platform(&mut wanted, now)?;
        self.known.retain(|id, _route| wanted.contains_key(id));
        Ok(wanted)
    }

    /// What visitors of the platform's own hosts are shown.
    fn add_platform(&mut self, wanted: &mut Certificates, now: Timestamp) -> Result<(), StoreError> {
        let brought = self.platform_hosts.brought_for(now);
        let mut served = Vec::new();
        if let Some((certificate, hosts)) = brought {
            served.clone_from(&hosts);
            let (chain, key) = (certificate.chain.clone(), certificate.key.clone());
            let route = CertificateRoute { certificate: BROUGHT_CERTIFICATE, hosts, chain, key, fallback: false };
            wanted.insert(BROUGHT_CERTIFICATE, route);
        }
        for one in self.store.managed_certificates()? {
            let host = one.hostname.to_string();
            let shown = self.platform_hosts.shows(&one.hostname) && one.valid_until > now && !served.contains(&host);
            if shown {
                let mut route = self.opened(Shown::Managed(&one))?;
                route.hosts.push(host);
                wanted.insert(route.certificate, route);
            }
        }
        Ok(())
    }

    /// For no host yet.
    fn opened(&mut self, shown: Shown<'_>) -> Result<CertificateRoute, StoreError> {
        if let Some((version, route)) = self.known.get(&shown.id())
            && *version == shown.version()
        {
            return Ok(route.clone());
        }
        let (chain, key): (&String, Secret<String>) = match shown {
            Shown::Brought(one) => (&one.certificate_chain, self.store.sni_endpoint_key(one.id)?),
            Shown::Managed(one) => (&one.certificate_chain, self.store.managed_certificate_key(one.id)?),
        };
        let (certificate, chain) = (shown.id(), chain.clone());
        let route = CertificateRoute { certificate, hosts: Vec::new(), chain, key, fallback: false };
        self.known.insert(certificate, (shown.version(), route.clone()));
        Ok(route)
    }
}

impl Shown<'_> {
    const fn id(self) -> Uuid {
        match self {
            Self::Brought(one) => one.id.uuid(),
            Self::Managed(one) => one.id.uuid(),
        }
    }

    const fn version(self) -> Timestamp {
        match self {
            Self::Brought(one) => one.updated_at,
            Self::Managed(one) => one.issued_at,
        }
    }
}

/// A managed one as soon as there is one; until then, and when it has expired, the one that was chosen.
fn shown<'a>(world: &'a AppWorld, domain: &Domain, now: Timestamp) -> Option<Shown<'a>> {
    let managed = world.managed_certificates.iter().find(|one| one.hostname == domain.hostname);
    let managed = managed.filter(|one| world.app.acm && one.valid_until > now).map(Shown::Managed);
    let chosen = world.certificates.iter().find(|one| domain.sni_endpoint == Some(one.id)).map(Shown::Brought);
    managed.or(chosen)
}
