//! Builds: request, list, info, cancel.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::id::{AppId, BuildId, SourceId};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use store::app::App;
use store::build::{Build, BuildStatus, NewBuild, REPLACED, SourceLocation};
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::protection;
use crate::range::page;
use crate::sources;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let builds = state.store.builds(app.id)?;
    page(&headers, "created_at", &builds, |build| build.created_at, |build| present::build(&state, &origin, build))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, build)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Build>> {
    let build = find_build(&state, app.id, &build)?;
    Ok(Json(present::build(&state, &origin, &build)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<heroku::BuildCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Build>)> {
    let build = start_build(&state, &actor, &app, body, false).await?;
    Ok((StatusCode::CREATED, Json(present::build(&state, &origin, &build)?)))
}

/// Requests a build of an uploaded source, or of one that a URL names.
pub(crate) async fn start_build(
    state: &ApiState,
    actor: &Actor,
    app: &App,
    body: heroku::BuildCreate,
    hold: bool,
) -> ApiResult<Build> {
    protection::check(state, actor, app)?;
    let url = &body.source_blob.url;
    let source = match uploaded_source(url) {
        Some(id) => {
            let source = state.store.source(id)?.filter(|source| source.account == actor.id());
            source.ok_or_else(|| ApiError::not_found("source"))?;
            if !sources::path(state, id).is_file() {
                return Err(ApiError::invalid("The source has not been uploaded yet: PUT it to its put_url first."));
            }
            SourceLocation::Uploaded(id)
        }
        None if url.starts_with("https://") => SourceLocation::Url(url.clone()),
        None => {
            return Err(ApiError::invalid(
                "source_blob.url must be a get_url from POST /sources, or an https:// URL of an archive.",
            ));
        }
    };
    if let (SourceLocation::Uploaded(id), Some(expected)) = (&source, &body.source_blob.checksum) {
        sources::verify_checksum(&sources::path(state, *id), expected).await?;
    }
    let buildpacks = match body.buildpacks {
        None => app.buildpacks.clone(),
        Some(packs) => packs.into_iter().filter_map(|pack| pack.url.or(pack.name)).collect(),
    };
    let new = NewBuild {
        app: app.id,
        account: actor.id(),
        source,
        source_version: body.source_blob.version,
        buildpacks,
        hold,
    };
    let (build, replaced) = state.store.create_build(new, state.now()).await?;
    for build in replaced {
        // It never began, so nobody else ends what its client is reading.
        state.end_output(build.uuid(), &format!(" !     {REPLACED}"));
    }
    state.log_api(app.id, &format!("Build started by user {}", actor.account.email));
    Ok(build)
}

pub(crate) async fn cancel(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, build)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<heroku::Build>)> {
    let build = find_build(&state, app.id, &build)?;
    if build.status != BuildStatus::Pending {
        return Err(ApiError::invalid("This build has ended already."));
    }
    state.store.end_build(build.id, BuildStatus::Canceled, "cancelled by a user".to_owned(), state.now()).await?;
    if state.store.build_dyno(build.id)?.is_none() {
        state.end_output(build.id.uuid(), " !     The build was cancelled before it began");
    }
    let ended = find_build(&state, app.id, &build.id.to_string())?;
    Ok((StatusCode::ACCEPTED, Json(present::build(&state, &origin, &ended)?)))
}

/// The next build begins from scratch. A build that is under way goes on with what it found.
pub(crate) async fn empty_cache(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
) -> ApiResult<(StatusCode, Json<Value>)> {
    state.store.request_empty_cache(app.id).await?;
    state.log_api(app.id, &format!("Build cache emptied by user {}", actor.account.email));
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

pub(crate) fn find_build(state: &ApiState, app: AppId, text: &str) -> ApiResult<Build> {
    let id = BuildId::parse(text).ok_or_else(|| ApiError::not_found("build"))?;
    state.store.build(id)?.filter(|build| build.app == app).ok_or_else(|| ApiError::not_found("build"))
}

/// The id in one of our own `get_url`s: `…/berth/sources/<id>?…`.
fn uploaded_source(url: &str) -> Option<SourceId> {
    let (_base, rest) = url.split_once("/berth/sources/")?;
    SourceId::parse(rest.split('?').next()?)
}
