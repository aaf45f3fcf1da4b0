//! Two-factor authentication: asked for where a token is made, as at a login.

use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use axum::Json;
use axum::extract::State;
use domain::id::AccountId;
use domain::secret::Secret;
use domain::totp;
use http::{HeaderMap, StatusCode};
use store::two_factor::TwoFactor;
use wire::platform_api::berth as ours;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::state::ApiState;

/// Where Heroku's client puts the code.
const CODE: &str = "heroku-two-factor-code";

/// Makes a secret for an authenticator app. Nothing is asked for before a code of it was seen.
pub(crate) async fn propose(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
) -> ApiResult<(StatusCode, Json<ours::TwoFactorSecret>)> {
    let mut secret = vec![0; 20];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_no_entropy| ApiError::internal("cannot make a secret", &std::io::Error::other("no random bytes")))?;
    let text = totp::base32(&secret);
    state.store.propose_two_factor(actor.id(), Secret::new(secret)).await?;
    let email = actor.account.email.replace('@', "%40").replace('+', "%2B");
    let url = format!("otpauth://totp/Berth:{email}?secret={text}&issuer=Berth");
    Ok((StatusCode::CREATED, Json(ours::TwoFactorSecret { secret: text, url })))
}

pub(crate) async fn confirm(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<ours::TwoFactorCode>,
) -> ApiResult<Json<ours::TwoFactorState>> {
    let proposed = state.store.two_factor(actor.id())?;
    let proposed = proposed.ok_or_else(|| ApiError::invalid("Begin with a secret: `berth 2fa:enable`."))?;
    use_code(&state, &actor, &proposed, &body.code).await?;
    Ok(Json(ours::TwoFactorState { enabled: true }))
}

pub(crate) async fn disable(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
) -> ApiResult<Json<ours::TwoFactorState>> {
    ask_for_code(&state, &actor, &headers).await?;
    state.store.remove_two_factor(actor.id()).await?;
    Ok(Json(ours::TwoFactorState { enabled: false }))
}

/// Lets pass who has no second factor, or sends a code of it.
pub(crate) async fn ask_for_code(state: &ApiState, actor: &Actor, headers: &HeaderMap) -> ApiResult<()> {
    check_code(state, actor, code_in(headers)).await
}

pub(crate) fn code_in(headers: &HeaderMap) -> Option<&str> {
    headers.get(CODE).and_then(|value| value.to_str().ok())
}

/// Whether an account has a second factor that is asked for.
pub(crate) fn is_enabled(state: &ApiState, account: AccountId) -> ApiResult<bool> {
    Ok(state.store.two_factor(account)?.is_some_and(|factor| factor.confirmed))
}

pub(crate) async fn check_code(state: &ApiState, actor: &Actor, code: Option<&str>) -> ApiResult<()> {
    let Some(factor) = state.store.two_factor(actor.id())?.filter(|factor| factor.confirmed) else { return Ok(()) };
    use_code(state, actor, &factor, code.ok_or_else(ApiError::two_factor)?).await
}

/// The same for what a stolen token must not be enough for. Root on the machine needs no code: it is the way back in for
/// an administrator who has lost theirs.
pub(crate) async fn ask_unless_root(state: &ApiState, actor: &Actor, headers: &HeaderMap) -> ApiResult<()> {
    if actor.token.is_none() { Ok(()) } else { ask_for_code(state, actor, headers).await }
}

async fn use_code(state: &ApiState, actor: &Actor, factor: &TwoFactor, code: &str) -> ApiResult<()> {
    let now = state.now();
    if factor.blocked_until.is_some_and(|until| until > now) {
        return Err(ApiError::rate_limited("Too many wrong codes: wait a quarter of an hour."));
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, factor.secret.expose());
    let mac = |step: [u8; 8]| {
        let mut bytes = [0; 20];
        bytes.copy_from_slice(hmac::sign(&key, &step).as_ref());
        bytes
    };
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let accepted = totp::accepted_step(code, totp::step(seconds), factor.last_step, mac);
    let used = match accepted {
        Some(step) => state.store.use_two_factor_step(actor.id(), step).await?,
        None => false,
    };
    if used {
        return Ok(());
    }
    state.store.count_wrong_code(actor.id(), now).await?;
    Err(ApiError::two_factor())
}
