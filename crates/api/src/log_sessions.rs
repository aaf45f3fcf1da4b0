//! Log sessions: a URL without login that streams an app's log as server-sent events.
//!
//! The format is the one that the `heroku` CLI reads: `id:` for resuming, one `data:` line per log line.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use domain::access::Permission;
use domain::id::AppId;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use telemetry::filter::Filter;
use telemetry::line::{LogLine, tail_overflow_text};
use telemetry::log_store::{Followed, LogStoreError};
use tokio::task::spawn_blocking;
use uuid::Uuid;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body as JsonBody, TheApp};
use crate::ground::{Ground, Holder, LOST};
use crate::origin::Origin;
use crate::present;
use crate::state::ApiState;

/// How long after its creation a session may be connected to, or reconnected.
const SESSION_VALID: Duration = Duration::from_secs(5 * 60);

/// A comment this often keeps proxies from closing a quiet tail.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Lines of history that a session may ask for (Heroku keeps 1500).
const LINES_MAX: u32 = 1500;
const LINES_DEFAULT: u32 = 100;

/// What a session shows, as it stands in its signed URL.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    expires: i64,
    sig: String,
    /// Whose session it is: a [`Holder`].
    #[serde(rename = "for", default)]
    holder: String,
    #[serde(default)]
    lines: u32,
    #[serde(default)]
    tail: bool,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    dyno: Option<String>,
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    JsonBody(body): JsonBody<heroku::LogSessionCreate>,
) -> ApiResult<(StatusCode, Json<heroku::LogSession>)> {
    let lines = body.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX);
    let tail = body.tail.unwrap_or(false);
    let source = plain(body.source.as_deref());
    let dyno = plain(body.dyno.or(body.dyno_name).or(body.process_type).as_deref());
    let holder = Holder::of(&actor);
    let what = signed_text(app.id.uuid(), &holder.to_string(), lines, tail, source.as_deref(), dyno.as_deref());
    let mut url = format!(
        "{}/berth/logs/{}?{}&for={holder}&lines={lines}&tail={tail}",
        origin.base,
        app.id,
        state.signer.query(&what, SESSION_VALID, state.now())
    );
    for (name, value) in [("source", source), ("dyno", dyno)] {
        if let Some(value) = value {
            url.push_str(&format!("&{name}={value}"));
        }
    }
    let now = present::time(state.now());
    let session = heroku::LogSession { created_at: now.clone(), id: Uuid::new_v4(), logplex_url: url, updated_at: now };
    Ok((StatusCode::CREATED, Json(session)))
}

pub(crate) async fn stream(
    State(state): State<Arc<ApiState>>,
    Path(app): Path<Uuid>,
    Query(session): Query<Session>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let Session { holder, lines, tail, source, dyno, .. } = &session;
    let what = signed_text(app, holder, *lines, *tail, source.as_deref(), dyno.as_deref());
    state.signer.check(&what, session.expires, &session.sig, state.now())?;
    // Compat: the client tries for ever to come back to what is refused in another way.
    let over = || ApiError::forbidden(LOST);
    let holder = Holder::parse(holder).ok_or_else(over)?;
    let ground = Ground { holder, app: AppId::from_uuid(app), permission: Permission::View };
    ground.check(&state).map_err(|error| if error.status.is_server_error() { error } else { over() })?;
    let filter = Filter { source: session.source, process: session.dyno };
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // The tail starts where the history was read, so that no line falls between the two.
    let last = state.logs.last_sequence(app)?;
    let history = match resumed {
        Some(_sequence) => Vec::new(),
        None => {
            let (logs, filter) = (Arc::clone(&state.logs), filter.clone());
            // Where few lines match, many megabytes are read: not on the async threads.
            let reading = spawn_blocking(move || logs.last_lines(app, &filter, session.lines as usize));
            reading.await.map_err(|error| ApiError::internal("reading a log ended early", &error))??
        }
    };
    let after = resumed.or(history.last().map(|line| line.sequence)).unwrap_or(last);
    let first = stream::iter([Ok::<_, LogStoreError>(Bytes::from(events(&history)))]);
    let body = if session.tail {
        let follower = state.logs.follow(app, after.max(if resumed.is_some() { 0 } else { last }), filter)?;
        let tail = stream::unfold(follower, |mut follower| async move {
            let next = match tokio::time::timeout(KEEP_ALIVE, follower.next()).await {
                Err(_quiet) => Ok(Bytes::from_static(b": keep-alive\n\n")),
                Ok(Ok(Some(followed))) => Ok(Bytes::from(followed_events(&followed))),
                Ok(Ok(None)) => return None,
                Ok(Err(error)) => Err(error),
            };
            Some((next, follower))
        });
        let state = Arc::clone(&state);
        Body::from_stream(first.chain(tail).take_until(Box::pin(async move { ground.lost(&state).await })))
    } else {
        Body::from_stream(first)
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::OK, headers, body).into_response())
}

fn followed_events(followed: &Followed) -> String {
    let mut text = String::new();
    if followed.lost > 0 {
        let now = followed.lines.first().map_or(followed.lost_since_unix_us, |line| line.unix_us);
        let told = tail_overflow_text(followed.lost, followed.lost_since_unix_us, now);
        text.push_str(&format!("data: {told}\n\n"));
    }
    text.push_str(&events(&followed.lines));
    text
}

fn events(lines: &[LogLine]) -> String {
    lines
        .iter()
        .map(|line| {
            // A carriage return would end the field early.
            let text = line.to_heroku_text().replace('\r', "");
            format!("id: {}\ndata: {text}\n\n", line.sequence)
        })
        .collect()
}

/// Filters are words; anything else could not match a line and must not get into a URL.
fn plain(value: Option<&str>) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    value.map(|value| if value.chars().all(allowed) { value.to_owned() } else { "-".to_owned() })
}

fn signed_text(app: Uuid, holder: &str, lines: u32, tail: bool, source: Option<&str>, dyno: Option<&str>) -> String {
    format!("logs/{app}/{holder}/{lines}/{tail}/{}/{}", source.unwrap_or(""), dyno.unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_tail_is_told_what_it_missed_and_since_when() {
        let followed = Followed { lines: Vec::new(), lost: 1101, lost_since_unix_us: 1_767_323_045_000_000 };
        assert_eq!(
            followed_events(&followed),
            "data: 2026-01-02T03:04:05.000000+00:00 heroku[logplex]: Error L11 (Tail buffer overflow) -> \
             This tail session dropped 1101 messages since 2026-01-02T03:04:05Z\n\n"
        );
    }
}
