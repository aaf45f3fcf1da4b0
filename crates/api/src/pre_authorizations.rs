//! Apps whose changes take a code of the asker's second factor, and codes that are good for a while.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use jiff::SignedDuration;
use store::app::App;
use wire::platform_api::berth::PreAuthorization;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::present;
use crate::state::ApiState;
use crate::two_factor;

/// How long a code is good for. A deploy is over by then; a machine left alone is not open for long.
const VALID: SignedDuration = SignedDuration::from_mins(10);

/// Shows a code for an app: the token that asks may change it for a while.
pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Json<PreAuthorization>> {
    if !two_factor::is_enabled(&state, actor.id())? {
        return Err(ApiError::invalid("Your account has no second factor: `berth 2fa:enable`."));
    }
    // Compat: without the app in it, so that the client asks again; with it, it would wait for this very answer.
    let code = two_factor::code_in(&headers).ok_or_else(ApiError::two_factor)?;
    authorize(&state, &actor, &app, code).await?;
    let now = state.now();
    let expires_at = now.checked_add(VALID).unwrap_or(now);
    Ok(Json(PreAuthorization {
        app: present::app_ref(&app),
        created_at: present::time(now),
        expires_at: present::time(expires_at),
    }))
}

/// Refuses a request that takes a code and has none, neither with it nor shown before.
pub(crate) async fn require(
    state: &ApiState,
    actor: &Actor,
    app: &App,
    is_needed: bool,
    headers: &HeaderMap,
) -> ApiResult<()> {
    match two_factor::code_in(headers) {
        Some(code) if is_needed && check(state, actor, app).is_err() => {
            authorize(state, actor, app, code).await.map_err(|error| {
                if error.id == "two_factor" { ApiError::two_factor_of_app(app.name.as_str()) } else { error }
            })
        }
        _none if is_needed => check(state, actor, app),
        _any => Ok(()),
    }
}

/// The same for a request that was let in already and turns out to be about this app, too.
pub(crate) fn check(state: &ApiState, actor: &Actor, app: &App) -> ApiResult<()> {
    // Root on the machine has no token, and could read the secret.
    let Some(token) = actor.token.filter(|_token| app.second_factor) else { return Ok(()) };
    if state.store.is_pre_authorized(token, app.id, state.now())? {
        return Ok(());
    }
    if !two_factor::is_enabled(state, actor.id())? {
        return Err(ApiError::forbidden(format!(
            "Changes of {} take a code of a second factor, and your account has none: `berth 2fa:enable`.",
            app.name
        )));
    }
    Err(ApiError::two_factor_of_app(app.name.as_str()))
}

async fn authorize(state: &ApiState, actor: &Actor, app: &App, code: &str) -> ApiResult<()> {
    let Some(token) = actor.token else { return Ok(()) };
    two_factor::check_code(state, actor, Some(code)).await?;
    let now = state.now();
    let until = now.checked_add(VALID).unwrap_or(now);
    Ok(state.store.pre_authorize(token, app.id, until, now).await?)
}
