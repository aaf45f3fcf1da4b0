//! A new app like another one: its config vars as far as they are wanted, its formation, its buildpacks.
//!
//! Not its domains, which belong to one app, nor its code, which comes by a deploy or a promotion.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::config::{ConfigChanges, apply};
use domain::name::{AppName, ConfigKey};
use domain::secret::Secret;
use http::StatusCode;
use wire::platform_api as heroku;
use wire::platform_api::environments as ours;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(source): TheApp,
    Body(body): Body<ours::CloneCreate>,
) -> ApiResult<(StatusCode, Json<heroku::App>)> {
    let name = AppName::parse(&body.name).map_err(|error| ApiError::invalid(error.to_string()))?;
    let key = |text: &str| ConfigKey::parse(text).map_err(|error| ApiError::invalid(error.to_string()));
    let there = state.store.config(source.id)?;
    let mut config = ConfigChanges::new();
    for wanted in &body.copy {
        let value = there.get(&key(wanted)?);
        let missing = || ApiError::invalid(format!("{} has no config var {wanted} that could be copied.", source.name));
        config.insert(key(wanted)?, Some(value.ok_or_else(missing)?.clone()));
    }
    for (wanted, value) in body.set {
        config.insert(key(&wanted)?, Some(Secret::new(value)));
    }
    let (config, _description) =
        apply(&domain::config::ConfigVars::new(), config).map_err(|error| ApiError::invalid(error.to_string()))?;
    let app = state.store.clone_app(source.id, name, actor.id(), config, state.now()).await?;
    state.log_api(app.id, &format!("Cloned from {} by user {}", source.name, actor.account.email));
    Ok((StatusCode::CREATED, Json(present::app(&state, &origin, &app)?)))
}
