//! Where a request came in: the base of the URLs in its answer, and its id.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::Response;
use domain::platform_host::{is_loopback_name, is_platform_host};
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use uuid::Uuid;

use crate::error::ApiError;
use crate::ground::Holder;
use crate::peer::Peer;
use crate::state::ApiState;

/// How a forwarder on the client's machine says that its client speaks plain HTTP to it, and where.
const FORWARDED_PROTO: &str = "berth-forwarded-proto";
const FORWARDED_HOST: &str = "berth-forwarded-host";

/// The scheme and authority that the client used, if they are ours: URLs in answers are built from it.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// `http://localhost:5000`.
    pub(crate) base: String,
    /// `localhost:5000`.
    pub(crate) authority: String,
    /// Who asked, if anybody did: what URLs lead to is for them.
    pub(crate) holder: Option<Holder>,
}

impl FromRequestParts<Arc<ApiState>> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ApiState>) -> Result<Self, Self::Rejection> {
        let tls = parts.extensions.get::<Peer>().is_some_and(Peer::is_tls);
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // Our own forwarder, which a client reaches without TLS. A lie here changes URLs in the liar's own answers.
        let forwarded = text(FORWARDED_PROTO) == Some("http");
        let forwarder = text(FORWARDED_HOST).filter(|host| forwarded && is_loopback_name(host_of(host)));
        let host = forwarder.or(text(header::HOST.as_str())).unwrap_or("localhost");
        if !is_ours(host, &state.config.domain) {
            return Err(ApiError::bad_request(format!(
                "The API does not answer for the host {host:?}; use localhost, 127.0.0.1 or berth.{}.",
                state.config.domain
            )));
        }
        let scheme = if tls && !forwarded { "https" } else { "http" };
        let holder = parts.extensions.get().map(Holder::of);
        Ok(Self { base: format!("{scheme}://{host}"), authority: host.to_owned(), holder })
    }
}

impl Origin {
    pub(crate) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// For schemes that clients know no port of.
    pub(crate) fn authority_with_port(&self) -> String {
        let host_ends = self.authority.rfind(']').unwrap_or(0);
        if self.authority.get(host_ends..).is_some_and(|rest| rest.contains(':')) {
            return self.authority.clone();
        }
        let port = if self.base.starts_with("https:") { 443 } else { 80 };
        format!("{}:{port}", self.authority)
    }
}

/// Without the port.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

fn is_ours(authority: &str, domain: &str) -> bool {
    let host = host_of(authority).to_ascii_lowercase();
    is_loopback_name(&host) || is_platform_host(&host, domain)
}

/// Heroku's `Request-Id`: one per answer, for support and logs.
pub(crate) async fn add_request_id(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&Uuid::new_v4().to_string()) {
        response.headers_mut().insert(HeaderName::from_static("request-id"), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_where_the_scheme_does_not_tell_it() {
        let named = |base: &str, authority: &str| {
            Origin { base: base.to_owned(), authority: authority.to_owned(), holder: None }.authority_with_port()
        };
        assert_eq!(named("http://localhost:5000", "localhost:5000"), "localhost:5000");
        assert_eq!(named("https://api.paas.example", "api.paas.example"), "api.paas.example:443");
        assert_eq!(named("http://[::1]", "[::1]"), "[::1]:80");
    }

    #[test]
    fn only_our_own_names_become_urls() {
        for ours in ["localhost:5000", "127.0.0.1", "[::1]:5000", "api.paas.example", "API.paas.example:443"] {
            assert!(is_ours(ours, "paas.example"), "{ours}");
        }
        for foreign in ["evil.example", "api.heroku.com", "paas.example", "xapi.paas.example", "localhost.evil.example"]
        {
            assert!(!is_ours(foreign, "paas.example"), "{foreign}");
        }
    }
}
