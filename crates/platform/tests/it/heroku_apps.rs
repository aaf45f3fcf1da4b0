//! The `heroku` client and apps: what people type every day.

use serde_json::json;

use crate::heroku_cli::ran;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

#[test]
fn heroku_makes_shows_renames_and_destroys_apps() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.heroku("create shop").shows("http://shop.localhost").shows("/shop.git");
    platform.heroku("apps").shows("=== admin@localhost Apps").shows("shop");
    let info = platform.heroku("apps:info -a shop");
    info.shows("Owner:          admin@localhost")
        .shows("Region:         local")
        .shows(&format!("Stack:          {}", shim::host::stack()));
    assert_eq!(platform.heroku("apps:info -a shop --json").json()["app"]["name"], "shop");
    platform.heroku("apps:rename store -a shop").shows("store.git");
    platform.heroku_fails("apps:info -a shop").shows("Couldn't find that app");
    platform.heroku_fails("create store").shows("already taken");
    platform.heroku_fails("create other --team ours").shows("no teams");
    platform.heroku_fails("create other --region eu").shows("There is no region");
    platform.heroku("stack -a store").shows(&format!("* {}", shim::host::stack())).shows("heroku-24");
    platform.heroku("stack:set heroku-24 -a store").shows("done");
    platform.heroku_fails("stack:set container -a store").shows("not available yet");
    platform.heroku("regions").shows("This machine");
    platform.heroku("status").shows("No known issues");
    platform.heroku("access -a store").shows("admin@localhost").shows("owner");
    platform.heroku_fails("access:add ada@example.com -a store").shows("berth people:add");
    platform.heroku("features -a store");
    platform.heroku("labs -a store").shows("User Features admin@localhost");
    platform.heroku("buildpacks:add https://example.com/pack.tgz -a store").shows("Buildpack added");
    platform.heroku("buildpacks -a store").shows("https://example.com/pack.tgz");
    platform.heroku("buildpacks:clear -a store").shows("Buildpacks cleared");
    platform.heroku("teams");
    platform.heroku_fails("spaces").shows("You do not have access to any spaces");
    platform.heroku("maintenance:on -a store").shows("done");
    assert_eq!(platform.heroku("maintenance -a store").out, "on");
    platform.heroku("maintenance:off -a store");
    platform.heroku_fails("apps:destroy -a store --confirm shop");
    platform.heroku("apps:destroy -a store --confirm store").shows("done");
    platform.heroku("apps").shows("You have no apps");
}

#[test]
fn heroku_sets_and_shows_config_vars() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku("config:set A=1 URL=postgres://u:p@h/db?x=y -a shop").shows("done, v2").shows("A:   1");
    platform.heroku("config -a shop").shows("=== shop Config Vars").shows("postgres://u:p@h/db?x=y");
    assert_eq!(platform.heroku("config:get A -a shop").out, "1");
    assert_eq!(platform.heroku("config --json -a shop").json(), json!({"A": "1", "URL": "postgres://u:p@h/db?x=y"}));
    platform.heroku("config --shell -a shop").shows("A=1");
    platform.heroku("config:unset A -a shop").shows("done, v3");
    platform.heroku_fails("config:set PORT=1 -a shop").shows("PORT");
    platform.heroku_fails("config:set 1X=1 -a shop");
    let mut edit = platform.heroku_command(&["config:edit", "-a", "shop"]);
    // An editor that adds a line; the client asks before it saves.
    let editor = platform.scratch().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nprintf '\\nB=\"two words\"\\n' >> \"$1\"\n").unwrap();
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let edited =
        crate::heroku_cli::answered(edit.env("EDITOR", &editor).env("VISUAL", &editor), &[("with these values", "y")]);
    assert_eq!(edited.code, Some(0), "{}", edited.both());
    assert_eq!(platform.get("/apps/shop/config-vars")["B"], "two words");
}

#[test]
fn heroku_scales_restarts_and_reads_releases_and_logs() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku_fails("ps:scale web=2 -a shop").shows("no code yet");
    let source = Source::app("python-web").process("worker: sleep 1000");
    platform.serve("shop", &source);
    platform.heroku("ps -a shop").shows("=== web (Standard-1X): ").shows("web.1: up");
    platform.heroku("ps:scale web=2 worker=1 -a shop").shows("now running web at 2:Standard-1X, worker at 1");
    assert_eq!(platform.heroku("ps:scale -a shop").out, "web=2:Standard-1X worker=1:Standard-1X");
    platform.heroku("ps:scale worker-1 -a shop").shows("worker at 0");
    platform.heroku("ps:type worker=standard-2x -a shop").shows("Standard-2X");
    platform.heroku_fails("ps:scale cron=1 -a shop").shows("web, worker");
    platform.heroku("ps:wait -a shop");
    wait_until("two web dynos", || platform.dynos("shop").len() == 2);
    assert_eq!(platform.heroku("ps --json -a shop").json().as_array().unwrap().len(), 2);
    platform.heroku("ps:restart -a shop").shows("done");
    platform.heroku("ps:restart web.1 -a shop").shows("done");
    platform.heroku("ps:restart --process-type web -a shop").shows("done");
    platform.heroku_fails("ps:restart web.9 -a shop").shows("Couldn't find that dyno");
    platform.heroku("ps:stop --dyno-name web.2 -a shop").shows("done");

    platform.heroku("config:set GREETING=hi -a shop").shows("v3");
    platform.newest_serves("shop");
    platform.heroku("releases -a shop").shows("Current: v3").shows("Set GREETING config var").shows("Deploy");
    platform.heroku("releases:info v3 -a shop").shows("GREETING:").shows("By:                     admin@localhost");
    platform.heroku("releases:output v2 -a shop");
    platform.heroku("rollback v2 -a shop").shows("v4");
    platform.newest_serves("shop");
    assert!(platform.get("/apps/shop/config-vars").get("GREETING").is_none());
    assert_eq!(platform.heroku("releases --json -a shop").json()[0]["version"], 4);

    platform.logged("shop", "Rollback to v2");
    platform.heroku("logs -a shop").shows("app[api]: Rollback to v2 by user admin@localhost");
    let two = platform.heroku("logs -n 2 -a shop");
    assert_eq!(two.out.lines().count(), 2, "{}", two.both());
    let api = platform.heroku("logs --source app --dyno-name api -a shop");
    assert!(api.out.lines().all(|line| line.contains("app[api]")), "{}", api.both());
}

#[test]
fn heroku_follows_a_log_from_one_line_to_the_next() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    let tail = crate::heroku_cli::Running::start(&mut platform.heroku_command(&["logs", "--tail", "-a", "shop"]));
    tail.waits_for("Deploy");
    platform.text("shop", "/count?lines=3&seconds=0");
    tail.waits_for("heroku[router]: at=info method=GET path=\"/count?lines=3&seconds=0\"");
    tail.end();
}

#[test]
fn heroku_and_berth_give_an_app_to_somebody_else() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let ada = platform.join("ada@example.com");
    let bob = platform.join("bob@example.com");
    platform.create("shop");
    let owner = || platform.get("/apps/shop")["owner"]["email"].clone();
    let permissions = json!({"user": "bob@example.com", "permissions": ["manage"]});
    platform.ask("POST", "/apps/shop/collaborators", &permissions);
    platform.ask("POST", "/apps/shop/collaborators", &json!({"user": "ada@example.com", "permissions": ["view"]}));

    // It is its owner's to give away, and goes to somebody who is here.
    let transfer = |token: &str| platform.berth_as(token, &["apps:transfer", "bob@example.com", "-a", "shop"]);
    assert_eq!(transfer(&ada).says("You do not have the permission to manage this app").code, Some(1));
    assert_eq!(transfer(&bob).says("shop belongs to somebody else, who can give it away").code, Some(1));
    platform.heroku_fails("apps:transfer eve@example.com -a shop").says("berth people:add eve@example.com");
    let refused = platform.berth(&["apps:transfer", "ours", "-a", "shop"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("there are no teams on this server"), "{refused:?}");
    let body = json!({"app": "nothing", "recipient": "ada@example.com"});
    assert_eq!(platform.api("POST", "/account/app-transfers", &body).unwrap().0, 404);
    assert_eq!(owner(), "admin@localhost");

    platform.heroku("apps:transfer ada@example.com -a shop").shows("ada@example.com... done");
    assert_eq!(owner(), "ada@example.com");
    let audit = platform.get("/berth/apps/shop/audit");
    assert_eq!(audit[0]["action"], "POST /account/app-transfers", "{audit}");
    platform.logged("shop", "Transfer to ada@example.com by user admin@localhost");
    let people = platform.get("/apps/shop/collaborators");
    let who: Vec<_> = people.as_array().unwrap().iter().map(|one| [&one["user"]["email"], &one["role"]]).collect();
    assert_eq!(
        who,
        [["ada@example.com", "owner"], ["bob@example.com", "collaborator"], ["admin@localhost", "collaborator"]]
    );
    platform.heroku_fails("apps:transfer ada@example.com -a shop").says("The app is theirs already");
}

#[test]
fn an_app_that_its_owner_gives_away_waits_for_whoever_gets_it() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let ada = platform.join("ada@example.com");
    let bob = platform.join("bob@example.com");
    let eve = platform.join("eve@example.com");
    assert_eq!(platform.ask_as(&ada, "POST", "/apps", &json!({"name": "shop"})).0, 201);
    let owner = || platform.get("/apps/shop")["owner"]["email"].clone();
    let heroku = |token: &str, line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        ran(platform.heroku_command(&arguments).env("HEROKU_API_KEY", token))
    };
    let berth = |token: &str, line: &str| platform.berth_as(token, &line.split(' ').collect::<Vec<_>>());

    let offered = heroku(&ada, "apps:transfer bob@example.com -a shop");
    assert_eq!(offered.code, Some(0), "{}", offered.both());
    offered.shows("bob@example.com... email sent");
    offered.says("No e-mail is sent: tell bob@example.com to accept with `berth apps:transfers:accept shop`.");
    assert_eq!(owner(), "ada@example.com");
    assert_eq!(platform.ask_as(&bob, "GET", "/apps/shop", &json!(null)).0, 404, "an offer is no access");
    let twice = heroku(&ada, "apps:transfer eve@example.com -a shop");
    assert_ne!(twice.says("shop is offered to bob@example.com already").code, Some(0));
    berth(&ada, "apps:transfer ada@example.com -a shop").says("The app is theirs already");

    // Whom it is for hears of it; it is nobody else's business, and no administrator agrees for others.
    let told = "ada@example.com offers you the app shop: `berth apps:transfers:accept shop` takes it";
    heroku(&bob, "apps").says(told);
    berth(&bob, "apps").says(told);
    assert!(!heroku(&ada, "apps").words().contains("offers you"));
    berth(&bob, "apps:transfers").shows("pending");
    berth(&eve, "apps:transfers").says("Nobody gives you an app");
    let route = "/account/app-transfers/shop";
    for (method, body) in [("GET", json!(null)), ("PATCH", json!({"state": "accepted"})), ("DELETE", json!(null))] {
        let (status, answer) = platform.ask_as(&eve, method, route, &body);
        assert_eq!((status, &answer["resource"]), (404, &json!("app transfer")), "{method}: {answer}");
    }
    for token in [&ada, &platform.token] {
        assert_eq!(berth(token, "apps:transfers:accept shop").says("Only the recipient").code, Some(1));
    }
    assert_eq!(berth(&bob, "apps:transfers:cancel shop").says("Only the sender").code, Some(1));
    let (status, answer) = platform.ask_as(&bob, "PATCH", route, &json!({"state": "pending"}));
    assert_eq!((status, &answer["message"]), (422, &json!("State must be accepted or declined.")));

    berth(&bob, "apps:transfers:decline shop").shows("shop stays with ada@example.com.");
    berth(&ada, "apps:transfers").shows("declined");
    assert!(!heroku(&bob, "apps").words().contains("offers you"));
    berth(&ada, "apps:transfer bob@example.com -a shop").shows("shop is offered to bob@example.com.");
    berth(&ada, "apps:transfers:cancel shop").shows("shop is not offered to bob@example.com any more.");
    let late = berth(&bob, "apps:transfers:accept shop");
    assert_eq!(late.says("Couldn't find that app transfer. `berth apps:transfers` lists yours.").code, Some(1));

    heroku(&ada, "apps:transfer bob@example.com -a shop").shows("email sent");
    assert_eq!(berth(&bob, "apps:transfers:accept shop --json").json()["state"], "accepted");
    assert_eq!(owner(), "bob@example.com");
    assert_eq!(platform.ask_as(&ada, "GET", "/apps/shop", &json!(null)).0, 200, "who owned it is a collaborator");
    assert_eq!(platform.ask_as(&ada, "PATCH", "/apps/shop", &json!({"name": "adas"})).0, 403);
    for line in ["Offer to bob@example.com by user ada", "declined by user bob", "taken back by user ada"] {
        platform.logged("shop", line);
    }
    platform.logged("shop", "Transfer to bob@example.com by user bob@example.com");
    let audit = platform.get("/berth/apps/shop/audit");
    let entries = audit.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap());
    let create = "POST /account/app-transfers";
    let [answer, cancel] = ["PATCH", "DELETE"].map(|method| format!("{method} /account/app-transfers/{{transfer}}"));
    let expect = [answer.as_str(), create, &cancel, create, &answer, create];
    assert_eq!(entries.filter(|action| action.contains("app-transfers")).collect::<Vec<_>>(), expect);
}
