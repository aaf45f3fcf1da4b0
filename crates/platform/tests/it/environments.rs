//! Staging and production: copies, comparisons, protected stages, tokens for deploys, messages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::path_of;
use crate::client::Ended;
use crate::git_push::Repository;
use crate::heroku_drains::LOCAL_RECEIVERS;
use crate::mailbox::Mailbox;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_until, wait_within};

impl TestPlatform {
    /// `shop-staging` and `shop` in the pipeline `shop`.
    fn two_stages(&self) {
        self.create("shop-staging");
        self.create("shop");
        let owner = self.get("/account")["id"].clone();
        let pipeline = self.ask("POST", "/pipelines", &json!({"name": "shop", "owner": {"id": owner, "type": "user"}}));
        for (app, stage) in [("shop-staging", "staging"), ("shop", "production")] {
            let app = self.get(&format!("/apps/{app}"))["id"].clone();
            let coupling = json!({"app": app, "pipeline": pipeline["id"], "stage": stage});
            self.ask("POST", "/pipeline-couplings", &coupling);
        }
    }

    /// Writes a source into a directory and deploys it with the client.
    fn deploy_directory(&self, source: &Source, token: Option<&str>, arguments: &[&str]) -> Ended {
        let directory = tempfile::tempdir_in(self.scratch()).unwrap();
        for (name, content) in &source.files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let mut command = self.client(directory.path(), &[&["deploy"], arguments].concat());
        if let Some(token) = token {
            command.env("BERTH_API_KEY", token);
        }
        command.output().unwrap().into()
    }

    fn with_token(&self, token: &str, arguments: &[&str]) -> Ended {
        self.client(self.scratch(), arguments).env("BERTH_API_KEY", token).output().unwrap().into()
    }

    fn status_with(&self, token: &str, method: &str, path: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        self.api_raw(method, path, &[("Authorization", &bearer)], b"{}").unwrap().status
    }
}

#[test]
fn an_app_is_copied_with_a_choice_for_each_secret() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("python-web").process("worker: sleep 1000");
    platform.serve("shop", &source);
    let vars = json!({"LOG_LEVEL": "info", "SECRET_KEY": "hunter2", "API_TOKEN": "abc", "OLD_PASSWORD": "x"});
    platform.ask("PATCH", "/apps/shop/config-vars", &vars);
    platform.scale("shop", "worker", 2);
    platform.ask("PUT", "/apps/shop/buildpack-installations", &json!({"updates": [{"buildpack": "heroku/procfile"}]}));
    let refused = platform.berth(&["env:clone", "shop", "shop-staging"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("looks like a secret"), "{refused:?}");
    assert_eq!(platform.api("GET", "/apps/shop-staging", &Value::Null).unwrap().0, 404, "nothing was made");

    let options = ["--copy", "API_TOKEN", "--without", "OLD_PASSWORD", "--set", "DEBUG=1", "--yes"];
    let said = platform.berth(&[&["env:clone", "shop", "shop-staging"], &options[..]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("SECRET_KEY") && !format!("{said:?}").contains("hunter2"), "{said:?}");
    let there = platform.get("/apps/shop-staging/config-vars");
    assert_eq!(there, json!({"LOG_LEVEL": "info", "API_TOKEN": "abc", "DEBUG": "1", "SECRET_KEY": ""}));
    let packs = platform.get("/apps/shop-staging/buildpack-installations");
    assert_eq!(packs[0]["buildpack"]["name"], "heroku/procfile", "{packs}");
    // The formation comes with it.
    platform.serve("shop-staging", &source);
    wait_until("its workers", || {
        platform.dynos("shop-staging").iter().filter(|dyno| dyno["type"] == "worker").count() == 2
    });
    let again = platform.berth(&["env:clone", "shop", "shop-staging", "--yes"]);
    assert!(again.code == Some(1) && again.stderr.contains("already taken"), "{again:?}");
}

#[test]
fn a_deploy_goes_to_staging_and_when_that_serves_to_production() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.two_stages();
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"GREETING": "prod", "SAME": "1"}));
    platform.ask("PATCH", "/apps/shop-staging/config-vars", &json!({"GREETING": "stage", "SAME": "1", "EXTRA": "x"}));
    let source = Source::app("python-web");
    let args = ["--app", "shop-staging", "--wait", "--promote"];
    let ended = platform.deploy_directory(&source, None, &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("production: serving"), "{ended:?}");
    platform.shows("shop", "version=1 greeting=prod ");

    let compared = platform.must(&["pipelines:compare", "shop"]);
    assert!(compared.contains("shop-staging") && compared.contains("GREETING"), "{compared}");
    assert!(!compared.contains("SAME") && !compared.contains("prod "), "{compared}");
    let compared = platform.get("/berth/pipelines/shop/compare");
    assert_eq!(compared["same_code"], true, "{compared}");
    let var = |key: &str| compared["config"].as_array().unwrap().iter().find(|var| var["key"] == key).unwrap().clone();
    assert_eq!(var("SAME")["values"], json!({"shop-staging": "A", "shop": "A"}));
    assert_eq!(var("GREETING")["values"], json!({"shop-staging": "A", "shop": "B"}));
    assert_eq!(var("EXTRA")["values"], json!({"shop-staging": "A"}));
    assert!(!compared.to_string().contains("stage\","), "no value leaves the server: {compared}");

    // A release phase that fails in production alone fails the command and leaves production as it was.
    let procfile = "web: python3 server.py\nrelease: test \"$GREETING\" = stage\n";
    let second = source.version("2").file("Procfile", procfile);
    let ended = platform.deploy_directory(&second, None, &args);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("1 of 1 apps did not take the promotion"), "{ended:?}");
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    platform.shows("shop-staging", "version=2 ");
    let compared = platform.get("/berth/pipelines/shop/compare");
    assert_eq!(compared["same_code"], false);
    // A build that fails promotes nothing.
    let broken = Source::app("python-web").file("Procfile", "web\n");
    assert_eq!(platform.deploy_directory(&broken, None, &args).code, Some(1));
    assert!(platform.text("shop", "/").starts_with("version=1 "));
}

#[test]
fn a_protected_stage_takes_code_from_nobody_at_the_wrong_time() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.two_stages();
    let source = Source::app("python-web");
    let first = platform.serve("shop", &source);
    let second = platform.serve("shop", &source.clone().version("2"));
    platform.serve("shop-staging", &source.clone().version("3"));
    let build = |expect: u16| {
        let body = json!({"source_blob": {"url": platform.upload(&source.tar())}});
        let (status, answer) = platform.api("POST", "/apps/shop/builds", &body).unwrap();
        assert_eq!(status, expect, "{answer}");
        answer["message"].as_str().unwrap_or_default().to_owned()
    };
    platform.must(&["pipelines:lock", "shop", "moving the orders"]);
    let message = build(422);
    assert!(message.contains("locked by admin@localhost: moving the orders"), "{message}");
    let roll_back = json!({"release": format!("v{first}")});
    assert_eq!(platform.api("POST", "/apps/shop/releases", &roll_back).unwrap().0, 422);
    let rollback = platform.berth(&["rollback", "-a", "shop"]);
    assert!(rollback.code == Some(1) && rollback.stderr.contains("moving the orders"), "{rollback:?}");
    let promoted = platform.berth(&["pipelines:promote", "-a", "shop-staging"]);
    assert!(promoted.code == Some(1) && promoted.stderr.contains("moving the orders"), "{promoted:?}");
    let repository = Repository::new(&platform, "shop");
    repository.commit(&source);
    let (pushed, text) = repository.push("main");
    assert!(!pushed && text.contains("moving the orders"), "{text}");
    assert_eq!(platform.releases("shop").last().unwrap()["version"], second);
    // Config changes are no code.
    platform.configure("shop", &json!({"A": "1"}));
    // Another stage is not locked.
    platform.serve("shop-staging", &source.clone().version("4"));
    let shown = platform.must(&["pipelines:protect", "shop"]);
    assert!(shown.contains("locked by admin@localhost: moving the orders"), "{shown}");
    platform.must(&["pipelines:unlock", "shop"]);

    let wrong = platform.berth(&["pipelines:protect", "shop", "--by", "nobody@example.com"]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("no account"), "{wrong:?}");
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let day = |days: i64| {
        let day = now.checked_add(jiff::Span::new().days(days)).unwrap().strftime("%a").to_string();
        format!("{day} 00:00-24:00")
    };
    platform.must(&["pipelines:protect", "shop", "--window", &day(2)]);
    let message = build(422);
    assert!(message.contains("outside of its deploy windows; the next one begins"), "{message}");
    // Midnight may pass in between.
    let both = ["--window", &day(0), "--window", &day(1)];
    platform.must(&[&["pipelines:protect", "shop", "--by", "admin@localhost"], &both[..]].concat());
    build(201);
    let opened = platform.must(&["pipelines:protect", "shop", "--open"]);
    assert!(opened.contains("Everybody may deploy to shop at any time"), "{opened}");
}

#[test]
fn what_protects_a_stage_comes_on_top_of_permissions() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.two_stages();
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"KEY": "1"}));
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| platform.join(&format!("{name}@example.com")));
    for (email, permission) in [("ada@example.com", "deploy"), ("bob@example.com", "view")] {
        platform.must(&["access:add", email, "-p", permission, "-a", "shop"]);
    }
    let build = |token: &str| {
        // Whoever builds has uploaded it: nobody sees the source of somebody else.
        let (_status, source) = platform.ask_as(token, "POST", "/sources", &Value::Null);
        let [put, get] = ["put_url", "get_url"].map(|url| source["source_blob"][url].as_str().unwrap().to_owned());
        platform.api_raw("PUT", path_of(&put), &[], &Source::app("python-web").tar()).unwrap();
        let body = json!({"source_blob": {"url": get}});
        let (status, answer) = platform.ask_as(token, "POST", "/apps/shop/builds", &body);
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    // Only who made the pipeline, or an administrator, protects its stages.
    for command in [&["pipelines:lock", "shop", "mine"][..], &["pipelines:unlock", "shop"]] {
        let refused = platform.berth_as(&ada, command);
        assert_eq!(refused.code, Some(1));
        refused.shows("belongs to somebody else");
    }
    platform.must(&["pipelines:protect", "shop", "--by", "admin@localhost"]);
    let (status, message) = build(&ada);
    assert!(status == 403 && message.contains("only admin@localhost may deploy"), "{message}");
    platform.must(&["pipelines:protect", "shop", "--by", "ada@example.com", "--by", "bob@example.com"]);
    assert_eq!(build(&platform.token).0, 403, "who is not named, an administrator too");
    let (status, message) = build(&bob);
    assert!(status == 403 && message.contains("permission to deploy"), "{message}");
    assert_eq!(build(&eve).0, 404);
    assert_eq!(build(&ada).0, 201);

    // Nor does who may manage the app take it out of the stage, deploy it there, and put it back.
    let coupling = platform.get("/apps/shop/pipeline-couplings")["id"].as_str().unwrap().to_owned();
    let path = format!("/pipeline-couplings/{coupling}");
    platform.must(&["access:update", "bob@example.com", "-p", "manage", "-a", "shop"]);
    let moves = || platform.ask_as(&bob, "PATCH", &path, &json!({"stage": "development"}));
    let (status, answer) = moves();
    assert_eq!(status, 403, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("only who made the pipeline"), "{answer}");
    assert_eq!(platform.ask_as(&bob, "DELETE", &path, &Value::Null).0, 403);
    platform.must(&["access:update", "bob@example.com", "-p", "view", "-a", "shop"]);

    // Nobody is shown more than they may see.
    let seen = |token: &str, what: &str| {
        platform.ask_as(token, "GET", &format!("/berth/pipelines/shop/{what}"), &Value::Null).1
    };
    let listed = |token: &str| seen(token, "protections").as_array().unwrap().len();
    assert_eq!((listed(&platform.token), listed(&bob), listed(&eve)), (1, 1, 0));
    let compared = |token: &str| {
        let comparison = seen(token, "compare");
        ["apps", "config"].map(|list| comparison[list].as_array().unwrap().len())
    };
    assert_eq!([compared(&platform.token), compared(&ada), compared(&eve)], [[2, 1], [1, 0], [0, 0]]);
    assert_eq!(platform.ask_as(&ada, "POST", "/berth/apps/shop/clone", &json!({"name": "copy"})).0, 403);

    // A token for deploys is never more than its account.
    let make = |token: &str| {
        let body = json!({"scope": ["deploy"], "app": "shop"});
        platform.ask_as(token, "POST", "/oauth/authorizations", &body)
    };
    assert_eq!((make(&bob).0, make(&eve).0), (403, 404));
    let (status, made) = make(&ada);
    assert_eq!(status, 201, "{made}");
    let token = made["access_token"]["token"].as_str().unwrap();
    assert_eq!(build(token).0, 201);
    platform.must(&["access:update", "ada@example.com", "-p", "view", "-a", "shop"]);
    let (status, message) = build(token);
    assert!(status == 403 && message.contains("permission to deploy"), "{message}");
}

#[test]
fn a_token_for_deploys_can_deploy_its_app_and_nothing_else() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.two_stages();
    let make = |scope: &[&str]| {
        let args = ["tokens:create", "-a", "shop-staging", "--expires-in", "1h"];
        platform.must(&[&args[..], scope].concat()).trim().to_owned()
    };
    let token = make(&["--scope", "deploy"]);
    let source = Source::app("python-web");
    let ended = platform.deploy_directory(&source, Some(&token), &["--app", "shop-staging", "--wait"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    platform.shows("shop-staging", "version=1 ");
    for (method, path) in [
        ("GET", "/apps"),
        ("GET", "/apps/shop"),
        ("GET", "/apps/shop-staging/config-vars"),
        ("PATCH", "/apps/shop-staging/config-vars"),
        ("PATCH", "/apps/shop-staging"),
        ("DELETE", "/apps/shop-staging"),
        ("POST", "/apps/shop-staging/dynos"),
        ("POST", "/apps/shop-staging/log-sessions"),
        ("POST", "/apps/shop-staging/releases"),
        ("POST", "/apps/shop/builds"),
        ("POST", "/berth/apps/shop/builds"),
        ("POST", "/pipeline-promotions"),
        ("GET", "/oauth/authorizations"),
        ("POST", "/oauth/authorizations"),
        ("GET", "/berth/status"),
        ("POST", "/berth/apps/shop-staging/runs"),
        ("POST", "/berth/apps/shop-staging/cron"),
        ("POST", "/berth/apps/shop-staging/clone"),
        ("GET", "/berth/apps/shop-staging/notifications"),
        ("GET", "/berth/people"),
        ("GET", "/apps/nothing"),
        ("PUT", "/berth/pipelines/shop/protections/production"),
        ("GET", "/shop.git/info/refs?service=git-receive-pack"),
        ("GET", "/shop.git/info/refs?service=git-upload-pack"),
        ("GET", "/shop-staging.git/info/refs?service=git-upload-pack"),
    ] {
        assert_eq!(platform.status_with(&token, method, path), 403, "{method} {path}");
    }
    assert_eq!(platform.status_with(&token, "GET", "/apps/shop-staging"), 200);
    assert_eq!(platform.status_with(&token, "GET", "/shop-staging.git/info/refs?service=git-receive-pack"), 200);
    let refused = platform.with_token(&token, &["config", "-a", "shop-staging"]);
    assert!(refused.stderr.contains("for deploys of one app"), "{refused:?}");

    // One that may promote can do so from its app, and the stage's protection holds for it.
    let promoter = make(&["--scope", "deploy,promote"]);
    let args = ["--app", "shop-staging", "--wait", "--promote"];
    let ended = platform.deploy_directory(&source.clone().version("2"), Some(&promoter), &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    platform.shows("shop", "version=2 ");
    platform.must(&["pipelines:lock", "shop", "freeze"]);
    let ended = platform.deploy_directory(&source.version("3"), Some(&promoter), &args);
    assert!(ended.code == Some(1) && ended.stderr.contains("freeze"), "{ended:?}");
    assert!(platform.text("shop", "/").starts_with("version=2 "));

    let listed = platform.must(&["tokens"]);
    assert!(listed.contains("deploy shop-staging") && !listed.contains(&token), "{listed}");
    let all = platform.get("/oauth/authorizations");
    let own = all.as_array().unwrap().iter().find(|one| one["scope"] == json!(["deploy"])).unwrap();
    platform.must(&["tokens:revoke", own["id"].as_str().unwrap()]);
    assert_eq!(platform.status_with(&token, "GET", "/apps/shop-staging"), 401);
    let wrong = platform.berth(&["tokens:create", "--scope", "deploy"]);
    assert!(wrong.code == Some(2), "without an app: {wrong:?}");
    for wrong in
        [json!({"scope": ["deploy"]}), json!({"scope": ["deploy", "read"], "app": "shop"}), json!({"app": "shop"})]
    {
        assert_eq!(platform.api("POST", "/oauth/authorizations", &wrong).unwrap().0, 422, "{wrong}");
    }
}

#[test]
fn what_happens_is_told_signed_and_until_it_has_arrived() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    let source = platform.python_web("shop");
    let mailbox = Mailbox::start();
    let secret = platform.must(&["notify:add", &mailbox.url, "-a", "shop"]).trim().to_owned();
    *mailbox.refuse.lock().unwrap() = 2;
    platform.scale_and_wait("shop", 2);
    wait_until("two refusals", || *mailbox.refuse.lock().unwrap() == 0);
    // Nothing is lost with the server.
    let before = platform.kill_role("server");
    wait_until("a new server", || platform.role("server").is_some_and(|pid| pid != before) && platform.is_connected());
    let scaled = mailbox.event("scaling");
    assert_eq!((scaled.body["app"].as_str(), scaled.body["text"].as_str()), (Some("shop"), Some("web: 1 to 2")));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let hex: String =
        aws_lc_rs::hmac::sign(&key, &scaled.bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(scaled.head.contains(&format!("berth-signature: sha256={hex}\r\n")), "{}", scaled.head);

    platform.serve("shop", &source.clone().version("2"));
    assert!(mailbox.text("deploy").starts_with("v3 serves: Deploy 01234567"));
    platform.roll_back("shop", 2);
    mailbox.event("rollback");
    assert_eq!(platform.deploy("shop", &Source::app("python-web").file("Procfile", "web\n")).state, "no release");
    assert!(mailbox.text("failure").starts_with("A build failed: "));
    for pid in crate::left_over::members(&platform.instance()) {
        crate::platform::kill(pid, rustix::process::Signal::KILL);
    }
    assert!(mailbox.text("crash").starts_with("web."));

    let slack = platform.must(&["notify:add", &mailbox.url, "--format", "slack", "--events", "config", "-a", "shop"]);
    assert_eq!(slack, "");
    platform.configure("shop", &json!({"A": "1"}));
    wait_until("Slack's form", || {
        let seen = mailbox.seen.lock().unwrap();
        seen.iter()
            .any(|message| message.body["text"].as_str().is_some_and(|text| text.starts_with("*shop* · config: ")))
    });
    let listed = platform.must(&["notify", "-a", "shop"]);
    assert!(listed.contains("127.0.0.1") && !listed.contains("secret-path") && !listed.contains(&secret), "{listed}");
    assert!(!platform.log().contains("secret-path"));
    let all = platform.get("/berth/apps/shop/notifications");
    platform.must(&["notify:remove", all[0]["id"].as_str().unwrap(), "-a", "shop"]);
    let wrong = platform.berth(&["notify:add", "ftp://x/", "-a", "shop"]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("https://"), "{wrong:?}");
    let wrong = platform.berth(&["notify:add", &mailbox.url, "--events", "weather", "-a", "shop"]);
    assert!(wrong.stderr.contains("There is no event"), "{wrong:?}");
}

#[test]
fn slack_is_told_of_everything_in_its_own_form() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.two_stages();
    let mailbox = Mailbox::start();
    platform.must(&["notify:add", &mailbox.url, "--format", "slack", "-a", "shop"]);
    let told = |begin: &str| {
        let begin = format!("*shop* · {begin}");
        wait_until(&begin, || {
            let seen = mailbox.seen.lock().unwrap();
            seen.iter().any(|message| {
                let fields = message.body.as_object().unwrap();
                fields.len() == 1 && fields["text"].as_str().unwrap().starts_with(&begin)
            })
        });
    };
    let source = Source::app("python-web");
    let first = platform.serve("shop", &source);
    told("deploy: v2 serves: Deploy 01234567");
    platform.serve("shop-staging", &source.clone().version("2"));
    platform.must(&["pipelines:promote", "-a", "shop-staging"]);
    told("promotion: v3 serves: Promote shop-staging v2");
    platform.roll_back("shop", first);
    told("rollback: v4 serves: Rollback to v2");
    platform.scale_and_wait("shop", 2);
    told("scaling: web: 1 to 2");
    assert_eq!(platform.deploy("shop", &Source::app("python-web").file("Procfile", "web\n")).state, "no release");
    told("failure: A build failed: ");
    for pid in crate::left_over::members(&platform.instance()) {
        crate::platform::kill(pid, rustix::process::Signal::KILL);
    }
    told("crash: web.");
}

#[test]
fn that_autoscaling_has_reached_its_maximum_is_told() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    platform.must(&["routing:set", "timeout=1s", "-a", "shop"]);
    let monitors = "/apps/shop/formation/web/monitors";
    let wanted = json!({"min_quantity": 1, "max_quantity": 2, "value": 30_000, "notification_channels": ["app"]});
    let (status, answer) = platform.api("POST", monitors, &wanted).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("`berth notify:add URL -a shop`"), "{answer}");
    assert_eq!(platform.get(monitors), json!([]));

    let mailbox = Mailbox::start();
    platform.must(&["notify:add", &mailbox.url, "--events", "scaling.maximum", "-a", "shop"]);
    let made = platform.ask("POST", monitors, &wanted);
    assert_eq!(made["notification_channels"], json!(["app"]), "{made}");
    // Requests fail for want of dynos until there are as many as there may be.
    let told = "web has reached the maximum of its autoscaling, 2 dynos: ";
    wait_within("the maximum is told", Duration::from_secs(90), || {
        platform.request("GET", "shop.localhost", "/slow?seconds=3", &[], &[]);
        let seen = mailbox.seen.lock().unwrap();
        seen.iter()
            .any(|message| message.body["text"].as_str().is_some_and(|text| text.starts_with(told)))
            .then_some(())
    });
    let message = mailbox.event("scaling.maximum");
    assert_eq!((&message.body["subject"], &message.body["app"]), (&json!("web"), &json!("shop")), "{:?}", message.body);
    assert!(mailbox.text("scaling.maximum").contains("requests failed for want of dynos"), "{:?}", message.body);
    platform.logged("shop", "Scaled to web@2:");
}
