//! Logins by browser, in the shape of Heroku's OAuth sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::id::TokenId;
use jiff::Timestamp;
use store::account::Token;
use wire::platform_api::oauth::Session;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(State(state): State<Arc<ApiState>>, actor: Actor) -> ApiResult<Json<Vec<Session>>> {
    let now = state.now();
    let tokens = state.store.tokens(actor.id())?;
    Ok(Json(tokens.iter().filter(|token| is_open(token, now)).map(|token| shown(token, now)).collect()))
}

/// Logs out. `~` is the session that asks.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<Session>> {
    let now = state.now();
    let missing = || ApiError::not_found("session");
    let id = if id == "~" { actor.token } else { TokenId::parse(&id) }.ok_or_else(missing)?;
    let found = state.store.tokens(actor.id())?.into_iter().find(|token| token.id == id && is_open(token, now));
    let token = found.ok_or_else(missing)?;
    state.store.revoke_token(actor.id(), id, now).await?;
    Ok(Json(shown(&token, now)))
}

fn is_open(token: &Token, now: Timestamp) -> bool {
    token.session && token.expires_at.is_none_or(|at| at > now)
}

fn shown(token: &Token, now: Timestamp) -> Session {
    Session {
        created_at: present::time(token.created_at),
        description: token.description.clone(),
        expires_in: token.expires_at.map(|at| at.as_second() - now.as_second()),
        id: token.id.uuid(),
        updated_at: present::time(token.created_at),
    }
}
