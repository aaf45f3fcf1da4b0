//! The buildpacks that an app was told to use.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use store::app::{App, AppChange};
use wire::platform_api as heroku;
use wire::platform_api::catalogue::{BuildpackInstallation, BuildpackInstallationsUpdate, RegisteredBuildpack};

use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::state::ApiState;

/// Buildpacks of one app, and bytes of one name or URL.
const BUILDPACKS_MAX: usize = 20;
const BUILDPACK_BYTES_MAX: usize = 2048;

const UNNAMED: &str = "This buildpack is not known here. Name one of Heroku's own, as `heroku/python`, or the URL of a git repository or archive.";

pub(crate) async fn list(TheApp(app): TheApp) -> Json<Vec<BuildpackInstallation>> {
    Json(shown(&app))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Body(body): Body<BuildpackInstallationsUpdate>,
) -> ApiResult<Json<Vec<BuildpackInstallation>>> {
    if body.updates.len() > BUILDPACKS_MAX {
        return Err(ApiError::invalid(format!("An app can have {BUILDPACKS_MAX} buildpacks at most.")));
    }
    let mut buildpacks = Vec::new();
    for update in body.updates {
        let pack = update.buildpack.trim().to_owned();
        if pack.is_empty() {
            return Err(ApiError::invalid(UNNAMED));
        }
        let well_formed = pack.len() <= BUILDPACK_BYTES_MAX && !pack.contains(char::is_whitespace);
        if !well_formed {
            return Err(ApiError::invalid(format!("{pack:?} is not a buildpack's name or URL.")));
        }
        buildpacks.push(pack);
    }
    let change = AppChange { buildpacks: Some(buildpacks), ..AppChange::default() };
    let app = state.store.update_app(app.id, change, state.now()).await?;
    Ok(Json(shown(&app)))
}

/// One of Heroku's own buildpacks, as its registry (`buildpack-registry.heroku.com`) tells of it, to
/// anybody: the client brings no token there.
pub(crate) async fn registered(Path(name): Path<String>) -> ApiResult<Json<RegisteredBuildpack>> {
    let is_plain = |language: &str| language.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let known = name.strip_prefix("heroku/").is_some_and(|language| !language.is_empty() && is_plain(language));
    if !known {
        return Err(ApiError::not_found("buildpack"));
    }
    Ok(Json(RegisteredBuildpack { blob_url: name.clone(), name }))
}

fn shown(app: &App) -> Vec<BuildpackInstallation> {
    let reference = |name: &String| heroku::BuildpackRef { name: Some(name.clone()), url: Some(name.clone()) };
    (0..)
        .zip(&app.buildpacks)
        .map(|(ordinal, name)| BuildpackInstallation { buildpack: reference(name), ordinal })
        .collect()
}
