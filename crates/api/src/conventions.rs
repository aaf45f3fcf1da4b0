//! What every answer of the Platform API has in common: entity tags, the rate limit's header, and the two forms of a
//! resource.
//!
//! Heroku answers `version=3` and `version=3.sdk` differently in a few fields. Handlers know the first form only; the
//! second one follows from it here.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::auth::Remaining;
use crate::error::{ApiError, ApiResult};
use crate::present;

/// Largest answer that is held to be tagged, in bytes. Lists are paged, so none comes near.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest refusal of the framework's that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Completes an answer on its way out.
pub(crate) async fn apply(request: Request, next: Next) -> Result<Response, ApiError> {
    let is_sdk = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(is_sdk);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let (mut parts, mut body) = response.into_parts();
    let is_json =
        parts.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if !is_json && parts.status.is_client_error() {
        // The framework's own words: a path or a query that no handler was asked about.
        let text = to_bytes(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        return Err(ApiError::refused(parts.status, String::from_utf8_lossy(&text).into_owned()));
    }
    if is_json {
        let bytes = to_bytes(body, ANSWER_BYTES_MAX).await;
        let mut bytes = bytes.map_err(|error| ApiError::internal("an answer is too large", &error))?;
        if is_sdk && parts.status.is_success() {
            bytes = in_sdk_form(&bytes)?;
            parts.headers.remove(CONTENT_LENGTH);
        }
        if is_read && parts.status.is_success() {
            let tag = entity_tag(&bytes);
            let unchanged = known.as_ref().is_some_and(|known| names(known, &tag));
            if let Ok(value) = HeaderValue::from_str(&tag) {
                parts.headers.insert(ETAG, value);
            }
            if unchanged {
                parts.status = StatusCode::NOT_MODIFIED;
                parts.headers.remove(CONTENT_TYPE);
                parts.headers.remove(CONTENT_LENGTH);
                bytes = Bytes::new();
            }
        }
        body = Body::from(bytes);
    }
    if let Some(Remaining(remaining)) = parts.extensions.get() {
        parts.headers.insert(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(*remaining));
    }
    Ok(Response::from_parts(parts, body))
}

fn is_sdk(accept: &str) -> bool {
    accept.split(';').any(|part| part.trim() == "version=3.sdk")
}

fn entity_tag(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Whether an `If-None-Match` names this tag (RFC 9110, 13.1.2: compared weakly).
fn names(header: &HeaderValue, tag: &str) -> bool {
    let Ok(text) = header.to_str() else { return false };
    text.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
}

fn in_sdk_form(bytes: &[u8]) -> ApiResult<Bytes> {
    let mut value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::internal("an answer of our own is not JSON", &error))?;
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(convert),
        one => convert(one),
    }
    let bytes =
        serde_json::to_vec(&value).map_err(|error| ApiError::internal("an answer cannot be written", &error))?;
    Ok(bytes.into())
}

/// Changes one resource, told by fields that only it has.
fn convert(resource: &mut Value) {
    let Some(fields) = resource.as_object_mut() else { return };
    if fields.contains_key("git_url") {
        fields.entry("base_image_name").or_insert(Value::Null);
        fields.entry("buildpacks").or_insert(Value::Null);
        fields.entry("current_build_architecture").or_insert(json!([]));
        fields.insert("generation".to_owned(), json!(present::CEDAR.1));
    } else if fields.contains_key("eligible_for_rollback") {
        fields.entry("oci_image").or_insert(Value::Null);
    } else if fields.contains_key("source_blob") && fields.contains_key("generation") {
        fields.remove("generation");
        fields.entry("labs").or_insert(json!({}));
    } else if fields.contains_key("allow_tracking") {
        for name in ["eco_dynos_enabled", "acknowledged_msa", "mfa_enabled", "mfa_exemption"] {
            fields.insert(name.to_owned(), Value::Bool(false));
        }
        for name in [
            "acknowledged_msa_at",
            "eco_dynos_shutdown_at",
            "italian_customer_terms",
            "italian_partner_terms",
            "mfa_exemption_reason",
            "pipeline_cost_consent_at",
        ] {
            fields.insert(name.to_owned(), Value::Null);
        }
        fields.insert("mfa_experience".to_owned(), json!("legacy"));
    } else if fields.contains_key("precise_dyno_units") {
        // There is one machine, and so one tier.
        fields.insert("can_autoscale".to_owned(), json!(false));
        fields.insert("infrastructure_tier".to_owned(), json!("production"));
        fields.insert("product_dyno_tier".to_owned(), json!("standard"));
    } else if fields.contains_key("billed_price") {
        if let Some(price) = fields.get_mut("billed_price").and_then(Value::as_object_mut) {
            price.insert("metered".to_owned(), json!(false));
        }
        if let Some(plan) = fields.get_mut("plan").and_then(Value::as_object_mut) {
            plan.insert("meters".to_owned(), json!([]));
            if let Some(price) = plan.get_mut("price").and_then(Value::as_object_mut) {
                price.insert("metered".to_owned(), json!(false));
            }
        }
    } else if fields.contains_key("installable_inside_private_network") {
        if let Some(price) = fields.get_mut("price").and_then(Value::as_object_mut) {
            price.insert("metered".to_owned(), json!(false));
        }
    } else if fields.len() == 4 && fields.get("name") == Some(&json!("cedar")) {
        fields.insert("expanded_supported_features".to_owned(), json!([]));
        fields.insert("unsupported_features".to_owned(), json!([]));
    } else if let Some(token) = fields.get_mut("access_token").and_then(Value::as_object_mut) {
        token.insert("version".to_owned(), json!(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_names_the_form() {
        assert!(is_sdk("application/vnd.heroku+json; version=3.sdk"));
        assert!(!is_sdk("application/vnd.heroku+json; version=3"));
        assert!(!is_sdk("*/*"));
    }

    #[test]
    fn a_tag_is_found_among_others_and_weakly() {
        let header = |text: &str| HeaderValue::from_str(text).unwrap();
        assert!(names(&header("\"a\", W/\"b\""), "\"b\""));
        assert!(names(&header("*"), "\"b\""));
        assert!(!names(&header("\"a\""), "\"b\""));
    }

    #[test]
    fn a_generation_is_a_word_in_the_other_form() {
        let app = json!([{"git_url": "x", "generation": {"id": "1", "name": "cedar"}}]);
        let bytes = in_sdk_form(&serde_json::to_vec(&app).unwrap()).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value[0]["generation"], "cedar");
        assert_eq!(value[0]["buildpacks"], Value::Null);
    }
}
