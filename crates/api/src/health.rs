//! Health checks of an app's web dynos.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::dyno::{DynoKind, DynoState};
use domain::health::HealthCheck;
use store::app::App;
use store::dyno::Dyno;
use wire::platform_api::health::{DynoHealth, Health, HealthUpdate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

pub(crate) async fn show(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Health>> {
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<HealthUpdate>,
) -> ApiResult<Json<Health>> {
    let mut check = state.store.health_check(app.id)?.unwrap_or_default();
    body.apply(&mut check).map_err(|error| ApiError::invalid(error.to_string()))?;
    let words = check.described().map(|(name, value)| format!("{name}={value}")).join(" ");
    state.store.set_health_check(app.id, Some(check), state.now()).await?;
    state.log_api(app.id, &format!("Check health with {words} by user {}", actor.account.email));
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
) -> ApiResult<Json<Health>> {
    if state.store.health_check(app.id)?.is_some() {
        state.store.set_health_check(app.id, None, state.now()).await?;
        state.log_api(app.id, &format!("Check health no longer by user {}", actor.account.email));
    }
    Ok(Json(shown(&state, &app)?))
}

fn shown(state: &ApiState, app: &App) -> ApiResult<Health> {
    let check = state.store.health_check(app.id)?;
    let dynos = state.store.dynos(app.id)?;
    let serves = |dyno: &&Dyno| {
        dyno.kind == DynoKind::Formation && dyno.name.process_type.is_web() && dyno.state == DynoState::Up
    };
    let dynos = dynos.iter().filter(serves).map(|dyno| dyno_health(check.as_ref(), dyno)).collect();
    Ok(Health { check: check.as_ref().map(Into::into), dynos })
}

fn dyno_health(check: Option<&HealthCheck>, dyno: &Dyno) -> DynoHealth {
    let since = dyno.health.unhealthy_since.filter(|_since| check.is_some());
    let health = match since {
        Some(_) => "unhealthy",
        None if check.is_some() && dyno.health.passed => "healthy",
        None => "unchecked",
    };
    DynoHealth {
        name: dyno.name.to_string(),
        health: health.to_owned(),
        unhealthy_since: since.map(present::time),
        failure: since.and(dyno.health.failure.clone()),
    }
}
