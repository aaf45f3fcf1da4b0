//! Slugs that a client builds itself: announced with their process types, uploaded, then released.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use domain::id::SlugId;
use domain::name::ProcessType;
use http::{HeaderMap, StatusCode};
use store::slug::Slug;
use wire::platform_api as heroku;

use crate::error::{ApiError, ApiResult};
use crate::extract::{Body as Json_, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::sources::{Signature, receive, send, sha256};
use crate::state::ApiState;

const URL_VALID: Duration = Duration::from_secs(60 * 60);

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Json_(body): Json_<heroku::SlugCreate>,
) -> ApiResult<(StatusCode, Json<heroku::Slug>)> {
    let mut process_types = Vec::new();
    for (name, command) in body.process_types {
        let name = ProcessType::parse(&name).map_err(|error| ApiError::invalid(error.to_string()))?;
        process_types.push((name, command));
    }
    if process_types.is_empty() {
        return Err(ApiError::invalid("process_types must name at least one process type with its command."));
    }
    let slug = Slug {
        id: SlugId::random(),
        app: app.id,
        sha256: None,
        size_bytes: 0,
        process_types,
        manifest: "{}".to_owned(),
        stack: present::stack().name,
        commit: body.commit,
        language: body.buildpack_provided_description,
        created_at: state.now(),
    };
    state.store.create_slug(slug.clone()).await?;
    Ok((StatusCode::CREATED, Json(shown(&state, &origin, &slug, "put"))))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, id)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Slug>> {
    let id = SlugId::parse(&id).ok_or_else(|| ApiError::not_found("slug"))?;
    let slug = state.store.slug(id)?.filter(|slug| slug.app == app.id);
    slug.map(|slug| Json(shown(&state, &origin, &slug, "get"))).ok_or_else(|| ApiError::not_found("slug"))
}

pub(crate) async fn upload(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    Query(signature): Query<Signature>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<StatusCode> {
    let id = SlugId::parse(&id).ok_or_else(|| ApiError::not_found("slug"))?;
    state.signer.check(&format!("slug/{id}/put"), signature.expires, &signature.sig, state.now())?;
    let arrived = state.config.data_dir.join("sources").join(format!("slug-{id}"));
    receive(&headers, body, &arrived, state.config.upload_bytes_max).await?;
    let internal = |error: std::io::Error| ApiError::internal("cannot store a slug", &error);
    let sha = sha256(&arrived).await.map_err(internal)?;
    let size_bytes = tokio::fs::metadata(&arrived).await.map_err(internal)?.len();
    // The tree is unpacked, under all the checks of a source, when a release first needs it.
    let dir = state.config.data_dir.join("slugs").join(&sha);
    tokio::fs::create_dir_all(&dir).await.map_err(internal)?;
    tokio::fs::rename(&arrived, dir.join("uploaded")).await.map_err(internal)?;
    state.store.slug_arrived(id, sha, size_bytes).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn download(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    Query(signature): Query<Signature>,
) -> ApiResult<Response> {
    let id = SlugId::parse(&id).ok_or_else(|| ApiError::not_found("slug"))?;
    state.signer.check(&format!("slug/{id}/get"), signature.expires, &signature.sig, state.now())?;
    let sha = state.store.slug(id)?.and_then(|slug| slug.sha256).ok_or_else(|| ApiError::not_found("slug"))?;
    let dir = state.config.data_dir.join("slugs").join(sha);
    let archive = dir.join("slug.tar.zst");
    let archive = if archive.exists() { archive } else { dir.join("uploaded") };
    send(&archive, "slug").await
}

fn shown(state: &ApiState, origin: &Origin, slug: &Slug, method: &str) -> heroku::Slug {
    let query = state.signer.query(&format!("slug/{}/{method}", slug.id), URL_VALID, state.now());
    heroku::Slug {
        blob: heroku::Blob {
            method: method.to_owned(),
            url: format!("{}/berth/slugs/{}?{query}", origin.base, slug.id),
        },
        buildpack_provided_description: slug.language.clone(),
        checksum: slug.sha256.as_ref().map(|sha| format!("SHA256:{sha}")),
        commit: slug.commit.clone(),
        commit_description: None,
        created_at: present::time(slug.created_at),
        deleted_at: None,
        id: slug.id.uuid(),
        process_types: slug.process_types.iter().map(|(name, command)| (name.to_string(), command.clone())).collect(),
        size: slug.sha256.as_ref().map(|_sha| slug.size_bytes),
        stack: present::stack(),
        updated_at: present::time(slug.created_at),
    }
}
