//! What each route needs: the one table that every request behind the login is judged by.
//!
//! A route without a line here is for administrators alone. The page `docs/reference/access.md` follows from it.

use domain::access::{Access, Decision, Errand, Need, Permission, Standing, decide};
use http::Method;

use crate::error::ApiError;
use crate::refused::is_absent;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// One or more, separated by blanks.
    pub methods: &'static str,
    pub path: &'static str,
    pub need: Need,
    pub access: Access,
    pub errand: Errand,
}

impl Rule {
    /// Open to tokens that are for this alone.
    const fn part_of(self, errand: Errand) -> Self {
        Self { errand, ..self }
    }
}

const VIEW: Need = Need::App(Permission::View);
const DEPLOY: Need = Need::App(Permission::Deploy);
const OPERATE: Need = Need::App(Permission::Operate);
const MANAGE: Need = Need::App(Permission::Manage);

const fn reads(path: &'static str, need: Need) -> Rule {
    Rule { methods: "GET", path, need, access: Access::Read, errand: Errand::Other }
}

const fn writes(methods: &'static str, path: &'static str, need: Need) -> Rule {
    Rule { methods, path, need, access: Access::Write, errand: Errand::Other }
}

/// What may show or use secrets.
const fn secret(methods: &'static str, path: &'static str, need: Need) -> Rule {
    let access = if methods.len() == 3 { Access::ReadProtected } else { Access::WriteProtected };
    Rule { methods, path, need, access, errand: Errand::Other }
}

pub const RULES: &[Rule] = &[
    reads("/account", Need::Identity),
    reads("/account/rate-limits", Need::Identity),
    reads("/users/{account}", Need::Identity),
    reads("/account/keys", Need::Account),
    writes("POST", "/account/keys", Need::Account),
    reads("/account/keys/{key}", Need::Account),
    writes("DELETE", "/account/keys/{key}", Need::Account),
    // Whose the app is, the handlers ask. A list holds what the asker sends and receives.
    reads("/account/app-transfers", Need::Anybody),
    writes("POST", "/account/app-transfers", Need::Anybody),
    reads("/account/app-transfers/{transfer}", Need::Anybody),
    writes("PATCH DELETE", "/account/app-transfers/{transfer}", Need::Anybody),
    reads("/account/delinquency", Need::Identity),
    reads("/account/features/{feature}", Need::Anybody),
    reads("/users/{account}/apps", Need::Anybody),
    reads("/generations", Need::Anybody),
    reads("/generations/{generation}", Need::Anybody),
    reads("/stacks", Need::Anybody),
    reads("/stacks/{stack}", Need::Anybody),
    reads("/regions", Need::Anybody),
    reads("/regions/{region}", Need::Anybody),
    reads("/dyno-sizes", Need::Anybody),
    reads("/dyno-sizes/{size}", Need::Anybody),
    // Lists hold the apps that the asker may see.
    reads("/apps", Need::Anybody),
    writes("POST", "/apps", Need::Anybody),
    Rule { methods: "POST", ..reads("/filters/apps", Need::Anybody) },
    reads("/apps/{app}", VIEW).part_of(Errand::Deploy),
    // What a change needs depends on what changes: the handler asks again.
    writes("PATCH", "/apps/{app}", OPERATE),
    writes("DELETE", "/apps/{app}", MANAGE),
    reads("/apps/{app}/available-stacks", VIEW),
    reads("/apps/{app}/available-dyno-sizes", VIEW),
    reads("/apps/{app}/usage", VIEW),
    reads("/data/maintenances/v1/apps/{app}", VIEW),
    reads("/apps/{app}/features", VIEW),
    reads("/apps/{app}/features/{feature}", VIEW),
    writes("PATCH", "/apps/{app}/features/{feature}", OPERATE),
    reads("/apps/{app}/collaborators", VIEW),
    reads("/apps/{app}/collaborators/{who}", VIEW),
    writes("POST", "/apps/{app}/collaborators", MANAGE),
    // Everybody may leave by themselves: the handler asks for the rest.
    writes("DELETE", "/apps/{app}/collaborators/{who}", VIEW),
    writes("PATCH", "/berth/apps/{app}/collaborators/{who}", MANAGE),
    writes("POST DELETE PATCH", "/apps/{app}/acm", OPERATE),
    reads("/apps/{app}/domains", VIEW),
    reads("/apps/{app}/domains/{domain}", VIEW),
    writes("POST", "/apps/{app}/domains", OPERATE),
    writes("PATCH DELETE", "/apps/{app}/domains/{domain}", OPERATE),
    reads("/apps/{app}/sni-endpoints", VIEW),
    reads("/apps/{app}/sni-endpoints/{endpoint}", VIEW),
    writes("POST", "/apps/{app}/sni-endpoints", OPERATE),
    writes("PATCH DELETE", "/apps/{app}/sni-endpoints/{endpoint}", OPERATE),
    reads("/apps/{app}/buildpack-installations", VIEW),
    writes("PUT", "/apps/{app}/buildpack-installations", DEPLOY),
    reads("/addon-services", Need::Anybody),
    reads("/addon-services/{service}", Need::Anybody),
    reads("/addon-services/{service}/plans", Need::Anybody),
    reads("/addon-services/{service}/plans/{plan}", Need::Anybody),
    reads("/addon-services/{service}/region-capabilities", Need::Anybody),
    reads("/addon-region-capabilities", Need::Anybody),
    reads("/regions/{region}/addon-region-capabilities", Need::Anybody),
    reads("/plans/{plan}", Need::Anybody),
    reads("/users/{account}/addons", Need::Anybody),
    reads("/apps/{app}/addons", VIEW),
    reads("/apps/{app}/addons/{addon}", VIEW),
    // An add-on changes config vars, which show it.
    secret("POST", "/apps/{app}/addons", OPERATE),
    secret("PATCH DELETE", "/apps/{app}/addons/{addon}", OPERATE),
    reads("/apps/{app}/addon-attachments", VIEW),
    reads("/apps/{app}/addon-attachments/{attachment}", VIEW),
    // The path names an add-on that may belong to several apps: the handlers ask for those.
    reads("/addons", Need::Anybody),
    reads("/addons/{addon}", Need::Anybody),
    reads("/addons/{addon}/addon-attachments", Need::Anybody),
    reads("/addons/{addon}/log-drains", Need::Anybody),
    reads("/addons/{addon}/webhooks", Need::Anybody),
    reads("/addons/{addon}/webhook-deliveries", Need::Anybody),
    reads("/addons/{addon}/webhook-events", Need::Anybody),
    reads("/client/v11/databases/{addon}", Need::Anybody),
    reads("/client/v11/databases/{addon}/wait_status", Need::Anybody),
    reads("/client/v11/databases/{addon}/upgrade/wait_status", Need::Anybody),
    secret("GET", "/addons/{addon}/config", Need::Anybody),
    secret("PATCH", "/addons/{addon}/config", Need::Anybody),
    secret("PATCH", "/berth/addons/{addon}/config", Need::Anybody),
    secret("GET", "/addons/{addon}/config/{credential}", Need::Anybody),
    reads("/addon-attachments", Need::Anybody),
    reads("/addon-attachments/{attachment}", Need::Anybody),
    secret("POST", "/addon-attachments", Need::Anybody),
    secret("DELETE", "/addon-attachments/{attachment}", Need::Anybody),
    Rule { methods: "POST", ..reads("/actions/addons/resolve", Need::Anybody) },
    Rule { methods: "POST", ..reads("/actions/addon-attachments/resolve", Need::Anybody) },
    // Config vars hold the keys of everything that the app uses: to see them is to operate the app.
    secret("GET", "/apps/{app}/config-vars", OPERATE),
    secret("PATCH", "/apps/{app}/config-vars", OPERATE),
    secret("GET", "/apps/{app}/releases/{release}/config-vars", OPERATE),
    reads("/apps/{app}/formation", VIEW),
    reads("/apps/{app}/formation/{kind}", VIEW),
    writes("PATCH", "/apps/{app}/formation", OPERATE),
    writes("PATCH", "/apps/{app}/formation/{kind}", OPERATE),
    reads("/apps/{app}/formation/{kind}/monitors", VIEW),
    writes("POST", "/apps/{app}/formation/{kind}/monitors", OPERATE),
    writes("PATCH", "/apps/{app}/formation/{kind}/monitors/{monitor}", OPERATE),
    reads("/apps/{app}/formation/{kind}/metrics/errors", VIEW),
    reads("/apps/{app}/router-metrics/errors", VIEW),
    reads("/apps/{app}/dynos", VIEW),
    reads("/apps/{app}/dynos/{dyno}", VIEW),
    // A code of one's own: what it opens is judged where it is used.
    Rule { methods: "PUT", ..reads("/apps/{app}/pre-authorizations", VIEW) },
    // A shell shows every config var.
    secret("POST", "/apps/{app}/dynos", OPERATE),
    Rule {
        methods: "GET",
        path: "/berth/apps/{app}/runs/{dyno}/session",
        need: OPERATE,
        access: Access::WriteProtected,
        errand: Errand::Other,
    },
    reads("/berth/apps/{app}/exec", OPERATE),
    Rule {
        methods: "PUT",
        path: "/berth/apps/{app}/dynos/{dyno}/exec",
        need: OPERATE,
        access: Access::WriteProtected,
        errand: Errand::Other,
    },
    secret("POST", "/berth/apps/{app}/dynos/{dyno}/visits", OPERATE),
    Rule {
        methods: "GET",
        path: "/berth/apps/{app}/visits/{visit}",
        need: OPERATE,
        access: Access::WriteProtected,
        errand: Errand::Other,
    },
    // It opens nothing by itself.
    Rule {
        methods: "PUT",
        path: "/berth/exec-key",
        need: Need::Anybody,
        access: Access::WriteProtected,
        errand: Errand::Other,
    },
    writes("DELETE", "/apps/{app}/dynos", OPERATE),
    writes("DELETE", "/apps/{app}/dynos/{dyno}", OPERATE),
    writes("POST", "/apps/{app}/dynos/{dyno}/actions/stop", OPERATE),
    writes("DELETE", "/apps/{app}/formations/{kind}", OPERATE),
    writes("POST", "/apps/{app}/formations/{kind}/actions/stop", OPERATE),
    writes("POST", "/sources", Need::Anybody).part_of(Errand::Deploy),
    writes("POST", "/apps/{app}/sources", DEPLOY).part_of(Errand::Deploy),
    reads("/apps/{app}/builds", VIEW).part_of(Errand::Deploy),
    reads("/apps/{app}/builds/{build}", VIEW).part_of(Errand::Deploy),
    writes("POST", "/apps/{app}/builds", DEPLOY).part_of(Errand::Deploy),
    writes("DELETE", "/apps/{app}/builds/{build}", DEPLOY).part_of(Errand::Deploy),
    writes("DELETE", "/apps/{app}/build-cache", DEPLOY),
    // The answer holds the URL of the whole code.
    reads("/apps/{app}/slugs/{slug}", DEPLOY),
    writes("POST", "/apps/{app}/slugs", DEPLOY),
    reads("/apps/{app}/releases", VIEW).part_of(Errand::Deploy),
    reads("/apps/{app}/releases/{release}", VIEW).part_of(Errand::Deploy),
    writes("POST", "/apps/{app}/releases", DEPLOY),
    Rule { methods: "POST", ..reads("/apps/{app}/log-sessions", VIEW) },
    // The URLs may hold the receivers' keys.
    secret("GET", "/apps/{app}/log-drains", OPERATE),
    secret("GET", "/apps/{app}/log-drains/{drain}", OPERATE),
    secret("POST", "/apps/{app}/log-drains", OPERATE),
    secret("DELETE", "/apps/{app}/log-drains/{drain}", OPERATE),
    secret("GET", "/apps/{app}/webhooks", OPERATE),
    secret("GET", "/apps/{app}/webhooks/{webhook}", OPERATE),
    secret("POST", "/apps/{app}/webhooks", OPERATE),
    secret("PATCH DELETE", "/apps/{app}/webhooks/{webhook}", OPERATE),
    reads("/apps/{app}/webhook-deliveries", OPERATE),
    reads("/apps/{app}/webhook-deliveries/{delivery}", OPERATE),
    reads("/apps/{app}/webhook-events", OPERATE),
    reads("/apps/{app}/webhook-events/{event}", OPERATE),
    // Pipelines are seen by all; what they do to apps, the handlers ask for.
    reads("/pipelines", Need::Anybody),
    writes("POST", "/pipelines", Need::Anybody),
    reads("/pipelines/{pipeline}", Need::Anybody).part_of(Errand::Deploy),
    writes("PATCH DELETE", "/pipelines/{pipeline}", Need::Anybody),
    reads("/pipelines/{pipeline}/pipeline-couplings", Need::Anybody).part_of(Errand::Promotion),
    reads("/pipelines/{pipeline}/latest-builds", Need::Anybody),
    reads("/pipelines/{pipeline}/latest-deployments", Need::Anybody),
    reads("/pipelines/{pipeline}/latest-releases", Need::Anybody),
    reads("/pipelines/{pipeline}/pipeline-stack", Need::Anybody),
    reads("/pipeline-couplings", Need::Anybody),
    writes("POST", "/pipeline-couplings", Need::Anybody),
    reads("/users/~/pipeline-couplings", Need::Anybody),
    reads("/pipeline-couplings/{coupling}", Need::Anybody),
    writes("PATCH DELETE", "/pipeline-couplings/{coupling}", Need::Anybody),
    reads("/apps/{app}/pipeline-couplings", VIEW).part_of(Errand::Deploy),
    writes("POST", "/pipeline-transfers", Need::Anybody),
    writes("POST", "/pipeline-promotions", Need::Anybody).part_of(Errand::Promotion),
    reads("/pipeline-promotions/{promotion}", Need::Anybody).part_of(Errand::Promotion),
    reads("/pipeline-promotions/{promotion}/promotion-targets", Need::Anybody).part_of(Errand::Promotion),
    reads("/oauth/authorizations", Need::Account),
    writes("POST", "/oauth/authorizations", Need::Login),
    reads("/oauth/authorizations/{id}", Need::Account),
    writes("PATCH DELETE", "/oauth/authorizations/{id}", Need::Account),
    writes("POST", "/oauth/authorizations/{id}/actions/regenerate-tokens", Need::Account),
    secret("GET", "/oauth/clients", Need::Account),
    secret("GET", "/oauth/clients/{client}", Need::Account),
    secret("POST", "/oauth/clients", Need::Account),
    secret("PATCH DELETE", "/oauth/clients/{client}", Need::Account),
    secret("POST", "/oauth/clients/{client}/actions/rotate-credentials", Need::Account),
    reads("/oauth/sessions", Need::Account),
    writes("DELETE", "/oauth/sessions/{session}", Need::Account),
    reads("/berth/port", Need::Anybody),
    reads("/berth/authority", Need::Anybody),
    reads("/berth/status", Need::Administrator),
    reads("/berth/gc", Need::Administrator),
    writes("POST", "/berth/gc", Need::Administrator),
    reads("/berth/audit", Need::Administrator),
    reads("/berth/dns-zones", Need::Administrator),
    secret("PUT DELETE", "/berth/dns-zones/{zone}", Need::Administrator),
    reads("/berth/apps/{app}/audit", MANAGE),
    reads("/berth/people", Need::Administrator),
    writes("POST", "/berth/people", Need::Administrator),
    writes("PATCH DELETE", "/berth/people/{person}", Need::Administrator),
    writes("DELETE", "/berth/people/{person}/two-factor", Need::Administrator),
    writes("POST PUT DELETE", "/berth/account/two-factor", Need::Account),
    reads("/berth/apps/{app}/builds/{build}", VIEW).part_of(Errand::Deploy),
    writes("POST", "/berth/apps/{app}/builds", DEPLOY).part_of(Errand::Deploy),
    reads("/berth/apps/{app}/releases/{release}", VIEW).part_of(Errand::Deploy),
    writes("POST", "/berth/apps/{app}/releases/{release}/resume", DEPLOY),
    writes("POST", "/berth/apps/{app}/releases/{release}/rollback", DEPLOY),
    secret("PATCH", "/berth/apps/{app}/config-vars", OPERATE),
    reads("/berth/apps/{app}/routing", VIEW),
    writes("PATCH", "/berth/apps/{app}/routing", OPERATE),
    reads("/berth/apps/{app}/health", VIEW),
    writes("PATCH DELETE", "/berth/apps/{app}/health", OPERATE),
    reads("/berth/apps/{app}/traffic", VIEW),
    writes("PATCH", "/berth/apps/{app}/traffic", OPERATE),
    reads("/berth/apps/{app}/domains", VIEW),
    writes("PATCH", "/berth/apps/{app}/domains/{domain}", OPERATE),
    reads("/berth/apps/{app}/concurrency", VIEW),
    writes("PATCH", "/berth/apps/{app}/concurrency", OPERATE),
    // It takes the config vars along that it is told to.
    secret("POST", "/berth/apps/{app}/clone", OPERATE),
    // The URLs may hold the receivers' keys.
    reads("/berth/apps/{app}/notifications", OPERATE),
    secret("POST", "/berth/apps/{app}/notifications", OPERATE),
    secret("DELETE", "/berth/apps/{app}/notifications/{notification}", OPERATE),
    // It tells which config vars are alike: of apps whose config vars the asker may see.
    secret("GET", "/berth/pipelines/{pipeline}/compare", Need::Anybody),
    reads("/berth/pipelines/{pipeline}/protections", Need::Anybody),
    writes("PUT", "/berth/pipelines/{pipeline}/protections/{stage}", Need::Anybody),
    writes("PUT DELETE", "/berth/pipelines/{pipeline}/protections/{stage}/lock", Need::Anybody),
    reads("/berth/apps/{app}/cron", VIEW),
    reads("/berth/apps/{app}/cron/{job}", VIEW),
    reads("/berth/apps/{app}/cron/{job}/runs", VIEW),
    reads("/berth/apps/{app}/cron/{job}/runs/{number}", VIEW),
    // A job is a command with every config var.
    secret("POST", "/berth/apps/{app}/cron", OPERATE),
    secret("PATCH DELETE", "/berth/apps/{app}/cron/{job}", OPERATE),
    secret("POST", "/berth/apps/{app}/cron/{job}/runs", OPERATE),
    secret("POST", "/berth/apps/{app}/runs", OPERATE),
    reads("/berth/apps/{app}/runs/{dyno}", OPERATE),
];

/// What is judged by no rule.
pub(crate) const UNKNOWN: (Need, Access, Errand) = (Need::Administrator, Access::WriteProtected, Errand::Other);

/// The need of a route, and how it counts for scopes.
pub fn rule(method: &Method, path: &str) -> Option<(Need, Access, Errand)> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let has = |methods: &str| methods.split(' ').any(|one| one == method);
    if let Some(rule) = RULES.iter().find(|rule| rule.path == path && has(rule.methods)) {
        return Some((rule.need, rule.access, rule.errand));
    }
    if is_absent(method, path) {
        // It does nothing but say why it does nothing.
        return Some((if path.contains("{app}") { VIEW } else { Need::Anybody }, Access::Read, Errand::Other));
    }
    None
}

/// Judges a request by what it needs and who asks.
pub(crate) fn check((need, access, errand): (Need, Access, Errand), who: &Standing<'_>) -> Result<(), ApiError> {
    match decide(need, access, errand, who) {
        Decision::Allow => Ok(()),
        Decision::OutOfScope if who.scopes.iter().any(|scope| scope.is_for_one_app()) => Err(ApiError::forbidden(
            "This token is for deploys of one app, and this request is not part of one. `berth tokens:create` makes \
             others.",
        )),
        Decision::OutOfScope => Err(ApiError::forbidden(
            "This token's scope does not cover this request. Use one with a wider scope: \
             `heroku authorizations:create --scope`.",
        )),
        Decision::Hidden => Err(ApiError::not_found("app")),
        Decision::Lacks(permission) => Err(lacks(permission)),
        Decision::NotAdministrator => {
            Err(ApiError::forbidden("Only an administrator of this server may do this. `berth people` lists them."))
        }
    }
}

pub(crate) fn lacks(permission: Permission) -> ApiError {
    ApiError::forbidden(format!(
        "You do not have the permission to {} this app. Somebody who may manage it can give it to you: \
         `berth access:update`.",
        permission.as_str()
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use domain::access::{Permissions, Scope};

    use super::*;

    /// The roles of the published table, the least first.
    const ROLES: [(&str, bool, &[&str]); 6] = [
        ("nobody's app", false, &[]),
        ("view", false, &["view"]),
        ("deploy", false, &["deploy"]),
        ("operate", false, &["operate"]),
        ("manage", false, &["manage"]),
        ("administrator", true, &[]),
    ];

    fn may(rule: &Rule, administrator: bool, words: &[&str]) -> bool {
        let permissions = Permissions::parse(words.iter().copied()).unwrap_or(Permissions::NONE);
        let who = Standing { administrator, scopes: &[Scope::Global], permissions, elsewhere: false };
        decide(rule.need, rule.access, rule.errand, &who) == Decision::Allow
    }

    fn page() -> String {
        let mut page = String::from(
            "# Who may do what\n\n\
             Every route behind the login, and what it takes; made from the table that every request is judged by.\n\
             A collaborator has one or more of the permissions *view*, *deploy*, *operate* and *manage*; any of them \
             includes *view*, and *manage* all others. The owner of an app has all of them.\n\
             *anyone* is every account; lists hold only what the account may see, and an app that it may not see does \
             not exist for it.\n\
             Routes that are not in the table are for administrators alone.\n\n\
             A token can be less than its account. `read` is good for the routes marked r, `write` for r and w, \
             `read-protected` for r and R, `write-protected` for all of these; only `global` is good for the account \
             itself and for administration. R and W show or use secrets.\n\
             A token for one app is good for the routes marked d with that app, and for those marked p if it may \
             promote; nothing else but who it is.\n\n\
             | route | scope | anyone | view | deploy | operate | manage | administrator |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for rule in RULES {
            let scope = match (rule.need, rule.access) {
                (Need::Identity, _) => "any",
                (Need::Login | Need::Account | Need::Administrator, _) => "global",
                (_, Access::Read) => "r",
                (_, Access::Write) => "w",
                (_, Access::ReadProtected) => "R",
                (_, Access::WriteProtected) => "W",
            };
            let errand = match rule.errand {
                Errand::Deploy => " d",
                Errand::Promotion | Errand::PromotionTarget => " p",
                Errand::Other => "",
            };
            page.push_str(&format!("| {} `{}` | {scope}{errand} |", rule.methods, rule.path));
            for (_role, administrator, words) in ROLES {
                page.push_str(if may(rule, administrator, words) { " yes |" } else { " |" });
            }
            page.push('\n');
        }
        page
    }

    #[test]
    fn the_published_table_is_the_one_that_requests_are_judged_by() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/access.md");
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        if published != page() {
            let new = path.with_extension("md.new");
            std::fs::write(&new, page()).unwrap();
            panic!(
                "docs/reference/access.md is not what the rules say; compare it with {} and move that",
                new.display()
            );
        }
    }

    /// Every route that `lib.rs` makes behind the login, as `GET /apps`.
    fn routes() -> BTreeSet<String> {
        let source = include_str!("lib.rs");
        let authenticated = source.split("let authenticated").nth(1).unwrap().split("let signed").next().unwrap();
        let mut routes = BTreeSet::new();
        for route in authenticated.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            let handlers = route.split(".merge(").next().unwrap().split(".layer(").next().unwrap();
            for method in ["get", "post", "put", "patch", "delete"] {
                let called = |before: &str| handlers.contains(&format!("{before}{method}("));
                if called(" ") || called(".") {
                    routes.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let judged: BTreeSet<String> =
            RULES.iter().flat_map(|rule| rule.methods.split(' ').map(|one| format!("{one} {}", rule.path))).collect();
        let routes = routes();
        assert!(routes.len() > 100, "{routes:#?}");
        let unjudged: Vec<&String> = routes.difference(&judged).collect();
        assert!(unjudged.is_empty(), "for administrators alone, without saying so: {unjudged:#?}");
        let stale: Vec<&String> = judged.difference(&routes).collect();
        assert!(stale.is_empty(), "rules without a route: {stale:#?}");
    }

    #[test]
    fn what_no_rule_names_is_for_administrators_alone() {
        assert_eq!(rule(&Method::GET, "/berth/new"), None);
        assert_eq!(rule(&Method::PUT, "/apps/{app}"), None);
        let (need, access, errand) = UNKNOWN;
        let ask = |administrator| {
            let (scopes, permissions) = (&[Scope::Global], Permissions::EVERY);
            decide(need, access, errand, &Standing { administrator, scopes, permissions, elsewhere: false })
        };
        assert_eq!(ask(true), Decision::Allow);
        assert_eq!(ask(false), Decision::NotAdministrator);
    }
}
