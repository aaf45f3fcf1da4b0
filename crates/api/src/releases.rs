//! Releases: list, info, deploy a slug, roll back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::access::Permission;
use domain::id::{AppId, SlugId};
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::release::Release;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::protection;
use crate::range::page;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let releases = state.store.releases(app.id)?;
    let shown = |release| present::release(&state, &origin, &app, release);
    page(&headers, "version", &releases, |release| release.version, shown)
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, release)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Release>> {
    let release = find_release(&state, app.id, &release)?;
    Ok(Json(present::release(&state, &origin, &app, &release)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<heroku::ReleaseCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Release>)> {
    protection::check(&state, &actor, &app)?;
    let release = match (&body.release, &body.slug) {
        (Some(to), _) => {
            let to = find_release(&state, app.id, to)?;
            state.store.roll_back(app.id, to.id, actor.id(), false, state.now()).await?
        }
        (None, Some(slug)) => deploy_slug(&state, &actor, &app, slug, body.description.as_deref()).await?,
        (None, None) => return Err(ApiError::invalid("Give the slug to deploy, or the release to go back to.")),
    };
    log_created(&state, &actor, &release);
    Ok((StatusCode::CREATED, Json(present::release(&state, &origin, &app, &release)?)))
}

/// Says in the app's log what was done and which release carries it.
pub(crate) fn log_created(state: &ApiState, actor: &Actor, release: &Release) {
    let by = &actor.account.email;
    state.log_api(release.app, &format!("{} by user {by}", release.description));
    state.log_api(release.app, &format!("Release v{} created by user {by}", release.version));
}

async fn deploy_slug(
    state: &ApiState,
    actor: &Actor,
    app: &App,
    slug: &str,
    description: Option<&str>,
) -> ApiResult<Release> {
    let id = SlugId::parse(slug).ok_or_else(|| ApiError::not_found("slug"))?;
    let slug = state.store.slug(id)?.ok_or_else(|| ApiError::not_found("slug"))?;
    if slug.app != app.id {
        // The slug of another app brings that app's code along.
        let other = state.store.app(slug.app)?.ok_or_else(|| ApiError::not_found("slug"))?;
        if !actor.may(state, &other, Permission::Deploy)? {
            return Err(ApiError::not_found("slug"));
        }
    }
    if slug.sha256.is_none() {
        return Err(ApiError::invalid("The slug's archive has not been uploaded yet: PUT it to its blob URL first."));
    }
    let short = slug.commit.as_deref().map(|commit| commit.chars().take(8).collect::<String>());
    let usual = || short.map_or_else(|| "Deploy".to_owned(), |commit| format!("Deploy {commit}"));
    let description = description.map_or_else(usual, str::to_owned);
    Ok(state.store.release_slug(app.id, id, description, actor.id(), state.now()).await?)
}

/// Finds a release by `12`, `v12` or id.
pub(crate) fn find_release(state: &ApiState, app: AppId, text: &str) -> ApiResult<Release> {
    let version = text.strip_prefix('v').unwrap_or(text).parse::<u64>().ok();
    let found = state
        .store
        .releases(app)?
        .into_iter()
        .find(|release| Some(release.version) == version || release.id.to_string() == text);
    found.ok_or_else(|| ApiError::not_found("release"))
}
