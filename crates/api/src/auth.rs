//! Who asks. Every route behind [`require_token`] has an [`Actor`]; there is no other way to get one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::id::{AccountId, TokenId};
use domain::secret::Secret;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use store::account::Account;
use store::audit::AuditEntry;
use store::change::acting_for;

use crate::error::{ApiError, ApiResult};
use crate::listen::Peer;
use crate::state::ApiState;

/// The authenticated account behind a request.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) account: Account,
    /// The token that spoke; none over the local socket and from a push's hook.
    pub(crate) token: Option<TokenId>,
}

impl Actor {
    pub(crate) const fn id(&self) -> AccountId {
        self.account.id
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::unauthorized)
    }
}

/// Lets a request pass if it carries a valid token, or comes from root over the local socket. Records mutations.
pub(crate) async fn require_token(State(state): State<Arc<ApiState>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let actor = match authenticate(&state, request.headers(), peer.as_ref()) {
        Ok(actor) => actor,
        Err(error) => return error.into_response(),
    };
    let audited = audit_entry(&state, &actor, &request, peer.as_ref());
    let account = actor.id();
    request.extensions_mut().insert(actor);
    let response = acting_for(account, next.run(request)).await;
    if let Some(entry) = audited.filter(|_entry| response.status().is_success())
        && let Err(error) = state.store.record(entry).await
    {
        return ApiError::from(error).into_response();
    }
    response
}

/// Finds the account that a request speaks for.
pub(crate) fn authenticate(state: &ApiState, headers: &HeaderMap, peer: Option<&Peer>) -> ApiResult<Actor> {
    if matches!(peer, Some(Peer::LocalAdministrator)) && !headers.contains_key(header::AUTHORIZATION) {
        let account = state.store.first_account()?.ok_or_else(ApiError::unauthorized)?;
        return Ok(Actor { account, token: None });
    }
    let token = token_of(headers).ok_or_else(ApiError::unauthorized)?;
    if let Some(account) = account_of_push(state, &token) {
        let account = state.store.account(account)?.ok_or_else(ApiError::unauthorized)?;
        return Ok(Actor { account, token: None });
    }
    let found = state.store.authenticate(&token, state.now())?.ok_or_else(ApiError::unauthorized)?;
    Ok(Actor { account: found.account, token: Some(found.token) })
}

/// A token for the hook of one push: `push:<account>:<expiry>.<signature>`.
pub(crate) fn push_token(state: &ApiState, account: AccountId, valid_for: Duration) -> String {
    format!("push:{account}:{}", state.signer.token(&format!("push/{account}"), valid_for, state.now()))
}

fn account_of_push(state: &ApiState, token: &Secret<String>) -> Option<AccountId> {
    let (account, signed) = token.expose().strip_prefix("push:")?.split_once(':')?;
    let account = AccountId::parse(account)?;
    state.signer.check_token(&format!("push/{account}"), signed, state.now()).then_some(account)
}

/// `Bearer T`, or `Basic` with the token as password. Heroku's clients put an e-mail address, `heroku`, `_` or nothing
/// in front of it (`reference`: the Platform API's "Authentication").
fn token_of(headers: &HeaderMap) -> Option<Secret<String>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        credentials.trim().to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        decoded.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    Some(Secret::new(token))
}

fn audit_entry(state: &ApiState, actor: &Actor, request: &Request, peer: Option<&Peer>) -> Option<AuditEntry> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    Some(AuditEntry {
        at: state.now(),
        account: actor.id(),
        action: format!("{} {route}", request.method()),
        target: request.uri().path().to_owned(),
        origin: peer.map_or_else(String::new, ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expect: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        assert_eq!(token_of(&headers).map(Secret::into_exposed).as_deref(), expect, "{value}");
    }

    #[test]
    fn tokens_come_as_bearer_and_as_password() {
        check("Bearer abc", Some("abc"));
        check("bearer abc ", Some("abc"));
        check(&format!("Basic {}", STANDARD.encode(":abc")), Some("abc"));
        check(&format!("Basic {}", STANDARD.encode("heroku:abc")), Some("abc"));
        check(&format!("Basic {}", STANDARD.encode("abc")), None);
        check("Basic !!!", None);
        check("Digest abc", None);
        check("abc", None);
    }
}
