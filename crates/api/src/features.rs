//! Heroku's features of apps: switches that clients know by name. This server has those that mean something here.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::routing::RoutingSettings;
use jiff::Timestamp;
use store::app::App;
use wire::platform_api::catalogue::{Feature, FeatureUpdate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

/// Compat: Heroku's name.
const SESSION_AFFINITY: &str = "http-session-affinity";

pub(crate) async fn list(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Vec<Feature>>> {
    Ok(Json(vec![session_affinity(&app, &state.store.routing(app.id)?)]))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<Feature>> {
    find(&state, &app, &wanted).map(Json)
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<FeatureUpdate>,
) -> ApiResult<Json<Feature>> {
    find(&state, &app, &wanted)?;
    let enabled = body.enabled.is_on();
    let change = move |settings: &mut RoutingSettings| settings.session_affinity = enabled;
    let (before, after) = state.store.change_routing(app.id, change, state.now()).await?;
    if before != after {
        let word = if enabled { "Enable" } else { "Disable" };
        state.log_api(app.id, &format!("{word} {SESSION_AFFINITY} feature by user {}", actor.account.email));
    }
    Ok(Json(session_affinity(&app, &after)))
}

fn find(state: &ApiState, app: &App, wanted: &str) -> ApiResult<Feature> {
    let feature = session_affinity(app, &state.store.routing(app.id)?);
    let found = feature.name == wanted || feature.id.to_string() == wanted;
    if found { Ok(feature) } else { Err(ApiError::not_found("feature")) }
}

fn session_affinity(app: &App, settings: &RoutingSettings) -> Feature {
    Feature {
        created_at: present::time(Timestamp::UNIX_EPOCH),
        description: "Lead each visitor's requests to the dyno that answered the first one, while it has room."
            .to_owned(),
        display_name: "Session affinity".to_owned(),
        doc_url: "https://devcenter.heroku.com/articles/session-affinity".to_owned(),
        enabled: settings.session_affinity,
        feedback_email: String::new(),
        id: present::named_id("feature", SESSION_AFFINITY),
        name: SESSION_AFFINITY.to_owned(),
        state: "general".to_owned(),
        updated_at: present::time(app.updated_at),
    }
}
