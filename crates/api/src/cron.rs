//! Jobs on a schedule: add, list, pause, remove, ask for a run, see what runs did.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::display_chain::display_chain;
use domain::dyno_size;
use domain::id::{AppId, ReleaseId};
use http::StatusCode;
use store::app::App;
use store::cron::{CronJob, CronRun, NewJob, RUNS_KEPT};
use wire::cron::JobTextError;
use wire::platform_api::cron as ours;

use crate::auth::Actor;
use crate::dynos::runnable_release;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::formation::unknown_size;
use crate::origin::Origin;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Vec<ours::Job>>> {
    let versions = versions(&state, app.id)?;
    let jobs = state.store.cron_jobs(app.id)?;
    Ok(Json(jobs.iter().map(|job| shown(&state, job, &versions)).collect::<ApiResult<_>>()?))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<Json<ours::Job>> {
    Ok(Json(shown(&state, &find(&state, &app, &name)?, &versions(&state, app.id)?)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<ours::JobCreate>,
) -> ApiResult<(StatusCode, Json<ours::Job>)> {
    let mut definition = body.job.definition().map_err(|error| refused(&error))?;
    let wanted = definition.size.clone();
    let size = dyno_size::find(&state.config.sizes, &wanted).ok_or_else(|| unknown_size(&state, &wanted))?;
    definition.size.clone_from(&size.name);
    let now = state.now();
    let schedule = wire::cron::schedule(&definition.schedule, &definition.zone).map_err(|error| refused(&error))?;
    let new = NewJob { next_at: schedule.next_after(now), definition };
    let job = state.store.create_cron_job(app.id, new, body.job.name.is_some(), body.paused, now).await?;
    log(&state, &app, &actor, "Add", &job);
    Ok((StatusCode::CREATED, Json(shown(&state, &job, &HashMap::new())?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
    Body(body): Body<ours::JobUpdate>,
) -> ApiResult<Json<ours::Job>> {
    let job = find(&state, &app, &name)?;
    let now = state.now();
    let schedule = wire::cron::schedule(&job.definition.schedule, &job.definition.zone);
    let next_at = schedule.map_err(|error| refused(&error))?.next_after(now);
    state.store.pause_cron_job(job.id, body.paused, next_at, now).await?;
    if job.paused != body.paused {
        log(&state, &app, &actor, if body.paused { "Pause" } else { "Resume" }, &job);
    }
    Ok(Json(shown(&state, &find(&state, &app, &name)?, &versions(&state, app.id)?)?))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<Json<ours::Job>> {
    let job = find(&state, &app, &name)?;
    if job.from_app_json {
        return Err(ApiError::invalid(format!(
            "{name} comes from app.json: remove it there and deploy, or pause it with `berth cron:pause {name}`."
        )));
    }
    let removed = shown(&state, &job, &versions(&state, app.id)?)?;
    state.store.remove_cron_job(job.id).await?;
    log(&state, &app, &actor, "Remove", &job);
    Ok(Json(removed))
}

pub(crate) async fn runs(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<Json<Vec<ours::Run>>> {
    let job = find(&state, &app, &name)?;
    let versions = versions(&state, app.id)?;
    let runs = state.store.cron_runs(job.id, RUNS_KEPT)?;
    Ok(Json(runs.iter().map(|run| shown_run(&job, run, &versions)).collect()))
}

/// Asks for a run. It starts at once, or when the one that runs has ended.
pub(crate) async fn start(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<ours::Run>)> {
    let job = find(&state, &app, &name)?;
    runnable_release(&state, &app)?;
    let run = state.store.request_cron_run(job.id, state.now()).await?;
    log(&state, &app, &actor, "Run", &job);
    Ok((StatusCode::CREATED, Json(one_run(&state, &origin, &job, &run, &versions(&state, app.id)?))))
}

pub(crate) async fn run(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, name, number)): Path<(String, String, u32)>,
) -> ApiResult<Json<ours::Run>> {
    let job = find(&state, &app, &name)?;
    let run = state.store.cron_run(job.id, number)?.ok_or_else(|| ApiError::not_found("run"))?;
    Ok(Json(one_run(&state, &origin, &job, &run, &versions(&state, app.id)?)))
}

fn find(state: &ApiState, app: &App, name: &str) -> ApiResult<CronJob> {
    let jobs = state.store.cron_jobs(app.id)?;
    let found = jobs.into_iter().find(|job| job.definition.name.as_str() == name || job.id.to_string() == name);
    found.ok_or_else(|| ApiError::not_found("job"))
}

fn refused(error: &JobTextError) -> ApiError {
    let mut text = display_chain(error);
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    ApiError::invalid(format!("{text}."))
}

fn log(state: &ApiState, app: &App, actor: &Actor, verb: &str, job: &CronJob) {
    state.log_api(app.id, &format!("{verb} job {} by user {}", job.definition.name, actor.account.email));
}

fn versions(state: &ApiState, app: AppId) -> ApiResult<HashMap<ReleaseId, u64>> {
    Ok(state.store.releases(app)?.into_iter().map(|release| (release.id, release.version)).collect())
}

fn shown(state: &ApiState, job: &CronJob, versions: &HashMap<ReleaseId, u64>) -> ApiResult<ours::Job> {
    let definition = &job.definition;
    let last = state.store.cron_runs(job.id, 1)?;
    Ok(ours::Job {
        id: job.id.uuid(),
        name: definition.name.to_string(),
        schedule: definition.schedule.clone(),
        zone: definition.zone.clone(),
        command: definition.command.clone(),
        size: definition.size.clone(),
        overlap: definition.policy.overlap.as_str().to_owned(),
        catch_up: definition.policy.catch_up.as_str().to_owned(),
        deadline_seconds: definition.policy.deadline_s,
        retries: definition.policy.retries,
        retry_delay_seconds: definition.policy.retry_delay_s,
        origin: if job.from_app_json { "app.json" } else { "hand" }.to_owned(),
        paused: job.paused,
        next_run_at: job.next_at.filter(|_next| !job.paused).map(present::time),
        last_run: last.first().map(|run| shown_run(job, run, versions)),
        created_at: present::time(job.created_at),
        updated_at: present::time(job.updated_at),
    })
}

fn shown_run(job: &CronJob, run: &CronRun, versions: &HashMap<ReleaseId, u64>) -> ours::Run {
    let duration = run.started_at.zip(run.ended_at).map(|(started, ended)| ended.duration_since(started));
    ours::Run {
        job: job.definition.name.to_string(),
        number: run.number,
        due_at: present::time(run.key.tick),
        attempt: run.key.attempt,
        trigger: run.trigger.as_str().to_owned(),
        state: run.state.as_str().to_owned(),
        dyno: run.dyno_name.clone(),
        release_version: run.release.and_then(|release| versions.get(&release).copied()),
        started_at: run.started_at.map(present::time),
        ended_at: run.ended_at.map(present::time),
        duration_seconds: duration.map(|duration| duration.as_secs().max(0).unsigned_abs()),
        exit_status: run.exit_status,
        reason: run.reason.clone(),
        output_stream_url: None,
    }
}

fn one_run(
    state: &ApiState,
    origin: &Origin,
    job: &CronJob,
    run: &CronRun,
    versions: &HashMap<ReleaseId, u64>,
) -> ours::Run {
    let url = run.dyno.map(|dyno| present::output_url(state, origin, dyno.uuid()));
    ours::Run { output_stream_url: url, ..shown_run(job, run, versions) }
}
