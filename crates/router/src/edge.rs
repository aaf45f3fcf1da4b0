//! What the router does for an app by itself, before or after its dynos. Pure.

use http::header::{CONTENT_TYPE, LOCATION, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use wire::routes::{EdgeSettings, Hsts};

use crate::reply::ReplyBody;

/// What needs no port in an address.
const HTTPS_PORT: u16 = 443;

/// Sends a request that came over plain HTTP to the same address over HTTPS.
///
/// Permanently, so that browsers remember; with 308 where 301 would let a client turn a POST into a GET.
pub(crate) fn to_https(parts: &Parts, authority: &str, https_port: Option<u16>) -> Response<ReplyBody> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    let port = https_port.filter(|&port| port != HTTPS_PORT).map(|port| format!(":{port}")).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = Response::new(ReplyBody::Own(None));
    let repeatable = matches!(parts.method, Method::GET | Method::HEAD);
    *response.status_mut() = if repeatable { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    // Host and path were checked when they were parsed, so this is a header value.
    if let Ok(location) = HeaderValue::from_str(&format!("https://{host}{port}{path}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Tells browsers to come over HTTPS only, unless the app said something about that itself.
pub(crate) fn promise_https(edge: &EdgeSettings, headers: &mut HeaderMap) {
    if let Some(hsts) = edge.hsts
        && !headers.contains_key(STRICT_TRANSPORT_SECURITY)
        && let Ok(value) = HeaderValue::from_str(&hsts_value(hsts))
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, value);
    }
}

fn hsts_value(hsts: Hsts) -> String {
    let subdomains = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if hsts.preload { "; preload" } else { "" };
    format!("max-age={}{subdomains}{preload}", hsts.max_age_seconds)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_plain_request_is_sent_to_the_same_address_over_https() {
        let check = |method: &str, uri: &str, authority: &str, port, status: u16, location: &str| {
            let parts = Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0;
            let response = to_https(&parts, authority, port);
            assert_eq!(
                (response.status().as_u16(), &response.headers()[LOCATION]),
                (status, &location.parse().unwrap())
            );
        };
        check("GET", "/x?y=1", "shop.example", Some(443), 301, "https://shop.example/x?y=1");
        check("GET", "/", "shop.example:8080", Some(8443), 301, "https://shop.example:8443/");
        check("HEAD", "/", "[::1]:8080", None, 301, "https://[::1]/");
        check("POST", "/x", "[::1]", None, 308, "https://[::1]/x");
        check(
            "GET",
            "http://shop.example//evil.example",
            "shop.example",
            None,
            301,
            "https://shop.example//evil.example",
        );
    }

    #[test]
    fn an_apps_own_promise_stands() {
        let hsts = Some(Hsts { max_age_seconds: 5, include_subdomains: true, preload: true });
        let edge = EdgeSettings { hsts, ..EdgeSettings::default() };
        let mut headers = HeaderMap::new();
        promise_https(&edge, &mut headers);
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=5; includeSubDomains; preload");
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=1"));
        promise_https(&edge, &mut headers);
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=1");
        promise_https(&EdgeSettings::default(), &mut headers);
    }
}
