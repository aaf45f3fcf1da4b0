//! From stored certificates to those that the router presents.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::id::SniEndpointId;
use jiff::Timestamp;
use store::sni_endpoint::SniEndpoint;
use store::{Store, StoreError};
use wire::routes::CertificateRoute;

use crate::router_link::Certificates;
use crate::world::AppWorld;

/// Makes the routes of certificates, and remembers their keys: opening one is work, and every activation asks.
#[derive(Debug)]
pub(crate) struct CertificateRoutes {
    store: Arc<Store>,
    known: BTreeMap<SniEndpointId, (Timestamp, CertificateRoute)>,
}

impl CertificateRoutes {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, known: BTreeMap::new() }
    }

    /// What should be in force: each certificate for the domains that it was chosen for.
    pub(crate) fn wanted(&mut self, worlds: &[AppWorld]) -> Result<Certificates, StoreError> {
        let mut wanted = Certificates::new();
        let living = worlds.iter().filter(|world| world.app.destroyed_at.is_none());
        for (world, endpoint) in living.flat_map(|world| world.certificates.iter().map(move |one| (world, one))) {
            let hosts = hosts(world, endpoint.id);
            // One that nobody is shown stays where only the server can open it.
            if !hosts.is_empty() {
                let route = CertificateRoute { hosts, ..self.opened(endpoint)?.clone() };
                wanted.insert(route.certificate, route);
            }
        }
        self.known.retain(|id, _route| wanted.contains_key(&id.uuid()));
        Ok(wanted)
    }

    fn opened(&mut self, endpoint: &SniEndpoint) -> Result<&CertificateRoute, StoreError> {
        let stale = self.known.get(&endpoint.id).is_none_or(|(version, _route)| *version != endpoint.updated_at);
        if stale {
            let route = CertificateRoute {
                certificate: endpoint.id.uuid(),
                hosts: Vec::new(),
                chain: endpoint.certificate_chain.clone(),
                key: self.store.sni_endpoint_key(endpoint.id)?,
                fallback: false,
            };
            self.known.insert(endpoint.id, (endpoint.updated_at, route));
        }
        self.known.get(&endpoint.id).map(|(_version, route)| route).ok_or(StoreError::NotFound("SNI endpoint"))
    }
}

fn hosts(world: &AppWorld, endpoint: SniEndpointId) -> Vec<String> {
    let chosen = world.domains.iter().filter(|domain| domain.sni_endpoint == Some(endpoint));
    chosen.map(|domain| domain.hostname.to_string()).collect()
}
