//! Releases that fail must not be felt; release phases; releases that wait.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

#[test]
fn a_build_that_fails_leaves_the_app_alone() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    // Python is recognised by this file; a version that nobody has cannot be built.
    let broken = Source::app("python-web").version("2").file("Procfile", "web\n");
    let deployed = platform.deploy("shop", &broken);
    assert_eq!(deployed.state, "no release", "{}", deployed.output);
    assert!(!deployed.failure.is_empty());
    assert!(deployed.output.contains(&deployed.failure), "{} has no {}", deployed.output, deployed.failure);
    assert!(deployed.output.contains("what served before goes on serving"), "{}", deployed.output);
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    assert_eq!(platform.releases("shop").len(), 2);
    // The next one is not held up by it.
    platform.serve("shop", &Source::app("python-web").version("3"));
    platform.shows("shop", "version=3 ");
}

/// Deploys version 1, then something that must fail with these words while version 1 serves on.
fn check_never_ready(broken: &Source, in_failure: &[&str], in_log: &[&str]) {
    let Some(platform) = TestPlatform::with_limits("boot_seconds = 3") else { return };
    platform.python_web("shop");
    let deployed = platform.deploy("shop", broken);
    assert_eq!(deployed.state, "failed", "{}", deployed.output);
    for text in in_failure {
        assert!(deployed.failure.contains(text), "no {text:?} in {}", deployed.failure);
    }
    for text in in_log {
        platform.logged("shop", text);
    }
    platform.logged("shop", "Release v3 failed");
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    let release = platform.get("/apps/shop/releases/3");
    assert_eq!((&release["status"], &release["current"]), (&json!("failed"), &json!(false)));
    assert_eq!(platform.get("/apps/shop/releases/2")["current"], true);
    let dynos = platform.dynos("shop");
    assert!(dynos.iter().any(|dyno| dyno["state"] == "up" && dyno["release"]["version"] == 2), "{dynos:#?}");
    // What failed is not tried again and again.
    assert!(!platform.logs("shop").iter().any(|line| line.contains("v4")));
    platform.serve("shop", &Source::app("python-web").version("2"));
    platform.shows("shop", "version=2 ");
}

#[test]
fn a_release_that_exits_at_boot_fails_with_its_last_lines() {
    let broken = Source::procfile("web: echo no database here; exit 5\n");
    check_never_ready(
        &broken,
        &["exited with status 5", "no database here"],
        &["State changed from starting to crashed"],
    );
}

#[test]
fn a_release_that_binds_no_port_is_told_so() {
    let broken = Source::procfile("web: echo thinking; sleep 1000\n");
    let words = ["no port at all", "0.0.0.0:$PORT"];
    check_never_ready(&broken, &["thinking", words[0]], &["Error R10 (Boot timeout)", words[0], words[1]]);
}

#[test]
fn a_release_that_binds_loopback_is_told_so() {
    let broken = Source::procfile("web: python3 -m http.server --bind 127.0.0.1 $PORT\n");
    check_never_ready(&broken, &["127.0.0.1"], &["Error R10 (Boot timeout)", "bind 0.0.0.0:$PORT"]);
}

#[test]
fn a_release_that_binds_another_port_is_told_so() {
    let broken = Source::procfile("web: python3 -m http.server 8123\n");
    check_never_ready(&broken, &["8123"], &["Error R10 (Boot timeout)", "0.0.0.0:8123, not on $PORT"]);
}

#[test]
fn a_release_that_does_not_speak_http_is_told_so() {
    let server = "import os, socket\n\
        listener = socket.create_server(('0.0.0.0', int(os.environ['PORT'])))\n\
        while True:\n    client, _ = listener.accept()\n    client.sendall(b'SSH-2.0-nope\\r\\n')\n    client.close()\n";
    let broken = Source::procfile("web: python3 server.py\n").file("server.py", server);
    check_never_ready(&broken, &["does not speak HTTP"], &["Error R10 (Boot timeout)", "does not speak HTTP"]);
}

/// A default route leads to machines that answer for any address: the probe of a dyno that has ended already must not
/// find one of them and call the release ready.
#[test]
fn nobody_answers_in_the_place_of_a_dyno_that_is_gone() {
    let Some(platform) = TestPlatform::start() else { return };
    let address = (platform.free_address(), 5000).into();
    let refused = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::HostUnreachable, "{refused}");
}

#[test]
fn a_release_phase_runs_once_for_new_code_only() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("python-web").process("release: echo migrating to $(cat VERSION) as $DYNO");
    platform.serve("shop", &source);
    platform.logged("shop", "app[release.2]: migrating to 1 as release.2");
    platform.configure("shop", &json!({"GREETING": "ahoy"}));
    platform.serve("shop", &source.clone().version("2"));
    platform.roll_back("shop", 2);
    platform.shows("shop", "version=1 ");
    let logs = platform.logs("shop");
    let migrations: Vec<_> = logs.iter().filter(|line| line.contains("]: migrating")).collect();
    assert_eq!(migrations.len(), 2, "{migrations:#?}");
    let release = platform.get("/apps/shop/releases/4");
    let output = platform.stream(release["output_stream_url"].as_str().unwrap());
    assert_eq!(output.trim(), "migrating to 2 as release.4");
}

#[test]
fn a_rollback_or_a_config_change_runs_the_release_phase_when_asked() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let command = "release: test \"$GREETING\" != wrong && echo migrating to $(cat VERSION) saying $GREETING";
    let source = Source::app("python-web").process(command);
    platform.serve("shop", &source);
    platform.serve("shop", &source.version("2"));
    let migrations = || platform.logs("shop").iter().filter(|line| line.contains("]: migrating")).count();
    wait_until("two migrations", || migrations() == 2);

    let set = platform.must(&["config:set", "-a", "shop", "--release-phase", "GREETING=ahoy"]);
    assert!(set.contains("migrating to 2 saying ahoy") && set.contains("v4: serving"), "{set}");
    platform.logged("shop", "app[release.4]: migrating to 2 saying ahoy");
    let back = platform.must(&["rollback", "-a", "shop", "--release-phase", "v2"]);
    assert!(back.contains("migrating to 1 saying") && back.contains("v5: serving"), "{back}");
    platform.shows("shop", "version=1 ");
    assert_eq!(migrations(), 4);
    // A phase that fails stops the change, and the options are needed.
    let ended = platform.berth(&["config:set", "-a", "shop", "--release-phase", "GREETING=wrong"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("v6 failed; what served before goes on serving"), "{ended:?}");
    assert!(platform.text("shop", "/").contains("greeting=hello "));
    platform.must(&["config:unset", "-a", "shop", "--release-phase", "GREETING"]);
    platform.must(&["config:set", "-a", "shop", "GREETING=salut"]);
    platform.must(&["rollback", "-a", "shop", "v5"]);
    assert_eq!(migrations(), 5);
}

#[test]
fn a_release_phase_that_fails_stops_everything() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let broken = source.version("2").process("release: echo table exists; exit 3");
    let deployed = platform.deploy("shop", &broken);
    assert_eq!(deployed.state, "failed", "{}", deployed.output);
    assert!(deployed.failure.contains("exit status 3"), "{}", deployed.failure);
    platform.logged("shop", "app[release.3]: table exists");
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    let starts = platform.logs("shop").iter().filter(|line| line.contains("python3 server.py")).count();
    assert_eq!(starts, 1, "no dyno of the failed release was started");
}

#[test]
fn a_held_release_is_run_by_hand_and_serves_when_resumed() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let build = platform.build("shop", &source.clone().version("2").tar(), true);
    let held = platform.follow("shop", &build);
    assert_eq!((held.state.as_str(), held.version), ("held", 3), "{}", held.output);
    assert!(platform.text("shop", "/").starts_with("version=1 "));

    let (output, status) = platform.run("shop", "echo trying $(cat VERSION)", Some(3));
    assert_eq!((output.trim(), status), ("trying 2", json!(0)));
    let (output, _status) = platform.run("shop", "cat VERSION", None);
    assert_eq!(output.trim(), "1", "without a release, the one that serves runs");

    platform.ask("POST", "/berth/apps/shop/releases/3/resume", &Value::Null);
    assert_eq!(platform.settled("shop", 3).0, "serving");
    platform.shows("shop", "version=2 ");
    let (status, answer) = platform.api("POST", "/berth/apps/shop/releases/3/resume", &Value::Null).unwrap();
    assert_eq!(status, 422, "{answer}");
}
