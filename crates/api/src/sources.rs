//! Source archives: an announced upload, its bytes, and their way back out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::Json;
use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::{IntoResponse as _, Response};
use domain::dyno_size::ByteCount;
use domain::id::SourceId;
use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::discard::discard;
use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::origin::Origin;
use crate::state::ApiState;

/// Heroku's: an upload URL is valid for an hour.
const URL_VALID: Duration = Duration::from_secs(60 * 60);

/// The part of a signed URL that proves the right to use it.
#[derive(Debug, Deserialize)]
pub(crate) struct Signature {
    pub(crate) expires: i64,
    pub(crate) sig: String,
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
) -> ApiResult<(StatusCode, Json<heroku::Source>)> {
    let source = state.store.create_source(actor.id(), state.now()).await?;
    let url = |method: &str| {
        let query = state.signer.query(&format!("source/{}/{method}", source.id), URL_VALID, state.now());
        format!("{}/berth/sources/{}?{query}", origin.base, source.id)
    };
    let source_blob = heroku::SourceUrls { get_url: url("get"), put_url: url("put") };
    Ok((StatusCode::CREATED, Json(heroku::Source { source_blob })))
}

pub(crate) async fn create_for_app(
    state: State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    _app: TheApp,
) -> ApiResult<(StatusCode, Json<heroku::Source>)> {
    create(state, actor, origin).await
}

pub(crate) async fn upload(
    State(state): State<Arc<ApiState>>,
    UrlPath(id): UrlPath<String>,
    Query(signature): Query<Signature>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<StatusCode> {
    let id = SourceId::parse(&id).ok_or_else(|| ApiError::not_found("source"))?;
    state.signer.check(&format!("source/{id}/put"), signature.expires, &signature.sig, state.now())?;
    receive(&headers, body, &path(&state, id), state.config.upload_bytes_max).await?;
    Ok(StatusCode::OK)
}

pub(crate) async fn download(
    State(state): State<Arc<ApiState>>,
    UrlPath(id): UrlPath<String>,
    Query(signature): Query<Signature>,
) -> ApiResult<Response> {
    let id = SourceId::parse(&id).ok_or_else(|| ApiError::not_found("source"))?;
    state.signer.check(&format!("source/{id}/get"), signature.expires, &signature.sig, state.now())?;
    send(&path(&state, id), "source").await
}

/// Where the bytes of a source are.
pub(crate) fn path(state: &ApiState, id: SourceId) -> PathBuf {
    state.config.data_dir.join("sources").join(id.to_string())
}

/// Writes an upload to `path`: whole, or not at all. A refused one is read to its end, so that its sender learns why.
pub(crate) async fn receive(headers: &HeaderMap, body: Body, path: &Path, bytes_max: u64) -> ApiResult<()> {
    let announced = body.size_hint().lower();
    if announced > bytes_max && headers.contains_key(header::EXPECT) {
        // Who asks first has sent nothing yet, and will not.
        return Err(too_large(bytes_max));
    }
    let mut stream = body.into_data_stream();
    let received =
        if announced > bytes_max { Err(too_large(bytes_max)) } else { write_whole(&mut stream, path, bytes_max).await };
    if received.is_err() {
        discard(&mut stream).await;
    }
    received
}

async fn write_whole(stream: &mut BodyDataStream, path: &Path, bytes_max: u64) -> ApiResult<()> {
    // A second attempt may come while the first one is still noticing that it was cut off.
    let temporary = path.with_extension(format!("{}.part", Uuid::new_v4()));
    let written = write_to(stream, &temporary, bytes_max).await;
    if written.is_err() {
        // The first error is the one that counts.
        drop(tokio::fs::remove_file(&temporary).await);
    }
    written?;
    tokio::fs::rename(&temporary, path).await.map_err(|error| disk_error(&error))
}

async fn write_to(stream: &mut BodyDataStream, temporary: &Path, bytes_max: u64) -> ApiResult<()> {
    let mut file = tokio::fs::File::create(temporary).await.map_err(|error| disk_error(&error))?;
    let mut received: u64 = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_cut| {
            ApiError::bad_request("The upload ended before it was complete; nothing was kept. Try again.")
        })?;
        received += chunk.len() as u64;
        if received > bytes_max {
            return Err(too_large(bytes_max));
        }
        file.write_all(&chunk).await.map_err(|error| disk_error(&error))?;
    }
    file.flush().await.map_err(|error| disk_error(&error))
}

fn too_large(bytes_max: u64) -> ApiError {
    ApiError::too_large(format!(
        "The upload is larger than the limit of {}. Leave out what the app does not need (.slugignore).",
        ByteCount(bytes_max)
    ))
}

fn disk_error(error: &io::Error) -> ApiError {
    if error.kind() == io::ErrorKind::StorageFull {
        return ApiError::disk_full();
    }
    ApiError::internal("cannot store an upload", error)
}

/// Answers with the bytes of a file.
pub(crate) async fn send(path: &Path, resource: &'static str) -> ApiResult<Response> {
    let file = tokio::fs::File::open(path).await.map_err(|_absent| ApiError::not_found(resource))?;
    Ok(Body::from_stream(tokio_util::io::ReaderStream::new(file)).into_response())
}

/// Compares a file with a checksum in Heroku's form, `SHA256:<hex>`.
pub(crate) async fn verify_checksum(path: &Path, expected: &str) -> ApiResult<()> {
    let expected = expected.rsplit(':').next().unwrap_or(expected).to_ascii_lowercase();
    let actual = sha256(path).await.map_err(|error| ApiError::internal("cannot read a source", &error))?;
    if actual == expected {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "Checksum mismatch: the upload was damaged on its way. Expected SHA256:{expected}, got SHA256:{actual}."
    )))
}

pub(crate) async fn sha256(path: &Path) -> io::Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).await? {
            0 => break,
            size => context.update(&buffer[..size]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}
