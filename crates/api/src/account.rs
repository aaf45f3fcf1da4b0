//! The account that asks, and what is left of its rate limit.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use store::account::Account;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::present;
use crate::state::ApiState;

pub(crate) async fn info(State(state): State<Arc<ApiState>>, actor: Actor) -> ApiResult<Json<heroku::Account>> {
    Ok(Json(shown(&state, &actor.account)?))
}

/// By address or id; `~` is the one that asks. Of others there is no more than that they are known, for whoever could
/// learn that by letting them into an app: clients need their id to hand something over.
pub(crate) async fn info_by_user(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<heroku::Account>> {
    if wanted == "~" {
        return info(State(state), actor).await;
    }
    match state.store.find_account(&wanted)?.filter(|account| account.removed_at.is_none()) {
        Some(account) if account.id == actor.id() => Ok(Json(shown(&state, &account)?)),
        Some(account) if actor.may_write() => Ok(Json(present::account(&account, false))),
        _other => Err(ApiError::not_found("user")),
    }
}

fn shown(state: &ApiState, account: &Account) -> ApiResult<heroku::Account> {
    let two_factor = state.store.two_factor(account.id)?.is_some_and(|factor| factor.confirmed);
    Ok(present::account(account, two_factor))
}

/// Nothing is billed here, so nobody is behind with it.
pub(crate) async fn delinquency(_actor: Actor) -> Json<Value> {
    Json(json!({"scheduled_deletion_time": null, "scheduled_suspension_time": null}))
}

/// Asking for it takes nothing from it.
pub(crate) async fn rate_limits(State(state): State<Arc<ApiState>>, actor: Actor) -> Json<heroku::RateLimit> {
    Json(heroku::RateLimit { remaining: state.requests.remaining(&actor.id(), state.now()) })
}
