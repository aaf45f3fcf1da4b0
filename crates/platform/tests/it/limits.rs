//! Apps that take more than they are given: they are told so, and nobody else notices.

use jiff::Timestamp;
use serde_json::json;

use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_for, wait_until};

/// What the app prints when it is asked for a flood.
const FLOOD_LINE_BYTES: u64 = 201;
const FLOOD_SECONDS: u64 = 3;

/// Waits until an app answers again after its dyno was replaced.
fn is_back(platform: &TestPlatform, app: &str) {
    wait_until(&format!("{app} is back"), || platform.visit(app, "/").is_ok_and(|answer| answer.status == 200));
}

/// Lets something bad happen in the app `wild` while visitors of the app `calm` keep asking.
fn check_neighbours_do_not_notice(platform: &TestPlatform, happen: impl FnOnce(&TestPlatform)) {
    platform.python_web("wild");
    platform.python_web("calm");
    let load = Load::quick(platform, "calm");
    happen(platform);
    let so_far = load.requests_so_far();
    wait_until("more requests", || load.requests_so_far() > so_far + 100);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_with_r12() {
    let Some(platform) = TestPlatform::with_limits("exit_seconds = 1") else { return };
    platform.create("shop");
    let deaf = Source::app("python-web").file("Procfile", "web: trap '' TERM; python3 server.py\n");
    platform.serve("shop", &deaf);
    platform.scale_and_wait("shop", 0);
    let lines = [
        "heroku[web.1]: Stopping all processes with SIGTERM",
        "heroku[web.1]: Error R12 (Exit timeout) -> Process failed to exit within 1 second",
        "heroku[web.1]: Stopping process with SIGKILL",
        "heroku[web.1]: State changed from up to down",
    ];
    let times = lines.map(|line| time_of(&platform.logged("shop", line)));
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn memory_over_the_quota_is_reported_and_twice_the_quota_is_the_end() {
    let limits = "memory_report_seconds = 0.5\n[sizes.\"Standard-1X\"]\nmemory_mib = 64";
    let Some(platform) = TestPlatform::with_limits(limits) else { return };
    check_neighbours_do_not_notice(&platform, |platform| {
        platform.text("wild", "/eat?mib=64");
        platform.logged("wild", "Error R14 (Memory quota exceeded)");
        let usage = platform.logged("wild", "Process running mem=");
        let (megabytes, percent) =
            usage.split_once("heroku[web.1]: Process running mem=").unwrap().1.split_once("MB(").unwrap();
        let percent: f64 = percent.strip_suffix("%)").unwrap().parse().unwrap();
        assert!(megabytes.parse::<u32>().unwrap() >= 64 && percent > 100.0, "{usage}");
        assert!(platform.text("wild", "/").starts_with("version=1 "), "over its quota, it serves on");
        assert_ne!(platform.visit("wild", "/eat?mib=200").unwrap().status, 200);
        platform.logged("wild", "Error R15 (Memory quota vastly exceeded)");
        platform.logged("wild", "State changed from up to crashed");
        is_back(platform, "wild");
    });
}

#[test]
fn a_fork_bomb_stays_in_its_dyno() {
    let Some(platform) = TestPlatform::start() else { return };
    check_neighbours_do_not_notice(&platform, |platform| {
        let text = platform.text("wild", "/fork?count=10000");
        let (made, refused) = text.trim().strip_prefix("made ").unwrap().split_once(", refused ").unwrap();
        let (made, refused): (u32, u32) = (made.parse().unwrap(), refused.parse().unwrap());
        assert_eq!(made + refused, 10_000);
        assert!(made > 100 && made < 256, "{text}");
        assert!(platform.text("wild", "/").starts_with("version=1 "));
    });
}

#[test]
fn a_flood_of_output_is_counted_and_disturbs_nobody() {
    let Some(platform) = TestPlatform::start() else { return };
    check_neighbours_do_not_notice(&platform, |platform| {
        platform.text("wild", "/say?text=before");
        platform.logged("wild", "app[web.1]: before");
        platform.text("wild", &format!("/flood?seconds={FLOOD_SECONDS}"));
        // Its own lines would hide it.
        let session = json!({"lines": 10, "source": "heroku", "dyno": "logplex"});
        let line = wait_for("L10", || platform.logs_of("wild", &session).pop());
        assert!(line.contains("heroku[logplex]: Error L10 (output buffer overflow): "), "{line}");
        platform.text("calm", "/say?text=undisturbed");
        platform.logged("calm", "app[web.1]: undisturbed");
        // What the app says after its flood is heard again.
        wait_for("the flood is over", || {
            platform.text("wild", "/say?text=after");
            platform.logs("wild").into_iter().find(|line| line.ends_with("app[web.1]: after"))
        });
        let lines = platform.logs_of("wild", &json!({"lines": 1500, "source": "heroku", "dyno": "logplex"}));
        let count = |line: &String| line.split("overflow): ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let dropped_bytes = lines.iter().filter_map(count).sum::<u64>() * FLOOD_LINE_BYTES;
        println!("{} MB in {FLOOD_SECONDS} s were dropped and counted", dropped_bytes / 1_000_000);
        // How fast it is depends on the machine; that it is a flood does not.
        assert!(dropped_bytes > 30_000_000, "{lines:?}");
    });
}

#[test]
fn a_full_ephemeral_disk_ends_its_dyno_alone() {
    let Some(platform) = TestPlatform::with_limits("dyno_disk_mib = 64") else { return };
    check_neighbours_do_not_notice(&platform, |platform| {
        // Refused by the file system, or measured and stopped: both keep the limit.
        let answer = platform.visit("wild", "/fill?mib=4000").map(|answer| answer.text()).unwrap_or_default();
        if !answer.contains("refused") {
            platform.logged("wild", "The process wrote more to its ephemeral disk than it may");
        }
        is_back(platform, "wild");
    });
}

#[test]
fn a_crash_loop_is_slowed_down() {
    let limits = "restart_backoff_min_seconds = 1\nrestart_backoff_max_seconds = 2";
    let Some(platform) = TestPlatform::with_limits(limits) else { return };
    platform.create("shop");
    platform.serve("shop", &Source::procfile("worker: echo trying; exit 1\n"));
    platform.scale("shop", "worker", 1);
    let times = wait_for("six starts", || {
        let lines = platform.logs("shop");
        let starts = lines.iter().filter(|line| line.contains("heroku[worker.1]: Starting process"));
        let times: Vec<Timestamp> = starts.map(|line| time_of(line)).collect();
        (times.len() >= 6).then_some(times)
    });
    let pauses: Vec<f64> = times.windows(2).map(|two| two[1].duration_since(two[0]).as_secs_f64()).collect();
    // At once, then twice as long each time, up to the longest: without that the last one would be eight seconds.
    for (pause, least) in pauses.iter().zip([0.0, 1.0, 2.0, 2.0, 2.0]) {
        assert!((least..least + 5.0).contains(pause), "{pauses:?}");
    }
    assert_eq!(platform.dynos("shop")[0]["type"], json!("worker"));
    platform.logged("shop", "State changed from up to crashed");
}

/// When a line of a log was written.
fn time_of(line: &str) -> Timestamp {
    line.split(' ').next().unwrap().parse().unwrap()
}
