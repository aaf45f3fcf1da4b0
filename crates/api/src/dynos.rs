//! Dynos: list, one-offs, restart, stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::attach::{Attach, TerminalSize};
use domain::config::ConfigVars;
use domain::dyno::{DynoKind, DynoState};
use domain::dyno_size::{self, DEFAULT_SIZE_NAME};
use domain::name::{ConfigKey, ProcessType};
use domain::rollout::DynoRequest;
use domain::secret::Secret;
use http::StatusCode;
use serde_json::{Value, json};
use store::app::App;
use store::dyno::{Dyno, DynoSelection, NewDyno};
use store::release::Release;
use uuid::Uuid;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::formation::unknown_size;
use crate::ground::Holder;
use crate::origin::Origin;
use crate::present;
use crate::rendezvous;
use crate::state::ApiState;

/// Longest command line of a one-off, in bytes: `execve` takes 128 KiB per argument.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Longest time that a one-off may ask for (Heroku's).
const TIME_TO_LIVE_S_MAX: u32 = 24 * 60 * 60;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<heroku::Dyno>>> {
    let releases = state.store.releases(app.id)?;
    let dynos = state.store.dynos(app.id)?;
    let shown = dynos.iter().filter(|dyno| is_listed(dyno)).map(|dyno| present::dyno(&app, dyno, &releases));
    Ok(Json(shown.collect()))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Dyno>> {
    let releases = state.store.releases(app.id)?;
    let dynos = state.store.dynos(app.id)?;
    let found = dynos.iter().find(|dyno| dyno.name.to_string() == name || dyno.id.to_string() == name);
    found.map(|dyno| Json(present::dyno(&app, dyno, &releases))).ok_or_else(|| ApiError::not_found("dyno"))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<heroku::DynoCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Dyno>)> {
    let release = runnable_release(&state, &app)?;
    let dyno = start_one_off(&state, &actor, &app, &release, &body).await?;
    let mut shown = present::dyno(&app, &dyno, &[release]);
    shown.attach_url = dyno.attach.map(|_attach| rendezvous::url(&state, &origin, dyno.id, Holder::of(&actor)));
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Requests a one-off dyno of a release.
pub(crate) async fn start_one_off(
    state: &ApiState,
    actor: &Actor,
    app: &App,
    release: &Release,
    body: &heroku::DynoCreate,
) -> ApiResult<Dyno> {
    let command = body.command.trim();
    if command.is_empty() {
        return Err(ApiError::invalid("The command is missing, for example `bash -c date`."));
    }
    if command.len() > COMMAND_BYTES_MAX {
        return Err(ApiError::invalid(format!("The command is longer than {COMMAND_BYTES_MAX} bytes.")));
    }
    let wanted = body.size.as_deref().unwrap_or(DEFAULT_SIZE_NAME);
    let size = dyno_size::find(&state.config.sizes, wanted).ok_or_else(|| unknown_size(state, wanted))?;
    let process_type = ProcessType::parse(body.process_type.as_deref().unwrap_or("run"))
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let new = NewDyno {
        app: app.id,
        kind: DynoKind::OneOff,
        name: present::one_off_name(&process_type, Uuid::new_v4()),
        release: Some(release.id),
        build: None,
        size: size.name.clone(),
        command: command.to_owned(),
        env: one_off_env(&body.env)?,
        crashes: 0,
        attach: attach(body),
        time_to_live_s: time_to_live(body.time_to_live)?,
    };
    let dyno = state.store.create_dyno(new, state.now()).await?;
    state.log_api(app.id, &format!("Starting process with command `{command}` by user {}", actor.account.email));
    Ok(dyno)
}

/// The standard streams that the client asked for. The size of its terminal comes with the environment.
fn attach(body: &heroku::DynoCreate) -> Option<Attach> {
    if body.attach != Some(true) {
        return None;
    }
    if body.force_no_tty == Some(true) {
        return Some(Attach::Pipes);
    }
    let cells = |name: &str| {
        let value = body.env.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    Some(Attach::Terminal(TerminalSize::from_given(cells("LINES"), cells("COLUMNS"))))
}

fn time_to_live(seconds: Option<u64>) -> ApiResult<Option<u32>> {
    let Some(seconds) = seconds else { return Ok(None) };
    let valid = u32::try_from(seconds).ok().filter(|seconds| (1..=TIME_TO_LIVE_S_MAX).contains(seconds));
    let refused = || ApiError::invalid(format!("time_to_live must be from 1 to {TIME_TO_LIVE_S_MAX} seconds."));
    valid.map(Some).ok_or_else(refused)
}

/// Values arrive as text, numbers or booleans (`COLUMNS` is a number).
fn one_off_env(env: &std::collections::BTreeMap<String, Value>) -> ApiResult<ConfigVars> {
    let mut vars = ConfigVars::new();
    for (key, value) in env {
        let key = ConfigKey::parse(key).map_err(|error| ApiError::invalid(error.to_string()))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(ApiError::invalid(format!("The value of {key} must be text.")));
            }
        };
        if text.contains('\0') {
            return Err(ApiError::invalid(format!("The value of {key} contains a NUL byte.")));
        }
        vars.insert(key, Secret::new(text));
    }
    Ok(vars)
}

/// The release that one-offs run: the one that serves.
pub(crate) fn runnable_release(state: &ApiState, app: &App) -> ApiResult<Release> {
    let live = state.store.live_releases(app.id)?;
    let serving = live.iter().find(|release| release.state == domain::release::ReleaseState::Serving);
    let runnable = serving.filter(|release| present::is_runnable(release));
    runnable.cloned().ok_or_else(|| {
        ApiError::invalid("The app has no release with code that serves yet. Deploy first, or name one with --release.")
    })
}

pub(crate) async fn restart_all(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<(StatusCode, Json<Value>)> {
    state.store.request_dynos(app.id, DynoSelection::Formation, DynoRequest::Restart).await?;
    Ok(accepted())
}

pub(crate) async fn restart_one(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    request(&state, &app, DynoSelection::One(name), DynoRequest::Restart, "dyno").await
}

pub(crate) async fn restart_type(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    request(&state, &app, DynoSelection::ProcessType(process_type(&kind)?), DynoRequest::Restart, "process type").await
}

pub(crate) async fn stop_one(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    request(&state, &app, DynoSelection::One(name), DynoRequest::Stop, "dyno").await
}

pub(crate) async fn stop_type(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    request(&state, &app, DynoSelection::ProcessType(process_type(&kind)?), DynoRequest::Stop, "process type").await
}

async fn request(
    state: &ApiState,
    app: &App,
    which: DynoSelection,
    request: DynoRequest,
    resource: &'static str,
) -> ApiResult<(StatusCode, Json<Value>)> {
    match state.store.request_dynos(app.id, which, request).await? {
        0 => Err(ApiError::not_found(resource)),
        _some => Ok(accepted()),
    }
}

fn process_type(text: &str) -> ApiResult<ProcessType> {
    ProcessType::parse(text).map_err(|_error| ApiError::not_found("process type"))
}

/// Heroku answers 202 with an empty object.
fn accepted() -> (StatusCode, Json<Value>) {
    (StatusCode::ACCEPTED, Json(json!({})))
}

/// `ps` shows the formation and one-offs; dynos on their way out and builds are the platform's business.
fn is_listed(dyno: &Dyno) -> bool {
    let kind = matches!(dyno.kind, DynoKind::Formation | DynoKind::OneOff);
    kind && !matches!(dyno.state, DynoState::Draining | DynoState::Stopping | DynoState::Exited)
}
