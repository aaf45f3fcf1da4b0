//! Is a web dyno ready? Its port is bound and it answered one HTTP request, whatever the status.
//!
//! The probe looks like a request through the router from outside: the app's own `Host`, `X-Forwarded-Proto: https`.
//! Frameworks that check hosts or redirect to https then answer as they would to a visitor. A server of HTTP/2 alone has
//! answered when it has begun to speak that.

use std::net::SocketAddr;
use std::time::Duration;

use domain::duration_text;
use domain::routing::DynoProtocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Pause between attempts: short at first, when most apps come up, longer for slow ones.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One answer may take this long; a slow first request is normal, a second probe beside it only makes it slower.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of an answer that are looked at.
const HEAD_BYTES_MAX: usize = 4096;

/// What happened to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    NotListening,
    Answered(Answer),
    /// It speaks HTTP/2.
    Greeted,
    /// Connected, but what came back is not HTTP, or nothing came.
    NotHttp(String),
}

/// What the app answered, as far as it shows how visitors will fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where it sends the visitor.
    pub(crate) location: Option<String>,
}

/// Where and how a web dyno is probed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) protocol: DynoProtocol,
}

/// Probes until the dyno is ready and gives the answer, if it is one that says something. `seen` hears of every attempt,
/// for the boot timeout's words.
pub(crate) async fn wait(target: &Target, mut seen: impl FnMut(&Probe)) -> Option<Answer> {
    let mut pause = PAUSE_MIN;
    loop {
        let probe = match target.protocol {
            DynoProtocol::Http1 => probe(target.address, &target.host, "/", ANSWER_TIMEOUT).await,
            DynoProtocol::H2c => greet(target.address, ANSWER_TIMEOUT).await,
        };
        seen(&probe);
        match probe {
            Probe::Answered(answer) => return Some(answer),
            Probe::Greeted => return None,
            Probe::NotListening | Probe::NotHttp(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// One request, as a visitor of the app would send it. `limit` is for the head of the answer.
pub(crate) async fn probe(address: SocketAddr, host: &str, path: &str, limit: Duration) -> Probe {
    let Ok(Ok(mut stream)) = timeout(CONNECT_TIMEOUT.min(limit), TcpStream::connect(address)).await else {
        return Probe::NotListening;
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
         User-Agent: Berth-Probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !is_whole(&head) && head.len() < HEAD_BYTES_MAX {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(head)
    };
    match timeout(limit, exchange).await {
        Ok(Ok(head)) => read_answer(&head),
        Ok(Err(error)) => Probe::NotHttp(format!("it closed the connection ({error})")),
        Err(_elapsed) => Probe::NotHttp(format!("it sent no answer within {}", duration_text::show(limit))),
    }
}

/// Begins an HTTP/2 connection (RFC 9113, 3.4): each side sends its settings first.
pub(crate) async fn greet(address: SocketAddr, limit: Duration) -> Probe {
    const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const FRAME_HEAD_BYTES: usize = 9;
    const SETTINGS: u8 = 4;
    let Ok(Ok(mut stream)) = timeout(CONNECT_TIMEOUT.min(limit), TcpStream::connect(address)).await else {
        return Probe::NotListening;
    };
    let exchange = async {
        stream.write_all(PREFACE_AND_SETTINGS).await?;
        let mut head = [0; FRAME_HEAD_BYTES];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    match timeout(limit, exchange).await {
        Ok(Ok([_, _, _, SETTINGS, ..])) => Probe::Greeted,
        Ok(Ok(_other)) => Probe::NotHttp("it does not speak HTTP/2 without TLS (dyno-protocol=h2c)".to_owned()),
        Ok(Err(error)) => Probe::NotHttp(format!("it closed a connection for HTTP/2 ({error})")),
        Err(_elapsed) => Probe::NotHttp(format!("it sent no answer within {}", duration_text::show(limit))),
    }
}

/// Whether the head of the answer has ended, or never will: what does not begin as HTTP has no head.
fn is_whole(head: &[u8]) -> bool {
    let blank_line = |end: &[u8]| head.windows(end.len()).any(|bytes| bytes == end);
    blank_line(b"\r\n\r\n") || blank_line(b"\n\n") || (head.contains(&b'\n') && !head.starts_with(b"HTTP/"))
}

fn read_answer(head: &[u8]) -> Probe {
    if head.is_empty() {
        return Probe::NotHttp("it closed the connection without an answer".to_owned());
    }
    let line = String::from_utf8_lossy(head.split(|&byte| byte == b'\n').next().unwrap_or_default());
    let mut words = line.trim_end().splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse::<u16>().ok()).filter(|status| (100..600).contains(status));
    match status {
        Some(status) if version.starts_with("HTTP/1.") => Probe::Answered(Answer { status, location: location(head) }),
        Some(_) | None => {
            let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
            Probe::NotHttp(format!("its answer is not HTTP: {shown:?}"))
        }
    }
}

fn location(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut values = fields.filter(|(name, _value)| name.eq_ignore_ascii_case("location"));
    values.next().map(|(_name, value)| value.trim().chars().filter(|c| !c.is_control()).take(200).collect())
}

/// What a surprising answer to the probe probably means and what to do about it, for the app's log.
pub(crate) fn hint(answer: &Answer, host: &str) -> Option<String> {
    let cause = probable_cause(answer, host, "/")?;
    Some(format!("The first request, GET / with Host: {host}, was answered with {}; {cause}.", answer.status))
}

/// What an answer to `GET path` that is not a page probably means, and what to do about it.
pub(crate) fn probable_cause(answer: &Answer, host: &str, path: &str) -> Option<String> {
    let cause = match answer.status {
        400 => format!("apps that check hosts must accept {host} (Django: add it to ALLOWED_HOSTS, from a config var)"),
        301 | 302 | 303 | 307 | 308 => redirect_cause(answer.location.as_deref()?, host, path)?,
        403 => format!(
            "the app refuses a plain visitor at {path} of {host}: check its rules for hosts (Rails: config.hosts), \
             addresses and logins"
        ),
        500..=599 => "visitors will see this error until the app is repaired".to_owned(),
        _fine => return None,
    };
    Some(cause)
}

/// Sending visitors elsewhere on the same site, as to a login, is fine. Sending them to where they are is a loop, and to
/// another host away from this app.
fn redirect_cause(location: &str, host: &str, asked: &str) -> Option<String> {
    let (_scheme, rest) = location.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let same = authority.eq_ignore_ascii_case(host) || authority.strip_suffix(":443") == Some(host);
    match (same, path == asked.trim_start_matches('/')) {
        (true, true) => Some(format!(
            "it sends visitors to {location}, where they are: the app must believe the header X-Forwarded-Proto \
             (Django: SECURE_PROXY_SSL_HEADER = (\"HTTP_X_FORWARDED_PROTO\", \"https\"); Rails: config.assume_ssl)"
        )),
        (true, false) => None,
        (false, _) => Some(format!(
            "it sends visitors of {host} away to {location}: give this app the domain {authority}, or change the host \
             that it holds for its own"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_makes_a_dyno_ready() {
        let plain = |status| Probe::Answered(Answer { status, location: None });
        assert_eq!(read_answer(b"HTTP/1.1 200 OK\r\n"), plain(200));
        assert_eq!(read_answer(b"HTTP/1.0 404\r\n"), plain(404));
        for garbage in [b"".as_slice(), b"SSH-2.0-x\r\n", b"HTTP/1.1 xx\r\n", b"HTTP/2 200\n", b"HTTP/1.1 99 x\n"] {
            assert!(matches!(read_answer(garbage), Probe::NotHttp(_)), "{garbage:?}");
        }
    }

    #[test]
    fn a_refused_host_is_explained() {
        check(b"HTTP/1.1 400 Bad Request\r\n\r\n", Some("ALLOWED_HOSTS"));
        check(b"HTTP/1.1 403 Forbidden\r\n\r\n", Some("config.hosts"));
        check(b"HTTP/1.1 200 OK\r\n\r\n", None);
    }

    #[test]
    fn a_redirect_is_explained_unless_it_stays_on_the_site() {
        let to = |location: &str| format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\n\r\n").into_bytes();
        check(&to("https://shop.example/"), Some("X-Forwarded-Proto"));
        check(&to("https://shop.example"), Some("X-Forwarded-Proto"));
        check(&to("https://www.shop.example/"), Some("the domain www.shop.example"));
        check(&to("https://shop.example/login?next=/"), None);
        check(&to("/login"), None);
    }

    fn check(head: &[u8], expect: Option<&str>) {
        assert!(is_whole(head));
        let Probe::Answered(answer) = read_answer(head) else { panic!("{head:?}") };
        let text = hint(&answer, "shop.example");
        assert_eq!(text.is_some(), expect.is_some(), "{text:?}");
        assert!(text.unwrap_or_default().contains(expect.unwrap_or_default()), "{answer:?}");
    }

    #[tokio::test]
    async fn a_dyno_that_takes_no_connections_is_found_out_within_the_limit() {
        // Its queue of connections is full.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            held.push(stream);
        }
        let limit = Duration::from_millis(200);
        let begun = tokio::time::Instant::now();
        assert_eq!(probe(address, "shop.example", "/", limit).await, Probe::NotListening);
        assert_eq!(greet(address, limit).await, Probe::NotListening);
        assert!(begun.elapsed() < CONNECT_TIMEOUT, "{:?}", begun.elapsed());
    }
}
