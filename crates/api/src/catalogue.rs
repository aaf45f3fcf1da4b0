//! What is the same for every account: stacks, regions, and features of accounts, of which there are none.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;
use wire::platform_api::catalogue::{Generation, Region, RegionProvider, Stack};

use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::present;
use crate::state::ApiState;

/// Names of Heroku's that `stack:set` accepts: all of them mean the machine's own userland.
pub(crate) const STACK_ALIASES: [&str; 2] = ["heroku-22", "heroku-24"];

pub(crate) async fn stacks() -> Json<Vec<Stack>> {
    Json(all_stacks())
}

pub(crate) async fn app_stacks(_app: TheApp) -> Json<Vec<Stack>> {
    Json(all_stacks())
}

pub(crate) async fn stack(Path(wanted): Path<String>) -> ApiResult<Json<Stack>> {
    let found = all_stacks().into_iter().find(|stack| stack.name == wanted || stack.id.to_string() == wanted);
    found.map(Json).ok_or_else(|| ApiError::not_found("stack"))
}

fn all_stacks() -> Vec<Stack> {
    let own = present::stack();
    let built_in = |id: Uuid, name: String, default: bool, state: &str| Stack {
        created_at: present::time(Timestamp::UNIX_EPOCH),
        default,
        id,
        name,
        state: state.to_owned(),
        updated_at: present::time(Timestamp::UNIX_EPOCH),
    };
    let aliases = STACK_ALIASES.map(|name| built_in(present::named_id("stack", name), name.to_owned(), false, "alias"));
    std::iter::once(built_in(own.id, own.name, true, "public")).chain(aliases).collect()
}

pub(crate) async fn generations() -> Json<Vec<Generation>> {
    Json(vec![own_generation()])
}

pub(crate) async fn generation(Path(wanted): Path<String>) -> ApiResult<Json<Generation>> {
    let own = own_generation();
    let is_own = wanted == own.name || wanted == own.id.to_string();
    if is_own { Ok(Json(own)) } else { Err(ApiError::not_found("generation")) }
}

fn own_generation() -> Generation {
    let (id, name) = present::CEDAR;
    let epoch = || present::time(Timestamp::UNIX_EPOCH);
    Generation { created_at: epoch(), id, name: name.to_owned(), updated_at: epoch() }
}

pub(crate) async fn regions() -> Json<Vec<Region>> {
    Json(vec![own_region()])
}

pub(crate) async fn region(Path(wanted): Path<String>) -> ApiResult<Json<Region>> {
    let own = own_region();
    if wanted == own.name || wanted == own.id.to_string() { Ok(Json(own)) } else { Err(ApiError::not_found("region")) }
}

pub(crate) fn own_region() -> Region {
    let own = present::region();
    Region {
        country: "Here".to_owned(),
        created_at: present::time(Timestamp::UNIX_EPOCH),
        description: "This machine".to_owned(),
        id: own.id,
        locale: "Here".to_owned(),
        name: own.name,
        private_capable: false,
        // The schema knows only regions of Amazon's; clients show the name.
        provider: RegionProvider { name: "berth".to_owned(), region: "us-east-1".to_owned() },
        updated_at: present::time(Timestamp::UNIX_EPOCH),
    }
}

/// A list of which this server has nothing, and that is the truth.
pub(crate) async fn nothing() -> Json<Vec<Value>> {
    Json(Vec::new())
}

pub(crate) async fn nothing_of_app(_app: TheApp) -> Json<Vec<Value>> {
    Json(Vec::new())
}

/// What Heroku's metrics count by code. Nothing is counted yet; the codes are in the app's log.
pub(crate) async fn no_error_counts(_app: TheApp) -> Json<Value> {
    Json(json!({"data": {}}))
}

/// What add-ons are billed by. Nothing is.
pub(crate) async fn no_usage(_app: TheApp) -> Json<Value> {
    Json(json!({"addons": []}))
}

/// When Heroku works on the databases of an app: it has none.
pub(crate) async fn no_maintenances(_app: TheApp) -> Json<Value> {
    Json(json!({"maintenances": []}))
}

/// What `heroku status` reads from Heroku's status site.
pub(crate) async fn current_status(State(state): State<Arc<ApiState>>) -> Json<Value> {
    let router = if state.platform.router_health().is_some() { "green" } else { "red" };
    let system = |name: &str, status: &str| json!({"system": name, "status": status});
    Json(json!({
        "status": [system("Apps", router), system("Data", "green"), system("Tools", "green")],
        "incidents": [],
        "scheduled": [],
    }))
}
