//! Add-ons as Heroku Postgres's own API shows its databases.
//!
//! Its client takes a service of the user's own for a database where it is told to (`HEROKU_POSTGRESQL_ADDON_NAME`), and
//! so asks a database itself: `heroku pg:psql`. What it wants to know from Heroku before that is here; what it wants
//! Heroku to do is refused ([`crate::refused`]).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::add_on::AddOnState;
use serde_json::{Value, json};

use crate::add_ons;
use crate::auth::Actor;
use crate::error::ApiResult;
use crate::state::ApiState;

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Value>> {
    let add_on = add_ons::find(&state, &actor, &wanted)?;
    let row = |name: &str, value: &str| json!({"name": name, "values": [value]});
    Ok(Json(json!({
        "addon_id": add_on.id.uuid(),
        "name": add_on.name.as_str(),
        "info": [row("Plan", &add_on.full_plan()), row("State", add_on.state.as_str())],
        // It holds the password, and is not needed for what is shown.
        "resource_url": "",
        "following": null,
    })))
}

pub(crate) async fn wait_status(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Value>> {
    let add_on = add_ons::find(&state, &actor, &wanted)?;
    let waits = add_on.state == AddOnState::Provisioning;
    Ok(Json(json!({"message": add_on.state.as_str(), "waiting?": waits, "error?": add_on.failure.is_some()})))
}

/// The client waits for ever where this is refused.
pub(crate) async fn upgrade_status(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Value>> {
    add_ons::find(&state, &actor, &wanted)?;
    Ok(Json(json!({"message": "not being upgraded", "waiting?": false, "error?": false})))
}
