//! Output of builds, release phases and one-offs: plain text that ends when they end.

use std::future::pending;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use domain::access::Permission;
use domain::id::{BuildId, DynoId, ReleaseId};
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use serde::Deserialize;
use telemetry::filter::Filter;
use telemetry::log_store::LogStoreError;
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::ground::{Ground, Holder};
use crate::sources::Signature;
use crate::state::ApiState;

/// Who was given a URL.
#[derive(Debug, Deserialize)]
pub(crate) struct Bearer {
    #[serde(rename = "for")]
    holder: Option<String>,
}

pub(crate) async fn output(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<Uuid>,
    Query(signature): Query<Signature>,
    Query(Bearer { holder }): Query<Bearer>,
) -> ApiResult<Response> {
    let what = signed_text(id, holder.as_deref());
    state.signer.check(&what, signature.expires, &signature.sig, state.now())?;
    let holder = holder.as_deref().and_then(Holder::parse);
    let ground = holder.map(|holder| ground(&state, id, holder)).transpose()?.flatten();
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
    let lost = async move {
        match ground {
            Some(ground) => ground.lost(&state).await,
            None => pending().await,
        }
    };
    Ok((StatusCode::OK, headers, Body::from_stream(chunks.take_until(Box::pin(lost)))).into_response())
}

/// What the signature of an output's URL is over. Without a holder it is for receivers of webhooks.
pub(crate) fn signed_text(stream: Uuid, holder: Option<&str>) -> String {
    format!("stream/{stream}/{}", holder.unwrap_or(""))
}

/// What whoever has a URL still needs for it.
fn ground(state: &ApiState, stream: Uuid, holder: Holder) -> ApiResult<Option<Ground>> {
    let store = &state.store;
    let app = match store.build(BuildId::from_uuid(stream))? {
        Some(build) => Some(build.app),
        None => match store.release(ReleaseId::from_uuid(stream))? {
            Some(release) => Some(release.app),
            None => store.dyno(DynoId::from_uuid(stream))?.map(|dyno| dyno.app),
        },
    };
    let ground = app.map(|app| Ground { holder, app, permission: Permission::View });
    let checked = match &ground {
        Some(ground) => ground.check(state),
        // The output of a one-off outlives what is known of it.
        None => holder.check(state).map(drop),
    };
    let over = || ApiError::forbidden("This URL is no longer valid; ask for a new one.");
    checked.map_err(|error| if error.status.is_server_error() { error } else { over() })?;
    Ok(ground)
}
