//! Sessions in dynos that run: `ps:exec`, `ps:copy`, `ps:forward`, `ps:socks`, of Heroku's client and of our own.
//!
//! ```text
//!  client                                              this server
//!    PUT …/dynos/web.1/exec, a public key of its own ──► judged by the policy, audited; a name for that key
//!    SSH on the API port, with that name and key ──────► a visit to the dyno's sandbox for each channel
//! ```
//!
//! Our own client needs neither SSH nor a key: it begins with `POST …/visits`, judged and audited alike, and opens a
//! WebSocket for each visit (`visit`).
//!
//! Compat: the `heroku` client asks paths of a host of its own, where its credentials name the app (`lead`), and
//! speaks SSH to port 80 of the host that it is told.

mod channel;
mod credentials;
mod input_queue;
mod place;
mod ssh;
pub(crate) mod visit;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::access::Permission;
use domain::attach::TerminalSize;
use domain::dyno::DynoState;
use domain::ssh_key::SshKey;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};
use store::app::App;
use store::dyno::Dyno;
use wire::platform_api::exec::{ExecKey, ExecRequest, ExecReservation, ExecSession};
use wire::shim::{Environment, Terminal, Visit};

use crate::auth::{Actor, token_of};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::ground::{Ground, Holder};
use crate::origin::Origin;
use crate::state::ApiState;

pub use ssh::Exec;
pub(crate) use ssh::{FIRST_BYTE, serve};

use credentials::{Bearer, Session};

/// Where [`lead`] leads, and so where a key that was introduced is good.
const ROUTES: [&str; 2] = ["/berth/apps/{app}/exec", "/berth/apps/{app}/dynos/{dyno}/exec"];

/// Compat: the paths of Heroku's exec manager.
const MANAGER: &str = "/api/v2";

/// What a key that stands for a token begins with: no token does.
const INTRODUCED_PREFIX: &str = "local-";
const INTRODUCED_BYTES_MIN: usize = 40;
const HOST_BYTES_MAX: usize = 253;

/// The host that the bearer of an introduced key is told.
#[derive(Debug, Clone)]
pub(crate) struct TunnelHost(String);

/// Gives a request to Heroku's exec manager the path that it has here; every other one stays as it is.
pub(crate) fn lead<B>(request: &mut http::Request<B>) {
    let Some(rest) = request.uri().path().strip_prefix(MANAGER) else { return };
    let Some(app) = user_of(request.headers()) else { return };
    let path = match rest.strip_prefix('/').filter(|dyno| is_plain(dyno)) {
        Some(dyno) => format!("/berth/apps/{app}/dynos/{dyno}/exec"),
        None if matches!(rest, "" | "/") => format!("/berth/apps/{app}/exec"),
        None => return,
    };
    if let Ok(uri) = Uri::try_from(path) {
        *request.uri_mut() = uri;
    }
}

/// The name in `Basic` credentials, if it can be a part of a path.
fn user_of(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()).ok())??;
    let (user, _password) = String::from_utf8(decoded).ok()?.split_once(':').map(|(a, b)| (a.to_owned(), b.len()))?;
    is_plain(&user).then_some(user)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && !text.starts_with('.')
}

/// Who stands behind a key that was introduced, on the routes where that counts.
pub(crate) fn introduced(state: &ApiState, parts: &mut Parts, route: &str) -> Option<Actor> {
    let token = ROUTES.contains(&route).then(|| token_of(&parts.headers)).flatten()?;
    let Bearer { actor, tunnel_host } = state.exec.credentials.bearer(&token, state.now())?;
    // What it rests on may have ended since.
    let account = Holder::of(&actor).check(state).ok()?;
    let actor = Actor { account, ..actor };
    parts.extensions.insert(TunnelHost(tunnel_host));
    Some(actor)
}

/// Takes a key that stands for the asker's token for a minute: our forwarder cannot look into the TLS of its client, and
/// its client never has the token.
pub(crate) async fn introduce(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<ExecKey>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let key = body.key.expose();
    if !key.starts_with(INTRODUCED_PREFIX) || key.len() < INTRODUCED_BYTES_MIN {
        return Err(ApiError::invalid(format!(
            "The key must begin with {INTRODUCED_PREFIX:?} and have at least {INTRODUCED_BYTES_MIN} bytes."
        )));
    }
    if !is_plain(&body.tunnel_host) || body.tunnel_host.len() > HOST_BYTES_MAX {
        return Err(ApiError::invalid("tunnel_host must be a host name."));
    }
    state.exec.credentials.introduce(&body.key, Bearer { actor, tunnel_host: body.tunnel_host }, state.now());
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

/// The dynos that can be come to.
pub(crate) async fn reservations(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<ExecReservation>>> {
    let dynos = state.store.dynos(app.id)?;
    let names = dynos.iter().filter(|dyno| is_open(dyno)).map(|dyno| dyno.name.to_string());
    Ok(Json(names.map(|dyno_name| ExecReservation { dyno_name }).collect()))
}

/// Opens a dyno to the bearer of a key.
pub(crate) async fn open(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
    tunnel_host: Option<axum::Extension<TunnelHost>>,
    Body(body): Body<ExecRequest>,
) -> ApiResult<Json<ExecSession>> {
    let key = SshKey::parse(&body.client_key).map_err(|error| ApiError::invalid(error.to_string()))?;
    let (client_user, _dyno) = begin(&state, &actor, &app, &name, Some(key.base64))?;
    Ok(Json(ExecSession {
        tunnel_host: tunnel_host.map_or_else(|| origin.host().to_owned(), |axum::Extension(TunnelHost(host))| host),
        client_user,
        proxy_public_key: state.exec.public_key(),
        dyno_ip: "localhost".to_owned(),
    }))
}

/// Gives the name of a session that has begun.
fn begin(state: &ApiState, actor: &Actor, app: &App, name: &str, key: Option<String>) -> ApiResult<(String, Dyno)> {
    let dyno = find(state, app, name)?;
    state.log_api(app.id, &format!("Opening {} to a session of user {}", dyno.name, actor.account.email));
    let ground = Ground::of(actor, app.id, Permission::Operate);
    let session = Session { ground, dyno: dyno.id, key };
    Ok((state.exec.credentials.open(session, state.now()), dyno))
}

fn find(state: &ApiState, app: &App, name: &str) -> ApiResult<Dyno> {
    let dynos = state.store.dynos(app.id)?;
    let mut named = dynos.into_iter().filter(|dyno| dyno.name.to_string() == name || dyno.id.to_string() == name);
    // While a dyno is replaced, two have its name.
    let dyno = named.find(is_open);
    dyno.ok_or_else(|| {
        let message =
            format!("No dyno {name} of {} runs. `berth ps:exec --status` lists those that can be come to.", app.name);
        ApiError { message, ..ApiError::not_found("dyno") }
    })
}

/// A line of the shell, or the shell itself.
fn command(state: &ApiState, line: Option<&str>, term: Option<String>, terminal: Option<Terminal>) -> Visit {
    let environment: Environment = term.map(|term| ("TERM".to_owned(), term)).into_iter().collect();
    let command = match line {
        Some(line) => state.platform.shell_command(line),
        None => {
            let shell = state.platform.shell_command("").into_iter().next();
            state.platform.shell_command(&format!("exec {}", shell.as_deref().unwrap_or("sh")))
        }
    };
    Visit::Command { command, environment, terminal }
}

/// A terminal of a size that a client gave.
fn terminal(rows: u64, columns: u64) -> Terminal {
    let size = TerminalSize::from_given(Some(rows), Some(columns));
    Terminal { rows: size.rows, columns: size.columns }
}

/// A process of the app's that has begun; a build is not the app's.
fn is_open(dyno: &Dyno) -> bool {
    use domain::dyno::DynoKind;
    let kind = matches!(dyno.kind, DynoKind::Formation | DynoKind::OneOff | DynoKind::ReleasePhase);
    kind && matches!(dyno.state, DynoState::Starting | DynoState::Up)
}

/// Refuses to let anybody in who may no longer: a session can be much younger than what it rests on.
fn still_open(state: &ApiState, session: &Session) -> ApiResult<Dyno> {
    session.ground.check(state)?;
    state.store.dyno(session.dyno)?.filter(is_open).ok_or_else(|| ApiError::not_found("dyno"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, user: Option<&str>, expect: &str) {
        let mut request = http::Request::builder().uri(path);
        if let Some(user) = user {
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:secret"))));
        }
        let mut request = request.body(()).unwrap();
        lead(&mut request);
        assert_eq!(request.uri().path(), expect, "{path} {user:?}");
    }

    #[test]
    fn the_paths_of_the_exec_manager_lead_to_the_app_of_its_credentials() {
        check("/api/v2", Some("shop"), "/berth/apps/shop/exec");
        check("/api/v2/", Some("shop"), "/berth/apps/shop/exec");
        check("/api/v2/web.1", Some("shop"), "/berth/apps/shop/dynos/web.1/exec");
        for (path, user) in [
            ("/api/v2/web.1", None),
            ("/api/v2/web.1", Some("../other")),
            ("/api/v2/..", Some("shop")),
            ("/api/v2/a/b", Some("shop")),
            ("/api/v22", Some("shop")),
            ("/apps/shop", Some("shop")),
        ] {
            check(path, user, path);
        }
    }
}
