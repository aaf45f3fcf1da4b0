//! Tokens, in the shape of Heroku's OAuth authorizations.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::{Errand, Permission, Scope};
use domain::id::TokenId;
use domain::secret::Secret;
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use store::account::{NewToken, Token};
use store::app::App;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::grants::{self, Grant};
use crate::oauth_clients;
use crate::present;
use crate::state::ApiState;
use crate::two_factor;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
) -> ApiResult<Json<Vec<heroku::Authorization>>> {
    // Logins by browser are sessions.
    let tokens = state.store.tokens(actor.id())?.into_iter().filter(|token| !token.session);
    tokens.map(|token| shown(&state, &actor, &token, None)).collect::<ApiResult<Vec<_>>>().map(Json)
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
    Body(body): Body<heroku::AuthorizationCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Authorization>)> {
    let now = state.now();
    two_factor::ask_unless_root(&state, &actor, &headers).await?;
    let expires_at = match body.expires_in.as_ref().map(heroku::Seconds::get) {
        None => None,
        Some(Some(seconds)) if seconds > 0 => Some(
            now.checked_add(SignedDuration::from_secs(seconds))
                .map_err(|_range| ApiError::invalid("expires_in is too far in the future."))?,
        ),
        Some(Some(_) | None) => return Err(ApiError::invalid("expires_in must be a positive number of seconds.")),
    };
    let scopes = scopes(body.scope)?;
    let app = only_app(&state, &actor, &scopes, body.app.as_deref())?;
    if let Some(client) = &body.client {
        return grant(&state, &actor, client, scopes, body.description);
    }
    let usual = || app.as_ref().map_or_else(|| "token".to_owned(), |app| format!("deploy {}", app.name));
    let description = body.description.unwrap_or_else(usual);
    let new =
        NewToken { account: actor.id(), description, expires_at, scopes, app: app.map(|app| app.id), session: false };
    let (token, text) = state.store.create_token(new, now).await?;
    actor.use_invitation_up(&state).await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &actor, &token, Some(&text))?)))
}

/// Makes a code for a program, which exchanges it for the token.
fn grant(
    state: &ApiState,
    actor: &Actor,
    client: &str,
    scopes: Vec<Scope>,
    description: Option<String>,
) -> ApiResult<(StatusCode, Json<heroku::Authorization>)> {
    let client = oauth_clients::find(state, client)?.ok_or_else(|| ApiError::not_found("client"))?;
    if actor.scopes.contains(&Scope::Invitation) || scopes.iter().any(|scope| scope.is_for_one_app()) {
        return Err(ApiError::forbidden("Log in first: a program gets a token of somebody who has one."));
    }
    let now = state.now();
    let until = now.checked_add(grants::VALID).unwrap_or(now);
    let description = description.unwrap_or_else(|| client.name.clone());
    let words = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    let (id, account) = (TokenId::random(), actor.id());
    let grant = Grant { account, client: client.id, scopes, description: description.clone(), token: id, until };
    let code = state.grants.add(grant, now)?;
    let authorization = heroku::Authorization {
        access_token: None,
        client: Some(oauth_clients::reference(&client)),
        created_at: present::time(now),
        description,
        grant: Some(heroku::oauth::Grant {
            code: code.into_exposed(),
            expires_in: grants::VALID.as_secs(),
            id: id.uuid(),
        }),
        id: id.uuid(),
        refresh_token: None,
        scope: words,
        session: None,
        updated_at: present::time(now),
        user: Some(user(actor)),
    };
    Ok((StatusCode::CREATED, Json(authorization)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Authorization>> {
    let token = find(&state, &actor, &id)?;
    shown(&state, &actor, &token, None).map(Json)
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
    Body(body): Body<heroku::AuthorizationUpdate>,
) -> ApiResult<Json<heroku::Authorization>> {
    let token = find(&state, &actor, &id)?;
    if body.client.is_some() {
        return Err(ApiError::invalid("A token cannot be moved to another client: make one for it."));
    }
    if let Some(description) = body.description {
        state.store.describe_token(actor.id(), token.id, description).await?;
    }
    let token = find(&state, &actor, &token.id.to_string())?;
    shown(&state, &actor, &token, None).map(Json)
}

pub(crate) async fn regenerate(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Authorization>> {
    let token = find(&state, &actor, &id)?;
    if token.client.is_some() {
        return Err(ApiError::invalid(
            "A program has this token and renews it: nobody else can give it another. Revoke the authorization, and let \
             the program ask again.",
        ));
    }
    let text = state.store.regenerate_token(actor.id(), token.id).await?;
    shown(&state, &actor, &token, Some(&text)).map(Json)
}

pub(crate) async fn revoke(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(id): Path<String>,
) -> ApiResult<Json<heroku::Authorization>> {
    let token = find(&state, &actor, &id)?;
    state.store.revoke_token(actor.id(), token.id, state.now()).await?;
    shown(&state, &actor, &token, None).map(Json)
}

/// Words of Heroku's; nothing means everything.
pub(crate) fn scopes(words: Option<Vec<String>>) -> ApiResult<Vec<Scope>> {
    let words = words.filter(|words| !words.is_empty()).unwrap_or_else(|| vec![Scope::Global.as_str().to_owned()]);
    let known = "global, identity, read, write, read-protected, write-protected, deploy, promote";
    let parse = |word: &String| Scope::parse(word).filter(|scope| *scope != Scope::Invitation);
    let scopes: Option<Vec<Scope>> = words.iter().map(parse).collect();
    scopes.ok_or_else(|| ApiError::invalid(format!("Scope must be one or more of {known}.")))
}

/// The app that a token for deploys is for. Whoever makes it must be able to deploy themselves, or it would do nothing.
fn only_app(state: &ApiState, actor: &Actor, scopes: &[Scope], app: Option<&str>) -> ApiResult<Option<App>> {
    let deploys = scopes.contains(&Scope::Deploy) && scopes.iter().all(|scope| scope.is_for_one_app());
    match app {
        Some(name) if deploys => {
            let app = state.store.find_app(name)?.ok_or_else(|| ApiError::not_found("app"))?;
            actor.must(state, &app, Permission::Deploy, Errand::Other)?;
            Ok(Some(app))
        }
        None if !scopes.iter().any(|scope| scope.is_for_one_app()) => Ok(None),
        Some(_) | None => {
            Err(ApiError::invalid("A token for one app names the app, and its scope is deploy, or deploy and promote."))
        }
    }
}

/// Finds one of the actor's tokens by id; `~` is the one that asks.
fn find(state: &ApiState, actor: &Actor, id: &str) -> ApiResult<Token> {
    let missing = || ApiError::not_found("authorization");
    let id = if id == "~" { actor.token } else { TokenId::parse(id) }.ok_or_else(missing)?;
    state.store.tokens(actor.id())?.into_iter().find(|token| token.id == id).ok_or_else(missing)
}

fn user(actor: &Actor) -> heroku::AuthorizationUser {
    heroku::AuthorizationUser { email: actor.account.email.clone(), full_name: None, id: actor.id().uuid() }
}

fn shown(
    state: &ApiState,
    actor: &Actor,
    token: &Token,
    text: Option<&Secret<String>>,
) -> ApiResult<heroku::Authorization> {
    let now = state.now();
    let client = token.client.map(|client| state.store.oauth_client(client)).transpose()?.flatten();
    let expires_in = token.expires_at.map(|at| at.as_second() - now.as_second());
    Ok(heroku::Authorization {
        access_token: Some(heroku::AccessToken {
            expires_in,
            id: token.id.uuid(),
            token: text.map_or_else(|| "**********".to_owned(), |text| text.expose().clone()),
        }),
        client: client.as_ref().map(oauth_clients::reference),
        created_at: present::time(token.created_at),
        description: token.description.clone(),
        grant: None,
        id: token.id.uuid(),
        refresh_token: None,
        scope: token.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        session: None,
        updated_at: present::time(token.created_at),
        user: Some(user(actor)),
    })
}
