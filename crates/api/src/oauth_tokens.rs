//! A program's code becomes a token, and its token a fresh one: Heroku's `POST /oauth/tokens`, and the form of OAuth 2
//! (RFC 6749, 4.1.3 and 6) at `POST /oauth/token`. Neither needs a login: the client's secret is one.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use domain::id::{OauthClientId, TokenId};
use domain::secret::Secret;
use http::{HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use store::account::{Account, NewToken};
use store::oauth_client::OauthClient;
use wire::platform_api as heroku;
use wire::platform_api::oauth::{OauthToken, TokenCreate};

use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::oauth_clients;
use crate::present;
use crate::state::ApiState;

/// How long a program's token is good before it is renewed (Heroku's).
const TOKEN_VALID: SignedDuration = SignedDuration::from_hours(8);

/// What a program has then.
struct Exchanged {
    client: OauthClient,
    account: Account,
    token: TokenId,
    created_at: Timestamp,
    text: Secret<String>,
    refresh: Secret<String>,
}

/// What it shows for it.
enum Shown {
    Code(Secret<String>),
    Refresh(Secret<String>),
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    Body(body): Body<TokenCreate>,
) -> ApiResult<(StatusCode, Json<OauthToken>)> {
    let shown = match (body.grant.kind.as_deref(), body.grant.code, body.refresh_token.token) {
        (Some("refresh_token"), _, Some(token)) => Shown::Refresh(token),
        (Some("authorization_code"), Some(code), _) => Shown::Code(code),
        _incomplete => {
            return Err(ApiError::invalid(
                "grant.type must be authorization_code, with grant.code, or refresh_token, with refresh_token.token.",
            ));
        }
    };
    let secret = body.client.secret;
    let secret =
        secret.ok_or_else(|| ApiError::invalid("client.secret is missing: `heroku clients:info` shows it."))?;
    let made = exchange(&state, shown, &secret).await?;
    let expires_in = Some(TOKEN_VALID.as_secs());
    let access_token = heroku::AccessToken { expires_in, id: made.token.uuid(), token: made.text.into_exposed() };
    let refresh_token =
        heroku::AccessToken { expires_in: None, id: made.token.uuid(), token: made.refresh.into_exposed() };
    let answer = OauthToken {
        access_token,
        authorization: heroku::IdOnly { id: made.token.uuid() },
        client: oauth_clients::reference(&made.client),
        created_at: present::time(made.created_at),
        id: made.token.uuid(),
        refresh_token,
        updated_at: present::time(state.now()),
        user: heroku::AuthorizationUser { email: made.account.email, full_name: None, id: made.account.id.uuid() },
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The body of `POST /oauth/token`.
#[derive(Deserialize)]
pub(crate) struct TokenForm {
    grant_type: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    client_secret: Option<String>,
}

pub(crate) async fn create_by_form(
    State(state): State<Arc<ApiState>>,
    Form(form): Form<TokenForm>,
) -> ApiResult<Response> {
    let shown = match (form.grant_type.as_str(), form.code, form.refresh_token) {
        ("authorization_code", Some(code), _) => Shown::Code(Secret::new(code)),
        ("refresh_token", _, Some(token)) => Shown::Refresh(Secret::new(token)),
        _other => return Err(ApiError::invalid("grant_type must be authorization_code or refresh_token.")),
    };
    let secret = form.client_secret.map(Secret::new);
    let secret = secret.ok_or_else(|| ApiError::invalid("client_secret is missing."))?;
    let made = exchange(&state, shown, &secret).await?;
    let answer = json!({
        "access_token": made.text.expose(),
        "refresh_token": made.refresh.expose(),
        "token_type": "Bearer",
        "expires_in": TOKEN_VALID.as_secs(),
        "user_id": made.account.id.uuid(),
        "session_nonce": null,
    });
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn exchange(state: &ApiState, shown: Shown, secret: &Secret<String>) -> ApiResult<Exchanged> {
    let now = state.now();
    let until = now.checked_add(TOKEN_VALID).unwrap_or(now);
    match shown {
        Shown::Code(code) => {
            let refused =
                || ApiError::invalid("The code is not good: it was used, is too old, or is another client's.");
            let grant = state.grants.take(&code, now).ok_or_else(refused)?;
            let client = client_with_secret(state, grant.client, secret)?;
            let account = state.store.account(grant.account)?.filter(|account| account.removed_at.is_none());
            let account = account.ok_or_else(refused)?;
            let new = NewToken {
                account: account.id,
                description: grant.description,
                expires_at: Some(until),
                scopes: grant.scopes,
                app: None,
                session: false,
            };
            let granted = state.store.grant_token(grant.client, grant.token, new, now).await?;
            let (token, created_at) = (granted.token.id, granted.token.created_at);
            Ok(Exchanged { client, account, token, created_at, text: granted.text, refresh: granted.refresh })
        }
        Shown::Refresh(refresh) => {
            let refused = || ApiError::invalid("The refresh token is not good, or not this client's.");
            let renewed = state.store.renewable_by(&refresh)?.ok_or_else(refused)?;
            let client = client_with_secret(state, renewed, secret)?;
            let renewed = state.store.renew_token(client.id, &refresh, until).await?;
            let (token, account, text) = renewed.ok_or_else(refused)?;
            let account = state.store.account(account)?.ok_or_else(refused)?;
            Ok(Exchanged { client, account, token, created_at: now, text, refresh })
        }
    }
}

fn client_with_secret(state: &ApiState, id: OauthClientId, secret: &Secret<String>) -> ApiResult<OauthClient> {
    let hash = |secret: &Secret<String>| digest(&SHA256, secret.expose().as_bytes()).as_ref().to_vec();
    let found = state.store.oauth_client(id)?.filter(|client| hash(&client.secret) == hash(secret));
    found.ok_or_else(ApiError::unauthorized)
}
