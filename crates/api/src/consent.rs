//! `GET /oauth/authorize` (RFC 6749, 4.1.1): somebody lets a program of others speak for them.
//!
//! The answer is a code in the program's own address, which it exchanges for a token (`oauth_tokens`). An address that
//! is not the client's own is never led to, also not with an error.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use domain::access::Scope;
use domain::id::TokenId;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use store::oauth_client::OauthClient;

use crate::authorizations;
use crate::error::{ApiError, ApiResult};
use crate::grants::{self, Grant};
use crate::login_page::{LoginForm, LoginPage, told};
use crate::oauth_clients;
use crate::origin::Origin;
use crate::peer::Peer;
use crate::state::ApiState;

const ROUTE: &str = "/oauth/authorize";

/// Longest query, in bytes.
const QUERY_BYTES_MAX: usize = 4096;

/// What a program asks for.
struct Request {
    client: OauthClient,
    scopes: Vec<Scope>,
    /// What it wants back with the code, as it was written.
    state: Option<String>,
    action: String,
    explanation: [String; 2],
}

impl Request {
    fn read(state: &ApiState, query: Option<&str>) -> ApiResult<Self> {
        let query = query.filter(|query| query.len() <= QUERY_BYTES_MAX).unwrap_or("");
        let value = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.split_once('=').filter(|(key, _value)| *key == name))
                .map(|(_key, value)| value)
        };
        let unknown = || ApiError::invalid("There is no such client: its owner sees the id with `heroku clients`.");
        let client = oauth_clients::find(state, value("client_id").unwrap_or(""))?.ok_or_else(unknown)?;
        if value("response_type") != Some("code") {
            return Err(ApiError::invalid("response_type must be code."));
        }
        let words = value("scope").map(|words| {
            let words = words.replace("%20", " ").replace("%2C", ",").replace("%2c", ",");
            words.split([' ', '+', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        });
        let scopes = authorizations::scopes(words)?;
        if scopes.iter().any(|scope| scope.is_for_one_app()) {
            return Err(ApiError::invalid("A client cannot ask for a token for one app."));
        }
        let owner = state.store.account(client.account)?.map_or_else(String::new, |owner| owner.email);
        let listed: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
        let explanation = [
            format!("{} (made by {owner}) wants to speak for you, with the scope {}.", client.name, listed.join(", ")),
            format!("If you agree, it is told so at {}. `heroku authorizations` ends it.", client.redirect_uri),
        ];
        Ok(Self {
            client,
            scopes,
            state: value("state").map(str::to_owned),
            action: format!("{ROUTE}?{query}"),
            explanation,
        })
    }

    fn page(&self) -> LoginPage<'_> {
        LoginPage {
            action: &self.action,
            title: "Let a program speak for you",
            explanation: &self.explanation,
            button: "Agree",
            leads_to: origin_of(&self.client.redirect_uri),
        }
    }
}

pub(crate) async fn show(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    match Request::read(&state, query.as_deref()) {
        Ok(request) => request.page().show(&state, &origin),
        Err(error) => told(error.status, "This cannot be agreed to", &error.message),
    }
}

pub(crate) async fn agree(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> ApiResult<Response> {
    let request = match Request::read(&state, query.as_deref()) {
        Ok(request) => request,
        Err(error) => return told(error.status, "This cannot be agreed to", &error.message),
    };
    let actor = match request.page().entered(&state, &origin, &peer, &headers, &form).await? {
        Ok(actor) if actor.scopes.contains(&Scope::Global) => actor,
        Ok(_invited) => {
            return told(StatusCode::FORBIDDEN, "Log in first", "Exchange your invitation with `heroku login`.");
        }
        Err(again) => return Ok(again),
    };
    let now = state.now();
    let Request { client, scopes, .. } = request;
    let grant = Grant {
        account: actor.id(),
        client: client.id,
        scopes,
        description: client.name,
        token: TokenId::random(),
        until: now.checked_add(grants::VALID).unwrap_or(now),
    };
    let code = state.grants.add(grant, now)?;
    let separator = if client.redirect_uri.contains('?') { '&' } else { '?' };
    let given_back = request.state.map(|state| format!("&state={state}")).unwrap_or_default();
    let location = format!("{}{separator}code={}{given_back}", client.redirect_uri, code.expose());
    let location =
        HeaderValue::from_str(&location).map_err(|_unprintable| ApiError::invalid("state cannot be given back."))?;
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// Scheme and authority of a URL.
fn origin_of(url: &str) -> Option<&str> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?.as_str();
    url.get(..url.find(authority)? + authority.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_may_lead_to_the_clients_own_origin() {
        assert_eq!(origin_of("https://x.example:8443/cb?a=1"), Some("https://x.example:8443"));
        assert_eq!(origin_of("http://localhost"), Some("http://localhost"));
    }
}
