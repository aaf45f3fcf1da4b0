//! The dynos' network on this machine: isolated where we are root and the kernel allows it, the host's otherwise.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, anyhow};
use reconciler::DynoNetwork;
use shim::host::ipv4_net::Ipv4Net;
use shim::host::{HostError, HostNetwork, Notice};
use tracing::{info, warn};
use wire::settings::NetworkSettings;

/// The /16 that is tried first, and how many after it: another installation may have the first.
const FIRST_RANGE: Ipv4Addr = Ipv4Addr::new(10, 207, 0, 0);
const RANGES_TRIED: u32 = 16;
const RANGE_PREFIX: u8 = 16;

/// First port of dynos that share the host's network.
const FIRST_HOST_PORT: u16 = 20_000;

/// What was set up, and what is reduced on this machine and why.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) network: DynoNetwork,
    pub(crate) reduced: Vec<String>,
    pub(crate) full: bool,
}

/// Prepares the machine for dynos of this instance. `kept` is the range of the last start: living dynos have addresses
/// in it.
pub(crate) fn prepare(
    instance: &str,
    settings: &NetworkSettings,
    kept: Option<Ipv4Addr>,
    router_ports: &[u16],
) -> Result<Prepared> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Prepared {
            network: DynoNetwork::Host { first_port: FIRST_HOST_PORT },
            reduced: vec![
                "Not root: development mode. Apps share one user, the machine's network and no memory limit; \
                 there is no promise between apps. Start as root for full isolation."
                    .to_owned(),
            ],
            full: false,
        });
    }
    let ranges: Vec<Ipv4Addr> = match settings.range.or(kept) {
        Some(range) => vec![range],
        None => (0..RANGES_TRIED).map(|step| Ipv4Addr::from(u32::from(FIRST_RANGE) + (step << 16))).collect(),
    };
    let mut refused = None;
    for range in ranges {
        match prepare_range(instance, settings, range, router_ports)? {
            Ok(prepared) => return Ok(prepared),
            // Another range may be free.
            Err(error @ HostError::Overlap { .. }) => refused = Some(error),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let error = refused.map_or_else(|| anyhow!("no address range to try"), anyhow::Error::from);
    warn!("no network isolation: {error:#}");
    Ok(Prepared {
        network: DynoNetwork::Host { first_port: FIRST_HOST_PORT },
        reduced: vec![format!("Dynos share the machine's network: {error:#}.")],
        full: false,
    })
}

fn prepare_range(
    instance: &str,
    settings: &NetworkSettings,
    range: Ipv4Addr,
    router_ports: &[u16],
) -> Result<Result<Prepared, HostError>> {
    let gateway = Ipv4Addr::from(u32::from(range) | 0xfffe);
    let allowed = settings.allowed_networks.iter().map(|text| parse_network(text)).collect::<Result<Vec<_>>>()?;
    let upstream = shim::host::nameservers().context("cannot read /etc/resolv.conf")?;
    // Only a resolver on this machine's loopback: the forwarder on the gateway asks it for the dynos.
    let dns_on_gateway = upstream.is_empty();
    let nameservers = if dns_on_gateway { vec![gateway] } else { upstream };
    let host = HostNetwork {
        range: Ipv4Net::new(range, RANGE_PREFIX).context("network.range must be an address like 10.207.0.0")?,
        gateway,
        dns_on_gateway,
        resolvers: nameservers.clone(),
        host_ports: router_ports.iter().chain(&settings.host_ports).copied().collect(),
        allowed_networks: allowed,
    };
    let notices = match shim::host::prepare(instance, &host) {
        Ok(notices) => notices,
        Err(error) => return Ok(Err(error)),
    };
    let mut reduced = Vec::new();
    for notice in notices {
        match notice {
            Notice::ForwardingEnabled => {
                info!("Switched on IPv4 forwarding (net.ipv4.ip_forward) for the dynos' network");
            }
            Notice::ForeignForwardDrop { chain, remedy } => {
                warn!("the firewall chain {chain} drops forwarded packets: {remedy}");
                reduced.push(format!("Dynos may have no internet: {chain} drops forwarded packets. {remedy}"));
            }
        }
    }
    let full = reduced.is_empty();
    Ok(Ok(Prepared { network: DynoNetwork::Isolated { range, gateway, nameservers }, reduced, full }))
}

/// The dynos' range as a network: `10.207.0.0/16`.
pub(crate) fn written(range: Ipv4Addr) -> String {
    format!("{range}/{RANGE_PREFIX}")
}

fn parse_network(text: &str) -> Result<Ipv4Net> {
    let wrong = || format!("network.allowed_networks: {text:?} is not a network like 192.168.7.0/24");
    let (address, prefix) = text.split_once('/').with_context(wrong)?;
    let address: Ipv4Addr = address.parse().with_context(wrong)?;
    Ipv4Net::new(address, prefix.parse().with_context(wrong)?).with_context(wrong)
}
