//! The platform's own hosts: how they are routed, and which certificates their visitors are shown.
//!
//! ```text
//!  berth. api. git. exec. api.localhost.<domain> ──► router ──► router/server.sock ──► server
//! ```
//!
//! Certificates, for each of them the first that there is:
//!
//! 1. the one that the operator brought, where it names the host and has not expired;
//! 2. one that an authority issued, where the operator has agreed to the terms of one. With somebody who holds the
//!    domain's DNS that is one for the wildcard, which is good for apps' own names, too.

use std::sync::Arc;

use certificate::{Fault, check};
use domain::dns::{DnsZone, zone_of};
use domain::hostname::Hostname;
use domain::platform_host::{is_loopback_name, main_host, platform_hosts};
use domain::secret::Secret;
use jiff::Timestamp;
use store::managed_certificate::ManagedCertificate;
use uuid::Uuid;
use wire::routes::{AdmissionSettings, AppRoute, Availability, EdgeSettings, RequestLimits};

/// The route of the platform's own hosts; a fixed id, because there is one server.
pub(crate) const PLATFORM_ROUTE: Uuid = Uuid::from_u128(0x6265_7274_6800_4000_8000_7365_7276_6572);

/// The certificate that the operator brought for them.
pub(crate) const BROUGHT_CERTIFICATE: Uuid = Uuid::from_u128(0x6265_7274_6800_4000_8000_6365_7274_6966);

/// No app has it: it is reserved.
const NAME: &str = "berth";

/// From the last byte of a request to the beginning of its answer: what deletes gigabytes takes its time.
const FIRST_BYTE_MS: u64 = 10 * 60 * 1000;
/// A push is silent for as long as its build is, a session in a dyno for as long as nobody types.
const SILENCE_MS: u64 = 4 * 60 * 60 * 1000;

/// What is set about the platform's own hosts.
#[derive(Debug, Clone, Default)]
pub struct PlatformHosts {
    pub domain: String,
    /// Clients can come over HTTPS, to the router or to what stands in front of it.
    pub https: bool,
    pub certificate: Option<Arc<BroughtCertificate>>,
}

/// A certificate of the operator's.
#[derive(Debug)]
pub struct BroughtCertificate {
    /// PEM.
    pub(crate) chain: String,
    pub(crate) key: Secret<String>,
    hosts: Vec<String>,
    expires_at: Timestamp,
}

impl BroughtCertificate {
    /// Looks at a chain and its key, both PEM. `None` for one that has expired: the server starts all the same.
    ///
    /// # Errors
    /// Everything that is wrong with it besides.
    pub fn new(chain: &str, key: &str, now: Timestamp) -> Result<Option<Self>, Vec<Fault>> {
        let is_about_dates = |fault: &Fault| matches!(fault, Fault::Expired { .. } | Fault::IntermediateExpired { .. });
        match check(chain, key, now) {
            Ok(checked) => Ok(Some(Self {
                chain: checked.chain,
                key: checked.key,
                hosts: checked.facts.hosts,
                expires_at: checked.facts.not_after,
            })),
            Err(faults) if faults.iter().all(is_about_dates) => Ok(None),
            Err(faults) => Err(faults),
        }
    }

    /// Whether it is good for a host, or for all names of one label (`*.paas.example`).
    fn serves(&self, host: &str, now: Timestamp) -> bool {
        self.expires_at > now && self.hosts.iter().any(|name| certificate::covers(name, host))
    }
}

impl PlatformHosts {
    /// What the router must know of them.
    pub(crate) fn route(&self) -> AppRoute {
        let is_public = !is_loopback_name(&main_host(&self.domain));
        AppRoute {
            app: PLATFORM_ROUTE,
            name: NAME.to_owned(),
            logged_for: None,
            hosts: platform_hosts(&self.domain).collect(),
            availability: Availability::Serving,
            dynos: Vec::new(),
            limits: RequestLimits {
                first_byte_ms: FIRST_BYTE_MS,
                silence_ms: Some(SILENCE_MS),
                ..RequestLimits::default()
            },
            // Where there is no HTTPS, the server says so: a redirect would lead nowhere.
            edge: EdgeSettings { to_server: true, https_only: is_public && self.https, ..EdgeSettings::default() },
            admission: AdmissionSettings::default(),
        }
    }

    /// The hosts whose visitors are shown the operator's certificate; all names of one label below the domain, which
    /// are apps' own, among them where it names those.
    pub(crate) fn brought_for(&self, now: Timestamp) -> Option<(&BroughtCertificate, Vec<String>)> {
        let certificate = self.certificate.as_deref()?;
        let hosts = platform_hosts(&self.domain).chain([self.wildcard()]);
        let hosts: Vec<String> = hosts.filter(|host| certificate.serves(host, now)).collect();
        (!hosts.is_empty()).then_some((certificate, hosts))
    }

    /// Until when visitors of the host that people are told are shown a good certificate.
    pub fn certificate_until(&self, managed: &[ManagedCertificate], now: Timestamp) -> Option<Timestamp> {
        let main = main_host(&self.domain);
        if let Some(certificate) = self.certificate.as_deref().filter(|one| one.serves(&main, now)) {
            return Some(certificate.expires_at);
        }
        let good =
            managed.iter().filter(|one| one.valid_until > now && certificate::covers(one.hostname.as_str(), &main));
        good.map(|one| one.valid_until).max()
    }

    /// What an authority should issue certificates for.
    pub(crate) fn to_order(&self, zones: &[DnsZone], now: Timestamp) -> Vec<Hostname> {
        if is_loopback_name(&main_host(&self.domain)) {
            return Vec::new();
        }
        let wildcard = Hostname::parse(&self.wildcard()).ok().filter(|wildcard| zone_of(zones, wildcard).is_some());
        let wanted = match wildcard {
            Some(wildcard) => vec![wildcard],
            None => platform_hosts(&self.domain).filter_map(|host| Hostname::parse(&host).ok()).collect(),
        };
        let is_brought = |host: &Hostname| {
            self.certificate.as_deref().is_some_and(|certificate| certificate.serves(host.as_str(), now))
        };
        wanted.into_iter().filter(|host| !is_brought(host)).collect()
    }

    /// Whether visitors of the platform are shown a certificate for this host if there is one.
    pub(crate) fn shows(&self, host: &Hostname) -> bool {
        host.as_str() == self.wildcard() || platform_hosts(&self.domain).any(|own| own == host.as_str())
    }

    /// Whether it is the host that people are told, or all at once.
    pub(crate) fn is_main(&self, host: &Hostname) -> bool {
        host.is_wildcard() || host.as_str() == main_host(&self.domain)
    }

    fn wildcard(&self) -> String {
        format!("*.{}", self.domain)
    }
}

#[cfg(test)]
mod tests {
    use domain::dns::DnsCredentials;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn hosts(domain: &str, names: Option<&[&str]>) -> PlatformHosts {
        let certificate = names.map(|names| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
            let chain = params.self_signed(&key).unwrap().pem();
            Arc::new(BroughtCertificate::new(&chain, &key.serialize_pem(), Timestamp::now()).unwrap().unwrap())
        });
        PlatformHosts { domain: domain.to_owned(), https: true, certificate }
    }

    fn ordered(hosts: &PlatformHosts, zones: &[DnsZone]) -> Vec<String> {
        hosts.to_order(zones, Timestamp::now()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tokens_do_not_come_in_the_clear_from_elsewhere() {
        let https_only = |domain: &str| hosts(domain, None).route().edge.https_only;
        assert!(https_only("paas.example") && !https_only("localhost") && !https_only("paas.localhost"));
    }

    #[test]
    fn what_was_brought_is_not_ordered() {
        let brought = hosts("paas.example", Some(&["*.paas.example"]));
        let now = Timestamp::now();
        let (_certificate, shown) = brought.brought_for(now).unwrap();
        assert!(shown.contains(&"berth.paas.example".to_owned()) && shown.contains(&"*.paas.example".to_owned()));
        assert_eq!(ordered(&brought, &[]), ["api.localhost.paas.example"]);
        let one = hosts("paas.example", Some(&["berth.paas.example"]));
        assert_eq!(one.brought_for(now).unwrap().1, ["berth.paas.example"]);
        assert!(one.brought_for(Timestamp::MAX).is_none(), "it has expired");
        assert!(!ordered(&one, &[]).contains(&"berth.paas.example".to_owned()));
        assert_eq!(ordered(&hosts("localhost", None), &[]), Vec::<String>::new());
    }

    #[test]
    fn with_the_domains_dns_there_is_one_for_all_names() {
        let credentials = DnsCredentials::Cloudflare { token: Secret::new("t".to_owned()) };
        let zone = DnsZone { name: Hostname::parse("paas.example").unwrap(), endpoint: None, credentials };
        assert_eq!(ordered(&hosts("paas.example", None), std::slice::from_ref(&zone)), ["*.paas.example"]);
        assert_eq!(ordered(&hosts("paas.example", Some(&["*.paas.example"])), &[zone]), Vec::<String>::new());
    }

    #[test]
    fn a_certificate_with_another_key_is_refused_and_an_expired_one_is_not() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let chain = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let looked_at = |key: &KeyPair, now| BroughtCertificate::new(&chain, &key.serialize_pem(), now);
        assert_eq!(looked_at(&other, Timestamp::now()).unwrap_err(), [Fault::KeyMismatch]);
        assert!(looked_at(&key, Timestamp::MAX).unwrap().is_none());
    }
}
