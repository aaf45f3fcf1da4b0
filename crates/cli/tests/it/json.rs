//! `--json` on every command: one JSON value on the standard output, errors as one on the standard error.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Reply, Server};

const NIL: Uuid = Uuid::nil();

/// Commands whose output is no resource (a script for a shell, and git's own format), and those that need a dyno.
const WITHOUT_JSON: [&str; 7] =
    ["completions", "git:credentials", "heroku", "heroku:env", "ps:copy", "ps:forward", "ps:socks"];

/// Every command as it may be typed after `berth --json`, with its standard input.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["create", "shop"], ""),
    (&["apps"], ""),
    (&["apps:info"], ""),
    (&["env:clone", "shop", "shop-2"], ""),
    (&["apps:transfer", "ann@example.com"], ""),
    (&["apps:transfers"], ""),
    (&["apps:transfers:accept", "shop"], ""),
    (&["apps:transfers:decline", "shop"], ""),
    (&["apps:transfers:cancel", "shop"], ""),
    (&["apps:destroy", "shop", "--confirm", "shop"], ""),
    (&["open"], ""),
    (&["deploy"], ""),
    (&["deploy", "--no-wait"], ""),
    (&["deploy", "--hold"], ""),
    (&["deploy", "--promote"], ""),
    (&["pipelines:promote"], ""),
    (&["pipelines:compare", "shop"], ""),
    (&["pipelines:transfer", "ann@example.com", "-p", "shop", "--confirm", "shop"], ""),
    (&["pipelines:protect", "shop"], ""),
    (&["pipelines:protect", "shop", "--by", "ann@example.com"], ""),
    (&["pipelines:lock", "shop", "why"], ""),
    (&["pipelines:unlock", "shop"], ""),
    (&["releases"], ""),
    (&["releases:info"], ""),
    (&["releases:output"], ""),
    (&["releases:resume", "v7"], ""),
    (&["rollback", "v7"], ""),
    (&["rollback", "v7", "--release-phase", "--no-wait"], ""),
    (&["config"], ""),
    (&["config:get", "A"], ""),
    (&["config:get", "MISSING"], ""),
    (&["config:set", "A=b"], ""),
    (&["config:set", "A=b", "--release-phase"], ""),
    (&["config:unset", "A"], ""),
    (&["config:import", "-"], "A=b\n"),
    (&["addons"], ""),
    (&["addons", "--all"], ""),
    (&["addons:services"], ""),
    (&["addons:plans", "berth-custom"], ""),
    (&["addons:create", "berth-custom", "--as", "DATABASE", "--url", "-"], "postgres://u:p@h/d\n"),
    (&["addons:info", "pg"], ""),
    (&["addons:attach", "pg", "--as", "REPORTS"], ""),
    (&["addons:detach", "DATABASE"], ""),
    (&["addons:update", "pg", "--url", "-"], "postgres://u:q@h/d\n"),
    (&["addons:rename", "pg", "shop-db"], ""),
    (&["addons:wait", "pg"], ""),
    (&["addons:destroy", "pg", "--confirm", "shop"], ""),
    (&["ps"], ""),
    (&["ps:scale", "web=1"], ""),
    (&["ps:type", "basic"], ""),
    (&["ps:concurrency"], ""),
    (&["ps:concurrency", "web=4"], ""),
    (&["ps:restart"], ""),
    (&["ps:stop", "web.1"], ""),
    (&["ps:exec", "--status"], ""),
    (&["run", "date"], ""),
    (&["logs"], ""),
    (&["notify"], ""),
    (&["notify:add", "https://example.com/hook"], ""),
    (&["notify:remove", "1"], ""),
    (&["cron"], ""),
    (&["cron:add", "@daily", "bin/nightly"], ""),
    (&["cron:remove", "nightly"], ""),
    (&["cron:run", "nightly"], ""),
    (&["cron:run", "nightly", "--detach"], ""),
    (&["cron:pause", "nightly"], ""),
    (&["cron:resume", "nightly"], ""),
    (&["cron:history"], ""),
    (&["cron:history", "nightly"], ""),
    (&["cron:logs", "nightly"], ""),
    (&["cron:logs", "nightly", "3"], ""),
    (&["cron:import", "-"], "[{\"schedule\": \"@daily\", \"command\": \"bin/other\"}]"),
    (&["maintenance"], ""),
    (&["maintenance:on"], ""),
    (&["maintenance:off"], ""),
    (&["routing"], ""),
    (&["routing:set", "timeout=60s"], ""),
    (&["routing:unset", "timeout"], ""),
    (&["routing:page", "error"], ""),
    (&["routing:page", "error", "--clear"], ""),
    (&["routing:page", "maintenance", "-"], "<p>soon"),
    (&["health"], ""),
    (&["health:set", "path=/health"], ""),
    (&["health:off"], ""),
    (&["traffic"], ""),
    (&["traffic:pause", "--for", "5s"], ""),
    (&["traffic:resume"], ""),
    (&["domains"], ""),
    (&["domains:add", "www.example.com"], ""),
    (&["domains:remove", "www.example.com"], ""),
    (&["domains:front", "www.example.com", "https://old.example"], ""),
    (&["domains:front", "www.example.com", "--clear"], ""),
    (&["git:remote", "-a", "shop"], ""),
    (&["login"], "a-token\n"),
    (&["account"], ""),
    (&["tokens"], ""),
    (&["tokens:create"], ""),
    (&["tokens:create", "-a", "shop", "--scope", "deploy"], ""),
    (&["tokens:revoke", "1"], ""),
    (&["certs:dns"], ""),
    (&["certs:dns:add", "example.com", "--provider", "cloudflare"], "a-token\n"),
    (&["certs:dns:add", "example.com", "--provider", "route53"], "an-id\na-secret\n"),
    (&["certs:dns:remove", "example.com"], ""),
    (&["2fa"], ""),
    (&["2fa:enable"], "123456\n"),
    (&["2fa:disable"], "123456\n"),
    (&["2fa:authorize", "-a", "shop"], "123456\n"),
    (&["access"], ""),
    (&["access:add", "ada@example.com", "-p", "view,deploy"], ""),
    (&["access:update", "ada@example.com", "-p", "view"], ""),
    (&["access:remove", "ada@example.com"], ""),
    (&["people"], ""),
    (&["people:add", "ada@example.com"], ""),
    (&["people:update", "ada@example.com", "--administrator", "true"], ""),
    (&["people:reset-2fa", "ada@example.com"], ""),
    (&["people:remove", "ada@example.com"], ""),
    (&["audit"], ""),
    (&["status"], ""),
    (&["doctor"], ""),
    (&["gc"], ""),
    (&["gc", "--delete"], ""),
];

/// A server that has an answer to each of them.
fn server() -> Server {
    let server = Server::start();
    let url = |name: &str| format!("{}/{name}", server.url);
    let named = json!({"id": NIL, "name": "shop"});
    let user = json!({"id": NIL, "email": "ann@example.com"});
    let owner = json!({"id": NIL, "type": "user"});
    let pipeline = json!({
        "created_at": "x", "generation": "cedar", "id": NIL, "name": "shop", "owner": owner, "updated_at": "x"
    });
    let app = json!({
        "acm": false, "archived_at": null, "build_stack": named, "buildpack_provided_description": null,
        "created_at": "x", "generation": "cedar", "git_url": "https://localhost:5000/shop.git", "id": NIL,
        "internal_routing": null, "maintenance": false, "name": "shop", "organization": null, "owner": user,
        "region": named, "released_at": null, "repo_size": null, "slug_size": null, "space": null, "stack": named,
        "team": null, "updated_at": "x", "web_url": "http://shop.localhost/"
    });
    let release = json!({
        "addon_plan_names": [], "app": named, "artifacts": [], "created_at": "2026-11-23T04:30:00Z", "current": true,
        "description": "Deploy", "eligible_for_rollback": true, "id": NIL, "output_stream_url": null, "slug": null,
        "status": "succeeded", "updated_at": "x", "user": user, "version": 7
    });
    let progress = json!({"id": NIL, "version": 7, "state": "serving", "failure": null});
    let build = json!({
        "app": {"id": NIL}, "buildpacks": [], "created_at": "x", "generation": "cedar", "id": NIL,
        "output_stream_url": url("output"), "release": null, "slug": null, "source_blob": {"url": "x"},
        "stack": "debian-12", "status": "pending", "updated_at": "x", "user": user
    });
    let built = json!({"id": NIL, "status": "succeeded", "failure": null, "release": NIL, "release_version": 7});
    let formation = json!({
        "app": named, "command": "bin/web", "created_at": "x", "dyno_size": named, "id": NIL, "quantity": 1,
        "size": "basic", "type": "web", "updated_at": "x"
    });
    let dyno = json!({
        "app": named, "attach_url": null, "command": "x", "created_at": "2026-11-23T04:30:00Z", "id": NIL,
        "name": "web.1", "release": {"id": NIL, "version": 7}, "size": "basic", "state": "up", "type": "web",
        "updated_at": "2026-11-23T04:30:00Z"
    });
    let run = json!({"dyno": dyno, "output_stream_url": url("output")});
    let ran = json!({"id": NIL, "name": "run.1", "state": "exited", "exit_status": 0, "exit_reason": "exited"});
    let authorization = json!({
        "access_token": {"expires_in": null, "id": NIL, "token": "fresh"}, "client": null, "created_at": "x",
        "description": "token", "grant": null, "id": NIL, "refresh_token": null, "scope": [], "session": null,
        "updated_at": "x", "user": null
    });
    let account = json!({
        "allow_tracking": false, "beta": false, "country_of_residence": null, "created_at": "x",
        "default_organization": null, "default_team": null, "delinquent_at": null, "email": "ann@example.com",
        "federated": false, "id": NIL, "identity_provider": null, "last_login": null, "name": null,
        "sms_number": null, "suspended_at": null, "two_factor_authentication": false, "updated_at": "x",
        "verified": true
    });
    let status = json!({
        "version": "0", "instance": "0", "mode": "full", "reduced": [], "in_force": [], "data_dir": "/", "domain": "x",
        "http_port": 80, "api_url": null, "api_certificate_until": null, "apps": 1, "dynos": 1, "router": null, "disk_free_bytes": 1
    });
    let add_on = json!({
        "actions": [], "addon_service": {"id": NIL, "name": "berth-custom"}, "app": named,
        "billed_price": {"cents": 0, "contract": false, "unit": "month"},
        "billing_entity": {"id": NIL, "name": "shop", "type": "app"}, "config_vars": ["DATABASE_URL"],
        "created_at": "x", "id": NIL, "name": "pg", "plan": {"id": NIL, "name": "berth-custom:external"},
        "provider_id": "x", "provision_message": "", "state": "provisioned", "updated_at": "x", "web_url": null
    });
    let attachment = json!({
        "addon": {"app": named, "id": NIL, "name": "pg"}, "app": named, "config_vars": ["DATABASE_URL"],
        "created_at": "x", "id": NIL, "log_input_url": null, "name": "DATABASE", "namespace": null, "updated_at": "x",
        "web_url": null
    });
    let service = json!({
        "cli_plugin_name": null, "created_at": "x", "human_name": "A service of your own", "id": NIL,
        "name": "berth-custom", "state": "ga", "supported_generations": [], "supports_multiple_installations": true,
        "supports_sharing": true, "updated_at": "x"
    });
    let plan = json!({
        "addon_service": {"id": NIL, "name": "berth-custom"}, "compliance": null, "created_at": "x", "default": true,
        "description": "x", "human_name": "External", "id": NIL, "installable_inside_private_network": false,
        "installable_outside_private_network": true, "name": "berth-custom:external",
        "price": {"cents": 0, "contract": false, "unit": "month"}, "space_default": false, "state": "public",
        "updated_at": "x", "visible": true
    });
    let changed = json!({"addon": add_on, "releases": [{"app": named, "release": {"id": NIL, "version": 7}}]});
    let garbage = json!({"items": [], "bytes_total": 0, "deleted": false});
    let source = json!({"source_blob": {"get_url": url("get"), "put_url": url("put")}});
    let session = json!({"created_at": "x", "id": NIL, "logplex_url": url("stream"), "updated_at": "x"});
    let vars = json!({"A": "b"});
    let concurrency = json!([{"process_type": "web", "declared": null, "learned": 4, "in_flight": 1, "queued": 0}]);
    let cron_run = json!({
        "job": "nightly", "number": 3, "due_at": "2026-11-23T04:30:00Z", "attempt": 1, "trigger": "schedule",
        "state": "succeeded", "dyno": "scheduler.4821", "release_version": 7, "started_at": "x", "ended_at": "x",
        "duration_seconds": 1, "exit_status": 0, "reason": null, "output_stream_url": url("output")
    });
    let job = json!({
        "id": NIL, "name": "nightly", "schedule": "@daily", "zone": "UTC", "command": "bin/nightly", "size": "Basic",
        "overlap": "skip", "catch_up": "none", "deadline_seconds": 60, "retries": 0, "retry_delay_seconds": 30,
        "origin": "hand", "paused": false, "next_run_at": "x", "last_run": cron_run, "created_at": "x",
        "updated_at": "x"
    });
    let zone = json!({"zone": "example.com", "provider": "cloudflare", "endpoint": null, "access_key_id": null});
    let routing = json!({
        "https_only": false, "hsts": null, "compression": true, "dyno_protocol": "h2c",
        "session_affinity": false, "request_bytes_max": 5, "timeout_ms": 60000, "idle_timeout_ms": 55000, "boot_wait_ms": 75000, "maintenance_page": {"html": "<p>soon"},
        "error_page": {"url": "https://a.example/"}
    });
    let traffic = json!({"paused_until": "2026-11-23T04:30:00Z", "in_force": true, "in_flight": 1, "waiting": 2});
    let health = json!({
        "check": {
            "path": "/health", "status": "200-399", "interval_ms": 5000, "timeout_ms": 2000, "failures": 3,
            "successes": 2, "replace_after_ms": 60000
        },
        "dynos": [{"name": "web.1", "health": "healthy", "unhealthy_since": null, "failure": null}]
    });
    let mut domain = json!({
        "acm_status": null, "acm_status_reason": null, "app": named, "cname": "shop.localhost", "created_at": "x",
        "hostname": "www.example.com", "id": NIL, "kind": "custom", "sni_endpoint": null, "status": "succeeded",
        "updated_at": "x"
    });
    let plain_domain = domain.clone();
    domain["upstream"] = json!("https://old.example");
    let permission = json!({"name": "view", "description": "Can view an app"});
    let collaborator = json!({
        "app": named, "created_at": "x", "id": NIL, "permissions": [permission], "role": "collaborator",
        "updated_at": "x", "user": {"email": "ada@example.com", "federated": false, "id": NIL}
    });
    let person = json!({"id": NIL, "email": "ada@example.com", "administrator": false, "created_at": "x"});
    let mut invitation = person.clone();
    invitation["invitation"] = json!("invite-1");
    invitation["expires_at"] = json!("x");
    let audit = json!([{
        "at": "2026-11-23T04:30:00Z", "account": NIL, "email": "ada@example.com", "action": "PATCH /apps/{app}",
        "target": "/apps/shop", "origin": "127.0.0.1"
    }]);
    let second_factor = json!({"enabled": true});
    let coupling = json!({
        "app": {"id": NIL}, "created_at": "x", "id": NIL, "pipeline": named, "stage": "staging", "updated_at": "x"
    });
    let mut production = coupling.clone();
    production["stage"] = json!("production");
    let promotion = json!({
        "created_at": "x", "id": NIL, "pipeline": {"id": NIL},
        "source": {"app": {"id": NIL}, "release": {"id": NIL}}, "status": "completed", "updated_at": "x"
    });
    let target = json!({
        "app": {"id": NIL}, "error_message": null, "id": NIL, "pipeline_promotion": {"id": NIL}, "release": null,
        "status": "succeeded"
    });
    let transfer = json!({
        "app": named, "created_at": "x", "id": NIL, "owner": user, "recipient": user, "state": "pending",
        "updated_at": "2026-11-23T04:30:00Z"
    });
    let comparison = json!({"pipeline": "shop", "apps": [], "same_code": true, "config": [], "formation": []});
    let protection = json!({
        "pipeline": "shop", "stage": "production", "deployers": [], "windows": [], "zone": "UTC", "lock": null
    });
    let notification = json!({
        "id": NIL, "format": "webhook", "host": "example.com", "events": ["deploy"], "delivered": 0, "pending": 0,
        "given_up": 0, "last_error": null, "created_at": "x"
    });
    for (route, answer) in [
        ("POST /berth/account/two-factor", &json!({"secret": "ABC", "url": "otpauth://totp/x"})),
        ("PUT /berth/account/two-factor", &second_factor),
        ("DELETE /berth/account/two-factor", &second_factor),
        (
            "PUT /apps/shop/pre-authorizations",
            &json!({"app": {"id": NIL, "name": "shop"}, "created_at": "x", "expires_at": "y"}),
        ),
        ("GET /apps/shop/collaborators", &json!([collaborator])),
        ("POST /apps/shop/collaborators", &collaborator),
        ("PATCH /berth/apps/shop/collaborators/ada%40example.com", &collaborator),
        ("DELETE /apps/shop/collaborators/ada%40example.com", &collaborator),
        ("GET /berth/people", &json!([person])),
        ("POST /berth/people", &invitation),
        ("PATCH /berth/people/ada%40example.com", &person),
        ("DELETE /berth/people/ada%40example.com/two-factor", &person),
        ("DELETE /berth/people/ada%40example.com", &person),
        ("GET /berth/audit", &audit),
        ("GET /berth/apps/shop/audit", &audit),
        ("POST /berth/apps/shop/clone", &app),
        ("GET /apps/shop/pipeline-couplings", &coupling),
        ("GET /pipelines/00000000-0000-0000-0000-000000000000/pipeline-couplings", &json!([coupling, production])),
        ("POST /pipeline-promotions", &promotion),
        ("GET /pipeline-promotions/00000000-0000-0000-0000-000000000000/promotion-targets", &json!([target])),
        ("GET /berth/pipelines/shop/compare", &comparison),
        ("GET /pipelines/shop", &pipeline),
        ("GET /users/ann%40example.com", &account),
        ("POST /pipeline-transfers", &json!({"pipeline": {"id": NIL}, "previous_owner": owner, "new_owner": owner})),
        ("POST /account/app-transfers", &transfer),
        ("GET /account/app-transfers", &json!([transfer])),
        ("PATCH /account/app-transfers/shop", &transfer),
        ("DELETE /account/app-transfers/shop", &transfer),
        ("GET /berth/pipelines/shop/protections", &json!([protection])),
        ("PUT /berth/pipelines/shop/protections/production", &protection),
        ("PUT /berth/pipelines/shop/protections/production/lock", &protection),
        ("DELETE /berth/pipelines/shop/protections/production/lock", &protection),
        ("GET /addons", &json!([add_on])),
        ("GET /apps/shop/addons", &json!([add_on])),
        ("POST /apps/shop/addons", &add_on),
        ("GET /addons/pg", &add_on),
        ("PATCH /apps/shop/addons/00000000-0000-0000-0000-000000000000", &add_on),
        ("DELETE /apps/shop/addons/00000000-0000-0000-0000-000000000000", &add_on),
        ("GET /addons/pg/addon-attachments", &json!([attachment])),
        ("PATCH /berth/addons/pg/config", &changed),
        ("GET /addon-attachments", &json!([attachment])),
        ("POST /addon-attachments", &attachment),
        ("DELETE /addon-attachments/00000000-0000-0000-0000-000000000000", &attachment),
        ("GET /apps/shop/addon-attachments", &json!([])),
        ("GET /apps/shop/addon-attachments/DATABASE", &attachment),
        ("GET /addon-services", &json!([service])),
        ("GET /addon-services/berth-custom/plans", &json!([plan])),
        ("GET /berth/apps/shop/notifications", &json!([notification])),
        ("POST /berth/apps/shop/notifications", &notification),
        ("DELETE /berth/apps/shop/notifications/1", &notification),
        ("GET /berth/apps/shop/cron", &json!([job])),
        ("POST /berth/apps/shop/cron", &job),
        ("PATCH /berth/apps/shop/cron/nightly", &job),
        ("DELETE /berth/apps/shop/cron/nightly", &job),
        ("GET /berth/apps/shop/cron/nightly/runs", &json!([cron_run])),
        ("POST /berth/apps/shop/cron/nightly/runs", &cron_run),
        ("GET /berth/apps/shop/cron/nightly/runs/3", &cron_run),
        ("GET /berth/apps/shop/routing", &routing),
        ("PATCH /berth/apps/shop/routing", &routing),
        ("GET /berth/apps/shop/health", &health),
        ("PATCH /berth/apps/shop/health", &health),
        ("DELETE /berth/apps/shop/health", &health),
        ("GET /berth/apps/shop/traffic", &traffic),
        ("PATCH /berth/apps/shop/traffic", &traffic),
        ("GET /berth/apps/shop/domains", &json!([domain])),
        ("PATCH /berth/apps/shop/domains/www.example.com", &domain),
        ("POST /apps/shop/domains", &plain_domain),
        ("DELETE /apps/shop/domains/www.example.com", &plain_domain),
        ("POST /apps", &app),
        ("GET /apps", &json!([app])),
        ("GET /apps/shop", &app),
        ("PATCH /apps/shop", &app),
        ("DELETE /apps/00000000-0000-0000-0000-000000000000", &app),
        ("POST /apps/shop/sources", &source),
        ("POST /berth/apps/shop/builds", &build),
        ("GET /berth/apps/shop/builds/00000000-0000-0000-0000-000000000000", &built),
        ("GET /apps/shop/releases/7", &release),
        ("GET /apps/shop/releases/v7", &release),
        ("POST /apps/shop/releases", &release),
        ("GET /berth/apps/shop/releases/7", &progress),
        ("POST /berth/apps/shop/releases/v7/resume", &progress),
        ("POST /berth/apps/shop/releases/00000000-0000-0000-0000-000000000000/rollback", &release),
        ("GET /apps/shop/config-vars", &vars),
        ("PATCH /apps/shop/config-vars", &vars),
        ("PATCH /berth/apps/shop/config-vars", &vars),
        ("GET /apps/shop/dynos", &json!([dyno])),
        ("GET /berth/apps/shop/exec", &json!([{"dyno_name": "web.1"}])),
        ("GET /apps/shop/formation", &json!([formation])),
        ("PATCH /apps/shop/formation", &json!([formation])),
        ("GET /berth/apps/shop/concurrency", &concurrency),
        ("PATCH /berth/apps/shop/concurrency", &concurrency),
        ("DELETE /apps/shop/dynos", &json!({})),
        ("POST /apps/shop/dynos/web.1/actions/stop", &json!({})),
        ("POST /berth/apps/shop/runs", &run),
        ("GET /berth/apps/shop/runs/00000000-0000-0000-0000-000000000000", &ran),
        ("POST /apps/shop/log-sessions", &session),
        ("GET /account", &account),
        ("GET /oauth/authorizations", &json!([authorization])),
        ("POST /oauth/authorizations", &authorization),
        ("DELETE /oauth/authorizations/1", &authorization),
        ("GET /berth/dns-zones", &json!([zone])),
        ("PUT /berth/dns-zones/example.com", &zone),
        ("DELETE /berth/dns-zones/example.com", &json!({"zone": "example.com"})),
        ("GET /berth/status", &status),
        ("GET /berth/gc", &garbage),
        ("POST /berth/gc", &garbage),
    ] {
        server.on(route, [Reply::json(answer)]);
    }
    // The newest release is another one after every second look: a config change made it.
    let mut older = release.clone();
    older["version"] = json!(6);
    let looks = (0..64).map(|look| Reply::json(&json!([if look % 2 == 0 { &older } else { &release }])));
    server.on("PUT /put", [Reply::text("")]).on("GET /output", [Reply::text("-----> Building\n")]);
    server.on("GET /stream", [Reply::text("id: 1\ndata: 2026-01-02T03:04:05+00:00 app[web.1]: hello\n\n")]);
    server.on("GET /apps/shop/releases", looks);
    server
}

#[test]
fn every_command_is_in_the_table() {
    let command = cli::command("berth");
    let known: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let tried = COMMANDS.iter().map(|(args, _input)| args[0]).chain(WITHOUT_JSON).collect();
    assert_eq!(known, tried);
}

#[test]
fn every_command_prints_json_and_nothing_else() {
    for (args, input) in COMMANDS {
        // What is served depends on what was asked before, so each one has a server of its own.
        let server = server();
        if args[0].starts_with("config:") || args[0].starts_with("addons:") || args[0] == "releases:info" {
            server.on(
                "GET /berth/apps/shop/releases/6",
                [Reply::json(&json!({
                    "id": NIL, "version": 6, "state": "serving", "failure": null
                }))],
            );
            server.on("GET /apps/shop/releases/6/config-vars", [Reply::json(&json!({}))]);
        }
        let client = server.client(&[&["--json"][..], args].concat()).file("Procfile", "web: run\n");
        let made = std::process::Command::new("git").args(["init", "--quiet"]).current_dir(client.home.path()).status();
        assert!(made.unwrap().success());
        let ended = client.end_with_input(input);
        let is_doctor = args[0] == "doctor";
        assert!(ended.code == Some(0) || is_doctor, "{args:?}: {ended:?}");
        let parsed: Result<Value, _> = serde_json::from_str(&ended.stdout);
        assert!(parsed.is_ok(), "{args:?} printed {:?}", ended.stdout);
    }
}

#[test]
fn every_error_is_an_object_with_an_id_and_a_message() {
    // It has no answer to anything, and says so as the API does.
    let server = Server::start();
    for (args, input) in COMMANDS.iter().filter(|(args, _input)| args[0] != "doctor") {
        let client = server.client(&[&["--json"][..], args].concat()).file("Procfile", "web: run\n");
        let ended = client.end_with_input(input);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}: {ended:?}");
        let error: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
        let id = error["id"].as_str().unwrap();
        assert!(id == "not_found" || args[0] == "git:remote", "{args:?}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{args:?}: {error}");
    }
}

#[test]
fn an_error_says_what_kind_it_is() {
    let server = Server::start();
    server.on("GET /apps", [Reply::error(429, "rate_limit", "Your account reached the API rate limit.")]);
    server.on("GET /account", [Reply::error(401, "unauthorized", "no")]);
    let error = |ended: crate::harness::Ended| {
        let error: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
        (ended.code, error["id"].as_str().unwrap().to_owned())
    };
    let check = |ended, code, id: &str| assert_eq!(error(ended), (Some(code), id.to_owned()));
    check(server.client(&["apps", "--json"]).end(), 1, "rate_limit");
    check(server.client(&["account", "--json"]).end(), 1, "unauthorized");
    check(server.client(&["ps:scale", "web", "--json"]).end(), 2, "usage");
    check(server.client(&["apps", "--json"]).env("BERTH_HOST", "http://127.0.0.1:1").end(), 1, "unreachable");
    check(server.client(&["apps", "--json"]).unset("BERTH_HOST").end(), 1, "not_logged_in");
    // Before the command line could be read, too.
    check(server.client(&["ps:scale", "--nonsense", "--json"]).end(), 2, "usage");
}
