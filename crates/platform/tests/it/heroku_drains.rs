//! Log drains: what arrives at other people's servers, and what the `heroku` client says of them.

use serde_json::json;

use crate::heroku_cli::no_heroku_cli;
use crate::platform::TestPlatform;
use crate::receiver::Receiver;
use crate::wait::wait_until;

/// Receivers stand on this machine here, with certificates of the platform's own authority.
pub(crate) const LOCAL_RECEIVERS: &str =
    "[deliveries]\nallowed_networks = [\"127.0.0.0/8\", \"::1\"]\nca_file = \"ca/ca.pem\"\n";

/// Takes octet-counted frames apart.
#[track_caller]
fn messages(mut frames: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    while !frames.is_empty() {
        let (length, rest) = frames.split_once(' ').unwrap();
        let (message, rest) = rest.split_at(length.parse().unwrap());
        messages.push(message.strip_suffix('\n').unwrap());
        frames = rest;
    }
    messages
}

/// The numbers of the lines that `/count` prints, in the order of their arrival.
fn counted(frames: &str) -> Vec<u32> {
    messages(frames).iter().filter_map(|message| message.split_once("- line ")?.1.parse().ok()).collect()
}

#[test]
fn heroku_adds_a_drain_that_gets_batches_as_logplex_sends_them() {
    if no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    let receiver = Receiver::http();
    platform.heroku("drains -a shop");
    let url = format!("http://ada:s3cret@localhost:{}/in?key=k3y", receiver.port);
    platform.text("shop", "/say?text=before");
    platform.logged("shop", "app[web.1]: before");
    platform.heroku(&format!("drains:add {url} -a shop")).shows("Successfully added drain");
    let drain = platform.get("/apps/shop/log-drains")[0].clone();
    let token = drain["token"].as_str().unwrap();
    platform.heroku("drains -a shop").shows(token).shows(&url);
    platform.heroku_fails(&format!("drains:add {url} -a shop")).shows("already been taken");
    platform.heroku_fails("drains:add ftp://x -a shop").shows("must begin with https://");

    platform.text("shop", "/say?text=one");
    receiver.waits_for("method=GET path=\"/say?text=one\"");
    receiver.waits_for("app web.1 - one\n");
    let requests = receiver.requests();
    for request in &requests {
        assert_eq!((request.path.as_str(), request.header("logplex-drain-token")), ("/in?key=k3y", token));
        assert_eq!(request.header("content-type"), "application/logplex-1");
        assert_eq!(request.header("authorization"), "Basic YWRhOnMzY3JldA==");
        assert!(request.header("user-agent").starts_with("Logplex/"));
        assert_eq!(request.header("logplex-msg-count"), messages(&request.body).len().to_string());
    }
    let mut ids: Vec<&str> = requests.iter().map(|request| request.header("logplex-frame-id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), requests.len());
    let text = receiver.text();
    let got = messages(&text);
    assert!(got.iter().any(|line| line.starts_with("<190>1 20") && line.ends_with("+00:00 host app web.1 - one")));
    assert!(got.iter().any(|line| line.starts_with("<158>1 ") && line.contains(" host heroku router - at=info ")));
    assert!(!text.contains("before"), "older than the drain");
    let log = platform.logs("shop").join("\n");
    assert!(log.contains(&format!("Add log drain http://localhost:{} by user", receiver.port)), "{log}");
    assert!(!log.contains("s3cret") && !log.contains("k3y"), "{log}");

    let other = Receiver::https(&platform.data().join("ca"));
    platform.heroku(&format!("drains:remove {url} -a shop")).shows("Successfully removed drain");
    let audited = platform.get("/berth/apps/shop/audit").to_string();
    assert!(audited.contains("DELETE /apps/{app}/log-drains/{drain}"), "{audited}");
    assert!(!audited.contains("s3cret") && !audited.contains("k3y"), "{audited}");
    platform.heroku(&format!("drains:add https://localhost:{}/ -a shop", other.port));
    platform.text("shop", "/say?text=two");
    other.waits_for("app web.1 - two\n");
    assert!(!receiver.text().contains("two"));
    platform.heroku("apps:destroy -a shop --confirm shop");
    wait_until("the drain is forgotten", || std::fs::read_dir(platform.data().join("drains")).unwrap().count() == 0);
}

#[test]
fn syslog_receivers_get_rfc_5424_and_may_come_and_go() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    for (scheme, mut receiver) in
        [("syslog", Receiver::syslog()), ("syslog+tls", Receiver::syslog_tls(&platform.data().join("ca")))]
    {
        let url = format!("{scheme}://localhost:{}", receiver.port);
        let drain = platform.ask("POST", "/apps/shop/log-drains", &json!({"url": url}));
        platform.text("shop", "/say?text=one");
        let text = receiver.waits_for("app web.1 - - one\n");
        let expect = format!(" {} app web.1 - - one", drain["token"].as_str().unwrap());
        let got = messages(&text);
        assert!(got.iter().any(|line| line.starts_with("<190>1 ") && line.ends_with(&expect)), "{got:#?}");
        receiver.close();
        platform.text("shop", "/say?text=two");
        platform.logged("shop", "app[web.1]: two");
        receiver.open();
        receiver.waits_for("app web.1 - - two\n");
        let path = format!("/apps/shop/log-drains/{}", drain["token"].as_str().unwrap());
        assert_eq!(platform.ask("DELETE", &path, &json!({}))["id"], drain["id"]);
    }
}

#[test]
fn a_receiver_that_was_away_gets_every_line_in_order_also_across_a_crash_of_the_server() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    let mut receiver = Receiver::http();
    receiver.answers(503);
    let url = format!("http://localhost:{}/", receiver.port);
    platform.ask("POST", "/apps/shop/log-drains", &json!({"url": url}));
    platform.text("shop", "/count?lines=3000&seconds=6");
    wait_until("the same batch again", || receiver.requests().len() >= 2);
    let requests = receiver.requests();
    assert_eq!(requests[0].header("logplex-frame-id"), requests[1].header("logplex-frame-id"));
    assert_eq!(requests[0].body, requests[1].body);
    receiver.answers(200);
    receiver.waits_for("- line 100\n");
    platform.kill_role("server");
    receiver.close();
    wait_until("another server", || platform.is_connected());
    platform.logged("shop", "line 2999");
    receiver.open();
    let text = receiver.waits_for("- line 2999\n");
    assert!(!text.contains("Error L10"), "{text}");
    let mut next = 0;
    for number in counted(&text) {
        assert!(number <= next, "line {number} came before line {next}");
        next = next.max(number + 1);
    }
    assert_eq!(next, 3000);

    // One that refuses for good does not hold up what follows for ever; its owner can read why.
    receiver.answers(413);
    platform.text("shop", "/say?text=refused");
    let told = platform.logged("shop", "does not take lines: it answers 413");
    assert!(told.contains("heroku[logplex]: Log drain http://localhost:"), "{told}");
    wait_until("five attempts", || {
        let requests = receiver.requests();
        requests.iter().filter(|got| got.status == 413 && got.body.contains("- refused\n")).count() == 5
    });
    receiver.answers(200);
    platform.text("shop", "/say?text=taken");
    receiver.waits_for("app web.1 - taken\n");
    receiver.waits_for("heroku logplex - Error L10 (output buffer overflow): ");
    assert!(!receiver.text().contains("- refused\n"));
}

#[test]
fn a_drain_reaches_no_private_network_unless_the_operator_allows_it() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let receiver = Receiver::syslog();
    for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
        let url = format!("syslog://{host}:{}", receiver.port);
        platform.ask("POST", "/apps/shop/log-drains", &json!({"url": url}));
        platform.logged("shop", &format!("Log drain {url} does not take lines: "));
    }
    platform.logged("shop", "localhost is not on the internet");
    assert_eq!(receiver.connections(), 0);
}
