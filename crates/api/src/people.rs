//! The people of the server, for its administrators.
//!
//! Who has a second factor gives a code of it for whatever would make another administrator or take a second factor
//! away: a token alone must not be able to outlive the loss of the token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::Scope;
use domain::email;
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use store::account::{Account, NewToken};
use wire::platform_api::berth as ours;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::present;
use crate::state::ApiState;
use crate::two_factor;

/// How long an invitation may be accepted.
const INVITATION_VALID: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(crate) async fn list(State(state): State<Arc<ApiState>>) -> ApiResult<Json<Vec<ours::Person>>> {
    Ok(Json(state.store.accounts()?.iter().map(person).collect()))
}

/// Makes an account and an invitation, which its owner exchanges for a token once. Again for one that is there: a new
/// invitation, for somebody who has lost every token.
pub(crate) async fn invite(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
    Body(body): Body<ours::PersonInvite>,
) -> ApiResult<(StatusCode, Json<ours::Invitation>)> {
    let address = email::parse(&body.email).map_err(|error| ApiError::invalid(error.to_string()))?;
    two_factor::ask_unless_root(&state, &actor, &headers).await?;
    let account = state.store.invite_account(address, body.administrator, state.now()).await?;
    let expires_at = state.now().checked_add(INVITATION_VALID).ok();
    let token = NewToken {
        account: account.id,
        description: "invitation".to_owned(),
        expires_at,
        scopes: vec![Scope::Invitation],
        app: None,
        session: false,
    };
    let (_token, text) = state.store.create_token(token, state.now()).await?;
    let invitation = ours::Invitation {
        person: person(&account),
        invitation: text.into_exposed(),
        expires_at: expires_at.map(present::time),
    };
    Ok((StatusCode::CREATED, Json(invitation)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
    Path(who): Path<String>,
    Body(body): Body<ours::PersonUpdate>,
) -> ApiResult<Json<ours::Person>> {
    let account = find(&state, &who)?;
    if body.administrator {
        two_factor::ask_unless_root(&state, &actor, &headers).await?;
    }
    state.store.set_administrator(account.id, body.administrator).await?;
    Ok(Json(person(&find(&state, &account.id.to_string())?)))
}

/// Ends an account: its tokens stop working at once. Its apps stay, and an administrator decides about them.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(who): Path<String>,
) -> ApiResult<Json<ours::Person>> {
    let account = find(&state, &who)?;
    if account.id == actor.id() {
        return Err(ApiError::invalid("You cannot remove yourself: another administrator can."));
    }
    state.store.remove_account(account.id, state.now()).await?;
    Ok(Json(person(&account)))
}

/// For somebody whose authenticator app is lost.
pub(crate) async fn reset_two_factor(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
    Path(who): Path<String>,
) -> ApiResult<Json<ours::Person>> {
    let account = find(&state, &who)?;
    two_factor::ask_unless_root(&state, &actor, &headers).await?;
    state.store.remove_two_factor(account.id).await?;
    Ok(Json(person(&account)))
}

fn find(state: &ApiState, who: &str) -> ApiResult<Account> {
    let found = state.store.find_account(who)?.filter(|account| account.removed_at.is_none());
    found.ok_or_else(|| ApiError::not_found("user"))
}

fn person(account: &Account) -> ours::Person {
    ours::Person {
        id: account.id.uuid(),
        email: account.email.clone(),
        administrator: account.administrator,
        created_at: present::time(account.created_at),
    }
}
