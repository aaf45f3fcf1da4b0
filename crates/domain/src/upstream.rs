//! The place outside the platform that a domain's requests go to while its app has not moved in yet.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// `http://host` or `https://host`, either with a port. No path: the request brings its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// In lower case, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an address to pass requests on to: write it like https://old-host.example, without a path")]
pub struct UpstreamError(String);

impl Upstream {
    pub fn parse(url: &str) -> Result<Self, UpstreamError> {
        Self::read(url).ok_or_else(|| UpstreamError(url.chars().take(80).collect()))
    }

    fn read(url: &str) -> Option<Self> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let usual = usual_port(tls);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        let sound = !host.is_empty() && host.bytes().all(plain);
        sound.then(|| Self { host: host.to_ascii_lowercase(), port, tls })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, where that and no name was given.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

const fn usual_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        if self.port == usual_port(self.tls) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_address_of_the_web_without_a_path() {
        let check = |url: &str, host: &str, port, tls, shown: &str| {
            let upstream = Upstream::parse(url).unwrap();
            assert_eq!((upstream.host(), upstream.port(), upstream.is_tls()), (host, port, tls), "{url}");
            assert_eq!(upstream.to_string(), shown);
            assert_eq!(Upstream::parse(shown), Ok(upstream));
        };
        check("https://Old.example", "old.example", 443, true, "https://old.example");
        check("http://old.example:8080/", "old.example", 8080, false, "http://old.example:8080");
        check("https://[2001:db8::1]", "2001:db8::1", 443, true, "https://[2001:db8::1]");
        check("https://[2001:db8::1]:444", "2001:db8::1", 444, true, "https://[2001:db8::1]:444");
        for bad in
            ["old.example", "ftp://old.example", "https://", "https://a/b", "https://a:x", "https://u@a", "https://a?b"]
        {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
    }
}
