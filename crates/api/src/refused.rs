//! What Heroku's API offers and this server does not: each part says why and what to do instead.
//!
//! One table, from which the routes and the page `docs/reference/api.md` follow: long, because Heroku's API is.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodFilter, get, on};

use crate::auth::Actor;
use crate::catalogue::{nothing, nothing_of_app};
use crate::error::ApiError;
use crate::state::ApiState;

/// A part of Heroku's API that does not exist here.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    pub title: &'static str,
    /// Why, and what to do instead. Whole sentences.
    pub reason: &'static str,
    /// Requests that want to change something, or lead to that: they get the reason. `*` is every method.
    pub refused: &'static [(&'static str, &'static str)],
    /// Lists, in which there is nothing.
    pub empty: &'static [&'static str],
    /// Single resources, and what there is none of: that it is not found, and the reason.
    pub missing: &'static [(&'static str, &'static str)],
}

/// Everything that does not exist here.
pub const TOPICS: &[Topic] = &[
    Topic {
        title: "Add-ons of other providers",
        reason: "Add-ons are provided by this server itself: nobody else reports on them, logs for them or signs in to them. Webhooks are an app's: `heroku webhooks:add -i api:addon`.",
        refused: &[
            ("POST", "/addons/{addon}/actions/{action}"),
            ("PUT", "/addons/{addon}/log-drains/{drain}"),
            ("POST", "/addons/{addon}/webhooks"),
            ("PATCH", "/addons/{addon}/webhooks/{webhook}"),
            ("DELETE", "/addons/{addon}/webhooks/{webhook}"),
        ],
        empty: &[],
        missing: &[
            ("/apps/{app}/addons/{addon}/sso", "add_on"),
            ("/addons/{addon}/sso", "add_on"),
            ("/addons/{addon}/webhooks/{webhook}", "webhook"),
            ("/addons/{addon}/webhook-deliveries/{delivery}", "webhook_delivery"),
            ("/addons/{addon}/webhook-events/{event}", "webhook_event"),
            ("/addon-attachments/{attachment}/telemetry-ingress-info", "add_on attachment"),
            ("/plans/{plan}/meters", "plan"),
            ("/plans/{plan}/meters/{meter}", "plan"),
        ],
    },
    Topic {
        title: "Apps of teams",
        reason: "This server has no teams, and so nobody who joins an app or whom a lock keeps out. Let somebody in with `heroku access:add ada@example.com`, give an app to somebody with `berth apps:transfer ada@example.com`, keep code out of a stage with `berth pipelines:lock`.",
        refused: &[
            ("PATCH", "/teams/apps/{app}"),
            ("POST", "/teams/apps/{app}/collaborators"),
            ("PATCH", "/teams/apps/{app}/collaborators/{collaborator}"),
            ("DELETE", "/teams/apps/{app}/collaborators/{collaborator}"),
        ],
        empty: &[],
        missing: &[
            ("/teams/apps/{app}", "team"),
            ("/teams/apps/{app}/collaborators", "team"),
            ("/teams/apps/{app}/collaborators/{collaborator}", "team"),
        ],
    },
    Topic {
        title: "Teams",
        reason: "This server has no teams: let somebody into an app with `heroku access:add ada@example.com`.",
        refused: &[
            ("POST", "/teams"),
            ("PATCH", "/teams/{team}"),
            ("DELETE", "/teams/{team}"),
            ("POST", "/teams/apps"),
            ("POST", "/teams/invitations/{token}/accept"),
            ("PATCH", "/teams/{team}/preferences"),
            ("POST", "/teams/{team}/allowed-addon-services"),
            ("DELETE", "/teams/{team}/allowed-addon-services/{service}"),
            ("POST", "/teams/{team}/identity-providers"),
            ("PATCH", "/teams/{team}/identity-providers/{provider}"),
            ("DELETE", "/teams/{team}/identity-providers/{provider}"),
            ("PUT", "/teams/{team}/invitations"),
            ("DELETE", "/teams/{team}/invitations/{invitation}"),
            ("POST", "/teams/{team}/members"),
            ("PUT", "/teams/{team}/members"),
            ("PATCH", "/teams/{team}/members"),
            ("DELETE", "/teams/{team}/members/{member}"),
            ("POST", "/teams/{team}/oauth/authorizations"),
            ("POST", "/teams/{team}/payments"),
        ],
        empty: &["/teams"],
        missing: &[
            ("/teams/{team}", "team"),
            ("/teams/{team}/{part}", "team"),
            ("/teams/{team}/allowed-addon-services", "team"),
            ("/teams/{team}/apps/{app}/usage", "team"),
            ("/teams/{team}/identity-providers", "team"),
            ("/teams/{team}/invitations", "team"),
            ("/teams/{team}/members", "team"),
            ("/teams/{team}/preferences", "team"),
            ("/teams/{team}/features/{feature}", "team"),
            ("/teams/{team}/invoices/{invoice}", "team"),
            ("/teams/{team}/members/{member}/apps", "team"),
            ("/teams/{team}/oauth/authorizations", "team"),
            ("/teams/{team}/usage/{period}", "team"),
        ],
    },
    Topic {
        title: "Enterprise accounts and single sign-on",
        reason: "This server has neither enterprise accounts nor single sign-on: everybody has an account of their own here.",
        refused: &[
            ("PATCH", "/enterprise-accounts/{enterprise}"),
            ("POST", "/enterprise-accounts/{enterprise}/members"),
            ("PATCH", "/enterprise-accounts/{enterprise}/members/{member}"),
            ("DELETE", "/enterprise-accounts/{enterprise}/members/{member}"),
            ("POST", "/enterprise-accounts/{enterprise}/teams"),
            ("POST", "/identity-providers"),
            ("PATCH", "/identity-providers/{provider}"),
            ("POST", "/identity-providers/{provider}/migrate"),
            ("POST", "/identity-providers/{provider}/certificates"),
            ("PATCH", "/identity-providers/{provider}/certificates/{certificate}"),
            ("DELETE", "/identity-providers/{provider}/certificates/{certificate}"),
        ],
        empty: &["/enterprise-accounts"],
        missing: &[
            ("/enterprise-accounts/{enterprise}", "enterprise_account"),
            ("/enterprise-accounts/{enterprise}/{part}", "enterprise_account"),
            ("/enterprise-accounts/{enterprise}/members", "enterprise_account"),
            ("/enterprise-accounts/{enterprise}/teams", "enterprise_account"),
            ("/enterprise-accounts/{enterprise}/archives/{year}/{month}", "enterprise_account"),
            ("/enterprise-accounts/{enterprise}/usage/{period}", "enterprise_account"),
            ("/identity-providers/{provider}", "identity_provider"),
            ("/identity-providers/{provider}/certificates/{certificate}", "identity_provider"),
        ],
    },
    Topic {
        title: "Private spaces",
        reason: "There are no private spaces: every app runs on this one machine, behind the same router.",
        refused: &[
            ("POST", "/spaces"),
            ("PATCH", "/spaces/{space}"),
            ("DELETE", "/spaces/{space}"),
            ("PUT", "/spaces/{space}/inbound-ruleset"),
            ("PUT", "/spaces/{space}/log-drain"),
            ("PATCH", "/spaces/{space}/members/{member}"),
            ("POST", "/spaces/{space}/peerings"),
            ("DELETE", "/spaces/{space}/peerings/{peering}"),
            ("POST", "/spaces/{space}/peerings/{peering}/actions/accept"),
            ("POST", "/spaces/{space}/transfer"),
            ("POST", "/spaces/{space}/vpn-connections"),
            ("PATCH", "/spaces/{space}/vpn-connections/{connection}"),
            ("DELETE", "/spaces/{space}/vpn-connections/{connection}"),
        ],
        empty: &["/spaces"],
        missing: &[
            ("/spaces/{space}", "space"),
            ("/spaces/{space}/{part}", "space"),
            ("/spaces/{space}/inbound-ruleset", "space"),
            ("/spaces/{space}/inbound-rulesets/{ruleset}", "space"),
            ("/spaces/{space}/log-drain", "space"),
            ("/spaces/{space}/peerings", "space"),
            ("/spaces/{space}/vpn-connections", "space"),
            ("/spaces/{space}/members/{member}", "space"),
            ("/spaces/{space}/peerings/{peering}", "space"),
            ("/spaces/{space}/vpn-connections/{connection}", "space"),
        ],
    },
    Topic {
        title: "Tests",
        reason: "Tests do not run on this server. Run them in your own CI, and deploy from there: `berth deploy`.",
        refused: &[
            ("POST", "/test-runs"),
            ("PATCH", "/test-runs/{run}"),
            ("POST", "/pipelines/{pipeline}/test-runs"),
            ("GET", "/pipelines/{pipeline}/stage/{stage}/config-vars"),
            ("PATCH", "/pipelines/{pipeline}/stage/{stage}/config-vars"),
        ],
        empty: &["/pipelines/{pipeline}/test-runs"],
        missing: &[
            ("/pipelines/{pipeline}/test-runs/{number}", "test_run"),
            ("/test-runs/{run}", "test_run"),
            ("/test-runs/{run}/test-cases", "test_run"),
            ("/test-runs/{run}/test-nodes", "test_run"),
        ],
    },
    Topic {
        title: "GitHub",
        reason: "Nothing here is connected to GitHub. Deploy from your CI with `berth deploy`, or with `git push`.",
        refused: &[
            ("*", "/account/github/token"),
            ("*", "/apps/{app}/github"),
            ("*", "/github/repos/{owner}/{repository}/tarball/{reference}"),
            ("*", "/pipelines/{pipeline}/github"),
            ("*", "/pipelines/{pipeline}/repository"),
        ],
        empty: &[],
        missing: &[],
    },
    Topic {
        title: "Review apps",
        reason: "There are no review apps here. Make an app for the branch, `berth env:clone shop shop-branch`, and push to it.",
        refused: &[
            ("POST", "/review-apps"),
            // What the client asks before it makes one: "not found" would be about the branch.
            ("GET", "/pipelines/{pipeline}/repo/branches/{branch}"),
            ("DELETE", "/review-apps/{review}"),
            ("POST", "/pipelines/{pipeline}/review-app-config"),
            ("PATCH", "/pipelines/{pipeline}/review-app-config"),
            ("DELETE", "/pipelines/{pipeline}/review-app-config"),
        ],
        empty: &["/pipelines/{pipeline}/review-apps"],
        missing: &[
            ("/review-apps/{review}", "review_app"),
            ("/apps/{app}/review-app", "review_app"),
            ("/pipelines/{pipeline}/review-app-config", "review_app_config"),
        ],
    },
    Topic {
        title: "App setups",
        reason: "Apps are not set up from a source yet: `heroku create`, then `git push`.",
        refused: &[("POST", "/app-setups")],
        empty: &[],
        missing: &[("/app-setups/{setup}", "app_setup")],
    },
    Topic {
        title: "Tokens by other ways",
        reason: "A token is ended by `heroku authorizations:revoke`, a login by `heroku sessions:destroy`; there are no gateways.",
        refused: &[
            ("DELETE", "/oauth/tokens/{token}"),
            ("POST", "/users/~/gateway-tokens"),
            ("POST", "/users/~/gateway-tokens/oauth-authorization"),
        ],
        empty: &[],
        missing: &[],
    },
    Topic {
        title: "Images",
        reason: "Images cannot be released yet: deploy the source with `git push` or `berth deploy`.",
        refused: &[
            ("PATCH", "/apps/{app}/formation/{kind}/docker-image"),
            ("POST", "/apps/{app}/oci-images"),
            // Heroku's registry of images.
            ("*", "/v2/{*image}"),
        ],
        empty: &[],
        missing: &[("/apps/{app}/oci-images/{image}", "oci_image"), ("/apps/{app}/build-metadata", "build_metadata")],
    },
    Topic {
        title: "Telemetry drains",
        reason: "Telemetry drains are not available yet: `heroku logs --tail` follows the logs.",
        refused: &[
            ("POST", "/apps/{app}/telemetry-drains"),
            ("POST", "/telemetry-drains"),
            ("PATCH", "/telemetry-drains/{drain}"),
            ("DELETE", "/telemetry-drains/{drain}"),
        ],
        empty: &["/apps/{app}/telemetry-drains"],
        missing: &[("/telemetry-drains/{drain}", "telemetry_drain")],
    },
    Topic {
        title: "The account",
        reason: "The account is made by the server itself and cannot be changed through the API.",
        refused: &[
            ("PATCH", "/account"),
            ("DELETE", "/account"),
            ("PATCH", "/users/{account}"),
            ("DELETE", "/users/{account}"),
            ("PATCH", "/users/{account}/preferences"),
            ("PUT", "/users/~/capabilities"),
        ],
        empty: &[],
        missing: &[("/users/{account}/preferences", "preferences")],
    },
    Topic {
        title: "Codes by telephone",
        reason: "Codes come from an authenticator app, not by telephone: `berth 2fa:enable`.",
        refused: &[("POST", "/users/{account}/sms-number/actions/{action}")],
        empty: &[],
        missing: &[("/users/{account}/sms-number", "sms_number")],
    },
    Topic {
        title: "Passwords",
        reason: "There are no passwords: root on the server makes a token with `berth tokens:reset`.",
        refused: &[("POST", "/password-resets"), ("POST", "/password-resets/{token}/actions/finalize")],
        empty: &[],
        missing: &[],
    },
    Topic {
        title: "Features of accounts",
        reason: "There are no features of accounts to switch on; `heroku features` lists those of an app.",
        refused: &[("POST", "/account/features/{feature}"), ("PATCH", "/account/features/{feature}")],
        empty: &["/account/features"],
        missing: &[],
    },
    Topic {
        title: "Settings of config vars",
        reason: "Config vars have no settings of their own here: everybody who may see one may change it.",
        refused: &[("PATCH", "/apps/{app}/config-vars-settings")],
        empty: &["/apps/{app}/config-vars-settings"],
        missing: &[],
    },
    Topic {
        title: "Bills",
        reason: "Nothing is billed here.",
        refused: &[
            ("POST", "/account/credits"),
            ("POST", "/account/payments"),
            ("PATCH", "/account/payment-method"),
            ("PUT", "/account/invoice-address"),
            ("POST", "/credits"),
            ("POST", "/invoices"),
        ],
        empty: &[
            "/account/credits",
            "/account/invoices",
            "/account/payment-method/apps",
            "/resource/{resource}/usage-history",
        ],
        missing: &[
            ("/account/credits/{credit}", "credit"),
            ("/account/invoices/{invoice}", "invoice"),
            ("/account/invoice-address", "invoice_address"),
            ("/account/payment-method", "payment_method"),
        ],
    },
    Topic {
        title: "Commands inside a running dyno",
        reason: "Heroku has this for apps of another generation. Here it is `berth ps:exec`, or `heroku ps:exec`.",
        refused: &[("POST", "/apps/{app}/dynos/{dyno}")],
        empty: &[],
        missing: &[],
    },
    Topic {
        title: "Parts of Heroku's dashboard",
        reason: "Favourites belong to Heroku's dashboard, which this server does not have.",
        refused: &[("POST", "/favorites")],
        empty: &["/favorites", "/user/notifications"],
        missing: &[],
    },
    Topic {
        title: "Webhooks of pipelines",
        reason: "Webhooks are an app's: `heroku webhooks:add -a shop -i api:release -l notify -u URL`.",
        refused: &[
            ("POST", "/pipelines/{pipeline}/webhooks"),
            ("PATCH", "/pipelines/{pipeline}/webhooks/{webhook}"),
            ("DELETE", "/pipelines/{pipeline}/webhooks/{webhook}"),
        ],
        empty: &[
            "/pipelines/{pipeline}/webhooks",
            "/pipelines/{pipeline}/webhook-deliveries",
            "/pipelines/{pipeline}/webhook-events",
        ],
        missing: &[
            ("/pipelines/{pipeline}/webhooks/{webhook}", "webhook"),
            ("/pipelines/{pipeline}/webhook-deliveries/{delivery}", "webhook_delivery"),
            ("/pipelines/{pipeline}/webhook-events/{event}", "webhook_event"),
        ],
    },
    Topic {
        title: "Heroku Postgres and Heroku Key-Value Store",
        reason: "There is no Heroku Postgres and no Heroku Key-Value Store here: databases are your own. Ask them themselves, `heroku pg:psql` or `redis-cli -u \"$(berth config:get REDIS_URL)\"`, or whoever runs them.",
        refused: &[
            ("*", "/client/v11/databases/{addon}/{part}"),
            ("*", "/client/v11/databases/{addon}/{part}/{name}"),
            ("*", "/data/{*database}"),
            ("*", "/postgres/{*database}"),
            ("*", "/redis/{*database}"),
            ("POST", "/reports"),
        ],
        empty: &[],
        missing: &[("/reports/{report}", "report")],
    },
    Topic {
        title: "Backups by Heroku Postgres",
        reason: "There is no Heroku Postgres here, and none of its backups. Back a database up where it runs, as with `pg_dump \"$(berth config:get DATABASE_URL)\"`.",
        refused: &[
            ("DELETE", "/client/v11/apps/{app}/transfers/{transfer}"),
            ("POST", "/client/v11/apps/{app}/transfers/{transfer}/actions/{action}"),
        ],
        empty: &["/client/v11/apps/{app}/transfers"],
        missing: &[("/client/v11/apps/{app}/transfers/{transfer}", "backup")],
    },
];

/// The routes of the table. Like all others they answer only to somebody with a token.
pub(crate) fn routes() -> Router<Arc<ApiState>> {
    TOPICS.iter().fold(Router::new(), |routes, topic| {
        let routes = topic.refused.iter().fold(routes, |routes, (method, path)| {
            let reason = topic.reason;
            routes.route(path, on(filter(method), async move |_actor: Actor| ApiError::unsupported(reason)))
        });
        let routes = topic.empty.iter().fold(routes, |routes, path| {
            let of_app = path.starts_with("/apps/{app}/");
            routes.route(path, if of_app { get(nothing_of_app) } else { get(nothing) })
        });
        topic.missing.iter().fold(routes, |routes, (path, what)| {
            let (what, reason) = (*what, topic.reason);
            routes.route(path, get(async move |_actor: Actor| ApiError::not_found_because(what, reason)))
        })
    })
}

/// Whether a route is one of those that only say what there is not.
pub(crate) fn is_absent(method: &str, path: &str) -> bool {
    TOPICS.iter().any(|topic| {
        topic.refused.iter().any(|(refused, same)| *same == path && (*refused == method || *refused == "*"))
            || (method == "GET" && topic.empty.contains(&path))
            || (method == "GET" && topic.missing.iter().any(|(missing, _what)| *missing == path))
    })
}

fn filter(method: &str) -> MethodFilter {
    match method {
        "GET" => MethodFilter::GET,
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "PATCH" => MethodFilter::PATCH,
        "DELETE" => MethodFilter::DELETE,
        _every => {
            ["GET", "POST", "PUT", "PATCH", "DELETE"].map(filter).into_iter().fold(MethodFilter::HEAD, MethodFilter::or)
        }
    }
}
