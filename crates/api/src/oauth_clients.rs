//! Programs of others that may ask accounts for tokens: OAuth clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::id::OauthClientId;
use http::{StatusCode, Uri};
use store::oauth_client::{OauthClient, OauthClientChange};
use wire::platform_api::oauth as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::present;
use crate::state::ApiState;

/// Longest name, in characters.
const NAME_MAX: usize = 100;

/// Longest address, in bytes.
const REDIRECT_URI_BYTES_MAX: usize = 2000;

pub(crate) async fn list(State(state): State<Arc<ApiState>>, actor: Actor) -> ApiResult<Json<Vec<heroku::Client>>> {
    Ok(Json(state.store.oauth_clients(actor.id())?.iter().map(shown).collect()))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<heroku::ClientCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Client>)> {
    let (name, redirect_uri) = (parse_name(&body.name)?, parse_redirect_uri(&body.redirect_uri)?);
    let client = state.store.create_oauth_client(actor.id(), name, redirect_uri, state.now()).await?;
    Ok((StatusCode::CREATED, Json(shown(&client))))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Client>> {
    Ok(Json(shown(&own(&state, &actor, &id)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
    Body(body): Body<heroku::ClientUpdate>,
) -> ApiResult<Json<heroku::Client>> {
    let name = body.name.as_deref().map(parse_name).transpose()?;
    let redirect_uri = body.redirect_uri.as_deref().map(parse_redirect_uri).transpose()?;
    change(&state, &actor, &id, OauthClientChange { name, redirect_uri, new_secret: false }).await
}

/// Gives it another secret. Tokens that it has stay good; to renew them takes the new secret.
pub(crate) async fn rotate_credentials(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Client>> {
    change(&state, &actor, &id, OauthClientChange { new_secret: true, ..OauthClientChange::default() }).await
}

/// Ends it and the tokens that it was given.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Client>> {
    let client = own(&state, &actor, &id)?;
    state.store.remove_oauth_client(client.id).await?;
    Ok(Json(shown(&client)))
}

async fn change(
    state: &ApiState,
    actor: &Actor,
    id: &str,
    change: OauthClientChange,
) -> ApiResult<Json<heroku::Client>> {
    let client = own(state, actor, id)?;
    state.store.update_oauth_client(client.id, change, state.now()).await?;
    Ok(Json(shown(&own(state, actor, id)?)))
}

/// Somebody's own; others' do not exist.
fn own(state: &ApiState, actor: &Actor, id: &str) -> ApiResult<OauthClient> {
    find(state, id)?.filter(|client| client.account == actor.id()).ok_or_else(|| ApiError::not_found("client"))
}

/// Whoever's it is.
pub(crate) fn find(state: &ApiState, id: &str) -> ApiResult<Option<OauthClient>> {
    let Some(id) = OauthClientId::parse(id) else { return Ok(None) };
    Ok(state.store.oauth_client(id)?)
}

pub(crate) fn reference(client: &OauthClient) -> heroku::ClientRef {
    heroku::ClientRef { id: client.id.uuid(), name: client.name.clone(), redirect_uri: client.redirect_uri.clone() }
}

fn shown(client: &OauthClient) -> heroku::Client {
    heroku::Client {
        created_at: present::time(client.created_at),
        id: client.id.uuid(),
        ignores_delinquent: Some(false),
        name: client.name.clone(),
        redirect_uri: client.redirect_uri.clone(),
        secret: client.secret.expose().clone(),
        updated_at: present::time(client.updated_at),
    }
}

fn parse_name(name: &str) -> ApiResult<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.contains(char::is_control) {
        return Err(ApiError::invalid(format!("A client's name is one line of {NAME_MAX} characters at most.")));
    }
    Ok(name.to_owned())
}

/// Where codes are sent: over TLS, or to the machine of whoever logs in.
fn parse_redirect_uri(text: &str) -> ApiResult<String> {
    let refused = || {
        ApiError::invalid(
            "redirect_uri must be an https:// URL without a fragment, or http:// with localhost or 127.0.0.1.",
        )
    };
    if text.len() > REDIRECT_URI_BYTES_MAX || text.contains('#') {
        return Err(refused());
    }
    let uri: Uri = text.parse().map_err(|_not_a_url| refused())?;
    let authority = uri.authority().ok_or_else(refused)?;
    let is_local = matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]");
    let is_good = uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http") && is_local;
    if is_good && !authority.as_str().contains('@') { Ok(text.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_over_tls_or_to_the_own_machine() {
        for good in ["https://x.example/cb", "https://x.example:8443/cb?a=1", "http://localhost:3000/cb"] {
            assert!(parse_redirect_uri(good).is_ok_and(|uri| uri == good), "{good}");
        }
        for bad in [
            "http://x.example/cb",
            "https://x.example/#a",
            "javascript:alert(1)",
            "https://a@b/",
            "x",
            "http://localhost@x/",
        ] {
            assert!(parse_redirect_uri(bad).is_err(), "{bad}");
        }
    }
}
