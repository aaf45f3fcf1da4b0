//! Log drains of an app. What sends to them is another crate's; here they are wanted and named.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::outgoing_url::OutgoingUrl;
use domain::secret::Secret;
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::log_drain::LogDrain;
use wire::platform_api::log_drains as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::range::page;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let drains = state.store.log_drains(app.id)?;
    page(&headers, "id", &drains, |drain| drain.id.uuid(), |drain| Ok(present(&app, drain)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::LogDrain>> {
    Ok(Json(present(&app, &find(&state, &app, &wanted)?)))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<heroku::LogDrainCreate>,
) -> ApiResult<(StatusCode, Json<heroku::LogDrain>)> {
    let url = OutgoingUrl::parse(&body.url).map_err(|error| ApiError::invalid(format!("{error}.")))?;
    // What is logged from here on is for the drain.
    let after = state.logs.last_sequence(app.id.uuid())?;
    let drain = state.store.add_log_drain(app.id, Secret::new(body.url), after, state.now()).await?;
    state.log_api(app.id, &format!("Add log drain {url} by user {}", actor.account.email));
    Ok((StatusCode::CREATED, Json(present(&app, &drain))))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::LogDrain>> {
    let drain = find(&state, &app, &wanted)?;
    state.store.remove_log_drain(drain.id).await?;
    if let Ok(url) = OutgoingUrl::parse(drain.url.expose()) {
        state.log_api(app.id, &format!("Remove log drain {url} by user {}", actor.account.email));
    }
    Ok(Json(present(&app, &drain)))
}

/// Finds a drain by id, URL or token.
fn find(state: &ApiState, app: &App, wanted: &str) -> ApiResult<LogDrain> {
    let is_wanted =
        |drain: &LogDrain| drain.id.to_string() == wanted || drain.url.expose() == wanted || drain.token == wanted;
    let found = state.store.log_drains(app.id)?.into_iter().find(is_wanted);
    found.ok_or_else(|| ApiError::not_found("drain"))
}

fn present(app: &App, drain: &LogDrain) -> heroku::LogDrain {
    heroku::LogDrain {
        addon: None,
        app: present::app_ref(app),
        created_at: present::time(drain.created_at),
        id: drain.id.uuid(),
        token: drain.token.clone(),
        updated_at: present::time(drain.created_at),
        url: drain.url.expose().clone(),
    }
}
