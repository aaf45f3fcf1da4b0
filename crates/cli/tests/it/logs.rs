use std::io::{BufRead as _, BufReader};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Reply, Server};

const SESSIONS: &str = "POST /apps/shop/log-sessions";

fn server(replies: impl IntoIterator<Item = Reply>) -> Server {
    let server = Server::start();
    let session = json!({
        "created_at": "x", "id": Uuid::nil(), "logplex_url": format!("{}/stream", server.url), "updated_at": "x"
    });
    server.on(SESSIONS, [Reply::json(&session)]).on("GET /stream", replies);
    server
}

fn events(range: std::ops::RangeInclusive<u32>) -> Reply {
    let event = |n: u32| format!("id: {n}\ndata: 2026-01-02T03:04:05.123456+00:00 app[web.1]: line {n}\n\n");
    Reply::text(&range.map(event).collect::<String>())
}

#[test]
fn the_past_is_printed_and_the_command_ends() {
    let server = server([events(1..=2)]);
    let ended = server.client(&["logs", "-n", "2", "--dyno", "web", "--source", "app"]).end();
    let expect = "2026-01-02T03:04:05.123456+00:00 app[web.1]: line 1\n\
                  2026-01-02T03:04:05.123456+00:00 app[web.1]: line 2\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expect));
    let body = server.seen(SESSIONS)[0].json();
    assert_eq!(body, json!({"dyno": "web", "lines": 2, "source": "app", "tail": false}));
    assert!(!server.seen("GET /stream")[0].headers.contains_key("authorization"));
}

#[test]
fn more_lines_than_the_server_keeps_are_refused() {
    let server = server([events(1..=2)]);
    assert_eq!(server.client(&["logs", "-n", "1500"]).end().code, Some(0));
    let ended = server.client(&["logs", "-n", "5000"]).end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("5000") && ended.stderr.contains("1500"), "{ended:?}");
    assert_eq!(server.seen(SESSIONS).len(), 1);
}

#[test]
fn a_cut_log_is_not_passed_off_as_whole() {
    let server = server([events(1..=2).cut()]);
    let ended = server.client(&["logs"]).end();
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(1), 2));
    assert!(ended.stderr.contains("broke"), "{ended:?}");
}

#[test]
fn a_broken_tail_goes_on_after_the_last_line_that_was_seen() {
    let server = server([events(1..=2).cut(), events(3..=3), events(4..=4).open()]);
    let (mut child, _home) = server.client(&["logs", "--tail"]).spawn();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen: Vec<String> = lines.take(4).map(|line| line.unwrap().rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(seen, ["1", "2", "3", "4"]);
    let resumed: Vec<_> =
        server.seen("GET /stream").iter().map(|request| request.headers.get("last-event-id").cloned()).collect();
    assert_eq!(resumed, [None, Some("2".to_owned()), Some("3".to_owned())]);
    assert_eq!(server.seen(SESSIONS)[1].json()["lines"], 0);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let server = server([events(1..=50_000)]);
    let (mut child, _home) = server.client(&["logs"]).spawn();
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert!(first.ends_with("line 1\n"));
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(141), ""));
}
