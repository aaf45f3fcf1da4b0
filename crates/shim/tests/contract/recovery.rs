//! What survives the death of the launcher, of the shim, and of both.

use std::path::Path;
use std::time::Duration;

use shim::client::{self, Connection, Observed, observe};
use wire::shim::{ExitReason, Request, Response};

use crate::harness::{Dyno, EXE, eventually, has_ended, kill};

const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done";

#[tokio::test]
async fn a_killed_shim_is_replaced_without_the_process_noticing() {
    let dyno = Dyno::shell(COUNTER);
    let before = dyno.launch().await.unwrap();
    eventually("some lines", || (dyno.lines("out").len() > 50).then_some(())).await;
    kill(before.shim.pid);
    let lost = eventually("a lost shim", || has_ended(before.shim.pid).then_some(())).await;
    let () = lost;
    assert_eq!(observe(&dyno.run_dir(), &dyno.spec.instance).await.unwrap(), Observed::ShimLost(before.clone()));

    let after = client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap();
    assert_eq!(after.init, before.init);
    assert_ne!(after.shim, before.shim);
    assert_eq!(observe(&dyno.run_dir(), &dyno.spec.instance).await.unwrap(), Observed::Running(after));
    let seen = dyno.lines("out").len();
    eventually("more lines", || (dyno.lines("out").len() > seen + 50).then_some(())).await;

    dyno.ask(Request::Stop { grace_ms: 20_000 }).await;
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Stopped, Some(143)));
    let lines = dyno.lines("out");
    let wrong = lines.iter().zip(1..).find(|(line, number)| **line != number.to_string());
    assert_eq!(wrong, None, "a line was lost or doubled");
}

#[tokio::test]
async fn an_end_that_no_shim_saw_is_still_known() {
    let dyno = Dyno::shell("echo ready; read line < /tmp/go; exit 5");
    let dyno_script = "mkfifo /tmp/go; echo ready; read line < /tmp/go; exit 5";
    let mut dyno = dyno;
    dyno.spec.command = vec!["/bin/sh".to_owned(), "-c".to_owned(), dyno_script.to_owned()];
    let state = dyno.launch().await.unwrap();
    dyno.says("ready").await;
    kill(state.shim.pid);
    eventually("a lost shim", || has_ended(state.shim.pid).then_some(())).await;
    // The process's own scratch directory, seen from outside.
    std::fs::write(dyno.run_dir().join("layers/0/go"), "go\n").unwrap();
    let gone = || (!Path::new(&format!("/proc/{}", state.init.pid)).exists()).then_some(());
    eventually("the end of the process", gone).await;
    assert_eq!(observe(&dyno.run_dir(), &dyno.spec.instance).await.unwrap(), Observed::Gone);

    let error = client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap_err().to_string();
    assert!(error.contains("had ended"), "{error}");
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(5)));
    assert_eq!(observe(&dyno.run_dir(), &dyno.spec.instance).await.unwrap(), Observed::Ended(exit));
}

#[tokio::test]
async fn an_end_that_nobody_could_see_is_unknown_and_never_a_success() {
    let dyno = Dyno::shell("echo ready; exec sleep 1000");
    let state = dyno.launch().await.unwrap();
    dyno.says("ready").await;
    kill(state.shim.pid);
    kill(state.init.pid);
    eventually("the end", || (!Path::new(&format!("/proc/{}", state.init.pid)).exists()).then_some(())).await;
    client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap_err();
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Unknown, None));
}

#[tokio::test]
async fn a_second_shim_is_refused_while_the_first_serves() {
    let dyno = Dyno::shell("exec sleep 1000");
    dyno.launch().await.unwrap();
    let error = client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap_err().to_string();
    assert!(error.contains("another shim"), "{error}");
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}

#[tokio::test]
async fn the_process_belongs_to_nobody_who_could_take_it_along() {
    let dyno = Dyno::shell("exec sleep 1000");
    let state = dyno.launch().await.unwrap();
    let [parent, session] = parent_and_session(&state.shim.pid.to_string());
    assert_ne!(parent, i32::try_from(std::process::id()).unwrap());
    assert_ne!(session, parent_and_session("self")[1]);
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}

/// As the kernel says it: 0 for a parent or a session leader outside the reader's PID namespace.
fn parent_and_session(process: &str) -> [i32; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
    let numbers: Vec<i32> = fields.skip(1).take(3).map(|field| field.parse().unwrap()).collect();
    [numbers[0], numbers[2]]
}

#[tokio::test]
async fn several_clients_are_served_and_all_learn_of_the_end() {
    let dyno = Dyno::shell("exec sleep 1000");
    dyno.launch().await.unwrap();
    let mut first = dyno.connect().await;
    let mut second = dyno.connect().await;
    let Response::Statistics { statistics } = first.request(&Request::Statistics).await.unwrap() else { panic!() };
    assert!(statistics.processes <= 2);
    let stranger = Connection::connect(&dyno.run_dir(), "00000000").await.unwrap_err().to_string();
    assert!(stranger.contains("refused"), "{stranger}");
    second.request(&Request::Kill).await.unwrap();
    assert_eq!(first.exited().await.unwrap(), second.exited().await.unwrap());
}

#[tokio::test]
async fn nothing_of_a_running_dyno_holds_the_pipes_of_its_launcher() {
    let dyno = Dyno::shell("exec sleep 1000");
    let state = dyno.launch().await.unwrap();
    for pid in [state.shim.pid, state.init.pid] {
        for descriptor in 0..3 {
            let link = format!("/proc/{pid}/fd/{descriptor}");
            // The shim's answer and the closing of its pipes are two steps.
            let is_null = || (std::fs::read_link(&link).unwrap() == Path::new("/dev/null")).then_some(());
            eventually("standard stream on /dev/null", is_null).await;
        }
    }
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}

#[tokio::test]
async fn only_the_shim_itself_is_left_to_pid_1() {
    // Adopts orphans as PID 1 does, and counts them. This shim fails at once, for there is nothing to recover.
    let script = "import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
adopted = 0
try:
    while True: os.wait(); adopted += 1
except ChildProcessError: print(adopted)";
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("/usr/bin/python3");
    let output = command.args(["-c", script, EXE, "shim", "--recover"]).arg(dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{output:?}");
}

#[tokio::test]
async fn shims_killed_at_any_moment_lose_no_line_and_double_none() {
    // Lines leave in pieces, several at once, some longer than a record; both streams have one without an end.
    let script = "import os, random, sys, time
seed = int(sys.argv[1]); random.seed(seed)
pending = {1: b'', 2: b''}
for number in range(1, 60001):
    for stream in (1, 2):
        pending[stream] += b'%d%s\\n' % (number, b' ' + b'x' * 9000 if number % 997 == 0 else b'')
        while len(pending[stream]) > 40:
            count = random.randrange(1, len(pending[stream]) + 1)
            os.write(stream, pending[stream][:count]); pending[stream] = pending[stream][count:]
    if number % 20 == 0: time.sleep(0.0005)
for stream in (1, 2): os.write(stream, pending[stream] + b'end')";
    let seed = std::process::id();
    println!("SEED={seed}");
    let mut dyno = Dyno::command(&["/usr/bin/python3", "-c", script, &seed.to_string()]);
    dyno.spec.log.segment_bytes = 1 << 20;
    dyno.spec.log.segments_max = 100;
    let mut state = dyno.launch().await.unwrap();
    let mut random = u64::from(seed);
    let mut kills = 0;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros((random >> 33) % 30_000)).await;
        kill(state.shim.pid);
        kills += 1;
        // A killed process ends what it does in the kernel first, and holds its lock so long.
        eventually("the end of the shim", || has_ended(state.shim.pid).then_some(())).await;
        match client::recover(Path::new(EXE), &dyno.run_dir()).await {
            Ok(recovered) => state = recovered,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("ended"), "{error}");
                break;
            }
        }
    }
    let exit = dyno.exit().await;
    println!("{kills} kills");
    assert!(kills > 10, "{kills} kills, {exit:?}");
    for tag in ["out", "err"] {
        let mut lines = dyno.lines(tag);
        assert_eq!(lines.pop().as_deref(), Some("end"));
        let first_wrong =
            lines.iter().zip(1..).find(|(line, number)| line.split(' ').next() != Some(&number.to_string()));
        assert_eq!(first_wrong, None, "of {} lines in {tag}, after {kills} kills", lines.len());
        assert_eq!(lines.len(), 60_000);
    }
}

#[tokio::test]
async fn the_last_words_of_a_process_without_a_shim_are_kept() {
    let dyno = Dyno::shell("mkfifo /tmp/go; echo ready; read line < /tmp/go; seq 20000; printf 'no end'; exit 5");
    let state = dyno.launch().await.unwrap();
    dyno.says("ready").await;
    kill(state.shim.pid);
    eventually("a lost shim", || has_ended(state.shim.pid).then_some(())).await;
    let status = dyno.run_dir().join("init-status");
    std::fs::write(dyno.run_dir().join("layers/0/go"), "go\n").unwrap();
    eventually("the end of the app", || (std::fs::metadata(&status).unwrap().len() > 0).then_some(())).await;
    client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap();
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(5)));
    let lines = dyno.lines("out");
    assert_eq!((lines.len(), lines.last().map(String::as_str)), (20_002, Some("no end")));
}

#[tokio::test]
async fn a_kill_between_the_log_and_its_note_neither_doubles_nor_loses() {
    // As many bytes of the last write's records are taken from the log again: none, a part of a record, two and a half.
    for cut_bytes in [0, 1, 60] {
        let dyno = Dyno::command(&["/usr/bin/python3", "-c", SPEAKER]);
        let state = dyno.launch().await.unwrap();
        dyno.says("first").await;
        // The line is in the log a moment before the note says so: the fifth word, where the next line begins.
        let path = dyno.run_dir().join("pending");
        let is_about_it = |note: &Vec<u8>| note.get(32..40) == Some(&11_u64.to_ne_bytes());
        let note = eventually("the note", || std::fs::read(&path).ok().filter(is_about_it)).await;
        std::fs::write(dyno.run_dir().join("layers/0/go"), "").unwrap();
        dyno.says("seventh").await;
        kill(state.shim.pid);
        eventually("a lost shim", || has_ended(state.shim.pid).then_some(())).await;
        // As if it had been killed after the write to the log, or in the middle of it.
        std::fs::write(dyno.run_dir().join("pending"), note).unwrap();
        let segment = std::fs::read_dir(dyno.run_dir().join("log")).unwrap().next().unwrap().unwrap().path();
        let log = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
        log.set_len(log.metadata().unwrap().len() - cut_bytes).unwrap();

        client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap();
        dyno.ask(Request::Stop { grace_ms: 20_000 }).await;
        dyno.exit().await;
        let expected = ["half first", "second", "third", "", "fifth", "sixth", "seventh", "unfinished"];
        assert_eq!(dyno.lines("out"), expected, "{cut_bytes} bytes cut");
    }
}

/// Says one line and a half, waits, and says the rest in one piece.
const SPEAKER: &str = "import os, time
os.write(1, b'half first\\nsec')
while not os.path.exists('/tmp/go'): time.sleep(0.01)
os.write(1, b'ond\\nthird\\n\\nfifth\\nsixth\\nseventh\\nunfinished')
time.sleep(1000)";
