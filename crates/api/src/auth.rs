//! Who asks, and whether they may. Every route behind [`require_token`] has an [`Actor`]; there is no other way to get
//! one, nor to the app in a path.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::access::{Access, Errand, Need, Permission, Permissions, Scope, Standing, needs_second_factor};
use domain::id::{AccountId, AppId, TokenId};
use domain::secret::Secret;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use store::account::{Account, Authenticated, TokenPrint};
use store::acting::Acting;
use store::app::App;
use store::audit::AuditEntry;

use crate::error::{ApiError, ApiResult, no_such_route_error};
use crate::exec;
use crate::peer::Peer;
use crate::policy;
use crate::pre_authorizations;
use crate::state::ApiState;

/// The authenticated account behind a request.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) account: Account,
    /// The token that spoke; none over the local socket and from a push's hook.
    pub(crate) token: Option<TokenId>,
    /// That token as it is now.
    pub(crate) print: Option<TokenPrint>,
    /// What the token is good for.
    pub(crate) scopes: Vec<Scope>,
    /// The one app that the token is for.
    pub(crate) only_app: Option<AppId>,
    /// Where somebody is for whom a push's hook asks.
    pub(crate) pushes_from: Option<String>,
}

impl From<Authenticated> for Actor {
    fn from(found: Authenticated) -> Self {
        let Authenticated { account, token, print, scopes, app } = found;
        Self { account, token: Some(token), print: Some(print), scopes, only_app: app, pushes_from: None }
    }
}

impl Actor {
    pub(crate) const fn id(&self) -> AccountId {
        self.account.id
    }

    /// Whether the token is good for changes besides those of one app.
    pub(crate) fn may_write(&self) -> bool {
        policy::check((Need::Anybody, Access::Write, Errand::Other), &self.standing(Permissions::NONE, None)).is_ok()
    }

    /// Whether the actor has a permission with an app that the path does not name.
    pub(crate) fn may(&self, state: &ApiState, app: &App, permission: Permission) -> ApiResult<bool> {
        Ok(self.account.administrator || state.store.permissions(self.id(), app)?.contains(permission))
    }

    /// The living apps that the actor may see, by name.
    pub(crate) fn visible_apps(&self, state: &ApiState) -> ApiResult<Vec<App>> {
        let mut apps = Vec::new();
        for app in state.store.apps()?.into_iter().filter(|app| app.destroyed_at.is_none()) {
            if self.may(state, &app, Permission::View)? {
                apps.push(app);
            }
        }
        Ok(apps)
    }

    /// Refuses what the actor may not do with an app that the path does not name. An app that they may not even see
    /// does not exist.
    pub(crate) fn must(&self, state: &ApiState, app: &App, permission: Permission, errand: Errand) -> ApiResult<()> {
        let permissions = state.store.permissions(self.id(), app)?;
        let access = if permission == Permission::View { Access::Read } else { Access::Write };
        let need = Need::App(permission);
        policy::check((need, access, errand), &self.standing(permissions, Some(Some(app.id))))?;
        if needs_second_factor(need, access, &self.scopes) {
            pre_authorizations::check(state, self, app)?;
        }
        Ok(())
    }

    /// An invitation has done its work once there is a token.
    pub(crate) async fn use_invitation_up(&self, state: &ApiState) -> ApiResult<()> {
        if self.scopes.contains(&Scope::Invitation)
            && let Some(invitation) = self.token
        {
            state.store.revoke_token(self.id(), invitation, state.now()).await?;
        }
        Ok(())
    }

    /// `app` is the one that a request is about, if it is about one; `None` in it is one that is not there.
    fn standing(&self, permissions: Permissions, app: Option<Option<AppId>>) -> Standing<'_> {
        let elsewhere = self.only_app.is_some() && app.is_some_and(|app| app != self.only_app);
        Standing { administrator: self.account.administrator, scopes: &self.scopes, permissions, elsewhere }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::unauthorized)
    }
}

/// The app that the path names, for a request that may reach it.
#[derive(Debug, Clone)]
pub(crate) struct ReachedApp(pub(crate) App);

/// What is left of the asker's rate limit, on an answer's way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remaining(pub(crate) u32);

/// Requests that take nothing from the rate limit: what asks for it, and connections within a session that was counted.
const FREE_ROUTES: [&str; 2] = ["/account/rate-limits", exec::visit::ROUTE];

/// Lets a request pass if it carries a valid token, or comes from root over the local socket, and neither the rate
/// limit nor the policy stands against it. Changes are recorded.
pub(crate) async fn require_token(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let actor = match identify(&state, &mut parts) {
        Ok(actor) => actor,
        Err(error) => return error.into_response(),
    };
    let request = Request::from_parts(parts, body);
    let account = actor.id();
    let mut response = match count(&state, &actor, &request) {
        Ok(()) => act(&state, actor, request, next).await.unwrap_or_else(ApiError::into_response),
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(Remaining(state.requests.remaining(&account, state.now())));
    response
}

fn identify(state: &ApiState, parts: &mut Parts) -> ApiResult<Actor> {
    let route = parts.extensions.get::<MatchedPath>().map(|route| route.as_str().to_owned()).unwrap_or_default();
    match exec::introduced(state, parts, &route) {
        Some(actor) => Ok(actor),
        None => authenticate(state, &parts.headers, parts.extensions.get()),
    }
}

/// Takes a request from the asker's rate limit. Root on the machine and the hooks of pushes have none.
fn count(state: &ApiState, actor: &Actor, request: &Request) -> ApiResult<()> {
    let is_free = request.extensions().get::<MatchedPath>().is_some_and(|route| FREE_ROUTES.contains(&route.as_str()));
    if actor.token.is_none() || is_free {
        return Ok(());
    }
    // Compat: Heroku's words.
    let text = "Your account reached the API rate limit\nPlease wait a few minutes before making new requests";
    state.requests.take(&actor.id(), state.now()).map_err(|wait| ApiError::rate_limited(text).after(wait))
}

async fn act(state: &Arc<ApiState>, actor: Actor, request: Request, next: Next) -> ApiResult<Response> {
    let (mut parts, body) = request.into_parts();
    let (acting, access) = admit(state, actor, &mut parts).await?;
    let response = acting.run(next.run(Request::from_parts(parts, body))).await;
    // What is only looked at, by whatever method, has changed nothing if it wrote nothing.
    let is_change = response.status().is_success() && access != Access::Read;
    if let Some(entry) = acting.unrecorded().filter(|_entry| is_change) {
        state.store.record(entry).await?;
    }
    Ok(response)
}

/// The one place where it is decided who may do what. Puts the [`Actor`] and the app into the request.
async fn admit(state: &Arc<ApiState>, actor: Actor, parts: &mut Parts) -> ApiResult<(Acting, Access)> {
    let peer = parts.extensions.get::<Peer>().cloned();
    let route = parts.extensions.get::<MatchedPath>().map(|route| route.as_str().to_owned()).unwrap_or_default();
    let path = RawPathParams::from_request_parts(parts, state).await;
    let name = path.as_ref().ok().and_then(|path| path.iter().find(|(key, _value)| *key == "app"));
    let app = name.map(|(_key, name)| state.store.find_app(name)).transpose()?.flatten();
    let about = route.contains("{app}").then(|| app.as_ref().map(|app| app.id));
    let permissions = match &app {
        Some(app) => state.store.permissions(actor.id(), app)?,
        None => Permissions::NONE,
    };
    let standing = actor.standing(permissions, about);
    let Some(rule) = policy::rule(&parts.method, &route) else {
        // Not even that there is something is for others to know.
        policy::check(policy::UNKNOWN, &standing).map_err(|_denied| no_such_route_error(&parts.method, &parts.uri))?;
        let (_need, access, _errand) = policy::UNKNOWN;
        return Ok((enter(state, parts, peer.as_ref(), &route, actor, app), access));
    };
    policy::check(rule, &standing)?;
    let (need, access, _errand) = rule;
    if let Some(app) = &app {
        pre_authorizations::require(
            state,
            &actor,
            app,
            needs_second_factor(need, access, &actor.scopes),
            &parts.headers,
        )
        .await?;
    }
    Ok((enter(state, parts, peer.as_ref(), &route, actor, app), access))
}

fn enter(
    state: &ApiState,
    parts: &mut Parts,
    peer: Option<&Peer>,
    route: &str,
    actor: Actor,
    app: Option<App>,
) -> Acting {
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    let entry = (!is_read).then(|| AuditEntry {
        at: state.now(),
        account: actor.id(),
        action: format!("{} {route}", parts.method),
        target: target(parts.uri.path()),
        app: app.as_ref().map(|app| app.id),
        origin: actor.pushes_from.clone().or_else(|| peer.map(ToString::to_string)).unwrap_or_default(),
    });
    let acting = Acting::new(actor.id(), entry);
    parts.extensions.insert(actor);
    if let Some(app) = app {
        parts.extensions.insert(ReachedApp(app));
    }
    acting
}

/// A path as it is recorded. Drains can be named by their address, which may hold their receiver's password.
fn target(path: &str) -> String {
    let is_address = |part: &str| part.to_ascii_lowercase().contains("%3a%2f%2f");
    let parts = path.split('/').map(|part| if is_address(part) { "(an address)" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Finds the account that a request speaks for.
pub(crate) fn authenticate(state: &ApiState, headers: &HeaderMap, peer: Option<&Peer>) -> ApiResult<Actor> {
    if matches!(peer, Some(Peer::LocalAdministrator)) && !headers.contains_key(header::AUTHORIZATION) {
        let account = state.store.first_account()?.ok_or_else(ApiError::unauthorized)?;
        let scopes = vec![Scope::Global];
        return Ok(Actor { account, token: None, print: None, scopes, only_app: None, pushes_from: None });
    }
    let token = token_of(headers).ok_or_else(ApiError::unauthorized)?;
    if let Some((account, app, from)) = push_of(state, &token) {
        let account = state.store.account(account)?.filter(|account| account.removed_at.is_none());
        let account = account.ok_or_else(ApiError::unauthorized)?;
        let (scopes, pushes_from) = (vec![Scope::Deploy], Some(from));
        return Ok(Actor { account, token: None, print: None, scopes, only_app: Some(app), pushes_from });
    }
    let found = state.store.authenticate(&token, state.now())?.ok_or_else(ApiError::unauthorized)?;
    Ok(Actor::from(found))
}

/// A token for the hook of one push, which deploys one app and does nothing else, whatever token was pushed with:
/// `push:<account>:<app>:<expiry>.<signature>:<where the pusher is>`.
pub(crate) fn push_token(
    state: &ApiState,
    account: AccountId,
    app: AppId,
    pusher: &Peer,
    valid_for: Duration,
) -> String {
    let from = pusher.to_string();
    let signed = state.signer.token(&push_subject(account, app, &from), valid_for, state.now());
    format!("push:{account}:{app}:{signed}:{from}")
}

fn push_of(state: &ApiState, token: &Secret<String>) -> Option<(AccountId, AppId, String)> {
    let (account, rest) = token.expose().strip_prefix("push:")?.split_once(':')?;
    let (app, rest) = rest.split_once(':')?;
    let (signed, from) = rest.split_once(':')?;
    let (account, app) = (AccountId::parse(account)?, AppId::parse(app)?);
    let is_ours = state.signer.check_token(&push_subject(account, app, from), signed, state.now());
    is_ours.then(|| (account, app, from.to_owned()))
}

fn push_subject(account: AccountId, app: AppId, from: &str) -> String {
    format!("push/{account}/{app}/{from}")
}

/// `Bearer T`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Secret<String>> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim().to_owned()))
}

/// `Bearer T`, or `Basic` with the token as password. Heroku's clients put an e-mail address, `heroku`, `_` or nothing
/// in front of it (`reference`: the Platform API's "Authentication").
pub(crate) fn token_of(headers: &HeaderMap) -> Option<Secret<String>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expect: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        assert_eq!(token_of(&headers).map(Secret::into_exposed).as_deref(), expect, "{value}");
    }

    #[test]
    fn no_address_is_recorded() {
        assert_eq!(target("/apps/shop/log-drains/https%3A%2F%2Fu:p@h%2F"), "/apps/shop/log-drains/(an address)");
        assert_eq!(target("/apps/shop/collaborators/a@b.example"), "/apps/shop/collaborators/a@b.example");
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
