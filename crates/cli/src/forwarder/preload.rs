//! What we have the client's Node.js load before the client.
//!
//! The client speaks SSH to port 80 of the host that the server names, and nothing makes it take another port. Port 80 is
//! closed to ordinary users, and the router's on the server. So the host has a name that exists nowhere else, and
//! connections to it come to the forwarder: those of the client's own SSH, and those of OpenSSH's client that it starts
//! (`ps:exec --ssh`). What it would ask a host of Heroku's over TLS, for which nobody here has a certificate, it asks the
//! forwarder without. And some commands end with a line of [`ADVICE`]. Nothing else in the client changes.

use super::HEROKU_DOMAINS;
use super::advice::{ADVICE, LEADING_ELSEWHERE};

/// The host that the client is told to speak SSH to.
pub(super) const HOST: &str = "ps-exec.berth.internal";

/// What the module begins with, by which one of an earlier forwarder is found.
const BEGIN: &str = "--import=data:text/javascript,/*berth*/";

/// The value of `NODE_OPTIONS`: what is in it already, and our module.
pub(super) fn node_options(given: Option<&str>, port: u16) -> String {
    let words = given.unwrap_or_default().split(' ').filter(|word| !word.is_empty() && !word.starts_with(BEGIN));
    let module = format!(
        "import net from 'node:net';\
         const connect = net.Socket.prototype.connect;\
         net.Socket.prototype.connect = function (...given) {{\
         const options = Array.isArray(given[0]) ? given[0][0] : given[0];\
         if (options && options.host === '{HOST}') {{ options.host = '127.0.0.1'; options.port = {port}; }}\
         return connect.apply(this, given); }};\
         import http from 'node:http';\
         import https from 'node:https';\
         const secure = https.request;\
         https.request = (options, ...given) => /(^|[.])({domains})$/.test(options && options.host) ?\
         http.request({{ ...options, protocol: 'http:', host: '127.0.0.1', port: {port}, agent: undefined }}, ...given) :\
         secure(options, ...given);\
         import child from 'node:child_process';\
         const run = child.execSync;\
         child.execSync = (line, ...given) => run(\
         typeof line === 'string' && line.startsWith('ssh ') && line.includes('@{HOST} ') ?\
         line.replace('-p 80 ', '-p {port} -o HostName=127.0.0.1 -o \"HostKeyAlias=[{HOST}]:80\" ') : line, ...given);\
         import fs from 'node:fs';\
         const advices = new Map(Object.entries({advice}));\
         let topic = process.argv[2] ?? '';\
         while (topic && !advices.has(topic)) topic = topic.slice(0, Math.max(topic.lastIndexOf(':'), 0));\
         const advice = advices.get(topic);\
         if (advice) process.on('exit', code => {{ if (code || {elsewhere}.includes(topic)) \
         fs.writeSync(2, ' !    ' + advice + '\\n'); }});",
        advice = advice(),
        elsewhere = serde_json::json!(LEADING_ELSEWHERE),
        domains = HEROKU_DOMAINS.map(|domain| domain.replace('.', "[.]")).join("|"),
    );
    words.map(str::to_owned).chain([format!("{BEGIN}{}", encoded(&module))]).collect::<Vec<_>>().join(" ")
}

/// As an object of JavaScript's.
fn advice() -> serde_json::Value {
    ADVICE
        .iter()
        .map(|(command, text)| ((*command).to_owned(), serde_json::Value::from(*text)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// As a part of a URL and a word of `NODE_OPTIONS` alike: without blanks, quotes and backslashes.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b';' | b':' | b',' | b'(' | b')' | b'=' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_stays_and_there_is_one_module() {
        let first = node_options(None, 1234);
        assert!(first.starts_with(BEGIN) && first.contains("1234") && !first.contains([' ', '\'', '"']), "{first}");
        let second = node_options(Some(&format!("--no-warnings {first} --trace-exit")), 99);
        let words: Vec<&str> = second.split(' ').collect();
        assert_eq!(words.len(), 3, "{second}");
        assert!(words[..2] == ["--no-warnings", "--trace-exit"] && words[2].contains("=%2099"), "{second}");
    }
}
