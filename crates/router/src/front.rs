//! Who stands in front of the router, and what a request that came through it says about its client. Pure.
//!
//! A client can write any header. What `X-Forwarded-*` says is believed only of a front, and of its chain of addresses
//! only as much as fronts wrote: from the right, up to the first address that is none of theirs.

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use domain::ip_network::IpNetwork;
use domain::secret::Secret;
use http::header::{HeaderMap, HeaderName, InvalidHeaderName};
use httparse::Header;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};
use thiserror::Error;
use tracing::error;
use wire::routes::{FrontPolicy, FrontRoute};

use crate::certificates::Certificates;
use crate::tls;
use crate::worker::Origin;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const PORT: &str = "x-forwarded-port";
/// CloudFront's own name for what others call `X-Forwarded-Proto`.
const CLOUDFRONT_PROTO: &str = "cloudfront-forwarded-proto";

#[derive(Debug, Default)]
pub(crate) struct Fronts {
    pub(crate) policy: FrontPolicy,
    fronts: Vec<Arc<Front>>,
    never: Vec<IpNetwork>,
    /// Headers that only a front may write.
    client_headers: Vec<HeaderName>,
}

#[derive(Debug)]
pub(crate) struct Front {
    networks: Vec<IpNetwork>,
    client_header: Option<HeaderName>,
    pub(crate) proxy_protocol: bool,
    /// At which ports it ends TLS.
    tls_ports: Vec<u16>,
    secret: Option<(HeaderName, Secret<String>)>,
    /// Checks the certificate that it must show.
    client_certificate: Option<Arc<dyn ClientCertVerifier>>,
    /// With that; made for its first connection.
    tls: OnceLock<Arc<ServerConfig>>,
}

#[derive(Debug, Error)]
pub enum AuthoritiesError {
    #[error("certificates cannot be read")]
    Pem(#[source] pem::Error),
    #[error("certificate cannot be trusted")]
    Certificate(#[source] rustls::Error),
    #[error("there are none")]
    None(#[source] VerifierBuilderError),
}

/// Whether these, as PEM, can be trusted to sign certificates of clients.
pub fn check_authorities(pem: &str) -> Result<(), AuthoritiesError> {
    verifier(pem).map(drop)
}

/// Whether there can be a header of this name.
pub fn check_header_name(name: &str) -> Result<(), InvalidHeaderName> {
    HeaderName::try_from(name).map(drop)
}

/// A client without a certificate gets through the handshake, so that its requests can be answered with the reason.
fn verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, AuthoritiesError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(AuthoritiesError::Pem)?).map_err(AuthoritiesError::Certificate)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    builder.allow_unauthenticated().build().map_err(AuthoritiesError::None)
}

/// What is true about a request's client, as far as the router knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Came {
    /// The addresses that it came through; the last one is the client's.
    pub(crate) forwarded_for: String,
    pub(crate) https: bool,
    /// Where the client connected to.
    pub(crate) port: u16,
    /// A front stands for it: what only fronts may write is true.
    pub(crate) through_front: bool,
}

/// The request came around the front, or through somebody else's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotThroughFront;

impl Fronts {
    pub(crate) fn new(policy: FrontPolicy) -> Self {
        let fronts: Vec<Arc<Front>> = policy.fronts.iter().map(|route| Arc::new(Front::new(route))).collect();
        let client_headers = fronts.iter().filter_map(|front| front.client_header.clone()).collect();
        let never = networks(&policy.never).collect();
        Self { policy, fronts, never, client_headers }
    }

    /// The front that connects from this address. One that speaks the PROXY protocol is asked for by `proxy_protocol`.
    pub(crate) fn find(&self, address: IpAddr, proxy_protocol: bool) -> Option<Arc<Front>> {
        let mut fronts = self.fronts_at(address).filter(|front| front.proxy_protocol == proxy_protocol);
        fronts.next().cloned()
    }

    /// Finds out about the client. What then must not reach a dyno tells [`Fronts::withholds`].
    pub(crate) fn judge(&self, origin: &Origin, headers: &(impl Headers + ?Sized)) -> Result<Came, NotThroughFront> {
        let Origin { peer, local, front, balancer, .. } = origin;
        let certified = origin.tls.as_ref().is_some_and(|tls| tls.certified);
        let tls = origin.tls.is_some() || origin.balancer_tls;
        if !front.iter().chain(balancer).all(|front| front.is_proven(headers, certified)) {
            return Err(NotThroughFront);
        }
        match front {
            Some(front) => Ok(self.believe(front, headers, *peer, *local, tls)),
            None if self.policy.only && !self.is_enough(balancer.as_deref()) => Err(NotThroughFront),
            None => {
                let mut forwarded_for = String::new();
                chain(headers).for_each(|address| push_address(&mut forwarded_for, address));
                push_address(&mut forwarded_for, peer.ip().to_canonical());
                Ok(Came { forwarded_for, https: tls, port: local.port(), through_front: false })
            }
        }
    }

    /// Whether who came through this load balancer, and through nothing else, came as everybody has to. With another
    /// kind of front behind it, that is the one that must not be gone around.
    fn is_enough(&self, balancer: Option<&Front>) -> bool {
        balancer.is_some() && self.fronts.iter().all(|front| front.proxy_protocol)
    }

    /// Whether a header must not reach a dyno: a front's secret never, and what apps take for a front's word only where
    /// it is.
    pub(crate) fn withholds(&self, name: &str, through_front: bool) -> bool {
        (!through_front && is_forwarding(name))
            || self.withheld(through_front).any(|withheld| name.eq_ignore_ascii_case(withheld.as_str()))
    }

    pub(crate) fn withhold(&self, headers: &mut HeaderMap, through_front: bool) {
        self.withheld(through_front).for_each(|name| drop(headers.remove(name)));
        if !through_front {
            let names: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
            names.iter().for_each(|name| drop(headers.remove(name)));
        }
        // To CGI, `CF_Connecting_IP` and `CF-Connecting-IP` are one, and no front writes the former.
        let is_look_alike =
            |name: &str| self.client_headers.iter().any(|header| header.as_str() == name.replace('_', "-"));
        let spelled = headers.keys().filter(|name| name.as_str().contains('_') && is_look_alike(name.as_str()));
        spelled.cloned().collect::<Vec<_>>().iter().for_each(|name| drop(headers.remove(name)));
    }

    fn withheld(&self, through_front: bool) -> impl Iterator<Item = &HeaderName> {
        let secrets = self.fronts.iter().filter_map(|front| front.secret.as_ref().map(|(name, _value)| name));
        secrets.chain(self.client_headers.iter().filter(move |_name| !through_front))
    }

    fn believe(
        &self,
        front: &Front,
        headers: &(impl Headers + ?Sized),
        peer: SocketAddr,
        local: SocketAddr,
        tls: bool,
    ) -> Came {
        let mut chain: Vec<&str> = chain(headers).collect();
        let told = front.client_header.as_ref().and_then(|name| address(headers.first(name.as_str())?));
        // What fronts added behind the client is of no use to the app. The first one is nobody's front but the client, if
        // there is no other: one that is in the same private network as its load balancer, say.
        let least = usize::from(told.is_none());
        while chain.len() > least && chain.last().and_then(|last| address(last)).is_some_and(|last| self.is_front(last))
        {
            chain.pop();
        }
        let last = chain.last().and_then(|last| address(last));
        let mut forwarded_for = chain.join(", ");
        match told {
            Some(told) if last != Some(told) => push_address(&mut forwarded_for, told),
            None if chain.is_empty() => push_address(&mut forwarded_for, peer.ip().to_canonical()),
            Some(_) | None => {}
        }
        // Of several lines, too, the last one is a front's.
        let https = match headers.last(PROTO).or_else(|| headers.first(CLOUDFRONT_PROTO)) {
            // With several fronts, the last one knows the least about the client, but no other is known to be one.
            Some(protocol) => protocol.rsplit(',').next().unwrap_or_default().trim().eq_ignore_ascii_case("https"),
            None => tls,
        };
        let port = headers.last(PORT).and_then(|port| port.trim().parse().ok());
        let usual = if https == tls {
            local.port()
        } else if https {
            443
        } else {
            80
        };
        Came { forwarded_for, https, port: port.unwrap_or(usual), through_front: true }
    }

    fn is_front(&self, address: IpAddr) -> bool {
        self.fronts_at(address).next().is_some()
    }

    fn fronts_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Front>> {
        let never = self.never.iter().any(|network| network.contains(address));
        self.fronts.iter().filter(move |front| !never && front.has(address))
    }
}

impl Front {
    /// The server checks settings before it sends them: what cannot be read here is a fault, and believed of nobody.
    fn new(route: &FrontRoute) -> Self {
        let mut networks: Vec<IpNetwork> = networks(&route.networks).collect();
        let mut header = |name: &String| match HeaderName::try_from(name) {
            Ok(name) => Some(name),
            Err(error) => {
                error!(%error, front = route.name, "Cannot use a front with a header of this name");
                // Without it, anybody could speak for the front, or the wrong header.
                networks.clear();
                None
            }
        };
        let client_header = route.client_header.as_ref().and_then(&mut header);
        let secret = route.secret.as_ref().and_then(|secret| Some((header(&secret.header)?, secret.value.clone())));
        // Without a way to check it, nothing proves anything: an empty set of authorities would be an error, too.
        let client_certificate = route.client_ca.as_ref().map(|pem| {
            verifier(pem).unwrap_or_else(|error| {
                error!(%error, front = route.name, "Cannot use the authorities of a front");
                Arc::new(NoClientAuth)
            })
        });
        Self {
            networks,
            client_header,
            proxy_protocol: route.proxy_protocol,
            tls_ports: route.tls_ports.clone(),
            secret,
            client_certificate,
            tls: OnceLock::new(),
        }
    }

    /// How its connections are secured, if not like everybody's.
    pub(crate) fn tls(&self, certificates: &Arc<Certificates>) -> Option<Arc<ServerConfig>> {
        let verifier = self.client_certificate.as_ref()?;
        if let Some(config) = self.tls.get() {
            return Some(config.clone());
        }
        match tls::with_client_certificate(certificates.clone(), verifier.clone()) {
            Ok(config) => Some(self.tls.get_or_init(|| Arc::new(config)).clone()),
            Err(error) => {
                error!(%error, "Cannot ask a front for its certificate");
                None
            }
        }
    }

    /// Whether clients that connect to this port of it speak TLS with it.
    pub(crate) fn ends_tls_at(&self, port: u16) -> bool {
        self.tls_ports.contains(&port)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    fn is_proven(&self, headers: &(impl Headers + ?Sized), certified: bool) -> bool {
        if self.client_certificate.is_some() && !certified {
            return false;
        }
        let Some((name, expected)) = &self.secret else { return true };
        let given = headers.values(name.as_str()).next().unwrap_or_default();
        let expected = expected.expose().as_bytes();
        // As long for a wrong byte at the beginning as for one at the end.
        let wrong = given.iter().zip(expected).fold(0, |wrong, (given, expected)| wrong | (given ^ expected));
        given.len() == expected.len() && wrong == 0
    }
}

/// Whether apps take what stands in it for a proxy's word about the client: where it came from, which host it asked.
/// Called for every header of every request.
pub(crate) fn is_forwarding(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    match name.len() {
        9 => name.eq_ignore_ascii_case("forwarded") || name.eq_ignore_ascii_case("x-real-ip"),
        _ => name.as_bytes().get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX)),
    }
}

fn networks(texts: &[String]) -> impl Iterator<Item = IpNetwork> {
    texts.iter().filter_map(|text| match text.parse() {
        Ok(network) => Some(network),
        Err(error) => {
            error!(%error, "Cannot use a network of the fronts");
            None
        }
    })
}

/// A request's headers, however they are held.
pub(crate) trait Headers {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// The first one, if it can be read.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next().and_then(text)
    }

    /// The last one, if it can be read.
    fn last<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).last().and_then(text)
    }
}

impl Headers for HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

impl Headers for [Header<'_>] {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let of_name = move |header: &&Header<'_>| header.name.eq_ignore_ascii_case(name);
        self.iter().filter(of_name).map(|header| header.value)
    }
}

/// Other bytes are in no address and no number.
fn text(value: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| (b' '..0x7f).contains(byte) || *byte == b'\t';
    value.iter().all(is_plain).then(|| std::str::from_utf8(value).ok())?
}

fn chain(headers: &(impl Headers + ?Sized)) -> impl Iterator<Item = &str> {
    let values = headers.values(FOR).filter_map(text);
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|address| !address.is_empty())
}

fn push_address(chain: &mut String, address: impl Display) {
    let comma = if chain.is_empty() { "" } else { ", " };
    write!(chain, "{comma}{address}").expect("writing to a string does not fail");
}

/// Some fronts write the port, too.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip()).ok();
    text.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use wire::routes::FrontSecret;

    use super::*;

    const FRONT: &str = "10.0.0.1:999";
    const STRANGER: &str = "9.9.9.9:999";

    fn fronts(route: FrontRoute, only: bool) -> Arc<Fronts> {
        let route = FrontRoute { networks: vec!["10.0.0.0/8".to_owned()], ..route };
        Arc::new(Fronts::new(FrontPolicy { fronts: vec![route], only, ..FrontPolicy::default() }))
    }

    type Judged = Result<(String, bool, u16), NotThroughFront>;

    /// The same for both ways of holding headers, and the names that go on to the dyno.
    fn judged(
        fronts: &Arc<Fronts>,
        peer: &str,
        headers: &[(&'static str, &'static str)],
    ) -> (Judged, Vec<&'static str>) {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        let list: Vec<Header<'_>> =
            headers.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect();
        let (peer, local): (SocketAddr, SocketAddr) = (peer.parse().unwrap(), "192.0.2.1:8080".parse().unwrap());
        let origin = Origin::new(peer, local, fronts.clone());
        let came = fronts.judge(&origin, &map);
        assert_eq!(came, fronts.judge(&origin, &list[..]), "{headers:?}");
        let through_front = came.as_ref().is_ok_and(|came| came.through_front);
        let passed = headers.iter().map(|&(name, _value)| name).filter(|name| !fronts.withholds(name, through_front));
        (came.map(|came| (came.forwarded_for, came.https, came.port)), passed.collect())
    }

    fn check(fronts: &Arc<Fronts>, peer: &str, headers: &[(&'static str, &'static str)], expect: (&str, bool, u16)) {
        let (came, _passed) = judged(fronts, peer, headers);
        assert_eq!(came, Ok((expect.0.to_owned(), expect.1, expect.2)), "{peer} {headers:?}");
    }

    #[test]
    fn a_stranger_is_believed_nothing_but_its_own_address() {
        let fronts =
            fronts(FrontRoute { client_header: Some("cf-connecting-ip".to_owned()), ..Default::default() }, false);
        let headers = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("cf-connecting-ip", "1.1.1.1")];
        check(&fronts, STRANGER, &headers, ("1.1.1.1, 9.9.9.9", false, 8080));
        assert!(!judged(&fronts, STRANGER, &headers).1.contains(&"cf-connecting-ip"));
        check(&fronts, STRANGER, &[], ("9.9.9.9", false, 8080));
    }

    #[test]
    fn a_front_is_believed_up_to_the_first_address_that_is_no_front() {
        let fronts = fronts(FrontRoute::default(), false);
        check(&fronts, FRONT, &[("x-forwarded-for", "1.1.1.1")], ("1.1.1.1", false, 8080));
        check(&fronts, FRONT, &[("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.7")], ("6.6.6.6, 1.1.1.1", false, 8080));
        check(&fronts, FRONT, &[("x-forwarded-for", "1.1.1.1:4321")], ("1.1.1.1:4321", false, 8080));
        check(
            &fronts,
            FRONT,
            &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")],
            ("6.6.6.6, 1.1.1.1", false, 8080),
        );
        check(&fronts, FRONT, &[], ("10.0.0.1", false, 8080));
        // Clients in the fronts' own network.
        check(&fronts, FRONT, &[("x-forwarded-for", "10.0.0.7")], ("10.0.0.7", false, 8080));
        check(&fronts, FRONT, &[("x-forwarded-for", "10.0.0.8, 10.0.0.7")], ("10.0.0.8", false, 8080));
    }

    #[test]
    fn a_front_tells_scheme_and_port() {
        let fronts = fronts(FrontRoute::default(), false);
        check(&fronts, FRONT, &[("x-forwarded-proto", "https")], ("10.0.0.1", true, 443));
        check(&fronts, FRONT, &[("x-forwarded-proto", "http")], ("10.0.0.1", false, 8080));
        check(
            &fronts,
            FRONT,
            &[("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")],
            ("10.0.0.1", true, 8443),
        );
        let both = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")];
        check(&fronts, FRONT, &both, ("10.0.0.1", false, 8080));
        check(&fronts, FRONT, &[("cloudfront-forwarded-proto", "https")], ("10.0.0.1", true, 443));
    }

    #[test]
    fn the_header_for_the_client_wins() {
        let fronts =
            fronts(FrontRoute { client_header: Some("cf-connecting-ip".to_owned()), ..Default::default() }, false);
        let headers = [("x-forwarded-for", "6.6.6.6"), ("cf-connecting-ip", "1.1.1.1")];
        check(&fronts, FRONT, &headers, ("6.6.6.6, 1.1.1.1", false, 8080));
        check(
            &fronts,
            FRONT,
            &[("x-forwarded-for", "1.1.1.1"), ("cf-connecting-ip", "1.1.1.1")],
            ("1.1.1.1", false, 8080),
        );
        check(&fronts, FRONT, &[("cf-connecting-ip", "2001:db8::1")], ("2001:db8::1", false, 8080));
        let inside = [("x-forwarded-for", "10.0.0.7"), ("cf-connecting-ip", "1.1.1.1")];
        check(&fronts, FRONT, &inside, ("1.1.1.1", false, 8080));
        check(&fronts, FRONT, &[("cf-connecting-ip", "nonsense")], ("10.0.0.1", false, 8080));
    }

    #[test]
    fn nobody_goes_around_a_front_and_its_secret_goes_no_further() {
        let secret = FrontSecret { header: "X-Front".to_owned(), value: Secret::new("word".to_owned()) };
        let fronts = fronts(FrontRoute { secret: Some(secret), ..Default::default() }, true);
        let (came, passed) = judged(&fronts, FRONT, &[("x-front", "word"), ("x-forwarded-for", "1.1.1.1")]);
        assert_eq!(came.unwrap().0, "1.1.1.1");
        assert_eq!(passed, ["x-forwarded-for"]);
        assert_eq!(judged(&fronts, FRONT, &[("x-front", "wore")]).0, Err(NotThroughFront));
        assert_eq!(judged(&fronts, FRONT, &[]).0, Err(NotThroughFront));
        assert_eq!(judged(&fronts, STRANGER, &[("x-front", "word")]).0, Err(NotThroughFront));
    }

    #[test]
    fn a_front_with_a_header_that_cannot_be_is_nobody() {
        let secret = Some(FrontSecret { header: "x front".to_owned(), value: Secret::new("word".to_owned()) });
        let secretive = FrontRoute { secret, ..Default::default() };
        let wordless = FrontRoute { client_header: Some("true client ip".to_owned()), ..Default::default() };
        for route in [secretive, wordless] {
            let headers = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")];
            check(&fronts(route.clone(), false), FRONT, &headers, ("1.1.1.1, 10.0.0.1", false, 8080));
            assert_eq!(judged(&fronts(route, true), FRONT, &headers).0, Err(NotThroughFront));
        }
    }
}
