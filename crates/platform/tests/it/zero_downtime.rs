//! Not one request fails while an app is deployed, rolled back, configured and scaled.

use serde_json::json;

use crate::load::{Load, Seen};
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

/// The visitors ask 125 times a second, where the machine has time for that. This much must have been answered for the test
/// to have been under load.
const PER_SECOND_MIN: f64 = 50.0;

fn check_rate(seen: &Seen) {
    println!("{seen:?}");
    assert!(seen.per_second >= PER_SECOND_MIN, "only {} requests per second", seen.per_second);
}

/// Changes of all kinds, four in a round, with WebSockets and a hundred requests per second.
fn check_changes_are_not_felt(source: &Source) {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", source);
    platform.scale_and_wait("shop", 2);
    let load = Load::start(&platform, "shop");
    change(&platform, &load, source, &[3, 1, 4, 2, 1]);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    check_rate(&seen);
    assert!(seen.echoes > 20 && seen.closes > 3, "{seen:?}");
}

/// One round for each quantity: a deploy, a config change, a rollback, and scaling to the quantity.
fn change(platform: &TestPlatform, load: &Load, source: &Source, quantities: &[u32]) {
    for (round, &quantity) in quantities.iter().enumerate() {
        let version = platform.serve("shop", &source.clone().version(&format!("{round}")));
        platform.configure("shop", &json!({"GREETING": format!("round-{round}")}));
        platform.roll_back("shop", version);
        platform.scale_and_wait("shop", quantity);
        // However fast the changes are, every state of the app sees visitors.
        let so_far = load.requests_so_far();
        wait_until("more requests", || load.requests_so_far() > so_far + 100);
    }
    platform.shows("shop", &format!("version={} greeting=hello ", quantities.len() - 1));
}

/// The same for gunicorn, whose workers of these kinds cannot speak WebSocket.
fn check_changes_of_gunicorn_are_not_felt(command: &str) {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("gunicorn-web").file("Procfile", &format!("web: {command}\n"));
    platform.serve("shop", &source);
    platform.scale_and_wait("shop", 2);
    let load = Load::requests(&platform, "shop");
    change(&platform, &load, &source, &[3, 2, 4, 3, 2]);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    check_rate(&seen);
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
fn registry_no_request_fails_through_twenty_changes_of_gunicorn_with_single_workers() {
    check_changes_of_gunicorn_are_not_felt("gunicorn app --worker-class sync --workers 3");
}

#[test]
fn registry_no_request_fails_through_twenty_changes_of_gunicorn_with_threads() {
    check_changes_of_gunicorn_are_not_felt("gunicorn app --worker-class gthread --threads 8");
}
