//! Protected stages: who may deploy and when, locks with a reason. [`check`] stands before everything that brings code.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::id::AppId;
use domain::pipeline::Stage;
use domain::protection::{Denied, Lock, Protection, WINDOWS_MAX, Window};
use jiff::tz::TimeZone;
use store::app::App;
use store::pipeline::{Pipeline, PipelineCoupling};
use store::protection::{StageLock, StageProtection};
use wire::platform_api::environments as ours;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::pipelines;
use crate::present;
use crate::state::ApiState;

/// Longest reason of a lock, in characters.
const REASON_MAX: usize = 500;

/// Refuses if the app's stage does not take code from this actor now: 403 for who, 422 for when.
pub(crate) fn check(state: &ApiState, actor: &Actor, app: &App) -> ApiResult<()> {
    let Some(coupling) = pipelines::coupling_of(state, app.id)? else { return Ok(()) };
    let Some(row) = state.store.stage_protection(coupling.pipeline, coupling.stage)? else { return Ok(()) };
    let pipeline = pipelines::find(state, &coupling.pipeline.to_string())?;
    let zone = TimeZone::get(&row.zone).unwrap_or(TimeZone::UTC);
    // A window that cannot be read must not open the stage.
    let windows: Result<Vec<Window>, _> = row.windows.iter().map(|text| Window::parse(text)).collect();
    let protection = Protection {
        deployers: row.deployers.clone(),
        windows: windows.map_err(|error| ApiError::internal("a stored deploy window cannot be read", &error))?,
        lock: row.lock.as_ref().map(|lock| Lock { by: lock.by.clone(), reason: lock.reason.clone() }),
    };
    let Err(denied) = protection.permit(&actor.account.email, state.now(), &zone) else { return Ok(()) };
    let place = format!("{} of the pipeline {}", coupling.stage.as_str(), pipeline.name);
    let text = format!("{} takes no code now: {place} is protected, {denied}.", app.name);
    Err(match denied {
        Denied::NotADeployer(_) => ApiError::forbidden(text),
        Denied::Closed(_) => ApiError::invalid(text),
        Denied::Locked { .. } => ApiError::invalid(format!(
            "{text} `berth pipelines:unlock {} --stage {}` takes the lock off.",
            pipeline.name,
            coupling.stage.as_str()
        )),
    })
}

/// Refuses to take an app out of a protected stage to all but the pipeline's owner: who may manage the app could deploy it
/// from outside, and put it back.
pub(crate) fn check_leaving(state: &ApiState, actor: &Actor, coupling: &PipelineCoupling) -> ApiResult<()> {
    let Some(row) = state.store.stage_protection(coupling.pipeline, coupling.stage)? else { return Ok(()) };
    if row.deployers.is_empty() && row.windows.is_empty() && row.lock.is_none() {
        return Ok(());
    }
    let pipeline = pipelines::find(state, &coupling.pipeline.to_string())?;
    pipelines::refuse_others(actor, &pipeline).map_err(|_theirs| {
        ApiError::forbidden(format!(
            "{} of the pipeline {} is protected: only who made the pipeline takes apps out of it.",
            coupling.stage.as_str(),
            pipeline.name
        ))
    })
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<ours::Protection>>> {
    let pipeline = pipelines::find(&state, &wanted)?;
    let mut rows = state.store.stage_protections(pipeline.id)?;
    if pipelines::refuse_others(&actor, &pipeline).is_err() {
        // It names people, and is for those whom it stops.
        let seen: HashSet<AppId> = pipelines::apps_in(&state, &actor, &wanted)?.into_iter().map(|app| app.id).collect();
        let couplings = state.store.pipeline_couplings()?;
        rows.retain(|row| couplings.iter().any(|coupling| coupling.stage == row.stage && seen.contains(&coupling.app)));
    }
    rows.sort_by_key(|row| row.stage);
    Ok(Json(rows.iter().map(|row| shown(&pipeline, row)).collect()))
}

pub(crate) async fn protect(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path((wanted, stage)): Path<(String, String)>,
    Body(body): Body<ours::ProtectionUpdate>,
) -> ApiResult<Json<ours::Protection>> {
    let (pipeline, stage) = place(&state, &actor, &wanted, &stage)?;
    for email in &body.deployers {
        if state.store.find_account(email)?.is_none_or(|account| account.removed_at.is_some()) {
            return Err(ApiError::invalid(format!("There is no account {email}.")));
        }
    }
    if body.windows.len() > WINDOWS_MAX {
        return Err(ApiError::invalid(format!("A stage can have {WINDOWS_MAX} windows at most.")));
    }
    for window in &body.windows {
        Window::parse(window).map_err(|error| ApiError::invalid(error.to_string()))?;
    }
    let zone = body.zone.unwrap_or_else(|| wire::cron::DEFAULT_ZONE.to_owned());
    if TimeZone::get(&zone).is_err() {
        return Err(ApiError::invalid(format!("Time zone {zone} is not known; write a name such as Europe/Zurich.")));
    }
    state.store.protect_stage(pipeline.id, stage, body.deployers, body.windows, zone).await?;
    one(&state, &pipeline, stage)
}

pub(crate) async fn lock(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path((wanted, stage)): Path<(String, String)>,
    Body(body): Body<ours::LockCreate>,
) -> ApiResult<Json<ours::Protection>> {
    let (pipeline, stage) = place(&state, &actor, &wanted, &stage)?;
    let reason = body.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_MAX || reason.contains(char::is_control) {
        return Err(ApiError::invalid(format!("A lock needs a reason, one line of {REASON_MAX} characters at most.")));
    }
    let lock = StageLock { reason: reason.to_owned(), by: actor.account.email.clone(), at: Some(state.now()) };
    state.store.lock_stage(pipeline.id, stage, Some(lock)).await?;
    one(&state, &pipeline, stage)
}

pub(crate) async fn unlock(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path((wanted, stage)): Path<(String, String)>,
) -> ApiResult<Json<ours::Protection>> {
    let (pipeline, stage) = place(&state, &actor, &wanted, &stage)?;
    state.store.lock_stage(pipeline.id, stage, None).await?;
    one(&state, &pipeline, stage)
}

/// A stage that the actor may protect: one of their own pipeline.
fn place(state: &ApiState, actor: &Actor, pipeline: &str, stage: &str) -> ApiResult<(Pipeline, Stage)> {
    let pipeline = pipelines::find(state, pipeline)?;
    pipelines::refuse_others(actor, &pipeline)?;
    let unknown = || ApiError::invalid(format!("There is no stage {stage}: development, staging, production."));
    Ok((pipeline, Stage::parse(stage).ok_or_else(unknown)?))
}

fn one(state: &ApiState, pipeline: &Pipeline, stage: Stage) -> ApiResult<Json<ours::Protection>> {
    let row = state.store.stage_protection(pipeline.id, stage)?;
    row.map(|row| Json(shown(pipeline, &row))).ok_or_else(|| ApiError::not_found("stage"))
}

fn shown(pipeline: &Pipeline, row: &StageProtection) -> ours::Protection {
    ours::Protection {
        pipeline: pipeline.name.clone(),
        stage: row.stage.as_str().to_owned(),
        deployers: row.deployers.clone(),
        windows: row.windows.clone(),
        zone: row.zone.clone(),
        lock: row.lock.as_ref().map(|lock| ours::Lock {
            reason: lock.reason.clone(),
            by: lock.by.clone(),
            at: lock.at.map(present::time),
        }),
    }
}
