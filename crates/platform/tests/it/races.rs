//! Two things at once: each app takes changes one after the other, everybody gets a clear answer, nothing is half-done.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::git_push::Repository;
use crate::left_over;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

impl TestPlatform {
    /// Sends requests at the same moment, each on a connection of its own, and gives the answers in their order.
    fn at_once(&self, requests: &[(&str, &str, String, Value)]) -> Vec<(u16, Value)> {
        let start = Barrier::new(requests.len());
        thread::scope(|scope| {
            let send = |(token, method, path, body): &'_ (&str, &str, String, Value)| {
                start.wait();
                self.ask_as(token, method, path, body)
            };
            let sent: Vec<_> = requests.iter().map(|request| scope.spawn(move || send(request))).collect();
            sent.into_iter().map(|one| one.join().unwrap()).collect()
        })
    }

    /// `shop-staging` and `shop` in a pipeline; the body of a promotion from one to the other.
    fn line(&self) -> Value {
        let pipeline = self.ask("POST", "/pipelines", &json!({"name": "line"}));
        for (app, stage) in [("shop-staging", "staging"), ("shop", "production")] {
            self.ask("POST", "/pipeline-couplings", &json!({"app": app, "pipeline": pipeline["id"], "stage": stage}));
        }
        json!({
            "pipeline": {"id": pipeline["id"]},
            "source": {"app": {"id": self.get("/apps/shop-staging")["id"]}},
            "targets": [{"app": {"id": self.get("/apps/shop")["id"]}}],
        })
    }

    /// Every release of an app has ended, the newest that did not fail is the one that serves, and no other.
    fn is_at_rest(&self, app: &str) -> Value {
        let releases = self.releases(app);
        for release in &releases {
            self.settled(app, release["version"].as_u64().unwrap());
        }
        let releases = self.releases(app);
        let versions: Vec<u64> = releases.iter().map(|release| release["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, (1..=releases.len() as u64).collect::<Vec<_>>(), "one after the other");
        let current: Vec<&Value> = releases.iter().filter(|release| release["current"] == true).collect();
        let newest = releases.iter().rev().find(|release| release["status"] == "succeeded").unwrap();
        assert_eq!(current, [newest], "{releases:#?}");
        newest.clone()
    }
}

#[test]
fn two_people_change_config_vars_at_once_and_neither_change_is_lost() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let ada = platform.join("ada@example.com");
    platform.ask("POST", "/apps/shop/collaborators", &json!({"user": "ada@example.com"}));
    let change = |who: &str, round: usize| json!({format!("{who}_{round}"): who, "LAST": format!("{who}-{round}")});
    for round in 0..5 {
        let path = || "/apps/shop/config-vars".to_owned();
        let answers = platform.at_once(&[
            (&platform.token, "PATCH", path(), change("ADMIN", round)),
            (&ada, "PATCH", path(), change("ADA", round)),
        ]);
        assert!(answers.iter().all(|(status, _answer)| *status == 200), "{answers:?}");
    }
    let vars = platform.get("/apps/shop/config-vars");
    let keys: BTreeSet<&String> = vars.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 11, "{vars}");
    let newest = platform.is_at_rest("shop");
    assert_eq!(newest["version"], 12, "a release for each change");
    // What serves has all of it, and the last word of the same one as the app.
    let last = vars["LAST"].as_str().unwrap();
    let (output, _status) = platform.run("shop", "printenv LAST ADMIN_4 ADA_4", None);
    assert_eq!(output.split_whitespace().collect::<Vec<_>>(), [last, "ADMIN", "ADA"]);
    let by = newest["user"]["email"].as_str().unwrap();
    assert_eq!(by == "ada@example.com", last.starts_with("ADA"), "{newest} {last}");
}

#[test]
fn a_promotion_during_a_deploy_of_the_same_app_loses_neither() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop-staging");
    platform.create("shop");
    let promotion = platform.line();
    let source = Source::app("python-web");
    platform.serve("shop-staging", &source.clone().version("staged"));
    platform.serve("shop", &source.clone().version("old"));
    // A build that goes on when somebody ends what it waits for.
    let hook = "#!/bin/sh\necho compiling\nsleep 1001 || true\n";
    let held = source.version("deployed").file("bin/post_compile", hook);
    let build = platform.build("shop", &held.tar(), false);
    wait_until("the build runs", || !left_over::running(&platform.instance(), "sleep 1001").is_empty());
    platform.ask("POST", "/pipeline-promotions", &promotion);
    platform.shows("shop", "version=staged ");
    for pid in left_over::running(&platform.instance(), "sleep 1001") {
        crate::platform::kill(pid, rustix::process::Signal::TERM);
    }
    let ended = platform.follow("shop", &build);
    assert_eq!(ended.state, "serving", "{ended:?}");
    assert_eq!(platform.is_at_rest("shop")["version"], ended.version, "what was released last serves");
    platform.shows("shop", "version=deployed ");

    // Both are released at the same moment.
    let slow = Source::app("python-web").version("deployed").process("release: true");
    let build = platform.build("shop", &slow.tar(), false);
    platform.ask("POST", "/pipeline-promotions", &promotion);
    let deployed = platform.follow("shop", &build);
    let newest = platform.is_at_rest("shop");
    let expect = if newest["version"].as_u64() == Some(deployed.version) { "deployed" } else { "staged" };
    platform.shows("shop", &format!("version={expect} "));
    assert_eq!(platform.releases("shop").len(), 6);
}

#[test]
fn a_change_during_a_deploy_that_fails_does_not_serve_what_failed() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let failing = source.clone().version("2").process("release: sleep 1003 && true");
    let build = platform.build("shop", &failing.tar(), false);
    let phase = || left_over::running(&platform.instance(), "sleep 1003");
    wait_until("the release phase runs", || !phase().is_empty());
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"GREETING": "changed"}));
    for pid in phase() {
        crate::platform::kill(pid, rustix::process::Signal::TERM);
    }
    let deployed = platform.follow("shop", &build);
    assert_eq!(deployed.state, "failed", "{deployed:?}");
    // The change is in force with the code that served, whose release phase had succeeded.
    let newest = platform.is_at_rest("shop");
    assert_eq!(newest["version"], deployed.version + 1, "{newest}");
    platform.shows("shop", "version=1 greeting=changed ");
    platform.configure("shop", &json!({"GREETING": "again"}));
    platform.shows("shop", "version=1 greeting=again ");
}

#[test]
fn whoever_scales_by_one_at_once_has_scaled_by_as_many() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::app("python-web").process("worker: sleep 1004"));
    let by = |quantity: &str| {
        let body = json!({"updates": [{"type": "worker", "quantity": quantity}]});
        (platform.token.as_str(), "PATCH", "/apps/shop/formation".to_owned(), body)
    };
    let quantity = || platform.get("/apps/shop/formation/worker")["quantity"].clone();
    for round in 1..=5 {
        let answers = platform.at_once(&[by("+2"), by("+1"), by("+1"), by("-2")]);
        assert!(answers.iter().all(|(status, _answer)| *status == 200), "{answers:?}");
        // Taking two away stops at nothing, where it comes first.
        assert!(quantity().as_u64().unwrap() >= 2 * round, "{round}: {}", quantity());
        platform.scale("shop", "worker", 2 * u32::try_from(round).unwrap());
    }
    platform.scale("shop", "worker", 0);
}

#[test]
fn a_webhook_that_is_changed_while_it_goes_stays_away() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let token = platform.token.as_str();
    let made = json!({"include": ["api:release"], "level": "notify", "url": "https://example.com/one"});
    for _round in 0..10 {
        let webhook = platform.ask("POST", "/apps/shop/webhooks", &made);
        let path = format!("/apps/shop/webhooks/{}", webhook["id"].as_str().unwrap());
        let answers = platform.at_once(&[
            (token, "PATCH", path.clone(), json!({"url": "https://example.com/two"})),
            (token, "DELETE", path, Value::Null),
        ]);
        assert!([200, 404].contains(&answers[0].0) && answers[1].0 == 200, "{answers:?}");
        assert_eq!(platform.get("/apps/shop/webhooks"), json!([]));
    }
    let webhook = platform.ask("POST", "/apps/shop/webhooks", &made);
    let path = format!("/apps/shop/webhooks/{}", webhook["id"].as_str().unwrap());
    platform.at_once(&[
        (token, "PATCH", path.clone(), json!({"level": "sync"})),
        (token, "PATCH", path.clone(), json!({"include": ["api:build"]})),
        (token, "PATCH", path.clone(), json!({"url": "https://example.com/two"})),
    ]);
    let changed = platform.get(&path);
    let fields = json!([changed["level"], changed["include"], changed["url"]]);
    assert_eq!(fields, json!(["sync", ["api:build"], "https://example.com/two"]), "{changed}");
}

#[test]
fn values_of_an_add_on_and_a_monitor_that_are_changed_at_once_are_all_changed() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let token = platform.token.as_str();
    let body = json!({"plan": "berth-custom", "name": "pg", "config": {"url": "a://b"}});
    platform.ask("POST", "/apps/shop/addons", &body);
    for round in 0..10 {
        let set = |path: &str, part: &str| {
            let value = json!({"config": [{"name": format!("{part}_{round}"), "value": part}]});
            (token, "PATCH", format!("{path}/pg/config"), value)
        };
        let answers = platform.at_once(&[set("/berth/addons", "A"), set("/addons", "B"), set("/addons", "C")]);
        assert!(answers.iter().all(|(status, _answer)| *status == 200), "{answers:?}");
    }
    let values = platform.get("/addons/pg/config");
    assert_eq!(values.as_array().unwrap().len(), 31, "{values}");
    assert_eq!(platform.get("/apps/shop/config-vars").as_object().unwrap().len(), 31);

    let path = "/apps/shop/formation/web/monitors";
    let made = platform.ask("POST", path, &json!({"min_quantity": 1, "max_quantity": 1, "is_active": false}));
    let path = format!("{path}/{}", made["id"].as_str().unwrap());
    for round in 2..12 {
        let set = |body: Value| (token, "PATCH", path.clone(), body);
        let answers = platform.at_once(&[
            set(json!({"max_quantity": 2 * round})),
            set(json!({"value": 100 * round})),
            set(json!({"is_active": round % 2 == 0})),
        ]);
        assert!(answers.iter().all(|(status, _answer)| *status == 200), "{answers:?}");
        let monitor = platform.get("/apps/shop/formation/web/monitors")[0].clone();
        let fields = json!([monitor["max_quantity"], monitor["value"], monitor["is_active"]]);
        assert_eq!(fields, json!([2 * round, 100 * round, round % 2 == 0]), "{monitor}");
    }
}

#[test]
fn of_two_who_push_at_once_the_second_is_told_before_anything_is_built() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let (first, second) = (Repository::of("ada", &platform, "shop"), Repository::of("bob", &platform, "shop"));
    let source = Source::app("python-web");
    let commit = first.commit(&source.clone().version("1").file("bin/post_compile", "#!/bin/sh\nsleep 1005 || true\n"));
    second.commit(&source.version("2"));
    let builds = || left_over::running(&platform.instance(), "sleep 1005");
    let (pushed, refused) = thread::scope(|scope| {
        let pushing = scope.spawn(|| first.push("main"));
        wait_until("the first build runs", || !builds().is_empty());
        let refused = scope.spawn(|| second.push("main"));
        let takes_in = |command: &str| command.contains("receive-pack") && !command.contains("--advertise-refs");
        let takers = || left_over::processes(&platform.data()).iter().filter(|(_pid, line)| takes_in(line)).count();
        wait_until("both are taken in", || takers() >= 2);
        for pid in builds() {
            crate::platform::kill(pid, rustix::process::Signal::TERM);
        }
        (pushing.join().unwrap(), refused.join().unwrap())
    });
    assert!(pushed.0, "{}", pushed.1);
    assert!(!refused.0 && refused.1.contains("Somebody else has pushed to refs/heads/main meanwhile"), "{}", refused.1);
    platform.shows("shop", "version=1 ");
    assert_eq!(platform.get("/apps/shop/builds").as_array().unwrap().len(), 1);
    let (_listed, refs) = first.git(&["ls-remote", &first.remote]);
    assert!(refs.starts_with(&commit), "{refs}");
    let (pushed, text) = second.git(&["push", "--force", &second.remote, "main"]);
    assert!(pushed, "{text}");
    platform.shows("shop", "version=2 ");
}

#[test]
fn rollbacks_at_once_are_one_after_the_other() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("python-web");
    for version in ["one", "two", "three"] {
        platform.ask("PATCH", "/apps/shop/config-vars", &json!({"GREETING": version}));
        platform.serve("shop", &source.clone().version(version));
    }
    let texts = [(3, "one"), (5, "two")];
    let requests = texts.map(|(release, _text)| {
        (platform.token.as_str(), "POST", "/apps/shop/releases".to_owned(), json!({"release": format!("v{release}")}))
    });
    let answers = platform.at_once(&requests);
    let versions: BTreeSet<u64> = answers.iter().map(|(_status, answer)| answer["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, BTreeSet::from([8, 9]), "{answers:?}");
    let newest = platform.is_at_rest("shop");
    let won = answers.iter().position(|(_status, answer)| answer["version"] == newest["version"]).unwrap();
    let text = texts[won].1;
    // Code and config vars are those of the same release.
    platform.shows("shop", &format!("version={text} greeting={text} "));
    assert_eq!(platform.get("/apps/shop/config-vars"), json!({"GREETING": text}));
}

#[test]
fn an_app_that_is_destroyed_during_a_build_takes_the_build_with_it() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let endless = source.clone().version("2").file("bin/post_compile", "#!/bin/sh\necho compiling\nexec sleep 1002\n");
    let build = platform.build("shop", &endless.tar(), false);
    let running = || left_over::running(&platform.instance(), "sleep 1002");
    wait_until("the build runs", || !running().is_empty());
    let path = || "/apps/shop".to_owned();
    let change = || ("PATCH", "/apps/shop/config-vars".to_owned(), json!({"A": "1"}));
    let (method, config, body) = change();
    let answers = platform.at_once(&[
        (&platform.token, "DELETE", path(), Value::Null),
        (&platform.token, "DELETE", path(), Value::Null),
        (&platform.token, method, config, body),
    ]);
    let ended: Vec<u16> = answers[..2].iter().map(|(status, _answer)| *status).collect();
    assert!(ended.contains(&200) && ended.iter().all(|status| [200, 404].contains(status)), "{answers:?}");
    assert_eq!(ended.iter().filter(|status| **status == 200).count(), 1, "destroyed once: {answers:?}");
    assert!([200, 404].contains(&answers[2].0), "{answers:?}");
    // The name is free at once, and the new app has nothing of the old one.
    platform.create("shop");
    assert_eq!(platform.get("/apps/shop/builds"), json!([]));
    assert_eq!(platform.get("/apps/shop/config-vars"), json!({}));
    let id = build["id"].as_str().unwrap();
    assert_eq!(platform.api("GET", &format!("/apps/shop/builds/{id}"), &Value::Null).unwrap().0, 404);
    wait_until("the build's process is gone", || running().is_empty());
    // Its output ends, so that whoever follows it is not left hanging.
    platform.stream(build["output_stream_url"].as_str().unwrap());
    platform.serve("shop", &source.version("3"));
    platform.shows("shop", "version=3 ");
    assert_eq!(platform.releases("shop").len(), 2);
}

#[test]
fn an_add_on_that_is_attached_while_it_goes_is_there_or_gone() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.create("worker");
    let token = platform.token.as_str();
    let (mut attached, mut destroyed) = (0, 0);
    for round in 0..12 {
        let name = format!("pg-{round}");
        let body = json!({"plan": "berth-custom", "name": name, "config": {"url": "postgres://h/d"}});
        platform.ask("POST", "/apps/shop/addons", &body);
        let answers = platform.at_once(&[
            (token, "POST", "/addon-attachments".to_owned(), json!({"addon": name, "app": "worker", "name": "DB"})),
            (token, "DELETE", format!("/apps/shop/addons/{name}"), json!({"force": false})),
        ]);
        let statuses = (answers[0].0, answers[1].0);
        let vars = platform.get("/apps/worker/config-vars");
        match statuses {
            (201, 422) => {
                attached += 1;
                assert_eq!(vars["DB_URL"], "postgres://h/d", "{answers:?}");
                platform.ask("DELETE", &format!("/apps/shop/addons/{name}"), &json!({"force": true}));
            }
            (404, 200) => destroyed += 1,
            _other => panic!("{answers:?}"),
        }
        assert_eq!(platform.get("/apps/worker/config-vars"), json!({}));
        assert_eq!(platform.get("/addons"), json!([]));
    }
    assert_eq!(attached + destroyed, 12);
    platform.is_at_rest("worker");

    // And an app that goes while something is attached to it.
    platform.ask(
        "POST",
        "/apps/shop/addons",
        &json!({"plan": "berth-custom", "name": "pg", "config": {"url": "a://b"}}),
    );
    let answers = platform.at_once(&[
        (token, "POST", "/addon-attachments".to_owned(), json!({"addon": "pg", "app": "worker", "name": "DB"})),
        (token, "DELETE", "/apps/worker".to_owned(), Value::Null),
    ]);
    assert!([201, 404].contains(&answers[0].0) && answers[1].0 == 200, "{answers:?}");
    assert_eq!(platform.get("/addons/pg/addon-attachments").as_array().unwrap().len(), 1, "shop's alone");
    platform.ask("DELETE", "/apps/shop/addons/pg", &Value::Null);
}

/// A change: method, path below `/apps/shop` or a whole one, and its body.
type Change = (&'static str, String, Value);

/// Everything that two people may want to change of `shop` at the same moment; what is missing is made first.
fn changes(platform: &TestPlatform, certificate: &Value) -> Vec<Change> {
    let make = |list: &str, post: &str, body: &Value| -> Value {
        let found = platform.get(list).as_array().unwrap().last().cloned();
        found
            .filter(|last| last["kind"] != "heroku" && last["role"] != "owner")
            .unwrap_or_else(|| platform.ask("POST", post, body))
    };
    let of_app = |list: &str, body: &Value| {
        let path = format!("/apps/shop/{list}");
        make(&path, &path, body)
    };
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let endpoint = id(&of_app("sni-endpoints", certificate));
    let domain = id(&of_app("domains", &json!({"hostname": "www.example.com", "sni_endpoint": null})));
    let hook = json!({"include": ["api:release"], "level": "notify", "url": "https://example.com/one"});
    let webhook = id(&of_app("webhooks", &hook));
    let drain = id(&of_app("log-drains", &json!({"url": "https://example.com/logs"})));
    of_app("collaborators", &json!({"user": "ada@example.com"}));
    of_app("addons", &json!({"plan": "berth-custom", "name": "pg", "config": {"url": "a://b"}}));
    let job = json!({"job": {"schedule": "@yearly", "command": "true", "name": "tick"}, "paused": true});
    make("/berth/apps/shop/cron", "/berth/apps/shop/cron", &job);
    make("/pipelines", "/pipelines", &json!({"name": "line"}));
    let coupling = json!({"app": "shop", "pipeline": "line", "stage": "staging"});
    let coupling = id(&make("/pipeline-couplings", "/pipeline-couplings", &coupling));
    let slug = platform.get("/apps/shop/releases/2")["slug"]["id"].clone();
    let app = |method: &'static str, path: &str, body: Value| (method, format!("/apps/shop{path}"), body);
    vec![
        app("PATCH", "", json!({"maintenance": true})),
        app("PATCH", "/config-vars", json!({"A": platform.releases("shop").len().to_string()})),
        app("PATCH", "/formation", json!({"updates": [{"type": "web", "quantity": "0", "size": "basic"}]})),
        app("PATCH", &format!("/domains/{domain}"), json!({"sni_endpoint": endpoint})),
        app("DELETE", &format!("/domains/{domain}"), Value::Null),
        app("PATCH", &format!("/sni-endpoints/{endpoint}"), certificate.clone()),
        app("DELETE", &format!("/sni-endpoints/{endpoint}"), Value::Null),
        app("PATCH", &format!("/webhooks/{webhook}"), json!({"level": "sync"})),
        app("DELETE", &format!("/webhooks/{webhook}"), Value::Null),
        app("DELETE", &format!("/log-drains/{drain}"), Value::Null),
        app("DELETE", "/collaborators/ada@example.com", Value::Null),
        ("PATCH", "/berth/apps/shop/collaborators/ada@example.com".to_owned(), json!({"permissions": ["view"]})),
        ("PATCH", "/berth/apps/shop/cron/tick".to_owned(), json!({"paused": false})),
        ("POST", "/berth/apps/shop/cron/tick/runs".to_owned(), Value::Null),
        ("DELETE", "/berth/apps/shop/cron/tick".to_owned(), Value::Null),
        ("PATCH", format!("/pipeline-couplings/{coupling}"), json!({"stage": "production"})),
        ("DELETE", format!("/pipeline-couplings/{coupling}"), Value::Null),
        ("DELETE", "/pipelines/line".to_owned(), Value::Null),
        ("PUT", "/berth/pipelines/line/protections/staging".to_owned(), json!({"windows": []})),
        ("PATCH", "/berth/addons/pg/config".to_owned(), json!({"config": [{"name": "URL", "value": "c://d"}]})),
        app("DELETE", "/addons/pg", Value::Null),
        app("POST", "/releases", json!({"release": "v2"})),
        app("POST", "/releases", json!({"slug": slug})),
        app("POST", "/dynos", json!({"command": "true"})),
        app("PATCH", "/features/http-session-affinity", json!({"enabled": true})),
    ]
}

#[test]
fn no_two_changes_at_once_are_an_error_of_the_servers() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.join("ada@example.com");
    let (chain, key) = crate::heroku_domains::certificate(platform.scratch(), "race", &["www.example.com"]);
    let read = |path: String| std::fs::read_to_string(path).unwrap();
    let certificate = json!({"certificate_chain": read(chain), "private_key": read(key)});
    let token = platform.token.as_str();
    let mut wrong = Vec::new();
    let count = changes(&platform, &certificate).len();
    for (first, second) in (0..count).flat_map(|first| (first..count).map(move |second| (first, second))) {
        let all = changes(&platform, &certificate);
        let [one, two] = [first, second].map(|index| {
            let (method, path, body) = all[index].clone();
            (token, method, path, body)
        });
        let told = format!("{} {} and {} {}", one.1, one.2, two.1, two.2);
        let answers = platform.at_once(&[one, two]);
        if !answers.iter().all(|(status, _answer)| matches!(status, 200..=299 | 403 | 404 | 409 | 422)) {
            wrong.push(format!("{told}: {answers:?}"));
        }
    }
    // Nobody makes twice what there can be once.
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    for (path, body) in [
        ("/apps", json!({"name": "twice"})),
        ("/apps/twice/domains", json!({"hostname": "twice.example.com"})),
        ("/apps/twice/collaborators", json!({"user": "ada@example.com"})),
        ("/apps/twice/addons", json!({"plan": "berth-custom", "name": "one", "config": {"url": "a://b"}})),
        ("/apps/twice/log-drains", json!({"url": "https://example.com/twice"})),
        ("/berth/apps/twice/cron", json!({"job": {"schedule": "@yearly", "command": "true", "name": "twice"}})),
        ("/berth/apps/twice/clone", json!({"name": "thrice"})),
        ("/pipelines", json!({"name": "twice"})),
        ("/pipeline-couplings", json!({"app": "twice", "pipeline": "twice", "stage": "staging"})),
        ("/account/keys", json!({"public_key": key})),
    ] {
        let request = || (token, "POST", path.to_owned(), body.clone());
        let answers = platform.at_once(&[request(), request(), request()]);
        let mut statuses: Vec<u16> = answers.iter().map(|(status, _answer)| *status).collect();
        statuses.sort_unstable();
        if statuses != [201, 422, 422] {
            wrong.push(format!("{path}: {answers:?}"));
        }
    }
    for path in ["/apps/twice", "/apps/thrice", "/pipelines/twice"] {
        platform.ask("DELETE", path, &Value::Null);
    }
    // And with the app's own end.
    for index in 0..count {
        platform.ask("POST", "/apps", &json!({"name": "gone"}));
        let (method, path, body) = changes(&platform, &certificate)[index].clone();
        let path = path.replace("/shop", "/gone");
        let more = [
            (token, "POST", "/apps/gone/domains".to_owned(), json!({"hostname": "gone.example.com"})),
            (token, "POST", "/apps/gone/log-drains".to_owned(), json!({"url": "https://example.com/gone"})),
            (
                token,
                "POST",
                "/pipeline-couplings".to_owned(),
                json!({"app": "gone", "pipeline": "line", "stage": "staging"}),
            ),
        ];
        let end = (token, "DELETE", "/apps/gone".to_owned(), Value::Null);
        let requests = [(token, method, path.clone(), body), more[index % 3].clone(), end];
        let answers = platform.at_once(&requests);
        if answers.iter().any(|(status, _answer)| *status >= 500) || answers[2].0 != 200 {
            wrong.push(format!("{method} {path} and the end of its app: {answers:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    platform.is_at_rest("shop");
    wait_until("nothing of the other apps is left", || {
        let log = platform.log();
        assert!(!log.contains("FOREIGN KEY"), "{log}");
        platform.get("/apps").as_array().unwrap().len() == 1
    });
}
