//! Pause and resume: requests of an app that are held for a while and then served.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use domain::duration_text;
use jiff::Timestamp;
use store::app::App;
use uuid::Uuid;
use wire::platform_api::routing::{Traffic, TrafficUpdate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::state::ApiState;

/// Clients give up sooner, and held requests cost memory.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

pub(crate) async fn show(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Traffic>> {
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<TrafficUpdate>,
) -> ApiResult<Json<Traffic>> {
    let until = match body.pause_ms.map(Duration::from_millis) {
        None => None,
        Some(length) if (PAUSE_MIN..=PAUSE_MAX).contains(&length) => Some(state.now() + length),
        Some(_) => {
            return Err(ApiError::invalid(format!(
                "A pause lasts from {} to {}. For longer there is maintenance mode.",
                duration_text::show(PAUSE_MIN),
                duration_text::show(PAUSE_MAX)
            )));
        }
    };
    let was_paused = paused_until(&state, &app)?.is_some();
    state.store.pause(app.id, until).await?;
    let by = &actor.account.email;
    match body.pause_ms.map(Duration::from_millis) {
        Some(length) => {
            state.log_api(app.id, &format!("Pause traffic for {} by user {by}", duration_text::show(length)));
        }
        None if was_paused => state.log_api(app.id, &format!("Resume traffic by user {by}")),
        None => {}
    }
    Ok(Json(shown(&state, &app)?))
}

fn paused_until(state: &ApiState, app: &App) -> ApiResult<Option<Timestamp>> {
    Ok(state.store.paused_until(app.id)?.filter(|until| *until > state.now()))
}

fn shown(state: &ApiState, app: &App) -> ApiResult<Traffic> {
    let until = paused_until(state, app)?;
    let parts = state.store.domains(app.id)?.into_iter().map(|domain| domain.id.uuid());
    let parts: Vec<Uuid> = std::iter::once(app.id.uuid()).chain(parts).collect();
    let known: Vec<_> = parts.iter().filter_map(|part| state.platform.admission_of(*part)).collect();
    let wanted = until.map(unix_ms);
    let held = state.platform.held_until_unix_ms(app.id);
    let now = unix_ms(state.now());
    Ok(Traffic {
        paused_until: until.map(|until| until.to_string()),
        in_force: held.is_ok_and(|held| held.filter(|held| *held > now) == wanted),
        in_flight: known.iter().map(|known| known.in_flight).sum(),
        waiting: known.iter().map(|known| known.queued).sum(),
    })
}

/// As in the route table.
fn unix_ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
