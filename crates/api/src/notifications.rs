//! Where messages about an app go: Slack-compatible addresses and signed webhooks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::id::NotificationId;
use domain::outgoing_url::OutgoingUrl;
use domain::secret::Secret;
use http::StatusCode;
use store::notification::{Format, KINDS, Notification, random_secret};
use wire::platform_api::environments as ours;

use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

/// Hosts that read Slack's form and nothing else.
const SLACK_HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<ours::Notification>>> {
    let all = state.store.notifications(app.id)?;
    Ok(Json(all.iter().map(|notification| shown(&state, notification)).collect::<ApiResult<_>>()?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Body(body): Body<ours::NotificationCreate>,
) -> ApiResult<(StatusCode, Json<ours::Notification>)> {
    let url = OutgoingUrl::parse_http(&body.url).map_err(|error| ApiError::invalid(error.to_string()))?;
    let unknown = body.events.iter().find(|event| !KINDS.contains(&event.as_str()));
    if let Some(unknown) = unknown {
        return Err(ApiError::invalid(format!("There is no event {unknown:?}. Events are: {}.", KINDS.join(", "))));
    }
    let usual =
        if SLACK_HOSTS.contains(&url.host.to_ascii_lowercase().as_str()) { Format::Slack } else { Format::Webhook };
    let format = match body.format.as_deref() {
        None => usual,
        Some(text) => Format::parse(text).ok_or_else(|| ApiError::invalid("The format must be slack or webhook."))?,
    };
    let secret = match body.secret {
        Some(secret) if secret.len() < 16 => {
            return Err(ApiError::invalid("A secret must have 16 characters at least."));
        }
        Some(secret) => Secret::new(secret),
        None => random_secret()?,
    };
    let events = if body.events.is_empty() { KINDS.map(str::to_owned).to_vec() } else { body.events };
    let notification = Notification {
        id: NotificationId::random(),
        app: app.id,
        format,
        url: Secret::new(body.url),
        secret,
        events,
        created_at: state.now(),
    };
    state.store.add_notification(notification.clone()).await?;
    let secret = (format == Format::Webhook).then(|| notification.secret.expose().clone());
    Ok((StatusCode::CREATED, Json(ours::Notification { secret, ..shown(&state, &notification)? })))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, id)): Path<(String, String)>,
) -> ApiResult<Json<ours::Notification>> {
    let all = state.store.notifications(app.id)?;
    let found = all.iter().find(|notification| notification.id.to_string() == id);
    let found = found.ok_or_else(|| ApiError::not_found("notification"))?;
    let removed = shown(&state, found)?;
    state.store.remove_notification(found.id).await?;
    Ok(Json(removed))
}

fn shown(state: &ApiState, notification: &Notification) -> ApiResult<ours::Notification> {
    let counts = state.store.delivery_counts(notification.id)?;
    Ok(ours::Notification {
        id: notification.id.uuid(),
        format: notification.format.as_str().to_owned(),
        host: OutgoingUrl::parse_http(notification.url.expose()).map(|url| url.host).unwrap_or_default(),
        events: notification.events.clone(),
        secret: None,
        delivered: counts.delivered,
        pending: counts.pending,
        given_up: counts.given_up,
        last_error: counts.last_error,
        created_at: present::time(notification.created_at),
    })
}
