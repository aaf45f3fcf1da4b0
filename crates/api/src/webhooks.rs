//! Webhooks of an app, the events that they were told of, and how the telling went.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use domain::id::{WebhookDeliveryId, WebhookEventId, WebhookId};
use domain::outgoing_url::OutgoingUrl;
use domain::secret::Secret;
use domain::webhook::{DeliveryStatus, Entity, Level};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use store::app::App;
use store::webhook::{Webhook, WebhookDelivery, WebhookEvent};
use wire::platform_api::webhooks as heroku;

use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::range::page;
use crate::state::ApiState;

/// Longest secret and authorization in bytes.
const SECRET_BYTES_MAX: usize = 1024;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let webhooks = state.store.webhooks(app.id)?;
    page(&headers, "id", &webhooks, |webhook| webhook.id.uuid(), |webhook| Ok(shown(&app, webhook)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Webhook>> {
    Ok(Json(shown(&app, &find(&state, &app, &wanted)?)))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Body(body): Body<heroku::WebhookCreate>,
) -> ApiResult<Response> {
    let secret = match body.secret {
        Some(secret) => secret_text("Secret", secret)?,
        None => random_secret()?,
    };
    let webhook = Webhook {
        id: WebhookId::random(),
        app: app.id,
        url: url(body.url)?,
        include: entities(&body.include)?,
        level: level(&body.level)?,
        secret,
        authorization: body.authorization.map(|text| secret_text("Authorization", text)).transpose()?,
        created_at: state.now(),
        updated_at: state.now(),
    };
    state.store.add_webhook(webhook.clone()).await?;
    with_secret(StatusCode::CREATED, &app, &webhook)
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<heroku::WebhookUpdate>,
) -> ApiResult<Response> {
    let found = find(&state, &app, &wanted)?;
    let new_url = body.url.map(url).transpose()?;
    let include = body.include.as_deref().map(entities).transpose()?;
    let level = body.level.as_deref().map(level).transpose()?;
    let authorization = |text: Option<String>| text.map(|text| secret_text("Authorization", text)).transpose();
    let authorization = body.authorization.map(authorization).transpose()?;
    let secret = |text: Option<String>| text.map_or_else(random_secret, |text| secret_text("Secret", text));
    let secret = body.secret.map(secret).transpose()?;
    let has_new_secret = secret.is_some();
    let change = move |webhook: &mut Webhook| {
        webhook.url = new_url.unwrap_or_else(|| webhook.url.clone());
        webhook.include = include.unwrap_or_else(|| webhook.include.clone());
        webhook.level = level.unwrap_or(webhook.level);
        webhook.secret = secret.unwrap_or_else(|| webhook.secret.clone());
        webhook.authorization = authorization.unwrap_or_else(|| webhook.authorization.clone());
    };
    let webhook = state.store.change_webhook(found.id, change, state.now()).await?;
    if has_new_secret {
        return with_secret(StatusCode::OK, &app, &webhook);
    }
    Ok(Json(shown(&app, &webhook)).into_response())
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Webhook>> {
    let webhook = find(&state, &app, &wanted)?;
    state.store.remove_webhook(webhook.id).await?;
    Ok(Json(shown(&app, &webhook)))
}

pub(crate) async fn deliveries(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let status = wanted_status(query.as_deref())?;
    let deliveries = state.store.webhook_deliveries(app.id)?;
    let wanted = deliveries.iter().filter(|delivery| status.is_none_or(|status| delivery.status == status));
    page(&headers, "seq", wanted, |delivery| delivery.sequence, |delivery| Ok(shown_delivery(delivery)))
}

pub(crate) async fn delivery(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Delivery>> {
    let id = WebhookDeliveryId::parse(&wanted);
    let found = state.store.webhook_deliveries(app.id)?.into_iter().find(|delivery| Some(delivery.id) == id);
    found.map(|found| Json(shown_delivery(&found))).ok_or_else(|| ApiError::not_found("webhook delivery"))
}

pub(crate) async fn events(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let events = state.store.webhook_events(app.id)?;
    page(&headers, "seq", &events, |event| event.sequence, shown_event)
}

pub(crate) async fn event(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Event>> {
    let found = WebhookEventId::parse(&wanted).map(|id| state.store.webhook_event(id)).transpose()?.flatten();
    let found = found.filter(|event| event.app == app.id).ok_or_else(|| ApiError::not_found("webhook event"))?;
    Ok(Json(shown_event(&found)?))
}

/// Compat: the client asks with `?eq[status]=failed`, in brackets as they are.
fn wanted_status(query: Option<&str>) -> ApiResult<Option<DeliveryStatus>> {
    let query = query.unwrap_or("").replace("%5B", "[").replace("%5D", "]");
    let Some(word) = query.split('&').find_map(|pair| pair.strip_prefix("eq[status]=")) else { return Ok(None) };
    let status = DeliveryStatus::parse(word);
    let known = "Status must be one of pending, retrying, failed, succeeded.";
    status.map(Some).ok_or_else(|| ApiError::invalid(known))
}

fn find(state: &ApiState, app: &App, wanted: &str) -> ApiResult<Webhook> {
    let id = WebhookId::parse(wanted);
    let found = state.store.webhooks(app.id)?.into_iter().find(|webhook| Some(webhook.id) == id);
    found.ok_or_else(|| ApiError::not_found("webhook"))
}

fn url(text: String) -> ApiResult<Secret<String>> {
    OutgoingUrl::parse_http(&text).map_err(|error| ApiError::invalid(format!("{error}.")))?;
    Ok(Secret::new(text))
}

fn entities(words: &[String]) -> ApiResult<Vec<Entity>> {
    let mut entities = Vec::new();
    for word in words {
        let known = Entity::ALL.map(Entity::as_str).join(", ");
        let entity = Entity::parse(word);
        let entity = entity.ok_or_else(|| ApiError::invalid(format!("Include {word:?} is not one of {known}.")))?;
        if !entities.contains(&entity) {
            entities.push(entity);
        }
    }
    if entities.is_empty() {
        return Err(ApiError::invalid("Include must name at least one entity, for example api:release."));
    }
    Ok(entities)
}

fn level(word: &str) -> ApiResult<Level> {
    let unknown = || ApiError::invalid("Level must be notify (one attempt) or sync (until it has arrived).");
    Level::parse(word).ok_or_else(unknown)
}

/// What goes into a header must fit into one.
fn secret_text(what: &str, text: String) -> ApiResult<Secret<String>> {
    let fits = !text.is_empty() && text.len() <= SECRET_BYTES_MAX && HeaderValue::from_str(&text).is_ok();
    let fault = || format!("{what} must have 1 to {SECRET_BYTES_MAX} bytes and no line break.");
    if fits { Ok(Secret::new(text)) } else { Err(ApiError::invalid(fault())) }
}

fn random_secret() -> ApiResult<Secret<String>> {
    let mut bytes = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_no_entropy| ApiError::internal("cannot make a secret", &std::io::Error::other("no random bytes")))?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The only answer that holds the secret, where Heroku's client looks for it.
fn with_secret(status: StatusCode, app: &App, webhook: &Webhook) -> ApiResult<Response> {
    let mut response = (status, Json(shown(app, webhook))).into_response();
    let value = HeaderValue::from_str(webhook.secret.expose());
    let mut value = value.map_err(|error| ApiError::internal("a secret does not fit into a header", &error))?;
    value.set_sensitive(true);
    response.headers_mut().insert(HeaderName::from_static("heroku-webhook-secret"), value);
    Ok(response)
}

fn shown(app: &App, webhook: &Webhook) -> heroku::Webhook {
    heroku::Webhook {
        app: present::app_ref(app),
        created_at: present::time(webhook.created_at),
        id: webhook.id.uuid(),
        include: webhook.include.iter().map(|entity| entity.as_str().to_owned()).collect(),
        level: webhook.level.as_str().to_owned(),
        updated_at: present::time(webhook.updated_at),
        url: webhook.url.expose().clone(),
    }
}

fn shown_delivery(delivery: &WebhookDelivery) -> heroku::Delivery {
    let last_attempt = delivery.last_attempt.as_ref().map(|attempt| heroku::Attempt {
        code: attempt.code,
        created_at: present::time(attempt.at),
        error_class: attempt.error.clone(),
        id: attempt.id,
        status: if delivery.status == DeliveryStatus::Succeeded { "succeeded" } else { "failed" }.to_owned(),
        updated_at: present::time(attempt.at),
    });
    heroku::Delivery {
        created_at: present::time(delivery.created_at),
        event: heroku::EventRef { id: delivery.event.uuid(), include: delivery.include.as_str().to_owned() },
        id: delivery.id.uuid(),
        last_attempt,
        next_attempt_at: delivery.next_attempt_at.filter(|_at| delivery.attempts > 0).map(present::time),
        num_attempts: delivery.attempts,
        status: delivery.status.as_str().to_owned(),
        updated_at: present::time(delivery.updated_at),
        webhook: heroku::WebhookRef { id: delivery.webhook.uuid(), level: delivery.level.as_str().to_owned() },
        sequence: delivery.sequence,
    }
}

fn shown_event(event: &WebhookEvent) -> ApiResult<heroku::Event> {
    let payload: Value = serde_json::from_str(&event.payload)
        .map_err(|error| ApiError::internal("a stored event is not JSON", &error))?;
    Ok(heroku::Event {
        created_at: present::time(event.created_at),
        id: event.id.uuid(),
        include: event.include.as_str().to_owned(),
        payload,
        updated_at: present::time(event.created_at),
        sequence: event.sequence,
    })
}
