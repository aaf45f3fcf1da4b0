//! Routes under `/berth/…`: what Heroku's API has no words for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::id::{AppId, DynoId};
use http::StatusCode;
use wire::platform_api as heroku;
use wire::platform_api::berth as ours;

use crate::auth::Actor;
use crate::builds::{find_build, start_build};
use crate::dynos::{runnable_release, start_one_off};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::protection;
use crate::releases::find_release;
use crate::state::ApiState;

pub(crate) async fn status(State(state): State<Arc<ApiState>>) -> ApiResult<Json<ours::Status>> {
    let config = &state.config;
    let apps = state.store.apps()?.iter().filter(|app| app.destroyed_at.is_none()).count();
    let dynos = state.store.all_dynos()?.iter().filter(|dyno| dyno.state.is_alive()).count();
    Ok(Json(ours::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: config.instance.clone(),
        mode: if config.full_isolation { "full" } else { "development" }.to_owned(),
        reduced: config.reduced.clone(),
        in_force: state.platform.in_force(),
        data_dir: config.data_dir.display().to_string(),
        domain: config.domain.clone(),
        http_port: config.http_port,
        api_url: config.public_url.clone(),
        api_certificate_until: state.platform.certificate_until(state.now()).map(present::time),
        api_certificate_failure: state.store.platform_certificate_failure()?.filter(|_text| config.acme_terms_agreed),
        apps: apps as u64,
        dynos: dynos as u64,
        router: state.platform.router_health(),
        disk_free_bytes: free_bytes(&config.data_dir),
    }))
}

fn free_bytes(path: &std::path::Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
}

pub(crate) async fn garbage(State(state): State<Arc<ApiState>>) -> ApiResult<Json<ours::GarbageReport>> {
    collect(state, false).await
}

pub(crate) async fn collect_garbage(State(state): State<Arc<ApiState>>) -> ApiResult<Json<ours::GarbageReport>> {
    collect(state, true).await
}

async fn collect(state: Arc<ApiState>, delete: bool) -> ApiResult<Json<ours::GarbageReport>> {
    // Walks and deletes files: not on the async threads.
    let report = tokio::task::spawn_blocking(move || state.platform.garbage(delete)).await;
    let report = report.map_err(|error| ApiError::internal("garbage collection ended early", &error))?;
    report.map(Json).map_err(|error| ApiError::internal("cannot collect garbage", &error))
}

/// Entries that are shown at once.
const AUDIT_ENTRIES_MAX: u32 = 1000;

pub(crate) async fn audit(State(state): State<Arc<ApiState>>) -> ApiResult<Json<Vec<ours::AuditEntry>>> {
    shown_audit(&state, None)
}

pub(crate) async fn audit_of_app(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<ours::AuditEntry>>> {
    shown_audit(&state, Some(app.id))
}

fn shown_audit(state: &ApiState, app: Option<AppId>) -> ApiResult<Json<Vec<ours::AuditEntry>>> {
    let entries = state.store.audit(app, AUDIT_ENTRIES_MAX)?.into_iter();
    let shown = entries.map(|entry| {
        Ok(ours::AuditEntry {
            at: entry.at.to_string(),
            account: entry.account.uuid(),
            email: present::user(state, entry.account)?.email,
            action: entry.action,
            target: entry.target,
            origin: entry.origin,
        })
    });
    Ok(Json(shown.collect::<ApiResult<_>>()?))
}

pub(crate) async fn create_build(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<ours::HeldBuildCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Build>)> {
    let build = start_build(&state, &actor, &app, body.build, body.hold).await?;
    Ok((StatusCode::CREATED, Json(present::build(&state, &origin, &build)?)))
}

pub(crate) async fn build(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, build)): Path<(String, String)>,
) -> ApiResult<Json<ours::BuildProgress>> {
    let build = find_build(&state, app.id, &build)?;
    let release = build.release.map(|id| state.store.release(id)).transpose()?.flatten();
    Ok(Json(ours::BuildProgress {
        id: build.id.uuid(),
        status: build.status.as_str().to_owned(),
        failure: build.failure,
        release: build.release.map(domain::id::ReleaseId::uuid),
        release_version: release.map(|release| release.version),
    }))
}

pub(crate) async fn release(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, release)): Path<(String, String)>,
) -> ApiResult<Json<ours::ReleaseProgress>> {
    let release = find_release(&state, app.id, &release)?;
    Ok(Json(progress(&release)))
}

pub(crate) async fn resume_release(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, release)): Path<(String, String)>,
) -> ApiResult<Json<ours::ReleaseProgress>> {
    protection::check(&state, &actor, &app)?;
    let release = find_release(&state, app.id, &release)?;
    Ok(Json(progress(&state.store.resume_release(release.id, state.now()).await?)))
}

pub(crate) async fn create_run(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<ours::RunCreate>,
) -> ApiResult<(StatusCode, Json<ours::Run>)> {
    let release = match &body.release {
        None => runnable_release(&state, &app)?,
        Some(name) => find_release(&state, app.id, name)?,
    };
    if !present::is_runnable(&release) {
        return Err(ApiError::invalid(format!("v{} has no code to run.", release.version)));
    }
    let dyno = start_one_off(&state, &actor, &app, &release, &body.dyno).await?;
    let output_stream_url = present::output_url(&state, &origin, dyno.id.uuid());
    Ok((StatusCode::CREATED, Json(ours::Run { dyno: present::dyno(&app, &dyno, &[release]), output_stream_url })))
}

pub(crate) async fn run(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, dyno)): Path<(String, String)>,
) -> ApiResult<Json<ours::RunResult>> {
    let missing = || ApiError::not_found("dyno");
    let id = DynoId::parse(&dyno).ok_or_else(missing)?;
    let dyno = state.store.dyno(id)?.filter(|dyno| dyno.app == app.id).ok_or_else(missing)?;
    Ok(Json(ours::RunResult {
        id: dyno.id.uuid(),
        name: dyno.name.to_string(),
        state: dyno.state.as_str().to_owned(),
        exit_status: dyno.exit_status,
        exit_reason: dyno.exit_reason,
    }))
}

fn progress(release: &store::release::Release) -> ours::ReleaseProgress {
    ours::ReleaseProgress {
        id: release.id.uuid(),
        version: release.version,
        state: release.state.as_str().to_owned(),
        failure: release.failure.clone(),
    }
}
