//! Zones of the DNS that the server may change, for certificates that need a record. Credentials go in and never out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::dns::{DnsCredentials, DnsZone};
use domain::hostname::Hostname;
use domain::secret::Secret;
use http::Uri;
use wire::platform_api::dns::{DnsZone as Shown, DnsZoneUpdate};

use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::state::ApiState;

pub(crate) async fn list(State(state): State<Arc<ApiState>>) -> ApiResult<Json<Vec<Shown>>> {
    Ok(Json(state.store.dns_zones()?.iter().map(shown).collect()))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    Body(body): Body<DnsZoneUpdate>,
) -> ApiResult<Json<Shown>> {
    let zone = DnsZone {
        name: parse(&name)?,
        endpoint: body.endpoint.as_deref().map(endpoint).transpose()?,
        credentials: credentials(body)?,
    };
    state.store.keep_dns_zone(zone.clone(), state.now()).await?;
    Ok(Json(shown(&zone)))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
) -> ApiResult<Json<serde_json::Value>> {
    if !state.store.forget_dns_zone(parse(&name)?).await? {
        return Err(ApiError::not_found("DNS zone"));
    }
    Ok(Json(serde_json::json!({ "zone": name })))
}

fn parse(name: &str) -> ApiResult<Hostname> {
    let name = Hostname::parse(name).map_err(|error| ApiError::invalid(error.to_string()))?;
    if name.is_wildcard() {
        return Err(ApiError::invalid(format!("{name} is not a zone: name it without the *, like example.com.")));
    }
    Ok(name)
}

/// Credentials are sent there, so it is spoken to over TLS, or on this machine.
fn endpoint(text: &str) -> ApiResult<String> {
    let parsed: Option<Uri> = text.parse().ok();
    let scheme = parsed.as_ref().and_then(Uri::scheme_str);
    let host = parsed.as_ref().and_then(Uri::host).unwrap_or_default();
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    if scheme == Some("https") || (scheme == Some("http") && local) {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    Err(ApiError::invalid("The endpoint must be an address that begins with https://."))
}

fn credentials(body: DnsZoneUpdate) -> ApiResult<DnsCredentials> {
    let missing = |what: &str| ApiError::invalid(format!("{what} is missing."));
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty()).map(|text| text.trim().to_owned());
    match body.provider.as_str() {
        "cloudflare" => {
            let token = given(body.token).ok_or_else(|| missing("token"))?;
            Ok(DnsCredentials::Cloudflare { token: Secret::new(token) })
        }
        "route53" => Ok(DnsCredentials::Route53 {
            access_key_id: given(body.access_key_id).ok_or_else(|| missing("access_key_id"))?,
            secret_access_key: Secret::new(given(body.secret_access_key).ok_or_else(|| missing("secret_access_key"))?),
        }),
        other => Err(ApiError::invalid(format!("There is no provider {other:?}: it is cloudflare or route53."))),
    }
}

fn shown(zone: &DnsZone) -> Shown {
    Shown {
        zone: zone.name.to_string(),
        provider: zone.credentials.kind().to_owned(),
        endpoint: zone.endpoint.clone(),
        access_key_id: match &zone.credentials {
            DnsCredentials::Route53 { access_key_id, .. } => Some(access_key_id.clone()),
            DnsCredentials::Cloudflare { .. } => None,
        },
    }
}
