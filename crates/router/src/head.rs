//! Checks of a request's head that hyper leaves to its user, and the host that it names. Pure.

use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{Method, StatusCode, Version};

/// Why a request is refused before it is looked at further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadFault {
    pub(crate) status: StatusCode,
    pub(crate) cause: &'static str,
}

const fn bad_request(cause: &'static str) -> HeadFault {
    HeadFault { status: StatusCode::BAD_REQUEST, cause }
}

/// What a sound head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the client wrote it, for the dyno's `Host`.
    pub(crate) authority: String,
    /// Lower case, without port, for the table.
    pub(crate) host: String,
    pub(crate) expects_continue: bool,
}

pub(crate) fn check(parts: &Parts, headers_max: usize) -> Result<Target, HeadFault> {
    // In HTTP/1 hyper has counted them before.
    if parts.headers.len() > headers_max {
        return Err(HeadFault { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, cause: "oversized header" });
    }
    if parts.method == Method::CONNECT {
        return Err(bad_request("connect is not supported"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad_request("more than one host"));
    }
    // HTTP/2 has the authority in the target; HTTP/1.1 needs a Host even then.
    let needs_host = parts.version == Version::HTTP_11 || parts.uri.authority().is_none();
    if host.is_none() && needs_host && parts.version >= Version::HTTP_11 {
        return Err(bad_request("no host"));
    }
    let host = host.map(|host| host.to_str()).transpose().ok().ok_or(bad_request("bad host"))?;
    // RFC 9112, 3.2.2: the absolute form of a request target replaces the Host that came with it.
    let authority = match parts.uri.authority() {
        Some(authority) if authority.as_str().contains('@') => return Err(bad_request("bad host")),
        Some(authority) if parts.version == Version::HTTP_2 => {
            // RFC 9113, 8.3.1: they must not differ.
            if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_str())) {
                return Err(bad_request("more than one host"));
            }
            authority.as_str()
        }
        Some(authority) => authority.as_str(),
        None => host.unwrap_or_default(),
    };
    let host = table_host(authority).ok_or(bad_request("bad host"))?;
    let expects_continue = match parts.headers.get(EXPECT) {
        None => false,
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => true,
        Some(_other) => {
            let cause = "unsupported expect header value";
            return Err(HeadFault { status: StatusCode::EXPECTATION_FAILED, cause });
        }
    };
    Ok(Target { authority: authority.to_owned(), host, expects_continue })
}

/// The host in the form that the table uses; `None` if this cannot be a host.
fn table_host(authority: &str) -> Option<String> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    let sound = host.bytes().all(allowed) && port.bytes().all(|byte| byte.is_ascii_digit());
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.contains(['[', ']', ':']);
    (sound && (bracketed || plain)).then(|| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let builder = headers.iter().fold(Request::get(uri), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    fn host(uri: &str, headers: &[(&str, &str)]) -> Result<String, &'static str> {
        check(&parts(uri, headers), 128).map(|target| target.host).map_err(|fault| fault.cause)
    }

    #[test]
    fn the_host_is_found_in_every_form() {
        assert_eq!(host("/", &[("host", "Shop.Example:8080")]), Ok("shop.example".to_owned()));
        assert_eq!(host("/", &[("host", "shop.example.")]), Ok("shop.example".to_owned()));
        assert_eq!(host("/", &[("host", "[::1]:80")]), Ok("[::1]".to_owned()));
        assert_eq!(host("http://real.example/x", &[("host", "other.example")]), Ok("real.example".to_owned()));
    }

    #[test]
    fn ambiguous_and_broken_hosts_are_refused() {
        assert_eq!(host("/", &[("host", "a"), ("host", "a")]), Err("more than one host"));
        assert_eq!(host("/", &[]), Err("no host"));
        for broken in ["a b", "a/b", "a,b", "a@b", "a:b:1", "a:x", "a\"b", "[::1"] {
            assert_eq!(host("/", &[("host", broken)]), Err("bad host"), "{broken}");
        }
    }

    #[test]
    fn only_a_known_expectation_is_accepted() {
        let expects = |value| check(&parts("/", &[("host", "a"), ("expect", value)]), 128).map(|t| t.expects_continue);
        assert_eq!(expects("100-Continue"), Ok(true));
        assert_eq!(expects("tea").unwrap_err().status, StatusCode::EXPECTATION_FAILED);
    }

    proptest! {
        #[test]
        fn an_accepted_host_is_lower_case_and_safe_to_log(authority in ".*") {
            if let Some(host) = table_host(&authority) {
                prop_assert!(host.bytes().all(|byte| !byte.is_ascii_uppercase() && byte.is_ascii_graphic()));
                prop_assert!(!host.contains(['"', ' ', '=']));
            }
        }
    }
}
