//! Processes that somebody is attached to: terminals, pipes, ends of input, hang-ups.

use shim::client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use wire::shim::{Attach, ExitReason, Request, Response, Terminal};

use crate::harness::{Dyno, PATIENCE, eventually};

const SIZE: Terminal = Terminal { rows: 30, columns: 100 };

fn on_a_terminal(script: &str) -> Dyno {
    attached(script, Attach { terminal: Some(SIZE), wait_ms: 20_000 })
}

fn on_pipes(script: &str) -> Dyno {
    attached(script, Attach { terminal: None, wait_ms: 20_000 })
}

fn attached(script: &str, attach: Attach) -> Dyno {
    let mut dyno = Dyno::shell(script);
    dyno.spec.attach = Some(attach);
    dyno
}

/// A client, and what it has read so far.
struct Client {
    stream: UnixStream,
    seen: String,
}

impl Client {
    async fn of(dyno: &Dyno) -> Self {
        dyno.launch().await.unwrap();
        Self { stream: client::attach(&dyno.run_dir()).await.unwrap(), seen: String::new() }
    }

    async fn types(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn sees(&mut self, text: &str) {
        let read = async {
            while !self.seen.contains(text) {
                assert!(self.more().await, "closed before {text:?}: {:?}", self.seen);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).await.unwrap();
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    async fn rest(mut self) -> String {
        let read = async { while self.more().await {} };
        tokio::time::timeout(PATIENCE, read).await.unwrap();
        self.seen
    }
}

#[tokio::test]
async fn a_terminal_has_a_name_a_size_and_job_control() {
    let dyno = on_a_terminal("tty; stty size; set -m; read word; stty size; echo \"got $word\"; exit 3");
    let mut client = Client::of(&dyno).await;
    client.sees("30 100").await;
    assert!(client.seen.starts_with("/dev/pts/"), "{}", client.seen);
    let resize = Request::Resize { terminal: Terminal { rows: 50, columns: 132 } };
    assert_eq!(dyno.ask(resize).await, Response::Done);
    client.types("hello\n").await;
    client.sees("50 132").await;
    let seen = client.rest().await;
    assert!(seen.contains("got hello\r\n"), "{seen}");
    assert!(!seen.contains("job control"), "{seen}");
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(3)));
    assert_eq!(dyno.lines("out"), [""; 0], "its output is its client's");
}

#[tokio::test]
async fn keys_of_a_terminal_interrupt_and_end_input() {
    let dyno = on_a_terminal("trap 'echo interrupted' INT; echo ready; cat; echo over");
    let mut client = Client::of(&dyno).await;
    client.sees("ready").await;
    client.types("one\n").await;
    client.sees("one\r\none\r\n").await;
    client.types("\u{3}").await;
    client.sees("interrupted").await;
    let seen = client.rest().await;
    assert!(seen.ends_with("over\r\n"), "{seen}");

    let dyno = on_a_terminal("echo ready; wc -l");
    let mut client = Client::of(&dyno).await;
    client.sees("ready").await;
    client.types("a\nb\n").await;
    client.stream.shutdown().await.unwrap();
    assert!(client.rest().await.ends_with("2\r\n"));
}

#[tokio::test]
async fn pipes_carry_every_byte_both_ways() {
    let dyno = on_pipes("cat; echo end >&2");
    let client = Client::of(&dyno).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    let (mut from, mut to) = client.stream.into_split();
    let expected = [sent.as_slice(), b"end\n"].concat();
    let writing = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
        to
    });
    let mut received = Vec::new();
    tokio::time::timeout(PATIENCE, from.read_to_end(&mut received)).await.unwrap().unwrap();
    assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    writing.await.unwrap();
    assert_eq!(dyno.exit().await.status, Some(0));
}

#[tokio::test]
async fn what_a_process_wrote_before_its_client_came_is_not_lost() {
    let dyno = on_a_terminal("echo early; exit 7");
    let state = dyno.launch().await.unwrap();
    eventually("the end of the process", || crate::harness::has_ended(state.init.pid).then_some(())).await;
    assert!(!dyno.run_dir().join(wire::shim::EXIT_FILE).exists());
    let stream = client::attach(&dyno.run_dir()).await.unwrap();
    assert_eq!(Client { stream, seen: String::new() }.rest().await, "early\r\n");
    assert_eq!(dyno.exit().await.status, Some(7));
}

#[tokio::test]
async fn a_client_that_leaves_hangs_the_process_up() {
    let dyno = on_a_terminal("echo ready; sleep 1000");
    let mut client = Client::of(&dyno).await;
    client.sees("ready").await;
    drop(client);
    let exit = dyno.exit().await;
    assert_eq!((exit.reason, exit.status), (ExitReason::Signalled, Some(129)));
    assert_eq!(dyno.lines("shim")[0], "Client connection closed. Sending SIGHUP to all processes");
}

#[tokio::test]
async fn a_process_that_nobody_attaches_to_is_killed() {
    let dyno = attached("sleep 1000", Attach { terminal: Some(SIZE), wait_ms: 300 });
    dyno.launch().await.unwrap();
    assert_eq!(dyno.exit().await.reason, ExitReason::Killed);
    assert_eq!(dyno.lines("shim")[0], "Error R13 (Attach error) -> Failed to attach to process");
}

#[tokio::test]
async fn only_one_client_can_attach() {
    let dyno = on_pipes("echo ready; cat");
    let mut client = Client::of(&dyno).await;
    client.sees("ready").await;
    client::attach(&dyno.run_dir()).await.unwrap_err();
    client.stream.shutdown().await.unwrap();
    client.rest().await;
    assert_eq!(dyno.exit().await.status, Some(0));
}
