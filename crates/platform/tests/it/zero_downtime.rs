//! Not one request fails while an app is deployed, rolled back, configured and scaled.

use serde_json::json;

use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;

/// Changes of all kinds, four in a round, with WebSockets and at least a hundred requests per second.
fn check_changes_are_not_felt(source: &Source) {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", source);
    platform.scale_and_wait("shop", 2);
    let load = Load::start(&platform, "shop");
    change(&platform, source, &[3, 1, 4, 2, 1]);
    let seen = load.finish();
    println!("{seen:?}");
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    assert!(seen.per_second >= 100.0, "only {} requests per second", seen.per_second);
    assert!(seen.echoes > 20 && seen.closes > 3, "{seen:?}");
}

/// One round for each quantity: a deploy, a config change, a rollback, and scaling to the quantity.
fn change(platform: &TestPlatform, source: &Source, quantities: &[u32]) {
    for (round, &quantity) in quantities.iter().enumerate() {
        let version = platform.serve("shop", &source.clone().version(&format!("{round}")));
        platform.configure("shop", &json!({"GREETING": format!("round-{round}")}));
        platform.roll_back("shop", version);
        platform.scale_and_wait("shop", quantity);
    }
    platform.shows("shop", &format!("version={} greeting=hello ", quantities.len() - 1));
}

/// The same for a server of few workers that takes its time: no rate is asked of it, but no failure is allowed either.
fn check_changes_of_gunicorn_are_not_felt(command: &str) {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("gunicorn-web").file("Procfile", &format!("web: {command}\n"));
    platform.serve("shop", &source);
    let load = Load::requests(&platform, "shop");
    change(&platform, &source, &[2]);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    assert!(seen.requests > 100, "{seen:?}");
}

#[test]
fn no_request_fails_through_twenty_changes_of_a_python_app() {
    check_changes_are_not_felt(&Source::app("python-web"));
}

#[test]
fn no_request_fails_through_twenty_changes_of_a_node_app() {
    check_changes_are_not_felt(&Source::app("node-web"));
}

#[test]
fn registry_no_request_fails_through_changes_of_gunicorn_with_single_workers() {
    check_changes_of_gunicorn_are_not_felt("gunicorn app --worker-class sync --workers 3");
}

#[test]
fn registry_no_request_fails_through_changes_of_gunicorn_with_threads() {
    check_changes_of_gunicorn_are_not_felt("gunicorn app --worker-class gthread --threads 8");
}
