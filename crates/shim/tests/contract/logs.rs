//! Output: every line, in order, whole.

use wire::segment::SegmentReader;
use wire::shim::{LOG_DIR, LogLimits, Request};

use crate::harness::{Dyno, PATIENCE};

#[tokio::test]
async fn hundreds_of_thousands_of_lines_arrive_complete_and_in_order() {
    let mut dyno = Dyno::command(&["/usr/bin/seq", "300000"]);
    dyno.spec.log = LogLimits { segment_bytes: 8 << 20, segments_max: 4 };
    let (exit, lines) = dyno.run().await;
    assert_eq!(lines.len(), 300_000);
    let wrong = lines.iter().zip(1..).find(|(line, number)| **line != number.to_string());
    assert_eq!(wrong, None);
    assert_eq!(exit.last_log_sequence, 300_001);
}

#[tokio::test]
async fn pieces_become_lines_and_long_lines_become_pieces() {
    let script = "import os, time
w = lambda piece: os.write(1, piece)
for piece in (b'one', b' li', b'ne\\n\\n', b'\\xff\\x00two\\nun'): w(piece); time.sleep(0.02)
w(b'x' * 25000 + b'\\n'); w(b'without an end')";
    let dyno = Dyno::command(&["/usr/bin/python3", "-u", "-c", script]);
    let (_, lines) = dyno.run().await;
    assert_eq!(lines[..3], ["one line", "", "\u{fffd}\u{0}two"]);
    let long = lines[3..lines.len() - 1].concat();
    assert_eq!(long, format!("un{}", "x".repeat(25_000)));
    assert!(lines[3..].iter().all(|line| line.len() <= 10_000));
    assert_eq!(lines.last().unwrap(), "without an end");
}

#[tokio::test]
async fn a_flood_is_bounded_on_disk_and_counted() {
    let mut dyno =
        Dyno::shell("yes 'a line of a flood that never ends and says nothing' | head -c 120000000; echo over >&2");
    dyno.spec.log = LogLimits { segment_bytes: 1 << 20, segments_max: 2 };
    dyno.launch().await.unwrap();
    let exit = tokio::time::timeout(PATIENCE, dyno.exit()).await.unwrap();
    let dir = dyno.run_dir().join(LOG_DIR);
    let bytes: u64 = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 4 << 20, "{bytes}");
    let mut reader = SegmentReader::new(&dir, 0);
    let (mut seen, mut lost) = (0, 0);
    loop {
        let batch = reader.read().unwrap();
        if batch.records.is_empty() {
            break;
        }
        seen += batch.records.len() as u64;
        lost += batch.lost;
    }
    assert_eq!(seen + lost, exit.last_log_sequence);
    assert_eq!(exit.last_log_sequence, 120_000_000_u64.div_ceil(51) + 2, "lines, `over`, and the exit status");
}

#[tokio::test]
async fn two_streams_and_the_shim_have_their_own_tags() {
    let dyno = Dyno::shell("echo out; echo err >&2; sleep 1000");
    dyno.launch().await.unwrap();
    dyno.says("out").await;
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
    assert_eq!((dyno.lines("out"), dyno.lines("err")), (vec!["out".to_owned()], vec!["err".to_owned()]));
    assert_eq!(dyno.lines("shim"), ["Stopping process with SIGKILL", "Process exited with status 137"]);
}
