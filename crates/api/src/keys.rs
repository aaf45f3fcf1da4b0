//! Public SSH keys of the account.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use domain::ssh_key::SshKey as PublicKey;
use http::StatusCode;
use store::ssh_key::SshKey;
use wire::platform_api::catalogue::{Key, KeyCreate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(State(state): State<Arc<ApiState>>, actor: Actor) -> ApiResult<Json<Vec<Key>>> {
    Ok(Json(state.store.ssh_keys(actor.id())?.iter().map(|key| shown(&actor, key)).collect()))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Key>> {
    Ok(Json(shown(&actor, &find(&state, &actor, &wanted)?)))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<KeyCreate>,
) -> ApiResult<(StatusCode, Json<Key>)> {
    let key = PublicKey::parse(&body.public_key).map_err(|error| ApiError::invalid(error.to_string()))?;
    let bytes = STANDARD.decode(&key.base64).map_err(|_not_base64| ApiError::invalid("The key is damaged."))?;
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &bytes)));
    let key = state.store.add_ssh_key(actor.id(), key, fingerprint, state.now()).await?;
    Ok((StatusCode::CREATED, Json(shown(&actor, &key))))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Key>> {
    let key = find(&state, &actor, &wanted)?;
    state.store.remove_ssh_key(actor.id(), key.id).await?;
    Ok(Json(shown(&actor, &key)))
}

fn find(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<SshKey> {
    let keys = state.store.ssh_keys(actor.id())?;
    let found = keys.into_iter().find(|key| key.id.to_string() == wanted || key.fingerprint == wanted);
    found.ok_or_else(|| ApiError::not_found("key"))
}

fn shown(actor: &Actor, key: &SshKey) -> Key {
    Key {
        comment: key.comment.clone(),
        created_at: present::time(key.created_at),
        email: actor.account.email.clone(),
        fingerprint: key.fingerprint.clone(),
        id: key.id,
        public_key: key.public_key.clone(),
        updated_at: present::time(key.created_at),
    }
}
