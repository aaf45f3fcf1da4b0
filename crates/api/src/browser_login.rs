//! `heroku login` by browser: the client asks for a login, shows a page of ours, and waits for what comes of it.
//!
//! ```text
//!  client ── POST /auth ─────────────► an attempt: a page for the browser, a path and a key for the client
//!  client ── GET /auth/cli/:id ──────► waits
//!  browser ─ GET, POST /auth/browser ► who is it? ──► the client's answer: a token
//! ```
//!
//! Attempts are in memory: a restart of the server ends those that are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Form, Json};
use domain::access::Scope;
use domain::id::TokenId;
use domain::secret::Secret;
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use store::account::{NewToken, random_hex};
use store::audit::AuditEntry;
use tokio::sync::watch;
use uuid::Uuid;
use wire::platform_api::oauth::{BrowserLogin, BrowserLoginCreate};

use crate::auth::{Actor, bearer};
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::login_page::{LoginForm, LoginPage, told};
use crate::origin::Origin;
use crate::peer::Peer;
use crate::state::ApiState;

/// How long somebody may take (the client's own patience).
const ATTEMPT_VALID: SignedDuration = SignedDuration::from_mins(10);

/// Attempts that wait at once.
const ATTEMPTS_MAX: usize = 1000;

/// How long the token of a login is good, as that of `login -i`.
const SESSION_VALID: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A blank this often keeps the client's connection from being taken for dead; it may begin a JSON text.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 200;

#[derive(Debug)]
struct Attempt {
    description: String,
    /// Where the client is.
    from: String,
    /// The hash of what the client shows.
    key: Vec<u8>,
    until: Timestamp,
    /// The token, once somebody has logged in.
    outcome: watch::Sender<Option<Secret<String>>>,
}

/// Attempts under way.
#[derive(Debug, Default)]
pub struct BrowserLogins(Mutex<HashMap<Uuid, Attempt>>);

impl BrowserLogins {
    fn with<T>(&self, id: &str, now: Timestamp, look: impl FnOnce(&Attempt) -> T) -> ApiResult<T> {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Uuid::parse_str(id).ok().and_then(|id| attempts.get(&id)).filter(|attempt| attempt.until > now);
        found.map(look).ok_or_else(|| ApiError::not_found("login"))
    }

    fn add(&self, id: Uuid, attempt: Attempt, now: Timestamp) -> ApiResult<()> {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.retain(|_id, attempt| attempt.until > now);
        if attempts.len() >= ATTEMPTS_MAX {
            return Err(ApiError::rate_limited("Too many logins are under way: try again in a few minutes."));
        }
        attempts.insert(id, attempt);
        Ok(())
    }
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<BrowserLoginCreate>,
) -> ApiResult<(StatusCode, Json<BrowserLogin>)> {
    let description: String = body
        .description
        .unwrap_or_else(|| "login by browser".to_owned())
        .chars()
        .filter(|character| !character.is_control())
        .take(DESCRIPTION_MAX)
        .collect();
    let (id, key, now) = (Uuid::new_v4(), random_hex()?, state.now());
    let until = now.checked_add(ATTEMPT_VALID).unwrap_or(now);
    let outcome = watch::Sender::new(None);
    let attempt = Attempt { description, from: place(&peer), key: hash(&key), until, outcome };
    state.browser_logins.add(id, attempt, now)?;
    let login = BrowserLogin {
        browser_url: format!("/auth/browser/{id}"),
        cli_url: format!("/auth/cli/{id}"),
        token: Secret::new(key),
    };
    Ok((StatusCode::CREATED, Json(login)))
}

/// Answers once the browser is done: `{"access_token": …}` or `{"error": …}`.
pub(crate) async fn wait(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let now = state.now();
    let key = bearer(&headers).map(|key| hash(key.expose())).ok_or_else(ApiError::unauthorized)?;
    let (is_its, until, outcome) = state
        .browser_logins
        .with(&id, now, |attempt| (attempt.key == key, attempt.until, attempt.outcome.subscribe()))?;
    if !is_its {
        return Err(ApiError::unauthorized());
    }
    let patience = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    let deadline = tokio::time::Instant::now() + patience;
    let answer = stream::unfold(Some(outcome), move |waiting| async move {
        let mut outcome = waiting?;
        let pause = tokio::time::Instant::now() + KEEP_ALIVE;
        let came = tokio::time::timeout_at(pause.min(deadline), outcome.wait_for(Option::is_some)).await;
        // A closed one is an attempt that is over.
        let came = came.map(|found| found.ok().and_then(|found| found.clone()));
        let found = match came {
            Ok(found) => found,
            Err(_elapsed) if tokio::time::Instant::now() < deadline => {
                return Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b" ")), Some(outcome)));
            }
            Err(_elapsed) => None,
        };
        let answer = match found {
            Some(token) => json!({"access_token": token.expose()}),
            None => json!({"error": "Nobody logged in for ten minutes. Try again."}),
        };
        Some((Ok(Bytes::from(answer.to_string())), None))
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, headers, HttpBody::from_stream(answer)).into_response())
}

pub(crate) async fn show(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let Some((explanation, action)) = page_of(&state, &id) else { return gone() };
    page(&explanation, &action).show(&state, &origin)
}

pub(crate) async fn log_in(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> ApiResult<Response> {
    let Some((explanation, action)) = page_of(&state, &id) else { return gone() };
    let entered = page(&explanation, &action).entered(&state, &origin, &peer, &headers, &form).await?;
    let actor = match entered {
        Ok(actor) => actor,
        Err(again) => return Ok(again),
    };
    let now = state.now();
    let (description, outcome) =
        state.browser_logins.with(&id, now, |attempt| (attempt.description.clone(), attempt.outcome.clone()))?;
    let (token, text) = begin_session(&state, &actor, &peer, description, &action).await?;
    let mut was_first = false;
    outcome.send_if_modified(|outcome| {
        was_first = outcome.is_none();
        if was_first {
            *outcome = Some(text);
        }
        was_first
    });
    if !was_first {
        // Somebody else was faster, and the client has that token.
        state.store.revoke_token(actor.id(), token, now).await?;
        return gone();
    }
    told(StatusCode::OK, "Logged in", "You can close this page and go back to your terminal.")
}

/// The token of a login; an invitation is used up by it.
async fn begin_session(
    state: &ApiState,
    actor: &Actor,
    peer: &Peer,
    description: String,
    path: &str,
) -> ApiResult<(TokenId, Secret<String>)> {
    let now = state.now();
    let new = NewToken {
        account: actor.id(),
        description,
        expires_at: now.checked_add(SESSION_VALID).ok(),
        scopes: vec![Scope::Global],
        app: None,
        session: true,
    };
    let (token, text) = state.store.create_token(new, now).await?;
    actor.use_invitation_up(state).await?;
    let entry = AuditEntry {
        at: now,
        account: actor.id(),
        action: "POST /auth/browser/{login}".to_owned(),
        target: path.to_owned(),
        app: None,
        origin: peer.to_string(),
    };
    state.store.record(entry).await?;
    Ok((token.id, text))
}

/// What the page of an attempt says and where its form goes; none if it is over.
fn page_of(state: &ApiState, id: &str) -> Option<([String; 2], String)> {
    let open = state.browser_logins.with(id, state.now(), |attempt| {
        let told = [
            format!("{} asks for it, from {}.", attempt.description, attempt.from),
            "If you have not just run `heroku login` yourself, close this page: whoever did would be logged in as you."
                .to_owned(),
        ];
        attempt.outcome.borrow().is_none().then_some(told)
    });
    open.ok().flatten().map(|told| (told, format!("/auth/browser/{id}")))
}

fn page<'a>(explanation: &'a [String], action: &'a str) -> LoginPage<'a> {
    LoginPage { action, title: "Log in to Berth", explanation, button: "Log in", leads_to: None }
}

fn gone() -> ApiResult<Response> {
    told(StatusCode::GONE, "This login is over", "Run `heroku login` again for a new one.")
}

fn place(peer: &Peer) -> String {
    match peer.address() {
        Some(address) if address.is_loopback() => "the server's own machine or a tunnel to it".to_owned(),
        Some(address) => address.to_string(),
        None => "the server's own machine".to_owned(),
    }
}

fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}
