//! As much of HTTP/1.1 as one client on this machine needs: a head, a body, an answer that ends with its connection.

use std::io::{self, BufRead, Read, Write};

use ureq::Body;
use ureq::http::Response;

use super::is_hop_by_hop;

/// Largest head in bytes. The client collects request ids up to 7 kB in one header.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
const HEADERS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _value)| known == name).map(|(_name, value)| value.as_str())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _value)| known != name);
    }
}

/// Reads the head of a request; `None` if the client had nothing more to say.
pub(super) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut limited = from.take(HEAD_BYTES_MAX);
    let mut line = || -> io::Result<String> {
        let mut text = String::new();
        limited.read_line(&mut text)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next().filter(|word| !word.is_empty()), words.next()) else {
        return Ok(None);
    };
    let mut head = Head { method: method.to_owned(), target: target.to_owned(), headers: Vec::new() };
    loop {
        let text = line()?;
        if text.is_empty() {
            return Ok(Some(head));
        }
        let (name, value) = text.split_once(':').ok_or_else(|| io::Error::other("not a header"))?;
        head.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        if head.headers.len() > HEADERS_MAX {
            return Err(io::Error::other("too many headers"));
        }
    }
}

/// The body of a request: as long as it says, in chunks, or none.
pub(super) fn body<'a>(head: &Head, from: &'a mut impl BufRead) -> Option<Box<dyn Read + 'a>> {
    if head.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some(Box::new(Chunked { from, left: 0, ended: false }));
    }
    let length = head.header("content-length").and_then(|value| value.parse::<u64>().ok());
    length.filter(|length| *length > 0).map(|length| Box::new(from.take(length)) as Box<dyn Read + 'a>)
}

/// RFC 9112, 7.1.
struct Chunked<'a, R> {
    from: &'a mut R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Read for Chunked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut line = String::new();
            self.from.take(1024).read_line(&mut line)?;
            if line.trim().is_empty() {
                // The line break after the last chunk.
                line.clear();
                self.from.take(1024).read_line(&mut line)?;
            }
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.ended = self.left == 0;
        }
        if self.ended {
            return Ok(0);
        }
        let count = self.from.take(self.left).read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Writes an answer whose end is the end of the connection, byte by byte as it comes.
pub(super) fn write_response(to: &mut impl Write, response: Response<Body>) -> io::Result<()> {
    let (parts, body) = response.into_parts();
    let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", parts.status);
    for (name, value) in &parts.headers {
        if !is_hop_by_hop(name.as_str()) {
            head.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    head.push_str("\r\n");
    to.write_all(head.as_bytes())?;
    let mut reader = body.into_reader();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

pub(super) fn write_text(to: &mut impl Write, status: &str, text: &str) -> io::Result<()> {
    write_whole(to, status, "text/plain", text)
}

pub(super) fn write_json(to: &mut impl Write, status: &str, text: &str) -> io::Result<()> {
    write_whole(to, status, "application/json", text)
}

fn write_whole(to: &mut impl Write, status: &str, kind: &str, text: &str) -> io::Result<()> {
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    to.write_all(format!("{head}\r\n{text}").as_bytes())
}

/// The value of an `Authorization` header with `token` in the place of `key`; `None` if the key is not in it.
pub(super) fn with_token(value: &str, key: &str, token: &str) -> Option<String> {
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return (credentials.trim() == key).then(|| format!("Bearer {token}"));
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| base64(credentials.trim()))??;
    let password = decoded.split_once(':')?.1;
    // The server takes a token from either form.
    (password == key).then(|| format!("Bearer {token}"))
}

/// Decodes base64; our keys and the names before them are plain text.
fn base64(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _other => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_body() {
        let mut text = &b"POST /apps HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcdef"[..];
        let head = read_head(&mut text).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.header("host")), ("POST", "/apps", Some("x")));
        let mut read = String::new();
        body(&head, &mut text).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "abc");
    }

    #[test]
    fn chunks_become_one_body() {
        let mut text =
            &b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"[..];
        let head = read_head(&mut text).unwrap().unwrap();
        let mut read = String::new();
        body(&head, &mut text).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "abcdefg");
    }

    #[test]
    fn only_the_local_key_becomes_the_token() {
        assert_eq!(with_token("Bearer k", "k", "t").as_deref(), Some("Bearer t"));
        assert_eq!(with_token("Basic Oms=", "k", "t").as_deref(), Some("Bearer t"));
        for other in ["Bearer other", "Basic YTpi", "Basic !!", "x"] {
            assert_eq!(with_token(other, "k", "t"), None, "{other}");
        }
    }
}
