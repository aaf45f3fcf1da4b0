//! Checks of a request's head that hyper leaves to its user, and the host that it names. Pure.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
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
    check_method(&parts.method)?;
    check_target(parts)?;
    check_framing(parts)?;
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

fn check_method(method: &Method) -> Result<(), HeadFault> {
    const METHOD_BYTES_MAX: usize = 32;
    let name = method.as_str();
    let usual = name.len() <= METHOD_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    match *method {
        Method::CONNECT => Err(bad_request("connect is not supported")),
        // It would show a script what the browser hides from it.
        Method::TRACE => Err(HeadFault { status: StatusCode::METHOD_NOT_ALLOWED, cause: "trace is not supported" }),
        // Names are case-sensitive, but not every server agrees: `get` must not be two things.
        _ if usual => Ok(()),
        _ => Err(bad_request("bad method")),
    }
}

/// Only what names a resource: a path, `*` for the server as a whole, or an address of the web.
fn check_target(parts: &Parts) -> Result<(), HeadFault> {
    let sound = match (parts.uri.scheme(), parts.uri.authority()) {
        (None, None) => match parts.uri.path() {
            "*" => parts.method == Method::OPTIONS,
            path => path.starts_with('/'),
        },
        (Some(scheme), Some(_authority)) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if sound { Ok(()) } else { Err(bad_request("bad target")) }
}

/// What says how long the body is, in one way only.
fn check_framing(parts: &Parts) -> Result<(), HeadFault> {
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        let digits = length.as_bytes();
        // Leading zeros are octal to some.
        let leading_zero = digits.len() > 1 && digits.starts_with(b"0");
        if lengths.next().is_some() || leading_zero || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(bad_request("bad content length"));
        }
    }
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad_request("bad transfer encoding"));
    }
    Ok(())
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
    fn methods_and_targets_that_could_be_two_things_are_refused() {
        let cause = |method: &str, uri: &str| {
            let mut parts = parts(uri, &[("host", "a")]);
            parts.method = method.parse().unwrap();
            check(&parts, 128).err().map(|fault| fault.cause)
        };
        assert_eq!(cause("PROPFIND", "/"), None);
        assert_eq!(cause("M-SEARCH", "/"), None);
        assert_eq!(cause("OPTIONS", "*"), None);
        assert_eq!(cause("GET", "HTTP://a/"), None);
        assert_eq!(cause("get", "/"), Some("bad method"));
        assert_eq!(cause("GET2", "/"), Some("bad method"));
        assert_eq!(cause(&"A".repeat(33), "/"), Some("bad method"));
        assert_eq!(cause("TRACE", "/"), Some("trace is not supported"));
        assert_eq!(cause("CONNECT", "a:443"), Some("connect is not supported"));
        assert_eq!(cause("GET", "*"), Some("bad target"));
        assert_eq!(cause("GET", "a"), Some("bad target"));
        assert_eq!(cause("GET", "a:80"), Some("bad target"));
        assert_eq!(cause("GET", "ftp://a/"), Some("bad target"));
    }

    #[test]
    fn a_body_has_one_length() {
        let cause = |headers: &[(&str, &str)]| {
            let headers: Vec<_> = headers.iter().copied().chain([("host", "a")]).collect();
            check(&parts("/", &headers), 128).err().map(|fault| fault.cause)
        };
        assert_eq!(cause(&[("content-length", "0")]), None);
        assert_eq!(cause(&[("content-length", "10")]), None);
        assert_eq!(cause(&[("transfer-encoding", "Chunked")]), None);
        for odd in ["+1", "01", "1, 1", "0x1", ""] {
            assert_eq!(cause(&[("content-length", odd)]), Some("bad content length"), "{odd}");
        }
        assert_eq!(cause(&[("content-length", "1"), ("content-length", "1")]), Some("bad content length"));
        for odd in ["gzip, chunked", "chunked, chunked", "identity", "chunked;q=1", "xchunked"] {
            assert_eq!(cause(&[("transfer-encoding", odd)]), Some("bad transfer encoding"), "{odd}");
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
