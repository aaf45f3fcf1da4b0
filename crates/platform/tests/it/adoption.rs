//! Every part of the platform may be killed at any time; what runs goes on running.

use rustix::process::Signal;
use serde_json::json;

use crate::left_over;
use crate::load::Load;
use crate::platform::{TestPlatform, kill};
use crate::source::Source;
use crate::wait::{wait_for, wait_until};

/// The host name of a dyno is its id, so that it tells one process from another.
fn dyno_of(platform: &TestPlatform, app: &str) -> String {
    let text = platform.text(app, "/");
    text.split_once(" host=").unwrap().1.trim().to_owned()
}

/// All numbered lines of the app's log, in their order.
fn numbered(platform: &TestPlatform, app: &str) -> Vec<usize> {
    // Among the router's lines of a load they would soon be older than what is shown.
    let lines = platform.logs_of(app, &json!({"lines": 1500, "source": "app", "dyno": "web.1"}));
    lines.iter().filter_map(|line| line.split_once("app[web.1]: line ")?.1.parse().ok()).collect()
}

fn check_numbered(platform: &TestPlatform, app: &str, count: usize) {
    wait_until("the last numbered line", || numbered(platform, app).last() == Some(&(count - 1)));
    assert_eq!(numbered(platform, app), (0..count).collect::<Vec<_>>(), "every line once, in order");
}

#[test]
fn a_killed_server_is_not_felt_and_adopts_everything() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    let load = Load::start(&platform, "shop");
    platform.text("shop", "/count?lines=400&seconds=4");
    for kill in 0..2 {
        let before = platform.kill_role("server");
        // The router's lines of these are written while nobody reads them.
        let paths = (0..20).map(|visit| format!("/?kill={kill}&visit={visit}"));
        let visit = |path: String| {
            platform.text("shop", &path);
            format!("path=\"{path}\"")
        };
        let visited: Vec<String> = paths.map(visit).collect();
        wait_until("a new server", || {
            platform.role("server").is_some_and(|pid| pid != before) && platform.is_connected()
        });
        // At once: the load's lines make them older than what is shown.
        wait_until("the router's lines", || {
            let lines = platform.logs_of("shop", &json!({"lines": 1500, "source": "heroku", "dyno": "router"}));
            visited.iter().all(|path| lines.iter().filter(|line| line.contains(path)).count() == 1)
        });
        let so_far = load.requests_so_far();
        wait_until("more requests", || load.requests_so_far() > so_far + 50);
    }
    check_numbered(&platform, "shop", 400);
    assert_eq!(dyno_of(&platform, "shop"), dyno, "the dyno is the same");
    platform.serve("shop", &source.version("2"));
    platform.shows("shop", "version=2 ");
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
}

#[test]
fn a_killed_shim_does_not_end_its_process() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    let load = Load::start(&platform, "shop");
    platform.text("shop", "/count?lines=300&seconds=3");
    let before = platform.kill_role("shim");
    wait_until("a new shim", || platform.role("shim").is_some_and(|pid| pid != before));
    check_numbered(&platform, "shop", 300);
    assert_eq!(dyno_of(&platform, "shop"), dyno);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    // The new shim stops what the old one started.
    platform.scale_and_wait("shop", 0);
    wait_until("its processes are gone", || left_over::members(&platform.instance()).is_empty());
}

#[test]
fn a_dyno_that_cannot_be_supervised_again_serves_until_its_successor_does() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    let load = Load::start(&platform, "shop");
    // Without what it was launched with, a new shim cannot take it over.
    let id = platform.dynos("shop")[0]["id"].as_str().unwrap().to_owned();
    std::fs::write(platform.data().join("run").join(id).join("spec.json"), "damaged").unwrap();
    platform.kill_role("shim");
    platform.logged("shop", "The process cannot be supervised any longer; replacing it");
    wait_until("another dyno", || dyno_of(&platform, "shop") != dyno);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    wait_until("the old one is gone", || platform.dynos("shop").len() == 1);
}

#[test]
fn a_killed_supervisor_is_replaced_by_the_next_one() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    let roles = |platform: &TestPlatform| ["server", "router"].map(|role| platform.role(role).unwrap());
    let before = roles(&platform);
    let refused = platform.up_again();
    assert!(refused.contains("Berth is up already"), "{refused}");
    platform.kill_supervisor();
    assert_eq!(roles(&platform), before, "they live on");
    let load = Load::quick(&platform, "shop");
    platform.up();
    wait_until("a new server and a new router", || {
        let now = ["server", "router"].map(|role| platform.role(role));
        now.iter().all(|pid| pid.is_some_and(|pid| !before.contains(&pid))) && platform.is_connected()
    });
    let so_far = load.requests_so_far();
    wait_until("more requests", || load.requests_so_far() > so_far + 50);
    assert_eq!(dyno_of(&platform, "shop"), dyno);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
}

#[test]
fn the_router_has_a_user_of_its_own_and_no_capability() {
    let Some(platform) = TestPlatform::start() else { return };
    let pid = platform.role("router").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:"), ["399998"; 4].join("\t"));
    assert_eq!(field("CapEff:"), "0000000000000000");
}

#[test]
fn a_killed_router_is_back_with_its_table_though_the_server_is_dead() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let before = platform.kill_role("router");
    // The ports are the supervisor's: whoever comes now waits, and is served.
    assert_eq!(platform.visit("shop", "/").unwrap().status, 200);
    assert_ne!(platform.role("router"), Some(before));

    // A server that cannot come back: its supervisor is dead too, and so is everybody who could tell the router.
    platform.kill_supervisor();
    platform.kill_role("server");
    let before = platform.kill_role("router");
    wait_until("the router is dead", || platform.role("router") != Some(before));
    let mut router = platform.start_router_alone();
    wait_for("requests from the stored table", || {
        platform.visit("shop", "/").ok().filter(|answer| answer.status == 200)
    });
    router.kill().unwrap();
    router.wait().unwrap();
    platform.up();
    platform.shows("shop", "version=1 ");
}

#[test]
fn everything_is_back_after_a_reboot() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("python-web").process("worker: echo working; sleep 1000");
    platform.serve("shop", &source);
    platform.configure("shop", &json!({"GREETING": "ahoy"}));
    platform.scale("shop", "worker", 1);
    platform.scale("shop", "web", 2);
    wait_until("three dynos", || {
        let dynos = platform.dynos("shop");
        dynos.len() == 3 && dynos.iter().all(|dyno| dyno["state"] == "up")
    });
    let dyno = dyno_of(&platform, "shop");
    platform.pull_the_plug();
    platform.change_boot_ids();
    platform.up();
    wait_for("requests again", || platform.visit("shop", "/").ok().filter(|answer| answer.status == 200));
    platform.shows("shop", "version=1 greeting=ahoy ");
    assert_ne!(dyno_of(&platform, "shop"), dyno);
    wait_until("three dynos", || {
        let dynos = platform.dynos("shop");
        dynos.len() == 3 && dynos.iter().all(|dyno| dyno["state"] == "up")
    });
}

#[test]
fn a_restart_of_the_platform_leaves_dynos_alone() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    platform.text("shop", "/count?lines=300&seconds=3");
    assert!(platform.terminate().success());
    platform.up();
    assert_eq!(dyno_of(&platform, "shop"), dyno);
    check_numbered(&platform, "shop", 300);
}

#[test]
fn ctrl_c_with_detached_dynos_leaves_them_alone() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    assert!(platform.terminate().success());
    platform.up_with(&["--detach-dynos"]);
    assert!(platform.interrupt().success());
    platform.up();
    assert_eq!(dyno_of(&platform, "shop"), dyno);
}

#[test]
fn a_second_ctrl_c_kills_what_the_first_one_waits_for() {
    let Some(mut platform) = TestPlatform::with_limits("exit_seconds = 300") else { return };
    platform.create("shop");
    let deaf = Source::app("python-web").file("Procfile", "web: trap '' TERM; python3 server.py; sleep 1000\n");
    platform.serve("shop", &deaf);
    assert!(platform.interrupt_twice("Stopping all processes with SIGTERM").success());
}

#[test]
fn a_build_outlives_its_server() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    // A build step that waits for the test: found by its name on the machine, ended from outside.
    let slow = source.version("2").file("bin/post_compile", "#!/bin/sh\necho compiling\nexec sleep 3\n");
    let build = platform.build("shop", &slow.tar(), false);
    wait_for("the build runs", || platform.role("shim").filter(|_pid| builds(&platform) > 0));
    let before = platform.kill_role("server");
    wait_until("a new server", || platform.role("server").is_some_and(|pid| pid != before) && platform.is_connected());
    let deployed = platform.follow("shop", &build);
    assert_eq!(deployed.state, "serving", "{}\n{}", deployed.output, deployed.failure);
    platform.shows("shop", "version=2 ");
}

/// Build processes that run now.
fn builds(platform: &TestPlatform) -> usize {
    let processes = left_over::members(&platform.instance());
    let is_build = |pid: &&i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("build-inside")
    };
    processes.iter().filter(is_build).count()
}

#[test]
fn a_killed_process_is_started_again() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let dyno = dyno_of(&platform, "shop");
    for pid in left_over::members(&platform.instance()) {
        kill(pid, Signal::KILL);
    }
    wait_for("another dyno", || {
        let answer = platform.visit("shop", "/").ok().filter(|answer| answer.status == 200)?;
        (!answer.text().contains(&dyno)).then_some(())
    });
    platform.logged("shop", "State changed from up to crashed");
    platform.logged("shop", "State changed from starting to up");
}
