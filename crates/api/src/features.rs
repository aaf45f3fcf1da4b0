//! Heroku's features of apps: switches that clients know by name. This server has those that mean something here.
//!
//! `runtime-heroku-exec` is no switch here: who may operate an app may come to its dynos. Clients look for it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::{Errand, Permission};
use domain::routing::RoutingSettings;
use jiff::Timestamp;
use store::app::{App, AppChange};
use wire::platform_api::catalogue::{Feature, FeatureUpdate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;
use crate::two_factor;

/// Compat: Heroku's name.
const SESSION_AFFINITY: &str = "http-session-affinity";
/// Compat: `heroku ps:exec` restarts the dynos of an app without it.
const EXEC: &str = "runtime-heroku-exec";

/// Compat: a feature of accounts. The client asks another host of Heroku's for a pipeline's repository where nobody knows it.
const REPOSITORIES: &str = "dashboard-repositories-api";

/// Ours: who changes the app shows a code first.
const SECOND_FACTOR: &str = "second-factor";

pub(crate) async fn list(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Vec<Feature>>> {
    Ok(Json(all(&app, &state.store.routing(app.id)?)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<Feature>> {
    find(&state, &app, &wanted).map(Json)
}

/// The one feature of accounts, which is off.
pub(crate) async fn info_of_account(_actor: Actor, Path(wanted): Path<String>) -> ApiResult<Json<Feature>> {
    if wanted != REPOSITORIES {
        return Err(ApiError::not_found("feature"));
    }
    let description = "Connects pipelines to repositories; there is nothing to connect to here.";
    Ok(Json(feature(Timestamp::UNIX_EPOCH, REPOSITORIES, "Repositories of pipelines", description, false)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<FeatureUpdate>,
) -> ApiResult<Json<Feature>> {
    let feature = find(&state, &app, &wanted)?;
    let enabled = body.enabled.is_on();
    if feature.name == EXEC {
        let refused = "Sessions in dynos cannot be switched off for an app; whoever may operate it may open them \
                       (`berth access:update` takes that permission away).";
        return if enabled { Ok(Json(feature)) } else { Err(ApiError::invalid(refused)) };
    }
    let app = if feature.name == SECOND_FACTOR {
        ask_for_second_factors(&state, &actor, &app, enabled).await?
    } else {
        let change = move |settings: &mut RoutingSettings| settings.session_affinity = enabled;
        state.store.change_routing(app.id, change, state.now()).await?;
        app
    };
    if feature.enabled != enabled {
        let word = if enabled { "Enable" } else { "Disable" };
        state.log_api(app.id, &format!("{word} {} feature by user {}", feature.name, actor.account.email));
    }
    find(&state, &app, &feature.name).map(Json)
}

async fn ask_for_second_factors(state: &ApiState, actor: &Actor, app: &App, enabled: bool) -> ApiResult<App> {
    actor.must(state, app, Permission::Manage, Errand::Other)?;
    if enabled && !two_factor::is_enabled(state, actor.id())? {
        return Err(ApiError::invalid("You would shut yourself out: begin with `berth 2fa:enable`."));
    }
    let change = AppChange { second_factor: Some(enabled), ..AppChange::default() };
    Ok(state.store.update_app(app.id, change, state.now()).await?)
}

fn find(state: &ApiState, app: &App, wanted: &str) -> ApiResult<Feature> {
    let mut features = all(app, &state.store.routing(app.id)?).into_iter();
    let found = features.find(|feature| feature.name == wanted || feature.id.to_string() == wanted);
    found.ok_or_else(|| ApiError::not_found("feature"))
}

fn all(app: &App, routing: &RoutingSettings) -> Vec<Feature> {
    vec![
        feature(
            app.updated_at,
            SESSION_AFFINITY,
            "Session affinity",
            "Lead each visitor's requests to the dyno that answered the first one, while it has room.",
            routing.session_affinity,
        ),
        feature(
            app.updated_at,
            SECOND_FACTOR,
            "Second factor",
            "Ask whoever changes the app, or reads its config vars, for a code of their authenticator app.",
            app.second_factor,
        ),
        feature(
            app.updated_at,
            EXEC,
            "Sessions in dynos",
            "Come to a dyno that runs: `ps:exec`, `ps:copy`, `ps:forward`, `ps:socks`.",
            true,
        ),
    ]
}

fn feature(updated_at: Timestamp, name: &str, display_name: &str, description: &str, enabled: bool) -> Feature {
    Feature {
        created_at: present::time(Timestamp::UNIX_EPOCH),
        description: description.to_owned(),
        display_name: display_name.to_owned(),
        doc_url: match name {
            SESSION_AFFINITY => "https://devcenter.heroku.com/articles/session-affinity".to_owned(),
            EXEC => "https://devcenter.heroku.com/articles/exec".to_owned(),
            _ours => String::new(),
        },
        enabled,
        feedback_email: String::new(),
        id: present::named_id("feature", name),
        name: name.to_owned(),
        state: "general".to_owned(),
        updated_at: present::time(updated_at),
    }
}
