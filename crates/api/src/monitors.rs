//! `ps:autoscale:*`: how many dynos there should be, by how long requests take. Heroku keeps it on another host.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::autoscale::Bounds;
use domain::name::ProcessType;
use http::StatusCode;
use store::StoreError;
use store::app::App;
use store::monitor::Monitor;
use store::notification::SCALING_MAXIMUM;
use wire::platform_api::monitors as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

/// Dynos of one process type that autoscaling may ask for (Heroku's).
const QUANTITY_MAX: u32 = 100;

/// What 95 of 100 requests should take where nobody says it, in milliseconds (the client's own).
const P95_MS_DEFAULT: u64 = 1000;

/// Compat: between two messages that the maximum is reached. It is [`domain::autoscale::MAXIMUM_TOLD_EVERY`].
const NOTIFICATION_PERIOD_MINUTES: u32 = 1440;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
) -> ApiResult<Json<Vec<heroku::Monitor>>> {
    let (monitors, is_told) = (state.store.monitors(app.id)?, is_told(&state, &app)?);
    let of_kind = monitors.iter().filter(|monitor| monitor.process_type.as_str() == kind);
    Ok(Json(of_kind.map(|monitor| shown(monitor, is_told)).collect()))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
    Body(body): Body<heroku::MonitorUpdate>,
) -> ApiResult<(StatusCode, Json<heroku::Monitor>)> {
    let monitor = keep(&state, &actor, &app, &kind, body, |_replaced| Ok(None)).await?;
    Ok((StatusCode::CREATED, Json(monitor)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, kind, id)): Path<(String, String, String)>,
    Body(body): Body<heroku::MonitorUpdate>,
) -> ApiResult<Json<heroku::Monitor>> {
    let known = move |found: Option<&Monitor>| {
        let found = found.filter(|monitor| monitor.id.to_string() == id);
        found.map(|monitor| Some((monitor.active, monitor.bounds))).ok_or(StoreError::NotFound("monitor"))
    };
    keep(&state, &actor, &app, &kind, body, known).await.map(Json)
}

/// What stays as it is where nobody says anything else.
type Known = Option<(bool, Bounds)>;

/// `known` says what counts of a monitor that there is already.
async fn keep(
    state: &ApiState,
    actor: &Actor,
    app: &App,
    kind: &str,
    body: heroku::MonitorUpdate,
    known: impl FnOnce(Option<&Monitor>) -> Result<Known, StoreError> + Send + 'static,
) -> ApiResult<heroku::Monitor> {
    if kind != "web" {
        return Err(ApiError::invalid("Only web dynos are scaled by the time of their answers."));
    }
    if body.action_type.as_deref().is_some_and(|action| action != "scale") {
        return Err(ApiError::invalid("action_type must be scale: alerts are messages, `berth notify:add`."));
    }
    let process_type = ProcessType::parse(kind).map_err(|error| ApiError::invalid(error.to_string()))?;
    let is_told = is_told(state, app)?;
    if body.notification_channels.as_ref().is_some_and(|channels| !channels.is_empty()) && !is_told {
        return Err(ApiError::invalid(format!(
            "Nobody would be told that the maximum is reached: this server sends no e-mail. Say where such messages go, \
             `berth notify:add URL -a {}`, and try again.",
            app.name
        )));
    }
    let change = move |found: Option<&Monitor>| changed(known(found)?, &body).map_err(StoreError::Refused);
    let monitor = state.store.change_monitor(app.id, process_type, change, state.now()).await?;
    let (Bounds { min, max, p95_ms }, by) = (monitor.bounds, &actor.account.email);
    let what = if monitor.active {
        format!("Autoscaling of {kind} from {min} to {max} dynos at p95 {p95_ms} ms enabled by user {by}")
    } else {
        format!("Autoscaling of {kind} disabled by user {by}")
    };
    state.log_api(app.id, &what);
    Ok(shown(&monitor, is_told))
}

/// What is asked for, and what was known where nothing is. The error is for people.
fn changed(known: Known, body: &heroku::MonitorUpdate) -> Result<(bool, Bounds), String> {
    let (active, bounds) = known.unzip();
    let missing = |name: &str| format!("{name} is missing: how many dynos there may be.");
    let min = body.min_quantity.or(bounds.map(|bounds| bounds.min)).ok_or_else(|| missing("min_quantity"))?;
    let max = body.max_quantity.or(bounds.map(|bounds| bounds.max)).ok_or_else(|| missing("max_quantity"))?;
    let p95_ms = body.value.or(bounds.map(|bounds| bounds.p95_ms)).unwrap_or(P95_MS_DEFAULT);
    if !(1..=QUANTITY_MAX).contains(&min) || !(min..=QUANTITY_MAX).contains(&max) || p95_ms == 0 {
        return Err(format!(
            "There can be 1 to {QUANTITY_MAX} dynos, the maximum not below the minimum, and the time must not be 0 ms."
        ));
    }
    Ok((body.is_active.or(active).unwrap_or(true), Bounds { min, max, p95_ms }))
}

/// Whether anybody is told that the maximum is reached. It is for the app's notifications to say, and not for a monitor.
fn is_told(state: &ApiState, app: &App) -> ApiResult<bool> {
    let notifications = state.store.notifications(app.id)?;
    Ok(notifications.iter().any(|notification| notification.events.iter().any(|event| event == SCALING_MAXIMUM)))
}

fn shown(monitor: &Monitor, is_told: bool) -> heroku::Monitor {
    heroku::Monitor {
        action_type: "scale".to_owned(),
        app_id: monitor.app.uuid(),
        created_at: present::time(monitor.created_at),
        id: monitor.id.uuid(),
        is_active: monitor.active,
        max_quantity: monitor.bounds.max,
        metric_uuid: present::named_id("metric", "latency-p95"),
        min_quantity: monitor.bounds.min,
        name: "LATENCY_SCALE".to_owned(),
        notification_channels: is_told.then(|| "app".to_owned()).into_iter().collect(),
        notification_period: NOTIFICATION_PERIOD_MINUTES,
        op: "GREATER_OR_EQUAL".to_owned(),
        period: 1,
        process_type: monitor.process_type.to_string(),
        state: "ok".to_owned(),
        updated_at: present::time(monitor.updated_at),
        value: monitor.bounds.p95_ms,
    }
}
