//! Heroku's Platform API, and what belongs to the same port: git, source uploads, log and output streams.
//!
//! Handlers authenticate, check, write desired state in one transaction, and answer. They never act on the world: the
//! reconciler does, and this crate does not know it. One file per resource of the API.

pub mod error;
pub mod git;
pub mod listen;
pub mod state;
pub mod tls;
pub mod url_signer;

mod account;
mod apps;
mod auth;
mod authorizations;
mod berth;
mod builds;
mod config_vars;
mod dynos;
mod extract;
mod formation;
mod log_sessions;
mod origin;
mod present;
mod range;
mod releases;
mod slugs;
mod sources;
mod streams;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post, put};

use crate::state::ApiState;

/// Largest JSON body in bytes. Uploads have limits of their own.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Every route. Those in the first block need a token; the rest are guarded by what they themselves carry.
pub fn routes(state: Arc<ApiState>) -> Router {
    let authenticated = Router::new()
        .route("/account", get(account::info))
        .route("/account/rate-limits", get(account::rate_limits))
        .route("/users/~", get(account::info))
        .route("/apps", get(apps::list).post(apps::create))
        .route("/users/~/apps", get(apps::list))
        .route("/apps/{app}", get(apps::info).patch(apps::update).delete(apps::destroy))
        .route("/apps/{app}/config-vars", get(config_vars::list).patch(config_vars::update))
        .route("/apps/{app}/formation", get(formation::list).patch(formation::update_many))
        .route("/apps/{app}/formation/{kind}", get(formation::info).patch(formation::update_one))
        .route("/apps/{app}/dynos", get(dynos::list).post(dynos::create).delete(dynos::restart_all))
        .route("/apps/{app}/dynos/{dyno}", get(dynos::info).delete(dynos::restart_one))
        .route("/apps/{app}/dynos/{dyno}/actions/stop", post(dynos::stop_one))
        .route("/apps/{app}/formations/{kind}", delete(dynos::restart_type))
        .route("/apps/{app}/formations/{kind}/actions/stop", post(dynos::stop_type))
        .route("/sources", post(sources::create))
        .route("/apps/{app}/sources", post(sources::create_for_app))
        .route("/apps/{app}/builds", get(builds::list).post(builds::create))
        .route("/apps/{app}/builds/{build}", get(builds::info).delete(builds::cancel))
        .route("/apps/{app}/slugs", post(slugs::create))
        .route("/apps/{app}/slugs/{slug}", get(slugs::info))
        .route("/apps/{app}/releases", get(releases::list).post(releases::create))
        .route("/apps/{app}/releases/{release}", get(releases::info))
        .route("/apps/{app}/releases/{release}/config-vars", get(config_vars::of_release))
        .route("/apps/{app}/log-sessions", post(log_sessions::create))
        .route("/dyno-sizes", get(formation::sizes))
        .route("/oauth/authorizations", get(authorizations::list).post(authorizations::create))
        .route("/oauth/authorizations/{id}", delete(authorizations::revoke))
        .route("/berth/status", get(berth::status))
        .route("/berth/gc", get(berth::garbage).post(berth::collect_garbage))
        .route("/berth/audit", get(berth::audit))
        .route("/berth/apps/{app}/builds", post(berth::create_build))
        .route("/berth/apps/{app}/builds/{build}", get(berth::build))
        .route("/berth/apps/{app}/releases/{release}", get(berth::release))
        .route("/berth/apps/{app}/releases/{release}/resume", post(berth::resume_release))
        .route("/berth/apps/{app}/runs", post(berth::create_run))
        .route("/berth/apps/{app}/runs/{dyno}", get(berth::run))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), auth::require_token));
    let signed = Router::new()
        .route("/berth/sources/{source}", put(sources::upload).get(sources::download))
        .route("/berth/slugs/{slug}", put(slugs::upload).get(slugs::download))
        .route("/berth/streams/{stream}", get(streams::output))
        .route("/berth/logs/{app}", get(log_sessions::stream))
        .layer(DefaultBodyLimit::disable());
    let git = Router::new()
        .route("/{repository}/info/refs", get(git::info_refs))
        .route("/{repository}/git-upload-pack", post(git::upload_pack))
        .route("/{repository}/git-receive-pack", post(git::receive_pack))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .merge(authenticated)
        .merge(signed)
        .merge(git)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_route)
        .layer(middleware::from_fn(origin::add_request_id))
        .with_state(state)
}
