//! What Heroku's API offers and this server does not: each refusal says why and what to do instead.
//!
//! One table, from which the routes and the page `docs/reference/api.md` follow.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodFilter, on};

use crate::auth::Actor;
use crate::error::ApiError;
use crate::state::ApiState;

/// One route that is refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    pub method: &'static str,
    pub path: &'static str,
    /// Why, and what to do instead. Whole sentences.
    pub reason: &'static str,
}

const ADD_ONS: &str = "This server has no add-ons yet. Run the service yourself and give its address to the app: \
                       `heroku config:set DATABASE_URL=postgres://…`.";
const TEAMS: &str = "This server has no teams: everybody who has a token of it works with the same apps.";
const SPACES: &str = "There are no private spaces: every app runs on this one machine, behind the same router.";
const CI: &str = "Tests do not run on this server. Run them in your own CI, and deploy from there: `berth deploy`.";
const REVIEW_APPS: &str = "Review apps are not available yet. Make an app for the branch (`heroku create`), and push \
                           to it.";
const OAUTH: &str = "There are no OAuth clients: make a token with `heroku authorizations:create`.";
const CONTAINERS: &str = "Images cannot be released yet: deploy the source with `git push` or `berth deploy`.";
const TELEMETRY: &str = "Telemetry drains are not available yet: `heroku drains:add` sends the logs.";
const PEOPLE: &str = "This server has one account so far. Give somebody a token of their own instead: \
                      `heroku authorizations:create --description ada`.";
const ACCOUNT: &str = "The account is made by the server itself and cannot be changed through the API.";

const fn refusal(method: &'static str, path: &'static str, reason: &'static str) -> Refusal {
    Refusal { method, path, reason }
}

/// Everything that is refused, by topic.
pub const REFUSED: [Refusal; 35] = [
    refusal("POST", "/apps/{app}/addons", ADD_ONS),
    refusal("POST", "/addon-attachments", ADD_ONS),
    refusal("POST", "/teams/apps", TEAMS),
    refusal("POST", "/teams", TEAMS),
    refusal("PATCH", "/teams/apps/{app}", TEAMS),
    refusal("POST", "/teams/apps/{app}/collaborators", TEAMS),
    refusal("PATCH", "/teams/apps/{app}/collaborators/{collaborator}", TEAMS),
    refusal("POST", "/spaces", SPACES),
    refusal("POST", "/pipeline-transfers", TEAMS),
    refusal("POST", "/test-runs", CI),
    refusal("POST", "/pipelines/{pipeline}/test-runs", CI),
    refusal("POST", "/app-setups", "Apps are not set up from a source yet: `heroku create`, then `git push`."),
    refusal("POST", "/review-apps", REVIEW_APPS),
    refusal("POST", "/pipelines/{pipeline}/review-app-config", REVIEW_APPS),
    refusal("PATCH", "/pipelines/{pipeline}/review-app-config", REVIEW_APPS),
    refusal("POST", "/oauth/clients", OAUTH),
    refusal("POST", "/oauth/tokens", OAUTH),
    refusal("PATCH", "/apps/{app}/formation/{kind}/docker-image", CONTAINERS),
    refusal("POST", "/apps/{app}/telemetry-drains", TELEMETRY),
    refusal("POST", "/telemetry-drains", TELEMETRY),
    refusal("POST", "/apps/{app}/collaborators", PEOPLE),
    refusal("POST", "/account/app-transfers", PEOPLE),
    refusal("PATCH", "/account", ACCOUNT),
    refusal("DELETE", "/account", ACCOUNT),
    refusal(
        "POST",
        "/apps/{app}/dynos/{dyno}",
        "Commands inside a running dyno are not available yet: `heroku run` \
        starts a one-off dyno with the same code and config.",
    ),
    refusal("POST", "/credits", "Nothing is billed here."),
    refusal("POST", "/account/features/{feature}", "There are no features to switch on."),
    refusal("PATCH", "/account/features/{feature}", "There are no features to switch on."),
    refusal("PATCH", "/apps/{app}/features/{feature}", "There are no features to switch on."),
    refusal("POST", "/favorites", "Favourites belong to Heroku's dashboard, which this server does not have."),
    refusal("POST", "/apps/{app}/formation/{kind}/monitors", AUTOSCALING),
    refusal("PATCH", "/apps/{app}/formation/{kind}/monitors/{monitor}", AUTOSCALING),
    refusal(
        "POST",
        "/password-resets",
        "There are no passwords: root on the server makes a token with \
        `berth tokens:reset`.",
    ),
    refusal("POST", "/invoices", "Nothing is billed here."),
    refusal("PUT", "/apps/{app}/pre-authorizations", "Two-factor codes are not asked for on this server."),
];

const AUTOSCALING: &str = "Autoscaling is not available yet: set the number of dynos with `heroku ps:scale`.";

/// The routes of the table. Like all others they answer only to somebody with a token.
pub(crate) fn routes() -> Router<Arc<ApiState>> {
    REFUSED.iter().fold(Router::new(), |routes, refused| {
        let method = match refused.method {
            "POST" => MethodFilter::POST,
            "PUT" => MethodFilter::PUT,
            "PATCH" => MethodFilter::PATCH,
            _delete => MethodFilter::DELETE,
        };
        routes.route(refused.path, on(method, async move |_actor: Actor| ApiError::unsupported(refused.reason)))
    })
}

/// Answers for the whole of a resource that does not exist here.
pub(crate) async fn no_team() -> ApiError {
    ApiError::not_found("team")
}

pub(crate) async fn no_space() -> ApiError {
    ApiError::not_found("space")
}

pub(crate) async fn no_add_on() -> ApiError {
    ApiError::not_found("add_on")
}

pub(crate) async fn no_attachment() -> ApiError {
    ApiError::not_found("add_on attachment")
}

pub(crate) async fn no_session() -> ApiError {
    ApiError::not_found("session")
}

pub(crate) async fn no_oauth_client() -> ApiError {
    ApiError::not_found("client")
}
