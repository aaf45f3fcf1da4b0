//! The address of a server: a scheme and an authority, nothing else.

use std::fmt;

use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ServerUrlError {
    #[error("{0:?} is not an address of a server; write for example http://localhost:5000")]
    Malformed(String),
    #[error(
        "{0} is not on this machine, and http would send your token in the clear; use https, or a tunnel \
         (`ssh -L 5000:localhost:5000 HOST`) and http://localhost:5000"
    )]
    InTheClear(String),
}

/// `https://berth.example.com`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerUrl {
    scheme: &'static str,
    authority: String,
}

impl ServerUrl {
    /// Reads a URL. Without a scheme, a name of this machine means `http` and any other `https`.
    pub(crate) fn parse(text: &str) -> Result<Self, ServerUrlError> {
        let malformed = || ServerUrlError::Malformed(text.to_owned());
        let (scheme, rest) = match text.trim().split_once("://") {
            Some(("http", rest)) => (Some("http"), rest),
            Some(("https", rest)) => (Some("https"), rest),
            Some(_) => return Err(malformed()),
            None => (None, text.trim()),
        };
        let authority = rest.trim_end_matches('/').to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host_of(&authority).is_empty() || !authority.chars().all(allowed) {
            return Err(malformed());
        }
        let loopback = is_loopback(&authority);
        let scheme = scheme.unwrap_or(if loopback { "http" } else { "https" });
        if scheme == "http" && !loopback {
            return Err(ServerUrlError::InTheClear(authority));
        }
        Ok(Self { scheme, authority })
    }

    /// `localhost:5000`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Where to connect to, with the port that the scheme means.
    pub(crate) fn socket_address(&self) -> String {
        if host_of(&self.authority).len() < self.authority.len() {
            return self.authority.clone();
        }
        format!("{}:{}", self.authority, if self.scheme == "https" { 443 } else { 80 })
    }

    /// Without a port.
    pub(crate) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == "https"
    }

    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.authority)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        assert_eq!(ServerUrl::parse(text).map(|url| url.to_string()), Ok(expect.to_owned()), "{text}");
    }

    #[test]
    fn an_address_becomes_a_scheme_and_an_authority() {
        check("http://localhost:5000/", "http://localhost:5000");
        check("localhost:5000", "http://localhost:5000");
        check("[::1]:5000", "http://[::1]:5000");
        check("berth.example.com", "https://berth.example.com");
        check("https://Berth.Example.com:8443", "https://berth.example.com:8443");
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for text in ["http://berth.example.com", "http://10.0.0.5:5000", "http://localhost.evil.example"] {
            assert!(matches!(ServerUrl::parse(text), Err(ServerUrlError::InTheClear(_))), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "ftp://x", "http://", "https://host/path", "https://user@host", ":5000"] {
            assert!(matches!(ServerUrl::parse(text), Err(ServerUrlError::Malformed(_))), "{text}");
        }
    }
}
