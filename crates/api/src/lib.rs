//! Heroku's Platform API, and what belongs to the same port: git, source uploads, log and output streams.
//!
//! Handlers authenticate, check, write desired state in one transaction, and answer. They never act on the world: the
//! reconciler does, and this crate does not know it. One file per resource of the API.

pub mod browser_login;
pub mod error;
pub mod exec;
pub mod git;
pub mod grants;
pub mod listen;
pub mod policy;
pub mod port_tunnel;
pub mod rate_limiter;
pub mod refused;
pub mod run_session;
pub mod state;
pub mod tls;
pub mod url_signer;
pub mod webhook_events;

mod account;
mod add_on_attachments;
mod add_on_services;
mod add_ons;
mod app_transfers;
mod apps;
mod auth;
mod authorizations;
mod berth;
mod buildpacks;
mod builds;
mod catalogue;
mod clone;
mod collaborators;
mod comparison;
mod concurrency;
mod config_vars;
mod consent;
mod conventions;
mod cron;
mod databases;
mod discard;
mod dns_zones;
mod domains;
mod dynos;
mod extract;
mod features;
mod formation;
mod ground;
mod health;
mod idle;
mod keys;
mod log_drains;
mod log_sessions;
mod login_page;
mod managed_certificates;
mod marker_guard;
mod monitors;
mod notifications;
mod oauth_clients;
mod oauth_tokens;
mod one_off;
mod origin;
mod peer;
mod people;
mod pipelines;
mod pre_authorizations;
mod present;
mod promotions;
mod protection;
mod range;
mod release_phase;
mod releases;
mod rendezvous;
mod replayed;
mod routing;
mod sessions;
mod slugs;
mod sni_endpoints;
mod sources;
mod streams;
mod traffic;
mod two_factor;
mod warning;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, patch, post, put};

use crate::state::ApiState;

/// Largest JSON body in bytes. Uploads have limits of their own.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest form or JSON body that is read before anybody has logged in, in bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Every route. Those in the first block need a token; the rest are guarded by what they themselves carry.
pub fn routes(state: Arc<ApiState>) -> Router {
    let authenticated = Router::new()
        .route("/account", get(account::info))
        .route("/account/rate-limits", get(account::rate_limits))
        .route("/users/{account}", get(account::info_by_user))
        .route("/account/keys", get(keys::list).post(keys::create))
        .route("/account/keys/{key}", get(keys::info).delete(keys::remove))
        .route("/account/app-transfers", get(app_transfers::list).post(app_transfers::create))
        .route(
            "/account/app-transfers/{transfer}",
            get(app_transfers::info).patch(app_transfers::update).delete(app_transfers::remove),
        )
        .route("/stacks", get(catalogue::stacks))
        .route("/stacks/{stack}", get(catalogue::stack))
        .route("/generations", get(catalogue::generations))
        .route("/generations/{generation}", get(catalogue::generation))
        .route("/account/features/{feature}", get(features::info_of_account))
        .route("/account/delinquency", get(account::delinquency))
        .route("/regions", get(catalogue::regions))
        .route("/regions/{region}", get(catalogue::region))
        .route("/apps", get(apps::list).post(apps::create))
        .route("/users/{account}/apps", get(apps::list_of_user))
        .route("/apps/{app}", get(apps::info).patch(apps::update).delete(apps::destroy))
        .route("/filters/apps", post(apps::filter))
        .route("/apps/{app}/available-stacks", get(catalogue::app_stacks))
        .route("/apps/{app}/available-dyno-sizes", get(formation::sizes_of_app))
        .route("/apps/{app}/usage", get(catalogue::no_usage))
        .route("/data/maintenances/v1/apps/{app}", get(catalogue::no_maintenances))
        .route("/pipelines", get(pipelines::list).post(pipelines::create))
        .route("/pipelines/{pipeline}", get(pipelines::info).patch(pipelines::update).delete(pipelines::destroy))
        .route("/pipelines/{pipeline}/pipeline-couplings", get(pipelines::couplings_of))
        .route("/pipelines/{pipeline}/latest-builds", get(pipelines::latest_builds))
        .route("/pipelines/{pipeline}/latest-deployments", get(pipelines::latest_deployments))
        .route("/pipelines/{pipeline}/latest-releases", get(pipelines::latest_releases))
        .route("/pipelines/{pipeline}/pipeline-stack", get(pipelines::stack_of))
        .route("/pipeline-couplings", get(pipelines::couplings).post(pipelines::couple))
        .route("/users/~/pipeline-couplings", get(pipelines::couplings))
        .route(
            "/pipeline-couplings/{coupling}",
            get(pipelines::coupling).patch(pipelines::move_to_stage).delete(pipelines::uncouple),
        )
        .route("/apps/{app}/pipeline-couplings", get(pipelines::coupling_of_app))
        .route("/pipeline-transfers", post(pipelines::transfer))
        .route("/pipeline-promotions", post(promotions::create))
        .route("/pipeline-promotions/{promotion}", get(promotions::info))
        .route("/pipeline-promotions/{promotion}/promotion-targets", get(promotions::targets))
        .route("/apps/{app}/acm", post(apps::enable_acm).delete(apps::disable_acm).patch(apps::refresh_acm))
        .route("/apps/{app}/domains", get(domains::list).post(domains::create))
        .route("/apps/{app}/domains/{domain}", get(domains::info).patch(domains::update).delete(domains::remove))
        .route("/apps/{app}/sni-endpoints", get(sni_endpoints::list).post(sni_endpoints::create))
        .route(
            "/apps/{app}/sni-endpoints/{endpoint}",
            get(sni_endpoints::info).patch(sni_endpoints::update).delete(sni_endpoints::remove),
        )
        .route("/apps/{app}/features", get(features::list))
        .route("/apps/{app}/features/{feature}", get(features::info).patch(features::update))
        .route("/apps/{app}/collaborators", get(collaborators::list).post(collaborators::create))
        .route("/apps/{app}/collaborators/{who}", get(collaborators::info).delete(collaborators::remove))
        .route("/apps/{app}/buildpack-installations", get(buildpacks::list).put(buildpacks::update))
        .route("/addon-services", get(add_on_services::list))
        .route("/addon-services/{service}", get(add_on_services::info))
        .route("/addon-services/{service}/plans", get(add_on_services::plans))
        .route("/addon-services/{service}/plans/{plan}", get(add_on_services::plan_of_service))
        .route("/addon-services/{service}/region-capabilities", get(add_on_services::region_capabilities_of))
        .route("/addon-region-capabilities", get(add_on_services::region_capabilities))
        .route("/regions/{region}/addon-region-capabilities", get(add_on_services::region_capabilities_in))
        .route("/plans/{plan}", get(add_on_services::plan_info))
        .route("/addons", get(add_ons::list))
        .route("/users/{account}/addons", get(add_ons::list_of_user))
        .route("/apps/{app}/addons", get(add_ons::list_of_app).post(add_ons::create))
        .route("/apps/{app}/addons/{addon}", get(add_ons::info_of_app).patch(add_ons::update).delete(add_ons::destroy))
        .route("/addons/{addon}", get(add_ons::info))
        .route("/addons/{addon}/config", get(add_ons::config).patch(add_ons::update_config))
        .route("/addons/{addon}/config/{credential}", get(add_ons::config_of_credential))
        .route("/addons/{addon}/log-drains", get(add_ons::nothing_of_add_on))
        .route("/addons/{addon}/webhooks", get(add_ons::nothing_of_add_on))
        .route("/addons/{addon}/webhook-deliveries", get(add_ons::nothing_of_add_on))
        .route("/addons/{addon}/webhook-events", get(add_ons::nothing_of_add_on))
        .route("/addons/{addon}/addon-attachments", get(add_on_attachments::list_of_add_on))
        .route("/actions/addons/resolve", post(add_ons::resolve))
        .route("/addon-attachments", get(add_on_attachments::list).post(add_on_attachments::create))
        .route("/addon-attachments/{attachment}", get(add_on_attachments::info).delete(add_on_attachments::remove))
        .route("/apps/{app}/addon-attachments", get(add_on_attachments::list_of_app))
        .route("/apps/{app}/addon-attachments/{attachment}", get(add_on_attachments::info_of_app))
        .route("/actions/addon-attachments/resolve", post(add_on_attachments::resolve))
        .route("/berth/addons/{addon}/config", patch(add_ons::change_config))
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
        .route("/apps/{app}/build-cache", delete(builds::empty_cache))
        .route("/apps/{app}/builds/{build}", get(builds::info).delete(builds::cancel))
        .route("/apps/{app}/slugs", post(slugs::create))
        .route("/apps/{app}/slugs/{slug}", get(slugs::info))
        .route("/apps/{app}/releases", get(releases::list).post(releases::create))
        .route("/apps/{app}/releases/{release}", get(releases::info))
        .route("/apps/{app}/releases/{release}/config-vars", get(config_vars::of_release))
        .route("/apps/{app}/log-sessions", post(log_sessions::create))
        .route("/apps/{app}/log-drains", get(log_drains::list).post(log_drains::create))
        .route("/apps/{app}/log-drains/{drain}", get(log_drains::info).delete(log_drains::remove))
        .route("/apps/{app}/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/apps/{app}/webhooks/{webhook}", get(webhooks::info).patch(webhooks::update).delete(webhooks::remove))
        .route("/apps/{app}/webhook-deliveries", get(webhooks::deliveries))
        .route("/apps/{app}/webhook-deliveries/{delivery}", get(webhooks::delivery))
        .route("/apps/{app}/webhook-events", get(webhooks::events))
        .route("/apps/{app}/webhook-events/{event}", get(webhooks::event))
        .route("/berth/exec-key", put(exec::introduce))
        .route("/berth/apps/{app}/exec", get(exec::reservations))
        .route("/berth/apps/{app}/dynos/{dyno}/exec", put(exec::open))
        .route("/berth/apps/{app}/dynos/{dyno}/visits", post(exec::visit::begin))
        .route("/berth/apps/{app}/visits/{visit}", get(exec::visit::connect))
        .route("/dyno-sizes", get(formation::sizes))
        .route("/dyno-sizes/{size}", get(formation::size))
        .route("/oauth/authorizations", get(authorizations::list).post(authorizations::create))
        .route(
            "/oauth/authorizations/{id}",
            get(authorizations::info).patch(authorizations::update).delete(authorizations::revoke),
        )
        .route("/oauth/authorizations/{id}/actions/regenerate-tokens", post(authorizations::regenerate))
        .route("/oauth/clients", get(oauth_clients::list).post(oauth_clients::create))
        .route(
            "/oauth/clients/{client}",
            get(oauth_clients::info).patch(oauth_clients::update).delete(oauth_clients::remove),
        )
        .route("/oauth/clients/{client}/actions/rotate-credentials", post(oauth_clients::rotate_credentials))
        .route("/oauth/sessions", get(sessions::list))
        .route("/oauth/sessions/{session}", delete(sessions::remove))
        .route("/apps/{app}/pre-authorizations", put(pre_authorizations::create))
        // Paths of Heroku's other hosts, which its client is led here for.
        .route("/apps/{app}/formation/{kind}/monitors", get(monitors::list).post(monitors::create))
        .route("/apps/{app}/formation/{kind}/monitors/{monitor}", patch(monitors::update))
        .route("/apps/{app}/formation/{kind}/metrics/errors", get(catalogue::no_error_counts))
        .route("/apps/{app}/router-metrics/errors", get(catalogue::no_error_counts))
        .route("/client/v11/databases/{addon}", get(databases::info))
        .route("/client/v11/databases/{addon}/wait_status", get(databases::wait_status))
        .route("/client/v11/databases/{addon}/upgrade/wait_status", get(databases::upgrade_status))
        .merge(refused::routes())
        .route("/berth/port", get(port_tunnel::connect))
        .route("/berth/authority", get(port_tunnel::authority))
        .route("/berth/status", get(berth::status))
        .route("/berth/gc", get(berth::garbage).post(berth::collect_garbage))
        .route("/berth/dns-zones", get(dns_zones::list))
        .route("/berth/dns-zones/{zone}", put(dns_zones::update).delete(dns_zones::remove))
        .route("/berth/audit", get(berth::audit))
        .route("/berth/apps/{app}/audit", get(berth::audit_of_app))
        .route(
            "/berth/account/two-factor",
            post(two_factor::propose).put(two_factor::confirm).delete(two_factor::disable),
        )
        .route("/berth/people", get(people::list).post(people::invite))
        .route("/berth/people/{person}/two-factor", delete(people::reset_two_factor))
        .route("/berth/people/{person}", patch(people::update).delete(people::remove))
        .route("/berth/apps/{app}/collaborators/{who}", patch(collaborators::update))
        .route("/berth/apps/{app}/builds", post(berth::create_build))
        .route("/berth/apps/{app}/builds/{build}", get(berth::build))
        .route("/berth/apps/{app}/releases/{release}", get(berth::release))
        .route("/berth/apps/{app}/releases/{release}/resume", post(berth::resume_release))
        .route("/berth/apps/{app}/releases/{release}/rollback", post(release_phase::roll_back))
        .route("/berth/apps/{app}/config-vars", patch(release_phase::change_config))
        .route("/berth/apps/{app}/concurrency", get(concurrency::show).patch(concurrency::declare))
        .route("/berth/apps/{app}/clone", post(clone::create))
        .route("/berth/apps/{app}/notifications", get(notifications::list).post(notifications::create))
        .route("/berth/apps/{app}/notifications/{notification}", delete(notifications::remove))
        .route("/berth/pipelines/{pipeline}/compare", get(comparison::compare))
        .route("/berth/pipelines/{pipeline}/protections", get(protection::list))
        .route("/berth/pipelines/{pipeline}/protections/{stage}", put(protection::protect))
        .route("/berth/pipelines/{pipeline}/protections/{stage}/lock", put(protection::lock).delete(protection::unlock))
        .route("/berth/apps/{app}/cron", get(cron::list).post(cron::create))
        .route("/berth/apps/{app}/cron/{job}", get(cron::info).patch(cron::update).delete(cron::remove))
        .route("/berth/apps/{app}/cron/{job}/runs", get(cron::runs).post(cron::start))
        .route("/berth/apps/{app}/cron/{job}/runs/{number}", get(cron::run))
        .route("/berth/apps/{app}/routing", get(routing::show).patch(routing::update))
        .route("/berth/apps/{app}/health", get(health::show).patch(health::update).delete(health::remove))
        .route("/berth/apps/{app}/traffic", get(traffic::show).patch(traffic::update))
        .route("/berth/apps/{app}/domains", get(routing::domains))
        .route("/berth/apps/{app}/domains/{domain}", patch(routing::pass_on))
        .route("/berth/apps/{app}/runs", post(berth::create_run))
        .route("/berth/apps/{app}/runs/{dyno}", get(berth::run))
        .route("/berth/apps/{app}/runs/{dyno}/session", get(run_session::connect))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), auth::require_token))
        .layer(middleware::from_fn(conventions::apply));
    let signed = Router::new()
        .route("/berth/sources/{source}", put(sources::upload).get(sources::download))
        .route("/berth/slugs/{slug}", put(slugs::upload).get(slugs::download))
        .route("/berth/streams/{stream}", get(streams::output))
        .route("/berth/logs/{app}", get(log_sessions::stream))
        .layer(DefaultBodyLimit::disable());
    let public = Router::new()
        .route("/api/v4/current-status", get(catalogue::current_status))
        .route("/buildpacks", get(buildpacks::registry))
        .route("/buildpacks/{name}", get(buildpacks::registered))
        .route("/buildpacks/{name}/revisions", get(buildpacks::revisions))
        .route("/buildpacks/{name}/readme", get(buildpacks::read_me))
        .route("/auth", post(browser_login::create))
        .route("/auth/cli/{login}", get(browser_login::wait))
        .route("/auth/browser/{login}", get(browser_login::show).post(browser_login::log_in))
        .route("/oauth/authorize", get(consent::show).post(consent::agree))
        .route("/oauth/token", post(oauth_tokens::create_by_form))
        .route("/oauth/tokens", post(oauth_tokens::create))
        .route("/berth/addon-services/{service}", get(add_on_services::about))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX));
    let git = Router::new()
        .route("/{repository}/info/refs", get(git::info_refs))
        .route("/{repository}/git-upload-pack", post(git::upload_pack))
        .route("/{repository}/git-receive-pack", post(git::receive_pack))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .merge(authenticated)
        .merge(signed)
        .merge(public)
        .merge(git)
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_route)
        .layer(middleware::from_fn(origin::add_request_id))
        .with_state(state)
}
