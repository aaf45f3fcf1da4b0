//! Fronts that are known by name: who they are, how they tell the client's address.

use crate::ip_network::IpNetwork;

const CLOUDFLARE: &str = include_str!("front/cloudflare.txt");
const CLOUDFRONT: &str = include_str!("front/cloudfront.txt");
/// Where load balancers of a cloud stand: in the same private network.
const PRIVATE: &str = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7";

/// A front that needs no description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    networks: &'static str,
    /// The header that holds the client's address and nothing else.
    pub client_header: Option<&'static str>,
    /// It begins each connection with the PROXY protocol, and leaves the requests alone.
    pub proxy_protocol: bool,
    /// With that: where it ends TLS, if it does. Nobody else speaks plain HTTP to this port.
    pub tls_ports: &'static [u16],
}

const USUAL: Preset =
    Preset { name: "", networks: PRIVATE, client_header: None, proxy_protocol: false, tls_ports: &[] };

pub const PRESETS: [Preset; 4] = [
    Preset { name: "cloudflare", networks: CLOUDFLARE, client_header: Some("cf-connecting-ip"), ..USUAL },
    Preset { name: "cloudfront", networks: CLOUDFRONT, ..USUAL },
    Preset { name: "alb", ..USUAL },
    Preset { name: "nlb", proxy_protocol: true, tls_ports: &[443], ..USUAL },
];

impl Preset {
    pub fn find(name: &str) -> Option<Self> {
        PRESETS.into_iter().find(|preset| preset.name == name)
    }

    pub fn networks(&self) -> Vec<IpNetwork> {
        let lines = self.networks.lines().filter(|line| !line.starts_with('#'));
        lines.flat_map(str::split_whitespace).filter_map(|network| network.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_every_preset_is_one() {
        for preset in PRESETS {
            let lines = preset.networks.lines().filter(|line| !line.starts_with('#'));
            assert_eq!(preset.networks().len(), lines.flat_map(str::split_whitespace).count(), "{}", preset.name);
        }
        assert!(Preset::find("cloudfront").unwrap().networks().len() > 100);
    }

    #[test]
    fn fronts_are_known_by_their_addresses() {
        let knows = |name: &str, address: &str| {
            let address = address.parse().unwrap();
            Preset::find(name).unwrap().networks().iter().any(|network| network.contains(address))
        };
        assert!(knows("cloudflare", "104.16.1.1") && knows("cloudflare", "2606:4700::1"));
        assert!(knows("cloudfront", "130.176.1.1") && !knows("cloudfront", "104.16.1.1"));
        assert!(knows("alb", "10.1.2.3") && knows("nlb", "172.31.0.1") && !knows("alb", "8.8.8.8"));
        assert_eq!(Preset::find("akamai"), None);
    }
}
