//! The `heroku` client and add-ons: services of one's own under names of one's own.

use serde_json::{Value, json};

use crate::api::path_of;
use crate::heroku_cli::answered;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

#[test]
fn heroku_makes_and_shows_add_ons() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku("addons -a shop").shows("No add-ons for app shop");
    platform.heroku("addons").shows("No add-ons");
    platform.heroku("addons:services").shows("berth-custom").shows("A service of your own");
    platform.heroku("addons:plans berth-custom").shows("berth-custom:external").shows("default").shows("free");
    platform.heroku("addons:docs berth-custom --show-url").shows("It is described at");

    let made = platform.heroku("addons:create berth-custom -a shop --name shop-db -- --url=postgres://u:hunter2@h/d");
    made.shows("Creating berth-custom on").shows("Created shop-db as DATABASE_URL");
    assert_eq!(platform.heroku("config:get DATABASE_URL -a shop").out, "postgres://u:hunter2@h/d");
    platform.heroku("addons -a shop").shows("berth-custom (shop-db)").shows("as DATABASE").shows("created");
    platform.heroku("addons").shows("shop-db").shows("berth-custom:external");
    let info = platform.heroku("addons:info shop-db");
    info.shows("Plan:").shows("berth-custom:external").shows("shop::DATABASE").shows("Owning app:").shows("created");
    platform.heroku("addons:info DATABASE -a shop").shows("shop-db");
    platform.heroku("addons:wait shop-db");
    platform.heroku("addons:wait -a shop");
    let open = platform.heroku("addons:open shop-db -a shop --show-url");
    let about = platform.api_raw("GET", path_of(&open.out), &[], &[]).unwrap();
    assert!(about.status == 200 && about.text().contains("There is no dashboard"), "{}", about.text());
    platform.heroku("releases -a shop").shows("Attach DATABASE (@ref:shop-db)");
    platform.heroku("apps:info -a shop").shows("berth-custom:external");
    assert!(!platform.log().contains("hunter2"), "no value is ever logged");
}

#[test]
fn heroku_attaches_renames_and_destroys_add_ons() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.create("worker");
    let body = json!({"plan": "berth-custom", "name": "shop-db", "config": {"url": "postgres://u:hunter2@h/d"}});
    platform.ask("POST", "/apps/shop/addons", &body);
    platform.heroku("addons:attach shop-db -a worker --as PRIMARY").shows("done, v2");
    assert_eq!(platform.get("/apps/worker/config-vars"), json!({"PRIMARY_URL": "postgres://u:hunter2@h/d"}));
    platform.heroku("addons -a worker").shows("billed to").shows("as PRIMARY");
    // A second one beside it has a colour.
    platform.heroku("addons:create berth-custom -a shop -- --url postgres://h/second").shows("HEROKU_POSTGRESQL_");
    platform.heroku_fails("config:set DATABASE_URL=x -a shop").shows("Cannot overwrite attachment values DATABASE_URL");
    platform.heroku("addons:rename shop-db main-db").shows("successfully renamed to main-db");
    platform.heroku_fails("addons:rename main-db 1").shows("must start with a letter");
    platform.heroku_fails("addons:upgrade main-db berth-custom:huge").shows("berth-custom:external");
    platform.heroku_fails("addons:downgrade main-db berth-custom:external").shows("already");

    platform.heroku_fails("addons:destroy main-db -a shop --confirm shop").shows("is attached to other");
    platform.heroku_fails("addons:destroy main-db -a shop --confirm worker");
    platform.heroku_fails("addons:detach DATABASE -a shop").shows("the last attachment");
    platform.heroku("addons:detach PRIMARY -a worker").shows("done, v3");
    assert_eq!(platform.get("/apps/worker/config-vars"), json!({}));
    platform.heroku("addons:destroy main-db -a shop --confirm shop").shows("done");
    platform.heroku_fails("addons:info main-db").shows("Couldn't find that add_on");
    assert_eq!(platform.get("/apps/shop/config-vars").as_object().unwrap().len(), 1);
    assert!(!platform.log().contains("hunter2"), "no value is ever logged");
}

#[test]
fn heroku_is_told_what_to_do_instead_and_what_is_in_the_way() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku_fails("addons:create heroku-redis -a shop").shows("it is not here").shows("--as REDIS");
    platform.heroku_fails("addons:create heroku-postgresql:essential-0 -a shop").shows("--as DATABASE");
    platform.heroku_fails("addons:create scheduler:standard -a shop").shows("berth cron:add");
    platform.heroku_fails("addons:create berth-custom -a shop").shows("Say what to attach");
    platform.heroku_fails("addons:create berth-custom -a shop -- --url=hunter2").shows("must be a URL");
    platform
        .heroku_fails("addons:create berth-custom -a shop --as 1X -- --url=a://b")
        .shows("must start with a letter");
    platform.heroku_fails("addons:info nothing -a shop").shows("Couldn't find that add_on");
    platform.heroku_fails("addons:attach nothing -a shop").shows("Couldn't find that add_on");
    platform.heroku_fails("addons:detach NOTHING -a shop").shows("Couldn't find that add_on attachment");

    // A config var of the app's own in the same place: the client asks before it goes.
    platform.heroku("config:set SEARCH_URL=https://old -a shop");
    let line = ["addons:create", "berth-custom", "-a", "shop", "--as", "search", "--", "--url=https://new"];
    let mut create = platform.heroku_command(&line);
    let asked = answered(&mut create, &[("to proceed", "shop")]);
    asked.shows("SEARCH_URL is a config var of this app already");
    assert_eq!(asked.code, Some(0), "{}", asked.both());
    assert_eq!(platform.heroku("config:get SEARCH_URL -a shop").out, "https://new");
    // Several values, and words of which the client makes a switch.
    platform.heroku("addons:create berth-custom -a shop --as STORAGE -- --bucket=photos --access-key k --public");
    let vars = platform.get("/apps/shop/config-vars");
    assert_eq!(vars["STORAGE_BUCKET"], "photos", "{vars}");
    assert_eq!((&vars["STORAGE_ACCESS_KEY"], &vars["STORAGE_PUBLIC"]), (&json!("k"), &json!("true")));
}

/// What `python-web` says of a variable with this value.
fn of_value(value: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hex}\n", value.len())
}

#[test]
fn a_changed_value_reaches_running_apps_and_survives_a_rollback() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let body = json!({
        "plan": "berth-custom", "name": "greeter", "attachment": {"name": "GREETER"}, "config": {"text": "ahoy"}
    });
    platform.ask("POST", "/apps/shop/addons", &body);
    let first = platform.serve("shop", &Source::app("python-web"));
    platform.python_web("worker");
    platform.must(&["addons:attach", "greeter", "-a", "worker", "--as", "HELLO"]);
    let finds = |app: &str, var: &str, value: &str| {
        let expect = of_value(value);
        wait_until(&format!("{app} finds {value}"), || platform.text(app, &format!("/env?name={var}")) == expect);
    };
    finds("shop", "GREETER_TEXT", "ahoy");
    finds("worker", "HELLO_TEXT", "ahoy");
    assert!(platform.must(&["addons", "-a", "worker"]).contains("shop::GREETER, HELLO"));

    let said =
        platform.berth_with_input(&["addons:update", "greeter", "--value", "TEXT=hello", "--url", "-"], "a://b\n");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("shop: v") && said.stderr.contains("worker: v"), "{said:?}");
    assert!(!format!("{said:?}").contains("a://b"), "{said:?}");
    for (app, var) in [("shop", "GREETER"), ("worker", "HELLO")] {
        finds(app, &format!("{var}_TEXT"), "hello");
        finds(app, &format!("{var}_URL"), "a://b");
    }
    platform.roll_back("shop", first);
    finds("shop", "GREETER_TEXT", "hello");
    let (output, _status) = platform.run("shop", "printenv GREETER_TEXT", Some(first));
    assert_eq!(output.trim(), "hello", "an old release finds what is there now");
    let releases = platform.releases("shop");
    assert_eq!(releases.last().unwrap()["addon_plan_names"], json!(["berth-custom:external"]));

    platform.ask("DELETE", "/apps/shop", &Value::Null);
    assert_eq!(platform.get("/apps/worker/config-vars"), json!({}));
    wait_until("the other app goes on without", || platform.text("worker", "/env?name=HELLO_TEXT") == "unset\n");
}

#[test]
fn who_may_see_one_app_learns_nothing_of_the_other() {
    let Some(platform) = TestPlatform::start() else { return };
    for app in ["shop", "worker"] {
        platform.create(app);
    }
    platform.must(&[
        "addons:create",
        "berth-custom",
        "-a",
        "shop",
        "--name",
        "pg",
        "--url",
        "postgres://u:hunter2@h/d",
    ]);
    platform.must(&["addons:attach", "pg", "-a", "worker"]);
    let token = platform.join("ada@example.com");
    let ask = |method: &str, path: &str, body: &Value| platform.ask_as(&token, method, path, body);
    assert_eq!(ask("GET", "/addons/pg", &Value::Null).0, 404);
    assert_eq!(ask("GET", "/addons", &Value::Null).1, json!([]));
    assert_eq!(ask("POST", "/actions/addons/resolve", &json!({"addon": "pg"})).0, 404);
    let body = json!({"user": "ada@example.com", "permissions": ["operate"]});
    platform.ask("POST", "/apps/worker/collaborators", &body);
    assert_eq!(ask("GET", "/addons/pg", &Value::Null).1["name"], "pg");
    // The values belong to the app that it was made for, and so does what is done with them.
    for (method, path, body) in [
        ("GET", "/addons/pg/config", Value::Null),
        ("PATCH", "/addons/pg/config", json!({"config": [{"name": "URL", "value": "postgres://eve"}]})),
        ("POST", "/addon-attachments", json!({"addon": "pg", "app": "worker", "name": "AGAIN"})),
    ] {
        let (status, answer) = ask(method, path, &body);
        assert_eq!(status, 403, "{method} {path}: {answer}");
        assert!(!answer.to_string().contains("hunter2"), "{answer}");
    }
    assert_eq!(ask("DELETE", "/apps/worker/addons/pg", &Value::Null).0, 422);
    let attachment = platform.get("/apps/worker/addon-attachments/DATABASE");
    let path = format!("/addon-attachments/{}", attachment["id"].as_str().unwrap());
    assert_eq!(ask("DELETE", &path, &Value::Null).0, 200, "an app may do without");
    assert_eq!(ask("GET", "/addons/pg", &Value::Null).0, 404);
}

#[test]
fn a_copy_of_an_app_gets_its_add_ons_as_it_is_told() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    for (name, url) in [("DATABASE", "postgres://h/live"), ("REDIS", "redis://h/live"), ("SEARCH", "https://h/live")] {
        platform.must(&["addons:create", "berth-custom", "-a", "shop", "--as", name, "--url", url]);
    }
    platform.must(&["config:set", "LOG_LEVEL=info", "-a", "shop"]);
    let clone = |options: &[&str]| platform.berth(&[&["env:clone", "shop", "shop-staging"], options].concat());
    let refused = clone(&[]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is an add-on: say --add-on"), "{refused:?}");
    let refused = clone(&["--copy", "DATABASE_URL"]);
    assert!(refused.stderr.contains("--add-on DATABASE=attach"), "{refused:?}");
    let refused = clone(&["--add-on", "DATABASE=new", "--yes"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("Say what to attach"), "{refused:?}");
    assert_eq!(platform.api("GET", "/apps/shop-staging", &Value::Null).unwrap().0, 404, "nothing was made");

    let said = clone(&["--add-on", "REDIS=attach", "--set", "DATABASE_URL=postgres://h/staging", "--yes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("2 of 3 add-ons"), "{said:?}");
    let expect = json!({"LOG_LEVEL": "info", "DATABASE_URL": "postgres://h/staging", "REDIS_URL": "redis://h/live"});
    assert_eq!(platform.get("/apps/shop-staging/config-vars"), expect);

    // Side by side: two databases, one Redis, a search that staging lacks.
    let owner = platform.get("/account")["id"].clone();
    let pipeline = platform.ask("POST", "/pipelines", &json!({"name": "shop", "owner": {"id": owner, "type": "user"}}));
    for (app, stage) in [("shop-staging", "staging"), ("shop", "production")] {
        platform.ask("POST", "/pipeline-couplings", &json!({"app": app, "pipeline": pipeline["id"], "stage": stage}));
    }
    let compared = platform.get("/berth/pipelines/shop/compare");
    let row =
        |name: &str| compared["add_ons"].as_array().unwrap().iter().find(|row| row["attachment"] == name).unwrap();
    let plan = |letter: &str| format!("berth-custom:external {letter}");
    assert_eq!(row("DATABASE")["values"], json!({"shop-staging": plan("A"), "shop": plan("B")}));
    assert_eq!((&row("DATABASE")["differs"], &row("SEARCH")["differs"]), (&json!(false), &json!(true)));
    assert_eq!(row("REDIS")["values"], json!({"shop-staging": plan("A"), "shop": plan("A")}));
    let shown = platform.must(&["pipelines:compare", "shop"]);
    assert!(shown.contains("add-on SEARCH") && !shown.contains("add-on REDIS"), "{shown}");
    assert!(platform.must(&["pipelines:compare", "shop", "--all"]).contains("add-on REDIS"));
}

#[test]
fn webhooks_are_told_of_add_ons_and_never_of_their_values() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let include = json!(["api:addon", "api:addon-attachment"]);
    let body = json!({"url": "https://hooks.example.com/", "include": include, "level": "notify"});
    platform.ask("POST", "/apps/shop/webhooks", &body);
    platform.must(&[
        "addons:create",
        "berth-custom",
        "-a",
        "shop",
        "--name",
        "pg",
        "--url",
        "postgres://u:hunter2@h/d",
    ]);
    let told = |expect: &[(&str, &str)]| {
        let events = platform.get("/apps/shop/webhook-events");
        assert!(!events.to_string().contains("hunter2"), "{events}");
        let is_told = |resource: &str, action: &str| {
            events
                .as_array()
                .unwrap()
                .iter()
                .any(|event| event["payload"]["resource"] == resource && event["payload"]["action"] == action)
        };
        expect.iter().all(|(resource, action)| is_told(resource, action))
    };
    wait_until("it is told", || told(&[("addon", "create"), ("addon-attachment", "create")]));
    platform.must(&["addons:rename", "pg", "main"]);
    platform.must(&["addons:destroy", "main", "--confirm", "shop"]);
    wait_until("its end is told", || told(&[("addon", "update"), ("addon", "destroy")]));
}
