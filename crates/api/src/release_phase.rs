//! Releases that run their release phase although they bring no new code, because somebody asked for it.
//!
//! Heroku's own requests for a rollback or a config change have no field for it, and get none: these are Berth's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use wire::platform_api as heroku;
use wire::platform_api::berth as ours;

use crate::auth::Actor;
use crate::config_vars;
use crate::error::ApiResult;
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::protection;
use crate::releases::{self, find_release};
use crate::state::ApiState;

pub(crate) async fn roll_back(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, to)): Path<(String, String)>,
    Body(body): Body<ours::Rollback>,
) -> ApiResult<(StatusCode, Json<heroku::Release>)> {
    protection::check(&state, &actor, &app)?;
    let to = find_release(&state, app.id, &to)?;
    let release = state.store.roll_back(app.id, to.id, actor.id(), body.release_phase, state.now()).await?;
    releases::log_created(&state, &actor, &release);
    Ok((StatusCode::CREATED, Json(present::release(&state, &origin, &app, &release)?)))
}

pub(crate) async fn change_config(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<ours::ConfigChange>,
) -> ApiResult<Json<heroku::ConfigVars>> {
    let changes = config_vars::parse(body.vars)?;
    let (vars, release) = if body.release_phase {
        state.store.change_config_with_release_phase(app.id, actor.id(), changes, state.now()).await?
    } else {
        state.store.change_config(app.id, actor.id(), changes, state.now()).await?
    };
    if let Some(release) = release {
        releases::log_created(&state, &actor, &release);
    }
    Ok(Json(config_vars::shown(vars)))
}
