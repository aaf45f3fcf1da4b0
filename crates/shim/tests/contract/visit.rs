//! Somebody comes to a process that runs: what they are there, what they see, and how they leave.

use std::path::Path;

use shim::client::{self, VisitError, VisitStream, VisitStreams, Visiting};
use wire::shim::{Environment, Request, Terminal, Visit};

use crate::harness::{Dyno, EXE, PATIENCE, UID, eventually, has_ended, kill, needs_root, skip};

const SIZE: Terminal = Terminal { rows: 30, columns: 100 };

fn script(line: &str, terminal: Option<Terminal>) -> Visit {
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Visit::Command { command, environment: Environment::from([("ADDED".to_owned(), "yes".to_owned())]), terminal }
}

async fn resting(script: &str) -> Dyno {
    let mut dyno = Dyno::shell(script);
    dyno.environment.insert("GREETING".to_owned(), "hello".to_owned());
    dyno.launch().await.unwrap();
    dyno
}

async fn come(dyno: &Dyno, visit: &Visit) -> Result<(Visiting, VisitStreams), VisitError> {
    client::visit(Path::new(EXE), &dyno.run_dir(), visit).await
}

async fn end(dyno: &Dyno) {
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}

async fn rest(stream: &VisitStream) -> String {
    let mut text = String::new();
    let read = async {
        let mut bytes = [0; 4096];
        while let count @ 1.. = stream.read(&mut bytes).await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    text
}

/// Runs a line on pipes and gives its status, its output and its errors.
async fn ran(dyno: &Dyno, line: &str, input: &str) -> (i32, String, String) {
    let (mut visiting, streams) = come(dyno, &script(line, None)).await.unwrap();
    let VisitStreams::Pipes { input: sink, output, errors } = streams else { unreachable!("no pipes") };
    sink.write_all(input.as_bytes()).await.unwrap();
    drop(sink);
    let (output, errors) = tokio::join!(rest(&output), rest(&errors));
    (visiting.ended().await.unwrap(), output, errors)
}

#[tokio::test]
async fn a_visitor_is_as_little_as_the_app_and_beside_it() {
    if skip("a_visitor_is_as_little_as_the_app_and_beside_it", needs_root()) {
        return;
    }
    let dyno = resting("exec sleep 1000").await;
    let (status, output, errors) = ran(
        &dyno,
        "id -u; uname -n; echo $GREETING $ADDED; pgrep -x sleep >/dev/null && echo sees it; pwd;\
         grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; cat; echo oops >&2; exit 7",
        "from outside\n",
    )
    .await;
    assert_eq!((status, errors.as_str()), (7, "oops\n"), "{output}");
    for line in [
        &format!("{UID}\ndyno-host\nhello yes\nsees it\n/\n"),
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Groups:\t \n",
        "from outside\n",
    ] {
        assert!(output.contains(line), "no {line:?} in {output}");
    }
    // Counted with the dyno, by the group that every process of it is in.
    let own = |path: &str| format!("[ \"$(cat /proc/self/{path})\" = \"$(cat /proc/1/{path})\" ] && echo same");
    assert_eq!(ran(&dyno, &own("cgroup"), "").await.1, "same\n");
    end(&dyno).await;
}

#[tokio::test]
async fn a_visitor_has_a_terminal_that_can_change_its_size() {
    let dyno = resting("exec sleep 1000").await;
    let line = "tty; stty size; read word; stty size; echo \"got $word\"; kill -TERM $$";
    let (mut visiting, streams) = come(&dyno, &script(line, Some(SIZE))).await.unwrap();
    let VisitStreams::One(terminal) = streams else { unreachable!("no terminal") };
    terminal.resize(Terminal { rows: 50, columns: 132 });
    terminal.write_all(b"hello\n").await.unwrap();
    let seen = rest(&terminal).await;
    assert!(seen.contains("/dev/pts/") && seen.contains("50 132\r\n") && seen.contains("got hello\r\n"), "{seen}");
    assert_eq!(visiting.ended().await.unwrap(), 128 + 15);
    end(&dyno).await;
}

#[tokio::test]
async fn signals_reach_a_visitor_and_leaving_hangs_it_up() {
    let dyno = resting("exec sleep 1000").await;
    let line = "trap 'echo usr1' USR1; trap 'echo hup; exit 3' HUP; echo ready; while :; do sleep 0.01; done";
    let (mut visiting, streams) = come(&dyno, &script(line, None)).await.unwrap();
    let VisitStreams::Pipes { output, .. } = streams else { unreachable!("no pipes") };
    let sees = async |text: &str| {
        let mut seen = String::new();
        let mut bytes = [0; 64];
        while !seen.contains(text) {
            let count = tokio::time::timeout(PATIENCE, output.read(&mut bytes)).await.unwrap().unwrap();
            assert_ne!(count, 0, "ended before {text}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    };
    sees("ready").await;
    visiting.signal(10).await.unwrap();
    sees("usr1").await;
    drop(visiting);
    sees("hup").await;
    end(&dyno).await;
}

#[tokio::test]
async fn the_end_of_the_dyno_ends_its_visitors() {
    let dyno = resting("exec sleep 1000").await;
    let (mut visiting, _streams) = come(&dyno, &script("exec sleep 2000", None)).await.unwrap();
    end(&dyno).await;
    assert_eq!(visiting.ended().await.unwrap(), 128 + 9);
    let error = come(&dyno, &script("true", None)).await.unwrap_err().to_string();
    assert!(error.contains("has ended"), "{error}");
}

#[tokio::test]
async fn a_dyno_that_lost_its_shim_can_be_visited() {
    if skip("a_dyno_that_lost_its_shim_can_be_visited", needs_root()) {
        return;
    }
    let mut dyno = Dyno::shell("exec sleep 1000");
    dyno.environment.insert("GREETING".to_owned(), "hello".to_owned());
    let state = dyno.launch().await.unwrap();
    kill(state.shim.pid);
    eventually("a lost shim", || has_ended(state.shim.pid).then_some(())).await;
    assert_eq!(ran(&dyno, "echo $GREETING", "").await.1, "hello\n");
    client::recover(Path::new(EXE), &dyno.run_dir()).await.unwrap();
    assert_eq!(ran(&dyno, "echo $GREETING", "").await.1, "hello\n");
    end(&dyno).await;
}

#[tokio::test]
async fn a_command_that_is_not_there_and_a_port_that_is_closed_are_refused() {
    let dyno = resting("exec sleep 1000").await;
    let missing =
        Visit::Command { command: vec!["/nonexistent".to_owned()], environment: Environment::new(), terminal: None };
    let error = come(&dyno, &missing).await.unwrap_err().to_string();
    assert!(error.contains("cannot execute /nonexistent"), "{error}");
    let closed = Visit::Connect { host: "127.0.0.1".to_owned(), port: 9 };
    let error = come(&dyno, &closed).await.unwrap_err().to_string();
    assert!(error.contains("cannot connect to 127.0.0.1:9"), "{error}");
    end(&dyno).await;
}

#[tokio::test]
async fn files_are_served_as_the_app_sees_them() {
    let dyno = resting("exec sleep 1000").await;
    let (_visiting, streams) = come(&dyno, &Visit::Files).await.unwrap();
    let VisitStreams::One(stream) = streams else { unreachable!("no stream") };
    // INIT with version 3, and REALPATH of ".".
    stream.write_all(b"\0\0\0\x05\x01\0\0\0\x03\0\0\0\x0a\x10\0\0\0\x01\0\0\0\x01.").await.unwrap();
    stream.end();
    let seen = rest(&stream).await;
    assert!(seen.starts_with("\0\0\0\x05\x02\0\0\0\x03") && seen.contains("\0\0\0\x01/"), "{seen:?}");
    end(&dyno).await;
}
