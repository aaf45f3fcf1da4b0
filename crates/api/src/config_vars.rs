//! Config vars of an app and of its releases.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::config::ConfigChanges;
use domain::name::ConfigKey;
use domain::secret::Secret;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::releases::{find_release, log_created};
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<heroku::ConfigVars>> {
    Ok(Json(shown(state.store.environment(app.id)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<heroku::ConfigVarsUpdate>,
) -> ApiResult<Json<heroku::ConfigVars>> {
    let changes = parse(body)?;
    let (_own, release) = state.store.change_config(app.id, actor.id(), changes, state.now()).await?;
    if let Some(release) = release {
        log_created(&state, &actor, &release);
    }
    Ok(Json(shown(state.store.environment(app.id)?)))
}

/// Values to set; `null` unsets.
pub(crate) fn parse(body: heroku::ConfigVarsUpdate) -> ApiResult<ConfigChanges> {
    let mut changes = ConfigChanges::new();
    for (key, value) in body {
        let key = ConfigKey::parse(&key).map_err(|error| ApiError::invalid(error.to_string()))?;
        changes.insert(key, value.map(Secret::new));
    }
    Ok(changes)
}

pub(crate) async fn of_release(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, release)): Path<(String, String)>,
) -> ApiResult<Json<heroku::ConfigVars>> {
    let release = find_release(&state, app.id, &release)?;
    Ok(Json(shown(state.store.release_environment(release.id)?)))
}

pub(crate) fn shown(vars: domain::config::ConfigVars) -> heroku::ConfigVars {
    vars.into_iter().map(|(key, value)| (key.to_string(), value.into_exposed())).collect()
}
