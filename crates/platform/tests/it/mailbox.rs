//! Where the messages go that `berth notify:add` asks for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::wait::wait_for;

#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// In lower case.
    pub(crate) head: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) body: Value,
}

/// The head, in lower case, and the body of a message that comes whole.
fn read_message(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).ok()? > 0 {}
    head.make_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut bytes = vec![0; length.trim().parse().unwrap()];
    reader.read_exact(&mut bytes).ok()?;
    Some((head, bytes))
}

/// A place that messages go to; it refuses as many as it is told to.
pub(crate) struct Mailbox {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
    pub(crate) refuse: Arc<Mutex<u32>>,
}

impl Mailbox {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}/secret-path", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let refuse = Arc::new(Mutex::new(0));
        let (all, refusals) = (Arc::clone(&seen), Arc::clone(&refuse));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A server that is killed while it tells something has told nothing.
                let Some((head, bytes)) = read_message(&stream) else { continue };
                let mut left = refusals.lock().unwrap();
                let answer = if *left > 0 {
                    *left -= 1;
                    "500 No"
                } else {
                    let body = serde_json::from_slice(&bytes).unwrap();
                    all.lock().unwrap().push(Message { head, bytes, body });
                    "200 OK"
                };
                let reply = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(reply.as_bytes()).ok();
            }
        });
        Self { url, seen, refuse }
    }

    pub(crate) fn event(&self, kind: &str) -> Message {
        wait_for(&format!("a message about a {kind}"), || {
            self.seen.lock().unwrap().iter().find(|message| message.body["event"] == kind).cloned()
        })
    }

    pub(crate) fn text(&self, kind: &str) -> String {
        self.event(kind).body["text"].as_str().unwrap().to_owned()
    }
}
