//! Commands of one request or two.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Reply, Server};

fn release(version: u64) -> Value {
    json!({
        "addon_plan_names": [], "app": {"id": Uuid::nil(), "name": "shop"}, "artifacts": [],
        "created_at": "2026-11-23T04:30:00Z", "current": version == 2, "description": "Set A config vars",
        "eligible_for_rollback": version > 1, "id": Uuid::from_u128(u128::from(version)), "output_stream_url": null,
        "slug": null, "status": "succeeded", "updated_at": "2026-11-23T04:30:00Z",
        "user": {"id": Uuid::nil(), "email": "ann@example.com"}, "version": version
    })
}

fn releases(versions: &[u64]) -> Reply {
    Reply::json(&versions.iter().map(|&version| release(version)).collect())
}

#[test]
fn config_vars_are_set_without_being_shown() {
    let server = Server::start();
    server
        .on("GET /apps/shop/releases", [releases(&[1]), releases(&[2])])
        .on("PATCH /apps/shop/config-vars", [Reply::json(&json!({"A": "hunter2"}))])
        .on("GET /berth/apps/shop/releases/2", [progress("rolling_out", None), progress("serving", None)]);
    let ended = server.client(&["config", "set", "A=hunter2", "B=x=y z"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "v2: serving\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("Set A, B in shop: v2, dynos restart with it.\n"), "{ended:?}");
    assert_eq!(server.seen("PATCH /apps/shop/config-vars")[0].json(), json!({"A": "hunter2", "B": "x=y z"}));
}

fn progress(state: &str, failure: Option<&str>) -> Reply {
    Reply::json(&json!({"id": Uuid::nil(), "version": 2, "state": state, "failure": failure}))
}

#[test]
fn a_config_change_that_the_app_does_not_survive_is_a_failure() {
    let server = Server::start();
    server
        .on("GET /apps/shop/releases", [releases(&[1]), releases(&[2]), releases(&[1]), releases(&[2])])
        .on("PATCH /apps/shop/config-vars", [Reply::json(&json!({}))])
        .on("GET /berth/apps/shop/releases/2", [progress("failed", Some("KeyError: 'A'"))]);
    let ended = server.client(&["config:unset", "A"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("KeyError: 'A'\n"), "{ended:?}");
    assert_eq!(server.client(&["config:unset", "A", "--no-wait"]).end().code, Some(0));
}

#[test]
fn a_value_in_the_wrong_place_is_not_repeated_in_the_error() {
    let server = Server::start();
    let ended = server.client(&["config:set", "hunter2"]).end();
    assert_eq!(ended.code, Some(2));
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}

#[test]
fn config_vars_are_imported_from_the_standard_input_and_unset_by_name() {
    let server = Server::start();
    server
        .on("GET /apps/shop/releases", [releases(&[1])])
        .on("PATCH /apps/shop/config-vars", [Reply::json(&json!({}))]);
    let ended = server.client(&["config:import", "-"]).end_with_input("# c\nexport A='1 2'\n");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "A: as it was in shop, nothing changed.\n"));
    assert_eq!(server.client(&["config:unset", "A"]).end().code, Some(0));
    let bodies: Vec<Value> = server.seen("PATCH /apps/shop/config-vars").iter().map(|seen| seen.json()).collect();
    assert_eq!(bodies, [json!({"A": "1 2"}), json!({"A": null})]);
}

#[test]
fn what_config_prints_for_a_shell_is_read_back_by_import() {
    let server = Server::start();
    let vars = json!({"A": "it's $5", "B": "a\nb", "C": "plain"});
    server
        .on("GET /apps/shop/config-vars", [Reply::json(&vars)])
        .on("GET /apps/shop/releases", [releases(&[1])])
        .on("PATCH /apps/shop/config-vars", [Reply::json(&vars)]);
    let printed = server.client(&["config", "--shell"]).end().stdout;
    assert_eq!(server.client(&["config:import", "-"]).end_with_input(&printed).code, Some(0));
    assert_eq!(server.seen("PATCH /apps/shop/config-vars")[0].json(), vars);
}

#[test]
fn config_get_prints_the_bare_value() {
    let server = Server::start();
    server.on("GET /apps/shop/config-vars", [Reply::json(&json!({"A": "x y"}))]);
    assert_eq!(server.client(&["config:get", "A"]).end().stdout, "x y\n");
    let missing = server.client(&["config:get", "B"]).end();
    assert_eq!((missing.code, missing.stdout.as_str(), missing.stderr.as_str()), (Some(0), "\n", "B is not set.\n"));
}

#[test]
fn scaling_sends_the_counts_as_they_were_written() {
    let server = Server::start();
    let entry = json!({
        "app": {"id": Uuid::nil(), "name": "shop"}, "command": "bin/web", "created_at": "x",
        "dyno_size": {"id": Uuid::nil(), "name": "basic"}, "id": Uuid::nil(), "quantity": 3, "size": "basic",
        "type": "web", "updated_at": "x"
    });
    server.on("PATCH /apps/shop/formation", [Reply::json(&json!([entry]))]);
    let ended = server.client(&["ps", "scale", "web=3", "worker=+1:standard-2x", "--app", "shop"]).end();
    insta::assert_snapshot!(ended.stdout, @r"
    TYPE  COUNT  SIZE   COMMAND
    web   3      basic  bin/web
    ");
    let expect = json!({"updates": [
        {"type": "web", "quantity": "3"},
        {"type": "worker", "quantity": "+1", "size": "standard-2x"},
    ]});
    assert_eq!(server.seen("PATCH /apps/shop/formation")[0].json(), expect);
    assert_eq!(server.client(&["ps:scale", "web"]).end().code, Some(2));
}

#[test]
fn restart_and_stop_tell_a_dyno_from_a_process_type() {
    let server = Server::start();
    for route in [
        "DELETE /apps/shop/dynos",
        "DELETE /apps/shop/dynos/web.1",
        "DELETE /apps/shop/formations/web",
        "POST /apps/shop/dynos/run.1/actions/stop",
        "POST /apps/shop/formations/worker/actions/stop",
    ] {
        server.on(route, [Reply::json(&json!({}))]);
    }
    for args in [
        &["ps:restart"][..],
        &["ps:restart", "web.1"],
        &["restart", "web"],
        &["ps:stop", "run.1"],
        &["ps", "stop", "worker"],
    ] {
        let ended = server.client(args).end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn releases_are_a_table_and_ask_for_no_more_than_is_shown() {
    let server = Server::start();
    server.on("GET /apps/shop/releases", [releases(&[2, 1]).header("next-range", "version ]1..; max=2; order=desc")]);
    let ended = server.client(&["releases", "-n", "2"]).end();
    insta::assert_snapshot!(ended.stdout, @r"
        DESCRIPTION        STATE      BY               AT
    v2  Set A config vars  current    ann@example.com  2026-11-23 04:30 UTC
    v1  Set A config vars  succeeded  ann@example.com  2026-11-23 04:30 UTC
    ");
    let [request] = server.seen("GET /apps/shop/releases").try_into().unwrap();
    assert_eq!(request.headers["range"], "version ..; order=desc, max=2");
}

#[test]
fn long_lists_are_read_to_their_end() {
    let server = Server::start();
    let page = |id: &str| {
        json!([{"access_token": null, "client": null, "created_at": "2026-11-23T04:30:00Z",
        "description": id, "grant": null, "id": Uuid::nil(), "refresh_token": null, "scope": [], "session": null,
        "updated_at": "x", "user": null}])
    };
    let first = Reply::json(&page("one")).header("next-range", "id ]one..; max=1");
    server.on("GET /oauth/authorizations", [first, Reply::json(&page("two"))]);
    let ended = server.client(&["tokens", "--json"]).end();
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&printed[0]["description"], &printed[1]["description"]), (&json!("one"), &json!("two")));
    assert_eq!(server.seen("GET /oauth/authorizations")[1].headers["range"], "id ]one..; max=1");
}

#[test]
fn rollback_goes_to_the_release_before_and_waits_until_it_serves() {
    let server = Server::start();
    let mut older = release(1);
    older["eligible_for_rollback"] = json!(true);
    let progress = json!({"id": Uuid::nil(), "version": 3, "state": "serving", "failure": null});
    server
        .on("GET /apps/shop/releases", [Reply::json(&json!([release(2), older]))])
        .on("POST /apps/shop/releases", [Reply::json(&release(3))])
        .on("GET /berth/apps/shop/releases/3", [Reply::json(&progress)]);
    let ended = server.client(&["rollback"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "v3: serving\n"), "{ended:?}");
    let expect = json!({"release": Uuid::from_u128(1)});
    assert_eq!(server.seen("POST /apps/shop/releases")[0].json(), expect);
}

#[test]
fn an_app_is_destroyed_only_when_its_name_is_said_twice() {
    let server = Server::start();
    let app = json!({
        "acm": false, "archived_at": null, "build_stack": {"id": Uuid::nil(), "name": "debian-12"},
        "buildpack_provided_description": null, "created_at": "x", "generation": "cedar", "git_url": "x",
        "id": Uuid::nil(), "internal_routing": null, "maintenance": false, "name": "shop", "organization": null,
        "owner": {"id": Uuid::nil(), "email": "a@b"}, "region": {"id": Uuid::nil(), "name": "local"},
        "released_at": null, "repo_size": null, "slug_size": null, "space": null,
        "stack": {"id": Uuid::nil(), "name": "debian-12"}, "team": null, "updated_at": "x", "web_url": null
    });
    let destroy = "DELETE /apps/00000000-0000-0000-0000-000000000000";
    server.on("GET /apps/shop", [Reply::json(&app)]).on(destroy, [Reply::json(&app)]);
    // BERTH_APP is set in these tests, but names no victim.
    assert_eq!(server.client(&["apps:destroy", "--confirm", "shop"]).end().code, Some(2));
    assert_eq!(server.client(&["apps:destroy", "shop"]).end().code, Some(2));
    assert_eq!(server.client(&["apps:destroy", "shop", "--confirm", "shp"]).end().code, Some(1));
    assert!(server.seen(destroy).is_empty());
    let ended = server.client(&["apps:destroy", "shop", "--confirm", "shop"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "Destroyed shop.\n"), "{ended:?}");
}

#[test]
fn warnings_of_the_server_are_shown_once_and_apart() {
    let server = Server::start();
    let reply = Reply::json(&json!({"A": "1"})).header("x-heroku-warning", "the disk is nearly full");
    server.on("GET /apps/shop/config-vars", [reply]);
    let ended = server.client(&["config"]).end();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("A: 1\n", " !    the disk is nearly full\n"));
}

#[test]
fn errors_say_what_happened_and_what_to_do() {
    let server = Server::start();
    server.on("GET /apps", [Reply::error(401, "unauthorized", "Invalid credentials provided.")]);
    let ended = server.client(&["apps"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with(" !    the server does not accept this token\n !    Log in again"), "{ended:?}");

    server.on("GET /apps", [Reply::text("<html>")]);
    let ended = server.client(&["apps"]).end();
    assert!(ended.stderr.contains("is not one of Berth's API"), "{ended:?}");

    let ended = server.client(&["apps"]).env("BERTH_HOST", "http://berth.example.com").end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("in the clear"), "{ended:?}");

    let ended = server.client(&["apps"]).unset("BERTH_HOST").unset("BERTH_API_KEY").end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("berth login") && ended.stderr.contains("berth tokens:reset"), "{ended:?}");

    assert_eq!(server.client(&["ps"]).unset("BERTH_APP").end().code, Some(2));
    assert_eq!(server.client(&["nonsense"]).end().code, Some(2));
}
