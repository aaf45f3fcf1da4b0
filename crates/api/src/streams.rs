//! Output of builds, release phases and one-offs: plain text that ends when they end.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{StatusCode, header};
use telemetry::filter::Filter;
use telemetry::log_store::LogStoreError;
use uuid::Uuid;

use crate::error::ApiResult;
use crate::sources::Signature;
use crate::state::ApiState;

pub(crate) async fn output(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<Uuid>,
    Query(signature): Query<Signature>,
) -> ApiResult<Response> {
    state.signer.check(&format!("stream/{id}"), signature.expires, &signature.sig, state.now())?;
    let follower = state.logs.follow(id, 0, Filter::default())?;
    let chunks = stream::unfold(follower, |mut follower| async move {
        let followed = match follower.next().await {
            Ok(Some(followed)) => followed,
            Ok(None) => return None,
            Err(error) => return Some((Err::<Bytes, LogStoreError>(error), follower)),
        };
        let mut text = String::new();
        if followed.lost > 0 {
            text.push_str(&format!("[{} lines lost]\n", followed.lost));
        }
        for line in followed.lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        Some((Ok(Bytes::from(text)), follower))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, headers, Body::from_stream(chunks)).into_response())
}
