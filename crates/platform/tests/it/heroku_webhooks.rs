//! Webhooks: what arrives at other people's servers, and what the `heroku` client says of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::heroku_cli::no_heroku_cli;
use crate::heroku_drains::LOCAL_RECEIVERS;
use crate::platform::TestPlatform;
use crate::receiver::{Received, Receiver};
use crate::wait::{wait_for, wait_until};

fn body(request: &Received) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

/// What was told, as `resource action`, in the order of its arrival.
fn told(receiver: &Receiver) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let requests = receiver.requests();
    let bodies = requests.iter().map(body);
    bodies.map(|body| format!("{} {}", word(&body["resource"]), word(&body["action"]))).collect()
}

fn wait_for_event(receiver: &Receiver, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || receiver.requests().iter().map(body).find(&is_wanted))
}

fn is(event: &Value, resource: &str, action: &str) -> bool {
    event["resource"] == resource && event["action"] == action
}

#[test]
fn heroku_adds_webhooks_that_are_told_what_happens_to_an_app() {
    if no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    let account = platform.get("/account");
    platform.create("shop");
    let receiver = Receiver::https(&platform.data().join("ca"));
    let url = format!("https://localhost:{}/hook", receiver.port);
    let include = "api:app,api:build,api:release,api:formation,api:domain,dyno";
    let added = platform.heroku_run(&[
        "webhooks:add",
        "-a",
        "shop",
        "-i",
        include,
        "-l",
        "sync",
        "-u",
        &url,
        "-s",
        "s3cret",
        "-t",
        "Bearer k3y",
    ]);
    assert_eq!(added.code, Some(0), "{}", added.both());
    added.shows("s3cret");
    let webhook = platform.get("/apps/shop/webhooks")[0].clone();
    let id = webhook["id"].as_str().unwrap();
    assert_eq!(webhook["include"].as_array().unwrap().len(), 6);
    platform.heroku("webhooks -a shop").shows(id).shows(&url);
    platform.heroku(&format!("webhooks:info {id} -a shop")).shows("sync");
    platform.heroku_fails("webhooks:add -a shop -i api:nothing -l sync -u https://x.example").shows("is not one of");

    platform.serve("shop", &crate::source::Source::app("python-web"));
    let served = wait_for_event(&receiver, "the release serves", |event| {
        is(event, "release", "update") && event["data"]["version"] == 2 && event["data"]["status"] == "succeeded"
    });
    assert_eq!(served["previous_data"]["status"], "pending", "{served}");
    assert_eq!((&served["actor"]["email"], &served["data"]["app"]["name"]), (&account["email"], &json!("shop")));
    let built = wait_for_event(&receiver, "the build", |event| is(event, "build", "update"));
    assert_eq!(built["data"]["status"], "succeeded");
    wait_for_event(&receiver, "a dyno", |event| is(event, "dyno", "update") && event["data"]["state"] == "up");
    platform.heroku("domains:add www.example.com -a shop");
    platform.heroku("domains:remove www.example.com -a shop");
    let domain = wait_for_event(&receiver, "the domain's end", |event| is(event, "domain", "destroy"));
    assert_eq!(domain["data"]["hostname"], "www.example.com");
    platform.scale("shop", "web", 2);
    let scaled = wait_for_event(&receiver, "scaling", |event| is(event, "formation", "update"));
    assert_eq!((&scaled["data"]["quantity"], &scaled["previous_data"]["quantity"]), (&json!(2), &json!(1)));
    platform.heroku("maintenance:on -a shop");
    let maintained = wait_for_event(&receiver, "maintenance", |event| is(event, "app", "update"));
    assert_eq!(maintained["previous_data"], json!({"maintenance": false}));
    let order = told(&receiver);
    let position =
        |what: &str| order.iter().position(|told| told == what).unwrap_or_else(|| panic!("{what}: {order:?}"));
    assert!(position("build create") < position("release create"), "{order:?}");
    assert!(position("release create") < position("release update"), "{order:?}");

    let request = receiver.requests()[0].clone();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"s3cret");
    let signature = STANDARD.decode(request.header("heroku-webhook-hmac-sha256")).unwrap();
    aws_lc_rs::hmac::verify(&key, request.body.as_bytes(), &signature).unwrap();
    assert_eq!((request.path.as_str(), request.header("authorization")), ("/hook", "Bearer k3y"));
    assert_eq!(body(&request)["webhook_metadata"]["webhook"]["id"], id);
    assert!(!platform.log().contains("s3cret") && !platform.log().contains("k3y"));

    let event = served["id"].as_str().unwrap();
    let delivery = served["webhook_metadata"]["delivery"]["id"].as_str().unwrap();
    platform.heroku("webhooks:deliveries -a shop").shows(delivery).shows("succeeded").shows("api:release");
    platform
        .heroku(&format!("webhooks:deliveries:info {delivery} -a shop"))
        .shows(event)
        .shows("\"action\": \"update\"");
    platform.heroku("webhooks:events -a shop").shows(event);
    platform.heroku(&format!("webhooks:events:info {event} -a shop")).shows("\"resource\": \"release\"");
    platform.join("ada@example.com");
    platform.heroku("apps:transfer ada@example.com -a shop");
    let is_given = |event: &Value| is(event, "app", "update") && event["data"]["owner"]["email"] == "ada@example.com";
    let given = wait_for_event(&receiver, "the new owner", is_given);
    assert_eq!(given["previous_data"]["owner"]["email"], "admin@localhost", "{given}");
    platform.heroku("apps:destroy -a shop --confirm shop");
    wait_for_event(&receiver, "the app's end", |event| is(event, "app", "destroy"));
}

#[test]
fn what_must_arrive_is_tried_again_also_after_a_crash_and_a_notice_is_not() {
    if no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.create("shop");
    platform.create("other");
    let receiver = Receiver::http();
    receiver.answers(500);
    for level in ["sync", "notify"] {
        let url = format!("http://localhost:{}/{level}", receiver.port);
        let body = json!({"include": ["api:domain"], "level": level, "url": url});
        platform.ask("POST", "/apps/shop/webhooks", &body);
    }
    platform.ask("POST", "/apps/shop/domains", &json!({"hostname": "a.example.com", "sni_endpoint": null}));
    // What happens to another app, or is not asked for, is nobody's business.
    platform.ask("POST", "/apps/other/domains", &json!({"hostname": "b.example.com", "sni_endpoint": null}));
    platform.ask("PATCH", "/apps/shop", &json!({"maintenance": true}));
    let status = |level: &str| {
        let deliveries = platform.get("/apps/shop/webhook-deliveries");
        let found = deliveries.as_array().unwrap().iter().find(|delivery| delivery["webhook"]["level"] == level);
        found.map_or(Value::Null, |delivery| delivery["status"].clone())
    };
    wait_until("the notice failed", || status("notify") == "failed");
    wait_until("the other one is tried again", || status("sync") == "retrying");
    platform.heroku("webhooks:deliveries -a shop --status failed").shows("500").shows("notify");
    platform.kill_role("server");
    receiver.answers(200);
    wait_until("another server", || platform.is_connected());
    wait_until("it arrived", || status("sync") == "succeeded");
    let requests = receiver.requests();
    let (sync, notify): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request.path == "/sync");
    assert_eq!(notify.len(), 1);
    assert!(sync.len() >= 2);
    assert!(sync.iter().all(|request| body(request)["id"] == body(&sync[0])["id"]), "one event");
    assert_eq!(body(&sync[0])["data"]["hostname"], "a.example.com");

    let id = platform.get("/apps/shop/webhooks")[0]["id"].as_str().unwrap().to_owned();
    platform
        .heroku(&format!("webhooks:update {id} -a shop -i api:app -l notify -u http://localhost:{}/x", receiver.port));
    assert_eq!(platform.get(&format!("/apps/shop/webhooks/{id}"))["include"], json!(["api:app"]));
    assert_eq!(platform.api("GET", &format!("/apps/other/webhooks/{id}"), &Value::Null).unwrap().0, 404);
    let event = body(&sync[0])["id"].as_str().unwrap().to_owned();
    assert_eq!(platform.api("GET", &format!("/apps/other/webhook-events/{event}"), &Value::Null).unwrap().0, 404);
    platform.heroku(&format!("webhooks:remove {id} -a shop"));
    assert_eq!(platform.get("/apps/shop/webhooks").as_array().unwrap().len(), 1);
}
