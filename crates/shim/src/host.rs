//! What all dynos of a machine share: names of interfaces, forwarding rules, address translation, resolvers.
//!
//! The rules go by the prefix of interface names (`b<instance>…`), so nothing is loaded per dyno. They are loaded once,
//! with `nft -f -`; loading them again replaces them.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Output, Stdio};

use thiserror::Error;

use crate::cgroup;

mod gateway;
pub mod ipv4_net;
mod rules;
mod stack;

use ipv4_net::Ipv4Net;

pub use stack::stack;

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The network that all dynos of this machine live in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNetwork {
    /// Dynos get addresses from it, for example 10.207.0.0/16.
    pub range: Ipv4Net,
    /// The host's address on each dyno's link. It serves DNS where `dns_on_gateway` is set.
    pub gateway: Ipv4Addr,
    pub dns_on_gateway: bool,
    /// Where dynos ask for names: reached on port 53 wherever they are.
    pub resolvers: Vec<Ipv4Addr>,
    /// TCP ports of the host that dynos may reach, on any of its addresses: the router's, what an operator opened.
    pub host_ports: Vec<u16>,
    /// Private networks that dynos may reach although private networks are denied.
    pub allowed_networks: Vec<Ipv4Net>,
}

/// What [`prepare`] found and did; said to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This machine now forwards packets, which it did not before.
    ForwardingEnabled,
    /// Another firewall drops forwarded packets: dynos have no internet until it lets them through.
    ForeignForwardDrop { chain: String, remedy: String },
}

#[derive(Debug, Error)]
pub enum HostError {
    #[error("cannot run nft: install nftables")]
    NftMissing(#[source] io::Error),
    #[error("nft refused the rules: {message}")]
    Nft { message: String },
    #[error("cannot write {IP_FORWARD}")]
    Forwarding(#[source] io::Error),
    #[error("cannot read {path}")]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the dyno network {range} overlaps with the route to {route} by {interface}: choose another range")]
    Overlap { range: Ipv4Net, route: Ipv4Net, interface: String },
    #[error("cannot set up the gateway's address")]
    Gateway(#[source] io::Error),
    #[error("cannot move the platform into a leaf of its cgroup")]
    Cgroup(#[source] io::Error),
}

/// Prepares the machine for dynos of this instance. Doing it again changes nothing.
pub fn prepare(instance: &str, network: &HostNetwork) -> Result<Vec<Notice>, HostError> {
    check_routes(instance, network.range)?;
    cgroup::enter_supervisor_leaf().map_err(HostError::Cgroup)?;
    nft(&rules::ruleset(instance, network))?;
    if network.dns_on_gateway {
        gateway::add(instance, network.gateway).map_err(HostError::Gateway)?;
    }
    let mut notices = Vec::new();
    let forwards = fs::read_to_string(IP_FORWARD).map_err(HostError::Forwarding)?;
    if forwards.trim() != "1" {
        fs::write(IP_FORWARD, "1").map_err(HostError::Forwarding)?;
        notices.push(Notice::ForwardingEnabled);
    }
    notices.extend(foreign_drops(instance)?);
    Ok(notices)
}

/// Removes the rules of this instance, its gateway and its cgroup directories. Forwarding stays as it is: others may rely on it now.
pub fn remove(instance: &str) -> Result<(), HostError> {
    // Declaring it first makes the deletion succeed where there is none.
    let table = rules::table(instance);
    nft(&format!("table inet {table} {{}}\ndelete table inet {table}\n"))?;
    gateway::remove(instance).map_err(HostError::Gateway)?;
    cgroup::remove_instance(instance).map_err(HostError::Cgroup)
}

/// The host's end of the veth pair of `address`: `b`, the instance, the address's last three bytes; 15 bytes, the most
/// that an interface name may have.
pub fn host_interface(instance: &str, address: Ipv4Addr) -> String {
    let [_, a, b, c] = address.octets();
    format!("b{instance}{a:02x}{b:02x}{c:02x}")
}

/// Whether a name is one that [`host_interface`] gives for this instance.
pub fn is_host_interface(instance: &str, name: &str) -> bool {
    let address = name.strip_prefix('b').and_then(|rest| rest.strip_prefix(instance));
    address.is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The host's resolvers that a dyno can reach too. Empty where the host only has one on loopback: then the gateway must
/// serve DNS.
pub fn nameservers() -> io::Result<Vec<Ipv4Addr>> {
    // Behind systemd-resolved this file holds what its loopback resolver asks.
    let upstream = fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or_default();
    let found = parse_nameservers(&upstream);
    if found.is_empty() { Ok(parse_nameservers(&fs::read_to_string("/etc/resolv.conf")?)) } else { Ok(found) }
}

fn parse_nameservers(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers
        .filter_map(|address| match address {
            IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect()
}

/// Refuses a range that is already routed somewhere else.
fn check_routes(instance: &str, range: Ipv4Net) -> Result<(), HostError> {
    let path = "/proc/net/route";
    let table = fs::read_to_string(path).map_err(|source| HostError::Read { path, source })?;
    for (interface, route) in table.lines().skip(1).filter_map(parse_route) {
        // The default route contains everything; routes of our own dynos are inside by design.
        if route.prefix_bits() > 0 && route.overlaps(range) && !is_host_interface(instance, &interface) {
            return Err(HostError::Overlap { range, route, interface });
        }
    }
    Ok(())
}

/// One line of `/proc/net/route`: `interface destination gateway flags … mask …`, numbers in the host's byte order.
fn parse_route(line: &str) -> Option<(String, Ipv4Net)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| Some(u32::from_be_bytes(u32::from_str_radix(fields.get(at)?, 16).ok()?.to_ne_bytes()));
    let network = Ipv4Net::new(Ipv4Addr::from(number(1)?), u8::try_from(number(7)?.leading_ones()).ok()?)?;
    Some(((*fields.first()?).to_owned(), network))
}

/// Finds base chains of others that hook into forwarding and drop by default. A packet must pass all of them, so our
/// own accept does not help.
fn foreign_drops(instance: &str) -> Result<Vec<Notice>, HostError> {
    let listed = run_nft(&["-j", "list", "chains"], "")?;
    let value: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    Ok(rules::foreign_drops(&value, instance))
}

fn nft(script: &str) -> Result<(), HostError> {
    run_nft(&["-f", "-"], script).map(drop)
}

fn run_nft(arguments: &[&str], input: &str) -> Result<Output, HostError> {
    let run = || {
        let mut child = Command::new("nft")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(HostError::NftMissing)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(HostError::Nft { message: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_unique_per_instance_and_address_and_short_enough() {
        let name = host_interface("0011aabb", Ipv4Addr::new(10, 207, 3, 255));
        assert_eq!(name, "b0011aabbcf03ff");
        assert_eq!(name.len(), 15);
        assert!(is_host_interface("0011aabb", &name));
        assert!(!is_host_interface("0011aabc", &name));
        assert!(!is_host_interface("0011aabb", "b0011aabbeth0"));
    }

    #[test]
    fn loopback_resolvers_are_of_no_use_to_a_dyno() {
        let text =
            "# comment\nsearch x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.2 \nnameserver 1.1.1.1\n";
        assert_eq!(parse_nameservers(text), [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(1, 1, 1, 1)]);
    }

    #[test]
    fn routes_are_read_from_the_kernels_table() {
        let line = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let (interface, network) = parse_route(line).unwrap();
        assert_eq!((interface.as_str(), network.to_string().as_str()), ("eth0", "192.0.2.0/24"));
        assert_eq!(parse_route("Iface Destination Gateway"), None);
    }
}
