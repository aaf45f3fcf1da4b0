//! Connections to hosts that are nobody's business: package registries, code hosts.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

/// Longest answer of a proxy to `CONNECT`, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Connects to `host:port`, through the proxy if there is one.
pub(super) fn elsewhere(target: &str, proxy: Option<&str>) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else { return TcpStream::connect(target) };
    let authority = proxy.split_once("://").map_or(proxy, |(_scheme, rest)| rest).trim_end_matches('/');
    let authority = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
    let mut stream = TcpStream::connect(authority)?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
    }
    let first = String::from_utf8_lossy(&answer);
    let status = first.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(stream) } else { Err(io::Error::other(format!("the proxy answered {status}"))) }
}
