use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Reply, Server};

const DYNO: &str = "00000000-0000-0000-0000-0000000000d1";
const RESULT: &str = "GET /berth/apps/shop/runs/00000000-0000-0000-0000-0000000000d1";
const STOP: &str = "POST /apps/shop/dynos/run.1234/actions/stop";

fn result(state: &str, status: Option<i32>, reason: Option<&str>) -> Reply {
    Reply::json(&json!({"id": DYNO, "name": "run.1234", "state": state, "exit_status": status, "exit_reason": reason}))
}

fn server() -> Server {
    let server = Server::start();
    let run = json!({
        "dyno": {
            "app": {"id": Uuid::nil(), "name": "shop"}, "attach_url": null, "command": "x",
            "created_at": "2026-11-23T04:30:00Z", "id": DYNO, "name": "run.1234",
            "release": {"id": Uuid::nil(), "version": 6}, "size": "basic", "state": "starting", "type": "run",
            "updated_at": "2026-11-23T04:30:00Z"
        },
        "output_stream_url": format!("{}/output", server.url)
    });
    server
        .on("POST /berth/apps/shop/runs", [Reply::json(&run)])
        .on("GET /output", [Reply::text("hello\nworld")])
        .on(STOP, [Reply::json(&json!({}))])
        .on(RESULT, [result("up", None, None), result("exited", Some(3), Some("exited"))]);
    server
}

#[test]
fn the_output_and_the_exit_code_are_the_processs_own() {
    let server = server();
    let args = ["run", "--release", "v6", "--size", "standard-2x", "-e", "DEBUG=1", "--", "bash", "-c", "exit 3"];
    let ended = server.client(&args).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "hello\nworld"), "{ended:?}");
    let body: Value = server.seen("POST /berth/apps/shop/runs")[0].json();
    assert_eq!(body["command"], "bash -c 'exit 3'");
    assert_eq!(body["env"], json!({"DEBUG": "1"}));
    assert_eq!((&body["release"], &body["size"]), (&json!("v6"), &json!("standard-2x")));
}

#[test]
fn options_after_the_command_belong_to_it() {
    let server = server();
    server.on(RESULT, [result("exited", Some(0), Some("exited"))]);
    let ended = server.client(&["run", "ls", "-a", "--json"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\nworld"), "{ended:?}");
    assert_eq!(server.seen("POST /berth/apps/shop/runs")[0].json()["command"], "ls -a --json");
}

#[test]
fn a_process_that_was_killed_is_never_a_success() {
    let server = server();
    server.on(RESULT, [result("exited", Some(137), Some("out_of_memory"))]);
    let ended = server.client(&["run", "x"]).end();
    assert_eq!(ended.code, Some(137));
    assert!(ended.stderr.contains(" !    run.1234 was killed because it used more memory"), "{ended:?}");
    server.on(RESULT, [result("exited", None, Some("unknown"))]);
    assert_eq!(server.client(&["run", "x"]).end().code, Some(1));
}

#[test]
fn a_broken_stream_is_resumed_and_shown_once() {
    let server = server();
    server.on("GET /output", [Reply::text("hel").cut(), Reply::text("hello\nwor").cut(), Reply::text("hello\nworld")]);
    let ended = server.client(&["run", "x"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "hello\nworld"), "{ended:?}");
}

#[test]
fn an_expired_stream_does_not_hide_the_result() {
    let server = server();
    server.on("GET /output", [Reply::error(404, "not_found", "gone")]);
    let ended = server.client(&["run", "x"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{ended:?}");
}

#[test]
fn ctrl_c_stops_the_one_off_and_waits_for_its_end() {
    let server = server();
    server.on("GET /output", [Reply::text("working\n").open(), Reply::text("working\nstopped\n")]);
    server.on(RESULT, [result("exited", Some(143), Some("signalled"))]);
    let (child, _home) = server.client(&["run", "x"]).spawn();
    server.wait_for("GET /output", 1);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    server.wait_for(STOP, 1);
    // The first signal has been taken; the second has its usual effect.
    kill_process(pid, Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(Signal::INT.as_raw()));
    assert_eq!(server.seen(STOP).len(), 1);
    assert!(String::from_utf8(output.stderr).unwrap().contains("Stopping run.1234"));
}

#[test]
fn a_refused_run_is_an_error_in_the_servers_words() {
    let server = server();
    server.on("POST /berth/apps/shop/runs", [Reply::error(422, "invalid_params", "v1 has no code to run.")]);
    let ended = server.client(&["run", "x"]).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), " !    v1 has no code to run.\n"));
}
