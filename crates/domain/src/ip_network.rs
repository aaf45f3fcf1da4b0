//! A range of addresses, as `10.0.0.0/8` or `2001:db8::/32`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    bits: u8,
}

/// What a provider gives to one customer at least (RFC 6177): whoever has it has all addresses in it.
const CUSTOMER_BITS: u8 = 64;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a network; write it as 10.0.0.0/8 or 2001:db8::/32, or a single address")]
pub struct IpNetworkError(String);

impl IpNetwork {
    /// The addresses that one client can speak from, as far as one of them tells.
    pub fn of_client(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { address: address.into(), bits: 32 },
            IpAddr::V6(address) => {
                let host_bits = 128 - u32::from(CUSTOMER_BITS);
                let network = Ipv6Addr::from(masked6(address, CUSTOMER_BITS) << host_bits);
                Self { address: network.into(), bits: CUSTOMER_BITS }
            }
        }
    }

    /// An IPv4 address that came in through an IPv6 socket counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => masked4(network, self.bits) == masked4(address, self.bits),
            (IpAddr::V6(network), IpAddr::V6(address)) => masked6(network, self.bits) == masked6(address, self.bits),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for IpNetwork {
    type Err = IpNetworkError;

    fn from_str(text: &str) -> Result<Self, IpNetworkError> {
        let fault = || IpNetworkError(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok().ok_or_else(fault)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) => bits.parse().ok().filter(|&bits: &u8| bits <= bits_max).ok_or_else(fault)?,
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn masked4(address: Ipv4Addr, bits: u8) -> u32 {
    u32::from(address).checked_shr(32 - u32::from(bits)).unwrap_or(0)
}

fn masked6(address: Ipv6Addr, bits: u8) -> u128 {
    u128::from(address).checked_shr(128 - u32::from(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_begins_like_it() {
        let check = |network: &str, address: &str, expect: bool| {
            let network: IpNetwork = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), expect, "{network} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("0.0.0.0/0", "1.2.3.4", true);
        check("0.0.0.0/0", "::1", false);
        check("::/0", "2001:db8::1", true);
        check("1.2.3.4", "1.2.3.4", true);
        check("1.2.3.4/32", "1.2.3.5", false);
        check("2606:4700::/32", "2606:4700:1::1", true);
        check("2606:4700::/32", "2606:4701::1", false);
    }

    #[test]
    fn a_client_has_one_ipv4_address_or_a_network_of_ipv6() {
        let check = |address: &str, expect: &str| {
            assert_eq!(IpNetwork::of_client(address.parse().unwrap()).to_string(), expect);
        };
        check("192.0.2.7", "192.0.2.7/32");
        check("::ffff:192.0.2.7", "192.0.2.7/32");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64");
        check("2001:db8:1:2::", "2001:db8:1:2::/64");
        check("::1", "::/64");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "x/8", "::/129", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<IpNetwork>(), Err(IpNetworkError(text.to_owned())));
        }
    }
}
