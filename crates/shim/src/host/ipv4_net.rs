//! An IPv4 network in CIDR form.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix_bits: u8,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} is not a network like 10.207.0.0/16")]
pub struct Ipv4NetError {
    text: String,
}

impl Ipv4Net {
    /// `None` if the prefix is longer than an address. Bits behind the prefix are cleared.
    pub fn new(address: Ipv4Addr, prefix_bits: u8) -> Option<Self> {
        (prefix_bits <= 32)
            .then(|| Self { address: Ipv4Addr::from(u32::from(address) & mask(prefix_bits)), prefix_bits })
    }

    pub const fn prefix_bits(self) -> u8 {
        self.prefix_bits
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix_bits) == u32::from(self.address)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_bits)
    }
}

impl FromStr for Ipv4Net {
    type Err = Ipv4NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix_bits) = text.split_once('/')?;
            Self::new(address.parse().ok()?, prefix_bits.parse().ok()?)
        };
        parse().ok_or_else(|| Ipv4NetError { text: text.to_owned() })
    }
}

fn mask(prefix_bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_parsed_and_compared() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(net("10.207.3.1/16").to_string(), "10.207.0.0/16");
        assert!(net("0.0.0.0/0").contains(Ipv4Addr::new(9, 9, 9, 9)));
        assert!(net("10.0.0.0/8").overlaps(net("10.207.0.0/16")));
        assert!(net("10.207.0.0/16").overlaps(net("10.0.0.0/8")));
        assert!(!net("10.206.0.0/16").overlaps(net("10.207.0.0/16")));
        for text in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0", ""] {
            assert_eq!(text.parse::<Ipv4Net>(), Err(Ipv4NetError { text: text.to_owned() }));
        }
    }
}
