//! Zones of the DNS that somebody else holds for us, and what is needed to change them.

use crate::hostname::Hostname;
use crate::secret::Secret;

/// A zone, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsZone {
    pub name: Hostname,
    /// Of the provider's API, where it is not the usual one.
    pub endpoint: Option<String>,
    pub credentials: DnsCredentials,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsCredentials {
    Cloudflare { token: Secret<String> },
    Route53 { access_key_id: String, secret_access_key: Secret<String> },
}

impl DnsCredentials {
    /// As in commands and in the store.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cloudflare { .. } => "cloudflare",
            Self::Route53 { .. } => "route53",
        }
    }
}

/// The innermost zone that a host lies in.
pub fn zone_of<'a>(zones: &'a [DnsZone], host: &Hostname) -> Option<&'a DnsZone> {
    let around = zones.iter().filter(|zone| host.is_within(zone.name.as_str()));
    around.max_by_key(|zone| zone.name.as_str().len())
}

/// Where an authority looks for the proof of a host (RFC 8555, 8.4); of a wildcard, for that of what it is below.
pub fn challenge_name(host: &Hostname) -> String {
    let name = host.as_str();
    format!("_acme-challenge.{}", name.strip_prefix("*.").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        Hostname::parse(text).unwrap()
    }

    fn zone(name: &str) -> DnsZone {
        let credentials = DnsCredentials::Cloudflare { token: Secret::new("t".to_owned()) };
        DnsZone { name: host(name), endpoint: None, credentials }
    }

    #[test]
    fn a_host_is_in_the_innermost_zone_around_it() {
        let zones = [zone("example.com"), zone("shop.example.com"), zone("example.org")];
        let found = |name: &str| zone_of(&zones, &host(name)).map(|zone| zone.name.as_str());
        assert_eq!(found("www.example.com"), Some("example.com"));
        assert_eq!(found("*.shop.example.com"), Some("shop.example.com"));
        assert_eq!(found("shop.example.com"), Some("shop.example.com"));
        assert_eq!(found("notexample.com"), None);
    }

    #[test]
    fn the_proof_of_a_wildcard_is_that_of_its_parent() {
        assert_eq!(challenge_name(&host("*.example.com")), "_acme-challenge.example.com");
        assert_eq!(challenge_name(&host("www.example.com")), "_acme-challenge.www.example.com");
    }
}
