//! Stands in for Cloudflare's API: what is put there is in the DNS that an authority asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::pebble::DnsManager;

pub(crate) const TOKEN: &str = "cloudflare-token-of-the-test";

#[derive(Debug)]
pub(crate) struct Cloudflare {
    pub(crate) endpoint: String,
    /// Names of records that stand there now, and of all that ever did.
    standing: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Cloudflare {
    /// Serves until the test ends.
    pub(crate) fn start(dns: DnsManager) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (standing, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let records = (Arc::clone(&standing), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut BufReader::new(stream.unwrap()), &dns, &records.0, &records.1);
            }
        });
        Self { endpoint, standing, seen }
    }

    pub(crate) fn standing(&self) -> Vec<String> {
        self.standing.lock().unwrap().clone()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(
    stream: &mut BufReader<TcpStream>,
    dns: &DnsManager,
    standing: &Mutex<Vec<String>>,
    seen: &Mutex<Vec<String>>,
) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    stream.by_ref().take(length).read_to_string(&mut body).unwrap();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let result = match line.split(' ').take(2).collect::<Vec<_>>()[..] {
        _ if !lower.contains(&format!("authorization: bearer {TOKEN}")) => None,
        ["GET", "/client/v4/zones?name=example.com"] => Some(json!([{ "id": "z1", "name": "example.com" }])),
        ["POST", "/client/v4/zones/z1/dns_records"] => {
            let record: Value = serde_json::from_str(&body).unwrap();
            let (name, content) = (record["name"].as_str().unwrap(), record["content"].as_str().unwrap());
            dns.tell("set-txt", &json!({ "host": format!("{name}."), "value": content.trim_matches('"') }));
            standing.lock().unwrap().push(name.to_owned());
            seen.lock().unwrap().push(name.to_owned());
            Some(json!({ "id": name }))
        }
        ["DELETE", path] => {
            let name = path.rsplit('/').next().unwrap();
            dns.tell("clear-txt", &json!({ "host": format!("{name}.") }));
            standing.lock().unwrap().retain(|other| other != name);
            Some(json!({ "id": name }))
        }
        _ => None,
    };
    let (status, answer) = match result {
        Some(result) => (200, json!({ "success": true, "errors": [], "result": result })),
        None => (403, json!({ "success": false, "errors": [{ "code": 1, "message": "no such thing for you" }] })),
    };
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    stream.get_mut().write_all(format!("{head}{answer}").as_bytes()).unwrap();
}
