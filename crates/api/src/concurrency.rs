//! How many requests a dyno may have at once: declared here, or learned by the router.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::formation::CONCURRENCY_MAX;
use domain::name::ProcessType;
use store::app::App;
use wire::platform_api::berth as ours;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::state::ApiState;

pub(crate) async fn show(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<ours::Concurrency>>> {
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn declare(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<ours::ConcurrencyUpdate>,
) -> ApiResult<Json<Vec<ours::Concurrency>>> {
    let kind = ProcessType::parse(&body.process_type).map_err(|error| ApiError::invalid(error.to_string()))?;
    if !kind.is_web() {
        return Err(ApiError::invalid("Only web dynos get requests, so only web has a concurrency."));
    }
    if body.concurrency.is_some_and(|concurrency| !(1..=CONCURRENCY_MAX).contains(&concurrency)) {
        return Err(ApiError::invalid(format!("Concurrency must be from 1 to {CONCURRENCY_MAX}, or auto.")));
    }
    state.store.declare_concurrency(app.id, kind, body.concurrency, state.now()).await?;
    let words = body.concurrency.map_or_else(|| "auto".to_owned(), |concurrency| concurrency.to_string());
    state.log_api(app.id, &format!("Set concurrency of web to {words} by user {}", actor.account.email));
    Ok(Json(shown(&state, &app)?))
}

fn shown(state: &ApiState, app: &App) -> ApiResult<Vec<ours::Concurrency>> {
    let known = state.platform.admission(app.id).unwrap_or_default();
    let rows = state.store.formation(app.id)?;
    let web = rows.iter().find(|row| row.entry.process_type.is_web());
    let declared = web.and_then(|row| row.entry.concurrency);
    Ok(vec![ours::Concurrency {
        process_type: ProcessType::web().to_string(),
        declared,
        learned: known.workers.filter(|_workers| declared.is_none()),
        in_flight: known.in_flight,
        queued: known.queued,
    }])
}
