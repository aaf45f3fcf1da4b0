//! The buildpacks that an app was told to use.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::app::{App, AppChange};
use wire::platform_api as heroku;
use wire::platform_api::catalogue::{BuildpackInstallation, BuildpackInstallationsUpdate};

use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::pipelines::percent_decoded;
use crate::present;
use crate::state::ApiState;

/// Buildpacks of one app, and bytes of one name or URL.
const BUILDPACKS_MAX: usize = 20;
const BUILDPACK_BYTES_MAX: usize = 2048;

const NAMESPACE: &str = "heroku";

/// What builds do themselves where it is named, without a buildpack.
const OWN_LANGUAGES: [&str; 5] = ["go", "nodejs", "procfile", "python", "static"];

/// What a search finds.
const LANGUAGES: [&str; 8] = ["go", "java", "nodejs", "php", "procfile", "python", "ruby", "static"];

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

/// What the registry has (`buildpack-registry.heroku.com`), to anybody: the client brings no token there.
pub(crate) async fn registry(RawQuery(query): RawQuery) -> Json<Vec<Value>> {
    let query = query.unwrap_or_default();
    let wanted = |field: &str| -> Vec<String> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let of_field = pairs.filter(|(name, _value)| percent_decoded(name).as_deref() == Some(field));
        of_field.filter_map(|(_name, value)| percent_decoded(value)).collect()
    };
    let one_of = |field: &str, text: &str| {
        let wanted = wanted(field);
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == text)
    };
    let holds = |language: &str| {
        let description = description(language).to_lowercase();
        wanted("like[description]").iter().all(|wanted| description.contains(&wanted.to_lowercase()))
    };
    let fits =
        |language: &&str| one_of("in[namespace][]", NAMESPACE) && one_of("in[name][]", language) && holds(language);
    Json(LANGUAGES.iter().filter(|language| fits(language)).map(|language| entry(language)).collect())
}

pub(crate) async fn registered(Path(name): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(entry(language(&name)?)))
}

/// The version that there is.
pub(crate) async fn revisions(Path(name): Path<String>) -> ApiResult<Json<Value>> {
    language(&name)?;
    let created_at = present::time(Timestamp::UNIX_EPOCH);
    Ok(Json(json!([{"release": 1, "created_at": created_at, "status": "published", "license": "-"}])))
}

pub(crate) async fn read_me(Path(name): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(json!({"encoding": "utf-8", "content": description(language(&name)?)})))
}

/// Of one of Heroku's own buildpacks: any of them can be named, not only those that are listed.
fn language(name: &str) -> ApiResult<&str> {
    let is_plain = |language: &&str| {
        !language.is_empty() && language.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let language = name.split_once('/').filter(|(namespace, _language)| *namespace == NAMESPACE);
    let language = language.map(|(_namespace, language)| language).filter(is_plain);
    language.ok_or_else(|| ApiError::not_found("buildpack"))
}

fn entry(language: &str) -> Value {
    let name = format!("{NAMESPACE}/{language}");
    let (support, source) = if OWN_LANGUAGES.contains(&language) {
        (json!({"method": "none", "address": "-"}), json!({"type": "none"}))
    } else {
        let repo = format!("heroku-buildpack-{language}");
        (json!({"method": "github"}), json!({"type": "github", "owner": "heroku", "repo": repo}))
    };
    json!({
        "namespace": NAMESPACE,
        "name": language,
        "category": "languages",
        "description": description(language),
        // What the client puts on an app's list. At Heroku the URL of an archive; builds here know the name.
        "blob_url": name,
        "support": support,
        "source": source,
    })
}

fn description(language: &str) -> String {
    if OWN_LANGUAGES.contains(&language) {
        return format!("This server's own steps for {language}");
    }
    format!("Heroku's buildpack for {language}, fetched when it is used")
}

fn shown(app: &App) -> Vec<BuildpackInstallation> {
    let reference = |name: &String| heroku::BuildpackRef { name: Some(name.clone()), url: Some(name.clone()) };
    (0..)
        .zip(&app.buildpacks)
        .map(|(ordinal, name)| BuildpackInstallation { buildpack: reference(name), ordinal })
        .collect()
}
