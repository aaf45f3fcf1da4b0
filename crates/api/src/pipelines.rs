//! Pipelines, and the apps in them.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use domain::access::{Errand, Permission};
use domain::id::{AccountId, AppId, PipelineCouplingId, PipelineId};
use domain::pipeline::{Stage, parse_name};
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::pipeline::{Pipeline, PipelineCoupling};
use store::release::Release;
use wire::platform_api as heroku;
use wire::platform_api::pipelines as shapes;

use crate::app_transfers;
use crate::auth::Actor;
use crate::collaborators;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::protection;
use crate::range::page;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    _actor: Actor,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let wanted = query.as_deref().and_then(|query| equal(query, "name"));
    let pipelines = state.store.pipelines()?;
    let named = pipelines.iter().filter(|pipeline| wanted.as_ref().is_none_or(|name| *name == pipeline.name));
    page(&headers, "name", named, |pipeline| pipeline.name.clone(), |pipeline| Ok(shown(pipeline)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    _actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::Pipeline>> {
    Ok(Json(shown(&find(&state, &wanted)?)))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<shapes::PipelineCreate>,
) -> ApiResult<(StatusCode, Json<shapes::Pipeline>)> {
    if body.owner.is_some_and(|owner| owner.kind != "user" || owner.id != actor.id().uuid()) {
        return Err(ApiError::invalid("A pipeline belongs to the account that makes it: there are no teams here."));
    }
    let name = checked_name(&body.name)?;
    let pipeline = state.store.create_pipeline(name, actor.id(), state.now()).await?;
    Ok((StatusCode::CREATED, Json(shown(&pipeline))))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
    Body(body): Body<shapes::PipelineUpdate>,
) -> ApiResult<Json<shapes::Pipeline>> {
    let pipeline = find(&state, &wanted)?;
    refuse_others(&actor, &pipeline)?;
    if let Some(name) = body.name {
        state.store.rename_pipeline(pipeline.id, checked_name(&name)?, state.now()).await?;
    }
    Ok(Json(shown(&find(&state, &pipeline.id.to_string())?)))
}

/// Gives a pipeline to somebody else, and with it the apps of its owner, as each of them would be given by itself.
pub(crate) async fn transfer(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<shapes::PipelineTransferCreate>,
) -> ApiResult<(StatusCode, HeaderMap, Json<shapes::PipelineTransfer>)> {
    let pipeline = find(&state, body.pipeline.as_str())?;
    refuse_others(&actor, &pipeline)?;
    if body.new_owner.kind != "user" {
        return Err(ApiError::unsupported(
            "This server has no teams: a pipeline goes to a person, `berth pipelines:transfer ada@example.com`.",
        ));
    }
    let to = collaborators::account(&state, &body.new_owner.id.to_string())?;
    let owned: Vec<App> = coupled(&state, pipeline.id)?.into_iter().filter(|app| app.owner == pipeline.owner).collect();
    for app in &owned {
        actor.must(&state, app, Permission::Manage, Errand::Other)?;
    }
    let giving = app_transfers::giving_of(&actor);
    state.store.transfer_pipeline(pipeline.id, to.id, giving, state.now()).await?;
    let headers = app_transfers::announce(&state, &actor, giving, &owned, &to);
    let owner = |id: AccountId| shapes::PipelineOwner { id: id.uuid(), kind: "user".to_owned() };
    let transfer = shapes::PipelineTransfer {
        pipeline: heroku::IdOnly { id: pipeline.id.uuid() },
        previous_owner: owner(pipeline.owner),
        new_owner: owner(to.id),
    };
    Ok((StatusCode::CREATED, headers, Json(transfer)))
}

pub(crate) async fn destroy(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::Pipeline>> {
    let pipeline = find(&state, &wanted)?;
    refuse_others(&actor, &pipeline)?;
    state.store.destroy_pipeline(pipeline.id).await?;
    Ok(Json(shown(&pipeline)))
}

pub(crate) async fn couplings(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    headers: HeaderMap,
) -> ApiResult<Response> {
    couplings_page(&state, &actor, &headers, &state.store.pipeline_couplings()?)
}

pub(crate) async fn couplings_of(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let pipeline = find(&state, &wanted)?;
    let mut couplings = state.store.pipeline_couplings()?;
    couplings.retain(|coupling| coupling.pipeline == pipeline.id);
    couplings_page(&state, &actor, &headers, &couplings)
}

pub(crate) async fn coupling_of_app(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<shapes::PipelineCoupling>> {
    let found = coupling_of(&state, app.id)?;
    let coupling = found.ok_or_else(|| ApiError::not_found("pipeline coupling"))?;
    Ok(Json(shown_coupling(&state, &coupling)?))
}

pub(crate) async fn coupling(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::PipelineCoupling>> {
    let coupling = find_coupling(&state, &wanted)?;
    must(&state, &actor, coupling.app, Permission::View)?;
    Ok(Json(shown_coupling(&state, &coupling)?))
}

pub(crate) async fn couple(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<shapes::PipelineCouplingCreate>,
) -> ApiResult<(StatusCode, Json<shapes::PipelineCoupling>)> {
    let app = state.store.find_app(body.app.as_str())?.ok_or_else(|| ApiError::not_found("app"))?;
    actor.must(&state, &app, Permission::Manage, Errand::Other)?;
    let pipeline = find(&state, body.pipeline.as_str())?;
    let coupling = state.store.couple(pipeline.id, app.id, stage(&body.stage)?, state.now()).await?;
    Ok((StatusCode::CREATED, Json(shown_coupling(&state, &coupling)?)))
}

pub(crate) async fn move_to_stage(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
    Body(body): Body<shapes::PipelineCouplingUpdate>,
) -> ApiResult<Json<shapes::PipelineCoupling>> {
    let coupling = find_coupling(&state, &wanted)?;
    must(&state, &actor, coupling.app, Permission::Manage)?;
    if let Some(wanted) = body.stage {
        protection::check_leaving(&state, &actor, &coupling)?;
        state.store.move_to_stage(&coupling, stage(&wanted)?, state.now()).await?;
    }
    Ok(Json(shown_coupling(&state, &find_coupling(&state, &coupling.id.to_string())?)?))
}

pub(crate) async fn uncouple(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::PipelineCoupling>> {
    let coupling = find_coupling(&state, &wanted)?;
    must(&state, &actor, coupling.app, Permission::Manage)?;
    protection::check_leaving(&state, &actor, &coupling)?;
    state.store.uncouple(&coupling).await?;
    Ok(Json(shown_coupling(&state, &coupling)?))
}

/// The last build of every app in the pipeline.
pub(crate) async fn latest_builds(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<shapes::PipelineBuild>>> {
    let mut latest = Vec::new();
    for app in apps_in(&state, &actor, &wanted)? {
        if let Some(build) = state.store.builds(app.id)?.into_iter().max_by_key(|build| build.created_at) {
            latest.push(present::build(&state, &origin, &build)?.into());
        }
    }
    Ok(Json(latest))
}

/// The last release of every app in the pipeline.
pub(crate) async fn latest_releases(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<heroku::Release>>> {
    latest(&state, &actor, &origin, &wanted, |_release| true)
}

/// The last release of every app in the pipeline that brought it code.
pub(crate) async fn latest_deployments(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<heroku::Release>>> {
    latest(&state, &actor, &origin, &wanted, |release| release.cause.brings_new_code())
}

fn latest(
    state: &ApiState,
    actor: &Actor,
    origin: &Origin,
    pipeline: &str,
    counts: impl Fn(&Release) -> bool,
) -> ApiResult<Json<Vec<heroku::Release>>> {
    let mut latest = Vec::new();
    for app in apps_in(state, actor, pipeline)? {
        let releases = state.store.releases(app.id)?;
        if let Some(release) = releases.iter().filter(|release| counts(release)).max_by_key(|release| release.version) {
            latest.push(present::release(state, origin, &app, release)?);
        }
    }
    Ok(Json(latest))
}

/// What tests and review apps run on, which is what everything runs on.
pub(crate) async fn stack_of(
    State(state): State<Arc<ApiState>>,
    _actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::PipelineStack>> {
    find(&state, &wanted)?;
    Ok(Json(shapes::PipelineStack { stack: Some(present::stack()) }))
}

/// The apps of a pipeline that the actor may see.
pub(crate) fn apps_in(state: &ApiState, actor: &Actor, pipeline: &str) -> ApiResult<Vec<App>> {
    let pipeline = find(state, pipeline)?;
    let couplings = state.store.pipeline_couplings()?;
    let is_in = |app: &App| couplings.iter().any(|other| other.pipeline == pipeline.id && other.app == app.id);
    Ok(actor.visible_apps(state)?.into_iter().filter(is_in).collect())
}

/// The living apps of a pipeline, whoever may see them.
fn coupled(state: &ApiState, pipeline: PipelineId) -> ApiResult<Vec<App>> {
    let couplings = state.store.pipeline_couplings()?;
    let apps = couplings.iter().filter(|coupling| coupling.pipeline == pipeline);
    let found = apps.map(|coupling| Ok(state.store.app(coupling.app)?)).collect::<ApiResult<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Finds a pipeline by name or id.
pub(crate) fn find(state: &ApiState, wanted: &str) -> ApiResult<Pipeline> {
    state.store.find_pipeline(wanted)?.ok_or_else(|| ApiError::not_found("pipeline"))
}

/// The place of an app in its pipeline.
pub(crate) fn coupling_of(state: &ApiState, app: AppId) -> ApiResult<Option<PipelineCoupling>> {
    Ok(state.store.pipeline_couplings()?.into_iter().find(|coupling| coupling.app == app))
}

fn find_coupling(state: &ApiState, wanted: &str) -> ApiResult<PipelineCoupling> {
    let missing = || ApiError::not_found("pipeline coupling");
    let id = PipelineCouplingId::parse(wanted).ok_or_else(missing)?;
    state.store.pipeline_couplings()?.into_iter().find(|coupling| coupling.id == id).ok_or_else(missing)
}

fn checked_name(text: &str) -> ApiResult<String> {
    parse_name(text).map_err(|error| ApiError::invalid(error.to_string()))
}

fn stage(text: &str) -> ApiResult<Stage> {
    let stages = "test, review, development, staging, production";
    Stage::parse(text).ok_or_else(|| ApiError::invalid(format!("There is no stage {text:?}. Stages are: {stages}.")))
}

/// Refuses what the actor may not do with a coupled app. One that is being destroyed is nobody's any more.
fn must(state: &ApiState, actor: &Actor, app: AppId, permission: Permission) -> ApiResult<()> {
    let app = state.store.app(app)?.ok_or_else(|| ApiError::not_found("app"))?;
    actor.must(state, &app, permission, Errand::Other)
}

/// A pipeline itself belongs to who made it.
pub(crate) fn refuse_others(actor: &Actor, pipeline: &Pipeline) -> ApiResult<()> {
    if pipeline.owner == actor.id() || actor.account.administrator {
        return Ok(());
    }
    Err(ApiError::forbidden(format!("{} belongs to somebody else, who can change and destroy it.", pipeline.name)))
}

/// The couplings of the apps that the actor may see.
fn couplings_page(
    state: &ApiState,
    actor: &Actor,
    headers: &HeaderMap,
    couplings: &[PipelineCoupling],
) -> ApiResult<Response> {
    let visible: HashSet<AppId> = actor.visible_apps(state)?.into_iter().map(|app| app.id).collect();
    let seen = couplings.iter().filter(|coupling| visible.contains(&coupling.app));
    page(headers, "id", seen, |coupling| coupling.id.uuid(), |coupling| shown_coupling(state, coupling))
}

fn shown(pipeline: &Pipeline) -> shapes::Pipeline {
    shapes::Pipeline {
        created_at: present::time(pipeline.created_at),
        generation: present::cedar(),
        id: pipeline.id.uuid(),
        name: pipeline.name.clone(),
        owner: Some(shapes::PipelineOwner { id: pipeline.owner.uuid(), kind: "user".to_owned() }),
        updated_at: present::time(pipeline.updated_at),
    }
}

fn shown_coupling(state: &ApiState, coupling: &PipelineCoupling) -> ApiResult<shapes::PipelineCoupling> {
    let pipeline = find(state, &coupling.pipeline.to_string())?;
    Ok(shapes::PipelineCoupling {
        app: heroku::IdOnly { id: coupling.app.uuid() },
        created_at: present::time(coupling.created_at),
        id: coupling.id.uuid(),
        pipeline: heroku::IdName { id: pipeline.id.uuid(), name: pipeline.name },
        stage: coupling.stage.as_str().to_owned(),
        updated_at: present::time(coupling.updated_at),
    })
}

/// The value of `eq[field]=…`, whose brackets the client does not encode.
fn equal(query: &str, field: &str) -> Option<String> {
    let key = format!("eq[{field}]");
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (percent_decoded(name)? == key).then(|| percent_decoded(&value.replace('+', " ")))?)
}

pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_with_and_without_encoding() {
        assert_eq!(equal("eq[name]=shop", "name").as_deref(), Some("shop"));
        assert_eq!(equal("x=1&eq%5Bname%5D=a%20b", "name").as_deref(), Some("a b"));
        for other in ["", "name=shop", "eq[name]=%", "eq[name]=%zz", "eq[id]=1", "eq[name"] {
            assert_eq!(equal(other, "name"), None, "{other}");
        }
    }
}
