//! Who is at the other end of a request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use domain::platform_host::is_loopback_name;
use http::{HeaderMap, header};

use crate::error::{ApiError, ApiResult};
use crate::origin::host_of;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// On the API port, which only this machine reaches.
    Network { address: SocketAddr, tls: bool },
    /// A client of the router, which says so.
    Routed { address: IpAddr, tls: bool },
    /// Root, or the user that Berth runs as, over the Unix socket.
    LocalAdministrator,
}

impl Peer {
    /// Whether nobody could read along on the client's way here.
    pub(crate) const fn is_tls(&self) -> bool {
        match self {
            Self::Network { tls, .. } | Self::Routed { tls, .. } => *tls,
            Self::LocalAdministrator => false,
        }
    }

    pub(crate) const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Network { address, .. } => Some(address.ip()),
            Self::Routed { address, .. } => Some(*address),
            Self::LocalAdministrator => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address, .. } => address.fmt(f),
            Self::Routed { address, .. } => address.fmt(f),
            Self::LocalAdministrator => f.write_str("local"),
        }
    }
}

/// How a connection came.
#[derive(Debug, Clone)]
pub(crate) enum Entrance {
    /// From one client.
    Direct(Peer),
    /// From the router, for a client at a time. Nobody else is believed what it says about them.
    Router,
}

impl Entrance {
    /// Who sent the request with these headers.
    ///
    /// # Errors
    /// It came in the clear from elsewhere. Whatever it holds has been read by others, but it must not become a habit.
    pub(crate) fn peer(&self, headers: &HeaderMap) -> ApiResult<Peer> {
        if let Self::Direct(peer) = self {
            return Ok(peer.clone());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // What stands before the last one is what the client itself wrote, or a front did.
        let last = text(FORWARDED_FOR).rsplit(',').next().unwrap_or_default().trim();
        // Some fronts write the port, too.
        let with_port = || last.parse::<SocketAddr>().map(|address| address.ip());
        let address = last.parse().or_else(|_| with_port()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let tls = text(FORWARDED_PROTO) == "https";
        let host = host_of(text(header::HOST.as_str())).to_ascii_lowercase();
        if !tls && !is_loopback_name(&host) {
            return Err(ApiError::forbidden(format!(
                "Over plain HTTP others could read your token along: use https://{host}. The router needs --https-port \
                 for that, or something in front of it that ends TLS."
            )));
        }
        Ok(Peer::Routed { address, tls })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn routed(chain: &'static str, proto: &'static str, host: &'static str) -> ApiResult<Peer> {
        Entrance::Router.peer(&headers(&[(FORWARDED_FOR, chain), (FORWARDED_PROTO, proto), ("host", host)]))
    }

    #[test]
    fn of_a_chain_the_router_wrote_the_last_address() {
        let address = "192.0.2.7".parse().unwrap();
        let peer = routed("9.9.9.9, 192.0.2.7", "https", "berth.paas.example").unwrap();
        assert_eq!((&peer, peer.to_string()), (&Peer::Routed { address, tls: true }, "192.0.2.7".to_owned()));
        for chain in ["192.0.2.7:4321", "9.9.9.9:1, 192.0.2.7:4321"] {
            assert_eq!(routed(chain, "https", "berth.paas.example").unwrap().address(), Some(address));
        }
        assert!(routed("nonsense", "https", "berth.paas.example").unwrap().address().unwrap().is_unspecified());
    }

    #[test]
    fn nobody_but_the_router_is_believed() {
        let peer = Peer::Network { address: "127.0.0.1:9".parse().unwrap(), tls: false };
        let claimed = headers(&[(FORWARDED_FOR, "192.0.2.7"), (FORWARDED_PROTO, "https")]);
        assert_eq!(Entrance::Direct(peer.clone()).peer(&claimed), Ok(peer));
    }

    #[test]
    fn nothing_comes_in_the_clear_from_elsewhere() {
        let error = routed("192.0.2.7", "http", "berth.paas.example:8080").unwrap_err();
        assert!(error.message.contains("https://berth.paas.example"), "{}", error.message);
        routed("127.0.0.1", "http", "berth.localhost:8080").unwrap();
        routed("127.0.0.1", "http", "").unwrap_err();
    }
}
