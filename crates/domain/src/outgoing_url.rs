//! Addresses that the platform sends to: log drains and webhooks.

use std::fmt;

use thiserror::Error;

use crate::secret::Secret;

/// Longest URL in bytes.
const URL_BYTES_MAX: usize = 2048;

/// How something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    /// RFC 6587 over plain TCP.
    Syslog,
    SyslogTls,
}

impl Scheme {
    const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Syslog, Self::SyslogTls];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Syslog => "syslog",
            Self::SyslogTls => "syslog+tls",
        }
    }

    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::SyslogTls)
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Syslog => 514,
            Self::SyslogTls => 6514,
        }
    }
}

/// A URL, taken apart. Its `Display` leaves out what may be secret: user, password, path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingUrl {
    pub scheme: Scheme,
    /// `user:password`, decoded.
    pub credentials: Option<Secret<String>>,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, at least `/`.
    pub target: Secret<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutgoingUrlError {
    #[error("Url is longer than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error(
        "Url must begin with https://, http://, syslog+tls:// or syslog://, as in `https://logs.example.com/` or `syslog+tls://logs.example.com:6514`"
    )]
    Scheme,
    #[error("Url must begin with https:// or http://")]
    NotHttp,
    #[error("Url must name a host, as in `https://logs.example.com/`")]
    Host,
    #[error("Url has a port that is not a number from 1 to 65535")]
    Port,
    #[error("Url holds a blank or another character that must be written as %XX")]
    Character,
}

impl OutgoingUrl {
    pub fn parse(text: &str) -> Result<Self, OutgoingUrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(OutgoingUrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(OutgoingUrlError::Scheme)?;
        let scheme = Scheme::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or(OutgoingUrlError::Scheme)?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
            return Err(OutgoingUrlError::Character);
        }
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(decoded(credentials).ok_or(OutgoingUrlError::Character)?), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self {
            scheme,
            credentials: credentials.map(Secret::new),
            host,
            port: port.unwrap_or(scheme.default_port()),
            target: Secret::new(target),
        })
    }

    pub fn parse_http(text: &str) -> Result<Self, OutgoingUrlError> {
        match Self::parse(text) {
            Ok(url) if url.scheme.is_http() => Ok(url),
            Ok(_) | Err(OutgoingUrlError::Scheme) => Err(OutgoingUrlError::NotHttp),
            Err(other) => Err(other),
        }
    }

    /// Host and port as a `Host` header has them.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for OutgoingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), OutgoingUrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']').ok_or(OutgoingUrlError::Host)?;
            address.parse::<std::net::Ipv6Addr>().ok().ok_or(OutgoingUrlError::Host)?;
            (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(OutgoingUrlError::Host)?) })
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
        return Err(OutgoingUrlError::Host);
    }
    let port = match port {
        None => None,
        Some(digits) => Some(digits.parse().ok().filter(|&port| port > 0).ok_or(OutgoingUrlError::Port)?),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Text with its `%XX` decoded; `None` if that is not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> OutgoingUrl {
        OutgoingUrl::parse(text).unwrap()
    }

    #[test]
    fn a_url_is_taken_apart() {
        let full = url("https://ada:s%3Acret@Logs.Example.com:8443/in?key=abc#x");
        assert_eq!((full.scheme, full.host.as_str(), full.port), (Scheme::Https, "logs.example.com", 8443));
        assert_eq!(full.credentials.as_ref().unwrap().expose(), "ada:s:cret");
        assert_eq!(full.target.expose(), "/in?key=abc");
        assert_eq!(full.authority(), "logs.example.com:8443");
        let syslog = url("syslog://logs.example.com");
        assert_eq!((syslog.port, syslog.target.expose().as_str()), (514, "/"));
        assert_eq!(url("syslog+tls://x:1").scheme, Scheme::SyslogTls);
        assert_eq!(url("http://[::1]:80/?a").authority(), "[::1]");
        assert_eq!(url("http://x?a").target.expose(), "/?a");
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let shown = url("https://ada:secret@logs.example.com/key?token=secret");
        assert_eq!(shown.to_string(), "https://logs.example.com");
        assert!(!format!("{shown:?}").contains("secret@") && !format!("{shown:?}").contains("token="));
    }

    #[test]
    fn what_cannot_be_sent_to_is_refused() {
        let check = |text: &str, expect: OutgoingUrlError| assert_eq!(OutgoingUrl::parse(text), Err(expect), "{text}");
        check("", OutgoingUrlError::Scheme);
        check("logs.example.com:514", OutgoingUrlError::Scheme);
        check("ftp://logs.example.com", OutgoingUrlError::Scheme);
        check("https://", OutgoingUrlError::Host);
        check("https:///x", OutgoingUrlError::Host);
        check("https://[x]/", OutgoingUrlError::Host);
        check("https://a,b/", OutgoingUrlError::Host);
        check("https://x:0/", OutgoingUrlError::Port);
        check("https://x:65536/", OutgoingUrlError::Port);
        check("https://x/a b", OutgoingUrlError::Character);
        check("https://x/a\r\nHost: y", OutgoingUrlError::Character);
        check("https://%zz@x/", OutgoingUrlError::Character);
        check(&format!("https://x/{}", "a".repeat(3000)), OutgoingUrlError::TooLong);
        assert_eq!(OutgoingUrl::parse_http("syslog://x"), Err(OutgoingUrlError::NotHttp));
    }
}
