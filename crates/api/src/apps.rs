//! Apps: create, list, info, update, destroy.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use domain::access::{Errand, Permission};
use domain::name::AppName;
use http::{HeaderMap, StatusCode};
use store::account::Account;
use store::app::AppChange;
use uuid::Uuid;
use wire::platform_api as heroku;
use wire::platform_api::catalogue::{AppFilter, TeamApp};

use crate::app_transfers;
use crate::auth::Actor;
use crate::catalogue::STACK_ALIASES;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::range::page;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let apps = actor.visible_apps(&state)?;
    let page = page(&headers, "name", &apps, |app| app.name.to_string(), |app| present::app(&state, &origin, app))?;
    Ok((app_transfers::notice(&state, actor.id())?, page).into_response())
}

/// An account's own apps and those it works on. Nobody sees those of others.
pub(crate) async fn list_of_user(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let is_actor = |account: Account| account.id == actor.id();
    if wanted != "~" && !state.store.find_account(&wanted)?.is_some_and(is_actor) {
        return Err(ApiError::not_found("user"));
    }
    list(State(state), actor, origin, headers).await
}

/// The apps among the given ids, for clients that hold only ids.
pub(crate) async fn filter(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
    Body(body): Body<AppFilter>,
) -> ApiResult<Response> {
    let apps = actor.visible_apps(&state)?;
    let wanted = apps.iter().filter(|app| body.within.id.contains(&app.id.to_string()));
    let shown = |app| Ok(TeamApp::from(present::app(&state, &origin, app)?));
    page(&headers, "id", wanted, |app| app.id.uuid(), shown)
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Body(body): Body<heroku::AppCreate>,
) -> ApiResult<(StatusCode, Json<heroku::App>)> {
    let name = match &body.name {
        Some(name) => parse_name(name)?,
        None => parse_name(&generated_name(Uuid::new_v4()))?,
    };
    if let Some(stack) = &body.stack {
        check_stack(stack)?;
    }
    if let Some(region) = body.region.as_ref().filter(|region| **region != present::region().name) {
        return Err(ApiError::invalid(format!(
            "There is no region {region:?}: everything runs on this machine, whose region is called {}.",
            present::region().name
        )));
    }
    let app = state.store.create_app(name, actor.id(), state.now()).await?;
    state.log_api(app.id, &format!("Initial release by user {}", actor.account.email));
    Ok((StatusCode::CREATED, Json(present::app(&state, &origin, &app)?)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
) -> ApiResult<Json<heroku::App>> {
    Ok(Json(present::app(&state, &origin, &app)?))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Body(body): Body<heroku::AppUpdate>,
) -> ApiResult<Json<heroku::App>> {
    if body.name.is_some() {
        // Its address changes with it.
        actor.must(&state, &app, Permission::Manage, Errand::Other)?;
    }
    let name = body.name.as_deref().map(parse_name).transpose()?;
    if let Some(stack) = &body.build_stack {
        check_stack(stack)?;
    }
    let change = AppChange { name, maintenance: body.maintenance.map(heroku::Switch::is_on), ..AppChange::default() };
    let app = state.store.update_app(app.id, change, state.now()).await?;
    Ok(Json(present::app(&state, &origin, &app)?))
}

pub(crate) async fn destroy(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
) -> ApiResult<Json<heroku::App>> {
    let shown = present::app(&state, &origin, &app)?;
    state.store.destroy_app(app.id, actor.id(), state.now()).await?;
    Ok(Json(shown))
}

/// Names of Heroku's stacks are accepted: whatever is deployed runs on the machine's own userland.
fn check_stack(wanted: &str) -> ApiResult<()> {
    let own = present::stack();
    if wanted == "container" {
        return Err(ApiError::invalid(
            "The container stack is not available yet: deploy the source with `git push` or `berth deploy`.",
        ));
    }
    // Compat: the library `heroku3` asks for `cedar` where nobody names a stack.
    if wanted == "cedar" || wanted == own.name || wanted == own.id.to_string() || STACK_ALIASES.contains(&wanted) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "There is no stack {wanted:?}. Stacks are: {}, {}.",
        own.name,
        STACK_ALIASES.join(", ")
    )))
}

pub(crate) async fn enable_acm(
    state: State<Arc<ApiState>>,
    origin: Origin,
    app: TheApp,
) -> ApiResult<Json<heroku::App>> {
    let config = &state.config;
    if !config.acme_terms_agreed {
        return Err(ApiError::invalid(format!(
            "Nothing can be ordered from {} before its terms of service are agreed to: read them, set `terms_agreed = \
             true` in the section [acme] of settings.toml, and start the server again.",
            config.acme_directory
        )));
    }
    set_acm(state, origin, app, true).await
}

pub(crate) async fn disable_acm(
    state: State<Arc<ApiState>>,
    origin: Origin,
    app: TheApp,
) -> ApiResult<Json<heroku::App>> {
    set_acm(state, origin, app, false).await
}

/// Certificates that are managed are looked after all the time. What is new is that somebody says that the cause of a
/// failure is gone, so that the next attempt need not wait.
pub(crate) async fn refresh_acm(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
) -> ApiResult<Json<heroku::App>> {
    if !app.acm {
        return Err(ApiError::invalid("Certificates are not managed for this app: `heroku certs:auto:enable`."));
    }
    let change = AppChange { acm_refreshed_at: Some(state.now()), ..AppChange::default() };
    let app = state.store.update_app(app.id, change, state.now()).await?;
    Ok(Json(present::app(&state, &origin, &app)?))
}

async fn set_acm(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    acm: bool,
) -> ApiResult<Json<heroku::App>> {
    let change = AppChange { acm: Some(acm), acm_refreshed_at: acm.then(|| state.now()), ..AppChange::default() };
    let app = state.store.update_app(app.id, change, state.now()).await?;
    Ok(Json(present::app(&state, &origin, &app)?))
}

fn parse_name(text: &str) -> ApiResult<AppName> {
    AppName::parse(text).map_err(|error| ApiError::invalid(error.to_string()))
}

/// A name for those who give none, in Heroku's shape: `quiet-harbor-48213`.
fn generated_name(random: Uuid) -> String {
    const FIRST: [&str; 16] = [
        "quiet", "calm", "bright", "steady", "silent", "gentle", "amber", "misty", "polar", "silver", "brisk", "clear",
        "deep", "early", "golden", "mild",
    ];
    const SECOND: [&str; 16] = [
        "harbor", "anchor", "beacon", "current", "delta", "fjord", "island", "jetty", "lagoon", "mooring", "pier",
        "reef", "sail", "tide", "wharf", "wave",
    ];
    let (number, one, two, _rest) = random.as_fields();
    format!("{}-{}-{}", FIRST[usize::from(one % 16)], SECOND[usize::from(two % 16)], number % 90_000 + 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generated_name_is_a_valid_one() {
        for _round in 0..1000 {
            let name = generated_name(Uuid::new_v4());
            assert!(AppName::parse(&name).is_ok_and(|parsed| parsed.as_str() == name), "{name}");
        }
    }
}
