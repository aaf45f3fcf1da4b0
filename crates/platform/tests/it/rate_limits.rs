//! How many requests an account may make, and what it is told.

use serde_json::{Value, json};

use crate::heroku_cli::no_heroku_cli;
use crate::http::{Connection, Response};
use crate::platform::TestPlatform;
use crate::wait::{wait_for, wait_until};

/// One comes back every fifteen seconds: longer than a client takes to ask, less than a test waits.
const REQUESTS: u32 = 240;

fn remaining(answer: &Response) -> u32 {
    answer.header("ratelimit-remaining").expect("the header").parse().unwrap()
}

#[test]
fn an_account_gets_its_requests_and_then_429_until_some_have_come_back() {
    if no_heroku_cli() {
        return;
    }
    let settings = format!("[api]\nrequests_per_hour = {REQUESTS}\n");
    let Some(platform) = TestPlatform::with_limits(&settings) else { return };
    let other = platform.join("grace@example.com");
    let bearer = format!("Bearer {}", platform.token);
    let mut connection = Connection::open(platform.api_port).unwrap();
    let mut ask = |path: &str, authorization: &str| {
        let headers = [("Host", "localhost"), ("Authorization", authorization)];
        connection.request("GET", path, &headers, &[]).unwrap()
    };
    let before = remaining(&ask("/account", &bearer));
    assert!(before < REQUESTS);
    let mut granted = 0;
    let refused = loop {
        let answer = ask("/account", &bearer);
        if answer.status != 200 {
            break answer;
        }
        granted += 1;
        assert!(remaining(&answer) < REQUESTS && granted < 2 * REQUESTS);
    };
    assert!(granted >= before, "{granted} of {before}");
    assert_eq!((refused.status, remaining(&refused)), (429, 0));
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() <= 15);
    let body: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(body["id"], "rate_limit");
    assert!(body["message"].as_str().unwrap().starts_with("Your account reached the API rate limit\n"), "{body}");

    // Asking for it takes nothing, so it can be asked for when there is nothing left.
    let left = ask("/account/rate-limits", &bearer);
    assert_eq!((left.status, left.text()), (200, json!({"remaining": 0}).to_string()));
    // Where the client is slow, one request may have come back before it asks.
    let client = wait_for("the client is refused", || {
        while ask("/account", &bearer).status == 200 {}
        Some(platform.heroku_run(&["auth:whoami"])).filter(|ran| ran.code != Some(0))
    });
    client.says("Your account reached the API rate limit").shows("Error ID: rate_limit");
    // Nobody else is affected: not another account, and not root on the machine.
    let others = ask("/account", &format!("Bearer {other}"));
    assert!(others.status == 200 && remaining(&others) > REQUESTS / 2, "{}", remaining(&others));
    assert!(platform.is_connected());

    wait_until("a request has come back", || ask("/account", &bearer).status == 200);
    let anonymous = ask("/account", "Bearer nobody");
    assert_eq!((anonymous.status, anonymous.header("ratelimit-remaining")), (401, None));
}
