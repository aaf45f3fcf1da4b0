//! Exit codes, signals, stops, limits.

use wire::shim::{ExitReason, Mechanism, Request};

use crate::harness::{Dyno, needs_root, skip};

#[tokio::test]
async fn environment_and_arguments_arrive_and_nothing_else() {
    let mut dyno = Dyno::command(&["/bin/sh", "-c", "printf '%s|' \"$@\"; echo; env | sort", "sh", "a b", "", "ü"]);
    dyno.environment.insert("SECRET".to_owned(), "line one\nline two".to_owned());
    let (exit, lines) = dyno.run().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(0)));
    assert_eq!(lines[0], "a b||ü|");
    let variables: Vec<&str> = lines[1..].iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(variables, ["PATH", "PWD", "SECRET"]);
    assert!(lines.contains(&"line two".to_owned()));
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    for (script, reason, status) in [
        ("exit 3", ExitReason::Exited, 3),
        ("kill -SEGV $$", ExitReason::Signalled, 139),
        ("exit 139", ExitReason::Exited, 139),
    ] {
        let dyno = Dyno::shell(script);
        let (exit, _) = dyno.run().await;
        assert_eq!((exit.reason, exit.status), (reason, Some(status)), "{script}");
        assert_eq!(dyno.lines("shim"), [format!("Process exited with status {status}")]);
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_is_named() {
    let dyno = Dyno::command(&["no-such-program"]);
    let error = dyno.launch().await.unwrap_err().to_string();
    assert!(error.contains("cannot execute no-such-program"), "{error}");
    assert_eq!(dyno.exit().await.reason, ExitReason::NotStarted);
}

#[tokio::test]
async fn a_stop_lets_a_process_finish() {
    let dyno = Dyno::shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    dyno.launch().await.unwrap();
    dyno.says("ready").await;
    let mut connection = dyno.connect().await;
    connection.request(&Request::Stop { grace_ms: 20_000 }).await.unwrap();
    let exit = connection.exited().await.unwrap();
    assert_eq!((exit.reason, exit.status), (ExitReason::Stopped, Some(7)));
    assert_eq!(dyno.lines("out"), ["ready", "bye"]);
    assert_eq!(dyno.lines("shim"), ["Stopping all processes with SIGTERM", "Process exited with status 7"]);
}

#[tokio::test]
async fn a_stop_waits_for_the_children_of_a_shell_that_dies_first() {
    let child = "trap 'sleep 0.3; echo finished; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let dyno = Dyno::shell(&format!("sh -c \"{child}\"; true"));
    dyno.launch().await.unwrap();
    dyno.says("ready").await;
    dyno.ask(Request::Stop { grace_ms: 20_000 }).await;
    assert_eq!(dyno.exit().await.reason, ExitReason::Stopped);
    assert_eq!(dyno.lines("out"), ["ready", "finished"]);
}

#[tokio::test]
async fn a_tree_that_ignores_sigterm_is_killed_after_its_grace() {
    let dyno = Dyno::shell("trap '' TERM; (setsid sleep 1000 &) ; sleep 1000 & echo ready; wait; sleep 1000");
    dyno.launch().await.unwrap();
    dyno.says("ready").await;
    dyno.ask(Request::Stop { grace_ms: 1_000 }).await;
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::StopTimedOut, Some(137)));
    let expected = [
        "Stopping all processes with SIGTERM",
        "Error R12 (Exit timeout) -> Process failed to exit within 1 second of SIGTERM",
        "Stopping process with SIGKILL",
        "Process exited with status 137",
    ];
    assert_eq!(dyno.lines("shim"), expected);
}

#[tokio::test]
async fn a_deadline_ends_the_process() {
    let mut dyno = Dyno::shell("exec sleep 1000");
    dyno.spec.deadline_ms = Some(300);
    let (exit, _) = dyno.run().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::DeadlinePassed, Some(143)));
}

#[tokio::test]
async fn running_out_of_memory_is_reported_as_such() {
    let dyno = Dyno::command(&["/usr/bin/python3", "-c", "held = []\nwhile True: held.append(b'x' * (4 << 20))"]);
    let state = dyno.launch().await.unwrap();
    let limited = state.in_force.contains(&Mechanism::MemoryLimit);
    let exit = dyno.exit().await;
    if skip("running_out_of_memory_is_reported_as_such", (!limited).then_some("no memory controller")) {
        return;
    }
    assert_eq!((exit.reason, exit.status), (ExitReason::OutOfMemory, Some(137)));
    assert!(exit.out_of_memory_kills >= 1);
    assert!(exit.memory_peak_bytes >= 100 << 20, "{exit:?}");
}

#[tokio::test]
async fn a_fork_bomb_is_contained() {
    let script = "import os, time\nn = 0\nwhile True:\n  try:\n    if os.fork() == 0: time.sleep(1000)\n    n += 1\n  except OSError:\n    print('stopped at', n, flush=True); break\ntime.sleep(1000)";
    let mut dyno = Dyno::command(&["/usr/bin/python3", "-c", script]);
    dyno.spec.limits.processes_max = 20;
    let state = dyno.launch().await.unwrap();
    if skip(
        "a_fork_bomb_is_contained",
        (!state.in_force.contains(&Mechanism::ProcessLimit)).then_some("no pids controller"),
    ) {
        dyno.ask(Request::Kill).await;
        return;
    }
    let line = dyno.says("stopped at").await;
    let count: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count < 20, "{line}");
    dyno.ask(Request::Kill).await;
    assert_eq!(dyno.exit().await.reason, ExitReason::Killed);
}

#[tokio::test]
async fn a_full_ephemeral_disk_ends_the_process() {
    let mut dyno = Dyno::shell("dd if=/dev/zero of=/tmp/big bs=1M count=20 2>/dev/null; sleep 1000");
    dyno.spec.limits.disk_bytes = Some(10 << 20);
    let (exit, _) = dyno.run().await;
    assert_eq!(exit.reason, ExitReason::DiskFull);
    assert!(dyno.lines("shim")[0].starts_with("Ephemeral disk quota exceeded"));
}

#[tokio::test]
async fn a_launch_that_cannot_enforce_what_is_required_fails_and_leaves_nothing() {
    let mut dyno = Dyno::shell("sleep 1000");
    // Never both.
    dyno.spec.required = vec![Mechanism::CgroupV1, Mechanism::CgroupV2];
    let error = dyno.launch().await.unwrap_err().to_string();
    assert!(error.contains("cannot enforce"), "{error}");
}

#[tokio::test]
async fn what_is_in_force_is_told() {
    if skip("what_is_in_force_is_told", needs_root()) {
        return;
    }
    let dyno = Dyno::shell("sleep 1000");
    let state = dyno.launch().await.unwrap();
    for mechanism in [
        Mechanism::MountNamespace,
        Mechanism::PidNamespace,
        Mechanism::OwnUid,
        Mechanism::Seccomp,
        Mechanism::NoNewPrivileges,
    ] {
        assert!(state.in_force.contains(&mechanism), "{mechanism:?} in {:?}", state.in_force);
    }
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}
