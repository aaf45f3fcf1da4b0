//! Pause and resume under load: nobody notices but by the wait.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::Load;
use crate::platform::TestPlatform;
use crate::wait::wait_until;

fn traffic(platform: &TestPlatform) -> Value {
    serde_json::from_str(&platform.must(&["traffic", "-a", "shop", "--json"])).unwrap()
}

/// Whether no request is answered for a moment.
fn stands_still(load: &Load) -> bool {
    let before = load.requests_so_far();
    sleep(Duration::from_millis(700));
    load.requests_so_far() == before
}

fn goes_on(load: &Load) {
    let before = load.requests_so_far();
    wait_until("requests are answered", || load.requests_so_far() > before + 20);
}

#[test]
fn a_pause_holds_every_request_and_fails_none() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let load = Load::quick(&platform, "shop");
    goes_on(&load);

    let said = platform.must(&["traffic:pause", "-a", "shop", "--for", "20s"]);
    assert!(
        said.starts_with("New requests of shop are held until ") && said.contains("traffic:resume -a shop"),
        "{said}"
    );
    // Those that were under way have an instant.
    wait_until("nothing is answered", || stands_still(&load));
    assert!(traffic(&platform)["paused_until"].is_string());
    wait_until("the router reports what waits", || traffic(&platform)["waiting"].as_u64() >= Some(1));
    let said = platform.must(&["traffic:resume", "-a", "shop"]);
    assert_eq!(said, "Requests of shop are served.\n");
    goes_on(&load);
    assert!(traffic(&platform)["paused_until"].is_null());

    // Without a resume it ends by itself, also where the server has died meanwhile.
    let began = Instant::now();
    platform.must(&["traffic:pause", "-a", "shop", "--for", "6s"]);
    platform.kill_role("server");
    wait_until("nothing is answered", || stands_still(&load));
    goes_on(&load);
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    wait_until("the next server is up", || platform.is_connected());
    assert!(traffic(&platform)["paused_until"].is_null());

    // A new server and a new router know of a pause that was there before them.
    platform.must(&["traffic:pause", "-a", "shop", "--for", "30s"]);
    platform.kill_role("server");
    wait_until("the next server is up", || platform.is_connected());
    assert!(traffic(&platform)["in_force"] == true && stands_still(&load));
    platform.must(&["traffic:resume", "-a", "shop"]);
    goes_on(&load);

    let seen = load.finish();
    assert_eq!(seen.failures, Vec::<String>::new());
    platform.logged("shop", "app[api]: Pause traffic for 20s by user ");
    platform.logged("shop", "app[api]: Resume traffic by user ");
    let long = platform.berth(&["traffic:pause", "-a", "shop", "--for", "1h"]);
    assert!(long.code == Some(1) && long.stderr.contains("from 100ms to 5m"), "{long:?}");
    assert_eq!(platform.berth(&["traffic:pause", "-a", "shop", "--for", "soon"]).code, Some(2));
}
