//! Sessions in which nobody writes end, and others do not.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::heroku_cli::Running;
use crate::left_over;
use crate::platform::TestPlatform;
use crate::session_ends::ended;
use crate::wait::wait_until;

const IDLE: Duration = Duration::from_secs(3);
const WORDS: &str = "This session is over: nothing was written in it, by you or to you, for 3s.";

#[test]
fn a_session_in_which_nobody_writes_ends_with_a_word_and_others_go_on() {
    let Some(platform) = TestPlatform::with_limits("session_idle_seconds = 3\nattach_seconds = 10") else { return };
    platform.python_web("shop");
    let token = platform.token.as_str();
    let start = |arguments: &[&str]| platform.start_as(token, arguments);
    // Longer than the limit, each of them, with less than it between two lines.
    let talking = "for n in 1 2 3 4 5 6; do echo $n; sleep 1; done; exit 7";
    let busy = [start(&["ps:exec", "--", talking]), start(&["run", "--stdin", "--", talking])];
    let mut listening = platform.client(platform.scratch(), &["run", "-a", "shop", "--stdin", "--", "wc -l; exit 8"]);
    let mut listening = listening.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();

    let exec = start(&["ps:exec", "--", "echo exec $((40 + 2)); sleep 6008"]);
    let run = start(&["run", "--stdin", "--", "echo run $((40 + 2)); sleep 6008"]);
    let mut input = listening.stdin.take().unwrap();
    let mut lines = 0;
    while began.elapsed() < 2 * IDLE {
        input.write_all(b"line\n").unwrap();
        lines += 1;
        std::thread::sleep(IDLE / 6);
    }
    drop(input);
    exec.waits_for("exec 42");
    run.waits_for("run 42");
    let heard = listening.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&heard.stdout);
    assert_eq!((heard.status.code(), out.trim()), (Some(8), lines.to_string().as_str()));
    for running in [exec, run] {
        ended(running, 255, WORDS);
    }
    wait_until("what ran there is hung up", || left_over::running(&platform.instance(), "sleep 6008").is_empty());
    for running in busy {
        ended(running, 7, "6");
    }

    // Nobody came at all.
    platform.ask("POST", "/apps/shop/dynos", &json!({"command": "cat", "attach": true}));
    platform.logged("shop", "Error R13 (Attach error) -> Failed to attach to process");
    wait_until("the one-off is gone", || platform.dynos("shop").len() == 1);
}

#[test]
fn heroku_is_told_when_a_session_was_silent_for_too_long() {
    let Some(platform) = TestPlatform::for_heroku_with("session_idle_seconds = 3") else { return };
    platform.python_web("shop");
    let line = "echo run $((40 + 2)); sleep 6009";
    let run = Running::start(&mut platform.heroku_command(&["run", "-a", "shop", "--exit-code", line]));
    run.waits_for("run 42");
    ended(run, 255, WORDS);
    wait_until("what ran there is hung up", || left_over::running(&platform.instance(), "sleep 6009").is_empty());
}
