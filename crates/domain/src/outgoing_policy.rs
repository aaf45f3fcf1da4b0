//! Where the platform may connect to for its users.
//!
//! It stands inside the machine and its network: without this rule, whoever may add a drain, or lead a domain elsewhere,
//! could have it speak to the database next door or to the provider's metadata service, which gives away the machine's own
//! credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip_network::IpNetwork;

/// Whether an address may be connected to: it is public, or an operator allowed its network.
pub fn may_connect(address: IpAddr, allowed: &[IpNetwork]) -> bool {
    allowed.iter().any(|network| network.contains(address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public4(address),
        IpAddr::V6(address) => is_public6(address),
    }
}

/// The special ranges are those of IANA's registry (RFC 6890 and its successors).
fn is_public4(address: Ipv4Addr) -> bool {
    let [a, b, c, _d] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let protocols = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && b & 0xfe == 18;
    let special = a == 0 || a >= 224 || shared || protocols || benchmark;
    !(special || address.is_loopback() || address.is_private() || address.is_link_local() || address.is_documentation())
}

/// Global unicast alone; an IPv4 address inside one counts as itself.
fn is_public6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    let inside = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match words {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public4(inside(high, low)),
        // Teredo and other protocol assignments; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, allowed: &[&str], expect: bool) {
        let allowed: Vec<IpNetwork> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        assert_eq!(may_connect(address.parse().unwrap(), &allowed), expect, "{address} {allowed:?}");
    }

    #[test]
    fn public_addresses_may_be_connected_to() {
        for address in ["1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
        {
            check(address, &[], true);
        }
    }

    #[test]
    fn the_machine_its_network_and_the_providers_services_may_not() {
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "ff02::1",
        ] {
            check(address, &[], false);
        }
    }

    #[test]
    fn an_operator_may_allow_a_network() {
        check("10.1.2.3", &["10.1.0.0/16"], true);
        check("10.2.2.3", &["10.1.0.0/16"], false);
        check("::ffff:127.0.0.1", &["127.0.0.0/8"], true);
    }
}
