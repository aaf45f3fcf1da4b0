//! From dynos to the route table. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use domain::dyno::{DynoKind, DynoState};
use domain::dyno_size::{self, DynoSize};
use domain::health::{CheckedDyno, gets_requests};
use domain::name::ProcessType;
use domain::platform_host::is_platform_host;
use domain::release::ReleaseState;
use domain::routing::DynoProtocol;
use store::custom_domain::Domain;
use store::dyno::Dyno;
use wire::routes::{AdmissionSettings, AppRoute, Availability, DynoRoute, EdgeSettings, RequestLimits};

use crate::config::{DYNO_PORT, DynoNetwork, ReconcilerConfig};
use crate::health::checked;
use crate::world::AppWorld;

/// What the router must know of one app; `None` for one that is being destroyed.
pub(crate) fn route(world: &AppWorld, has_web: bool, config: &ReconcilerConfig) -> Option<AppRoute> {
    let (domain, network) = (&config.domain, &config.network);
    let app = &world.app;
    if app.destroyed_at.is_some() {
        return None;
    }
    let candidate = world.releases.iter().find(|release| release.state == ReleaseState::RollingOut);
    let web: Vec<&Dyno> =
        world.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Formation && dyno.name.process_type.is_web()).collect();
    let entry = world.formation.iter().find(|formation| formation.entry.process_type == ProcessType::web());
    let serving = |dyno: &&&Dyno| {
        dyno.state == DynoState::Up && candidate.is_none_or(|candidate| dyno.release != Some(candidate.id))
    };
    let up: Vec<CheckedDyno> = web.iter().filter(serving).map(|dyno| checked(dyno)).collect();
    let is_checked = world.health_check.is_some();
    let routable = web.iter().filter(serving).filter(|dyno| !is_checked || gets_requests(&checked(dyno), &up));
    let declared = entry.and_then(|formation| formation.entry.concurrency);
    let mut edge = EdgeSettings::new(&world.routing, &world.page_urls);
    if web.iter().any(|dyno| dyno.protocol == DynoProtocol::H2c) {
        edge.dyno_protocol = DynoProtocol::H2c.into();
    }
    let dynos: Vec<DynoRoute> = routable
        .filter_map(|dyno| {
            Some(DynoRoute {
                dyno: dyno.id.uuid(),
                name: dyno.name.to_string(),
                address: address(network, dyno.slot?),
                concurrency: declared,
                weight: weight(&config.sizes, &dyno.size),
                protocol: Some(dyno.protocol.into()).filter(|protocol| *protocol != edge.dyno_protocol),
            })
        })
        .collect();
    let ever_released = world.releases.iter().any(|release| release.slug.is_some());
    let wanted = entry.map_or(0, |formation| formation.entry.quantity);
    let starting = web.iter().any(|dyno| matches!(dyno.state, DynoState::Requested | DynoState::Starting))
        || world.under_way().is_some_and(|release| release.slug.is_some());
    let availability = if app.maintenance {
        Availability::Maintenance
    } else if !dynos.is_empty() {
        Availability::Serving
    } else if starting && wanted > 0 {
        Availability::Starting
    } else if !ever_released && web.is_empty() && !app_has_failed(world) {
        Availability::Blank
    } else if wanted == 0 || (ever_released && !has_web) {
        Availability::Stopped
    } else {
        Availability::Crashed
    };
    Some(AppRoute {
        app: app.id.uuid(),
        name: app.name.to_string(),
        logged_for: None,
        hosts: hosts(world, domain),
        availability,
        dynos,
        limits: RequestLimits::from(&world.routing),
        edge,
        admission: AdmissionSettings {
            workers_hint: app.workers_hint,
            held_until_unix_ms: world.paused_until.and_then(|until| u64::try_from(until.as_millisecond()).ok()),
            ..AdmissionSettings::default()
        },
    })
}

/// The routes of those domains whose app has not moved in yet. Everything but the place is as for the app's `own` one.
pub(crate) fn passed_on<'world>(
    world: &'world AppWorld,
    own: &AppRoute,
    platform_domain: &'world str,
) -> impl Iterator<Item = AppRoute> + use<'world> {
    let own = AppRoute { logged_for: Some(own.app), dynos: Vec::new(), ..own.clone() };
    let not_ours = move |own: &&Domain| !is_platform_host(own.hostname.as_str(), platform_domain);
    world.domains.iter().filter(not_ours).filter_map(move |domain| {
        let upstream = Some(domain.upstream.as_ref()?.to_string());
        // What the old host does about sessions is its own business.
        let edge = EdgeSettings { upstream, session_affinity: false, ..own.edge.clone() };
        Some(AppRoute { app: domain.id.uuid(), hosts: vec![domain.hostname.to_string()], edge, ..own.clone() })
    })
}

/// The host that a web dyno is probed with: the first domain that the app was given, which it must answer for.
pub(crate) fn probe_host(world: &AppWorld, domain: &str) -> String {
    let named = world.domains.iter().filter(|domain| !domain.hostname.is_wildcard());
    let first = named.min_by_key(|domain| (domain.created_at, domain.id));
    first.map_or_else(|| format!("{}.{domain}", world.app.name), |first| first.hostname.to_string())
}

/// The app's name below the platform's domain first, then its own domains.
fn hosts(world: &AppWorld, domain: &str) -> Vec<String> {
    let custom = world.domains.iter().filter(|domain| domain.upstream.is_none());
    // One may have been added while the platform had another domain.
    let custom = custom.filter(|own| !is_platform_host(own.hostname.as_str(), domain));
    let custom = custom.map(|domain| domain.hostname.to_string());
    std::iter::once(format!("{}.{domain}", world.app.name)).chain(custom).collect()
}

/// A first release that failed leaves no live release but a formation: that is a crash, not a blank app.
fn app_has_failed(world: &AppWorld) -> bool {
    !world.formation.is_empty()
}

/// A dyno's share of the requests is its share of the CPU: while an app is resized, dynos of two sizes serve it.
fn weight(sizes: &[DynoSize], name: &str) -> u32 {
    dyno_size::find(sizes, name).map_or(DynoRoute::WEIGHT_USUAL, |size| u32::from(size.cpu_weight))
}

/// Where a dyno listens.
pub(crate) fn address(network: &DynoNetwork, slot: u32) -> SocketAddr {
    match network {
        DynoNetwork::Isolated { range, .. } => {
            let address = u32::from(*range).wrapping_add(slot);
            SocketAddr::from((Ipv4Addr::from(address), DYNO_PORT))
        }
        DynoNetwork::Host { .. } => SocketAddr::from(([127, 0, 0, 1], port(network, slot))),
    }
}

/// The `PORT` that a dyno is told to bind.
pub(crate) fn port(network: &DynoNetwork, slot: u32) -> u16 {
    match network {
        DynoNetwork::Isolated { .. } => DYNO_PORT,
        DynoNetwork::Host { first_port } => {
            // Slots beyond the range share ports with slots that are long gone.
            let span = u32::from(u16::MAX - first_port);
            first_port.saturating_add(u16::try_from(slot % span.max(1)).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dyno_of_twice_the_cpu_gets_twice_the_requests_and_an_unknown_size_the_usual() {
        let sizes = dyno_size::default_sizes();
        let weight = |name| weight(&sizes, name);
        assert_eq!((weight("Standard-1X"), weight("standard-2x")), (DynoRoute::WEIGHT_USUAL, 200));
        assert_eq!(weight("of-the-past"), DynoRoute::WEIGHT_USUAL);
    }
}
