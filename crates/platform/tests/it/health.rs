//! Health checks: what is seen, who gets requests, who is replaced.

use serde_json::{Value, json};

use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

/// Quick, and still patient with a busy machine.
const CHECK: [&str; 6] = ["path=/health", "interval=1s", "timeout=1s", "failures=2", "successes=2", "status=200"];

impl TestPlatform {
    fn check_health(&self, more: &[&str]) {
        self.must(&[&["health:set", "-a", "shop"], &CHECK[..], more].concat());
    }

    fn health(&self) -> Value {
        self.get("/berth/apps/shop/health")
    }

    fn is_healthy(&self, dyno: &str) -> bool {
        let health = self.health();
        health["dynos"].as_array().unwrap().iter().any(|one| one["name"] == dyno && one["health"] == "healthy")
    }

    /// Makes one dyno fail its checks, whichever dyno a request comes to.
    fn sicken(&self, dyno: &str) {
        wait_until(&format!("{dyno} is sick"), || {
            self.text("shop", &format!("/sicken?dyno={dyno}")).contains(&format!("dyno={dyno} "))
        });
    }

    fn id_of(&self, name: &str) -> Value {
        self.dynos("shop").into_iter().find(|dyno| dyno["name"] == name).unwrap()["id"].clone()
    }
}

#[test]
fn an_unhealthy_dyno_gets_no_requests_and_is_replaced_without_a_failed_one() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.scale_and_wait("shop", 2);
    platform.check_health(&["replace-after=10s"]);
    wait_until("both are checked", || platform.is_healthy("web.1") && platform.is_healthy("web.2"));
    let load = Load::quick(&platform, "shop");
    let first = platform.id_of("web.2");

    platform.sicken("web.2");
    let line = platform.logged("shop", "heroku[web.2]: Unhealthy after 2 failed checks: ");
    assert!(line.contains("GET /health with Host: shop.localhost was answered with 500, not 200; "), "{line}");
    assert!(line.ends_with("is replaced if that lasts for 10s"), "{line}");
    wait_until("the router has heard of it", || {
        (0..10).all(|_visit| platform.text("shop", "/").contains("dyno=web.1 "))
    });
    assert!((0..20).all(|_visit| platform.text("shop", "/").contains("dyno=web.1 ")));
    let shown = platform.must(&["health", "-a", "shop"]);
    assert!(shown.contains("web.1: healthy\n") && shown.contains("web.2: unhealthy for "), "{shown}");
    let shown = platform.must(&["ps", "-a", "shop"]);
    assert!(shown.lines().any(|line| line.starts_with("web.2: up ") && line.contains(", unhealthy for ")), "{shown}");

    platform.logged("shop", "heroku[web.2]: Unhealthy for 10s; replacing it");
    wait_until("its successor is healthy", || platform.is_healthy("web.2") && platform.id_of("web.2") != first);
    wait_until("its successor is asked", || platform.text("shop", "/").contains("dyno=web.2 "));
    assert_eq!(load.finish().failures, Vec::<String>::new());
    let replaced = platform.logs("shop").iter().filter(|line| line.contains("replacing it")).count();
    assert_eq!(replaced, 1);
}

#[test]
fn the_last_dyno_serves_however_it_is_and_is_believed_when_it_is_well_again() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.check_health(&[]);
    wait_until("it is checked", || platform.is_healthy("web.1"));
    platform.sicken("web.1");
    platform.logged("shop", "heroku[web.1]: Unhealthy after 2 failed checks: ");
    assert!(platform.text("shop", "/").contains("dyno=web.1 "));

    // With another one beside it, it is left alone, also by the next server.
    platform.scale_and_wait("shop", 2);
    let only_second = |platform: &TestPlatform| {
        wait_until("only the new one is asked", || {
            (0..10).all(|_visit| platform.text("shop", "/").contains("dyno=web.2 "))
        });
    };
    only_second(&platform);
    platform.kill_role("server");
    wait_until("the next server is up", || platform.is_connected());
    only_second(&platform);
    assert!(!platform.is_healthy("web.1"));
    platform.terminate();
    platform.up();
    only_second(&platform);

    platform.scale_and_wait("shop", 1);
    wait_until("only the first one is left", || platform.text("shop", "/").contains("dyno=web.1 "));
    assert!(platform.text("shop", "/cure").contains("dyno=web.1 "));
    platform.logged("shop", "heroku[web.1]: Healthy again after 2 passed checks");
    platform.must(&["health:off", "-a", "shop"]);
    platform.sicken("web.1");
    assert_eq!(
        platform.health(),
        json!({"check": null, "dynos": [
            {"name": "web.1", "health": "unchecked", "unhealthy_since": null, "failure": null}
        ]})
    );
}

#[test]
fn what_an_earlier_check_found_counts_no_more_when_there_is_one_again() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.check_health(&["replace-after=1h"]);
    wait_until("it is checked", || platform.is_healthy("web.1"));
    let first = platform.id_of("web.1");
    platform.sicken("web.1");
    platform.logged("shop", "heroku[web.1]: Unhealthy after 2 failed checks: ");
    platform.must(&["health:off", "-a", "shop"]);
    // In force when it returns: so there was a look at everything since.
    platform.must(&["traffic:pause", "--for", "2s", "-a", "shop"]);
    assert!(platform.text("shop", "/cure").contains("dyno=web.1 "));
    // It has been unhealthy for longer than this, as far as anybody knew.
    platform.check_health(&["replace-after=1s"]);
    wait_until("it is checked again", || platform.is_healthy("web.1"));
    // Nor does what it passed when it was asked for something else.
    platform.must(&["health:set", "-a", "shop", "status=204"]);
    let line = platform.logged("shop", "was answered with 200, not 204");
    assert!(line.ends_with("is not replaced, because it has never passed a check"), "{line}");
    assert_eq!(platform.id_of("web.1"), first);
    assert!(!platform.logs("shop").iter().any(|line| line.contains("replacing it")));
}

#[test]
fn a_check_that_the_app_refuses_is_explained_and_replaces_nobody() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::builder_app("host-checking"));
    let first = platform.id_of("web.1");
    let quick = ["interval=1s", "timeout=1s", "failures=2", "successes=1", "replace-after=1s"];
    platform.must(&[&["health:set", "-a", "shop", "path=/"], &quick[..]].concat());
    let line = platform.logged("shop", "heroku[web.1]: Unhealthy after 2 failed checks: ");
    assert!(line.contains("was answered with 400, not 200-399; "), "{line}");
    assert!(line.contains("must accept shop.localhost (Django: add it to ALLOWED_HOSTS"), "{line}");
    assert!(line.ends_with("is not replaced, because it has never passed a check"), "{line}");

    // The app's first domain is what it is asked for.
    platform.must(&["domains:add", "shop.example.com", "-a", "shop"]);
    platform.logged("shop", "heroku[web.1]: Healthy again after 1 passed checks");
    assert_eq!(platform.id_of("web.1"), first);
    let status = platform.berth(&["health:set", "status=2xx", "-a", "shop"]);
    assert!(status.code == Some(1) && status.stderr.contains("200-399"), "{status:?}");
    let timeout = platform.berth(&["health:set", "timeout=9s", "-a", "shop"]);
    assert!(timeout.code == Some(1) && timeout.stderr.contains("not be longer than interval"), "{timeout:?}");
    let audit = platform.get("/berth/audit").to_string();
    assert!(audit.contains("PATCH /berth/apps/{app}/health"), "{audit}");
}

#[test]
fn a_wedged_dyno_is_replaced_one_at_a_time_and_the_log_says_what_held_it() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.must(&["ps:concurrency", "web=2", "-a", "shop"]);
    platform.must(&["routing:set", "timeout=1s", "-a", "shop"]);
    platform.scale_and_wait("shop", 2);
    let first: Vec<Value> = ["web.1", "web.2"].map(|name| platform.id_of(name)).to_vec();
    // As many as there are places, before any dyno has a successor: every worker of both dynos hangs, and nobody waits.
    std::thread::scope(|scope| {
        for _place in 0..4 {
            scope.spawn(|| {
                let answer = platform.request("GET", "shop.localhost", "/slow?seconds=3600", &[], &[]);
                assert_eq!(answer.status, 503);
            });
        }
    });
    for name in ["web.1", "web.2"] {
        let line = platform.logged("shop", &format!("heroku[{name}]: Wedged: "));
        assert!(line.contains("(GET /slow for ") && line.ends_with("); replacing it"), "{line}");
    }
    wait_until("both have successors that answer", || {
        let up = platform.dynos("shop").iter().filter(|dyno| dyno["state"] == "up").count() == 2;
        up && ["web.1", "web.2"].iter().all(|name| !first.contains(&platform.id_of(name)))
    });
    wait_until("requests are answered", || platform.text("shop", "/").contains("version="));
    let logs = platform.logs("shop");
    let at = |text: &str| logs.iter().position(|line| line.contains(text));
    let wedged = logs.iter().enumerate().filter(|(_place, line)| line.contains("]: Wedged: "));
    let wedged: Vec<usize> = wedged.map(|(place, _line)| place).collect();
    assert_eq!(wedged.len(), 2, "{logs:?}");
    let second = if logs[wedged[0]].contains("web.1") { "heroku[web.1]: " } else { "heroku[web.2]: " };
    let up_again = logs[wedged[0]..].iter().position(|line| line.contains(second) && line.contains("to up"));
    assert!(up_again.is_some_and(|place| wedged[0] + place < wedged[1]), "one at a time: {logs:?}");
    assert!(at("code=H12").is_some());
}
